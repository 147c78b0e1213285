"""
The modes that are compared: many writers under each resolver, one writer under each setting of its knobs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import frozen

from mmrepl.compare.figures import Figures, figures
from mmrepl.compare.play import SimWorld, play
from mmrepl.compare.record import RunRecord
from mmrepl.compare.script import Script
from mmrepl.compare.sim_multi_master import MultiMasterWorld
from mmrepl.compare.sim_single_master import Knobs, SingleMasterWorld
from mmrepl.compare.workload import Workload
from mmrepl.errors import UsageError
from mmrepl.resolvers import Callback, KeepSiblings, LastWriterWins, Resolver
from mmrepl.sim.network import Weather
from mmrepl.single_master.options import Ack, Failover, ReadLevel

NODES = ("paris", "tokyo", "lima", "oslo", "cairo")
"""Five, so that a quorum is left when one is cut off and another one crashes."""


def union(lists: list[list[str]]) -> list[str]:
    """The callback of the comparison: all items of all lists."""
    return sorted({item for one in lists for item in one})


UNION = f"{union.__module__}:{union.__qualname__}"
"""Its place, for processes of their own."""


@frozen
class Mode:
    """One column of the comparison. *name* is for the command line, *text* for people."""

    name: str
    text: str
    resolver: Callable[[], Resolver] | None = None
    knobs: Knobs | None = None

    def world(self, nodes: tuple[str, ...], seed: int, weather: Weather) -> SimWorld:
        """A cluster under this mode, in virtual time."""
        if self.resolver is not None:
            return MultiMasterWorld(self.name, nodes, seed, self.resolver(), weather)
        assert self.knobs is not None
        return SingleMasterWorld(self.name, nodes, seed, self.knobs, weather)


def _one_writer(name: str, text: str, failover: Failover, ack: Ack, read: ReadLevel) -> Mode:
    return Mode(name, text, knobs=Knobs(failover=failover, ack=ack, read=read))


MODES: tuple[Mode, ...] = (
    Mode("lww", "every node writes, the last writer wins", LastWriterWins),
    Mode("siblings", "every node writes, siblings are kept", KeepSiblings),
    Mode("callback", "every node writes, lists are united", lambda: Callback(union)),
    _one_writer("async", "one primary, answers at once", Failover.MANUAL, 0, ReadLevel.LOCAL),
    _one_writer("one-ack", "one primary, one replica confirms", Failover.MANUAL, 1, ReadLevel.LOCAL),
    _one_writer("all-ack", "one primary, all replicas confirm", Failover.MANUAL, "all", ReadLevel.LOCAL),
    _one_writer("elected-local", "elected leader, local reads", Failover.AUTOMATIC, "quorum", ReadLevel.LOCAL),
    _one_writer("elected-bounded", "elected leader, bounded reads", Failover.AUTOMATIC, "quorum", ReadLevel.BOUNDED),
    _one_writer("elected-leader", "elected leader, reads at it", Failover.AUTOMATIC, "quorum", ReadLevel.LEADER),
    _one_writer(
        "elected-linearizable", "elected leader, linearizable reads", Failover.AUTOMATIC, "quorum",
        ReadLevel.LINEARIZABLE,
    ),
)  # fmt: skip
"""All of them, in the order of the report."""


def chosen(names: Sequence[str]) -> list[Mode]:
    """The modes of these names; all, if none is given. Raises UsageError."""
    known = {mode.name: mode for mode in MODES}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(f"no mode is called {unknown[0]!r}; there are {', '.join(known)}")
    return [known[name] for name in names] if names else list(MODES)


@frozen
class Compared:
    """What one mode did: its figures, and the record that they were computed from."""

    mode: Mode
    figures: Figures
    run: RunRecord


def compare(mode: Mode, workload: Workload, script: Script, nodes: tuple[str, ...], seed: int) -> Compared:
    """Play the workload under one mode, in virtual time."""
    run = play(mode.world(nodes, seed, Weather()), workload, script)
    return Compared(mode, figures(run), run)
