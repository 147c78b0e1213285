"""
Playing one workload and one script under one mode, in virtual time.
"""

from __future__ import annotations

from typing import Any, Protocol

from mmrepl.compare.clients import World, clients_of
from mmrepl.compare.record import RunRecord
from mmrepl.compare.script import Script
from mmrepl.compare.virtual import launch
from mmrepl.compare.workload import Workload

GRACE_MS = 4_000
"""So long after the end of the workload calls may still be answered."""


class SimWorld(World, Protocol):
    """A world in virtual time, which does what the script says."""

    def at(self, ms: int, deed: Any) -> None:
        """Plan something."""

    def go(self, until_ms: int) -> None:
        """Let it happen."""

    def isolate(self) -> None:
        """Cut the primary off from all others."""

    def promote(self) -> None:
        """An operator promotes a replica, where nobody is elected."""

    def crash(self) -> None:
        """A node of the other side loses power."""

    def restart(self) -> None:
        """It comes back."""

    def heal(self) -> None:
        """The network is whole again."""

    def end(self) -> None:
        """Let the cluster agree, and note what is left."""


def play(world: SimWorld, workload: Workload, script: Script) -> RunRecord:
    """One run, from the first call to agreement."""
    run = world.run
    for moment in script.moments:
        if moment.at_ms < workload.duration_ms:
            world.at(moment.at_ms, getattr(world, moment.deed))
    for client in clients_of(world, workload, run.nodes, run.seed):
        launch(client.live())
    world.go(workload.duration_ms + GRACE_MS)
    world.end()
    return run
