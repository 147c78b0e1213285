"""
What happened, written down for those who judge.

While a world runs, its nodes note what was written, acknowledged, applied, read and lost. The checkers read nothing
else. A history from anywhere else, if it can be told in these words, can be judged as well.

Times are milliseconds since the run began; *node* is a name, for the incarnation is part of the dot. (Events are
structs, as messages are: a run notes some two thousand.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, TypeVar, cast

import msgspec
from attrs import define, field

from mmrepl.causality.dot import Dot
from mmrepl.causality.version_vector import VersionVector
from mmrepl.types import NodeId

T = TypeVar("T")

Place: TypeAlias = tuple[str, str]
"""A table and a key."""


class Wrote(msgspec.Struct, frozen=True, gc=False):
    """A node minted a dot."""

    at_ms: int
    node: str
    dot: Dot
    place: Place
    payload: bytes | None  # None deletes
    stamp: int
    context: VersionVector  # what the writer had seen of the key
    before: VersionVector  # all that the node had applied
    session: int = 0  # whose write; 0: nobody's, the node made it again (see `mmrepl.replication.rejoin`)


class Acknowledged(msgspec.Struct, frozen=True, gc=False):
    """The writer was told that the write is durable at *wanted* members; *holders* are those at which it truly was."""

    at_ms: int
    node: str
    dot: Dot
    wanted: int
    holders: int


class Answered(msgspec.Struct, frozen=True, gc=False):
    """The writer was answered: it knows the dot and its context, whether or not the write is on any disk."""

    at_ms: int
    node: str
    dot: Dot


class Applied(msgspec.Struct, frozen=True, gc=False):
    """A node applied operations *first* to *last* of an origin, in this order, after all noted before."""

    at_ms: int
    node: str
    origin: NodeId
    first: int
    last: int
    contents: tuple[tuple[int, Place, int, bytes | None], ...] = ()  # (counter, place, stamp, payload), voids left out
    via: str = ""  # the node that sent them
    sent_ms: int = 0  # and when
    wall_ms: int | None = None  # what its clock showed


class Jumped(msgspec.Struct, frozen=True, gc=False):
    """A node joined a snapshot: it has everything up to *version* now."""

    at_ms: int
    node: str
    version: VersionVector


class Became(msgspec.Struct, frozen=True, gc=False):
    """A node opened its store, or started over: who it is now, and what it has."""

    at_ms: int
    node: str
    identity: NodeId
    version: VersionVector
    why: str = ""  # "opened", "started over", or what made its memory doubtful


class Persisted(msgspec.Struct, frozen=True, gc=False):
    """What a node has is durable up to *version*."""

    at_ms: int
    node: str
    version: VersionVector


class Stopped(msgspec.Struct, frozen=True, gc=False):
    """A node's process ended."""

    at_ms: int
    node: str
    why: str


class Forgiven(msgspec.Struct, frozen=True, gc=False):
    """A disk lost what nobody else had: from here on these writes may be missing, and need not."""

    at_ms: int
    node: str
    dots: frozenset[Dot]
    why: str


class Shown(msgspec.Struct, frozen=True, gc=False):
    """A session read a key."""

    at_ms: int
    node: str
    session: int
    place: Place
    version: VersionVector  # what the node had applied
    siblings: tuple[tuple[Dot, int, bytes | None], ...]  # live writes as (dot, stamp, payload), in canonical order
    payload: bytes | None  # what the resolver made of them


class Refused(msgspec.Struct, frozen=True, gc=False):
    """A write was refused, and certainly was not made."""

    at_ms: int
    node: str
    place: Place
    why: str


class Did(msgspec.Struct, frozen=True, gc=False):
    """Something was done to the world: a partition, a crash, a fault."""

    at_ms: int
    text: str


class Queues(msgspec.Struct, frozen=True, gc=False):
    """The most that waited at a node, in bytes: early deltas of one peer, and what was sent and had not arrived."""

    node: str
    held_bytes: int
    held_limit: int
    outbound_bytes: int
    outbound_limit: int


class Final(msgspec.Struct, frozen=True, gc=False):
    """Everything that a node shows at the end."""

    node: str
    version: VersionVector
    watermark: VersionVector  # what it took for causally stable
    siblings: dict[Place, tuple[tuple[Dot, int, bytes | None], ...]]
    payloads: dict[Place, bytes | None]


class Quiet(msgspec.Struct, frozen=True, gc=False):
    """After it had become equal: messages that crossed in so many milliseconds, by type, and open connections."""

    during_ms: int
    heartbeat_ms: int
    link_count: int
    messages: dict[str, int]


Event: TypeAlias = (
    Wrote | Answered | Acknowledged | Applied | Jumped | Became | Persisted | Stopped | Forgiven | Shown | Refused
    | Queues | Final | Quiet | Did
)  # fmt: skip


@define
class History:
    """Events in the order in which they happened."""

    events: list[Event] = field(factory=list)
    selecting: set[str] = field(factory=set)  # tables whose resolver only selects
    keeping: set[str] = field(factory=set)  # tables whose resolver does not
    default_selects: bool = True  # of all tables that are not named
    max_drift_ms: int = 5 * 60_000  # how far ahead a stamp may be
    _made: dict[Callable[[History], Any], tuple[int, Any]] = field(factory=dict, init=False, eq=False, repr=False)

    def add(self, event: Event) -> None:
        """Note what happened."""
        self.events.append(event)

    def once(self, make: Callable[[History], T]) -> T:
        """What *make* makes of the events; remembered until there are more of them."""
        count, made = self._made.get(make, (-1, None))
        if count != len(self.events):
            made = make(self)
            self._made[make] = len(self.events), made
        return cast("T", made)

    def selects(self, table: str) -> bool:
        """Whether the resolver of *table* only selects, so that a loser may be dropped once it is stable."""
        return table in self.selecting or (self.default_selects and table not in self.keeping)

    def among(self, *kinds: type[Event]) -> list[Event]:
        """The events of these kinds, in order."""
        return [event for event in self.events if event.__class__ in kinds]

    def writes(self) -> Iterator[Wrote]:
        """All writes, in order."""
        return (event for event in self.events if isinstance(event, Wrote))

    def finals(self) -> list[Final]:
        """What the nodes showed at the end."""
        return [event for event in self.events if isinstance(event, Final)]
