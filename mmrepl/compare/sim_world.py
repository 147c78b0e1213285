"""What the worlds of both modes have in common in virtual time: the time itself, and what is noted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from mmrepl.compare.record import Event, RunRecord
from mmrepl.compare.virtual import Later, pause
from mmrepl.sim.stage import Stage

StageT = TypeVar("StageT", bound=Stage[Any])


class TimedWorld(Generic[StageT]):
    """A cluster that has settled; from here on the run is recorded."""

    def __init__(self, run: RunRecord, cluster: StageT) -> None:
        self.run = run
        self.cluster = cluster
        self._start_ms = cluster.now_ms
        self._start_bytes = cluster.network.sent_bytes

    def now_ms(self) -> int:
        """Milliseconds since the run began."""
        return self.cluster.now_ms - self._start_ms

    def pause(self, ms: int) -> Later[None]:
        """Let time pass."""
        return pause(self.cluster.world, ms)

    def at(self, ms: int, deed: Callable[[], None]) -> None:
        """Plan something."""
        self.cluster.world.at(self._start_ms + ms, deed)

    def go(self, until_ms: int) -> None:
        """Let it happen."""
        self.cluster.world.run_until(self._start_ms + until_ms)

    def note(self, kind: Any, node: str, text: str) -> None:
        """Write down what the script did, or what happened."""
        self.run.events.append(Event(self.now_ms(), kind, node, text))

    def count(self) -> None:
        """The totals at the end of the clients' time: what was sent, and what lies on the disks."""
        self.run.sent_bytes = self.cluster.network.sent_bytes - self._start_bytes
        self.run.stored_bytes = sum(node.disk.size_bytes for node in self.cluster.nodes.values())
