"""
The kinds of worlds: multi-master, and single-master with each way of failover.

A batch, a hunt, a record and the command line do the same with all of them; here is what differs. What somebody fixed
(`Options`, or `mmrepl.sim.single_master.LogOptions`) says which kind it is about.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Protocol

from attrs import field, frozen

from mmrepl.sim.catalogue import ROWS, Level, Row, levels
from mmrepl.sim.mix import FAULTS, RARE, Mix, Options, draw
from mmrepl.sim.rules import Violation
from mmrepl.sim.run import Outcome, Run
from mmrepl.sim.story import Story, tell

if TYPE_CHECKING:
    from mmrepl.sim.hunt import Defect

Mode = Literal["multi", "automatic", "manual"]

SETTLED = "Equal again after {half} gossip rounds in half of the seeds, {most} in 99 %, {all} at most."
LED = "Somebody led again after {half} ms in half of the seeds, {most} ms in 99 %, {all} ms at most."


class World(Protocol):
    """What somebody fixed of the worlds of any kind; None leaves it to the seed."""

    @property
    def nodes(self) -> int | None: ...
    @property
    def operations(self) -> int: ...
    @property
    def duration_ms(self) -> int: ...
    @property
    def faults(self) -> tuple[str, ...] | None: ...
    @property
    def calm(self) -> bool: ...


class Judged(Protocol):
    """What came of a seed of any kind."""

    @property
    def seed(self) -> int: ...
    @property
    def options(self) -> Any: ...
    @property
    def violations(self) -> tuple[Violation, ...]: ...
    @property
    def fired(self) -> Counter[str]: ...
    @property
    def operations(self) -> int: ...
    @property
    def refused(self) -> int: ...
    @property
    def messages(self) -> int: ...
    @property
    def virtual_ms(self) -> int: ...
    @property
    def settled(self) -> int | None:
        """How long after the faults all was well: gossip rounds until all were equal, or ms until somebody led."""

    @property
    def trace_digest(self) -> str: ...
    @property
    def seconds(self) -> float: ...
    @property
    def ok(self) -> bool: ...
    @property
    def principal(self) -> Violation | None: ...
    @property
    def command(self) -> str: ...


@frozen
class Kind:
    """One kind of worlds."""

    mode: Mode
    fixed: type[Any]  # the class of what somebody fixed
    judged: type[Any]  # and that of what comes of a seed
    options: Callable[..., Any]  # makes what is fixed, of its fields by name
    draw: Callable[[int, Any], Mix]
    judge: Callable[[int, Any], Judged]  # what a core raises is a violation as well
    tell: Callable[[int, Any], Story]
    command: Callable[[int, Any], str]
    outcome: Callable[..., Judged]  # of the fields of a record
    defects: Callable[[], Mapping[str, Defect]]
    faults: Mapping[str, object] = field(repr=False)  # those that may be asked for
    rows: tuple[Row, ...] = field(repr=False)
    settled: str

    def is_free(self, options: World) -> bool:
        """Whether seeds draw their faults by themselves, so that floors mean something."""
        return bool(options == self.options(operations=options.operations, duration_ms=options.duration_ms))

    def levels(self, fired: Mapping[str, int], seeds_with: Mapping[str, int], seed_count: int) -> list[Level]:
        """How often each row of the catalogue fired, against its floor."""
        return levels(fired, seeds_with, seed_count, self.rows)

    def died(self, seed: int, options: World) -> Judged:
        """What comes of a seed whose process died."""
        text = "the process that ran it died: out of memory, or a crash of the interpreter"
        return self.outcome(seed, options, (Violation("died", text),), Counter())


def _multi_outcome(
    seed: int, options: Options, violations: Iterable[Violation], fired: Counter[str], *, operations: int = 0,
    refused: int = 0, messages: int = 0, virtual_ms: int = 0, settled: int | None = None, trace: str = "",
    seconds: float = 0.0,
) -> Outcome:  # fmt: skip
    return Outcome(
        seed, options, tuple(violations), fired, operations, refused, messages, virtual_ms, settled, trace, seconds
    )


def _multi_defects() -> Mapping[str, Defect]:
    from mmrepl.sim.defects import DEFECTS

    return DEFECTS


def _multi_command(seed: int, options: Options) -> str:
    from mmrepl.sim.run import command_of

    return command_of(seed, options)


MULTI = Kind(
    "multi", Options, Outcome, Options, draw, lambda seed, options: Run(seed, options).go(guarded=True), tell,
    _multi_command, _multi_outcome, _multi_defects, {**FAULTS, **RARE}, ROWS, SETTLED,
)  # fmt: skip


@cache
def kind_named(mode: Mode) -> Kind:
    """The kind of a mode."""
    if mode == "multi":
        return MULTI
    from mmrepl.sim.single_master import kind
    from mmrepl.sim.single_master.run import LogOptions, LogOutcome

    return Kind(
        mode, LogOptions, LogOutcome, kind.options_of(mode), kind.draw, kind.judge, kind.tell, kind.command,
        kind.outcome, lambda: kind.defects(mode), kind.FAULTS_HERE, kind.rows(mode), LED,
    )  # fmt: skip


def kind_of(options: World) -> Kind:
    """Which kind these options are about."""
    return MULTI if isinstance(options, Options) else kind_named(options.failover)  # type: ignore[attr-defined]
