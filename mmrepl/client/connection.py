"""
One socket to a node's client port: commands out, answers back, in order, many under way at a time.

What is asked within one turn of the loop leaves in one write. Until then a command has certainly not been sent, and one
that is called off is not sent at all; after that nobody knows, and `ConnectionBroken` says which it was. An answer that
nobody waits for any more is read and dropped, for the ones behind it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

from mmrepl.client.requests import ConnectionBroken, encoded
from mmrepl.errors import FrameError, MmreplError, Unavailable, UsageError
from mmrepl.transport.address import parse_address
from mmrepl.wire.resp import Failure, Reply, ReplyReader
from mmrepl.wire.resp_errors import error_of

ANSWER_BYTES_MAX = 64 * 1024 * 1024
"""One string in an answer; no value of a store comes near it."""

_REFUSALS = frozenset({"WRONGPASS", "NOAUTH", "NOPROTO"})


class _Call:
    """A command that is under way."""

    __slots__ = ("data", "exclusive", "future")

    def __init__(self, data: bytes | None, future: asyncio.Future[Reply], *, exclusive: bool) -> None:
        self.data = data  # None once it was handed to the network
        self.future = future
        self.exclusive = exclusive


class Connection(asyncio.Protocol):
    """
    Of one node. *changed* is called when there is room again, and when it has ended.

    ``retired``: it takes nothing new and closes when what is under way is answered. ``barred``: a command is under
    way that may take its time, so nothing is put behind it.
    """

    def __init__(self, address: str, pipeline: int, changed: Callable[[Connection], None]) -> None:
        self.address = address
        self.hello: Reply = None  # what the node said of itself
        self.barred = False
        self.retired = False
        self.ended = False
        self._pipeline = pipeline
        self._changed = changed
        self._reader = ReplyReader(ANSWER_BYTES_MAX)
        self._calls: deque[_Call] = deque()  # in the order of asking; those not sent yet at the end
        self._unsent: list[_Call] = []
        self._blocked = False  # the network takes no more at present
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def under_way(self) -> int:
        """Commands without an answer."""
        return len(self._calls)

    @property
    def has_room(self) -> bool:
        """Whether another command may be asked now."""
        return not (self.ended or self.retired or self.barred or self._blocked or len(self._calls) >= self._pipeline)

    def ask(self, data: bytes, *, exclusive: bool = False) -> asyncio.Future[Reply]:
        """
        Send an encoded command; the future gives its answer, errors as `Failure`.

        It fails with ConnectionBroken, and with FrameError for what is no answer; then the connection is done for.
        """
        future: asyncio.Future[Reply] = self._loop.create_future()
        if self.ended or self._transport is None:
            future.set_exception(ConnectionBroken(f"the connection to {self.address} is closed", definite=True))
            return future
        future.add_done_callback(_retrieve)
        call = _Call(data, future, exclusive=exclusive)
        self.barred = self.barred or exclusive
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(call)
        self._calls.append(call)
        return future

    def give_up(self) -> None:
        """Somebody's patience ended before an answer came: take nothing new; end when nobody waits any more."""
        self.retired = True
        if all(call.future.done() for call in self._calls):
            self.abort("an answer did not come in time")

    def abort(self, why: str) -> None:
        """End at once; whatever waits is told *why*. Idempotent."""
        if self._transport is not None:
            self._transport.abort()
        self._end(why)

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self.ended or self._transport is None:
            return
        parts = []
        for call in unsent:
            if call.future.cancelled():
                self._calls.remove(call)
                self.barred = self.barred and not call.exclusive
            elif call.data is not None:
                parts.append(call.data)
                call.data = None
        if parts:
            self._transport.write(b"".join(parts))
        if len(parts) < len(unsent):
            self._changed(self)

    def _end(self, why: str, error: Exception | None = None) -> None:
        if self.ended:
            return
        self.ended = True
        calls = list(self._calls)
        self._calls.clear()
        for call in calls:
            if not call.future.done():
                broken: Exception = ConnectionBroken(
                    f"the connection to {self.address} was lost ({why})", definite=call.data is not None
                )
                if error is not None and call.data is None:
                    broken = error
                call.future.set_exception(broken)
        self._changed(self)

    # -- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self.ended:
            return
        try:
            answers = self._reader.feed(data)
        except FrameError as error:
            error.definite = False
            if self._transport is not None:
                self._transport.abort()
            self._end(str(error), error)
            return
        for answer in answers:
            if not self._calls:
                self.abort("an answer that nobody asked for")
                return
            call = self._calls.popleft()
            if call.exclusive:
                self.barred = False
            if not call.future.done():
                call.future.set_result(answer)
        if self.retired and not self._calls:
            self.abort("it is no longer used")
        else:
            self._changed(self)

    def pause_writing(self) -> None:
        self._blocked = True

    def resume_writing(self) -> None:
        self._blocked = False
        self._changed(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(str(exc) if exc is not None else "closed by the node")


def _retrieve(future: asyncio.Future[Reply]) -> None:
    """Whoever was called off does not look at the error that came all the same; asyncio would report it."""
    if not future.cancelled():
        future.exception()


async def connect(
    address: str, password: str | None, timeout: float, pipeline: int, changed: Callable[[Connection], None]
) -> Connection:
    """
    A connection that speaks version 3 and has shown the password.

    Raises:
        Unavailable: nobody answers there within *timeout* seconds, or it takes no more clients.
        UsageError: the password, or the protocol, is refused.
    """
    host, port = parse_address(address)
    connection = Connection(address, pipeline, changed)
    try:
        async with asyncio.timeout(timeout):
            await asyncio.get_running_loop().create_connection(lambda: connection, host, port)
            shown = () if password is None else (b"AUTH", b"default", password.encode())
            answer = await connection.ask(encoded((b"HELLO", b"3", *shown)))
    except TimeoutError:
        connection.abort("it was never up")
        raise _definite(Unavailable(f"{address} did not answer within {timeout:g} s")) from None
    except OSError as error:
        connection.abort("it was never up")
        raise _definite(Unavailable(f"nobody answers at {address}: {error.strerror or error}")) from None
    except MmreplError as error:
        connection.abort("it was never up")
        raise _definite(Unavailable(f"no node answers at {address}: {error}")) from None
    except BaseException:
        connection.abort("it was never up")
        raise
    if isinstance(answer, Failure):
        connection.abort("it was refused")
        kind = UsageError if answer.code in _REFUSALS else Unavailable
        raise _definite(kind(f"{address} refuses this client: {error_of(answer)}"))
    connection.hello = answer
    return connection


def _definite(error: MmreplError) -> MmreplError:
    error.definite = True
    return error
