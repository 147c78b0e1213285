"""
A node in a process of its own, told what to do: ``python -m benchmarks.node_process``.

Commands come as lines of JSON on stdin, ``{"do": NAME, ...}``, and each is answered by a line on stdout. When stdin
ends, so does the process. Times are of the monotonic clock, which the processes of a machine share.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import os
import sys
import time
import traceback
from typing import Any

from benchmarks.nodes import KINDS, WireCount, until
from benchmarks.side import resident_bytes
from benchmarks.workload import records

MARKER = "@crossing@"
"""Stands once in every value that is marked, so that its crossings can be counted on the wire."""


class Process:
    """The commands. Each takes the rest of its line as keywords and returns what is to be answered."""

    def __init__(self) -> None:
        self.lags: list[int] = []
        self.watching: asyncio.Task[None] | None = None
        self.wire: WireCount | None = None
        self.node: Any = None

    async def start(
        self,
        kind: str,
        name: str,
        peers: list[str],
        listen: str = "127.0.0.1:0",
        client: str | None = None,
        count_wire: bool = False,
    ) -> dict[str, Any]:
        if count_wire:
            self.wire = WireCount(MARKER.encode())
        self.node = KINDS[kind]()
        await self.node.start(name, listen, peers, client, plain=count_wire)
        return {"address": self.node.address, "client": self.node.client_address}

    async def warm_up(self, kind: str) -> dict[str, Any]:
        """Import and run once what a node of that kind needs: so that its start is one of a program that runs."""
        node = KINDS[kind]()
        await node.start("nobody", "127.0.0.1:0", [], None, plain=False)
        await node.stop()
        return {}

    async def prepare(self, count: int, first: int = 0, marked: bool = False) -> dict[str, Any]:
        """Make the records before anything is timed."""
        self.pairs = list(records(count, first))
        if marked:
            for _, value in self.pairs:
                value["mark"] = MARKER
        gc.collect()
        gc.freeze()
        return {}

    async def write(self, turn: int = 256) -> dict[str, Any]:
        """Put all that is prepared, as fast as it goes, giving way to the network every *turn* puts."""
        put = self.node.put
        waits = inspect.iscoroutinefunction(put)
        started = time.monotonic_ns()
        for number, (name, value) in enumerate(self.pairs):
            if waits:
                await put(name, value)
            else:
                put(name, value)
            if number % turn == turn - 1:
                await asyncio.sleep(0)
        return {"started": started, "ended": time.monotonic_ns(), "seen": self.node.seen()}

    async def write_many(self, turn: int = 256) -> dict[str, Any]:
        """As `write`, *turn* in a call where a node has such a call."""
        put_many = getattr(self.node, "put_many", None)
        if put_many is None:
            return await self.write(turn)
        started = time.monotonic_ns()
        for first in range(0, len(self.pairs), turn):
            await put_many(self.pairs[first : first + turn])
            await asyncio.sleep(0)
        return {"started": started, "ended": time.monotonic_ns(), "seen": self.node.seen()}

    async def pace(self, rate: int, burst: int) -> dict[str, Any]:
        """Put what is prepared at *rate* a second, *burst* at a time; each value says when it was put."""
        put = self.node.put
        waits = inspect.iscoroutinefunction(put)
        step = burst * 1_000_000_000 // rate
        started = due = time.monotonic_ns()
        for number, (name, value) in enumerate(self.pairs):
            if number % burst == 0:
                # Sleeping is too coarse for fifty microseconds, so a single put gives way and looks again.
                while (left := due - time.monotonic_ns()) > 0:  # noqa: ASYNC110 — it is time that is waited for
                    await asyncio.sleep(0 if burst == 1 and left < 2_000_000 else left / 1e9)
                due += step
            value["sent"] = time.monotonic_ns()
            if waits:
                await put(name, value)
            else:
                put(name, value)
        return {"rate": len(self.pairs) * 1e9 / (time.monotonic_ns() - started)}

    async def watch(self) -> dict[str, Any]:
        """From now on keep how long each value took to come here."""
        self.watching = asyncio.create_task(self._watch())
        await asyncio.sleep(0)
        return {}

    async def _watch(self) -> None:
        async for value in self.node.values():
            if isinstance(value, dict) and "sent" in value:
                self.lags.append(time.monotonic_ns() - value["sent"])

    async def lags_of(self, count: int, seconds: float) -> dict[str, Any]:
        """The delays of *count* values, in microseconds; the first tenth is warming up and left out."""
        try:
            await until(lambda: len(self.lags) >= count, seconds, f"{count} changes ({len(self.lags)} came)")
        except TimeoutError:
            if self.watching is not None and self.watching.done():
                self.watching.result()  # says why it ended
            raise
        lags = sorted(self.lags[count // 10 :])

        def at(share: float) -> float:
            return lags[min(int(len(lags) * share), len(lags) - 1)] / 1000

        return {"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": lags[-1] / 1000}

    async def wait(self, count: int, seconds: float) -> dict[str, Any]:
        """When this node had *count* operations."""
        return {"at": await until(lambda: self.node.seen() >= count, seconds, f"{count} operations")}

    async def counters(self) -> dict[str, Any]:
        wire = self.wire
        return {
            "wire_bytes": wire.bytes if wire else None,
            "markers": wire.markers if wire else None,
            "rss": resident_bytes(),
            "cpu": time.process_time(),
            "seen": self.node.seen() if self.node is not None else 0,
        }

    async def stop(self) -> dict[str, Any]:
        if self.watching is not None:
            self.watching.cancel()
        await self.node.stop()
        return {}


async def main() -> None:
    """Obey until stdin ends."""
    process = Process()
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        command = json.loads(line)
        verb = command.pop("do")
        try:
            reply = await getattr(process, verb)(**command)
        except Exception as error:  # noqa: BLE001 — the one who asked is told
            traceback.print_exc()
            reply = {"failed": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()
        if verb == "stop":
            break
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main())
