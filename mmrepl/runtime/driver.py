"""
The asyncio host of a multi-master core: sockets, the disk and the clock on one side, the pure core on the other.

Everything runs on the event loop but the commits, which run in one thread of their own. Once a turn of the loop, in
which as much may have happened as will, the driver asks the core what is to be done and does it: messages leave at
once, for the core speaks only of what is durable; at most one commit is under way, and what comes meanwhile is the
next. There is no timer in any of this but the core's own tick.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from mmrepl.effects import Effects, Persist
from mmrepl.errors import DiskFull, MmreplError, PeerError, StorageError, UsageError
from mmrepl.ports import Clock, Connection, Rng, Storage, Transport
from mmrepl.replication.multi_master import MultiMaster
from mmrepl.transport.backoff import Backoff
from mmrepl.types import Limits
from mmrepl.wire.codec import decode, encode
from mmrepl.wire.framing import FrameReader, encode_frame
from mmrepl.wire.messages import Message

DRAIN_SECONDS = 0.002
"""How often a connection whose buffer is full is looked at."""

LASTING_MS = 2_000
"""A connection that lived so long resets the back-off of its address."""

DISK_FULL_SECONDS = 1.0
"""How often a commit for which there was no room is tried again."""


class LinkHandler:
    """One connection: bytes to frames to messages to the core."""

    def __init__(self, driver: Driver, dialled: str) -> None:
        self._driver = driver
        self._dialled = dialled
        self._frames = FrameReader(driver.core.limits)
        self.number = driver.next_link()
        self.connection: Connection | None = None
        self.compression: str | None = None
        self.reason = ""
        self.made_ms = 0

    @property
    def dialled(self) -> str:
        """The address that we dialled; empty when the other side did."""
        return self._dialled

    def made(self, connection: Connection) -> None:
        """The stream is open."""
        self.connection = connection
        self._driver.link_made(self, self._dialled)

    def received(self, data: bytes) -> None:
        """Bytes, cut anywhere."""
        driver = self._driver
        try:
            for number, body in self._frames.feed(data):
                driver.message(self, decode(number, body, driver.core.limits))
        except PeerError as error:
            self.reason = f"{type(error).__name__}: {error}"
            assert self.connection is not None
            self.connection.close()
        driver.wake()

    def lost(self, reason: str) -> None:
        """The stream is gone."""
        self._driver.link_lost(self, self.reason or reason)


class Driver:
    """
    Runs one core. Started once, closed once, on one event loop.

    *notify* is called with each event of the core, on the loop, in order.
    """

    def __init__(
        self,
        core: MultiMaster,
        storage: Storage | None,
        transport: Transport,
        *,
        clock: Clock,
        rng: Rng,
        notify: Callable[[object], None],
        on_durable: Callable[[Exception | None], None],
    ) -> None:
        self.core = core
        self._storage = storage
        self._transport = transport
        self._clock = clock
        self._rng = rng
        self._notify = notify
        self._on_durable = on_durable
        self._loop = asyncio.get_running_loop()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="mmrepl-disk")
        self._links: dict[int, LinkHandler] = {}
        self._link_count = 0
        self._pump: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._wake_at: int | None = None
        self._committing: asyncio.Task[None] | None = None
        self._dialling: dict[str, asyncio.Task[None]] = {}
        self._backoffs: dict[str, Backoff] = {}  # of addresses where no connection has lasted lately
        self._greeting: dict[int, asyncio.Future[bool]] = {}  # dialled links that wait for the end of their hello
        self._congested: set[int] = set()
        self._closed = False
        self._told_end = 0
        self._looked_ms = 0  # when we last looked for addresses to dial
        self.failure: StorageError | None = None  # the disk failed: nothing more is acknowledged
        self.full: DiskFull | None = None  # there is no room: what was written waits for some

    @property
    def trouble(self) -> StorageError | None:
        """Why nothing can be written now; None when it can."""
        return self.failure if self.failure is not None else self.full

    def next_link(self) -> int:
        """A number for a new connection."""
        self._link_count += 1
        return self._link_count

    # -- turns

    def wake(self) -> None:
        """Something happened: take a turn before the loop waits again."""
        if self._pump is None and not self._closed:
            self._pump = self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._pump = None
        if self._closed:
            return
        now_ms = self._clock.monotonic_ms()
        self.core.tick(now_ms, self._clock.wall_ms())
        may_persist = self._committing is None and self.failure is None
        effects = self.core.ready(now_ms, self._clock.wall_ms(), may_persist=may_persist)
        self._do(effects)
        if self._greeting:
            self._note_greetings()
        if effects.close or effects.notify or now_ms - self._looked_ms >= self.core.limits.gossip_tick_ms:
            self._looked_ms = now_ms
            self._dial_whoever_is_missing()
        if effects.persist is not None:
            self._committing = self._loop.create_task(self._commit(effects.persist))
        elif self._storage is None and self.core.local.store.log.end != self._told_end:
            self._told_end = self.core.local.store.log.end  # in memory everything is durable at once
            self._on_durable(None)
        self._set_timer(effects.wake_at, now_ms)

    def _do(self, effects: Effects) -> None:
        encoded: dict[tuple[int, str | None], bytes] = {}
        for envelope in effects.send:
            handler = self._links.get(envelope.link)
            if handler is None or handler.connection is None:
                continue
            key = (id(envelope.message), handler.compression)
            data = encoded.get(key)
            if data is None:
                number, body = encode(envelope.message)  # type: ignore[arg-type]
                data = encode_frame(number, body, compression=handler.compression, limits=self.core.limits)
                encoded[key] = data
            handler.connection.send(data)
            if handler.connection.buffered_bytes > self.core.limits.outbound_bytes:
                self._congest(handler)
        for link, reason in effects.close:
            handler = self._links.get(link)
            if handler is not None and handler.connection is not None:
                handler.reason = reason
                handler.connection.close()
        for event in effects.notify:
            self._notify(event)

    def _set_timer(self, wake_at: int | None, now_ms: int) -> None:
        if wake_at is None:
            return
        if wake_at <= now_ms:
            self.wake()
        elif self._timer is None or self._timer.cancelled() or self._wake_at is None or wake_at < self._wake_at:
            if self._timer is not None:
                self._timer.cancel()
            self._wake_at = wake_at
            self._timer = self._loop.call_later((wake_at - now_ms) / 1000, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        self._wake_at = None
        self.wake()

    # -- the disk

    async def _commit(self, persist: Persist) -> None:
        assert self._storage is not None
        try:
            while True:
                try:
                    await self._loop.run_in_executor(
                        self._executor, self._storage.commit, persist.commit, persist.durability
                    )
                    break
                except DiskFull as full:
                    self.full = full
                    self._on_durable(None)
                    await asyncio.sleep(DISK_FULL_SECONDS)
        except StorageError as error:
            self.failure = error
            self._on_durable(error)
            return
        finally:
            self._committing = None
        self.full = None
        self.core.persisted(persist.position)
        self._on_durable(None)
        self.wake()

    async def backup(self, target: str) -> None:
        """A copy of what was committed, made on the disk's thread, between commits. Raises UsageError, StorageError."""
        if self._storage is None:
            raise UsageError("this node is in memory: there is no file to back up")
        await self._loop.run_in_executor(self._executor, self._storage.backup, target)

    # -- connections

    def link_made(self, handler: LinkHandler, dialled: str) -> None:
        """A connection is open."""
        self._links[handler.number] = handler
        handler.made_ms = self._clock.monotonic_ms()
        self.core.connected(handler.number, dialled, handler.made_ms, self._clock.wall_ms())
        self.wake()

    def message(self, handler: LinkHandler, message: Message) -> None:
        """A message came."""
        self.core.receive(handler.number, message, self._clock.monotonic_ms(), self._clock.wall_ms())

    def link_lost(self, handler: LinkHandler, reason: str) -> None:
        """A connection is gone."""
        self._links.pop(handler.number, None)
        if handler.dialled and self._clock.monotonic_ms() - handler.made_ms > LASTING_MS:
            self._backoffs.pop(handler.dialled, None)
        self._congested.discard(handler.number)
        greeting = self._greeting.pop(handler.number, None)
        if greeting is not None and not greeting.done():
            greeting.set_result(False)
        if not self._closed:
            self._looked_ms = 0
            self.core.disconnected(handler.number, reason, self._clock.monotonic_ms())
            self.wake()

    def compress(self, link: int, compression: str | None) -> None:
        """Compress what is sent on a link from now on."""
        handler = self._links.get(link)
        if handler is not None:
            handler.compression = compression

    def _congest(self, handler: LinkHandler) -> None:
        if handler.number not in self._congested:
            self._congested.add(handler.number)
            self.core.congested(handler.number, congested=True)
            self._loop.call_later(DRAIN_SECONDS, self._look_at, handler)

    def _look_at(self, handler: LinkHandler) -> None:
        if handler.number not in self._congested or handler.connection is None or self._closed:
            return
        if handler.connection.buffered_bytes > self.core.limits.outbound_bytes // 2:
            self._loop.call_later(DRAIN_SECONDS, self._look_at, handler)
            return
        self._congested.discard(handler.number)
        self.core.congested(handler.number, congested=False)
        self.wake()

    # -- dialling

    def dial_again(self) -> None:
        """Somebody may be reached now who could not be: look for the missing at once, and without back-off."""
        self._backoffs = {address: backoff for address, backoff in self._backoffs.items() if address in self._dialling}
        self._looked_ms = 0
        self.wake()

    def _dial_whoever_is_missing(self) -> None:
        """One task an address that should be connected and is not; each dials for ever, with back-off."""
        for address in self.core.missing_addresses():
            if address not in self._dialling:
                self._dialling[address] = self._loop.create_task(self._dial(address))

    async def _dial(self, address: str) -> None:
        limits: Limits = self.core.limits
        backoff = self._backoffs.get(address)
        if backoff is None:
            backoff = self._backoffs[address] = Backoff(limits.reconnect_ms_min, limits.reconnect_ms_max, self._rng)
        try:
            while not self._closed and address in self.core.missing_addresses():
                if backoff.attempts:
                    await asyncio.sleep(backoff.next_ms() / 1000)
                else:
                    backoff.next_ms()  # at once, the first time
                try:
                    handler = LinkHandler(self, address)
                    await self._transport.connect(address, handler)
                except (OSError, MmreplError):
                    continue
                if await self._greeted(handler):
                    return
        finally:
            self._dialling.pop(address, None)
            self._looked_ms = 0
            self.wake()

    def _note_greetings(self) -> None:
        for number in [number for number in self._greeting if self.core.is_up(number)]:
            self._greeting.pop(number).set_result(True)

    async def _greeted(self, handler: LinkHandler) -> bool:
        """Whether the connection got past its hello; returns when that is known."""
        if handler.number not in self._links:
            return False
        self._greeting[handler.number] = self._loop.create_future()
        self.wake()
        return await self._greeting[handler.number]

    # -- the end

    async def close(self) -> None:
        """Commit what there is, close every connection, end every task."""
        if self._closed:
            return
        while self._committing is not None:
            if self.full is not None:
                self._committing.cancel()
            await asyncio.wait([self._committing])
        if self.failure is None and self._storage is not None and self.full is None:
            persist = self.core.local.take_persist()
            if persist is not None:
                await self._commit(persist)
        self._closed = True
        for task in list(self._dialling.values()):
            task.cancel()
        await asyncio.gather(*self._dialling.values(), return_exceptions=True)
        for handle in (self._pump, self._timer):
            if handle is not None:
                handle.cancel()
        await self._transport.close()
        if self._storage is not None:
            await self._loop.run_in_executor(self._executor, self._storage.close)
        self._executor.shutdown(wait=True)
