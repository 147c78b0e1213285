"""
A network in memory, for tests and demonstrations: named places, streams between them, and somebody who breaks them.

A `LoopbackNetwork` is the wire and the mischief; each `LoopbackTransport` is one place on it, with a name. Bytes
move in turns of the event loop, never by the clock, and all chance comes from one seed: the same calls give the same
run. With ``delay_turns_max`` each piece waits some turns, with ``piece_bytes_max`` streams arrive in pieces cut
anywhere, as TCP may cut them.

What the verbs do to streams, and which misfortune they stand for:

    hold(a, b)       bytes from a to b wait, in order, until `release`: a slow or congested link, one way
    partition(...)   nothing passes, nobody is told; `heal` then loses the streams that had tried: an outage longer
                     than TCP's patience
    cut(a, b)        streams are lost at once, with what was under way: a reset, a crashed router

A new connection across a partition, or a hold in either direction, fails at once with TimeoutError: as it would in
the end, without the waiting.
"""

from __future__ import annotations

import asyncio
import errno
import random
from collections import deque
from collections.abc import Iterable
from typing import final

from mmrepl.errors import ClosedError, UsageError
from mmrepl.ports import ConnectionHandler, HandlerFactory, Rng
from mmrepl.transport.guard import Guard, report

TURN_BYTES = 256 * 1024
"""The most that is handed over in one turn, as with a socket."""


