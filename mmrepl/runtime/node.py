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
from typing import Any

from mmrepl.errors import UsageError
from mmrepl.log.policy import DEFAULT_LOG, LogPolicy
from mmrepl.ports import Clock, Durability, Rng, Storage, Transport
from mmrepl.replication.multi_master import MultiMaster, Options
from mmrepl.replication.opening import open_core
from mmrepl.replication.peer import PeerChanged, PeerState
from mmrepl.replication.waiters import Acknowledged
from mmrepl.resolvers import Resolver
from mmrepl.runtime.hosting import Outside
from mmrepl.runtime.outcomes import SiblingsEvent, as_level, siblings_event
from mmrepl.runtime.resp.backend import Backend
from mmrepl.runtime.status import member_rows, node_status
from mmrepl.runtime.system import SYSTEM_CLOCK
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
        key = secret.encode() if isinstance(secret, str) else secret
        outside = Outside(
            path=None if path is None else Path(path), listen=listen, client=client, client_password=client_password,
            advertise=advertise, secret=key, insecure=insecure, transport=transport, storage=storage, clock=clock,
            rng=rng,
        )  # fmt: skip
        super().__init__(name, outside, limits, as_level(durability))
        self._resolvers: tuple[Resolver | None, Mapping[str, Resolver] | None] = (default, tables)
        self._compression = compression
        self._options = Options(
            cluster=cluster,
            address=advertise or listen or "",
            expected=tuple(peers),
            secret=key,
            compressions=available_compressions(),
            log=log,
            durability=self.durability,
            rejoin=rejoin,
        )
        self._on_durable: Listeners[Exception | None] = Listeners()
        self._on_siblings: Listeners[SiblingsEvent] = Listeners()
        self._on_peer: Listeners[PeerChanged] = Listeners()

    # -- what the base asks for

    def _open(self, storage: Storage | None) -> MultiMaster:
        default, tables = self._resolvers
        local, meta, _doubt = open_core(
            self.name, storage, self._rng, default=default, tables=tables, limits=self.limits, retain=True
        )
        return MultiMaster(local, self._rng, self._options, dict(meta), self._clock.monotonic_ms())

    def _bound(self, core: MultiMaster, address: str) -> None:
        core.bound(address)

    def _backend(self) -> Backend:
        from mmrepl.runtime.client_backend import NodeBackend

        return NodeBackend(self)

    def _ending(self) -> None:
        if self._core is not None:
            self._core.local.wind_up()

    # -- what this node is

    @property
    def identity(self) -> NodeId:
        """Name and incarnation."""
        return self.core.local.store.node

    @property
    def doubt(self) -> str | None:
        """Why this node took a new incarnation, when it was opened or later; None when it did not have to."""
        return None if self._core is None else self._core.local.doubt

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

    def on_siblings(self, listener: Callable[[SiblingsEvent], None]) -> Callable[[], None]:
        """Call *listener* on the event loop whenever siblings of a key appear or vanish; returns what ends that."""
        return self._on_siblings.add(listener)

    def on_peer(self, listener: Callable[[PeerChanged], None]) -> Callable[[], None]:
        """Call *listener* on the event loop whenever a peer has let us in, or goes; returns what ends that."""
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
