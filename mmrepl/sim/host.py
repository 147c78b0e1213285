"""
A simulated host: a process with one core, as the driver is on a real network.

It takes the core's effects in their order, commits them to its disk, sends and receives over the simulated network,
dials and dials again; it can be told to die after any of the effects, and to stand still. What a core is for, how it is
opened, and what is noted of it is the business of its kinds: `mmrepl.sim.node` has the one for multi-master cores.

What comes in one millisecond is one turn. A commit takes as long as the disk takes, and one at a time is under way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mmrepl.effects import Envelope, HostedCore, Persist
from mmrepl.errors import ClosedError, DiskFull, PeerError, StoreFailed
from mmrepl.ports import Durability
from mmrepl.sim.clocks import SimClock
from mmrepl.sim.dialling import Dialler
from mmrepl.sim.disk import SimDisk, SimStorage
from mmrepl.wire.codec import decode, encode
from mmrepl.wire.framing import FrameReader, decode_frames, encode_frame
from mmrepl.wire.messages import Message

if TYPE_CHECKING:
    from mmrepl.sim.stage import Stage


class Died(Exception):
    """The host was told to die at this effect."""


ROUNDS_MAX = 10_000
"""A core that has effects so many times in one turn will always have more: that is a defect, and no work."""

CoreT = TypeVar("CoreT", bound=HostedCore)


class SimHost(ABC, Generic[CoreT]):
    """
    One process over its lives. *expected* are the addresses that it was configured with.

    With *mesh* it dials every member that it knows, else its neighbours only.
    """

    def __init__(
        self, stage: Stage[Any], name: str, address: str, expected: tuple[str, ...], *, mesh: bool, disk_ms: int = 0
    ) -> None:
        self.stage = stage
        self.name = name
        self.address = address
        self.expected = expected
        self.mesh = mesh
        self.disk = SimDisk()
        self.clock = SimClock(stage.world, started_at_ms=stage.world.dice("start", name).randrange(1_000_000))
        self.core: CoreT | None = None
        self.paused = False
        self.disk_ms = disk_ms
        self.slow_ms = 0  # how late a timer may fire
        self.life = 0  # how often it was started
        self.die_after: int | None = None  # effects to go
        self._rng = stage.world.dice("host", name)
        self._storage: SimStorage | None = None
        self._readers: dict[int, FrameReader] = {}
        self._links: dict[int, str] = {}  # link -> dialled
        self._dialler = Dialler(self)
        self._inbox: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._turn_due = False
        self._has_news = False  # whether anything happened since the last turn
        self._timer_ms: int | None = None
        self._committing: Persist | None = None
        self._writing = False  # a record is written and not synced
        self._congested: set[int] = set()
        self._encoded: tuple[object, bytes] = (None, b"")

    # -- what its kind adds

    @abstractmethod
    def open(self) -> CoreT:
        """Open the store, and make the core. Called at each `start`."""

    def looked(self, via: str = "") -> None:
        """The core was told something: a message *via* a peer, or the time."""

    def notified(self, event: object) -> None:
        """The core tells of something."""
        self.note("event", event)

    def committed(self, persist: Persist) -> None:
        """A commit has come to its end."""

    def received(self, source: str, message: Message) -> None:
        """A message came from *source*; the core has not been told yet."""
        self.note("got", source, type(message).__name__)

    def ended(self, why: str, *, power: bool) -> None:
        """The process is gone, its disk as it will be found again."""

    def wiped(self) -> None:
        """Everything on the disk is lost."""
        self.disk.wipe()

    def leaves(self) -> bool:
        """Say farewell, for good, if that can be said."""
        return False

    def copied(self) -> Any:
        """A copy of the disk, with whatever else `put_back` needs."""
        return self.disk.copy()

    def put_back(self, copy: Any, doubt: str | None) -> None:
        """Set the disk back to an earlier copy of it; *doubt* is what its node is told of that, if anything."""
        self.disk.restore(copy, doubt)

    # -- lives

    @property
    def is_up(self) -> bool:
        """Whether its process runs, standing still or not."""
        return self.core is not None

    @property
    def running(self) -> CoreT:
        """The core. Raises ClosedError while the host is down."""
        if self.core is None:
            raise ClosedError(f"{self.name} is down: restart it first")
        return self.core

    @property
    def is_writing(self) -> bool:
        """Whether a commit is written, and not synced yet."""
        return self._writing

    def start(self) -> None:
        """Open the store and begin to talk."""
        assert self.core is None
        stage = self.stage
        self.life += 1
        self.core = core = self.open()
        stage.network.endpoints[self.name] = self
        stage.network.addresses[self.address] = self.name
        self._dialler.dials.clear()
        self._timer_ms = None
        self._wake()
        stage.world.after(self._rng.randrange(1, 50), self._dialler.look, self.life)
        self._set_timer(self.clock.monotonic_ms() + self._rng.randrange(1, core.limits.gossip_tick_ms + 1))

    def stop(self, why: str, *, power: bool = False) -> None:
        """The process ends at once; with *power*, so does the machine."""
        if self.core is None:
            return
        stage = self.stage
        self.core = None
        self.paused = False
        self.die_after = None
        self.note("stopped", why)
        if self._writing and not power and self._rng.random() < 0.5:
            self.disk.unwrite()
        if power:
            stage.fired["unsynced lost"] += self.disk.lose_power(self._rng)
        self.disk.holder = None
        self._storage = None
        self._committing, self._writing = None, False
        stage.network.endpoints.pop(self.name, None)
        stage.network.cut_all(self.name, f"{self.name} is gone")
        for held in (self._readers, self._links, self._dialler.dials, self._inbox, self._congested):
            held.clear()
        self.ended(why, power=power)

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

    def note(self, what: str, *rest: Any) -> None:
        """A line of the trace."""
        self.stage.trace.add(self.stage.world.now_ms, self.name, what, *rest)

    # -- turns

    def _wake(self) -> None:
        self._has_news = True
        if not self._turn_due:
            self._turn_due = True
            self.stage.world.after(0, self._turn, self.life)

    def _turn(self, life: int) -> None:
        self._turn_due = False
        # A commit that came to its end within a turn was seen to there: then nothing is left, but for a process that
        # is slow, which throws its dice in each turn.
        if life == self.life and self.core is not None and not self.paused and (self._has_news or self.slow_ms):
            self._dying(self._take_turn, self.core)

    def _dying(self, action: Callable[..., None], *arguments: Any) -> None:
        """Do what may end the process: it was told to die there, or its disk fails."""
        try:
            action(*arguments)
        except Died:
            self.stage.fired["crashed at an effect"] += 1
            self.stop("crashed")
            self.stage.crashed(self)
        except StoreFailed as error:
            self.stage.fired["disk failed"] += 1
            self.stop(f"its disk failed: {error}")
            self.stage.crashed(self)

    def _take_turn(self, core: CoreT) -> None:
        now, wall = self.clock.monotonic_ms(), self.clock.wall_ms()
        for _ in range(ROUNDS_MAX):
            self._has_news = False
            effects = core.ready(now, wall, may_persist=self._committing is None)
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
                self.notified(event)
            # Unless something came of it, the core has nothing to add; where it has more to send, it says so by a time.
            if not (self._has_news or effects.close or effects.wake_at == now) or not effects:
                break
        else:
            raise AssertionError(f"{self.name} does not come to rest: after {ROUNDS_MAX} rounds still {effects}")
        self.looked()
        if effects.wake_at is not None:
            self._set_timer(effects.wake_at)

    def _step(self) -> None:
        """One effect further; the point at which it may have been told to die."""
        if self.die_after is not None:
            self.die_after -= 1
            if self.die_after < 0:
                raise Died

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
            self.stage.fired["disk full"] += 1
            self.stage.world.after(100, self._dying, self._try_to_commit, life)
            return
        self._writing = True
        if self.disk_ms and persist.durability is not Durability.NONE:
            self.stage.world.after(self.disk_ms, self._committed, life)
        else:
            self._step()
            self._finish_commit()

    def _committed(self, life: int) -> None:
        if life == self.life and self.core is not None:
            self._finish_commit()
            self._wake()

    def _finish_commit(self) -> None:
        persist, core = self._committing, self.core
        assert persist is not None
        assert core is not None
        assert self._storage is not None
        self._storage.finish(persist.durability)
        self._committing, self._writing = None, False
        core.persisted(persist.position)
        self.committed(persist)
        self._wake()

    # -- connections

    def opened(self, link: int, dialled: str) -> None:
        """A connection is there."""
        if self._defer(self.opened, link, dialled):
            return
        core = self.core
        if core is None:
            return
        if not self.stage.network.is_open(link):  # it came and went while we stood still
            self._dialler.failed(self.life, dialled)
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
        if self.paused:
            self._inbox.append((self.arrived, (link, data)))
            return
        core = self.core
        reader = self._readers.get(link)
        if core is None or reader is None:
            return
        datagrams, limits = self.stage.network.datagrams, core.limits
        try:
            for number, body in decode_frames(data, limits) if datagrams else reader.feed(data):
                self._receive(core, link, decode(number, body, limits))
        except PeerError as error:
            self.stage.fired["bad frame"] += 1
            if not datagrams:
                self._close(link, f"{type(error).__name__}: {error}")
        self._wake()

    def _receive(self, core: CoreT, link: int, message: Message) -> None:
        source = self.stage.network.other_side(link)
        self.stage.messages[type(message).__name__] += 1
        self.received(source, message)
        core.receive(link, message, self.clock.monotonic_ms(), self.clock.wall_ms())
        self.looked(source)

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
        if self.stage.network.buffered(link) <= core.limits.outbound_bytes // 2:
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
        stage = self.stage
        if self._encoded[0] is not envelope.message:
            number, body = encode(envelope.message)  # type: ignore[arg-type]
            frame = encode_frame(number, body, compression=stage.compression, limits=stage.limits)
            self._encoded = (envelope.message, frame)
        stage.network.send(envelope.link, self._encoded[1])
        core = self.core
        assert core is not None
        if stage.network.buffered(envelope.link) > core.limits.outbound_bytes and envelope.link not in self._congested:
            self._congested.add(envelope.link)
            core.congested(envelope.link, congested=True)
            stage.fired["congested"] += 1

    def _close(self, link: int, reason: str) -> None:
        """We end a connection."""
        if self._forget_link(link) and self.core is not None:
            self.note("closed", reason)
            self.stage.network.close(link, reason)
            self.core.disconnected(link, reason, self.clock.monotonic_ms())

    def _forget_link(self, link: int) -> bool:
        self._readers.pop(link, None)
        self._congested.discard(link)
        for address, dial in self._dialler.dials.items():
            if dial.link == link:
                dial.link = None
                self._dialler.failed(self.life, address)
        return self._links.pop(link, None) is not None

    # -- time

    def _set_timer(self, wake_at: int) -> None:
        at = max(self.clock.world_ms(wake_at), self.stage.world.now_ms + 1)
        if self.slow_ms:
            at += self._rng.randrange(self.slow_ms)
        if self._timer_ms is None or at < self._timer_ms:
            self._timer_ms = at
            self.stage.world.at(at, self._timer_fired, self.life, at)

    def _timer_fired(self, life: int, at: int | None) -> None:
        if life != self.life or self.core is None or at != self._timer_ms or self.paused:
            return
        self._timer_ms = None
        self.core.tick(self.clock.monotonic_ms(), self.clock.wall_ms())
        self.looked()
        self._wake()
