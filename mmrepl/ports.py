"""
What the outside must offer: storage, transport, clock, dice.

The cores are pure; these four small protocols are all that they, and the hosts that drive them, ask of the world.
Whoever writes a storage or a transport implements one of them, and has the conformance suites of
``mmrepl.testing`` to try it with.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from typing import Protocol

from attrs import field, frozen

# -- storage


class Durability(enum.IntEnum):
    """
    What must be true of a write before its writer is answered. Ordered: the strongest of a batch counts for the batch.

    A weak write (``BATCH``, ``NONE``) is answered at once, and written out a few milliseconds later. Until then the
    death of the process loses it, and a loss of power loses ``NONE`` even after. What is lost is not forgotten to have
    been: the node comes back as a new incarnation, so that nothing else is ever written under the same dot (law L2).
    For that, the first weak write after a pause waits for the disk as a strong one does.

    What a storage is told is the level of a commit: for ``BATCH`` and ``SYNC`` it syncs before it returns.
    """

    NONE = 0  # answered at once, written out soon and not synced; sent to peers when written out
    BATCH = 1  # answered at once, synced soon, and sent to peers only then
    SYNC = 2  # synced before the answer

    @classmethod
    def parse(cls, name: str | Durability) -> Durability:
        """``"sync"``, ``"batch"`` or ``"none"``. Raises ValueError for anything else."""
        if isinstance(name, Durability):
            return name
        try:
            return cls[name.upper()]
        except (KeyError, AttributeError):
            raise ValueError(f"durability must be 'sync', 'batch' or 'none', not {name!r}") from None


@frozen
class Commit:
    """
    One atomic change of the durable state: all of it or, after a crash, nothing of it.

    The storage never looks into the bytes. *Batches* are the tail of the operation log, keyed by the log position of
    their first operation; *segments* are settled operations from below the cut of the log, keyed by a number of their
    own; *meta* is a small map. Deletions happen before additions.
    """

    batches: Mapping[int, bytes] = field(factory=dict)  # position of the first operation -> encoded operations
    drop_batches: tuple[int, int] | None = None  # delete batches whose position is in [first, end)
    segments: Mapping[int, bytes | None] = field(factory=dict)  # None deletes
    meta: Mapping[str, bytes | None] = field(factory=dict)  # None deletes


class CommitBuilder:
    """The next commit of a journal, while it gathers; true when there is something in it."""

    __slots__ = ("batches", "drop", "meta", "segments")

    def __init__(self) -> None:
        self.batches: dict[int, bytes] = {}
        self.drop: tuple[int, int] | None = None
        self.segments: dict[int, bytes | None] = {}
        self.meta: dict[str, bytes | None] = {}

    def __bool__(self) -> bool:
        return bool(self.batches or self.drop or self.segments or self.meta)

    def build(self) -> Commit:
        """What has gathered. Nothing may be added afterwards: the commit holds what this holds."""
        return Commit(self.batches, self.drop, self.segments, self.meta)


class Loaded(Protocol):
    """What a storage held when it was opened. The iterators are read once, in order, before the first commit."""

    @property
    def meta(self) -> Mapping[str, bytes]:
        """The small map."""

    @property
    def doubt(self) -> str | None:
        """
        Why the memory of this store cannot be trusted to be the latest (copied, restored, lost its unsynced tail);
        None when it can. In doubt the node takes a new incarnation (law L2). The first commit settles it; until then
        it stays, through closing and opening again.
        """

    def segments(self) -> Iterator[tuple[int, bytes]]:
        """Settled segments, by number."""

    def batches(self) -> Iterator[tuple[int, bytes]]:
        """The tail of the log, by position."""


class Storage(Protocol):
    """
    Where a node remembers. Used from one thread at a time (not always the same one); a context of its own per node.

    Errors are of the `StorageError` family. After a failed commit or sync the storage refuses all further ones with
    `StoreFailed`: what the disk holds is unknown by then, and trusting a retried fsync has lost data elsewhere
    (the PostgreSQL fsync bug of 2018). Only `DiskFull` can be recovered from: that commit was refused whole, and has
    to be made again before any that follows on it.
    """

    def load(self) -> Loaded:
        """
        Open, check and read. Called once, first.

        What is loaded survives a loss of power from then on: what a process wrote that died before its sync returned is
        synced now. Else a node would tell others of what it may still forget.
        """

    def commit(self, commit: Commit, durability: Durability) -> None:
        """
        Make *commit* durable to the level asked for, atomically; returns when it is. Order is kept.

        Repeating a commit changes nothing. One that was interrupted (Ctrl-C) is completed before the next. An empty
        strong commit syncs the weak ones before it.
        """

    def backup(self, target: str) -> None:
        """
        A consistent copy of what was committed, while running; marked so that opening it draws a new incarnation.

        Raises UsageError where there is nothing to copy (in memory), or something else in the way.
        """

    def close(self) -> None:
        """Sync, mark the store as cleanly closed, release it. Idempotent."""


# -- transport


class Connection(Protocol):
    """One live stream of bytes to a peer. Calls never block."""

    @property
    def peer(self) -> str:
        """Address of the other side, for people."""

    @property
    def buffered_bytes(self) -> int:
        """Bytes accepted by `send` and not yet taken by the network. The host stops sending above its bound."""

    def send(self, data: bytes) -> None:
        """Queue *data*. After `close`, or once lost, does nothing."""

    def close(self) -> None:
        """Close, after what was queued has had a short moment to leave. Idempotent. `lost` is still called, once."""


class ConnectionHandler(Protocol):
    """What the host gives for each connection; called from the event loop, in this order."""

    def made(self, connection: Connection) -> None:
        """The stream is open."""

    def received(self, data: bytes) -> None:
        """Some bytes, cut anywhere."""

    def lost(self, reason: str) -> None:
        """The stream is gone. Called exactly once, last."""


class Listener(Protocol):
    """Accepts connections until closed."""

    @property
    def address(self) -> str:
        """The address really bound (a port of 0 has become a number)."""

    async def close(self) -> None:
        """Stop accepting; connections that were accepted live on."""


class HandlerFactory(Protocol):
    """Makes the handler of an accepted connection."""

    def __call__(self) -> ConnectionHandler: ...


class Transport(Protocol):
    """How bytes get to other nodes. Everything happens on the running asyncio event loop."""

    async def listen(self, address: str, accept: HandlerFactory) -> Listener:
        """Accept connections at *address*. Raises OSError when it cannot."""

    async def connect(self, address: str, handler: ConnectionHandler) -> Connection:
        """Open one connection; ``handler.made`` was called when this returns. Raises OSError when it cannot."""

    async def close(self) -> None:
        """Close every connection and listener, and wait until they are gone."""


# -- time and chance


class Clock(Protocol):
    """Two clocks: one for stamps that people see, one for waiting. They are never mixed."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970, as the system believes; may jump either way."""

    def monotonic_ms(self) -> int:
        """Milliseconds since some start; never goes back."""


class Rng(Protocol):
    """Dice; ``random.Random`` fits."""

    def getrandbits(self, k: int, /) -> int:
        """An integer of *k* random bits."""

    def random(self) -> float:
        """A float in [0, 1)."""
