"""
The asyncio host of a core, of either mode: sockets, the disk and the clock on one side, the pure core on the other.

Everything runs on the event loop but the commits, which have a thread of their own as far as it pays
(`mmrepl.runtime.disk`). Once a turn of the loop, in which as much may have happened as will, the driver asks the core
what is to be done and does it: messages leave at once, for the core speaks only of what is durable; at most one commit
is under way, and what comes meanwhile is the next. There is no timer in any of this but the core's own tick.

What is wrong with a peer costs its connection. What is wrong with the disk stops all writing: nothing more is
acknowledged. What is wrong with us, an exception that nobody foresaw in the core, stops the node: it says so to
everybody who waits, and does nothing more.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from mmrepl.effects import Effects, Envelope, HostedCore, Persist
from mmrepl.errors import DiskFull, MmreplError, StorageError, StoreFailed, UsageError
from mmrepl.ports import Clock, Rng, Storage, Transport
from mmrepl.replication.push import FRAMES_A_TURN
from mmrepl.runtime.disk import Disk, is_small
from mmrepl.runtime.link import Doorstep, LinkHandler
from mmrepl.transport.backoff import Backoff
from mmrepl.transport.guard import report
from mmrepl.types import Limits
from mmrepl.wire.codec import decode, encode
from mmrepl.wire.framing import Frame, encode_frame

DRAIN_SECONDS = 0.002
"""How often a connection whose buffer is full is looked at."""

JOINED_BYTES = 64 * 1024
"""Frames for one connection that are no larger together leave as one: a copy costs less than a system call."""

LASTING_MS = 2_000
"""A connection that lived so long resets the back-off of its address."""

CROSSING_SECONDS = 0.02
"""When a connection of ours is refused for another one that proves to be none, the two have crossed: try again soon."""

CROSSINGS = 5
"""So often, before it counts as a failure as any other."""

DISK_FULL_SECONDS = 1.0
"""How often a commit for which there was no room is tried again."""


class Driver:
    """
    Runs one core. Started once, closed once, on one event loop.

    *notify* is called with each event of the core, on the loop, in order. *on_durable* when more has become durable,
    or with the error that keeps what waits from becoming so. *on_tick* once a gossip tick.
    """

    def __init__(
        self,
        core: HostedCore,
        storage: Storage | None,
        transport: Transport,
        *,
        clock: Clock,
        rng: Rng,
        notify: Callable[[object], None],
        on_durable: Callable[[Exception | None], None],
        on_tick: Callable[[], None],
    ) -> None:
        self.core = core
        self._storage = storage
        self._transport = transport
        self._clock = clock
        self._rng = rng
        self._notify = notify
        self._on_durable = on_durable
        self._on_tick = on_tick
        self._loop = asyncio.get_running_loop()
        self._disk = Disk(storage)
        self._links: dict[int, LinkHandler] = {}
        self._link_count = 0
        self._pump: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._wake_at: int | None = None
        self._committing: Persist | None = None  # with the disk's thread, or to be given to it again
        self._committed_once: asyncio.Future[None] | None = None  # done at the end of the attempt under way; to close
        self._retry: asyncio.TimerHandle | None = None  # of a commit for which there was no room
        self._dialling: dict[str, asyncio.Task[None]] = {}
        self._backoffs: dict[str, Backoff] = {}  # of addresses where no connection has lasted lately
        self._again = asyncio.Event()  # replaced whenever back-off is to be cut short
        self._greeting: dict[int, asyncio.Future[bool]] = {}  # dialled links that wait for the end of their hello
        self._congested: set[int] = set()
        self.doorstep = Doorstep(core.limits.peers)
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
        try:
            self._take_turn()
        except Exception as error:  # noqa: BLE001 - a broken invariant: to go on would be to go on wrong
            self._stop(error)

    def _stop(self, error: Exception) -> None:
        report(self._loop, "a turn of the node", error, "the node stops")
        self.failure = StoreFailed(
            f"this node has stopped for a defect of its own ({type(error).__name__}: {error}): what it had not"
            " confirmed may or may not be there when it is started again"
        )
        self._on_durable(self.failure)
        self._quiet()
        for handler in list(self._links.values()):
            handler.close("the node has stopped")

    def _quiet(self) -> None:
        """No more turns, nobody is dialled."""
        self._closed = True
        for task in self._dialling.values():
            task.cancel()
        for handle in (self._pump, self._timer):
            if handle is not None:
                handle.cancel()

    def _take_turn(self) -> None:
        now_ms, wall_ms = self._clock.monotonic_ms(), self._clock.wall_ms()
        core = self.core
        core.tick(now_ms, wall_ms)
        may_persist = self._may_persist()
        if may_persist and self._disk.is_quick:
            may_persist = self._commit_first()
        effects = core.ready(now_ms, wall_ms, may_persist=may_persist)
        if effects.persist is not None:
            self._commit(effects.persist)  # first: the disk works while we send, and nothing of that waits for it
        self._do(effects)
        if self._greeting or self.doorstep:
            self._note_greetings()
        is_due = bool(effects.close) or now_ms - self._looked_ms >= core.limits.gossip_tick_ms
        if is_due or any(map(_is_news, effects.notify)):
            self._looked_ms = now_ms
            self._dial_whoever_is_missing()
        if is_due or effects.notify:
            self._on_tick()
        if self._storage is None and core.local.end != self._told_end:
            self._told_end = core.local.end  # in memory everything is durable at once
            self._on_durable(None)
        self._set_timer(effects.wake_at, now_ms)

    def _do(self, effects: Effects) -> None:
        if effects.send:
            self._send(effects.send)
        for link, reason in effects.close:
            handler = self._links.get(link)
            if handler is not None and handler.connection is not None:
                handler.reason = reason
                handler.connection.close()
        for event in effects.notify:
            self._notify(event)

    def _send(self, envelopes: tuple[Envelope, ...]) -> None:
        """Each connection gets all that is for it, in one piece if that is small; what many get is encoded once."""
        encoded: dict[tuple[int, str | None], bytes] = {}
        pieces: dict[LinkHandler, list[bytes]] = {}
        for envelope in envelopes:
            handler = self._links.get(envelope.link)
            if handler is None or handler.connection is None:
                continue
            key = (id(envelope.message), handler.compression)
            data = encoded.get(key)
            if data is None:
                number, body = encode(envelope.message)  # type: ignore[arg-type]
                try:
                    data = encode_frame(number, body, compression=handler.compression, limits=self.core.limits)
                except UsageError as error:
                    handler.give_up(f"a message that fits into no frame: {error}")
                    continue
                encoded[key] = data
            pieces.setdefault(handler, []).append(data)
        for handler, frames in pieces.items():
            connection = handler.connection
            assert connection is not None
            if len(frames) > 1 and sum(map(len, frames)) <= JOINED_BYTES:
                connection.send(b"".join(frames))
            else:
                for data in frames:
                    connection.send(data)
            if connection.buffered_bytes > self.core.limits.outbound_bytes:
                self._congest(handler)

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

    def _may_persist(self) -> bool:
        """Whether there may be another commit."""
        return self._committing is None and self.failure is None

    def _commit(self, persist: Persist) -> None:
        """Give a commit to the disk's thread."""
        self._committing, self._retry = persist, None
        self._disk.commit_there(persist, self._committed)

    def _commit_first(self) -> bool:
        """
        Commit what there is before the core is asked what to do, which is then told in this turn that it is durable.

        Where that would keep the loop waiting the thread gets it. Returns whether there may be another commit now.
        """
        persist = self.core.local.take_persist()
        if persist is None:
            return True
        if not is_small(persist.commit):
            self._commit(persist)
            return False
        try:
            error = self._disk.commit_here(persist)
        except BaseException:  # interrupted: the thread makes it whole
            self._commit(persist)
            raise
        self._committing = persist
        self._note_committed(persist, error)
        return self._may_persist()

    def _committed(self, persist: Persist, error: Exception | None) -> None:
        """The thread has made it, or could not."""
        if self._committed_once is not None and not self._committed_once.done():
            self._committed_once.set_result(None)
        try:
            self._note_committed(persist, error)
        except Exception as broken:  # noqa: BLE001 - as in a turn
            self._stop(broken)
        if self._may_persist():
            self.wake()

    def _note_committed(self, persist: Persist, error: Exception | None) -> None:
        if isinstance(error, DiskFull):
            self._retry = self._loop.call_later(DISK_FULL_SECONDS, self._commit, persist)
            if self.full is None:
                self.full = error
                self._on_durable(_not_yet(error))
            return
        self._committing = None
        if error is not None:
            self.failure = error if isinstance(error, StorageError) else StoreFailed(f"a commit failed: {error!r}")
            self._on_durable(self.failure)
            return
        self.full = None
        self.core.persisted(persist.position)
        self._on_durable(None)

    async def backup(self, target: str) -> None:
        """A copy of what was committed, made on the disk's thread, between commits. Raises UsageError, StorageError."""
        await self._disk.backup(target)

    # -- connections

    def link_made(self, handler: LinkHandler) -> None:
        """A connection is open."""
        if self._closed:
            handler.close("the node is closed")
            return
        self._links[handler.number] = handler
        handler.made_ms = self._clock.monotonic_ms()
        self.core.connected(handler.number, handler.dialled, handler.made_ms, self._clock.wall_ms())
        if not handler.dialled:
            pushed_out = self.doorstep.add(handler)
            if pushed_out is not None:
                pushed_out.close(f"more than {self.core.limits.peers} connections without a hello (limits.peers)")
                self.core.disconnected(pushed_out.number, pushed_out.reason, handler.made_ms)
        self.wake()

    def heard(self, handler: LinkHandler) -> None:
        """Bytes came that make no message yet: a large one is under way on a slow line."""
        self.core.heard(handler.number, self._clock.monotonic_ms())

    def messages(self, handler: LinkHandler, frames: list[Frame]) -> bool:
        """
        Messages came. Raises FrameError for what is none; those before it have been heard.

        Returns whether a turn had better be taken for them.
        """
        core, number = self.core, handler.number
        limits, now_ms, wall_ms = core.limits, self._clock.monotonic_ms(), self._clock.wall_ms()
        is_news = False
        for kind, body in frames:
            if core.receive(number, decode(kind, body, limits), now_ms, wall_ms) is not False:
                is_news = True
        return is_news

    def link_lost(self, handler: LinkHandler, reason: str) -> None:
        """A connection is gone."""
        self._links.pop(handler.number, None)
        self.doorstep.left(handler.number)
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
        limits, buffered = self.core.limits, handler.connection.buffered_bytes
        if buffered > 2 * limits.outbound_bytes + FRAMES_A_TURN * limits.frame_bytes:
            handler.give_up(f"does not read: {buffered} bytes wait for it (limits.outbound_bytes)")
            return
        if buffered > limits.outbound_bytes // 2:
            self._loop.call_later(DRAIN_SECONDS, self._look_at, handler)
            return
        self._congested.discard(handler.number)
        self.core.congested(handler.number, congested=False)
        self.wake()

    # -- dialling

    def dial_again(self) -> None:
        """Somebody may be reached now who could not be: look for the missing at once, and without back-off."""
        for backoff in self._backoffs.values():
            backoff.reset()
        self._again.set()
        self._again = asyncio.Event()
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
        crossings_count = 0
        try:
            while not self._closed and address in self.core.missing_addresses():
                if 0 < crossings_count <= CROSSINGS:
                    await asyncio.sleep(CROSSING_SECONDS)
                elif backoff.attempts:
                    await self._pause(backoff.next_ms() / 1000)
                else:
                    backoff.next_ms()  # at once, the first time
                try:
                    handler = LinkHandler(self, address)
                    await self._transport.connect(address, handler)
                except (OSError, MmreplError, ValueError):  # ValueError: a host's name that cannot be one
                    continue
                if await self._greeted(handler):
                    return
                if handler.reason.startswith("duplicate"):
                    crossings_count += 1
        finally:
            self._dialling.pop(address, None)
            self._looked_ms = 0
            self.wake()

    async def _pause(self, seconds: float) -> None:
        """Wait so long, or until somebody says `dial_again`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._again.wait()

    def _note_greetings(self) -> None:
        for number in [number for number in self.doorstep if self.core.is_up(number)]:
            self.doorstep.left(number)
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
        """
        Commit what there is, close every connection, end every task. Called once.

        Raises DiskFull when there was no room for what was written last: it is gone.
        """
        try:
            await self._commit_the_rest()
        finally:
            self._quiet()
            await asyncio.gather(*self._dialling.values(), return_exceptions=True)
            await self._transport.close()
            await self._disk.close()
        if self.full is not None:
            lost = self.core.local.end - self.core.local.durable
            error = DiskFull(f"closed without room on the disk: the last {lost} operations are lost here ({self.full})")
            error.definite = False
            raise error

    async def _commit_the_rest(self) -> None:
        while True:
            if self._committing is not None and self._retry is None:
                self._committed_once = self._loop.create_future()
                await self._committed_once
            if self._retry is not None:
                self._retry.cancel()
            if self.trouble is not None or self._storage is None:
                return
            if self._committing is not None:
                continue
            persist = self.core.local.take_persist()
            if persist is None:
                return
            self._commit(persist)


def _is_news(event: object) -> bool:
    """Whether an event may tell of somebody to be dialled: what answers a question, or is of every turn, does not."""
    return getattr(event, "token", None) is None and not getattr(event, "is_routine", False)


def _not_yet(full: DiskFull) -> DiskFull:
    """What those are told whose write was just under way: it was made, and has not reached the disk."""
    error = DiskFull(
        f"{full}. What was written already is in memory, and will be on disk and sent to others as soon as there is"
        " room, unless this node ends before: do not repeat it blindly"
    )
    error.definite = False
    return error
