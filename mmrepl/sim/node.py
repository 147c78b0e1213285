"""
A simulated node: the host of one core, as the driver is on a real network.

It opens the store, calls the core's verbs, takes its effects in their order, dials and dials again; it can be told to
die after any of the effects, to stand still, to forget. What happens it writes into the history and the trace.

What comes in one millisecond is one turn. A commit takes as long as the disk takes, and one at a time is under way.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from mmrepl.causality.context import CausalContext
from mmrepl.causality.version_vector import EMPTY
from mmrepl.effects import Envelope, Persist
from mmrepl.errors import ClosedError, DiskFull, MmreplError, PeerError, StoreCorrupt, StoreFailed
from mmrepl.log.policy import LogPolicy
from mmrepl.ports import Durability
from mmrepl.replication import waiters
from mmrepl.replication.multi_master import MultiMaster, Options
from mmrepl.replication.opening import open_core
from mmrepl.resolvers import Resolver
from mmrepl.sim.clocks import SimClock
from mmrepl.sim.dialling import Dialler
from mmrepl.sim.disk import SimDisk, SimStorage
from mmrepl.sim.history import Acknowledged, Persisted, Refused, Shown, Stopped
from mmrepl.sim.watch import Watch
from mmrepl.store.read import Read, read
from mmrepl.types import DEFAULT_LIMITS, Limits
from mmrepl.wire.codec import decode, encode
from mmrepl.wire.framing import FrameReader, encode_frame
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


class Died(Exception):
    """The node was told to die at this effect."""


class SimNode:
    """One node over its lives. *wanted* are the addresses that it dials; None: every member's that it knows."""

    def __init__(self, cluster: Cluster, name: str, address: str, expected: tuple[str, ...], *, mesh: bool) -> None:
        self.cluster = cluster
        self.name = name
        self.address = address
        self.expected = expected
        self.mesh = mesh
        self.disk = SimDisk()
        self.clock = SimClock(cluster.world, started_at_ms=cluster.world.dice("start", name).randrange(1_000_000))
        self.core: MultiMaster | None = None
        self.paused = False
        self.disk_ms = cluster.settings.disk_ms
        self.slow_ms = 0  # how late a timer may fire
        self.life = 0  # how often it was started
        self.die_after: int | None = None  # effects to go
        self.durable_version = EMPTY  # what its disk holds
        self.synced_version = EMPTY  # and would hold after a loss of power
        self.once_durable = EMPTY  # all that was ever on it
        self.has_lost = False  # whether it ever lost anything
        self.held_bytes_max = 0
        self.refusals: Counter[str] = Counter()
        self._rng = cluster.world.dice("host", name)
        self._storage: SimStorage | None = None
        self._readers: dict[int, FrameReader] = {}
        self._links: dict[int, str] = {}  # link -> dialled
        self._dialler = Dialler(self)
        self._inbox: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._turn_due = False
        self._timer_ms: int | None = None
        self._committing: Persist | None = None
        self._writing = False  # a record is written and not synced
        self._acks: list[tuple[int, Any]] = []  # (position, token) of writes that wait for the local disk
        self._congested: set[int] = set()
        self._watch: Watch | None = None
        self._encoded: tuple[object, bytes] = (None, b"")

    # -- lives

    @property
    def is_up(self) -> bool:
        """Whether its process runs, standing still or not."""
        return self.core is not None

    @property
    def store_core(self) -> MultiMaster:
        """The core. Raises ClosedError while the node is down."""
        if self.core is None:
            raise ClosedError(f"{self.name} is down: restart it first")
        return self.core

    def start(self) -> None:
        """Open the store and begin to talk. A damaged store is given up: its node begins anew, and peers refill it."""
        assert self.core is None
        cluster, settings = self.cluster, self.cluster.settings
        self.life += 1
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
                self.disk.wipe()
                self.durable_version = self.synced_version = EMPTY
                cluster.forgive(self.name, "damaged")
        options = Options(
            cluster="sim", address=self.address, expected=self.expected, secret=settings.secret,
            log=LogPolicy(operations=settings.log_operations), cut_operations=settings.cut_operations,
            durability=settings.durability, rejoin=settings.rejoin,
        )  # fmt: skip
        self.core = MultiMaster(local, rng, options, dict(meta), self.clock.monotonic_ms())
        before = self.durable_version
        self.durable_version = self.synced_version = local.store.version
        if not self.durable_version.descends(before):
            cluster.forgive(self.name, "opened with less")
        self._watch = Watch(self, local.store, doubt or "opened")
        self.note("started", local.store.node, doubt or "")
        cluster.network.endpoints[self.name] = self
        cluster.network.addresses[self.address] = self.name
        self._dialler.dials.clear()
        self._timer_ms = None
        self._wake()
        cluster.world.after(self._rng.randrange(1, 50), self._dialler.look, self.life)
        self._set_timer(self.clock.monotonic_ms() + self._rng.randrange(1, settings.limits.gossip_tick_ms + 1))

    def stop(self, why: str, *, power: bool = False) -> None:
        """The process ends at once; with *power*, so does the machine."""
        if self.core is None:
            return
        cluster = self.cluster
        self._note_held()
        self.core = None
        self.paused = False
        self.die_after = None
        cluster.history.add(Stopped(cluster.world.now_ms, self.name, why))
        self.note("stopped", why)
        if self._writing and not power and self._rng.random() < 0.5:
            self.disk.unwrite()
        if power:
            lost = self.disk.lose_power(self._rng)
            cluster.fired["unsynced lost"] += lost
            self.durable_version = self.synced_version
        self.disk.holder = None
        self._storage = None
        self._committing, self._writing = None, False
        cluster.network.endpoints.pop(self.name, None)
        cluster.network.cut_all(self.name, f"{self.name} is gone")
        for held in (self._readers, self._links, self._dialler.dials, self._inbox, self._acks, self._congested):
            held.clear()
        if power:
            cluster.forgive(self.name, why)

    def pause(self) -> None:
        """Stand still: nothing is heard or done; the clocks go on."""
        self.paused = True

    def resume(self) -> None:
        """Go on: what came meanwhile is heard now."""
        if not self.paused:
            return
        self.paused = False
        while self._inbox and self.core is not None:
            action, arguments = self._inbox.popleft()
            action(*arguments)
        self._wake()
        self._timer_fired(self.life, self._timer_ms)

    def started_over(self) -> None:
        """The core has another log: who waits for the disk waits for positions that mean nothing any more."""
        self._acks.clear()

    def note(self, what: str, *rest: Any) -> None:
        """A line of the trace."""
        self.cluster.trace.add(self.cluster.world.now_ms, self.name, what, *rest)

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

    # -- turns

    def _wake(self) -> None:
        if not self._turn_due:
            self._turn_due = True
            self.cluster.world.after(0, self._turn, self.life)

    def _turn(self, life: int) -> None:
        if life != self.life or self.core is None:
            self._turn_due = False
            return
        self._turn_due = False
        if self.paused:
            return
        try:
            self._take_turn(self.core)
        except Died:
            self.cluster.fired["crashed at an effect"] += 1
            self.stop("crashed")
            self.cluster.crashed(self)
        except StoreFailed as error:
            self.cluster.fired["disk failed"] += 1
            self.stop(f"its disk failed: {error}")
            self.cluster.crashed(self)

    def _take_turn(self, core: MultiMaster) -> None:
        assert self._watch is not None
        clock = self.clock
        while True:
            effects = core.ready(clock.monotonic_ms(), clock.wall_ms(), may_persist=self._committing is None)
            if effects.persist is not None:
                self._commit(effects.persist)
            for envelope in effects.send:
                self._step()
                self._send(envelope)
            for link, reason in effects.close:
                self._step()
                self._close(link, reason)
            for event in effects.notify:
                self._step()
                self._notify(event)
            if not effects:
                break
        self._watch.look()
        if effects.wake_at is not None:
            self._set_timer(effects.wake_at)

    def _step(self) -> None:
        """One effect further; the point at which it may have been told to die."""
        if self.die_after is not None:
            self.die_after -= 1
            if self.die_after < 0:
                raise Died

    def _notify(self, event: object) -> None:
        if isinstance(event, waiters.Acknowledged):
            self._acknowledged(*event.token)  # type: ignore[misc]
        else:
            self.note("event", event)

    def _acknowledged(self, dot: Any, wanted: int | str) -> None:
        cluster = self.cluster
        assert self.core is not None
        count = wanted if isinstance(wanted, int) else waiters.needed(wanted, len(self.core.members.names()))
        holders = cluster.holders(dot)
        cluster.history.add(Acknowledged(cluster.world.now_ms, self.name, dot, count, holders))
        self.note("acked", dot, count)

    # -- the disk

    def _commit(self, persist: Persist) -> None:
        self._committing = persist
        self._step()
        self._try_to_commit(self.life)

    def _try_to_commit(self, life: int) -> None:
        persist, storage = self._committing, self._storage
        if life != self.life or self.core is None or persist is None or storage is None:
            return
        try:
            storage.write(persist.commit, persist.durability)
        except DiskFull:
            self.cluster.fired["disk full"] += 1
            self.cluster.world.after(100, self._retry_commit, life)
            return
        self._writing = True
        if self.disk_ms and persist.durability is not Durability.NONE:
            self.cluster.world.after(self.disk_ms, self._committed, life)
        else:
            self._step()
            self._finish_commit()

    def _retry_commit(self, life: int) -> None:
        try:
            self._try_to_commit(life)
        except StoreFailed as error:
            self.stop(f"its disk failed: {error}")
            self.cluster.crashed(self)
        except Died:
            self.stop("crashed")
            self.cluster.crashed(self)

    def _committed(self, life: int) -> None:
        if life == self.life and self.core is not None:
            self._finish_commit()
            self._wake()

    def _finish_commit(self) -> None:
        persist, core, cluster = self._committing, self.core, self.cluster
        assert persist is not None
        assert core is not None
        assert self._storage is not None
        self._storage.finish(persist.durability)
        self._committing, self._writing = None, False
        core.persisted(persist.position)
        self.durable_version = core.local.durable_vector
        self.once_durable = self.once_durable.join(self.durable_version)
        if persist.durability is not Durability.NONE:
            self.synced_version = self.durable_version
        cluster.history.add(Persisted(cluster.world.now_ms, self.name, self.durable_version))
        durable = core.local.durable
        while self._acks and self._acks[0][0] <= durable:
            self._acknowledged(*self._acks.pop(0)[1])
        self._wake()

    # -- connections

    def opened(self, link: int, dialled: str) -> None:
        """A connection is there."""
        if self._defer(self.opened, link, dialled):
            return
        core = self.core
        if core is None or not self.cluster.network.is_open(link):
            return
        if dialled:
            dial = self._dialler.dials.get(dialled)
            if dial is not None:
                dial.link = link
        self._links[link] = dialled
        self._readers[link] = FrameReader(core.limits)
        core.connected(link, dialled, self.clock.monotonic_ms(), self.clock.wall_ms())
        self._wake()

    def arrived(self, link: int, data: bytes) -> None:
        """Bytes came."""
        if self._defer(self.arrived, link, data):
            return
        core = self.core
        reader = self._readers.get(link)
        if core is None or reader is None:
            return
        datagrams = self.cluster.network.datagrams
        if datagrams:
            reader = FrameReader(core.limits)
        try:
            for number, body in reader.feed(data):
                self._receive(core, link, decode(number, body, core.limits))
            if datagrams:
                reader.finish()
        except PeerError as error:
            self.cluster.fired["bad frame"] += 1
            if not datagrams:
                self._close(link, f"{type(error).__name__}: {error}")
        self._wake()

    def _receive(self, core: MultiMaster, link: int, message: Message) -> None:
        assert self._watch is not None
        cluster = self.cluster
        source = cluster.network.other_side(link)
        name = type(message).__name__
        cluster.messages[name] += 1
        if isinstance(message, Delta):
            self.note("got", source, name, message.batch.dot_count)
        else:
            self.note("got", source, name)
        core.receive(link, message, self.clock.monotonic_ms(), self.clock.wall_ms())
        self._watch.look(via=source)

    def broke(self, link: int, reason: str) -> None:
        """The connection is gone."""
        if self._defer(self.broke, link, reason):
            return
        if self._forget_link(link) and self.core is not None:
            self.note("lost", reason)
            self.core.disconnected(link, reason, self.clock.monotonic_ms())
            self._wake()

    def drained(self, link: int) -> None:
        """The other side has taken something."""
        core = self.core
        if link not in self._congested or core is None:
            return
        if self.cluster.network.buffered(link) <= core.limits.outbound_bytes // 2:
            self._congested.discard(link)
            core.congested(link, congested=False)
            self._wake()

    def _defer(self, action: Callable[..., None], *arguments: Any) -> bool:
        if self.paused:
            self._inbox.append((action, arguments))
        return self.paused

    def _send(self, envelope: Envelope) -> None:
        if envelope.link not in self._links:
            return
        cluster = self.cluster
        if self._encoded[0] is not envelope.message:
            number, body = encode(envelope.message)  # type: ignore[arg-type]
            frame = encode_frame(number, body, compression=cluster.settings.compression, limits=cluster.settings.limits)
            self._encoded = (envelope.message, frame)
        cluster.network.send(envelope.link, self._encoded[1])
        core = self.core
        assert core is not None
        if (
            cluster.network.buffered(envelope.link) > core.limits.outbound_bytes
            and envelope.link not in self._congested
        ):
            self._congested.add(envelope.link)
            core.congested(envelope.link, congested=True)
            cluster.fired["congested"] += 1

    def _close(self, link: int, reason: str) -> None:
        """We end a connection."""
        if self._forget_link(link) and self.core is not None:
            self.note("closed", reason)
            self.cluster.network.close(link, reason)
            self.core.disconnected(link, reason, self.clock.monotonic_ms())

    def _forget_link(self, link: int) -> bool:
        self._readers.pop(link, None)
        self._congested.discard(link)
        for dial in self._dialler.dials.values():
            if dial.link == link:
                dial.busy, dial.link = False, None
                dial.not_before_ms = self.cluster.world.now_ms + dial.backoff.next_ms()
        return self._links.pop(link, None) is not None

    # -- time

    def _set_timer(self, wake_at: int) -> None:
        at = max(self.clock.world_ms(wake_at), self.cluster.world.now_ms + 1)
        if self.slow_ms:
            at += self._rng.randrange(self.slow_ms)
        if self._timer_ms is None or at < self._timer_ms:
            self._timer_ms = at
            self.cluster.world.at(at, self._timer_fired, self.life, at)

    def _timer_fired(self, life: int, at: int | None) -> None:
        if life != self.life or self.core is None or at != self._timer_ms or self.paused:
            return
        assert self._watch is not None
        self._timer_ms = None
        self._note_held()
        self.core.tick(self.clock.monotonic_ms(), self.clock.wall_ms())
        self._watch.look()
        self._wake()

    def _note_held(self) -> None:
        if self.core is not None:
            for peer in self.core.peers.values():
                self.held_bytes_max = max(self.held_bytes_max, peer.held_bytes)
