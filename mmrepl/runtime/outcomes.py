"""What the faces hand out: the receipt of a write, a change, an event."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TypeAlias, overload

from attrs import frozen

from mmrepl.causality.context import CausalContext
from mmrepl.causality.dot import Dot
from mmrepl.causality.version_vector import VersionVector
from mmrepl.errors import UsageError
from mmrepl.log.columns import VOID
from mmrepl.log.oplog import OpLog, Slice
from mmrepl.ports import Durability
from mmrepl.store.keyspace import SiblingsAppeared, SiblingsVanished
from mmrepl.store.store import Store
from mmrepl.store.table import Table
from mmrepl.types import NodeId, Value
from mmrepl.values import decode

Token: TypeAlias = VersionVector
"""A place in the stream of changes; it is valid at every replica."""

PAGE_OPERATIONS = 256
"""So many operations become changes at once: whoever reads only the first pays for no more."""


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


class Receipts(Sequence[Written]):
    """The receipts of many writes that were made together, in their order. Each is made when somebody asks for it."""

    __slots__ = ("_first", "_keys", "_node", "_table", "_vectors")

    def __init__(self, store: Store, table: Table, keys: list[str], first: int) -> None:
        self._node = store.node
        self._table = table.name
        self._keys = keys
        self._first = first  # counter of the first
        self._vectors: dict[str, VersionVector] = {}  # of keys that more is known of than the write itself, as of now
        states = table.states
        if keys and set(map(type, map(states.get, keys))) != {int}:
            self._vectors = {key: store.context(table, key).vector for key in keys if type(states.get(key)) is not int}

    def __len__(self) -> int:
        return len(self._keys)

    @overload
    def __getitem__(self, index: int) -> Written: ...

    @overload
    def __getitem__(self, index: slice) -> list[Written]: ...

    def __getitem__(self, index: int | slice) -> Written | list[Written]:
        """One receipt, or some."""
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        key = self._keys[place]
        return Written(self._node, self._first + place, self._table, key, self._vectors.get(key))

    def __repr__(self) -> str:
        return f"<Receipts of {len(self)} writes of {self._node}, from {self._first} on>"


class Change:
    """
    One operation as a subscriber sees it: ours or another's, in the order in which this replica applied them.

    ``table``, ``key`` and ``timestamp`` (hybrid logical, packed) say what was written and when, ``payload`` in which
    bytes; None is a delete.
    """

    __slots__ = ("_before", "_counter", "_origin", "key", "payload", "table", "timestamp")

    def __init__(
        self, origin: NodeId, counter: int, table: str, key: str, timestamp: int, payload: bytes | None, before: Token
    ) -> None:
        # dot and token are made when somebody asks: most subscribers do not, and they cost more than the rest
        self._origin = origin
        self._counter = counter
        self.table = table
        self.key = key
        self.timestamp = timestamp
        self.payload = payload
        self._before = before  # a token that covers what stands before this, and perhaps this too

    @property
    def dot(self) -> Dot:
        """The write's name."""
        return Dot(self._origin, self._counter)

    @property
    def token(self) -> Token:
        """Go on from here to see what follows; valid at every replica."""
        return self._before.including(self.dot)

    @property
    def is_tombstone(self) -> bool:
        """Whether this is a delete."""
        return self.payload is None

    @property
    def value(self) -> Value:
        """The value that was written; None for a delete. What a read shows is the resolver's business."""
        return None if self.payload is None else decode(self.payload)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Change):
            return NotImplemented
        return self._facts() == other._facts()

    def __hash__(self) -> int:
        return hash(self._facts())

    def _facts(self) -> tuple[object, ...]:
        return self.dot, self.table, self.key, self.timestamp, self.payload, self.token

    def __repr__(self) -> str:
        what = "deleted" if self.payload is None else f"{len(self.payload)} bytes"
        return f"<Change {self.dot}: key {self.key!r} of table {self.table!r}, {what}>"


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


_LEVELS = {level.name.lower(): level for level in Durability}


def as_level(durability: Durability | str) -> Durability:
    """A durability out of what a caller gave for one. Raises UsageError."""
    if type(durability) is str and durability in _LEVELS:
        return _LEVELS[durability]
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
    return _changes(log, slices, since, since.join(VersionVector(reached)))


def _changes(log: OpLog, slices: list[Slice], token: Token, end: Token) -> Iterator[Change]:
    last: Change | None = None
    for page in _pages(log, slices, token):
        if last is not None:
            yield last
        yield from islice(page, len(page) - 1)
        last = page[-1]
    if last is not None:
        last._before = end  # nobody has seen it yet
        yield last


def _pages(log: OpLog, slices: list[Slice], token: Token) -> Iterator[list[Change]]:
    """Slices of columns as changes, some at a time, none of them empty. A token serves for all of one origin's run."""
    name_of = log.table_names.__getitem__
    for columns, first, end in log.runs(slices):
        for counter in range(first, end + 1, PAGE_OPERATIONS):
            last = min(end, counter + PAGE_OPERATIONS - 1)
            low, high = counter - columns.base, last + 1 - columns.base
            operations = zip(
                range(counter, last + 1),
                map(name_of, columns.tables[low:high]),
                columns.keys[low:high],
                columns.stamps[low:high],
                columns.payloads[low:high],
                strict=True,
            )
            page = [Change(columns.origin, *told, token) for told in operations if told[4] is not VOID]
            token = token.including(Dot(columns.origin, last))
            if page:
                yield page


def as_vector(since: VersionVector | None) -> VersionVector:
    """A version vector out of what a caller gave for one. Raises UsageError."""
    if since is None:
        return VersionVector()
    if not isinstance(since, VersionVector):
        raise UsageError(f"since must be a VersionVector (another replica's .version), not {type(since).__name__}")
    return since
