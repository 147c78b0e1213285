"""
What batches, hunts and the command line need of single-master worlds; see `mmrepl.sim.kinds`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from mmrepl.sim.catalogue import ROWS, Row
from mmrepl.sim.mix import FAULTS, Mix
from mmrepl.sim.rules import Violation
from mmrepl.sim.single_master.diagram import log_diagram
from mmrepl.sim.single_master.faults import LOG_FAULTS
from mmrepl.sim.single_master.late import LATE
from mmrepl.sim.single_master.run import NOT_HERE, LogOptions, LogOutcome, LogRun, Mode, command_of, draw_log
from mmrepl.sim.story import Story

if TYPE_CHECKING:
    from mmrepl.sim.hunt import Defect

FAULTS_HERE: Mapping[str, object] = {
    **{name: row for name, row in FAULTS.items() if name not in NOT_HERE},
    **LOG_FAULTS,
    **LATE,
}
"""The faults that may be asked for."""


OURS = (
    Row("N5", "isolation of the leader", ("leader isolated",), 200),
    Row("P4", "pause of the leader", ("leader stands still",), 200),
    Row("P1", "death of the leader", ("leader dies",), 200),
    Row("M7", "quorum lost and back", ("quorum lost",), 500),
    Row("M7", "leaders fall one after another", ("leaders fall",), 200),
    Row("M7", "transfer", ("transfer",), 200),
    Row("M4", "voters changed", ("voters changed",), 50),
    Row("M5", "snapshot installed", ("snapshot installed",), 200),
    Row("P1", "request repeated", ("retried",), 5_000),
)
"""Rows of the leader, or with counters of this mode."""

ONLY = {
    "automatic": (
        Row("M2", "removal of the leader", ("leader removed",), 20),
        Row("M7", "log cut off", ("log cut off",), 200),
    ),
    "manual": (
        Row("M7", "promotion", ("promotion",), 100),
        Row("M7", "promotion refused", ("promotion refused",), 200),
    ),
}

SHARED = frozenset({
    "reordered", "lost", "repeated", "replayed", "partition", "one way", "flapping", "jam", "slow link", "cut",
    "cut in frame", "flipped", "overflow", "crashed at an effect", "crash of all", "crash in recovery", "pause",
    "slow process", "loss of power", "disk failed", "disk full", "slow disk", "clock jumps", "clock stands",
    "clock drifts", "join",
})  # fmt: skip
"""Counters of rows that are the same in both modes. Disks are lost more rarely here: enough must remember."""

RARER = (
    Row("D8", "rot", ("rot",), 20),
    Row("D11", "wiped", ("wiped",), 50),
    Row("D12", "restored", ("restored",), 50),
    Row("M2", "removal", ("removed", "leader removed"), 30),
)


def rows(mode: Mode) -> tuple[Row, ...]:
    """The rows of the catalogue that a batch of this mode is measured by."""
    shared = tuple(row for row in ROWS if len(row.counters) == 1 and row.counters[0] in SHARED and row.id != "S6")
    return (*shared, *RARER, *OURS, *ONLY[mode])


def options_of(mode: Mode) -> Callable[..., LogOptions]:
    """Makes options of that mode."""
    return partial(LogOptions, failover=mode)


def draw(seed: int, options: LogOptions) -> Mix:
    """The mix of a seed."""
    return draw_log(seed, options)


def judge(seed: int, options: LogOptions) -> LogOutcome:
    """Run a seed; what a core raises is a violation as well."""
    return LogRun(seed, options, guarded=True).go()


def command(seed: int, options: LogOptions) -> str:
    """The line that runs that seed again."""
    return command_of(seed, options)


def tell(seed: int, options: LogOptions) -> Story:
    """Run a seed once more, and tell what came of it."""
    run = LogRun(seed, options, guarded=True)
    outcome = run.go()
    whole = log_diagram(run.cluster.names, run.cluster.history)
    principal = outcome.principal
    if principal is not None and principal.at_ms >= 0:
        whole = whole.about(principal.at_ms, before_ms=1_500, after_ms=100)
    return Story(outcome.command, outcome.violations, whole)


def outcome(
    seed: int, options: LogOptions, violations: Iterable[Violation], fired: Counter[str], *, operations: int = 0,
    refused: int = 0, messages: int = 0, virtual_ms: int = 0, settled: int | None = None, trace: str = "",
    seconds: float = 0.0,
) -> LogOutcome:  # fmt: skip
    """An outcome, of what a record has of it."""
    outcomes = Counter({"done": operations - refused, "read refused": refused})
    return LogOutcome(seed, options, tuple(violations), fired, outcomes, messages, virtual_ms, settled, trace, seconds)


def defects(mode: Mode) -> Mapping[str, Defect]:
    """The defects that are planted in that mode."""
    from mmrepl.sim.single_master.defects import LOG_DEFECTS

    return LOG_DEFECTS[mode]
