"""What the faces hand out: the receipt of a write, a change, an event."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from attrs import frozen

from mmrepl.causality.context import CausalContext
from mmrepl.causality.dot import Dot
from mmrepl.causality.version_vector import VersionVector
from mmrepl.errors import UsageError
from mmrepl.log.operation import Operation
from mmrepl.ports import Durability
from mmrepl.store.keyspace import SiblingsAppeared, SiblingsVanished
from mmrepl.store.store import Store
from mmrepl.store.table import Table
from mmrepl.types import NodeId, Value
from mmrepl.values import decode

Token: TypeAlias = VersionVector
"""A place in the stream of changes; it is valid at every replica."""


class Written:
    """
    The receipt of a put or delete: the write's dot, and a context that covers it and what it replaced.

    Not more: what stands beside the write is not covered, for its writer has not seen it. (Earlier writes of the same
    replica are the exception: a context says of each origin "up to here". Read the key where that matters.)
    """

    __slots__ = ("_counter", "_key", "_node", "_table", "_vector")

    def __init__(self, node: NodeId, counter: int, table: str, key: str, vector: VersionVector | None) -> None:
        # dot and context are made when somebody asks: most writers do not, and they cost more than the write
        self._node = node
        self._counter = counter
        self._table = table
        self._key = key
        self._vector = vector  # None: the write itself, and what its node wrote before

    @property
    def dot(self) -> Dot:
        """The write's name."""
        return Dot(self._node, self._counter)

    @property
    def context(self) -> CausalContext:
        """What the writer has seen of the key, this write included; for the next write of the same key."""
        vector = VersionVector({self._node: self._counter}) if self._vector is None else self._vector
        return CausalContext(self._table, self._key, vector)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Written):
            return NotImplemented
        return (self.dot, self.context) == (other.dot, other.context)

    def __hash__(self) -> int:
        return hash(self.dot)

    def __repr__(self) -> str:
        return f"Written({self.dot}, context={self.context})"


@frozen
class Change:
    """One operation as a subscriber sees it: ours or another's, in the order in which this replica applied them."""

    dot: Dot
    table: str
    key: str
    timestamp: int  # hybrid logical timestamp, packed
    payload: bytes | None  # None: deleted
    token: Token  # go on from here to see what follows; valid at every replica

    @property
    def is_tombstone(self) -> bool:
        """Whether this is a delete."""
        return self.payload is None

    @property
    def value(self) -> Value:
        """The value that was written; None for a delete. What a read shows is the resolver's business."""
        return None if self.payload is None else decode(self.payload)


@frozen
class SiblingsEvent:
    """
    Siblings of a key appeared (a concurrent write came) or vanished (somebody overwrote them all).

    *dots* are the live writes after the event, in order of dots.
    """

    kind: str  # "appeared" or "vanished"
    table: str
    key: str
    dots: tuple[Dot, ...]


def siblings_event(store: Store, event: SiblingsAppeared | SiblingsVanished) -> SiblingsEvent:
    """An event of the keyspace in public terms."""
    kind = "appeared" if isinstance(event, SiblingsAppeared) else "vanished"
    return SiblingsEvent(kind, event.table, event.key, tuple(sorted(map(store.log.dot, event.dots))))


def written(store: Store, table: Table, key: str, counter: int, context: CausalContext | None) -> Written:
    """The receipt of the write that was just made over *context*, or over all that was shown."""
    node = store.node
    if context is not None:
        vector = context.vector.including(Dot(node, counter))
    elif table.states.get(key).__class__ is int:
        vector = None  # the write is all there is
    else:
        vector = store.context(table, key).vector
    return Written(node, counter, table.name, key, vector)


def as_level(durability: Durability | str) -> Durability:
    """A durability out of what a caller gave for one. Raises UsageError."""
    try:
        return Durability.parse(durability)
    except ValueError as error:
        raise UsageError(str(error)) from None


def changes_since(store: Store, since: VersionVector, until: int | None = None) -> Iterator[Change]:
    """
    Operations before position *until* that a reader at *since* has not seen, each with the token that follows it.

    The last one's token covers what was left out because it was overwritten. Raises LogTruncated at once.
    """
    log = store.log
    slices = log.missing(since, until)
    reached = {columns.origin: last for columns, _, last in slices}
    return _changes(log.operations(slices), since, since.join(VersionVector(reached)))


def _changes(operations: Iterator[Operation], token: Token, end: Token) -> Iterator[Change]:
    before: Operation | None = None
    for op in operations:
        if before is not None:
            token = token.including(before.dot)
            yield Change(before.dot, before.table, before.key, before.timestamp, before.payload, token)
        before = op
    if before is not None:
        yield Change(before.dot, before.table, before.key, before.timestamp, before.payload, end)


def as_vector(since: VersionVector | None) -> VersionVector:
    """A version vector out of what a caller gave for one. Raises UsageError."""
    if since is None:
        return VersionVector()
    if not isinstance(since, VersionVector):
        raise UsageError(f"since must be a VersionVector (another replica's .version), not {type(since).__name__}")
    return since
