"""
A node for programs of threads: `mmrepl.Node`, run on an event loop in a thread of its own.

Nothing of the node is written twice. Each call goes to the node's thread and waits there for its outcome, so calls
from any number of threads are safe, and the writes of many share one commit. That way costs some tens of microseconds
a call: a program that reads or writes much faster than that wants `mmrepl.Replica`, or asyncio.

No wait is without a bound. `WaitTimeout` says what was waited for; of a put it means that the write was made and that
the disk has not confirmed it. Ctrl-C breaks off the wait and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from mmrepl.causality.context import CausalContext
from mmrepl.causality.version_vector import VersionVector
from mmrepl.log.policy import DEFAULT_LOG, LogPolicy
from mmrepl.loop_thread import LoopThread
from mmrepl.ports import Clock, Durability, Rng, Storage, Transport
from mmrepl.resolvers import Resolver
from mmrepl.runtime.change_feed import ChangeFeed
from mmrepl.runtime.event_thread import EventThread
from mmrepl.runtime.node import Node
from mmrepl.runtime.outcomes import Receipts, SiblingsEvent, Token, Written, as_vector
from mmrepl.runtime.system import SYSTEM_CLOCK
from mmrepl.runtime.table_view import TableHost, TableView
from mmrepl.runtime.writer import ACK_TIMEOUT
from mmrepl.store.read import Read
from mmrepl.store.table import PAGE_KEYS, Table
from mmrepl.types import DEFAULT_LIMITS, DEFAULT_TABLE, Limits, Value
from mmrepl.values import Items, check_table, decode

CALL_TIMEOUT = 30.0
"""Seconds that a call waits for the node's thread, and a write without *timeout* for the disk."""

LIFE_TIMEOUT = 120.0
"""Seconds that opening and closing may take: a store of millions of keys is read and checked meanwhile."""

T = TypeVar("T")


class BlockingTable(TableView):
    """One table of a `BlockingNode`: a mapping, whose writes can wait for acknowledgements."""

    _host: BlockingNode

    def put(
        self,
        key: str,
        value: Value,
        *,
        context: CausalContext | None = None,
        durability: Durability | str | None = None,
        acks: int | str | None = None,
        timeout: float = ACK_TIMEOUT,
    ) -> Written:
        """
        Write *value*; returns its dot and new context once it is as durable as asked for.

        *context* as for `TableView.put`. *acks*: how many members must hold it durably before this returns, this one
        included: a number, ``"majority"`` or ``"all"``. Waits at most *timeout* seconds for the disk and, with
        *acks*, so long again for the members.

        Raises:
            InvalidKey, InvalidValue, WrongContext, TooManySiblings, ClockAhead: nothing was written.
            AckTimeout: written, and will spread; fewer members than asked for confirmed in time.
            WaitTimeout: the disk has not confirmed in time; most probably written.
            StoreFailed: the disk failed; it may or may not be there after reopening.
        """
        return self._host._write(self._name, key, context, durability, acks, timeout, value)

    def delete(
        self,
        key: str,
        *,
        context: CausalContext | None = None,
        durability: Durability | str | None = None,
        acks: int | str | None = None,
        timeout: float = ACK_TIMEOUT,
    ) -> Written:
        """Write a tombstone, whether or not there is a value. Arguments and errors as `put`."""
        return self._host._write(self._name, key, context, durability, acks, timeout)

    def put_many(
        self,
        items: Items,
        *,
        durability: Durability | str | None = None,
        acks: int | str | None = None,
        timeout: float = ACK_TIMEOUT,
    ) -> Receipts:
        """
        Write many keys at once, in order; see `Node.put_many`. One way to the node and back, and one commit, for all.

        Arguments and errors as `put`.
        """
        return self._host._write_many(self._name, items, durability, acks, timeout)


