"""
A node of a single-master cluster: one writer at a time, elected or appointed, and replicas that follow it.

Any node can be read; writes are taken by the primary (the leader, where it is elected) and refused elsewhere with the
name and address of who takes them. How many must hold a write before its writer is answered, and how new a read has to
be, is chosen for the cluster and for each call. Everything happens on the event loop on which the node was started,
but the disk, which has a thread of its own while it is not quick (`mmrepl.runtime.disk`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from itertools import dropwhile, takewhile
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
from attrs import evolve

from mmrepl.errors import MembersChanging, MmreplError
from mmrepl.ports import Clock, Durability, Rng, Storage, Transport
from mmrepl.resolvers import LastWriterWins, Resolver
from mmrepl.runtime.hosting import Outside
from mmrepl.runtime.log_feed import Feeding
from mmrepl.runtime.outcomes import as_level
from mmrepl.runtime.resp.backend import Backend
from mmrepl.runtime.single_master_status import single_master_members, single_master_status
from mmrepl.runtime.system import SYSTEM_CLOCK
from mmrepl.single_master import events
from mmrepl.single_master.branch import BranchInfo
from mmrepl.single_master.core import SingleMaster, open_single_master
from mmrepl.single_master.options import Ack, Failover, Options, ReadLevel, Role, parse_ack
from mmrepl.types import DEFAULT_LIMITS, DEFAULT_TABLE, Limits, NodeId, Value
from mmrepl.values import check_key, decode, encode
from mmrepl.wire.compression import available_compressions
from mmrepl.wire.seen import LogPosition

WRITERS = frozenset({Role.LEADER, Role.PRIMARY})
"""Roles in which a node takes writes."""


REDIRECTING_S = 0.25
"""For so long a leader that has handed over sends its clients to the new one, before it stops."""


class Accepted(msgspec.Struct, frozen=True):
    """A write that is acknowledged: the index of its entry, and whether it changed anything (see ``expect``)."""

    index: int
    applied: bool


class SingleMasterNode(Feeding):
    """
    One node of a single-master cluster; an asynchronous context manager, or `start` and `stop` by hand.

    Left in good order, or by `stop`, an elected leader hands over first; `close`, or an error, ends it at once.

    *name*, *path*, *listen*, *client*, *cluster*, *secret*, *advertise* and *insecure* are those of `Node`. *peers*:
    the addresses of all other first members of a new cluster; to a cluster that exists already a node is added by its
    members, and *peers* only say where to find them. *failover*: ``"automatic"`` (an elected leader) or ``"manual"`` (a
    primary that people appoint; the first one is started with *primary*). *ack*: when a write is answered that does
    not say: ``"async"``, ``"one"`` or a number of replicas, ``"quorum"``, ``"all"``. *election_ms*: the least and the
    longest that a replica waits for the leader before it asks for votes. *client_advertise*: where clients that write
    elsewhere are told to find this node, if that is not where its client port listens. *options*: the rarer knobs;
    what is given here by itself goes before them.
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
        failover: str | Failover = Failover.AUTOMATIC,
        ack: Ack = "quorum",
        primary: bool = False,
        election_ms: tuple[int, int] = (1_000, 2_000),
        durability: Durability | str = Durability.SYNC,
        limits: Limits = DEFAULT_LIMITS,
        secret: str | bytes | None = None,
        client_password: str | None = None,
        advertise: str | None = None,
        client_advertise: str | None = None,
        insecure: bool = False,
        compression: bool = False,
        options: dict[str, Any] | None = None,
        transport: Transport | None = None,
        storage: Storage | None = None,
        clock: Clock = SYSTEM_CLOCK,
        rng: Rng | None = None,
    ) -> None:
        check_key(name, limits)
        key = secret.encode() if isinstance(secret, str) else secret
        super().__init__(
            name,
            Outside(
                path=None if path is None else Path(path), listen=listen, client=client,
                client_password=client_password, advertise=advertise, client_advertise=client_advertise, secret=key,
                insecure=insecure,
                transport=transport, storage=storage, clock=clock, rng=rng,
            ),
        )  # fmt: skip
        self.limits = limits
        self.durability = as_level(durability)
        self.compression = compression
        self.options = Options(
            **{
                "heartbeat_ms": max(1, min(100, election_ms[0] // 4)),
                **(options or {}),
                "cluster": cluster,
                "address": advertise or listen or "",
                "client": client or "",
                "expected": tuple(peers),
                "secret": key,
                "compressions": available_compressions(),
                "durability": self.durability,
                "failover": Failover(failover),
                "primary": primary,
                "ack": parse_ack(ack),
                "election_ms_min": election_ms[0],
                "election_ms_max": election_ms[1],
            }
        )

    def __repr__(self) -> str:
        if self._core is None or self._driver is None:
            return f"<SingleMasterNode {self.name!r}, not running>"
        core = self._core
        leader = "" if core.leader in {"", self.name} else f" of {core.leader}"
        return f"<SingleMasterNode {core.node} at {self.address or 'no address'}, {core.role.value}{leader}>"

    # -- what the base asks for

    def _open(self, storage: Storage | None) -> SingleMaster:
        return open_single_master(
            self.name, storage, self._rng, self.options, limits=self.limits, now_ms=self._clock.monotonic_ms()
        )

    def _bound(self, core: SingleMaster, address: str) -> None:
        core.bound(address)

    async def _start_client_port(self, address: str) -> None:
        await super()._start_client_port(address)
        self.core.options = evolve(self.core.options, client=self._outside.client_advertise or self.client_address)

    def _backend(self) -> Backend:
        from mmrepl.runtime.single_master_backend import SingleMasterBackend

        return SingleMasterBackend(self)

    # -- what this node is

    @property
    def identity(self) -> NodeId:
        """Name and incarnation."""
        return self.core.node

    @property
    def doubt(self) -> str | None:
        """Why this node is a new incarnation; None when it is the one that it was."""
        return None if self._core is None else self._core.doubt

    @property
    def role(self) -> Role:
        """Leader, follower or candidate; primary or replica where failover is manual."""
        return self.core.role

    @property
    def term(self) -> int:
        """The term that this node is in."""
        return self.core.term

    @property
    def leader(self) -> str:
        """The name of the node that takes writes, as far as this one knows; empty while it does not."""
        return self.core.leader

    @property
    def position(self) -> LogPosition:
        """The last entry that this node has applied."""
        core = self.core
        return LogPosition(core.log.term_at(core.applied), core.applied)

    @property
    def leader_client(self) -> str:
        """Where the clients of the node that takes writes go, if that is another one and known."""
        peer = self.core.peers.get(self.core.leader)
        return "" if peer is None else peer.hello.client

    def holders(self, index: int) -> int:
        """How many other voters hold everything up to *index* on their disks; known where writes are taken."""
        tenure = self.core.tenure
        if tenure is None:
            return 0
        voters = set(self.core.history.current.voters) - {self.name}
        return sum(tenure.match(name) >= index for name in voters)

    @property
    def takes_writes(self) -> bool:
        """Whether this node does, as far as it knows."""
        return self.core.role in WRITERS

    # -- writing

    async def put(
        self,
        key: str,
        value: Value,
        *,
        table: str = DEFAULT_TABLE,
        ack: Ack | None = None,
        timeout: float | None = None,
        session: int = 0,
        request: int = 0,
        expect: int | None = None,
    ) -> Accepted:
        """
        Write *value*; returns once it is acknowledged as *ack* says, by default as the node was told.

        With *session* (see `open_session`) and *request*, numbered from 1, a retry is applied once. With *expect* the
        write takes place only if *key* was last written at that index (0: is absent); ``applied`` tells.

        Raises:
            InvalidKey, InvalidValue: nothing was written.
            NotPrimary: nothing was written; the error says who takes writes.
            AckTimeout, LeadershipLost and others: it may or may not take place; see ``error.definite``.
        """
        return await self._write(table, key, encode(value, self.limits), ack, timeout, session, request, expect)

    async def delete(
        self,
        key: str,
        *,
        table: str = DEFAULT_TABLE,
        ack: Ack | None = None,
        timeout: float | None = None,
        session: int = 0,
        request: int = 0,
        expect: int | None = None,
    ) -> Accepted:
        """Delete *key*, whether or not it is there. Arguments and errors as `put`."""
        return await self._write(table, key, None, ack, timeout, session, request, expect)

    async def _write(
        self, table: str, key: str, payload: bytes | None, ack: Ack | None, timeout: float | None,
        session: int, request: int, expect: int | None,
    ) -> Accepted:  # fmt: skip
        done: asyncio.Future[events.Answered] = asyncio.get_running_loop().create_future()
        self.propose(
            table, key, payload, token=done, ack=None if ack is None else parse_ack(ack), session=session,
            request=request, expect=expect,
        )  # fmt: skip
        self._answers[done] = done
        answered = await self._answer(done, timeout, f"key {key!r}")
        return Accepted(answered.index, answered.applied)

    def propose(self, table: str, key: str, payload: bytes | None, **how: Any) -> int:
        """Append an encoded write without waiting; returns its index. See `SingleMaster.propose`."""
        core = self.core
        assert self._driver is not None
        if self._driver.trouble is not None:
            raise self._driver.trouble
        index = core.propose(table, key, payload, self._clock.monotonic_ms(), self._clock.wall_ms(), **how)
        self._driver.wake()
        return index

    async def open_session(self, timeout: float | None = None) -> int:
        """A number for a client session, with which numbered writes are applied once. Raises as `put`."""
        return int(
            (
                await self._ask(
                    lambda token: self.core.open_session(
                        self._clock.monotonic_ms(), self._clock.wall_ms(), token=token
                    ),
                    timeout,
                    "a session",
                )
            ).index
        )

    # -- reading

    def get(self, key: str, default: Value = None, *, table: str = DEFAULT_TABLE) -> Value:
        """The value of *key* as this node has applied it, or *default*. At once; may be stale."""
        found = self.core.get(table, key)
        return default if found is None else decode(found[0])

    def payload(self, table: str, key: str) -> bytes | None:
        """The encoded value, None when the key is absent."""
        found = self.core.get(table, key)
        return None if found is None else found[0]

    async def read(
        self,
        key: str,
        default: Value = None,
        *,
        level: str | ReadLevel = ReadLevel.LINEARIZABLE,
        table: str = DEFAULT_TABLE,
        max_entries: int | None = None,
        max_ms: int | None = None,
        timeout: float | None = None,
    ) -> Value:
        """
        The value of *key*, as new as *level* says, or *default*.

        ``"local"``: as `get`. ``"bounded"``: at most *max_entries* or *max_ms* behind. ``"leader"``: at the leader,
        under its lease. ``"linearizable"``: everything acknowledged before the call, at followers too.

        Raises:
            ReadTooStale: this node is further behind; the error says how far.
            NotPrimary: only the leader answers such a read, or no leader is known.
            Unavailable: the leader could not confirm in time that it is one.
        """
        check_key(key, self.limits)
        await self.catch_up(level, max_entries=max_entries, max_ms=max_ms, timeout=timeout)
        return self.get(key, default, table=table)

    async def catch_up(
        self,
        level: str | ReadLevel = ReadLevel.LINEARIZABLE,
        *,
        max_entries: int | None = None,
        max_ms: int | None = None,
        timeout: float | None = None,
    ) -> int:
        """Return when this node may serve a read of that *level*: the index from which it will. Errors as `read`."""
        chosen = ReadLevel(level)
        if chosen is ReadLevel.LOCAL:
            return self.core.applied
        return int(
            (
                await self._ask(
                    lambda token: self.core.read(
                        chosen, self._clock.monotonic_ms(), token=token, max_entries=max_entries, max_ms=max_ms
                    ),
                    timeout,
                    f"a {chosen.value} read",
                )
            ).index
        )

    def keys(self, first: str | None = None, end: str | None = None, *, table: str = DEFAULT_TABLE) -> Iterator[str]:
        """Keys in order as this node has applied them, from *first* on, up to before *end*."""
        keys = iter(self.core.keys(table))
        if first is not None:
            keys = dropwhile(lambda key: key < first, keys)
        return keys if end is None else takewhile(lambda key: key < end, keys)

    def count(self, *, table: str = DEFAULT_TABLE) -> int:
        """Number of keys."""
        return sum(1 for _ in self.core.keys(table))

    def tables(self) -> list[str]:
        """Names of the tables that hold something, in order."""
        return self.core.tables()

    # -- operating

    async def promote(self, *, force: bool = False, timeout: float | None = None) -> events.Promoted:
        """
        Make this node the primary of a new term; where leaders are elected, ask for an election now.

        Raises PromotionRefused: another one is further, or too few answer to know; the error says what would be
        lost. *force* goes on all the same.
        """
        promoted: events.Promoted = await self._ask(
            lambda token: self.core.promote(self._clock.monotonic_ms(), token=token, force=force),
            timeout,
            "the promotion",
        )
        return promoted

    async def transfer(self, to: str, timeout: float | None = None) -> events.Transferred:
        """Hand over to *to*, which is brought up to date first. Raises NotPrimary, or what kept it from happening."""
        transferred: events.Transferred = await self._ask(
            lambda token: self.core.transfer(to, self._clock.monotonic_ms(), token=token),
            timeout,
            f"the transfer to {to!r}",
        )
        return transferred

    async def hand_over(self, timeout: float | None = None) -> str | None:
        """
        Have another voter lead, the one that is furthest, before this node goes; returns its name.

        None where there is nothing to hand over (this node does not lead, or people appoint who does), or where nobody
        took it within *timeout* seconds, by default the longest election timeout: then this node goes on leading.
        """
        if self._core is None or self._driver is None or self.core.is_manual or self._driver.trouble is not None:
            return None
        core, now_ms = self.core, self._clock.monotonic_ms()
        to = core.successor(now_ms)
        if to is None:
            return None
        within_ms = self.options.election_ms_max if timeout is None else int(timeout * 1000)

        def begin(token: object) -> None:
            core.transfer(to, now_ms, token=token, within_ms=within_ms)

        try:
            await self._ask(begin, None, f"the transfer to {to!r}")
        except MmreplError:  # it did not take over, or another one did, or we were closed
            return None
        return to

    async def stop(self, timeout: float | None = None) -> str | None:
        """
        `hand_over`, then `close`, also when cancelled meanwhile; returns the name of who took over, or None.

        Between the two, clients have a moment in which they are told who takes writes now: a connection that is closed
        under a write would leave them in doubt of it.
        """
        try:
            to = await self.hand_over(timeout)
            if to is not None and self._client_port is not None:
                await asyncio.sleep(REDIRECTING_S)
            return to
        finally:
            await self.close()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await (self.stop() if kind is None else self.close())

    async def change_members(
        self,
        *,
        add: Sequence[str] = (),
        learners: Sequence[str] = (),
        remove: Sequence[str] = (),
        timeout: float | None = None,
    ) -> int:
        """
        Add voters, add learners, remove members, all in one; returns the index of the change. See `SingleMaster`.

        Waits while another change, or the first entry of a new leader, is not committed yet: for *timeout* seconds, by
        default as long as for an acknowledgement. Raises MembersChanging if that is not enough: nothing was changed.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + (self.options.ack_timeout_ms / 1000 if timeout is None else timeout)

        def begin(token: object) -> None:
            self.core.change_members(
                self._clock.monotonic_ms(), self._clock.wall_ms(), token=token, add=tuple(add),
                learners=tuple(learners), remove=tuple(remove),
            )  # fmt: skip

        while True:
            left = None if timeout is None else ends - loop.time()
            try:
                return int((await self._ask(begin, left, "the change of members")).index)
            except MembersChanging as changing:
                try:
                    async with asyncio.timeout_at(ends):
                        await self._waiting.news()
                except TimeoutError:
                    raise changing from None

    def branches(self) -> list[BranchInfo]:
        """What was cut off this node's log and is kept, oldest first."""
        return self.core.branches()

    async def merge_branch(
        self, branch: str, resolver: Resolver | None = None, timeout: float | None = None
    ) -> events.Merged:
        """Merge a branch into the cluster by *resolver* (last writer wins, if None). Raises UnknownBranch."""
        merged: events.Merged = await self._ask(
            lambda token: self.core.merge_branch(
                branch, resolver or LastWriterWins(), self._clock.monotonic_ms(), token=token
            ),
            timeout,
            f"the merge of branch {branch!r}",
        )
        return merged

    def drop_branch(self, branch: str) -> None:
        """Forget a branch. Raises UnknownBranch."""
        self.core.drop_branch(branch)
        self._wake()

    def block(self, peer: str) -> None:
        """Cut the connection with *peer* and keep it cut: a drill for partitions. Raises UsageError."""
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

    def status(self) -> dict[str, Any]:
        """The state of this node, as plain data: role, term, log, members and their lag, branches, storage."""
        return single_master_status(self)

    def members(self) -> list[dict[str, Any]]:
        """One row a member, this node first."""
        return single_master_members(self)
