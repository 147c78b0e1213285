"""
The client port: sockets on one side, sessions on the other.

A chunk that arrives is parsed whole, its commands are executed one after the other, and their answers leave in one
write: no task and no future per command. Only three things make a client wait, and while it waits nothing more is
read from it, so that what we hold for it stays bounded:

- it does not take its answers: above ``unread_bytes`` we stop, until the network has taken some;
- it asked for something that others must do first (WAIT, MM.CHANGES BLOCK);
- its writes must be durable before they are answered, and more than ``unread_bytes`` of answers wait for that.

Answers that wait for the disk wait in order: a connection keeps them with the position that must be durable, and the
port keeps one queue of (position, connection). When the backend says that the log is durable further than before,
the front of the queue is released: one call for a whole group of writes. When it says that it never will be, those
clients are told that their writes may or may not have happened, and closed.

The port binds to loopback, and refuses another address unless there is a password or the caller says ``insecure``.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from collections import deque
from collections.abc import Iterator
from typing import cast

from mmrepl.errors import ClosedError, UsageError
from mmrepl.runtime.resp.backend import Backend
from mmrepl.runtime.resp.options import ClientOptions
from mmrepl.runtime.resp.protocol import Bounds, Command, RequestParser
from mmrepl.runtime.resp.session import Pending, Session, Shared
from mmrepl.runtime.resp.table import LOOKUP
from mmrepl.transport.address import Address, is_loopback, parse_address
from mmrepl.wire.resp import failure

_LOG = logging.getLogger("mmrepl.client")

_CLOSING_SECONDS = 1.0
"""How long, when the port closes, answers that are on their way have to leave."""


class ClientPort:
    """
    Serves one backend to Redis clients, on the running event loop.

    ``start`` binds, ``close`` ends every connection.
    """

    def __init__(self, backend: Backend, options: ClientOptions | None = None) -> None:
        self.shared = Shared(backend, options or ClientOptions(), LOOKUP)
        self.waiting: deque[tuple[int, ClientConnection]] = deque()  # positions never fall
        self.connections: dict[int, ClientConnection] = {}  # by number, in order of arrival
        self._server: asyncio.Server | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False
        self._forget = backend.on_durable(self._durable)

    @property
    def address(self) -> str:
        """Where it listens, as host:port; empty before `start`."""
        return self.shared.address

    async def start(self, address: str, *, insecure: bool = False) -> str:
        """
        Listen at *address* (host:port; port 0 takes a free one); returns the address really bound.

        Raises UsageError for an address that is not of loopback, unless a password is set or *insecure* is true, and
        OSError when the address cannot be bound.
        """
        if self._closed or self._server is not None:
            raise ClosedError("a client port is started once")
        place = parse_address(address)
        if not (insecure or self.shared.options.password is not None or is_loopback(place)):
            raise UsageError(
                f"the client port would be open to whoever reaches {address}: set a password, or say insecure=True"
            )
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: ClientConnection(self), *place)
        bound = self._server.sockets[0].getsockname()
        self.shared.address = str(Address(bound[0], bound[1]))
        self._sweep_later()
        return self.shared.address

    async def close(self) -> None:
        """Stop listening; let answers leave for a second, then drop every connection. Idempotent."""
        if not self._closed:
            self._closed = True
            self._forget()
        if self._sweep is not None:
            self._sweep.cancel()
        if self._server is not None:
            self._server.close()
        connections = list(self.connections.values())
        for connection in connections:
            connection.end()
        if connections:
            gone = [connection.gone for connection in connections]
            await asyncio.wait(gone, timeout=_CLOSING_SECONDS)
            for connection in connections:
                connection.abort()
            await asyncio.wait(gone, timeout=_CLOSING_SECONDS)

    # -- waiting for the disk

    def await_durable(self, position: int, connection: ClientConnection) -> None:
        """Call ``connection.release`` once the log is durable up to *position*."""
        self.waiting.append((position, connection))

    def _durable(self, error: Exception | None) -> None:
        waiting = self.waiting
        if error is not None:
            lost = {id(connection): connection for _position, connection in waiting}
            waiting.clear()
            for connection in lost.values():
                connection.fail(error)
            return
        durable = self.shared.backend.durable
        while waiting and waiting[0][0] <= durable:
            _position, connection = waiting.popleft()
            connection.release(durable)

    # -- clients that stall

    def _sweep_later(self) -> None:
        delay = self.shared.options.stall_seconds / 4
        self._sweep = asyncio.get_running_loop().call_later(delay, self._sweep_now)

    def _sweep_now(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in list(self.connections.values()):
            if connection.stalls(now):
                self.shared.stalled_count += 1
                _LOG.warning("client %s is closed: it takes or finishes nothing", connection.session.address)
                connection.abort()
        self._sweep_later()


class ClientConnection(asyncio.Protocol):
    """One client's socket. Reading is paused exactly while there are commands that may not be executed yet."""

    def __init__(self, port: ClientPort) -> None:
        options = port.shared.options
        self._port = port
        self._backend = port.shared.backend
        self._unread_bytes = options.unread_bytes
        self._parser = RequestParser(Bounds(options.bulk_bytes, options.request_bytes, options.request_items))
        self._todo: Iterator[Command] | None = None  # commands that arrived and are not executed yet
        self._pending: asyncio.Future[object] | None = None  # what a command waits for
        self._held: deque[tuple[int, bytes]] = deque()  # answers that wait for the disk, with the position they need
        self._held_bytes = 0
        self._blocked = False  # the client does not take its answers
        self._ending = False  # close as soon as nothing is left to answer
        self._stall: tuple[object, float] = (None, 0.0)  # what was seen to make no progress, and since when
        self._transport: asyncio.Transport
        self.session: Session
        self.gone: asyncio.Future[None]

    # -- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.gone = asyncio.get_running_loop().create_future()
        shared = self._port.shared
        peer = transport.get_extra_info("peername")
        if len(self._port.connections) >= shared.options.clients or self._port._closed:
            shared.rejected_count += 1
            self._todo = iter(())  # whatever it sends is not executed
            self._transport.write(failure("ERR", "max number of clients reached"))
            self._transport.close()
            return
        self.session = Session(shared, str(Address(peer[0], peer[1])) if peer else "")
        shared.sessions[self.session.number] = self.session
        self._port.connections[self.session.number] = self
        self._transport.set_write_buffer_limits(high=self._unread_bytes)
        raw = transport.get_extra_info("socket")
        if raw is not None:  # asyncio has set TCP_NODELAY
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        commands = self._parser.feed(data)
        if self._todo is not None:  # reading was paused with this chunk already on its way
            self._todo = itertools.chain(self._todo, commands)
        elif commands:
            self.session.commands_count += len(commands)
            self._run(iter(commands))
        elif self._parser.error is not None:
            self._run(iter(()))

    def eof_received(self) -> bool:
        """Keep our half open for as long as answers are due."""
        self._ending = True
        return self._todo is not None or bool(self._held)

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if not self.gone.done():
            self.gone.set_result(None)
        self._todo = None
        self._held.clear()
        self._held_bytes = 0
        self._blocked = True  # nothing more is written
        if self._pending is not None:
            self._pending.cancel()
        session = getattr(self, "session", None)
        if session is not None and self._port.connections.pop(session.number, None) is not None:
            del self._port.shared.sessions[session.number]
            self._port.shared.commands_count += session.commands_count

    # -- executing

    def _run(self, todo: Iterator[Command]) -> None:
        """Execute what may be executed now, and answer."""
        session = self.session
        execute = session.execute
        while True:
            out: list[bytes] = []
            room = self._unread_bytes
            for words in todo:
                answer = execute(words)
                if isinstance(answer, Pending):
                    self._emit(out)
                    self._suspend(todo, answer, words)
                    return
                out.append(answer)
                if session.special:
                    self._special(out)
                    if session.closing:
                        self._emit(out)
                        self._finish()
                        return
                room -= len(answer)
                if room < 0:
                    break
            else:
                self._emit(out)
                self._todo = None
                if self._parser.error is not None:
                    self._emit([failure("ERR", f"Protocol error: {self._parser.error}")])
                    self._finish()
                elif self._ending:
                    self._finish()
                elif self._blocked or self._held_bytes > self._unread_bytes:
                    self._stop(iter(()))
                return
            self._emit(out)
            if self._blocked or self._held_bytes > self._unread_bytes:
                self._stop(todo)
                return

    def _special(self, out: list[bytes]) -> None:
        """The last answer of a client that asked for silence (CLIENT REPLY), or that is leaving."""
        session = self.session
        if session.muted:
            out[-1] = b""
        elif session.skip:
            # SKIP itself gives no answer and takes the next one with it.
            if out[-1]:
                session.skip = False
            out[-1] = b""
        session.special = session.muted or session.skip or session.closing

    def _stop(self, todo: Iterator[Command]) -> None:
        """Read and execute nothing more until `_go_on`."""
        self._todo = todo
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def _go_on(self) -> None:
        """Take up again what was stopped, if nothing stands in the way any more."""
        if (
            self._todo is None
            or self._pending is not None
            or self._blocked
            or self._held_bytes > self._unread_bytes
            or self._transport.is_closing()
        ):
            return
        todo, self._todo = self._todo, None
        self._run(todo)
        if self._todo is None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _suspend(self, todo: Iterator[Command], answer: Pending, words: Command) -> None:
        """Wait for the answer of *words*."""

        def answered(future: asyncio.Future[object]) -> None:
            self._pending = None
            if future.cancelled() and self._transport.is_closing():
                return
            try:
                reply = answer.finish(future.result())
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 — as in Session.execute
                trouble = error if isinstance(error, Exception) else ClosedError("the wait was called off")
                reply = self.session.trouble(trouble, words)
            out = [reply]
            if self.session.special:
                self._special(out)
            self._emit(out)
            self._go_on()

        self._pending = answer.future
        self._stop(todo)
        answer.future.add_done_callback(answered)

    # -- answering

    def _emit(self, out: list[bytes]) -> None:
        """Write the answers *out*, or hold them until what they confirm is durable."""
        if not out:
            return
        data = b"".join(out) if len(out) > 1 else out[0]
        session = self.session
        position = session.must_be_durable
        if not self._held and position <= self._backend.durable:
            self._transport.write(data)
            return
        last = self._held[-1][0] if self._held else 0
        self._held.append((max(position, last), data))
        self._held_bytes += len(data)
        if position > last:
            self._port.await_durable(position, self)

    def release(self, durable: int) -> None:
        """The log is durable up to *durable*: write what waited for that."""
        held = self._held
        parts: list[bytes] = []
        while held and held[0][0] <= durable:
            parts.append(held.popleft()[1])
        if parts:
            data = b"".join(parts)
            self._held_bytes -= len(data)
            self._transport.write(data)
        if self._todo is not None:
            self._go_on()
        elif self._ending and not held:
            self._finish()

    def fail(self, error: Exception) -> None:
        """What was written will not become durable: tell the client, and leave it."""
        if self._held and not self._transport.is_closing():
            self._held.clear()
            self._todo = None
            self._transport.write(
                failure("STORE", f"{error} (writes that were not answered may have happened: do not repeat blindly)")
            )
            self._transport.close()

    def _finish(self) -> None:
        """Close once everything that is due has been answered."""
        self._ending = True
        self._todo = None
        if self._held:
            self._transport.pause_reading()
        else:
            self._transport.close()

    def end(self) -> None:
        """Close in order: answers that can leave still do."""
        self._todo = None
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def stalls(self, now: float) -> bool:
        """
        Whether this client has for too long taken none of its answers, or not finished a command that it began.

        Sees what did not change since it last looked; a client that merely says nothing does not stall.
        """
        unread = self._transport.get_write_buffer_size()
        if self._blocked or unread:
            seen: object = ("unread", unread, self.session.commands_count)
        elif self._parser.partial and self._todo is None:
            seen = ("unfinished", self.session.commands_count)
        else:
            seen = None
        if seen is None or seen != self._stall[0]:
            self._stall = (seen, now)
            return False
        return now - self._stall[1] >= self._port.shared.options.stall_seconds