class BlockingNode(BlockingTable, TableHost):
    """
    One node of a multi-master cluster, for threads; a context manager, or `start` and `close` by hand.

    The arguments are those of `mmrepl.Node`. It is a mapping of the default table; other tables by `table`. One node
    is opened once; open another for the same file after `close`. Not to be carried over a fork.
    """

    def __init__(
        self,
        name: str,
        path: str | Path | None = None,
        *,
        listen: str | None = "127.0.0.1:0",
        peers: Sequence[str] = (),
        client: str | None = None,
        cluster: str = "default",
        default: Resolver | None = None,
        tables: Mapping[str, Resolver] | None = None,
        durability: Durability | str = Durability.SYNC,
        limits: Limits = DEFAULT_LIMITS,
        log: LogPolicy = DEFAULT_LOG,
        secret: str | bytes | None = None,
        client_password: str | None = None,
        advertise: str | None = None,
        insecure: bool = False,
        rejoin: bool = False,
        compression: bool = False,
        transport: Transport | None = None,
        storage: Storage | None = None,
        clock: Clock = SYSTEM_CLOCK,
        rng: Rng | None = None,
    ) -> None:
        super().__init__(self, DEFAULT_TABLE)
        self._node = Node(
            name, path, listen=listen, peers=peers, client=client, cluster=cluster, default=default, tables=tables,
            durability=durability, limits=limits, log=log, secret=secret,
            client_password=client_password, advertise=advertise, insecure=insecure, rejoin=rejoin,
            compression=compression,
            transport=transport, storage=storage, clock=clock, rng=rng,
        )  # fmt: skip
        self.limits = limits
        self._thread = LoopThread(f"node {name!r}", self._enter, self._leave)
        self._events = EventThread(f"mmrepl-events-{name}")

    # -- life

    def start(self) -> Self:
        """
        Open the store, listen, and begin to look for peers. Errors as `Node.start`: nothing is left running then.
        """
        self._thread.start(LIFE_TIMEOUT)
        return self

    def close(self, timeout: float = LIFE_TIMEOUT) -> None:
        """
        Stop taking connections, make durable what was written, say goodbye, end the thread. Idempotent.

        Who still waits for something gets a ClosedError. Raises WaitTimeout after *timeout* seconds; it goes on
        closing, and a further call waits again. To be called from any thread.
        """
        try:
            self._thread.stop(timeout)
        finally:
            self._events.close(timeout)

    async def _enter(self) -> None:
        self._node.on_siblings(self._events.tell)
        await self._node.start()

    async def _leave(self) -> None:
        await self._node.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if not self._thread.is_open:
            return f"<BlockingNode {self.name!r}, not running>"
        return self._thread.call(lambda: f"<Blocking{repr(self._node)[1:]}", "its description", CALL_TIMEOUT)

    # -- identity

    @property
    def name(self) -> str:
        """The node's name."""
        return self._node.name

    @property
    def address(self) -> str:
        """Where peers reach this node; empty if nowhere."""
        return self._node.address

    @property
    def client_address(self) -> str:
        """Where Redis clients reach it; empty if nowhere."""
        return self._node.client_address

    @property
    def doubt(self) -> str | None:
        """Why this node took a new incarnation when it was opened; None when it did not have to."""
        return self._node.doubt

    @property
    def version(self) -> VersionVector:
        """Everything that this node has applied."""
        return self._ask(lambda: self._node.version, "its version")

    def table(self, name: str) -> BlockingTable:
        """A table as a mapping. It need not have been declared: then it has the default resolver."""
        check_table(name, self.limits)
        return BlockingTable(self, name)

    def tables(self) -> list[str]:
        """Names of the tables that were declared or hold keys, in order."""
        return self._ask(self._node.tables, "its tables")

    # -- what comes in

    def changes(self, since: Token | None = None, *, timeout: float | None = None) -> ChangeFeed:
        """
        Every operation that becomes durable here and that *since* has not seen, in order of application.

        An iterator that waits for what comes. It ends when nothing has come for *timeout* seconds (0: as soon as it
        has told what is here; None: never), or when `ChangeFeed.stop` is called, from any thread. Its ``token`` says
        where to go on, here or at another node.

        The iteration raises ClosedError when the node is closed, and LogTruncated when the log no longer reaches back
        to *since*: read the keys then, and go on from `version`, read before.
        """
        return ChangeFeed(self._thread, self._node, as_vector(since), timeout, CALL_TIMEOUT)

    def on_siblings(self, listener: Callable[[SiblingsEvent], None]) -> Callable[[], None]:
        """
        Call *listener* whenever siblings of a key appear or vanish here, in a thread that is there for the listeners.

        Returns what ends that. The listener may use the node. What it raises is reported as for any thread, and it is
        called again the next time. Events that come faster than the listeners take them are dropped beyond a bound;
        ``status()`` counts them.
        """
        return self._events.add(listener)

    # -- the cluster

    def status(self) -> dict[str, Any]:
        """The state of this node, as plain data: identity, members, lag, siblings, log, storage, complaints."""
        status = self._ask(self._node.status, "its status")
        return status | {"events_dropped": self._events.dropped_count}

    def members(self) -> list[dict[str, Any]]:
        """One row a member, this node first."""
        return self._ask(self._node.members, "its members")

    def wait_connected(self, *names: str, timeout: float = 10.0) -> None:
        """
        Return when connections to the named peers are up, for both sides, and nothing known is missing from them.

        Raises WaitTimeout.
        """
        what = f"a connection to {', '.join(names)}"
        self._thread.run(lambda: self._node.wait_connected(*names, timeout=timeout), what, timeout + CALL_TIMEOUT)

    def remove(self, who: str) -> None:
        """Take a member out of the cluster, or give up an address that never answered. Raises UsageError."""
        self._ask(lambda: self._node.remove(who), f"the removal of {who!r}")

    def leave(self) -> None:
        """Leave the cluster for good, then close. What the others have of this node's writes stays with them."""
        self._thread.run(self._node.leave, "leaving the cluster", LIFE_TIMEOUT)
        self.close()

    def block(self, peer: str) -> None:
        """Cut the connection with *peer* and keep it cut: a drill for partitions. Raises UsageError."""
        self._ask(lambda: self._node.block(peer), f"the blocking of {peer!r}")

    def unblock(self, peer: str | None = None) -> None:
        """Let *peer* in again; None: everybody."""
        self._ask(lambda: self._node.unblock(peer), f"the unblocking of {peer!r}")

    def backup(self, target: str | Path, *, timeout: float = LIFE_TIMEOUT) -> None:
        """A consistent copy of the file, while running. Opened, it takes a new incarnation, as it must."""
        self._thread.run(lambda: self._node.backup(target), f"the backup to {target}", timeout)

    # -- TableHost

    def _ask(self, do: Callable[[], T], what: str) -> T:
        return self._thread.call(do, what, CALL_TIMEOUT)

    def _write(
        self,
        table: str,
        key: str,
        context: CausalContext | None,
        durability: Durability | str | None,
        acks: int | str | None,
        timeout: float,
        *value: Value,
    ) -> Written:
        """Put the one *value*, or delete."""

        def write() -> Coroutine[Any, Any, Written]:
            if value:
                return self._node.put(
                    key, *value, table=table, context=context, acks=acks, timeout=timeout, durability=durability
                )
            return self._node.delete(
                key, table=table, context=context, acks=acks, timeout=timeout, durability=durability
            )

        return self._thread.run(write, f"the write of key {key!r}", timeout if acks is None else 2 * timeout)

    def _write_many(
        self,
        table: str,
        items: Items,
        durability: Durability | str | None,
        acks: int | str | None,
        timeout: float,
    ) -> Receipts:
        held = dict(items) if isinstance(items, Mapping) else list(items)  # here: it may be slow, or raise
        return self._thread.run(
            lambda: self._node.put_many(held, table=table, acks=acks, timeout=timeout, durability=durability),
            f"the write of {len(held)} keys",
            timeout if acks is None else 2 * timeout,
        )

    def _put_many(self, table: str, items: Items, durability: Durability | None) -> Receipts:
        return self._write_many(table, items, durability, None, CALL_TIMEOUT)

    def _put(
        self, table: str, key: str, value: Value, context: CausalContext | None, durability: Durability | None
    ) -> Written:
        return self._write(table, key, context, durability, None, CALL_TIMEOUT, value)

    def _set(self, table: str, key: str, value: Value) -> None:
        self._write(table, key, None, None, None, CALL_TIMEOUT, value)

    def _delete(self, table: str, key: str, context: CausalContext | None, durability: Durability | None) -> Written:
        return self._write(table, key, context, durability, None, CALL_TIMEOUT)

    def _payload(self, table: str, key: str) -> bytes | None:
        return self._ask(lambda: self._node.payload(table, key), f"key {key!r}")

    def _get(self, table: str, key: str, default: Value) -> Value:
        payload = self._payload(table, key)
        return default if payload is None else decode(payload)

    def _read(self, table: str, key: str) -> Read:
        return self._ask(lambda: self._node.read(key, table=table), f"key {key!r}")

    def _table(self, name: str) -> Table:
        return self._node.core.local.store.table(name)

    def _keys(self, table: str, first: str | None, end: str | None, *, reverse: bool) -> Iterator[str]:
        if not self._thread.is_open:
            self._len(table)  # raises, at once and not at the first step
        return self._pages(table, first, end, reverse=reverse)

    def _pages(self, table: str, first: str | None, end: str | None, *, reverse: bool) -> Iterator[str]:
        """Page by page, each by its own bounds: between two the store may have begun again."""
        last: str | None = None
        while True:
            low, high = (first, last or end) if reverse else (first if last is None else last + "\0", end)

            def page(low: str | None = low, high: str | None = high) -> list[str]:
                return list(islice(self._table(table).keys(low, high, reverse=reverse), PAGE_KEYS))

            keys = self._ask(page, "a page of keys")
            yield from keys
            if len(keys) < PAGE_KEYS:
                return
            last = keys[-1]

    def _len(self, table: str) -> int:
        return self._ask(lambda: len(self._table(table)), "the number of keys")

    def _contains(self, table: str, key: object) -> bool:
        return self._ask(lambda: key in self._table(table), f"key {key!r}")
