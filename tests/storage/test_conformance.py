"""Every storage of ours does what a storage must do, and agrees with the dumb twin on any history."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve

from mmrepl.errors import ClosedError, UsageError
from mmrepl.ports import Commit, Durability
from mmrepl.storage import MemoryDisk, MemoryStorage
from mmrepl.testing import storage_suite
from mmrepl.testing.storage_suite import StorageSuite, state
from tests.storage.places import DyingMemory, MemoryPlace, SqlitePlace


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


# -- planted bugs: a suite that cannot fail proves nothing


class Forgetful(MemoryStorage):
    """Keeps weak commits for itself until a strong one or closing."""

    def __init__(self, disk: MemoryDisk) -> None:
        super().__init__(disk)
        self._kept: list[Commit] = []

    def commit(self, commit: Commit, durability: Durability) -> None:
        self._kept.append(commit)
        if durability is not Durability.NONE:
            self._write()

    def close(self) -> None:
        if self._session:
            self._write()
        super().close()

    def _write(self) -> None:
        for commit in self._kept:
            super().commit(commit, Durability.SYNC)
        self._kept.clear()


class Torn(DyingMemory):
    """Writes a commit in two halves."""

    def commit(self, commit: Commit, durability: Durability) -> None:
        super().commit(evolve(commit, meta={}), durability)
        super().commit(Commit(meta=commit.meta), durability)


class Trusting(MemoryPlace):
    """A disk that never doubts."""

    def open(self) -> MemoryStorage:
        self.disk._doubt = None
        return super().open()


class ForgetfulPlace(MemoryPlace):
    def open(self) -> MemoryStorage:
        return Forgetful(self.disk)


class TornPlace(MemoryPlace):
    def open_dying(self, touches: int) -> MemoryStorage:
        return Torn(self.disk, touches)


@pytest.mark.parametrize(
    ("place", "fact"),
    [
        (ForgetfulPlace, storage_suite.what_was_committed_survives_the_process),
        (TornPlace, storage_suite.a_death_within_a_commit_leaves_all_of_it_or_nothing),
        (Trusting, storage_suite.a_loss_of_power_leaves_a_prefix_and_a_doubt),
    ],
)
def test_the_suite_finds_what_is_planted(place: type[MemoryPlace], fact):
    """Weak commits lost with the process, a commit in two halves, a lost tail that nobody is told of."""
    fact(MemoryPlace())
    with pytest.raises(AssertionError):
        fact(place())
