"""The disk is full, broken, missing or forbidden; somebody presses Ctrl-C: what was told stays true."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from mmrepl.errors import ClosedError, DiskFull, StorageError, StoreFailed, UsageError
from mmrepl.ports import Commit, Durability
from mmrepl.storage import SqliteStorage, verify
from mmrepl.storage.sqlite import CHECKPOINT_PAGES
from mmrepl.testing.storage_suite import reopened, state
from tests.storage.places import FlakyConnection, SqlitePlace, names

SYNC, NONE = Durability.SYNC, Durability.NONE


def batch(position: int, size: int = 10) -> Commit:
    return Commit(batches={position: b"x" * size})


def opened(tmp_path: Path) -> tuple[SqlitePlace, SqliteStorage]:
    place = SqlitePlace(tmp_path)
    storage = place.open()
    storage.load()
    storage.commit(batch(0), SYNC)
    return place, storage


def broken(code: int, name: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode, error.sqlite_errorname = code, name
    return error


# -- full


def test_full_disk_refuses_the_commit_whole_and_the_store_goes_on(tmp_path: Path):
    """A definite error; smaller commits still fit, and the same one does once there is space."""
    place, storage = opened(tmp_path)
    storage._connection.execute("PRAGMA max_page_count=40")
    large = Commit(batches={1: b"x" * 100_000, 2: b"y" * 100_000}, segments={1: b"s"}, meta={"a": b"b"})
    for _attempt in range(2):
        with pytest.raises(DiskFull, match=r"no space left.*paris\.db") as caught:
            storage.commit(large, SYNC)
        assert caught.value.definite
        with pytest.raises(DiskFull):
            storage.commit(batch(1, 200_000), NONE)
    storage.commit(batch(1, 50), SYNC)
    storage._connection.execute("PRAGMA max_page_count=1000000")
    place.crash(storage)
    assert reopened(place) == ({0: b"x" * 10, 1: b"x" * 50}, {}, {})
    storage = place.open()
    storage.load()
    storage.commit(large, SYNC)
    storage.close()
    assert reopened(place)[0] == {0: b"x" * 10, **large.batches}
    assert verify(place.path).sound


def test_no_space_for_a_checkpoint_is_no_reason_to_refuse(tmp_path: Path):
    """The commit is in the log already; the checkpoint is tried again later."""
    place, storage = opened(tmp_path)
    tried: list[str] = []

    def full(sql: str) -> None:
        if "wal_checkpoint" in sql:
            tried.append(sql)
            raise broken(sqlite3.SQLITE_FULL, "SQLITE_FULL")

    FlakyConnection(storage, full, lambda _sql: None)
    for position in range(1, 4):
        storage.commit(batch(position, CHECKPOINT_PAGES * 4096), SYNC)
    assert len(tried) == 3
    storage._connection = storage._connection._real
    storage.close()
    assert list(reopened(place)[0]) == [0, 1, 2, 3]


# -- broken


@pytest.mark.parametrize("statement", ["INSERT OR REPLACE INTO batches", "COMMIT", "INSERT OR REPLACE INTO meta"])
def test_after_a_failed_write_or_sync_nothing_is_accepted_any_more(tmp_path: Path, statement: str):
    """The commit that met it may be on disk (indefinite), all later ones certainly are not; reopening helps."""
    place, storage = opened(tmp_path)

    def fail(sql: str) -> None:
        if sql.startswith(statement):
            raise broken(sqlite3.SQLITE_IOERR_FSYNC, "SQLITE_IOERR_FSYNC")

    FlakyConnection(storage, fail, lambda _sql: None)
    with pytest.raises(StoreFailed, match="SQLITE_IOERR_FSYNC") as caught:
        storage.commit(batch(1) if "batches" in statement else Commit(batches={1: b"y"}, meta={"a": b"b"}), SYNC)
    assert not caught.value.definite
    storage._connection = storage._connection._real  # the disk seems well again: it is not trusted
    for use in (lambda: storage.commit(batch(2), SYNC), lambda: storage.commit(Commit(), NONE)):
        with pytest.raises(StoreFailed, match="earlier") as later:
            use()
        assert later.value.definite
    with pytest.raises(StoreFailed):
        storage.backup(str(tmp_path / "backup.db"))
    storage.close()
    with pytest.raises(ClosedError):
        storage.commit(batch(2), SYNC)
    storage = place.open()
    loaded = storage.load()
    assert loaded.doubt is not None  # it could not be closed in order
    assert list(state(loaded)[0]) == [0]
    storage.commit(batch(1), SYNC)
    storage.close()
    assert list(reopened(place)[0]) == [0, 1]


def test_a_failed_checkpoint_fails_the_next_commit_not_the_one_that_was_made(tmp_path: Path):
    """What was committed is told so; then nothing more is."""
    place, storage = opened(tmp_path)

    def fail(sql: str) -> None:
        if "wal_checkpoint" in sql:
            raise broken(sqlite3.SQLITE_IOERR_FSYNC, "SQLITE_IOERR_FSYNC")

    FlakyConnection(storage, fail, lambda _sql: None)
    storage.commit(batch(1, CHECKPOINT_PAGES * 4096), SYNC)
    with pytest.raises(StoreFailed, match="checkpoint") as caught:
        storage.commit(batch(2), SYNC)
    assert caught.value.definite
    storage._connection = storage._connection._real
    storage.close()
    storage = place.open()
    assert list(state(storage.load())[0]) == [0, 1]
    storage.close()


def test_a_failure_while_closing_is_told_and_the_file_released(tmp_path: Path):
    """The last weak commits may not be on disk."""
    place, storage = opened(tmp_path)

    def fail(sql: str) -> None:
        if "INTO self" in sql:
            raise broken(sqlite3.SQLITE_IOERR_FSYNC, "SQLITE_IOERR_FSYNC")

    storage.commit(batch(1), NONE)
    FlakyConnection(storage, fail, lambda _sql: None)
    with pytest.raises(StoreFailed):
        storage.close()
    storage.close()
    assert place.doubt() is not None


def test_planted_bug_going_on_after_a_failed_sync_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A store that forgets its failure would acknowledge again."""
    plain = SqliteStorage._refusal

    def forgetful(self: SqliteStorage, error: sqlite3.Error) -> StorageError:
        refusal = plain(self, error)
        self._failed = None
        return refusal

    monkeypatch.setattr(SqliteStorage, "_refusal", forgetful)
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        test_after_a_failed_write_or_sync_nothing_is_accepted_any_more(tmp_path, "COMMIT")


