"""
What the network benchmarks run in each process: a node of ours, or what a careful person would build instead.

- ``ours``: `mmrepl.Node`, in memory.
- ``pycrdt``: a document, whose updates (one transaction a put) are written to each peer at the end of the loop's turn
  and applied there; who connects says what it has, and is sent what it lacks.
- ``bare``: no replication at all: keys and encoded values in frames, decoded into a dict. The floor of asyncio TCP.

Each offers the same few verbs. Reading and writing use `asyncio.Protocol`, not streams, on all sides.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from benchmarks.workload import decode, encode


class BenchNode(Protocol):
    """A node to measure."""

    address: str
    client_address: str

    async def start(self, name: str, listen: str, peers: list[str], client: str | None, plain: bool) -> None: ...

    def put(self, name: str, value: Any) -> Any:
        """May return an awaitable."""

    def seen(self) -> int:
        """Operations that this node has, of every origin."""

    def values(self) -> AsyncIterator[Any]:
        """Values that come from others, as they come."""

    async def stop(self) -> None: ...


class Ours:
    def __init__(self) -> None:
        self.address = self.client_address = ""

    async def start(self, name: str, listen: str, peers: list[str], client: str | None, plain: bool) -> None:
        import mmrepl

        options: dict[str, Any] = {"client": client} if client else {}
        if plain and "compression" in inspect.signature(mmrepl.Node).parameters:
            options["compression"] = None
        self.node = await mmrepl.Node(name, listen=listen, peers=peers, **options).__aenter__()
        self.put, self.put_many = self.node.put, self.node.put_many
        self.address = self.node.address
        self.client_address = self.node.client_address or ""

    def seen(self) -> int:
        return sum(self.node.version.values())

    async def values(self) -> AsyncIterator[Any]:
        async for change in self.node.changes(since=self.node.version):
            yield change.value

    async def stop(self) -> None:
        await self.node.__aexit__(None, None, None)


# -- nodes built by hand


class _Link(asyncio.Protocol):
    """Frames with a length before them, in both directions."""

    def __init__(self, owner: ByHand) -> None:
        self.owner = owner
        self.rest = bytearray()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.owner.links.append(self)
        self.owner.joined(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.owner.links.remove(self)

    def data_received(self, data: bytes) -> None:
        rest = self.rest
        rest += data
        start, end = 0, len(rest)
        received = self.owner.received
        while start + 4 <= end:
            stop = start + 4 + int.from_bytes(rest[start : start + 4], "big")
            if stop > end:
                break
            received(self, bytes(rest[start + 4 : stop]))
            start = stop
        del rest[:start]


def framed(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


class ByHand:
    """What ``pycrdt`` and ``bare`` share: connections, and one write a link and a turn."""

    def __init__(self) -> None:
        self.address = self.client_address = ""
        self.links: list[_Link] = []
        self.waiting: list[bytes] = []
        self.count = 0
        self.watchers: list[asyncio.Queue[Any]] = []

    async def start(self, name: str, listen: str, peers: list[str], client: str | None, plain: bool) -> None:
        loop = asyncio.get_running_loop()
        host, _, port = listen.rpartition(":")
        self.server = await loop.create_server(lambda: _Link(self), host, int(port))
        self.address = f"{host}:{self.server.sockets[0].getsockname()[1]}"
        for peer in peers:
            host, _, port = peer.rpartition(":")
            await loop.create_connection(lambda: _Link(self), host, int(port))

    def joined(self, link: _Link) -> None:
        """A link is open."""

    def received(self, link: _Link, body: bytes) -> None:
        raise NotImplementedError

    def later(self, body: bytes) -> None:
        """Send *body* to everybody when this turn of the loop ends."""
        if not self.waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self.waiting.append(framed(body))

    def _flush(self) -> None:
        data = b"".join(self.waiting)
        self.waiting.clear()
        for link in self.links:
            link.transport.write(data)

    def seen(self) -> int:
        return self.count

    async def values(self) -> AsyncIterator[Any]:
        queue: asyncio.Queue[Any] = asyncio.Queue()
        self.watchers.append(queue)
        while True:
            yield await queue.get()

    async def stop(self) -> None:
        for link in list(self.links):
            link.transport.close()
        self.server.close()


class Pycrdt(ByHand):
    def __init__(self) -> None:
        from pycrdt import Doc, Map

        super().__init__()
        self.doc: Any = Doc()
        self.map = self.doc.get("records", type=Map)
        self.setitem = self.map.__setitem__
        self.applying = False
        self.subscriptions = [self.doc.observe(self._changed)]

    def put(self, name: str, value: Any) -> None:
        self.setitem(name, value)
        self.count += 1

    def _changed(self, event: Any) -> None:
        if not self.applying and self.links:
            self.later(b"u" + event.update)

    def _keys(self, event: Any) -> None:
        if self.applying:
            for change in event.keys.values():
                for queue in self.watchers:
                    queue.put_nowait(change["newValue"])

    def values(self) -> AsyncIterator[Any]:
        self.subscriptions.append(self.map.observe(self._keys))  # only who watches pays for it
        return super().values()

    def joined(self, link: _Link) -> None:
        link.transport.write(framed(b"s" + self.doc.get_state()))

    def received(self, link: _Link, body: bytes) -> None:
        if body[:1] == b"s":
            link.transport.write(framed(b"d" + self.doc.get_update(body[1:])))
            return
        self.applying = True
        self.doc.apply_update(body[1:])
        self.applying = False
        self.count = len(self.map) if body[:1] == b"d" else self.count + 1


class Bare(ByHand):
    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, Any] = {}

    def put(self, name: str, value: Any) -> None:
        body = encode((name, value))
        self.kept[name] = body
        self.count += 1
        self.later(body)

    def received(self, link: _Link, body: bytes) -> None:
        name, value = decode(body)
        self.kept[name] = value
        self.count += 1
        for queue in self.watchers:
            queue.put_nowait(value)


KINDS: dict[str, Callable[[], BenchNode]] = {"ours": Ours, "pycrdt": Pycrdt, "bare": Bare}

# -- what goes over the wire, seen from outside


class WireCount:
    """
    Counts what this process writes to TCP, whoever writes it: bytes, and how often *marker* is among them.

    It stands in asyncio's own transport, so it neither trusts nor needs counters of the node. Writes cut through a
    marker are too rare to matter: nodes write whole frames.
    """

    def __init__(self, marker: bytes) -> None:
        from asyncio import selector_events  # its transport is where all that asyncio writes comes by

        self.bytes = self.markers = 0
        transport: Any = selector_events._SelectorSocketTransport  # type: ignore[attr-defined]
        write = transport.write

        def counted(target: Any, data: bytes) -> None:
            self._count(data, marker)
            write(target, data)

        transport.write = counted
        if "writelines" in vars(transport):  # from 3.12 on; before, it ends in write
            writelines = transport.writelines

            def counted_lines(target: Any, lines: Any) -> None:
                lines = list(lines)
                for data in lines:
                    self._count(data, marker)
                writelines(target, lines)

            transport.writelines = counted_lines

    def _count(self, data: bytes, marker: bytes) -> None:
        self.bytes += len(data)
        self.markers += bytes(data).count(marker)


async def until(done: Callable[[], bool], seconds: float, what: str) -> int:
    """Wait for it, looking once a millisecond; the monotonic time (ns, the same in all processes) when it was so."""
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not in {seconds:g} s")
        await asyncio.sleep(0.001)
    return time.monotonic_ns()
