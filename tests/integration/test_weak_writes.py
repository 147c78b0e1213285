"""Weak writes on real disks and over real sockets: what is lost with its process is not minted again (law L2)."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import mmrepl
from mmrepl.causality.context import CausalContext
from mmrepl.resolvers import KeepSiblings
from mmrepl.storage.memory import MemoryDisk, MemoryStorage

ROOT = Path(__file__).parents[2]


def weak_writer(path, level, end):
    """Run the other process to its end; what it said of its last write."""
    done = subprocess.run(  # noqa: PLW1510 - what it ends with is its own kill
        [sys.executable, "-m", "tests.integration.weak_writer", str(path), level, end],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert not done.stderr, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("level", ["batch", "none"])
def test_kill_9_under_an_answered_write(tmp_path, level):
    """The write is lost. Whoever holds its context overwrites with that nothing that came after it."""
    lost = weak_writer(tmp_path / "paris.db", level, "killed")
    with mmrepl.Replica("paris", tmp_path / "paris.db", default=KeepSiblings()) as paris:
        assert dict(paris) == {"first": [1]}, "the test is about a write that had not reached the disk"
        assert paris.node != lost["node"]
        assert "answered before they were on disk" in paris.doubt
        assert str(paris.put("k", "other").dot) != lost["dot"]
        paris.put("k", "late", context=CausalContext.from_bytes(bytes.fromhex(lost["context"])))
        assert paris["k"] == ["other", "late"]
    with mmrepl.Replica("paris", tmp_path / "paris.db", default=KeepSiblings()) as paris:
        assert paris.doubt is None


@pytest.mark.parametrize(("level", "end"), [("none", "calm"), ("batch", "unclosed"), ("sync", "killed")])
def test_nothing_is_doubted_where_nothing_can_be_lost(tmp_path, level, end):
    """Killed when all was on disk, or ended without being closed: the same incarnation, and everything is there."""
    said = weak_writer(tmp_path / "paris.db", level, end)
    with mmrepl.Replica("paris", tmp_path / "paris.db", default=KeepSiblings()) as paris:
        assert (paris.node, paris.doubt) == (said["node"], None)
        assert dict(paris) == {"first": [1], "k": ["lost"]}


class Gate(MemoryStorage):
    """A storage whose commits wait while it is shut."""

    def __init__(self, disk):
        super().__init__(disk)
        self.open = threading.Event()
        self.open.set()
        self.reached = threading.Event()

    def commit(self, commit, durability):
        if not self.open.is_set():
            self.reached.set()
        assert self.open.wait(20)
        super().commit(commit, durability)


async def test_a_node_answers_weak_writes_at_once_when_the_disk_knows_that_there_are_any():
    """The first one waits for the disk, the second one does not; killed then, the node comes back as another."""
    disk = MemoryDisk()
    gate = Gate(disk)
    async with mmrepl.Node("paris", storage=gate, durability="none") as paris:
        gate.open.clear()
        first = asyncio.ensure_future(paris.put("k", 1))
        assert await asyncio.to_thread(gate.reached.wait, 20)
        assert not first.done()
        gate.open.set()
        await first
        gate.open.clear()
        await paris.put("k", 2)
        await paris.put("k", 3)
        copy = MemoryDisk()
        copy._synced = disk._synced.copy()  # what a kill would leave
        for commit in disk._unsynced:
            copy._synced.apply(commit)
        node = str(paris.core.local.store.node)
        gate.open.set()
    async with mmrepl.Node("paris", storage=MemoryStorage(copy)) as again:
        assert str(again.core.local.store.node) != node
        assert "answered before" in again.doubt
        assert again.get("k") == 1
    async with mmrepl.Node("paris", storage=MemoryStorage(disk)) as closed:
        assert str(closed.core.local.store.node) == node
        assert closed.doubt is None, "it was closed in order"


async def test_the_client_port_answers_weak_writes_no_sooner():
    """The answer to the first one is held, those to the next ones are not; reads are not held by other clients'."""
    gate = Gate(MemoryDisk())
    async with mmrepl.Node("paris", storage=gate, durability="batch", client="127.0.0.1:0") as paris:
        reader, writer = await asyncio.open_connection(*paris.client_address.rsplit(":", 1))
        other_reader, other_writer = await asyncio.open_connection(*paris.client_address.rsplit(":", 1))
        gate.open.clear()
        writer.write(b"SET k 1\r\n")
        other_writer.write(b"PING\r\n")
        assert await other_reader.readline() == b"+PONG\r\n"
        while not paris.core.local.store.own.head:
            other_writer.write(b"PING\r\n")
            assert await other_reader.readline() == b"+PONG\r\n"
        answer = asyncio.ensure_future(reader.readline())
        other_writer.write(b"GET k\r\nPING\r\n")
        assert [await other_reader.readline() for _ in range(3)] == [b"$1\r\n", b"1\r\n", b"+PONG\r\n"]
        assert not answer.done()
        gate.open.set()
        assert await answer == b"+OK\r\n"
        gate.open.clear()
        writer.write(b"SET k 2\r\n")
        assert await reader.readline() == b"+OK\r\n"
        assert paris.core.local.durable < paris.core.local.store.log.end
        gate.open.set()
        for stream in (writer, other_writer):
            stream.close()
            await stream.wait_closed()


# -- strong writes that are under way


def test_the_context_of_a_strong_write_is_told_when_it_is_on_disk():
    """Its value is there to be seen before."""
    gate = Gate(MemoryDisk())
    with mmrepl.Replica("paris", storage=gate) as paris, ThreadPoolExecutor(2) as threads:
        gate.open.clear()
        writing = threads.submit(paris.put, "k", 1)
        assert gate.reached.wait(20)
        assert paris["k"] == 1
        reading = threads.submit(paris.read, "k")
        assert paris.read("other").value is None, "nothing of ours in it"
        assert not reading.done()
        gate.open.set()
        assert reading.result(20).context == writing.result(20).context
        assert paris._core.durable == paris._store.log.end


async def test_the_client_port_tells_a_context_when_it_is_on_disk():
    """Of a write of another client."""
    gate = Gate(MemoryDisk())
    async with mmrepl.Node("paris", storage=gate, client="127.0.0.1:0") as paris:
        streams = [await asyncio.open_connection(*paris.client_address.rsplit(":", 1)) for _ in range(2)]
        (reader, writer), (other_reader, other_writer) = streams
        gate.open.clear()
        writer.write(b"SET k 1\r\n")
        assert await asyncio.to_thread(gate.reached.wait, 20)
        other_writer.write(b"GET k\r\n")
        assert [await other_reader.readline() for _ in range(2)] == [b"$1\r\n", b"1\r\n"]
        other_writer.write(b"MM.CONTEXT k\r\n")
        answer = asyncio.ensure_future(other_reader.readline())
        other_writer.write(b"PING\r\n")
        for _ in range(5):
            await paris.wait_until(lambda: True, "a turn", 1)
        assert not answer.done()
        gate.open.set()
        assert (await answer).startswith(b"$")
        assert await reader.readline() == b"+OK\r\n"
        for _, stream in streams:
            stream.close()
            await stream.wait_closed()
