"""
Bytes to other nodes over TCP, and over TLS if contexts for it are given.

Written on asyncio's protocols, without streams: a piece that the kernel hands over goes to the handler in the same
turn of the loop, and what is sent is offered to the kernel at once. So a host that has several small things to say
joins them. While the network does not take more, what is sent waits here as the very objects that were handed in, and
leaves many at a time: a frame for eight slow peers is in memory once.

Nothing here judges bytes, retries, or limits what the host queues: ``buffered_bytes`` tells, the host decides.

HAZARD: a half-open connection (the other machine lost its power, or the network swallows everything) looks alive
until the operating system gives up. Keepalive and, on Linux, TCP_USER_TIMEOUT are set to about 30 s; a host that
wants to know sooner sends heartbeats and closes what stays silent. The other way round, a peer that is stopped for
that long while bytes for it wait is lost too, and has to be connected again.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import socket
import ssl
from collections.abc import Coroutine
from typing import Any, cast, final

from mmrepl.errors import ClosedError, UsageError
from mmrepl.ports import ConnectionHandler, HandlerFactory
from mmrepl.transport.address import Address, is_loopback, parse_address
from mmrepl.transport.guard import Guard, report
from mmrepl.transport.sockets import BACKLOG, address_of, listening_socket, told, watch_for_death, why

WRITE_BYTES = 256 * 1024
"""What goes to asyncio in one piece, and how much may wait there: the rest waits in our queue, uncopied."""

READ_BYTES = 256 * 1024
ACCEPT_AGAIN_S = 1.0


@final
class TcpTransport:
    """
    Listeners and connections on the running event loop; `close` ends all that it started.

    Args:
        server_ssl: TLS for what is accepted; make it with ``ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)``.
        client_ssl: TLS for what is connected; the host part of the address is the name that is verified.
        secured: The host checks a cluster secret in its hello, so listening beyond loopback is meant.
        insecure: Listen beyond loopback although anybody may then read and write.
        connect_timeout_ms: For looking up the name, connecting, and the TLS handshake, together; also what a client
            is given for its TLS handshake.
        linger_ms: How long a closed connection may take to send what was queued.
    """

    def __init__(
        self,
        *,
        server_ssl: ssl.SSLContext | None = None,
        client_ssl: ssl.SSLContext | None = None,
        secured: bool = False,
        insecure: bool = False,
        connect_timeout_ms: int = 5000,
        linger_ms: int = 1000,
    ) -> None:
        self._server_ssl, self._client_ssl = server_ssl, client_ssl
        self._may_be_reached = secured or insecure or server_ssl is not None
        self._timeout_s = connect_timeout_ms / 1000
        self._linger_s = linger_ms / 1000
        self._closed = False
        self._listeners: set[_Listener] = set()
        self._connections: set[_Connection] = set()
        self._handshakes: set[asyncio.Task[object]] = set()  # ours and those of clients, under way
        # Read into and copied out of: asyncio's way, a new buffer of 256 KiB for each read, costs five times as much.
        self._reading = memoryview(bytearray(READ_BYTES))

    async def listen(self, address: str, accept: HandlerFactory) -> _Listener:
        """
        Accept connections at *address*. A name stands for its first address, IPv4 before IPv6.

        Raises:
            UsageError: no address; or one that other machines reach, without TLS, secret, or ``insecure=True``.
            OSError: it cannot be had; the text says which address and why (in use, not ours, not permitted).
        """
        self._check_open()
        wanted = parse_address(address)
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(wanted.host, wanted.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            self._check_open()
            family, kind, protocol, _, place = min(found, key=lambda each: each[0] != socket.AF_INET)
            if not self._may_be_reached and not is_loopback(Address(str(place[0]), wanted.port)):
                raise UsageError(
                    f"{address} can be reached from other machines, and nothing protects it: set a cluster secret,"
                    " give TLS contexts, or say insecure=True"
                )
            sock = listening_socket(family, kind, protocol, place)
        except OSError as error:
            raise told(error, f"cannot listen at {wanted}") from error
        return _Listener(self, accept, sock, loop)

    async def connect(self, address: str, handler: ConnectionHandler) -> _Connection:
        """
        Open one connection; ``handler.made`` was called when this returns.

        When it raises, or is cancelled, no connection is left; if ``made`` was called, ``lost`` is too.

        Raises:
            UsageError: *address* is none. ClosedError: the transport is closed, or was while this waited.
            OSError: refused, unreachable, not found, no valid TLS. TimeoutError (an OSError): no answer in time.
        """
        self._check_open()
        wanted = parse_address(address)
        loop = asyncio.get_running_loop()
        connection = _Connection(self, handler, loop, f"{wanted}")
        attempt = loop.create_task(self._open(connection, wanted))
        self._handshakes.add(attempt)
        try:
            async with asyncio.timeout(self._timeout_s):
                await attempt
        except TimeoutError as error:
            connection.abort("no answer in time")
            if error.errno:  # the operating system's own patience ended first
                raise told(error, f"cannot connect to {wanted}") from error
            text = f"cannot connect to {wanted}: no answer within {self._timeout_s:g} s"
            raise OSError(errno.ETIMEDOUT, text) from error
        except OSError as error:
            raise told(error, f"cannot connect to {wanted}") from error
        except BaseException:
            connection.abort("given up")
            # cancelled by our own close(), not by the caller
            if self._closed and attempt.cancelled() and not _is_being_cancelled():
                self._check_open()
            raise
        finally:
            self._handshakes.discard(attempt)
        return connection

    async def close(self) -> None:
        """
        Close every connection and listener, and wait until they are gone: at most about ``linger_ms``. Idempotent.

        Attempts to connect that are under way raise ClosedError.
        """
        self._closed = True
        for listener in tuple(self._listeners):
            await listener.close()
        await asyncio.sleep(0)  # every handshake has begun, so that cancelling it reaches its socket
        handshakes = tuple(self._handshakes)
        for handshake in handshakes:
            handshake.cancel()
        await asyncio.gather(*handshakes, return_exceptions=True)
        await asyncio.sleep(0)  # what they aborted is gone, or is among the connections
        while self._connections:
            connections = tuple(self._connections)
            for connection in connections:
                connection.close()
            await asyncio.gather(*(connection.gone for connection in connections))

    # -- within

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the transport is closed")

    async def _open(self, connection: _Connection, wanted: Address) -> None:
        sock = await self._reach(wanted)
        handing_over = asyncio.get_running_loop().create_connection(
            lambda: connection,
            sock=sock,  # its owner from here on, also when cancelled
            ssl=self._client_ssl,
            server_hostname=wanted.host if self._client_ssl else None,
        )
        await _hand_over(sock, handing_over, briefly=self._client_ssl is None)

    async def _reach(self, wanted: Address) -> socket.socket:
        # Not asyncio's happy eyeballs: when cancelled, they forget the socket that has just won.
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(wanted.host, wanted.port, type=socket.SOCK_STREAM)
        share_s = self._timeout_s / len(found)  # so that one silent address of a name does not hide the others
        for index, (family, kind, protocol, _, place) in enumerate(found, 1):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setblocking(False)
                async with asyncio.timeout(share_s):
                    await loop.sock_connect(sock, place)
                return sock
            except OSError:
                sock.close()
                if index == len(found):
                    raise
            except BaseException:
                sock.close()
                raise
        raise AssertionError("a name without an address is an error of getaddrinfo")

    def _welcome(self, sock: socket.socket, accept: HandlerFactory) -> None:
        """Serve an accepted *sock*, which is ours from here on."""
        loop = asyncio.get_running_loop()
        try:
            connection = _Connection(self, accept(), loop, None)
        except Exception as error:  # noqa: BLE001  the host's code: it costs this connection
            report(loop, "accept()", error)
            sock.close()
            return
        welcome = loop.create_task(self._take_in(sock, connection))
        self._handshakes.add(welcome)
        welcome.add_done_callback(self._handshakes.discard)

    async def _take_in(self, sock: socket.socket, connection: _Connection) -> None:
        handing_over = asyncio.get_running_loop().connect_accepted_socket(
            lambda: connection,
            sock,
            ssl=self._server_ssl,
            ssl_handshake_timeout=self._timeout_s if self._server_ssl else None,
        )
        try:
            await _hand_over(sock, handing_over, briefly=self._server_ssl is None)
        except OSError:  # reset already; or no TLS, or not in time: the host never hears of it
            connection.abort("no TLS")
        except BaseException:
            connection.abort("given up")
            raise


@final
class _Listener:
    """
    Accepts until closed.

    Not asyncio's Server: that one leaks what it was accepting while it was closed, and keeps TLS handshakes to
    itself, so that a silent client would outlive our own `TcpTransport.close`.
    """

    def __init__(
        self, home: TcpTransport, accept: HandlerFactory, sock: socket.socket, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._home, self._accept, self._sock, self._loop = home, accept, sock, loop
        self._address = address_of(sock.getsockname())
        self._pause: asyncio.TimerHandle | None = None  # until when we do not accept
        self._closed = False
        home._listeners.add(self)
        self._resume()

    @property
    def address(self) -> str:
        """Where it really listens."""
        return str(self._address)

    async def close(self) -> None:
        """Stop accepting; connections that were accepted live on. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._home._listeners.discard(self)
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._sock)
        self._sock.close()

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._sock, self._readable)

    def _readable(self) -> None:
        for _ in range(BACKLOG):
            try:
                sock, _place = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # Descriptors or memory have run out. They who wait in the backlog keep waiting; so do we, for else
                # the loop would spin on a socket that stays readable.
                report(self._loop, f"accepting at {self._address}", error, "tried again in a second")
                self._loop.remove_reader(self._sock)
                self._pause = self._loop.call_later(ACCEPT_AGAIN_S, self._resume)
                return
            sock.setblocking(False)
            self._home._welcome(sock, self._accept)


