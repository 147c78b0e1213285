"""
A process with nodes: does what history/nodes.py tells it, line by line, and ends when nobody tells it any more.

Commands run at the same time, for two nodes of one process may have to meet; answers leave in order of the commands.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import time
from typing import Any

import mmrepl
from history.replicas import PATH_BYTES
from mmrepl.resolvers import KeepSiblings

LIMITS = mmrepl.Limits(
    max_drift_ms=1 << 48, key_bytes=PATH_BYTES,  # as for embedded replicas
    gossip_tick_ms=50, reconnect_ms_min=1, reconnect_ms_max=5,  # they meet and part many times a second
)  # fmt: skip

MEET_SECONDS = 30.0


class CommitterClock:
    """Stamps are the committer's; waiting is real."""

    def __init__(self) -> None:
        self.seconds = 0

    def wall_ms(self) -> int:
        return self.seconds * 1000

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000


class Commands:
    """The commands. Each takes the rest of its line as keywords, and returns what is to be answered."""

    def __init__(self) -> None:
        self._clock = CommitterClock()
        self._nodes: dict[int, mmrepl.Node] = {}

    async def start(self, number: int, peers: list[str]) -> str:
        node = mmrepl.Node(
            _name(number), listen="127.0.0.1:0", peers=peers, default=KeepSiblings(), clock=self._clock, limits=LIMITS
        )
        await node.start()
        self._nodes[number] = node
        return node.address

    async def gather(self, number: int, count: int) -> None:
        """Return when everybody is known."""
        node = self._nodes[number]
        await node.wait_until(lambda: len(_others(node)) == count - 1, f"meeting {count - 1} others", MEET_SECONDS)

    async def meet(self, number: int, other: int) -> None:
        """Let another node in, and return when we lack nothing that it has."""
        node = self._nodes[number]
        node.unblock(_name(other))
        await node.wait_connected(_name(other), timeout=MEET_SECONDS)

    async def part(self, number: int, names: list[int] | None) -> None:
        """Keep these nodes away; None: all."""
        node = self._nodes[number]
        for name in _others(node) if names is None else map(_name, names):
            node.block(name)

    async def write(self, number: int, seconds: int, writes: dict[str, str | None]) -> dict[str, str]:
        self._clock.seconds = seconds
        node, dots = self._nodes[number], {}
        for key, value in writes.items():
            written = await (node.delete(key) if value is None else node.put(key, value))
            dots[key] = str(written.dot)
        return dots

    async def siblings(self, number: int, keys: list[str]) -> dict[str, dict[str, Any]]:
        read = self._nodes[number].read
        return {key: {str(sibling.dot): sibling.value for sibling in read(key).siblings} for key in keys}

    async def close(self) -> None:
        for node in self._nodes.values():
            await node.close()


def _name(number: int) -> str:
    return f"node-{number}"


def _others(node: mmrepl.Node) -> list[str]:
    return [row["name"] for row in node.members() if row["name"] not in (None, node.name)]


async def obey(line: socket.socket) -> None:
    """Until the line ends."""
    reader, writer = await asyncio.open_connection(sock=line, limit=1 << 30)
    commands = Commands()
    running: asyncio.Queue[asyncio.Task[Any] | None] = asyncio.Queue()

    async def answer() -> None:
        while (task := await running.get()) is not None:
            try:
                told = {"is": await task}
            except Exception as error:  # noqa: BLE001 - whoever asked is told
                told = {"failed": f"{type(error).__name__}: {error}"}
            writer.write(json.dumps(told).encode() + b"\n")
            await writer.drain()

    answering = asyncio.create_task(answer())
    try:
        while question := await reader.readline():
            command = json.loads(question)
            running.put_nowait(asyncio.create_task(getattr(commands, command.pop("do"))(**command)))
        running.put_nowait(None)
        await answering
    except ConnectionError:
        answering.cancel()  # nobody listens
    finally:
        await commands.close()
        writer.close()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever commands us decides when it is over
    asyncio.run(obey(socket.socket(fileno=int(sys.argv[1]))))
