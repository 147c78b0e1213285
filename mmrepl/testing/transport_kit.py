"""
What the cases of the transport suite are made of: a kit that makes transports, handlers that remember, waiting.

Of use, too, for tests of one transport beyond the suite.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from mmrepl.ports import Connection, Transport

PATIENCE_S = 20.0  # for what must come; never waited for in vain


def in_time() -> asyncio.Timeout:
    """An async context in which what must come has to come."""
    return asyncio.timeout(PATIENCE_S)


class Kit(Protocol):
    """What a transport's author gives."""

    def transport(self) -> Transport:
        """A new one, able to reach the others of this kit."""

    @property
    def address(self) -> str:
        """Where to listen, with a port of 0 or its like: listening twice gives two addresses."""


class Recorder:
    """A handler that remembers, asserts the order of its calls, and can be waited on."""

    def __init__(self, *, echo: bool = False, greeting: bytes = b"") -> None:
        self.connection: Connection | None = None
        self.data = bytearray()
        self.pieces = 0
        self.reason: str | None = None
        self._echo, self._greeting = echo, greeting
        self._changed = asyncio.Event()

    def made(self, connection: Connection) -> None:
        """Once, first."""
        assert self.connection is None, "made twice"
        assert self.reason is None
        self.connection = connection
        if self._greeting:
            connection.send(self._greeting)
        self._changed.set()

    def received(self, data: bytes) -> None:
        """Between the two."""
        assert self.connection is not None, "received before made"
        assert self.reason is None, "received after lost"
        assert type(data) is bytes
        assert data
        self.data += data
        self.pieces += 1
        if self._echo:
            self.stream.send(data)
        self._changed.set()

    def lost(self, reason: str) -> None:
        """Once, last."""
        assert self.connection is not None, "lost before made"
        assert self.reason is None, "lost twice"
        assert isinstance(reason, str)
        assert reason
        self.reason = reason
        self._changed.set()

    @property
    def stream(self) -> Connection:
        """The connection, which is there after `made`."""
        assert self.connection is not None, "not made yet"
        return self.connection

    async def until(self, condition: Callable[[Recorder], bool]) -> None:
        """Wait until *condition* of this recorder holds."""
        async with in_time():
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()

    async def until_lost(self) -> None:
        """Wait for the end."""
        await self.until(lambda self: self.reason is not None)

    async def until_bytes(self, count: int) -> None:
        """Wait until so many bytes have come."""
        await self.until(lambda self: len(self.data) >= count)


async def eventually(condition: Callable[[], object]) -> None:
    """Turn the event loop until *condition* holds, for what nobody can tell us."""
    async with in_time():
        while not condition():  # noqa: ASYNC110  there is no event to wait for
            await asyncio.sleep(0)


class Accepting:
    """A handler factory that keeps what it made."""

    def __init__(self, make: Callable[[], Recorder] = Recorder) -> None:
        self.handlers: list[Recorder] = []
        self._make = make
        self._changed = asyncio.Event()

    def __call__(self) -> Recorder:
        self.handlers.append(self._make())
        self._changed.set()
        return self.handlers[-1]

    async def nth(self, index: int = 0) -> Recorder:
        """The handler of the so-many-th accepted connection, made."""
        async with in_time():
            while len(self.handlers) <= index:
                self._changed.clear()
                await self._changed.wait()
        await self.handlers[index].until(lambda handler: handler.connection is not None)
        return self.handlers[index]


async def pair(kit: Kit, **accepting: Any) -> tuple[Recorder, Recorder, Transport, Transport]:
    """Two transports and a stream between them: (ours, theirs, our transport, their transport)."""
    server, client = kit.transport(), kit.transport()
    accept = Accepting(lambda: Recorder(**accepting))
    listener = await server.listen(kit.address, accept)
    ours = Recorder()
    connection = await client.connect(listener.address, ours)
    assert connection is ours.connection, "made was not called before connect returned"
    return ours, await accept.nth(), client, server