@final
class _Connection(asyncio.BufferedProtocol):
    """
    One stream. Created before it is open; the port's `Connection` towards the host, a protocol towards asyncio.

    Opening, open, closing (what is queued may leave), gone: forwards only.
    """

    def __init__(
        self, home: TcpTransport, handler: ConnectionHandler, loop: asyncio.AbstractEventLoop, peer: str | None
    ) -> None:
        self._home, self._loop, self._peer = home, loop, peer or "?"
        self._guard = Guard(handler, loop)
        self._transport: asyncio.Transport | None = None  # None while opening
        self._queue: list[bytes] = []
        self._queued_bytes = 0  # sum of the queue
        self._flush_due = False  # a flush is on its way, by call_soon
        self._paused = False  # asyncio holds enough; resume_writing will flush
        self._closing = False
        self._reason: str | None = None  # why it will be lost, if we know better than asyncio
        self._deadline: asyncio.TimerHandle | None = None  # when what is queued is given up
        self.gone: asyncio.Future[None] = loop.create_future()

    # -- towards the host

    @property
    def peer(self) -> str:
        """Address of the other side."""
        return self._peer

    @property
    def over(self) -> bool:
        """Whether the stream is gone."""
        return self._guard.over

    @property
    def buffered_bytes(self) -> int:
        """Bytes accepted by `send` and not yet taken by the operating system."""
        if self._transport is None or self._guard.over:
            return 0
        return self._queued_bytes + self._transport.get_write_buffer_size()

    def send(self, data: bytes) -> None:
        """Send *data*, now or as soon as the network takes it. After `close`, or once lost, does nothing."""
        if self._closing or self._guard.over:
            return
        if self._transport is not None and not self._paused and not self._queue and len(data) <= WRITE_BYTES:
            self._transport.write(data)
            return
        self._queue.append(data)
        self._queued_bytes += len(data)
        if not self._paused:
            self._flush()

    def close(self) -> None:
        """Close when what is queued has left, or after ``linger_ms``. Idempotent; nothing is received any more."""
        if self._closing or self._guard.over:
            return
        self._closing = True
        self._guard.stop_listening()
        self._reason = self._reason or "closed here"
        self._deadline = self._loop.call_later(self._home._linger_s, self._give_up)
        self._flush()

    def abort(self, reason: str) -> None:
        """Drop the stream and what is queued; ``lost`` follows."""
        self._closing = True
        self._reason = self._reason or reason
        self._guard.stop_listening()
        self._drop_queue()
        if self._transport is not None:
            self._transport.abort()

    # -- towards asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio, with TLS after the handshake."""
        self._transport = cast("asyncio.Transport", transport)  # by its duties: uvloop has classes of its own
        self._home._connections.add(self)
        if self._guard.over or self._closing or self._home._closed:
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(high=WRITE_BYTES)
        place = transport.get_extra_info("peername")
        if place:
            self._peer = str(address_of(place))
        watch_for_death(transport.get_extra_info("socket"))
        if not self._guard.made(self):
            self.abort("the handler failed")

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Called by asyncio just before it reads, in the same breath as `buffer_updated`: one buffer serves all."""
        return self._home._reading

    def buffer_updated(self, nbytes: int) -> None:
        """Called by asyncio with what came."""
        if not self._guard.received(bytes(self._home._reading[:nbytes])):
            self.abort("the handler failed")

    def eof_received(self) -> None:
        """Called by asyncio when the other side closes; answering None closes ours."""
        self._reason = self._reason or "closed by peer"

    def pause_writing(self) -> None:
        """Called by asyncio when it holds more than it should."""
        self._paused = True

    def resume_writing(self) -> None:
        """Called by asyncio when the network has taken enough."""
        self._paused = False
        # Not now: asyncio is in the middle of its own writing, and closing there would lose the connection twice.
        self._flush_soon()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio, once."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._drop_queue()
        self._home._connections.discard(self)
        if not self.gone.done():
            self.gone.set_result(None)
        self._guard.lost(self._reason or (why(exc) if exc is not None else "closed by peer"))

    # -- within

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        transport = self._transport
        if transport is None or self._guard.over:
            return
        while self._queue and not self._paused:
            transport.write(self._next_write())
        if self._closing and not self._queue:
            transport.close()  # what asyncio still holds leaves first

    def _next_write(self) -> bytes:
        """The queue, or so much of it that asyncio need not hold more than it should."""
        queue = self._queue
        if self._queued_bytes <= WRITE_BYTES:
            self._queue, self._queued_bytes = [], 0
            return queue[0] if len(queue) == 1 else b"".join(queue)
        taken = size = 0
        while size < WRITE_BYTES:
            size += len(queue[taken])
            taken += 1
        piece = queue[0] if taken == 1 else b"".join(queue[:taken])
        del queue[:taken]
        self._queued_bytes -= size
        return piece

    def _give_up(self) -> None:
        if not self._guard.over:
            self._reason = f"closed here, {self.buffered_bytes} bytes unsent"
            self.abort(self._reason)

    def _drop_queue(self) -> None:
        self._queue, self._queued_bytes = [], 0


async def _hand_over(
    sock: socket.socket, handing_over: Coroutine[Any, Any, tuple[asyncio.BaseTransport, object]], *, briefly: bool
) -> None:
    """
    Have the loop take *sock* over, and be cancelled only then.

    *Briefly* it takes a turn or two; with TLS it is as long as the handshake, which has to be cancelled. asyncio gives
    the socket up when it is interrupted, or when the connection is closed meanwhile. uvloop closes the descriptor and
    leaves its number with the socket, which would close somebody else's in the end.
    """
    if not briefly:
        await handing_over
        return
    task = asyncio.get_running_loop().create_task(handing_over)
    task.add_done_callback(functools.partial(_forget_if_closed, sock))
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def _forget_if_closed(sock: socket.socket, task: asyncio.Task[tuple[asyncio.BaseTransport, object]]) -> None:
    """After *task* has handed *sock* over: leave its descriptor to uvloop, which is closing it."""
    if task.cancelled() or task.exception() is not None:
        return
    transport, _ = task.result()
    if transport.is_closing() and not isinstance(transport, asyncio.Transport):
        sock.detach()


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
