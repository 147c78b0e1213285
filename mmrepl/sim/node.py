"""
A simulated node of a multi-master cluster: a host with a store, and all that is noted of it.

It opens the store, takes clients' writes and reads, and tells the history what became part of the store, what was
acknowledged and what its disk holds. How it runs is the business of `mmrepl.sim.host`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from mmrepl.causality.context import CausalContext
from mmrepl.causality.version_vector import EMPTY, VersionVector
from mmrepl.effects import Persist
from mmrepl.errors import ClosedError, MmreplError, StoreCorrupt
from mmrepl.log.policy import LogPolicy
from mmrepl.ports import Durability
from mmrepl.replication import waiters
from mmrepl.replication.multi_master import MultiMaster, Options
from mmrepl.replication.opening import open_core
from mmrepl.resolvers import Resolver
from mmrepl.sim.disk import SimDisk, SimStorage
from mmrepl.sim.history import Acknowledged, Answered, Persisted, Refused, Shown, Stopped
from mmrepl.sim.host import SimHost
from mmrepl.sim.watch import Watch
from mmrepl.store.read import Read, read
from mmrepl.types import DEFAULT_LIMITS, Limits
from mmrepl.wire.messages import Delta, Message

if TYPE_CHECKING:
    from mmrepl.sim.cluster import Cluster


@frozen(kw_only=True)
class Settings:
    """What all nodes of a cluster have in common."""

    default: Resolver | None = None
    tables: Mapping[str, Resolver] = field(factory=dict)
    limits: Limits = DEFAULT_LIMITS
    log_operations: int = 1_000_000  # the log is cut when longer
    cut_operations: int = 4096  # and when so many operations are stable
    secret: bytes | None = None
    compression: str | None = None
    durability: Durability = Durability.SYNC  # of what is received
    disk_ms: int = 0  # how long a synced commit takes
    rejoin: bool = True


class SimNode(SimHost[MultiMaster]):
    """One node over its lives."""

    def __init__(self, cluster: Cluster, name: str, address: str, expected: tuple[str, ...], *, mesh: bool) -> None:
        super().__init__(cluster, name, address, expected, mesh=mesh, disk_ms=cluster.settings.disk_ms)
        self.cluster = cluster
        self.durable_version = EMPTY  # what its disk holds
        self.synced_version = EMPTY  # and would hold after a loss of power
        self.once_durable = EMPTY  # all that was ever on it
        self.has_lost = False  # whether it ever lost anything
        self.held_bytes_max = 0
        self.refusals: Counter[str] = Counter()
        self._acks: list[tuple[int, Any]] = []  # (position, token) of writes that wait for the local disk
        self._watch: Watch | None = None

    @property
    def store_core(self) -> MultiMaster:
        """The core. Raises ClosedError while the node is down."""
        return self.running

    # -- lives

    def open(self) -> MultiMaster:
        """A damaged store is given up: its node begins anew, and peers refill it."""
        cluster, settings = self.cluster, self.cluster.settings
        rng = cluster.world.dice("core", self.name, str(self.life))
        while True:
            self._storage = SimStorage(self.disk)
            try:
                local, meta, doubt = open_core(
                    self.name, self._storage, rng, default=settings.default, tables=settings.tables,
                    limits=settings.limits, retain=True,
                )  # fmt: skip
                break
            except StoreCorrupt as error:
                cluster.fired["damage found"] += 1
                self.note("damaged", str(error))
                self.wiped()
                cluster.forgive(self.name, "damaged")
        options = Options(
            cluster="sim", address=self.address, expected=self.expected, secret=settings.secret,
            log=LogPolicy(operations=settings.log_operations), cut_operations=settings.cut_operations,
            durability=settings.durability, rejoin=settings.rejoin,
        )  # fmt: skip
        local.store.keyspace.observed = False  # the checkers see siblings by themselves
        core = MultiMaster(local, rng, options, dict(meta), self.clock.monotonic_ms())
        before = self.durable_version
        self.durable_version = self.synced_version = local.store.version
        self.once_durable = self.once_durable.join(self.durable_version)  # what was on its way when the process died
        if not self.durable_version.descends(before):
            cluster.forgive(self.name, "opened with less")
        self._watch = Watch(self, local.store, doubt or "opened")
        self.note("started", local.store.node, doubt or "")
        return core

    def stop(self, why: str, *, power: bool = False) -> None:
        """The process ends at once; with *power*, so does the machine."""
        if self.core is not None:
            self.cluster.history.add(Stopped(self.cluster.world.now_ms, self.name, why))
        super().stop(why, power=power)

    def ended(self, why: str, *, power: bool) -> None:
        """Who waits for the disk waits no longer; what the machine took with it is forgiven."""
        self._acks.clear()
        if power:
            self.durable_version = self.synced_version
            self.cluster.forgive(self.name, why)

    def wiped(self) -> None:
        """Nothing is durable any more."""
        super().wiped()
        self.durable_version = self.synced_version = EMPTY

    def leaves(self) -> bool:
        """Tell every peer that it goes for good."""
        self.store_core.leave()
        self._wake()
        return True

    def copied(self) -> tuple[SimDisk, VersionVector]:
        """The disk, and what is durable on it."""
        return self.disk.copy(), self.durable_version

    def put_back(self, copy: tuple[SimDisk, VersionVector], doubt: str | None) -> None:
        """What is durable is what was then."""
        disk, version = copy
        self.disk.restore(disk, doubt)
        self.durable_version = self.synced_version = version

    def started_over(self) -> None:
        """The core has another log: who waits for the disk waits for positions that mean nothing any more."""
        self._acks.clear()

    # -- what clients do

    def write(
        self,
        table: str,
        key: str,
        payload: bytes | None,
        *,
        context: CausalContext | None = None,
        durability: Durability = Durability.SYNC,
        acks: int | str = 1,
        session: int = 0,
    ) -> int:
        """Write or delete, in this millisecond's turn; returns the dot's counter. Errors are the core's."""
        core = self.store_core
        if self.paused:
            raise ClosedError(f"{self.name} stands still: resume it first")
        store = core.local.store
        assert self._watch is not None
        try:
            counter = core.put(store.table(table), key, payload, self.clock.wall_ms(), context, durability)
        except MmreplError as error:
            why = type(error).__name__
            self.refusals[why] += 1
            self.cluster.history.add(Refused(self.cluster.world.now_ms, self.name, (table, key), why))
            raise
        self._watch.look(session)
        dot = store.log.dot(store.own.index << 47 | counter)
        if core.local.answers_at_once(durability):
            self.cluster.history.add(Answered(self.cluster.world.now_ms, self.name, dot))
        if acks == 1:
            self._acks.append((store.log.end, (dot, 1)))
        else:
            core.wait_for(counter, acks, (dot, acks))
        self._wake()
        return counter

    def read(self, table: str, key: str, session: int = 0) -> Read:
        """Read a key as its table's resolver shows it."""
        store = self.store_core.local.store
        found = read(store, store.table(table), key)
        siblings = tuple((s.dot, s.timestamp, s.payload) for s in found.siblings)
        self.cluster.history.add(
            Shown(self.cluster.world.now_ms, self.name, session, (table, key), store.version, siblings, found.payload)
        )
        return found

    # -- what happens

    def looked(self, via: str = "") -> None:
        """See what became part of the store, and how much of what came early is held."""
        assert self._watch is not None
        self._watch.look(via=via)
        if via:
            peer = self.running.peers.get(via)
            if peer is not None and peer.held_bytes > self.held_bytes_max:
                self.held_bytes_max = peer.held_bytes

    def received(self, source: str, message: Message) -> None:
        """Note it."""
        if isinstance(message, Delta):
            self.note("got", source, "Delta", message.batch.dot_count)
        else:
            super().received(source, message)

    def notified(self, event: object) -> None:
        """Note it; an acknowledgement is for whoever judges."""
        if isinstance(event, waiters.Acknowledged):
            self._acknowledged(*event.token)  # type: ignore[misc]
        else:
            super().notified(event)

    def _acknowledged(self, dot: Any, wanted: int | str) -> None:
        cluster = self.cluster
        assert self.core is not None
        count = wanted if isinstance(wanted, int) else waiters.needed(wanted, len(self.core.members.names()))
        holders = cluster.holders(dot)
        cluster.history.add(Acknowledged(cluster.world.now_ms, self.name, dot, count, holders))
        self.note("acked", dot, count)
        cluster.acknowledged(self, dot)

    def committed(self, persist: Persist) -> None:
        """Note what is on the disk now, and answer the writers who waited for it."""
        cluster, local = self.cluster, self.running.local
        self.durable_version = local.durable_vector
        self.once_durable = self.once_durable.join(self.durable_version)
        if persist.durability is not Durability.NONE:
            self.synced_version = self.durable_version
        cluster.history.add(Persisted(cluster.world.now_ms, self.name, self.durable_version))
        while self._acks and self._acks[0][0] <= local.durable:
            self._acknowledged(*self._acks.pop(0)[1])
