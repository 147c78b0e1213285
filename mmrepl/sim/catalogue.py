"""
The catalogue of faults: which row is made by what in here, and how often it must have fired.

Coverage of kinds of faults, not run time, is what finds defects: a thousand seeds in which a fault fired three times
say nothing about it. So each row has a *floor*, for a batch of a thousand seeds that draw their own faults; a batch
that misses one does not count. What cannot be made in here is named too, with the tests that make it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import frozen

from mmrepl.sim.mix import RARE
from mmrepl.sim.topology import SHAPES

SIZES = (2, 3, 4, 5, 7)
"""Sizes of the clusters that seeds draw."""


@frozen
class Row:
    """
    A floor. *counters* are those of a run, added up; *floor* is for a thousand seeds.

    With *share*, the fault must have fired in so large a part of the seeds. *elsewhere* names tests that make it.
    """

    id: str
    what: str
    counters: tuple[str, ...] = ()
    floor: int = 0
    share: float = 0.0
    elsewhere: str = ""


@frozen
class Level:
    """How often the fault of a row fired in a batch, and how often it should have; in seeds, if it is about a share."""

    row: Row
    fired: int
    floor: int
    seeds: int  # in which it fired

    @property
    def missed(self) -> bool:
        """Whether it fired too rarely."""
        return self.fired < self.floor


def _row(id: str, what: str, floor: int, *counters: str) -> Row:
    return Row(id, what, counters or (what,), floor)


def _share(id: str, what: str, share: float, *counters: str) -> Row:
    return Row(id, what, counters or (what,), share=share)


def _elsewhere(id: str, what: str, tests: str) -> Row:
    return Row(id, what, elsewhere=tests)


ROWS: tuple[Row, ...] = (
    _share("N1", "delayed", 1.0),
    _share("N2", "reordered", 0.6),  # in the other seeds connections are streams, which keep order
    _share("N3", "lost", 0.6),
    _share("N4", "repeated", 0.6),
    _row("N4", "replayed", 300),
    _row("N5", "partition", 2_000),
    _row("N6", "one way", 500),
    _row("N7", "flapping", 200),
    _row("N8", "jam", 500),
    _row("N8", "congested", 20),
    _row("N9", "slow link", 100),
    _row("N10", "cut in frame", 20),
    _row("N10", "cut", 300),
    _elsewhere("N10", "cut at every byte of a frame", "tests/wire/test_framing.py"),
    _row("N12", "flipped", 300),
    _row("N13", "overflow", 300),
    _row("N14", "swapped addresses", 50),
    _row("P1", "death of a process", 5_000, "crash", "crash in recovery", "loss of power"),
    _row("P1", "crashed at an effect", 1_000),
    _row("P2", "crash of all", 300),
    _row("P3", "crash in recovery", 300),
    _row("P4", "pause", 300),
    _row("P5", "slow process", 100),
    _elsewhere("P6", "exception in a callback", "tests/runtime/test_replica.py, tests/integration/test_hostile.py"),
    _elsewhere("P7", "cancellation at every await", "tests/integration/test_processes.py"),
    _elsewhere("P10", "another version's data", "tests/integration/test_disk.py, tests/replication/test_greeting.py"),
    _row("D1", "loss of power", 500),
    _row("D1", "unsynced lost", 100),
    _row("D2", "torn tail", 50),
    _row("D3", "hole", 10),
    _elsewhere("D2", "torn at every byte", "tests/sim/test_disk.py, tests/storage/test_doubt.py"),
    _elsewhere("D3", "sectors out of order", "tests/sim/test_disk.py, tests/storage/test_doubt.py"),
    _elsewhere("D4", "zeros where data should be", "tests/sim/test_disk.py, tests/storage/test_doubt.py"),
    _elsewhere("D5", "directory entry lost", "tests/storage/test_doubt.py"),
    _row("D6", "disk failed", 200),
    _row("D7", "disk full", 200),
    _row("D8", "rot", 100),
    _elsewhere("D8", "every bit of a file", "tests/sim/test_disk.py, tests/storage/test_damage.py"),
    _elsewhere("D9", "truncated, empty, deleted file", "tests/storage/test_damage.py"),
    _row("D10", "lost write", 200),
    _row("D11", "wiped", 500),
    _row("D12", "restored", 200),
    _row("D12", "set back", 200),
    _row("D13", "slow disk", 100),
    _share("C1", "skewed clocks", 0.95),
    _row("C2", "clock jumps", 500),
    _row("C3", "clock stands", 300),
    _row("C4", "clock drifts", 100),
    _elsewhere("C5", "edges of time", "tests/clock/test_hlc.py, tests/clock/test_instants.py"),
    _row("C6", "clock far ahead", 300),
    _row("M1", "join", 300),
    _row("M1", "join twice", 50),
    _row("M2", "removal", 300, "removed", "removed for good", "left"),
    _row("M3", "return after removal", 200, "removed"),
    _row("M4", "member lists differ", 200, "join", "removed", "removed for good", "left"),
    _row("M5", "snapshot joined", 200),
    *(_row("M6", f"{count} nodes", 50) for count in SIZES),
    *(_row("M6", f"{shape} of nodes", 50) for shape in SHAPES),
    _elsewhere("M6", "1 and 50 nodes", "tests/sim/test_sizes.py"),
    _elsewhere("S5", "wrong and replayed credentials", "tests/replication/test_greeting.py"),
    _row("S6", "replay on another connection", 200, "replayed"),
    _elsewhere("S8", "equivocation", "tests/replication/test_greeting.py, tests/integration/test_hostile.py"),
    _elsewhere("S9", "forged origin", "tests/integration/test_hostile.py"),
    _elsewhere("S10", "counter poison", "tests/integration/test_hostile.py"),
    _elsewhere("S11", "bloat beyond limits", "tests/integration/test_hostile.py, tests/store/test_stories.py"),
)
"""Every row that the multi-master mode has to survive, and that can be made without other processes."""


def levels(
    fired: Mapping[str, int], seeds_with: Mapping[str, int], seed_count: int, rows: Iterable[Row] = ROWS
) -> list[Level]:
    """How each row fared in so many seeds; rows that are covered elsewhere, or not drawn by default, are left out."""
    return [_level(row, fired, seeds_with, seed_count) for row in counted(rows)]


def counted(rows: Iterable[Row] = ROWS) -> Iterable[Row]:
    """The rows that a batch is measured by."""
    return (row for row in rows if row.counters and not any(name in RARE for name in row.counters))


def _level(row: Row, fired: Mapping[str, int], seeds_with: Mapping[str, int], seed_count: int) -> Level:
    seeds = max((seeds_with.get(name, 0) for name in row.counters), default=0)
    if row.share:
        return Level(row, seeds, int(row.share * seed_count), seeds)
    return Level(row, sum(fired.get(name, 0) for name in row.counters), row.floor * seed_count // 1_000, seeds)
