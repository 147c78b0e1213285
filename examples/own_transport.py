"""
A transport of one's own: nodes of one machine that talk over Unix sockets, where a folder is the network.

A transport is three calls (`mmrepl.ports.Transport`): listen, connect, close. It carries bytes and understands none of
them; framing, greeting, gossip, back-off stay where they are. What it must keep is stated by
``mmrepl.testing.transport_suite``; tests/examples/test_own_transport.py runs that suite over the one below:

    class TestUnixTransport(TransportSuite):
        def kit(self):
            return UnixKit()
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import tempfile
from pathlib import Path
from typing import cast

import mmrepl
from mmrepl.errors import ClosedError
from mmrepl.ports import ConnectionHandler, HandlerFactory
from mmrepl.resolvers import KeepSiblings

LINGER_SECONDS = 1.0  # what was queued may take so long to leave once a connection is closed

_numbers = itertools.count(1)


class UnixConnection(asyncio.Protocol):
    """One stream. Calls its handler in order: made once, received as often as bytes come, lost once."""

    def __init__(self, owner: UnixTransport, handler: ConnectionHandler | None, peer: str) -> None:
        self._owner, self._handler, self.peer = owner, handler, peer
        self._stream: asyncio.Transport | None = None
        self._closed = False
        self._reason = "closed by the other side"
        self._was_made = False

    # -- what the node calls

    @property
    def buffered_bytes(self) -> int:
        return 0 if self._stream is None else self._stream.get_write_buffer_size()

    def send(self, data: bytes) -> None:
        if self._stream is not None and not self._closed:
            self._stream.write(data)

    def close(self) -> None:
        self._end("closed", LINGER_SECONDS)

    def abort(self, reason: str) -> None:
        """Close, and let go of what is queued."""
        self._end(reason, 0.0)

    def _end(self, reason: str, linger_seconds: float) -> None:
        stream = self._stream
        if stream is not None and not self._closed:
            self._closed, self._reason = True, reason
            stream.close()  # sends what is queued first, if the other side reads it
            if linger_seconds:
                asyncio.get_running_loop().call_later(linger_seconds, stream.abort)
        if stream is not None and not linger_seconds:
            stream.abort()

    # -- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._stream = cast("asyncio.Transport", transport)
        self._owner.connections[self] = None
        if self._owner.is_closed:
            self.abort("the transport is closed")
        elif self._handler is None:
            self.abort("refused")  # the factory raised
        else:
            self._was_made = True
            self._call("made", self)

    def data_received(self, data: bytes) -> None:
        if not self._closed:
            self._call("received", data)

    def connection_lost(self, error: Exception | None) -> None:
        self._closed, self._stream = True, None
        if self._was_made:
            self._call("lost", str(error) if error else self._reason)
        self._owner.connections.pop(self, None)
        self._owner.changed.set()

    def _call(self, verb: str, argument: object) -> None:
        """What a handler raises costs its own connection, and is reported."""
        try:
            getattr(self._handler, verb)(argument)
        except Exception as error:  # noqa: BLE001
            told = {"message": f"{verb}() of a connection handler raised", "exception": error}
            asyncio.get_running_loop().call_exception_handler(told)
            self.abort("its handler raised")


class UnixListener:
    """Accepts until it is closed, and takes its file away then."""

    def __init__(self, path: str, server: asyncio.Server) -> None:
        self.address, self._server = path, server

    async def close(self) -> None:
        if self._server.is_serving():
            self._server.close()
            Path(self.address).unlink(missing_ok=True)  # noqa: ASYNC240 - a moment


class UnixTransport:
    """An address is the path of a socket. A path that ends in ``/`` is a folder, in which a free name is found."""

    def __init__(self) -> None:
        self.connections: dict[UnixConnection, None] = {}
        self.changed = asyncio.Event()  # a connection has gone
        self.is_closed = False
        self._listeners: list[UnixListener] = []

    async def listen(self, address: str, accept: HandlerFactory) -> UnixListener:
        self._check_open()
        path = f"{address}{os.getpid()}-{next(_numbers)}" if address.endswith("/") else address
        if Path(path).exists():  # noqa: ASYNC240 - a moment
            raise OSError(errno.EADDRINUSE, f"cannot listen at {path}: it is already in use")

        def accepted() -> UnixConnection:
            try:
                handler: ConnectionHandler | None = accept()
            except Exception as error:  # noqa: BLE001
                told = {"message": "no handler for a connection", "exception": error}
                asyncio.get_running_loop().call_exception_handler(told)
                handler = None
            connection = UnixConnection(self, handler, f"somebody at {path}")
            self.connections[connection] = None  # already: closing waits for who is being let in
            return connection

        server = await asyncio.get_running_loop().create_unix_server(accepted, path)
        listener = UnixListener(path, server)
        if self.is_closed:
            await listener.close()
        self._check_open()
        self._listeners.append(listener)
        return listener

    async def connect(self, address: str, handler: ConnectionHandler) -> UnixConnection:
        self._check_open()
        connection = UnixConnection(self, handler, address)
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: connection, address)
        except (ConnectionRefusedError, FileNotFoundError) as error:
            raise OSError(errno.ECONNREFUSED, f"cannot connect to {address}: refused, nobody listens there") from error
        except BaseException:
            connection.abort("given up")
            raise
        self._check_open()
        return connection

    async def close(self) -> None:
        self.is_closed = True
        for listener in self._listeners:
            await listener.close()
        await asyncio.sleep(0)  # who was accepted in this turn gets a connection in the next
        for connection in list(self.connections):
            connection.close()
        while self.connections:
            self.changed.clear()
            await self.changed.wait()

    def _check_open(self) -> None:
        if self.is_closed:
            raise ClosedError("the transport is closed")


async def main(folder: str) -> None:
    def node(name: str, *peers: str) -> mmrepl.Node:
        return mmrepl.Node(
            name, listen=f"{folder}/{name}", peers=peers, default=KeepSiblings(), transport=UnixTransport()
        )

    async with node("paris") as paris, node("tokyo", paris.address) as tokyo, node("lima", paris.address) as lima:
        await tokyo.wait_connected("paris", "lima")  # of which tokyo has heard from paris
        await lima.wait_connected("paris", "tokyo")
        print("three nodes, and no port is open:")
        for row in tokyo.members():
            print(f"  {row['name']:6} {row['state']:11} at {row['address'].removeprefix(folder)}")

        await paris.put("k", "written in paris", acks="all")
        print(f"\nconfirmed by all; lima has {lima.get('k')}")

        lima.block("paris")
        lima.block("tokyo")
        await lima.put("k", "written in lima")
        await tokyo.put("k", "written in tokyo", acks=2)
        lima.unblock()
        await lima.wait_until(lambda: len(lima.read("k").siblings) == 2, "the other sibling")
        print(f"apart for a while, both wrote; lima has {lima.get('k')}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        asyncio.run(main(scratch))
        left = sorted(path.name for path in Path(scratch).iterdir())
        print(f"\nclosed; left in the folder: {left or 'nothing'}")
