"""
What was recorded of a run: every call of every client, what was left at the end, and a few totals.

A *position* says how much a node had seen when it answered: in multi-master mode a version vector, else the index and
the term of the last entry that it had applied. A *mark* is what a write was given: a dot, or an index and a term.
Positions cover marks; nothing else is asked of either.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from attrs import define, field, frozen

from mmrepl.causality.dot import Dot
from mmrepl.causality.version_vector import VersionVector
from mmrepl.wire.seen import LogPosition

Mark: TypeAlias = Dot | LogPosition
Position: TypeAlias = VersionVector | LogPosition
Outcome: TypeAlias = Literal["ok", "refused", "unknown"]


def covers(position: Position, mark: Mark) -> bool:
    """
    Whether a node at *position* had seen the write *mark*.

    An entry with a later term than any that the node had seen is not in its log, whatever its index.
    """
    if isinstance(position, LogPosition):
        assert isinstance(mark, LogPosition)
        return mark.index <= position.index and mark.term <= position.term
    assert isinstance(mark, Dot)
    return position.covers(mark)


def descends(later: Position, earlier: Position) -> bool:
    """Whether *later* has seen all that *earlier* had."""
    if isinstance(later, LogPosition):
        assert isinstance(earlier, LogPosition)
        return covers(later, earlier)
    assert isinstance(earlier, VersionVector)
    return later.descends(earlier)


@define
class Record:
    """
    One call of one client. Times are milliseconds since the run began.

    *shows*: the items that a read showed; *item*: the one that a write added, *writes*: all that it wrote (None: a
    deletion). *outcome* ``refused``: certainly not done; ``unknown``: no answer, or one that could not know. A deletion
    that found nothing to delete is accepted, and has no *mark*: there is nothing of it that could be lost.
    """

    client: int
    home: str
    kind: Literal["read", "write"]
    key: str
    called_ms: int
    answered_ms: int | None = None
    outcome: Outcome = "unknown"
    why: str = ""  # name of the error
    node: str = ""  # who answered
    item: str | None = None
    writes: frozenset[str] | None = None
    shows: frozenset[str] = frozenset()
    siblings: int = 0  # that a read showed
    position: Position | None = None  # of the answering node, at the answer to a read
    mark: Mark | None = None
    size_bytes: int = 0  # of the value, encoded

    @property
    def wrote_nothing(self) -> bool:
        """Whether it certainly left no trace: it was refused, or was a deletion of what is not there."""
        return self.outcome == "refused" or (self.outcome == "ok" and self.mark is None)


@frozen
class Event:
    """Something that the script did, or that happened to the cluster."""

    at_ms: int
    kind: Literal["isolate", "crash", "restart", "heal", "promote", "primary", "converged", "end"]
    node: str = ""
    text: str = ""


@define
class RunRecord:
    """All of one run under one mode."""

    mode: str
    nodes: tuple[str, ...]
    seed: int
    records: list[Record] = field(factory=list)
    events: list[Event] = field(factory=list)
    isolated: frozenset[str] = frozenset()  # the side of the primary
    final: dict[str, tuple[frozenset[str], ...]] = field(factory=dict)  # key -> items of each sibling, at the end
    survived: set[Mark] = field(factory=set)  # marks of writes in the history that the cluster agreed on
    single_writer: bool = False  # whether linearizability may be asked for
    converged_ms: int | None = None  # from the heal; None: not within the run
    sent_bytes: int | None = None  # between nodes; None where nobody counts
    stored_bytes: int = 0  # on all disks, at the end

    def at(self, kind: str) -> int | None:
        """When the first event of that kind was."""
        return next((event.at_ms for event in self.events if event.kind == kind), None)
