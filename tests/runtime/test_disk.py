"""A small commit is made on the event loop while the disk is quick, by the thread when it is not; nobody can tell."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmrepl
from mmrepl.effects import Persist
from mmrepl.errors import DiskFull, StoreFailed
from mmrepl.ports import Commit, Durability
from mmrepl.runtime import driver as driver_module
from mmrepl.runtime.disk import DOUBT_MAX, DOUBT_OF_A_STALL, SMALL_BYTES, STALL_SECONDS, Disk, is_small
from mmrepl.runtime.driver import Driver
from mmrepl.storage.memory import MemoryDisk, MemoryStorage
from mmrepl.types import Limits

QUICK, SLOW = 0.0001, 0.003


class Timed(MemoryStorage):
    """A storage whose commits take as long as it is told, by a clock of its own; remembers who made them."""

    def __init__(self, disk: MemoryDisk | None = None) -> None:
        super().__init__(disk)
        self.now = 0.0
        self.takes = QUICK
        self.made: list[tuple[int, bytes]] = []  # thread, and the last row
        self.mood: BaseException | None = None
        self.backups: list[threading.Event] = []
        self.waiting = False  # in the midst of a backup

    def commit(self, commit: Commit, durability: Durability) -> None:
        self.now += self.takes
        if self.mood is not None:
            mood, self.mood = self.mood, None
            raise mood
        super().commit(commit, durability)
        self.made.append((threading.get_ident(), b"".join(commit.batches.values())))

    def backup(self, target: str) -> None:
        self.waiting = True
        self.backups[0].wait(10)


def row(number: int, size: int = 10) -> Persist:
    return Persist(Commit(batches={number: bytes(size)}), Durability.SYNC, number)


async def ended(disk: Disk) -> None:
    await disk.close()


async def there(disk: Disk, persist: Persist) -> Exception | None:
    """Have the thread make it."""
    done: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    disk.commit_there(persist, lambda _, error: done.set_result(error))
    return await done


async def quick_disk() -> tuple[Timed, Disk]:
    storage = Timed()
    storage.load()
    disk = Disk(storage, seconds=lambda: storage.now)
    while not disk.is_quick:
        await there(disk, row(len(storage.made)))
    return storage, disk


async def test_a_disk_is_not_taken_for_quick_before_it_was_seen_to_be():
    """The first commits are the thread's."""
    storage, disk = await quick_disk()
    assert len(storage.made) == DOUBT_MAX // 2
    assert threading.get_ident() not in {thread for thread, _ in storage.made}
    await ended(disk)


async def test_a_disk_may_be_slow_now_and_then_but_not_often():
    """One slow commit in four leaves the loop its commits; every other one takes them away."""
    storage, disk = await quick_disk()
    for number in range(DOUBT_MAX):
        await there(disk, row(number))
    for number in range(40):
        storage.takes = QUICK if number % 4 else SLOW
        assert disk.commit_here(row(number)) is None
        assert disk.is_quick
    refused = 0
    for number in range(40):
        storage.takes = QUICK if number % 2 else SLOW
        disk.commit_here(row(number))
        refused += not disk.is_quick
    assert refused > 10
    await ended(disk)


async def test_after_a_stall_the_thread_has_the_disk_for_long():
    """A commit that everybody felt is not risked again for long; the longer it was, the longer."""
    storage, disk = await quick_disk()
    for times in (1, 10):
        storage.takes = STALL_SECONDS * times * 1.001
        disk.commit_here(row(0))
        storage.takes = QUICK
        count = 0
        while not disk.is_quick:
            await there(disk, row(0))
            count += 1
        assert count == DOUBT_OF_A_STALL * times - DOUBT_MAX // 2
    await ended(disk)


@given(st.lists(st.sampled_from([QUICK, SLOW, STALL_SECONDS * 2]), max_size=200))
@settings(max_examples=40, deadline=None)
def test_of_any_commits_on_the_loop_few_are_slow(durations: list[float]):
    """Whatever the disk does, at most a third of what is made on the loop is slow, and one of it has stalled it."""

    async def story() -> None:
        storage, disk = await quick_disk()
        slow = made = stalls = 0
        for takes in durations:
            storage.takes = takes
            if disk.is_quick:
                disk.commit_here(row(0))
                made += 1
                slow += takes == SLOW
                stalls += takes > STALL_SECONDS
            else:
                await there(disk, row(0))
        assert stalls <= 1 + len(durations) // DOUBT_OF_A_STALL
        assert slow * 2 <= (made - slow) + DOUBT_MAX
        await ended(disk)

    asyncio.run(story())


async def test_nothing_is_made_on_the_loop_while_the_thread_has_something():
    """A storage is used from one thread at a time: a backup, too, keeps the loop away, and so does a cancelled one."""
    storage, disk = await quick_disk()
    storage.backups.append(threading.Event())
    copying = asyncio.ensure_future(disk.backup("copy"))
    while not storage.waiting:  # noqa: ASYNC110 - another thread sets it
        await asyncio.sleep(0)
    assert not disk.is_quick
    copying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copying
    await asyncio.sleep(0)
    assert not disk.is_quick
    storage.backups[0].set()
    await there(disk, row(0))
    assert disk.is_quick
    await ended(disk)


