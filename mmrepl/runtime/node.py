"""
A node on the network: a replica that finds its peers and keeps talking to them. For asyncio.

It answers reads at once from what it has, takes writes whether or not anybody else is there, and gossips with its
peers in the background. One port is for peers; another, if wanted, speaks the Redis protocol to clients. Everything
happens on the event loop on which the node was started, but the disk, which has a thread of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mmrepl.errors import ClosedError, UsageError
from mmrepl.log.policy import DEFAULT_LOG, LogPolicy
from mmrepl.ports import Clock, Durability, Listener, Rng, Storage, Transport
from mmrepl.replication.local import LocalCore
from mmrepl.replication.multi_master import MultiMaster, Options
from mmrepl.replication.opening import open_core
from mmrepl.replication.peer import PeerChanged, PeerState
from mmrepl.replication.waiters import Acknowledged
from mmrepl.resolvers import Resolver
from mmrepl.runtime.driver import Driver
from mmrepl.runtime.link import LinkHandler
from mmrepl.runtime.outcomes import SiblingsEvent, as_level, siblings_event
from mmrepl.runtime.status import member_rows, node_status
from mmrepl.runtime.system import SYSTEM_CLOCK, system_rng
from mmrepl.runtime.waiting import Listeners
from mmrepl.runtime.writer import Writer
from mmrepl.store.store import Store
from mmrepl.types import DEFAULT_LIMITS, Limits, NodeId
from mmrepl.values import check_key, check_table
from mmrepl.wire.compression import available_compressions


class Node(Writer):
    """
    One node of a multi-master cluster; an asynchronous context manager, or `start` and `close` by hand.

    *name*: unique in the cluster. *path*: its file (None: in memory). *listen*: where peers reach it, ``host:port``;
    port 0 takes a free one. *peers*: addresses of some others; the rest is learnt from them. *client*: where Redis
    clients reach it (None: nowhere). *default* and *tables* choose the resolvers. *cluster*: only nodes of one id talk
    to each other. *log*: how much of the log is kept for who is behind. *secret*: shared by all, or None. *insecure*:
    allow addresses that are not of loopback without secret or TLS. *rejoin*: come back as a new incarnation if this
    node was removed. *advertise*: where others are told to reach this node, if that is not where it listens (0.0.0.0, a
    container, a translated address). *compression*: compress what is sent to peers that can read it. *transport*,
    *storage*, *clock* and *rng* replace the outside, for tests.
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
        check_key(name, limits)
        for table in tables or ():
            check_table(table, limits)
        super().__init__(name, limits, as_level(durability), clock)
        self.path = None if path is None else Path(path)
        self._listen = listen
        self._peers = tuple(peers)
        self._client = client
        self._client_password = client_password
        self._advertise = advertise
        self._cluster = cluster
        self._resolvers: tuple[Resolver | None, Mapping[str, Resolver] | None] = (default, tables)
        self._log = log
        self._secret = secret.encode() if isinstance(secret, str) else secret
        self._insecure = insecure
        self._rejoin = rejoin
        self._compression = compression
        self._transport = transport
        self._storage = storage
        self._rng = rng or system_rng()
        self._listener: Listener | None = None
        self._client_port: Any = None
        self._closing: asyncio.Task[None] | None = None
        self._on_durable: Listeners[Exception | None] = Listeners()
        self._on_siblings: Listeners[SiblingsEvent] = Listeners()
        self._on_peer: Listeners[PeerChanged] = Listeners()

    # -- life

    async def start(self) -> Self:
        """
        Open the store, listen, and begin to look for peers.

        Raises StorageError for a file that cannot be used, OSError for an address that cannot be bound, UsageError
        for one that is not of loopback without *secret* or *insecure*. Nothing is left open then.
        """
        if self._core is not None:
            raise UsageError(f"node {self.name!r} was started already")
        storage = self._storage
        if storage is None and self.path is not None:
            from mmrepl.storage.sqlite import SqliteStorage

            storage = SqliteStorage(self.path)
        transport = self._transport
        if transport is None:
            from mmrepl.transport.tcp import TcpTransport

            transport = TcpTransport(secured=self._secret is not None, insecure=self._insecure)
        try:
            local, meta = self._open(storage)
            if storage is not None:
                first = local.take_persist()
                if first is not None:
                    storage.commit(first.commit, Durability.SYNC)
                    local.persisted(first.position)
            self._core = core = MultiMaster(local, self._rng, self._options(), dict(meta), self._clock.monotonic_ms())
            self._driver = driver = Driver(
                core, storage, transport, clock=self._clock, rng=self._rng,
                notify=self._event, on_durable=self._durable_moved, on_tick=self._waiting.stir,
            )  # fmt: skip
        except BaseException:
            if storage is not None:
                storage.close()
            raise
        try:
            if self._listen is not None:
                self._listener = await transport.listen(self._listen, lambda: LinkHandler(driver, ""))
                core.bound(self._advertise or self._listener.address)
            if self._client is not None:
                await self._start_client_port(self._client)
        except BaseException:
            await self.close()
            self._core = self._closing = None
            raise
        driver.wake()
        return self

    def _open(self, storage: Storage | None) -> tuple[LocalCore, Mapping[str, bytes]]:
        default, tables = self._resolvers
        local, meta, _doubt = open_core(
            self.name, storage, self._rng, default=default, tables=tables, limits=self.limits, retain=True
        )
        return local, meta

    def _options(self) -> Options:
        return Options(
            cluster=self._cluster,
            address=self._advertise or self._listen or "",
            expected=self._peers,
            secret=self._secret,
            compressions=available_compressions(),
            log=self._log,
            durability=self.durability,
            rejoin=self._rejoin,
        )

    async def _start_client_port(self, address: str) -> None:
        from mmrepl.runtime.client_backend import NodeBackend
        from mmrepl.runtime.resp.options import ClientOptions
        from mmrepl.runtime.resp.server import ClientPort

        self._client_port = ClientPort(NodeBackend(self), ClientOptions(password=self._client_password))
        await self._client_port.start(address, insecure=self._insecure)

    async def close(self) -> None:
        """
        Stop taking connections, make durable what was written, say goodbye. Idempotent.

        Who still waits for something gets a ClosedError. Whoever is cancelled while closing leaves when it is done all
        the same, for half a closing is none; it takes about a second at most, and what the disk takes.

        Raises DiskFull: there was no room for what was written last, and whose writers were told so.
        """
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        try:
            await asyncio.shield(self._closing)
        except asyncio.CancelledError:
            if not self._closing.done():
                await asyncio.wait([self._closing])
            raise

    async def _close(self) -> None:
        driver, self._driver = self._driver, None
        if self._core is not None:
            self._core.local.wind_up()
        try:
            if self._client_port is not None:
                await self._client_port.close()
                self._client_port = None
            if self._listener is not None:
                await self._listener.close()
                self._listener = None
        finally:
            try:
                if driver is not None:
                    await driver.close()
            finally:
                self._waiting.fail(ClosedError(f"node {self.name!r} is closed"))
                self._waiting.stir()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def identity(self) -> NodeId:
        """Name and incarnation."""
        return self.core.local.store.node

    @property
    def doubt(self) -> str | None:
        """Why this node took a new incarnation, when it was opened or later; None when it did not have to."""
        return None if self._core is None else self._core.local.doubt

    @property
    def address(self) -> str:
        """Where peers reach this node; empty if nowhere."""
        return self._listener.address if self._listener is not None else ""

    @property
    def client_address(self) -> str:
        """Where Redis clients reach it; empty if nowhere."""
        return str(self._client_port.address) if self._client_port is not None else ""

    def __repr__(self) -> str:
        if self._core is None or self._driver is None:
            return f"<Node {self.name!r}, not running>"
        up = ", ".join(peer.name for peer in self._core.up()) or "nobody"
        return f"<Node {self._core.local.store.node} at {self.address or 'no address'}, connected to {up}>"

    # -- the cluster

    def status(self) -> dict[str, Any]:
        """The state of this node, as plain data: identity, members, lag, siblings, log, storage, complaints."""
        return node_status(self)

    def members(self) -> list[dict[str, Any]]:
        """One row a member, this node first."""
        return member_rows(self)

    def remove(self, who: str) -> None:
        """Take a member out of the cluster, or give up an address that never answered. Raises UsageError."""
        self.core.remove(who)
        self._wake()

    async def leave(self, timeout: float = 10.0) -> None:
        """
        Leave the cluster for good, then close. What this node wrote stays with the others.

        Raises WaitTimeout, and stays, when *timeout* seconds pass before some other member has all that was written
        here: it would be lost to them. Alone, there is nobody to leave.
        """
        core = self.core
        if not core.members.is_alone():
            await self.wait_until(core.is_handed_over, "that another member has all that was written here", timeout)
        core.leave()
        self._wake()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await self.close()

    def block(self, peer: str) -> None:
        """Cut the connection with *peer* and keep it cut: a drill for partitions. Raises UsageError."""
        if not self.core.members.is_member(peer):
            raise UsageError(f"no member is called {peer!r}; members are {', '.join(self.core.members.names())}")
        self.core.block(peer)
        self._wake()

    def unblock(self, peer: str | None = None) -> None:
        """Let *peer* in again; None: everybody."""
        if peer is None:
            self.core.blocked.clear()
        else:
            self.core.blocked.discard(peer)
        if self._driver is not None:
            self._driver.dial_again()

    async def backup(self, target: str | Path) -> None:
        """A consistent copy of the file, while running. Opened, it takes a new incarnation, as it must."""
        driver = self._driver
        if driver is None:
            raise ClosedError(f"node {self.name!r} is not running")
        await driver.backup(str(target))

    def on_siblings(self, listener: Callable[[SiblingsEvent], None]) -> Callable[[], None]:
        """Call *listener* on the event loop whenever siblings of a key appear or vanish; returns what ends that."""
        return self._on_siblings.add(listener)

    def on_peer(self, listener: Callable[[PeerChanged], None]) -> Callable[[], None]:
        """Call *listener* on the event loop whenever a peer comes or goes; returns what ends that."""
        return self._on_peer.add(listener)

    def on_durable(self, listener: Callable[[Exception | None], None]) -> Callable[[], None]:
        """Call *listener* whenever more has become durable, or with the error that ends it; returns what ends that."""
        return self._on_durable.add(listener)

    # -- what the driver tells

    def _event(self, event: object) -> None:
        if isinstance(event, Acknowledged):
            self._waiting.acknowledged(event.token)
        elif isinstance(event, PeerChanged):
            if event.state is not PeerState.GONE and self._compression:
                self._choose_compression(event.name)
            self._on_peer.tell(event)
        self._waiting.stir()

    def _choose_compression(self, name: str) -> None:
        peer = self.core.peers[name]
        both = [how for how in available_compressions() if how in peer.hello.compressions]
        if both and peer.link is not None and self._driver is not None:
            self._driver.compress(peer.link, both[0])

    def _durable_moved(self, error: Exception | None) -> None:
        if error is not None:
            self._waiting.fail(error)
        elif self._core is not None:
            self._waiting.moved(self._core.local)
            self._tell_siblings(self._core.local.store)
        self._on_durable.tell(error)
        self._waiting.stir()

    def _tell_siblings(self, store: Store) -> None:
        keyspace = store.keyspace
        if keyspace.events:
            events, keyspace.events = keyspace.events, []
            for event in events:
                self._on_siblings.tell(siblings_event(store, event))