# -- wrong arguments


def test_what_cannot_be_stored_is_refused_whole(tmp_path: Path):
    """A body that is no bytes, or a key beyond 64 bits: nothing of the commit was done, and the store goes on."""
    place, storage = opened(tmp_path)
    for wrong in ({1: b"fine", 2: "text"}, {1: b"fine", 2**70: b"far"}):
        with pytest.raises((TypeError, OverflowError)):
            storage.commit(Commit(batches=wrong), SYNC)
    storage.commit(batch(3), SYNC)
    storage.close()
    assert list(reopened(place)[0]) == [0, 3]


def test_a_commit_larger_than_sqlite_allows_is_refused_whole(tmp_path: Path):
    """A definite error, and the store goes on."""
    place, storage = opened(tmp_path)
    storage._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 100_000)
    with pytest.raises(StorageError, match="larger than SQLite allows") as caught:
        storage.commit(batch(1, 200_000), SYNC)
    assert caught.value.definite
    storage.commit(batch(1), SYNC)
    storage.close()
    assert list(reopened(place)[0]) == [0, 1]


# -- interrupted


COMMITS = {
    "one row": batch(1),
    "many": Commit(batches={1: b"x" * 10, 2: b"y"}, drop_batches=(0, 1), segments={1: b"s"}, meta={"a": b"1"}),
}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", COMMITS)
def test_an_interrupted_commit_is_whole_or_absent_and_finished_by_the_next_call(tmp_path: Path, kind: str, when: str):
    """At each of its statements. What follows never stands on a hole."""
    commit = COMMITS[kind]
    whole = {k: b for k, b in {0: b"x" * 10, **commit.batches}.items() if not (commit.drop_batches and k == 0)}
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        place, storage = opened(folder)
        seen: list[str] = []

        def interrupt(sql: str, number: int = number, seen: list[str] = seen) -> None:
            seen.append(sql)
            if len(seen) == number + 1:
                raise KeyboardInterrupt

        FlakyConnection(storage, *((interrupt, len) if when == "before" else (len, interrupt)))
        try:
            storage.commit(commit, SYNC)
        except KeyboardInterrupt:
            pass
        else:
            storage._connection = storage._connection._real
            storage.close()
            assert number > 0
            return
        storage._connection = storage._connection._real
        at_once = place.picture()
        storage.commit(batch(9), SYNC)
        storage.close()
        assert reopened(place)[0] == {**whole, 9: b"x" * 10}
        place.put_back(at_once)
        assert reopened(place)[0] in ({0: b"x" * 10}, whole)
    pytest.fail("the commit has no end")


