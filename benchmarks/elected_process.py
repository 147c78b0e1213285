"""
One node of `benchmarks.elected` in a process of its own: ``python -m benchmarks.elected_process LOOP KIND OPTIONS``.

Commands come as lines of JSON on stdin, ``[VERB, ARGUMENT...]``; each is answered by a line on stdout. Values say when
they were put by the monotonic clock, which the processes of a machine share.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from benchmarks.elected import ELECTION_MS, NAMES, in_flight, percentiles
from benchmarks.workload import key

PATIENCE_S = 60


class Ours:
    """A node of single-master mode."""

    def __init__(self, name: str, folder: str, addresses: dict[str, str], ack: str = "quorum") -> None:
        self._options: dict[str, Any] = {
            "path": Path(folder) / f"{name}.db",
            "listen": addresses[name],
            "peers": [address for other, address in addresses.items() if other != name],
        }
        self._name = name
        self._ack = ack
        self._watching: asyncio.Task[None] | None = None
        self._lags: list[int] = []

    async def start(self) -> None:
        from mmrepl.runtime.single_master_node import SingleMasterNode

        self._node: Any = SingleMasterNode(
            self._name, **self._options, ack=self._ack, client="127.0.0.1:0", election_ms=ELECTION_MS
        )  # fmt: skip
        await self._node.start()
        self.put = self._node.put
        gc.freeze()

    async def stop(self) -> None:
        await self._node.close()

    async def leads(self) -> bool:
        node = self._node
        return bool(node.takes_writes and sum(row["state"] == "live" for row in node.members()) == len(NAMES) - 1)

    async def accepts(self) -> bool:
        """Whether a write is acknowledged, now."""
        if not self._node.takes_writes:
            return False
        await self._node.put("accepted", 1, ack="quorum")
        return True

    async def connected(self) -> None:
        node = self._node
        await node.wait_until(lambda: len(node.core.up()) == len(NAMES) - 1, "everybody is there", PATIENCE_S)

    async def client(self) -> str:
        return str(self._node.client_address)

    async def position(self) -> int:
        return int(self._node.position.index)

    async def caught_up(self, index: int) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while self._node.position.index < index:
            if time.monotonic() > deadline:
                raise TimeoutError(f"at {self._node.position.index} of {index}")
            await asyncio.sleep(0.001)

    async def puts(self, flight: int, count: int) -> dict[str, Any]:
        return await in_flight(self.put, flight, count)

    async def alone(self, count: int) -> dict[str, Any]:
        """The same puts at a node that nobody follows, in the same process."""
        from mmrepl.runtime.single_master_node import SingleMasterNode

        path = self._options["path"].with_name(f"{self._name}-alone.db")
        async with SingleMasterNode(self._name, path, listen=None, election_ms=ELECTION_MS, ack="async") as node:
            await node.wait_until(lambda: node.takes_writes, "it leads", PATIENCE_S)
            await in_flight(node.put, 64, 2_000)
            return await in_flight(node.put, 64, count)

    async def reads(self, count: int) -> float:
        get, names = self._node.get, [key(number) for number in range(min(count, 10_000))]
        began = time.perf_counter()
        for _ in range(max(1, count // len(names))):
            for name in names:
                get(name)
        return max(1, count // len(names)) * len(names) / (time.perf_counter() - began)

    async def paced(self, count: int, rate: int) -> None:
        """That many puts at *rate* a second, one at a time; each value says when it was put."""
        due = time.monotonic_ns()
        under_way = set()
        for _ in range(count):
            due += 1_000_000_000 // rate
            while (left := due - time.monotonic_ns()) > 0:  # noqa: ASYNC110 - it is time that is waited for
                await asyncio.sleep(left / 1e9)
            task = asyncio.ensure_future(self.put("paced", time.monotonic_ns()))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)
        await self.put("paced", 0)

    async def watch(self) -> None:
        """From now on keep how long what was put last took to be seen here, looking twice a millisecond."""

        async def look() -> None:
            before = None
            while (sent := self._node.get("paced")) != 0:
                if sent != before and sent is not None:
                    self._lags.append(time.monotonic_ns() - sent)
                before = sent
                await asyncio.sleep(0.0005)

        self._watching = asyncio.ensure_future(look())

    async def lags(self) -> dict[str, Any]:
        assert self._watching is not None
        await asyncio.wait_for(self._watching, PATIENCE_S)
        return percentiles(self._lags)


class Multi:
    """A node of multi-master mode, whose writes wait for a majority."""

    def __init__(self, name: str, folder: str, addresses: dict[str, str]) -> None:
        self._name, self._path, self._addresses = name, Path(folder) / f"{name}.db", addresses

    async def start(self) -> None:
        import mmrepl

        peers = [address for other, address in self._addresses.items() if other != self._name]
        self._node = await mmrepl.Node(self._name, self._path, listen=self._addresses[self._name], peers=peers).start()
        gc.freeze()

    async def leads(self) -> bool:
        return sum(1 for _ in self._node.core.up()) == len(NAMES) - 1

    async def puts(self, flight: int, count: int) -> dict[str, Any]:
        node = self._node

        async def put(name: str, value: Any) -> None:
            await node.put(name, value, acks="majority")

        return await in_flight(put, flight, count)


class PySyncObj:
    """A replicated dict of PySyncObj: in memory, as it is unless told otherwise, its thread of its own."""

    def __init__(self, name: str, folder: str, addresses: dict[str, str]) -> None:
        self._own = addresses[name]
        self._others = [address for other, address in addresses.items() if other != name]

    async def start(self) -> None:
        from pysyncobj import SyncObj, SyncObjConf  # type: ignore[import-untyped]
        from pysyncobj.batteries import ReplDict  # type: ignore[import-untyped]

        self._dict: Any = ReplDict()
        self._object: Any = SyncObj(
            self._own, self._others, consumers=[self._dict],
            conf=SyncObjConf(autoTick=True, commandsQueueSize=1_000_000),
        )  # fmt: skip

    async def leads(self) -> bool:
        return bool(self._object._isLeader() and self._object.isReady())

    async def puts(self, flight: int, count: int) -> dict[str, Any]:
        loop = asyncio.get_running_loop()

        def once(name: str, value: Any) -> asyncio.Future[Any]:
            done: asyncio.Future[Any] = loop.create_future()
            self._dict.set(
                name, value, callback=lambda _result, error: loop.call_soon_threadsafe(done.set_result, error)
            )  # fmt: skip
            return done

        async def put(name: str, value: Any) -> None:
            for _ in range(100):
                if not await once(name, value):
                    return
                await asyncio.sleep(0.05)  # its leader was another one for a moment: a client would try again, too
            raise RuntimeError("PySyncObj refuses a write again and again")

        return await in_flight(put, flight, count)


KINDS: dict[str, Any] = {"ours": Ours, "multi": Multi, "pysyncobj": PySyncObj}


async def main() -> None:
    """Obey until stdin ends."""
    node = KINDS[sys.argv[2]](**json.loads(sys.argv[3]))
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        verb, *arguments = json.loads(line)
        try:
            reply = await getattr(node, verb)(*arguments)
        except Exception as error:  # noqa: BLE001 — the one who asked is told
            traceback.print_exc()
            reply = {"failed": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


def new_loop() -> asyncio.AbstractEventLoop:
    """The event loop that was asked for."""
    if sys.argv[1] == "asyncio":
        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
