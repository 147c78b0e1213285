"""
Law L2 on disk: a store that may not be the latest memory of its node says so, once opened, until it is answered.

The facts are functions so that the end of the file can plant bugs and see each of them caught.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import evolve

from mmrepl.ports import Commit, Durability
from mmrepl.storage import backup as backups
from mmrepl.storage import identity as identities
from mmrepl.storage import sqlite_schema as schema
from mmrepl.storage import verify, wal_tail
from mmrepl.storage.identity import Identity, Surroundings, judge
from mmrepl.storage.sqlite import CALM_COMMITS, SqliteStorage
from mmrepl.testing.storage_suite import state
from tests.storage.places import SqlitePlace

SYNC, NONE = Durability.SYNC, Durability.NONE


def batch(position: int) -> Commit:
    return Commit(batches={position: b"operations"})


def stays_until_answered(place: SqlitePlace, path: Path | None = None) -> None:
    """Opening and closing does not settle a doubt, the first commit does."""
    first = place.doubt(path)
    assert first is not None
    assert place.doubt(path) == first
    storage = place.open(path)
    assert storage.load().doubt == first
    place.crash(storage) if path is None else storage.close()
    assert place.doubt(path) == first
    storage = place.open(path)
    storage.load()
    storage.commit(batch(50), SYNC)
    storage.close()
    assert place.doubt(path) is None


# -- facts


def closed_or_killed_is_not_doubted(place: SqlitePlace) -> None:
    """Closing, and the death of the process after commits of any level, leave nothing to doubt."""
    for level in Durability:
        place.commit(batch(level), level=level)
        assert place.doubt() is None
        storage = place.open()
        storage.load()
        storage.commit(batch(10 + level), level)
        place.crash(storage)
        assert place.doubt() is None


def copied_is_doubted(place: SqlitePlace) -> None:
    """A copy of a closed store is doubted, the original is not."""
    place.commit(batch(1))
    copy = place.copy_to(place.path.with_name("copy.db"))
    assert "copy" in (place.doubt(copy) or "")
    assert place.doubt() is None
    stays_until_answered(place, copy)


def copied_while_open_is_doubted(place: SqlitePlace) -> None:
    """A copy of a running store, with its log or without."""
    storage = place.open()
    storage.load()
    storage.commit(batch(1), SYNC)
    with_log = place.copy_to(place.path.with_name("with.db"))
    without_log = place.copy_to(place.path.with_name("without.db"))
    Path(f"{without_log}-wal").unlink()
    storage.close()
    assert place.doubt(with_log)
    assert place.doubt(without_log)


def backup_is_doubted_wherever_it_is_put(place: SqlitePlace) -> None:
    """By its own name, and moved to where the store was; until answered."""
    storage = place.open()
    storage.load()
    storage.commit(batch(1), SYNC)
    target = place.path.with_name("backup.db")
    storage.backup(str(target))
    storage.commit(batch(2), SYNC)
    storage.close()
    assert place.doubt() is None
    place.path.unlink()
    shutil.copy(target, place.path)
    # Whatever else there might be to say: as if it had kept the inode, the machine and the time.
    note = _note(place)
    as_noted = Surroundings(note.device, note.inode, note.boot, note.at_ms, 0)
    assert judge(note, as_noted, note.at_ms) == "it was restored from a backup"
    stays_until_answered(place)


def older_file_written_over_it_is_doubted(place: SqlitePlace) -> None:
    """``cp older.db paris.db`` keeps the inode; that the file changed later than it remembers gives it away."""
    place.machine.lag_ms = identities.MARGIN_MS + 2_000  # so long ago was the backup made
    place.commit(batch(1))
    older = place.picture()
    place.machine.lag_ms = 0
    inode = place.path.stat().st_ino
    place.commit(batch(2))
    assert place.doubt() is None
    place.put_back(older)
    assert place.path.stat().st_ino == inode
    assert "somebody else" in (place.doubt() or "")
    stays_until_answered(place)


def lost_unsynced_tail_is_doubted(place: SqlitePlace) -> None:
    """Weak commits since the last sync, and another boot of the machine: whatever the disk kept of them."""
    storage = place.open()
    storage.load()
    storage.commit(batch(1), SYNC)
    storage.commit(batch(2), NONE)
    at_first_weak = place.picture()  # this much had to be synced before anything weak followed
    storage.commit(batch(3), NONE)
    storage.close()
    place.put_back(at_first_weak)
    place.machine.boot = "second boot"
    assert "not yet synced" in (place.doubt() or "")
    stays_until_answered(place)


def unknown_boot_counts_as_another(place: SqlitePlace) -> None:
    """Where the system does not tell, weak commits that were not closed in order are doubted."""
    place.machine.boot = None
    storage = place.open()
    storage.load()
    storage.commit(batch(1), NONE)
    place.crash(storage)
    assert place.doubt()


def synced_tail_is_not_doubted_after_a_power_failure(place: SqlitePlace) -> None:
    """Strong commits, enough of them after weak ones, and a store closed in order survive another boot."""
    storage = place.open()
    storage.load()
    storage.commit(batch(1), NONE)
    for position in range(2, 2 + CALM_COMMITS):
        storage.commit(batch(position), SYNC)
    place.crash(storage)
    place.machine.boot = "second boot"
    assert place.doubt() is None
    place.commit(batch(90), level=NONE)
    place.machine.boot = "third boot"
    assert place.doubt() is None


def lost_log_is_doubted(place: SqlitePlace) -> None:
    """After the death of the process the latest commits are in the -wal file: without it they are lost."""
    storage = place.open()
    storage.load()
    storage.commit(batch(1), SYNC)
    storage.commit(batch(2), SYNC)
    place.crash(storage)
    place.wal.unlink()
    assert "write-ahead log" in (place.doubt() or "")
    stays_until_answered(place)


def damaged_log_is_doubted(place: SqlitePlace) -> None:
    """A flipped bit anywhere in the log makes SQLite forget all that follows; we do not."""
    storage = place.open()
    storage.load()
    for position in range(4):
        storage.commit(batch(position), SYNC)
    place.crash(storage)
    sound = place.picture()
    # The header, the last frame's header (its salt and its size), the last frame's page.
    last = len(sound[place.wal]) - 4120
    for offset in (3, 17, last + 9, last + 13, last + 500, last - 4120 + 5):
        place.put_back(sound | {place.wal: _flipped(sound[place.wal], offset)})
        assert "write-ahead log" in (place.doubt() or ""), offset
    place.put_back(sound)
    assert place.doubt() is None


FACTS = (
    closed_or_killed_is_not_doubted,
    copied_is_doubted,
    copied_while_open_is_doubted,
    backup_is_doubted_wherever_it_is_put,
    older_file_written_over_it_is_doubted,
    lost_unsynced_tail_is_doubted,
    unknown_boot_counts_as_another,
    synced_tail_is_not_doubted_after_a_power_failure,
    lost_log_is_doubted,
    damaged_log_is_doubted,
)


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.__name__)
def test_doubt(fact: Callable[[SqlitePlace], None], tmp_path: Path):
    """The store keeps this fact."""
    fact(SqlitePlace(tmp_path))


# -- more about them


def test_opening_and_closing_does_not_change_the_file(tmp_path: Path):
    """Nothing is written by reading, so that the time of the last change keeps its meaning."""
    place = SqlitePlace(tmp_path)
    place.commit(batch(1))
    before = place.path.stat()
    assert place.doubt() is None
    after = place.path.stat()
    assert (after.st_ctime_ns, after.st_ino) == (before.st_ctime_ns, before.st_ino)
    assert not place.wal.exists()


def test_each_commit_notes_its_time(tmp_path: Path):
    """Whatever a commit consists of, a process that dies right after it is not doubted for its time."""
    place = SqlitePlace(tmp_path)
    kinds = [
        batch(5),
        Commit(meta={"a": b"1"}),
        Commit(segments={1: b"1"}),
        Commit(drop_batches=(0, 9)),
        Commit(batches={2: b"before the end of the log"}),
        Commit(batches={2: b"merged", 9: b"new"}, drop_batches=(0, 9)),
    ]
    for commit in kinds:
        place.machine.lag_ms = 60_000
        storage = place.open()
        storage.load()
        storage.commit(batch(7), SYNC)
        place.machine.lag_ms = 0
        storage.commit(commit, SYNC)
        place.crash(storage)
        assert place.doubt() is None, commit


def test_weak_commits_are_announced_on_disk_before_they_are_made(tmp_path: Path):
    """The transaction that carries the note is synced: a note lost together with the tail would warn nobody."""
    place = SqlitePlace(tmp_path)
    storage = place.open()
    storage.load()
    storage.commit(batch(0), SYNC)
    said: list[str] = []
    storage._connection.set_trace_callback(said.append)
    storage.commit(batch(1), NONE)
    assert any("INTO self" in line for line in said)
    assert not any("synchronous" in line for line in said)  # still FULL
    storage.commit(batch(2), NONE)
    assert [line for line in said if "synchronous" in line] == ["PRAGMA synchronous=NORMAL"]
    said.clear()
    storage.commit(Commit(), SYNC)  # nothing but a sync
    assert said[0] == "PRAGMA synchronous=FULL"
    assert said[-1] == "COMMIT"
    storage.close()


def test_an_unfinished_transaction_in_the_log_is_not_doubted(tmp_path: Path):
    """A process killed in the middle of a large commit never acknowledged it."""
    place = SqlitePlace(tmp_path)
    storage = place.open()
    storage.load()
    storage.commit(batch(1), SYNC)
    connection = storage._connection
    connection.execute("PRAGMA cache_size=2")
    connection.execute("BEGIN")
    for number in range(30):
        connection.execute("INSERT INTO segments VALUES (?, 0, zeroblob(9000))", (number,))
    files = place.picture()
    assert len(files[place.wal]) > 30 * 8_000
    connection.execute("ROLLBACK")
    storage.close()
    place.put_back(files)
    storage = place.open()
    loaded = storage.load()
    assert loaded.doubt is None
    assert state(loaded) == ({1: b"operations"}, {}, {})
    storage.close()


def _give_to_its_owner(path: Path) -> None:
    """As SQLite does, run by root, with the log that it opens: nothing is written, and ``st_ctime`` moves."""
    before = path.stat()
    while path.stat().st_ctime_ns // 1_000_000 == before.st_ctime_ns // 1_000_000:  # a few times
        os.chown(path, before.st_uid, before.st_gid)


@pytest.mark.parametrize("remembers", [True, False])
def test_a_log_that_changes_its_owner_when_it_is_opened_has_not_changed(tmp_path: Path, monkeypatch, remembers):
    """A node killed long ago and started by root is the one that it was; planted: the log looked at when it is open."""
    place = SqlitePlace(tmp_path)
    storage = place.open()
    storage.load()
    storage.commit(batch(1), SYNC)
    place.crash(storage)
    changed_ms = max(path.stat().st_ctime_ns for path in (place.path, place.wal)) // 1_000_000
    if not remembers:
        monkeypatch.setattr(identities, "_bytes_of", lambda found: object())
    check_header, found = schema.check_header, []

    def opened(connection, path):
        answer = check_header(connection, path)
        if connection is storage._connection:  # not the one that peeks
            _give_to_its_owner(place.wal)
        return answer

    def judged(remembered, surroundings, written_ms):
        found.append(surroundings.changed_ms)
        return judge(remembered, surroundings, written_ms)

    monkeypatch.setattr(schema, "check_header", opened)
    monkeypatch.setattr(identities, "judge", judged)
    storage = place.open()
    assert storage.load().doubt is None
    storage.close()
    assert (found == [changed_ms]) is remembers


def test_a_log_that_is_written_while_it_is_opened_has_changed(tmp_path: Path):
    """Only what moves no byte is left out of account: another inode, length or time of writing is a change."""
    path = tmp_path / "paris.db"
    path.write_bytes(b"database")
    wal = Path(f"{path}-wal")
    wal.write_bytes(b"log")
    unopened = identities.unopened_wal(str(path))
    _give_to_its_owner(wal)
    assert identities.look(str(path), unopened=unopened).changed_ms == unopened.st_ctime_ns // 1_000_000
    os.utime(wal, ns=(0, unopened.st_mtime_ns + 1))
    assert identities.look(str(path), unopened=unopened).changed_ms == wal.stat().st_ctime_ns // 1_000_000
    assert identities.unopened_wal(str(tmp_path / "none.db")) is None


def test_moved_within_the_margin_or_to_another_boot_is_not_a_copy():
    """The device number may change from boot to boot; within one boot it may not."""
    note = Identity(device=1, inode=2, boot="a", at_ms=1_000_000, open=False)
    assert judge(note, Surroundings(1, 2, "a", 1_000_000, 0), 1_000_000) is None
    assert judge(note, Surroundings(9, 2, "b", 1_000_000, 0), 1_000_000) is None
    assert judge(note, Surroundings(9, 2, "a", 1_000_000, 0), 1_000_000) is not None
    assert judge(note, Surroundings(1, 3, "b", 1_000_000, 0), 1_000_000) is not None


def test_time_before_the_last_write_counts_within_one_boot_only():
    """fdatasync leaves the time of change out, so after a power failure the file may look older than it is."""
    note = Identity(device=1, inode=2, boot="a", at_ms=1_000_000, open=False)
    assert judge(note, Surroundings(1, 2, "b", 900_000, 0), 1_000_000) is None
    assert "somebody else" in (judge(note, Surroundings(1, 2, "a", 900_000, 0), 1_000_000) or "")
    assert "somebody else" in (judge(note, Surroundings(1, 2, "b", 1_100_000, 0), 1_000_000) or "")
    assert judge(note, Surroundings(1, 2, "a", 10**30, 0), 1_000_000)  # no time that a calendar has


def test_identity_comes_back_and_tolerates_what_it_does_not_know():
    """Fields of a later version are left out; what is no identity is refused."""
    note = Identity(device=1, inode=2, boot=None, at_ms=3, open=True, weak=True, doubt="why", counts=(1, 2, 3))
    assert Identity.decode(note.encode()) == note
    assert Identity.decode(note.encode()[:-1] + b',"later":1}') == note
    for wrong in (b"", b"[]", b"{}", b"\xff", note.encode()[:-1]):
        with pytest.raises(ValueError):
            Identity.decode(wrong)


def test_log_filled_with_zeros_ends_in_order(tmp_path: Path):
    """What lengthens the log early on is taken for nothing by SQLite and by us."""
    place = SqlitePlace(tmp_path)
    storage = place.open()
    storage.load()
    for position in range(40):
        storage.commit(batch(position), SYNC)
    place.crash(storage)
    assert place.wal.stat().st_size > 2_000_000
    storage = place.open()
    loaded = storage.load()
    assert loaded.doubt is None
    assert list(state(loaded)[0]) == list(range(40))
    storage.close()


# -- planted bugs


def _without_note_of_weakness(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = SqliteStorage._next_note

    def never_weak(self: SqliteStorage, *args: object, **options: object) -> Identity | None:
        note = plain(self, *args, **options)
        return note and evolve(note, weak=False)

    monkeypatch.setattr(SqliteStorage, "_next_note", never_weak)


def _judging(**blind: object) -> Callable[[pytest.MonkeyPatch], None]:
    """Plants a judgement that takes these for what they should be."""

    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        def blind_judge(note: Identity, found: Surroundings, written_ms: int) -> str | None:
            seen = {name: value(note, found, written_ms) for name, value in blind.items()}
            return judge(note, evolve(found, **seen), written_ms)

        monkeypatch.setattr(identities, "judge", blind_judge)

    return plant


def _without_mark_in_backups(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = backups._copy
    monkeypatch.setattr(backups, "_copy", lambda conn, path, note: plain(conn, path, evolve(note, backup=False)))


def _forgetting_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = SqliteStorage._put_self
    monkeypatch.setattr(
        SqliteStorage, "_put_self", lambda self, conn, note: plain(self, conn, evolve(note, doubt=None))
    )


def _damaged_log_stays(place: SqlitePlace) -> None:
    storage = place.open()
    storage.load()
    storage.commit(batch(1), SYNC)
    storage.commit(batch(2), SYNC)
    place.crash(storage)
    files = place.picture()
    place.put_back(files | {place.wal: _flipped(files[place.wal], 40)})
    stays_until_answered(place)


BUGS = {
    "inode and device not compared": (
        _judging(inode=lambda note, *_: note.inode, device=lambda note, *_: note.device, changed_ms=lambda *a: a[2]),
        copied_is_doubted,
    ),
    "time of change not compared": (
        _judging(changed_ms=lambda _note, _found, written_ms: written_ms),
        older_file_written_over_it_is_doubted,
    ),
    "boot not compared": (_judging(boot=lambda note, *_: note.boot or "x"), lost_unsynced_tail_is_doubted),
    "missing log not noticed": (_judging(wal_bytes=lambda *_: 1), lost_log_is_doubted),
    "weak commits not announced": (_without_note_of_weakness, lost_unsynced_tail_is_doubted),
    "backup not marked": (_without_mark_in_backups, backup_is_doubted_wherever_it_is_put),
    "doubt not written down": (_forgetting_doubt, _damaged_log_stays),
    "end of the log not examined": (
        lambda patch: patch.setattr(wal_tail, "torn", lambda *_: None),
        damaged_log_is_doubted,
    ),
    "database not told that it is open": (
        lambda patch: patch.setattr(SqliteStorage, "_checkpoint_behind", lambda *_: None),
        lost_log_is_doubted,
    ),
}


def test_damaged_log_stays_doubted(tmp_path: Path):
    """The log is gone after the first opening; the doubt about it is not."""
    _damaged_log_stays(SqlitePlace(tmp_path))


@pytest.mark.parametrize("bug", BUGS)
def test_planted_bug_is_caught(bug: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each of these mistakes breaks the fact that guards against it."""
    plant, fact = BUGS[bug]
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        fact(SqlitePlace(tmp_path))


# -- helpers


def _flipped(data: bytes, offset: int) -> bytes:
    return data[:offset] + bytes([data[offset] ^ 0x10]) + data[offset + 1 :]


def _note(place: SqlitePlace) -> Identity:
    assert verify(place.path).sound
    connection = schema.connect(str(place.path), "mode=ro&immutable=1")
    try:
        note = schema.read_self(connection)
    finally:
        connection.close()
    assert note is not None
    return note
