"""Every storage of ours does what a storage must do, and agrees with the dumb twin on any history."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmrepl.errors import ClosedError, UsageError
from mmrepl.ports import Commit, Durability
from mmrepl.storage import MemoryDisk, MemoryStorage
from mmrepl.testing.storage_suite import StorageSuite, state
from tests.storage.places import MemoryPlace, SqlitePlace


class TestMemory(StorageSuite):
    def place(self, folder: Path) -> MemoryPlace:
        return MemoryPlace()


class TestSqlite(StorageSuite):
    def place(self, folder: Path) -> SqlitePlace:
        return SqlitePlace(folder)


def test_memory_without_a_disk_keeps_nothing_and_cannot_be_backed_up(tmp_path: Path):
    """A replica in memory is gone with its process, and says so when it is asked for a backup."""
    storage = MemoryStorage()
    assert state(storage.load()) == ({}, {}, {})
    storage.commit(Commit(batches={1: b"x"}), Durability.SYNC)
    with pytest.raises(UsageError, match="give it a path"):
        storage.backup(str(tmp_path / "b"))
    storage.close()
    assert state(MemoryStorage().load()) == ({}, {}, {})


@pytest.mark.parametrize(("keep_count", "left"), [(0, [0]), (1, [0, 1]), (5, [0, 1, 2])])
def test_lost_power_takes_the_latest_unsynced_commits_and_leaves_a_doubt(keep_count: int, left: list[int]):
    """What was synced stays; of the rest a prefix; and the doubt is there until the first commit."""
    disk = MemoryDisk()
    storage = MemoryStorage(disk)
    storage.load()
    for position, level in enumerate([Durability.BATCH, Durability.NONE, Durability.NONE]):
        storage.commit(Commit(batches={position: b"x"}), level)
    disk.lose_power(keep_count=keep_count)
    with pytest.raises(ClosedError, match="crashed"):
        storage.commit(Commit(), Durability.SYNC)
    storage.close()
    for _attempt in range(2):
        again = MemoryStorage(disk)
        loaded = again.load()
        assert loaded.doubt is not None
        assert list(state(loaded)[0]) == left
        again.close()
    settled = MemoryStorage(disk)
    settled.load()
    settled.commit(Commit(), Durability.SYNC)
    settled.close()
    assert MemoryStorage(disk).load().doubt is None


def test_lost_power_after_a_sync_loses_nothing_and_raises_no_doubt():
    """A strong commit syncs the weak ones before it."""
    disk = MemoryDisk()
    storage = MemoryStorage(disk)
    storage.load()
    storage.commit(Commit(batches={0: b"x"}), Durability.NONE)
    storage.commit(Commit(batches={1: b"x"}), Durability.SYNC)
    disk.lose_power()
    loaded = MemoryStorage(disk).load()
    assert loaded.doubt is None
    assert list(state(loaded)[0]) == [0, 1]
