"""Nodes that end badly: killed, interrupted, cancelled, copied, restored, started twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

import mmrepl
from mmrepl.errors import StoreForeign, StoreLocked
from mmrepl.storage import verify
from mmrepl.storage.memory import MemoryDisk, MemoryStorage
from tests.integration.nodes import PATIENCE, QUICK, connected, converged, until

ROOT = Path(__file__).parents[2]
ROUNDS = 20 if os.environ.get("MMREPL_SOAK") else 3


@contextlib.asynccontextmanager
async def writer(path, peer="", level="sync"):
    """A node in a process of its own, writing."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.integration.writer", str(path), peer, level,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def line(process):
    async with asyncio.timeout(PATIENCE):
        return json.loads(await process.stdout.readline())


async def rest(process):
    """What it said before it ended; a line that was cut by its death is none."""
    text, errors = await process.communicate()
    return [json.loads(each) for each in text.splitlines(keepends=True) if each.endswith(b"\n")], errors.decode()


async def test_kill_9_while_writing_loses_nothing_acknowledged_and_mints_no_dot_twice(tmp_path):
    """Over several lives: every acknowledged write is there afterwards, here and at the peer; no dot has two values."""
    path, acknowledged = tmp_path / "paris.db", {}
    async with mmrepl.Node("tokyo", limits=QUICK) as tokyo:
        for life in range(ROUNDS):
            async with writer(path, tokyo.address) as process:
                said = [await line(process) for _ in range(100 + 60 * life)][1:]
                process.send_signal(signal.SIGKILL)
                more, _ = await rest(process)
            for write in said + more:
                assert write["dot"] not in acknowledged, "minted twice"
                acknowledged[write["dot"]] = write
        async with mmrepl.Node("paris", path, limits=QUICK, peers=[tokyo.address]) as paris:
            await connected(paris, tokyo)
            await converged(paris, tokyo)
            for write in acknowledged.values():
                assert paris.get(write["key"]) == write["value"]
                assert tokyo.get(write["key"]) == write["value"]
            assert not any("equivocation" in text.lower() for text in tokyo.status()["complaints"])
            paris.core.check()
            tokyo.core.check()


@pytest.mark.parametrize("level", ["batch", "none"])
async def test_kill_9_loses_nothing_acknowledged_at_weaker_levels_once_it_was_handed_over(tmp_path, level):
    """The death of the process is no loss of power; what was told to a peer is there in any case (law L2)."""
    path = tmp_path / "paris.db"
    async with mmrepl.Node("tokyo", limits=QUICK) as tokyo:
        async with writer(path, tokyo.address, level) as process:
            for _ in range(200):
                await line(process)
            process.send_signal(signal.SIGKILL)
            await rest(process)
        heard = tokyo.version
        async with mmrepl.Node("paris", path, limits=QUICK) as paris:
            for origin, counter in heard.items():
                assert paris.version.counter(origin) >= counter


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_leaves_a_file_that_opens_cleanly(tmp_path, how):
    """In the middle of writing: the same incarnation, no doubt, everything acknowledged."""
    path, node, acknowledged = tmp_path / "paris.db", None, []
    for life in range(ROUNDS):
        async with writer(path) as process:
            said = [await line(process) for _ in range(20 + 30 * life)]
            process.send_signal(how)
            more, errors = await rest(process)
        assert process.returncode == 3, errors
        assert said[0]["doubt"] is None
        assert node in (None, said[0]["node"])
        node = said[0]["node"]
        acknowledged += [*said[1:], *more]
    assert verify(path).sound
    async with mmrepl.Node("paris", path) as paris:
        assert str(paris.core.local.store.node) == node
        assert paris.doubt is None
        for write in acknowledged:
            assert paris.get(write["key"]) == write["value"]


async def test_cancelling_anything_leaves_a_file_that_opens_cleanly(tmp_path):
    """At every point at which a program with a node can be cancelled: opening, writing, waiting, closing."""
    path, made = tmp_path / "paris.db", []

    async def program():
        async with mmrepl.Node("paris", path, limits=QUICK) as paris:
            for i in range(3):
                await paris.put(f"k{i}", i)
                made.append(i)
            await paris.put("l", 1, acks=1)

    for turns in range(40):
        made.clear()
        task = asyncio.ensure_future(program())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        if path.exists():
            async with mmrepl.Node("paris", path) as paris:
                assert paris.doubt is None
                for i in made:
                    assert paris.get(f"k{i}") == i
                paris.core.check()


async def test_closing_that_is_cancelled_is_closing_all_the_same(tmp_path):
    """Sockets, thread and file are released before the cancelled one goes on."""
    paris = mmrepl.Node("paris", tmp_path / "paris.db")
    await paris.start()
    address = paris.address
    waiting = [asyncio.ensure_future(paris.put(f"k{i}", i)) for i in range(50)]
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(paris.close())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert all(write.done() for write in waiting)
    async with mmrepl.Node("paris", tmp_path / "paris.db", listen=address) as again:
        assert again.doubt is None
        assert again.count() == 50