def test_only_a_short_row_by_itself_is_small():
    """What deletes, or writes elsewhere too, or is long, may take longer than a page."""
    assert is_small(Commit(batches={1: bytes(SMALL_BYTES)}))
    assert not is_small(Commit(batches={1: bytes(SMALL_BYTES + 1)}))
    assert not is_small(Commit(batches={1: b"", 2: b""}))
    assert not is_small(Commit(batches={1: b""}, meta={"a": b""}))
    assert not is_small(Commit(batches={1: b""}, segments={1: None}))
    assert not is_small(Commit(batches={1: b""}, drop_batches=(0, 1)))
    assert not is_small(Commit(segments={1: b""}))


# -- a node


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> Timed:
    """The storage of a node whose disk measures time by it, and is tried again at once when it was full."""
    storage = Timed(MemoryDisk())
    monkeypatch.setattr(driver_module, "Disk", lambda of: Disk(of, seconds=lambda: storage.now))
    monkeypatch.setattr(driver_module, "DISK_FULL_SECONDS", 0.005)
    return storage


async def warmed(node: Any, storage: Timed) -> None:
    """Write until the node makes its commits on the loop."""
    for number in range(3 * DOUBT_MAX):
        await node.put("warm", number)
    assert storage.made[-1][0] == threading.get_ident()


async def test_a_node_makes_small_commits_itself_and_large_ones_in_the_thread(timed: Timed):
    """And both are in the storage when their writer is answered."""
    async with mmrepl.Node("paris", storage=timed) as node:
        await warmed(node, timed)
        await node.put("small", "few bytes")
        assert timed.made[-1][0] == threading.get_ident()
        assert b"few bytes" in timed.made[-1][1]
        await node.put("large", "x" * SMALL_BYTES)
        assert timed.made[-1][0] != threading.get_ident()
        timed.takes = SLOW
        for number in range(10):
            await node.put("slow", number)
        assert timed.made[-1][0] != threading.get_ident()


async def nothing_is_durable_before_it_is_committed(storage: Timed) -> None:
    """A writer is answered when its bytes are in the storage."""
    async with mmrepl.Node("paris", storage=storage) as node:
        await warmed(node, storage)
        for number in range(20):
            await asyncio.wait_for(node.put("key", f"value {number}"), 5)
            assert f"value {number}".encode() in storage.made[-1][1]


async def test_a_write_is_answered_when_it_is_committed(timed: Timed):
    await nothing_is_durable_before_it_is_committed(timed)


async def test_planted_an_answer_before_the_commit_is_found(timed: Timed, monkeypatch: pytest.MonkeyPatch):
    """A driver that reports a commit as durable and hands it to the thread only then."""

    def early(self: Driver) -> bool:
        persist = self.core.local.take_persist()
        if persist is None:
            return True
        self._note_committed(persist, None)
        asyncio.get_running_loop().call_later(0.05, self._disk.commit_here, persist)
        return True

    monkeypatch.setattr(Driver, "_commit_first", early)
    with pytest.raises(AssertionError):
        await nothing_is_durable_before_it_is_committed(timed)


async def test_what_is_sent_as_soon_as_it_is_durable_asks_to_be_confirmed(timed: Timed):
    """No writer that wants acknowledgements waits for the next round of gossip."""
    limits = Limits(gossip_tick_ms=60_000)
    async with (
        mmrepl.Node("paris", storage=timed, limits=limits) as paris,
        mmrepl.Node("tokyo", limits=limits, peers=[paris.address]) as tokyo,
    ):
        await paris.wait_connected("tokyo")
        await warmed(paris, timed)
        for number in range(20):
            await paris.put("key", number, acks="all", timeout=5)
        assert tokyo.get("key") == 19


async def test_a_full_disk_is_tried_again_and_nothing_is_lost(timed: Timed):
    """Met on the loop as in the thread."""
    async with mmrepl.Node("paris", storage=timed) as node:
        await warmed(node, timed)
        timed.mood = DiskFull("no room")
        with pytest.raises(DiskFull) as caught:
            await node.put("waits", 1)
        assert not caught.value.definite
        await node.wait_until(lambda: node.status()["storage"]["full"] is None, "there is room again")
        await node.put("after", 2)
    assert any(b"waits" in body for _, body in timed.made)


async def test_a_failed_disk_ends_all_writing(timed: Timed):
    """As when it fails in the thread."""
    async with mmrepl.Node("paris", storage=timed) as node:
        await warmed(node, timed)
        timed.mood = StoreFailed("broken")
        with pytest.raises(StoreFailed):
            await node.put("lost", 1)
        with pytest.raises(StoreFailed):
            await node.put("refused", 1)


async def test_a_commit_that_was_interrupted_is_made_whole_by_the_thread(timed: Timed):
    """Ctrl-C in the middle of a commit on the loop leaves the loop; what was to be committed is, before the end."""
    async with mmrepl.Node("paris", storage=timed) as node:
        await warmed(node, timed)
        driver = node._driver
        timed.mood = KeyboardInterrupt()
        node.put_now("", "interrupted", b"\x01", None, Durability.SYNC)
        assert driver._pump is not None
        driver._pump.cancel()
        driver._pump = None
        with pytest.raises(KeyboardInterrupt):
            driver._turn()
    assert any(b"interrupted" in body for _, body in timed.made)