def test_an_interrupted_commit_stays_the_first_even_when_the_disk_is_full(tmp_path: Path):
    """Whoever repeats only the later one, which was refused, gets both, in order."""
    place, storage = opened(tmp_path)

    def interrupt(sql: str) -> None:
        if "INTO batches" in sql:
            raise KeyboardInterrupt

    FlakyConnection(storage, interrupt, len)
    with pytest.raises(KeyboardInterrupt):
        storage.commit(batch(1, 200_000), SYNC)
    storage._connection = storage._connection._real
    storage._connection.execute("PRAGMA max_page_count=20")
    for _attempt in range(2):
        with pytest.raises(DiskFull):
            storage.commit(batch(2), SYNC)
    storage._connection.execute("PRAGMA max_page_count=10000")
    storage.commit(batch(2), SYNC)
    storage.close()
    assert list(reopened(place)[0]) == [0, 1, 2]


def test_closing_finishes_an_interrupted_commit(tmp_path: Path):
    """So that a program that ends on Ctrl-C has its last write whole."""
    place, storage = opened(tmp_path)

    def interrupt(sql: str) -> None:
        if "INTO batches" in sql:
            raise KeyboardInterrupt

    FlakyConnection(storage, interrupt, len)
    with pytest.raises(KeyboardInterrupt):
        storage.commit(batch(1), NONE)
    storage._connection = storage._connection._real
    storage.close()
    assert list(reopened(place)[0]) == [0, 1]


# -- places that cannot be


def test_a_place_that_cannot_hold_a_store_is_refused_with_the_way_out(tmp_path: Path):
    """Missing directory, directory, device, nothing: typed errors with the path, and nothing is left behind."""
    for path, said in [
        (tmp_path / "missing" / "paris.db", "no directory .*create it first"),
        (tmp_path, "is a directory; give the path of a file"),
        (Path("/dev/null"), "not a regular file"),
        (tmp_path / ("n" * 300), "File name too long"),
        (tmp_path / "file" / "paris.db", "Not a directory|no directory"),
    ]:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(StorageError, match=said) as caught:
            SqliteStorage(path).load()
        assert str(path)[:100] in str(caught.value)
        with pytest.raises(StorageError):
            verify(path)
    assert names(tmp_path) == ["file"]
    with pytest.raises(StorageError, match="No such file"):
        verify(tmp_path / "nothing.db")
    for nothing in ("", ":memory:", "a\0b", 7):
        with pytest.raises((UsageError, TypeError)):
            SqliteStorage(nothing)


