"""
What the client port asks of a node, and nothing more.

The port is written against these protocols, so that it can be tested with a dictionary and need not know how a node
works. All calls are made from the event loop and answer at once; only what waits for others gives a future.

*Position*: a number that grows with every write that this node makes, and stands for "that write and everything
before it". The backend says up to which position its log is durable, and tells the port when that moves. A write at
the level ``sync`` is answered when ``durable`` has reached its position; the port does the waiting, once for all the
writes of a turn.

Contexts cross this border as opaque bytes: the port hands them to clients as text and gives back what clients bring.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

from attrs import frozen

from mmrepl.causality.dot import Dot
from mmrepl.causality.version_vector import VersionVector
from mmrepl.ports import Durability
from mmrepl.types import Limits, Value
from mmrepl.wire.seen import LogPosition, Seen

Default = TypeVar("Default")


@frozen
class SiblingView:
    """One sibling of a key."""

    dot: Dot
    timestamp: int  # hybrid timestamp: milliseconds since 1970 shifted left by 16, and a counter
    value: Value  # None for a tombstone
    deleted: bool  # a tombstone
    shown: bool  # its value is, or is part of, what the key reads as; false: it lost


@frozen
class ReadView:
    """A key as one node has it."""

    present: bool
    value: Value  # resolved; None when absent
    siblings: Sequence[SiblingView]  # in canonical order
    context: bytes  # opaque; covers exactly these siblings; of no use for another key
    resolver: str  # the policy of the table, for people
    hold: int = 0  # position that must be durable before the context is told to anybody
    seen: str = "-"  # token: whoever has applied this shows the key no older than here


@frozen
class Written:
    """A write that is in the log."""

    dot: Dot
    context: bytes  # the key's context after it
    position: int
    seen: str | None = None  # token: whoever has applied this has applied the write; None: the dot says it all


@frozen
class Change:
    """One operation, as subscribers see it."""

    table: str
    key: str
    dot: Dot | LogPosition  # in single-master mode the place in the log
    timestamp: int
    value: Value
    deleted: bool


class Table(Protocol):
    """The keys of one table. Errors are of the family of `mmrepl.errors`, with ``definite`` set truly."""

    @property
    def name(self) -> str:
        """As given to ``Backend.table``; empty for the default table."""

    def get(self, key: str, default: Default) -> Value | Default:
        """The resolved value; *default* when absent. Never waits. None is a value."""

    def read(self, key: str) -> ReadView:
        """Everything that is known of *key*, whether present or not."""

    def put(self, key: str, value: Value, durability: Durability | None) -> int:
        """Write over what this node shows now; returns the position. *durability* None: as the store is set."""

    def write(self, key: str, value: Value, context: bytes | None, durability: Durability | None) -> Written:
        """Write over what *context* covers: None for what this node shows now, empty for nothing (a sibling)."""

    def delete(self, key: str, context: bytes | None, durability: Durability | None) -> Written | None:
        """As `write`, but a tombstone. None, and nothing written, when the key is absent and no context is given."""

    def keys(self, start: str, *, inclusive: bool) -> Iterator[str]:
        """Present keys in key order from *start* on; the port takes a few and lets go of it within the same turn."""

    def __len__(self) -> int:
        """Number of present keys."""

    def __contains__(self, key: object, /) -> bool:
        """Whether *key* is present."""


class SingleWriter(Protocol):
    """What a node of single-master mode can do beyond. Futures end with the errors of `mmrepl.errors`."""

    def fresh(self, level: str, entries: int | None) -> asyncio.Future[int]:
        """Done when a read of that level may be served here; *entries* bounds how far behind it may be."""

    def promote(self, *, force: bool) -> asyncio.Future[Mapping[str, Any]]:
        """Done, with the term and what is lost, when this node is the primary."""

    def transfer(self, to: str) -> asyncio.Future[Mapping[str, Any]]:
        """Done, with the term, when *to* leads."""

    def add(self, who: str, *, learner: bool) -> asyncio.Future[int]:
        """Done, with the index of the change, when *who* is a member."""

    def branches(self) -> Sequence[Mapping[str, Any]]:
        """What was cut off the log here and is kept."""

    def merge(self, branch: str, policy: str) -> asyncio.Future[Mapping[str, Any]]:
        """Done, with how many keys were written, when the branch is merged. Raises UsageError for the policy."""

    def drop(self, branch: str) -> None:
        """Forget a branch. Raises UnknownBranch."""


class Backend(Protocol):
    """A node, as the client port sees it."""

    @property
    def name(self) -> str:
        """The node's name."""

    @property
    def limits(self) -> Limits:
        """Of keys and values."""

    @property
    def version(self) -> VersionVector:
        """What this node has applied."""

    @property
    def durability(self) -> Durability:
        """The level of writes that name none."""

    @property
    def durable(self) -> int:
        """
        All positions up to this one are durable.

        Never falls, and is always reached by positions that were given out, whatever happens to the log behind them
        (a new incarnation, a store that starts over): a client would wait for ever otherwise.
        """

    @property
    def hold(self) -> int:
        """
        The position that must be durable before a weak write is answered, nevertheless; 0 for none.

        The first weak write of a run waits until the disk knows that there may be more (law L2).
        """

    def on_durable(self, callback: Callable[[Exception | None], None]) -> Callable[[], None]:
        """
        Call *callback* each time that ``durable`` has grown; with the error, once, when it never will again.

        It is called from the event loop, never from within a call of the port's. A ``durable`` that grows with the
        write itself, as in memory, needs no call.

        Returns what ends the subscription.
        """

    def table(self, name: str) -> Table:
        """The table *name*; good for as long as the backend lives. Raises UnknownTable or InvalidKey."""

    def tables(self) -> Mapping[str, str]:
        """Names of the tables, in order, with their policies for people. The default table has the empty name."""

    def wait(self, position: int, others: int, timeout_ms: int) -> asyncio.Future[int]:
        """
        How many members besides this one have applied everything of ours up to *position*.

        Done when there are *others* of them, or after *timeout_ms*; the answer may be either more or fewer. A
        cancelled wait is forgotten.
        """

    @property
    def single_writer(self) -> SingleWriter | None:
        """What is asked of a node of single-master mode; None in the other."""

    def role(self) -> Mapping[str, Any]:
        """
        What the node is in its cluster: flat facts for clients that choose among nodes.

        ``mode`` (multi-master, single-master), ``role`` (node, primary, replica, candidate), ``name``, ``primary`` (the
        client address of the node that takes writes, if it is another and known), ``term``.
        """

    @property
    def applied(self) -> str:
        """A token for everything that this node has applied; see `mmrepl.wire.seen`."""

    def has_applied(self, token: bytes) -> bool:
        """Whether this node has applied what *token* stands for. Raises UsageError for what is no token of the mode."""

    def wait_applied(self, token: bytes, timeout_ms: int) -> asyncio.Future[bool]:
        """Done, with true, as soon as ``has_applied`` is; with false after *timeout_ms*."""

    def open_session(self) -> asyncio.Future[int]:
        """Done, with its number, when a client session is open in the log. Raises UsageError where there is no such."""

    def numbered(self, session: int, request: int) -> AbstractContextManager[None]:
        """
        What is written inside, at once, is that request of that client session: a repetition is applied once.

        Raises UsageError where there are no client sessions.
        """

    def changes(self, since: Seen, count: int) -> tuple[Sequence[Change], Seen]:
        """
        At most *count* operations that *since* lacks, in our log's order, and from where to go on.

        Raises LogTruncated when the log no longer reaches back that far, UsageError for a place of the other mode.
        """

    def has_more(self, since: Seen) -> bool:
        """Whether this node has applied something that *since* lacks."""

    def wait_changes(self, since: Seen, timeout_ms: int) -> asyncio.Future[bool]:
        """Done, with true, as soon as `changes` would give something; with false after *timeout_ms*."""

    def members(self) -> Sequence[Mapping[str, Any]]:
        """The members, by name, this one included: flat facts, as ``name``, ``state``, ``address``, ``lag``."""

    def status(self) -> Mapping[str, Any]:
        """The state of the node, for people and monitors; plain data that JSON can say."""

    def block(self, peer: str) -> None:
        """Cut the connection with *peer* and keep it cut, both ways. Raises UsageError for an unknown peer."""

    def unblock(self, peer: str | None) -> None:
        """Let *peer* in again; None: everybody."""

    def remove(self, who: str) -> asyncio.Future[int] | None:
        """
        Take a member out, or give up an address that was expected; None: it is done already, else when the future is.

        Raises UsageError when there is neither.
        """

    def backup(self, name: str) -> asyncio.Future[str]:
        """
        Done, with the path, when a consistent copy stands beside the store's own file under *name*.

        Its errors are UsageError (no file to back up, or one in the way) and StorageError.
        """