@final
class LoopbackNetwork:
    """
    Places, listeners, streams, and what keeps them apart. One event loop at a time; ends with its transports.

    Args:
        seed: For delays and cuts; or give the dice themselves as *rng*.
        delay_turns_max: A piece waits 0 to so many turns of the loop. Order within a stream is kept.
        piece_bytes_max: Pieces are 1 to so many bytes long; None: whatever is there, up to 256 KiB.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        rng: Rng | None = None,
        delay_turns_max: int = 0,
        piece_bytes_max: int | None = None,
    ) -> None:
        if delay_turns_max < 0 or (piece_bytes_max is not None and piece_bytes_max < 1):
            raise UsageError("delay_turns_max must be at least 0, and piece_bytes_max at least 1")
        self._rng = rng or random.Random(seed)  # noqa: S311  chance, not secrets
        self._delay_turns_max, self._piece_bytes_max = delay_turns_max, piece_bytes_max
        self._names: set[str] = set()
        self._ports = 0  # numbers handed out for a port of 0
        self._listeners: dict[str, _Listener] = {}
        self._streams: dict[_End, None] = {}  # both ends of each, in order of connecting: a set would not be
        self._held: set[tuple[str, str]] = set()  # (from, to)
        self._parted: set[tuple[str, str]] = set()  # (from, to); always both ways

    def transport(self, name: str) -> LoopbackTransport:
        """A place on this network. Raises UsageError when the name is taken."""
        return LoopbackTransport(self, name)

    # -- mischief

    def partition(self, *groups: Iterable[str]) -> None:
        """
        Let nothing pass between the groups, either way. Places in no group reach everybody. Partitions add up.

        Raises UsageError when a place is in two groups.
        """
        sides = [sorted(set(group)) for group in groups]
        names = [name for side in sides for name in side]
        if len(names) != len(set(names)):
            raise UsageError("a place is in two groups of the partition")
        for ours in sides:
            for theirs in sides:
                if ours is not theirs:
                    self._parted.update((a, b) for a in ours for b in theirs)

    def hold(self, a: str, b: str) -> None:
        """Let bytes from *a* to *b* wait. The other direction goes on: hold it too for a silent link."""
        self._held.add((a, b))

    def release(self, a: str, b: str) -> None:
        """What was held from *a* to *b* arrives, in order."""
        self._held.discard((a, b))
        self._wake()

    def heal(self) -> None:
        """
        End all partitions and holds.

        A stream across a partition is lost, at both ends, if either had something to say meanwhile; one that was
        idle does not know that anything happened, and lives on.
        """
        for end in tuple(self._streams):
            if self._is_parted(end) and (end.stuck or end.far.stuck):
                end.reset("connection timed out")
        self._held.clear()
        self._parted.clear()
        self._wake()

    def cut(self, a: str, b: str) -> None:
        """Lose every stream between *a* and *b*, and the bytes under way. New ones can be made at once."""
        for end in tuple(self._streams):
            if {end.name, end.far.name} == {a, b}:
                end.reset("connection reset")

    # -- for the transports

    def _is_parted(self, end: _End) -> bool:
        return (end.name, end.far.name) in self._parted

    def _is_stuck(self, source: str, target: str) -> bool:
        return (source, target) in self._held or (source, target) in self._parted

    def _wake(self) -> None:
        for end in tuple(self._streams):
            end.wake()

    def _delay_turns(self) -> int:
        return int(self._rng.random() * (self._delay_turns_max + 1)) if self._delay_turns_max else 0

    def _piece_bytes(self) -> int:
        if self._piece_bytes_max is None:
            return TURN_BYTES
        return 1 + int(self._rng.random() * self._piece_bytes_max)


@final
class LoopbackTransport:
    """
    One place. An address is any text, by custom the place's name; one that ends in ``:0`` gets a number.

    Made by `LoopbackNetwork.transport`.
    """

    def __init__(self, network: LoopbackNetwork, name: str) -> None:
        if name in network._names:
            raise UsageError(f"there is a place {name!r} on this network already")
        network._names.add(name)
        self._network, self._name = network, name
        self._closed = False
        self._listeners: dict[_Listener, None] = {}
        self._ends: dict[_End, None] = {}

    @property
    def name(self) -> str:
        """What the verbs of the network call this place."""
        return self._name

    async def listen(self, address: str, accept: HandlerFactory) -> _Listener:
        """Accept connections at *address*. Raises OSError when somebody listens there, ClosedError when closed."""
        self._check_open()
        network = self._network
        if address.endswith(":0"):
            network._ports += 1
            address = f"{address[:-1]}{network._ports}"
        if address in network._listeners:
            raise OSError(errno.EADDRINUSE, f"cannot listen at {address}: Address already in use")
        listener = _Listener(self, address, accept)
        network._listeners[address] = listener
        self._listeners[listener] = None
        return listener

    async def connect(self, address: str, handler: ConnectionHandler) -> _End:
        """
        Open one connection; ``handler.made`` was called when this returns.

        Raises:
            ConnectionRefusedError: nobody listens there. TimeoutError: nothing passes. ClosedError: closed.
        """
        self._check_open()
        await asyncio.sleep(0)
        self._check_open()
        network = self._network
        listener = network._listeners.get(address)
        if listener is None:
            raise OSError(errno.ECONNREFUSED, f"cannot connect to {address}: Connection refused")
        theirs = listener.home
        if network._is_stuck(self._name, theirs.name) or network._is_stuck(theirs.name, self._name):
            raise OSError(errno.ETIMEDOUT, f"cannot connect to {address}: Connection timed out")
        loop = asyncio.get_running_loop()
        try:
            their_handler = listener.accept()
        except Exception as error:  # noqa: BLE001  the host's code
            report(loop, "accept()", error)
            raise OSError(errno.ECONNREFUSED, f"cannot connect to {address}: Connection refused") from None
        near = _End(self, Guard(handler, loop), loop, peer=address)
        far = _End(theirs, Guard(their_handler, loop), loop, peer=self._name)
        near.join(far)
        loop.call_soon(far.made)
        near.made()
        return near

    async def close(self) -> None:
        """Close every connection and listener here, and wait until they are gone. Idempotent."""
        self._closed = True
        for listener in tuple(self._listeners):
            await listener.close()
        ends = tuple(self._ends)
        for end in ends:
            end.close()
        await asyncio.gather(*(end.gone for end in ends))
        self._network._names.discard(self._name)

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the transport is closed")


@final
class _Listener:
    """Accepts until closed."""

    def __init__(self, home: LoopbackTransport, address: str, accept: HandlerFactory) -> None:
        self.home, self._address, self.accept = home, address, accept

    @property
    def address(self) -> str:
        """Where it listens, with the number that a port of 0 has become."""
        return self._address

    async def close(self) -> None:
        """Stop accepting; connections that were accepted live on. Idempotent."""
        if self in self.home._listeners:
            del self.home._listeners[self]
            del self.home._network._listeners[self._address]


@final
class _End:
    """
    One end of a stream: what was sent here and has not arrived at the other end, `far`, waits here.

    An end closes at once for its own host; the network keeps what it sent, and carries it, followed by the news.
    """

    def __init__(self, home: LoopbackTransport, guard: Guard, loop: asyncio.AbstractEventLoop, peer: str) -> None:
        self._home, self._network, self._guard, self._loop, self._peer = home, home._network, guard, loop, peer
        self.far: _End = self  # until `join`
        self._queue: deque[memoryview] = deque()  # views, so that cutting a long one often costs nothing
        self._queued_bytes = 0  # sum of the queue
        self._due = False  # a turn is on its way, by call_soon
        self._delay_turns = 0
        self._closing = False  # nothing more will be queued; when the queue is empty, the far end hears of it
        self._told = False  # the far end has heard of it
        self.gone: asyncio.Future[None] = loop.create_future()

    # -- towards the host

    @property
    def name(self) -> str:
        """The place of this end."""
        return self._home.name

    @property
    def peer(self) -> str:
        """The address that was connected to, or the name of who connected."""
        return self._peer

    @property
    def buffered_bytes(self) -> int:
        """Bytes that have not arrived."""
        return 0 if self._guard.over else self._queued_bytes

    def send(self, data: bytes) -> None:
        """Queue *data*. After `close`, or once lost, does nothing."""
        if self._closing or not data:
            return
        if not self._queue:
            self._delay_turns = self._network._delay_turns()
        self._queue.append(memoryview(bytes(data)))
        self._queued_bytes += len(data)
        self.wake()

    def close(self) -> None:
        """Close; what was queued still travels. Idempotent."""
        if self._closing:
            return
        self._closing = True
        self._guard.stop_listening()
        self._loop.call_soon(self._lose, "closed here")
        self.wake()

    # -- towards the network

    @property
    def stuck(self) -> bool:
        """Whether something waits here to travel, were it only the news of the end."""
        return bool(self._queue) or (self._closing and not self._told)

    def join(self, far: _End) -> None:
        """Make one stream of two ends."""
        self.far, far.far = far, self
        for end in (self, far):
            self._network._streams[end] = None
            end._home._ends[end] = None

    def made(self) -> None:
        """Open this end."""
        if not self._guard.over and not self._guard.made(self):
            self.reset("the handler failed")

    def wake(self) -> None:
        """Take a turn soon, if there is something to do in it."""
        if self.stuck and not self._due:
            self._due = True
            self._loop.call_soon(self._turn)

    def reset(self, reason: str) -> None:
        """Both ends are lost, soon, and what was under way at once."""
        for end in (self, self.far):
            end._queue.clear()
            end._queued_bytes = 0
            end._closing = end._told = True
            end._guard.stop_listening()
            self._loop.call_soon(end._lose, reason)

    # -- within

    def _turn(self) -> None:
        self._due = False
        if not self.stuck or self._network._is_stuck(self.name, self.far.name):
            return
        if self._delay_turns:
            self._delay_turns -= 1
        elif self._queue:
            self._hand_over(self._next_piece())
            self._delay_turns = self._network._delay_turns()
        else:
            self._told = True
            self.far._end_of_stream()
            if self.gone.done():
                self._network._streams.pop(self, None)
        self.wake()

    def _next_piece(self) -> bytes:
        room = self._network._piece_bytes()
        pieces: list[memoryview] = []
        while self._queue and room:
            piece = self._queue.popleft()
            if len(piece) > room:
                self._queue.appendleft(piece[room:])
                piece = piece[:room]
            room -= len(piece)
            self._queued_bytes -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def _hand_over(self, piece: bytes) -> None:
        far = self.far
        if not far._guard.received(piece):
            far.reset("the handler failed")

    def _end_of_stream(self) -> None:
        if not self._closing:
            self._closing = self._told = True
            self._queue.clear()
            self._queued_bytes = 0
            self._lose("closed by peer")

    def _lose(self, reason: str) -> None:
        self._home._ends.pop(self, None)
        if self._told:
            self._network._streams.pop(self, None)
        if not self.gone.done():
            self.gone.set_result(None)
        self._guard.lost(reason)