def test_permissions_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A file or folder that may not be written. (Asked of the system as for a user that is not root.)"""
    place = SqlitePlace(tmp_path)
    place.commit(batch(1))
    for forbidden, said in ((place.path, "read and write it"), (tmp_path, "write its log")):
        with monkeypatch.context() as patch:
            patch.setattr(os, "access", lambda path, _mode, f=forbidden: os.fspath(path) != os.fspath(f))
            with pytest.raises(StorageError, match=f"no permission to {said}"):
                place.open().load()
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        with pytest.raises(StorageError, match="no permission to write in"):
            SqliteStorage(tmp_path / "new.db").load()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_file_and_folder_are_refused(tmp_path: Path):
    """The real thing, where there are permissions."""
    place = SqlitePlace(tmp_path)
    place.commit(batch(1))
    for path in (place.path, tmp_path):
        mode = path.stat().st_mode
        path.chmod(mode & ~0o222)
        try:
            with pytest.raises(StorageError, match="no permission"):
                place.open().load()
        finally:
            path.chmod(mode)


def test_any_name_will_do(tmp_path: Path):
    """Names that mean something in a URI, to a shell, or nothing in Unicode."""
    for name in (
        "a b?mode=ro#x%20.db",
        "'; DROP TABLE batches; --",
        "é😀.db",
        os.fsdecode(b"\xff.db"),
        "-x",
        ":memory: ",
    ):
        place = SqlitePlace(tmp_path, name)
        place.commit(batch(1))
        assert reopened(place)[0] == {1: b"x" * 10}
        assert place.path.exists()
        assert verify(place.path).sound


def test_a_link_leads_to_the_store(tmp_path: Path):
    """And by whatever name: one store, one lock, one log."""
    place, storage = opened(tmp_path)
    link = tmp_path / "link.db"
    link.symlink_to(place.path)
    with pytest.raises(StorageError, match="another store"):
        SqliteStorage(link).load()
    storage.close()
    assert place.doubt(link) is None


# -- backup


def test_a_backup_replaces_a_backup_and_nothing_else(tmp_path: Path):
    """The running store, another store and any other file are left alone, and no half of one is left behind."""
    place, storage = opened(tmp_path)
    target = tmp_path / "backup.db"
    storage.backup(str(target))
    storage.commit(Commit(batches={1: b"1"}, segments={1: b"s"}, meta={"a": b"b"}), NONE)
    storage.backup(str(target))
    other = SqlitePlace(tmp_path, "other.db")
    other.commit(batch(5))
    (tmp_path / "hard.db").hardlink_to(place.path)
    for wrong in ("paris.db", "other.db", "hard.db", "paris.db-wal", "missing/backup.db", "."):
        with pytest.raises((UsageError, StorageError), match=r"remove it|itself|no directory|is a directory"):
            storage.backup(str(tmp_path / wrong))
    storage.close()
    assert names(tmp_path) == ["backup.db", "hard.db", "other.db", "paris.db"]
    assert verify(target).sound
    backup = place.open(target)
    assert state(backup.load()) == ({0: b"x" * 10, 1: b"1"}, {1: b"s"}, {"a": b"b"})
    backup.commit(Commit(), SYNC)
    backup.close()
    storage = place.open()
    storage.load()
    with pytest.raises(UsageError, match="no backup of ours"):
        storage.backup(str(target))  # somebody lives there now
    storage.close()


def test_a_backup_that_fails_leaves_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Until the new one is whole and synced, the name belongs to the old one."""
    _place, storage = opened(tmp_path)
    target = tmp_path / "backup.db"
    storage.backup(str(target))
    before = target.read_bytes()

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        with pytest.raises(StorageError, match=r"no backup .* was made .*No space left"):
            storage.backup(str(target))
    assert target.read_bytes() == before
    storage.commit(batch(1), SYNC)
    storage.close()
    assert names(tmp_path) == ["backup.db", "paris.db"]