async def test_two_processes_on_one_file_are_refused(tmp_path):
    """The second says so, and touches nothing."""
    path = tmp_path / "paris.db"
    async with writer(path) as process:
        await line(process)
        with pytest.raises(StoreLocked):
            await mmrepl.Node("paris", path).start()
        assert await line(process)


async def test_a_copy_beside_the_original_is_refused_by_name(tmp_path):
    """Started under the same name it is told by whoever knows the original; it takes another incarnation besides."""
    async with mmrepl.Node("tokyo", limits=QUICK) as tokyo:
        async with mmrepl.Node("paris", tmp_path / "p.db", limits=QUICK, peers=[tokyo.address]) as paris:
            await connected(paris, tokyo)
            await paris.put("k", 1, acks=2)
        shutil.copy(tmp_path / "p.db", tmp_path / "copy.db")
        async with (
            mmrepl.Node("paris", tmp_path / "p.db", limits=QUICK, peers=[tokyo.address]) as paris,
            mmrepl.Node("paris", tmp_path / "copy.db", limits=QUICK, peers=[paris.address]) as copy,
        ):
            await connected(paris, tokyo)
            assert "copy" in copy.doubt
            assert copy.core.local.store.node != paris.core.local.store.node
            await until(copy, lambda: any("name" in text for text in copy.status()["complaints"]), "the refusal")
            await paris.put("k", 2, acks=2)
            assert tokyo.get("k") == 2


async def test_a_restored_backup_is_somebody_new_and_learns_what_it_forgot(tmp_path):
    """No dot is minted twice; what was written after the backup comes back from the peers."""
    async with mmrepl.Node("tokyo", limits=QUICK) as tokyo:
        async with mmrepl.Node("paris", tmp_path / "p.db", limits=QUICK, peers=[tokyo.address]) as paris:
            await connected(paris, tokyo)
            await paris.put("before", 1, acks=2)
            await paris.backup(tmp_path / "backup.db")
            await paris.put("after", 2, acks=2)
            before = paris.core.local.store.node
        async with mmrepl.Node("paris", tmp_path / "backup.db", limits=QUICK, peers=[tokyo.address]) as paris:
            assert "backup" in paris.doubt
            await connected(paris, tokyo)
            assert paris.core.local.store.node != before
            assert (paris.get("before"), paris.get("after")) == (1, 2)
            await paris.put("new", 3, acks=2)
            assert tokyo.get("new") == 3


async def test_an_old_copy_that_has_written_on_loses_nothing(tmp_path):
    """A machine set back, without its knowing: its peers tell it, and its write is kept beside what it had forgotten."""
    disk = MemoryDisk()
    async with mmrepl.Node("tokyo", limits=QUICK) as tokyo:
        async with _on(disk, tokyo) as paris:
            await connected(paris, tokyo)
            await paris.put("before", 1, acks=2)
        old = _state(disk)
        async with _on(disk, tokyo) as paris:
            await connected(paris, tokyo)
            await paris.put("lost", 2, acks=2)
            await paris.put("lost too", 3, acks=2)
        _put_back(disk, old)
        async with _on(disk, None) as paris:
            await paris.put("alone", 4)
        async with _on(disk, tokyo) as paris:
            await until(paris, lambda: paris.get("lost too") == 3 and paris.get("alone") == 4, "both")
            await until(tokyo, lambda: tokyo.get("alone") == 4, "the write of the copy")
            assert (tokyo.get("lost"), tokyo.get("before")) == (2, 1)


def _on(disk, peer):
    peers = [] if peer is None else [peer.address]
    return mmrepl.Node("paris", storage=MemoryStorage(disk), limits=QUICK, peers=peers)


def _state(disk):
    loaded = disk.loaded()
    return dict(loaded.batches()), dict(loaded.segments()), dict(loaded.meta)


def _put_back(disk, state):
    contents = disk._synced
    for held, then in zip((contents.batches, contents.segments, contents.meta), state, strict=True):
        held.clear()
        held.update(then)


async def test_a_wiped_node_comes_back_with_all_that_it_wrote(tmp_path):
    """Under another incarnation: its old writes are with its peers."""
    async with mmrepl.Node("tokyo", limits=QUICK) as tokyo:
        for life in range(3):
            path = tmp_path / f"{life}.db"
            async with mmrepl.Node("paris", path, limits=QUICK, peers=[tokyo.address]) as paris:
                await connected(paris, tokyo)
                for earlier in range(life):
                    assert paris.get(f"k{earlier}") == earlier
                await paris.put(f"k{life}", life, acks=2)


async def test_a_file_of_another_node_is_refused(tmp_path):
    """By name, untouched."""
    async with mmrepl.Node("paris", tmp_path / "p.db") as paris:
        await paris.put("k", 1)
    with pytest.raises(StoreForeign, match="paris"):
        await mmrepl.Node("tokyo", tmp_path / "p.db").start()
    async with mmrepl.Node("paris", tmp_path / "p.db") as paris:
        assert paris.doubt is None
        assert paris.get("k") == 1
    assert verify(tmp_path / "p.db").sound
