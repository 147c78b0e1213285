"""Damage in the file is found, by opening, by reading or by `verify`, and told with its place; nothing is skipped."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from mmrepl.errors import StorageError, StoreCorrupt, StoreForeign, StoreLocked, StoreTooNew
from mmrepl.ports import Commit, Durability
from mmrepl.storage import identity, verify
from mmrepl.storage import sqlite_schema as schema
from mmrepl.storage.verify import PROBLEMS_MAX, Report
from mmrepl.testing.storage_suite import State, state
from tests.storage.places import SqlitePlace, names

SYNC = Durability.SYNC
SEED = 20250101


@pytest.fixture(autouse=True)
def _a_slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    However long a test takes, it is damage that is found here and nothing else.

    The tests write over the file long after its last commit, which is a doubt of its own when it is later than the margin
    (tests/storage/test_doubt.py): on a machine under load some of them were told that instead.
    """
    monkeypatch.setattr(identity, "MARGIN_MS", 1 << 50)


def filled(tmp_path: Path, *, crashed: bool = False) -> tuple[SqlitePlace, State]:
    """A store of some pages, closed or left by a dead process, and what is in it."""
    place, dice = SqlitePlace(tmp_path), random.Random(SEED)
    storage = place.open()
    storage.load()
    batches = {position * 3: dice.randbytes(dice.randrange(300)) for position in range(60)}
    segments = {1: dice.randbytes(9_000), 4: dice.randbytes(50), 5: b""}
    meta = {"node": b"paris", "state": dice.randbytes(40)}
    storage.commit(Commit(batches=batches, segments=segments, meta=meta), SYNC)
    for position in (200, 201, 202):
        batches[position] = dice.randbytes(100)
        storage.commit(Commit(batches={position: batches[position]}), SYNC)
    place.crash(storage) if crashed else storage.close()
    return place, (batches, segments, meta)


def found(place: SqlitePlace, held: State) -> str | None:
    """How damage shows; None when it does not. Asserts that what is not noticed is not wrong."""
    try:
        if not (report := verify(place.path)).sound:
            return "verify"
        said = report.doubt
    except StorageError as error:
        return type(error).__name__
    storage = place.open()
    try:
        loaded = storage.load()
        if loaded.doubt is not None:
            assert said is not None
            return "doubt"
        assert state(loaded) == held
    except StorageError as error:
        return type(error).__name__
    finally:
        storage.close()
    return None


@pytest.mark.parametrize("crashed", [False, True], ids=["closed", "crashed"])
def test_no_flipped_bit_changes_what_is_read(tmp_path: Path, crashed: bool):
    """Wherever a bit flips, in the database or its log: what is read is right, or the damage is told."""
    place, held = filled(tmp_path, crashed=crashed)
    whole, dice, ways = place.picture(), random.Random(SEED + crashed), dict.fromkeys(["verify", None], 0)
    for path, data in whole.items():
        for offset in {*range(0, 100, 9), *(dice.randrange(len(data)) for _ in range(60))}:
            flipped = bytearray(data)
            flipped[offset] ^= 1 << dice.randrange(8)
            place.put_back(whole | {path: bytes(flipped)})
            way = found(place, held)
            ways[way] = ways.get(way, 0) + 1
    assert ways["verify"] > 12, ways


def test_opening_finds_every_flipped_bit_in_a_body(tmp_path: Path):
    """Without `verify` too: bodies are checked as they are read, and the message names the row."""
    place, (batches, segments, meta) = filled(tmp_path)
    whole = place.picture()
    bodies = [("batches", str(k), v) for k, v in batches.items() if len(v) > 20][:12]
    bodies += [("segments", "4", segments[4]), ("meta", "'state'", meta["state"])]
    for table, key, body in bodies:
        middle = len(body) // 2
        flipped = body[:middle] + bytes([body[middle] ^ 4]) + body[middle + 1 :]
        place.put_back({place.path: whole[place.path].replace(body, flipped)})  # pages keep stale copies
        storage = place.open()
        with pytest.raises(StoreCorrupt, match=f"row of {table} with key {key} is damaged.*backup"):
            state(storage.load())
        storage.close()
        report = verify(place.path)
        assert [(d.table, str(d.key)) for d in report.damage] == [(table, key.strip("'"))]
        assert str(report.damage[0]) == f"{table} {key.strip(chr(39))}: its checksum is wrong"


def test_a_file_cut_short_is_told(tmp_path: Path):
    """At every page, and in the middle of one."""
    place, held = filled(tmp_path)
    whole = place.picture()[place.path]
    for length in [*range(4096, len(whole), 4096), 1, 99, 5000, len(whole) - 1]:
        place.put_back({place.path: whole[:length]})
        assert found(place, held) is not None, length


def test_an_empty_file_is_a_new_store_but_not_a_sound_one(tmp_path: Path):
    """Nothing is remembered in it, so its node draws a new incarnation anyway; `verify` says what it is."""
    place, _held = filled(tmp_path)
    place.put_back({place.path: b""})
    assert "empty" in verify(place.path).damage[0].what
    storage = place.open()
    assert state(storage.load()) == ({}, {}, {})
    storage.close()


def test_damage_to_the_text_of_the_schema_is_told(tmp_path: Path):
    """One flipped bit there changes the type of a key, or the name of a table; `verify` says so and does not stumble."""
    place, held = filled(tmp_path)
    whole = place.picture()[place.path]
    texts = [(b"(number INTEGER", b"(number JNTEGER"), (b"(position INTEGER", b"(position INTEGES"),
             (b"TABLE meta", b"TABLE mepa"), (b"body BLOB", b"bodx BLOB")]  # fmt: skip
    for right, wrong in texts:
        assert right in whole
        place.put_back({place.path: whole.replace(right, wrong)})
        assert found(place, held) in {"verify", "StoreCorrupt"}, right
        assert verify(place.path).damage
        storage = place.open()
        with pytest.raises(StoreCorrupt):
            state(storage.load())
        storage.close()


def test_lost_rows_are_missed(tmp_path: Path):
    """A row that is gone without a trace is noticed by the number that there were when the store was closed."""
    for table in ("batches", "segments", "meta"):
        (tmp_path / table).mkdir()
        place, _held = filled(tmp_path / table)
        connection = sqlite3.connect(place.path)
        key = "key" if table == "meta" else "rowid"
        connection.execute(f"DELETE FROM {table} WHERE {key} = (SELECT max({key}) FROM {table})")
        connection.commit()
        connection.close()
        assert any(d.table == table and "rows when closed" in d.what for d in verify(place.path).damage)
        storage = place.open()
        with pytest.raises(StoreCorrupt, match=f"{table} had .* rows when closed"):
            state(storage.load())
        storage.close()


def test_verify_asks_the_caller_about_each_row(tmp_path: Path):
    """In order, table by table, and once at the end; what the caller says is reported with its place."""
    place, (batches, segments, meta) = filled(tmp_path)
    asked: list[tuple[str, int | str]] = []

    def inspect(table: str, key: int | str, body: bytes) -> str | None:
        asked.append((table, key))
        if key == 5:
            raise StoreCorrupt("cannot be decoded")
        return "does not follow on 199" if key == 200 else "the end is missing" if not table else None

    report = verify(place.path, inspect)
    assert asked == [*(("segments", k) for k in segments), *(("batches", k) for k in batches),
                     *(("meta", k) for k in meta), ("", "")]  # fmt: skip
    assert [(d.table, d.key, d.what) for d in report.damage] == [
        ("segments", 5, "cannot be decoded"),
        ("batches", 200, "does not follow on 199"),
        ("log", None, "the end is missing"),
    ]
    assert not report.sound
    assert len(verify(place.path, lambda *_: "bad").damage) == min(PROBLEMS_MAX, len(asked))


def test_verify_leaves_the_store_as_it_is(tmp_path: Path):
    """Sound, closed or crashed, and read completely; not a byte of it and no file beside it changes."""
    for crashed in (False, True):
        folder = tmp_path / str(crashed)
        folder.mkdir()
        place, (batches, segments, meta) = filled(folder, crashed=crashed)
        before, stamps = place.picture(), [path.stat().st_ctime_ns for path in place.picture()]
        report = verify(place.path)
        assert report == Report(str(place.path), (), None, report.counts, report.body_bytes)
        assert report.counts == {"batches": len(batches), "segments": len(segments), "meta": len(meta)}
        assert report.body_bytes == sum(len(b) for rows in (batches, segments, meta) for b in rows.values())
        assert place.picture() == before
        assert [path.stat().st_ctime_ns for path in before] == stamps
        assert names(folder) == sorted(path.name for path in before)


def test_verify_refuses_a_running_store_and_leaves_it_running(tmp_path: Path):
    """It would see half of a checkpoint; and by closing the file it could drop the lock."""
    place = SqlitePlace(tmp_path)
    storage = place.open()
    storage.load()
    with pytest.raises(StoreLocked, match="backup"):
        verify(place.path)
    with pytest.raises(StoreLocked):
        place.open().load()
    storage.commit(Commit(batches={1: b"x"}), SYNC)
    storage.backup(str(tmp_path / "backup.db"))
    assert verify(tmp_path / "backup.db").sound
    storage.close()
    assert verify(place.path).sound


def test_a_store_that_comes_to_life_while_it_is_verified_is_not_reported_on(tmp_path: Path):
    """What was read of it may be anything."""
    place, _held = filled(tmp_path)

    def inspect(table: str, _key: int | str, _body: bytes) -> None:
        if not table:
            place.commit(Commit(batches={900: b"x"}))

    with pytest.raises(StoreLocked, match="meanwhile"):
        verify(place.path, inspect)


def foreign_database(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE other(x)")
    connection.commit()
    connection.close()


def newer_store(path: Path) -> None:
    SqlitePlace(path.parent, path.name).commit(Commit(meta={"a": b"b"}))
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version={schema.VERSION + 1}")
    connection.close()


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (foreign_database, StoreForeign),
        (lambda path: path.write_bytes(b"From the diary of somebody else. " * 99), StoreForeign),
        (lambda path: path.write_bytes(b"x"), StoreForeign),
        (newer_store, StoreTooNew),
    ],
    ids=["other database", "other file", "one byte", "newer"],
)
def test_what_is_not_ours_is_not_touched(tmp_path: Path, make: Callable[[Path], None], error: type[StorageError]):
    """Opening, verifying and backing up over it are refused; bytes, times and neighbours stay."""
    place = SqlitePlace(tmp_path)
    make(place.path)
    before, changed = place.path.read_bytes(), place.path.stat().st_ctime_ns
    with pytest.raises(error, match=str(place.path)):
        place.open().load()
    with pytest.raises(error):
        verify(place.path)
    other = SqlitePlace(tmp_path, "other.db").open()
    other.load()
    with pytest.raises(Exception, match="remove it first"):
        other.backup(str(place.path))
    other.close()
    assert place.path.read_bytes() == before
    assert place.path.stat().st_ctime_ns == changed
    assert names(tmp_path) == ["other.db", "paris.db"]


def test_planted_bug_checksums_that_are_not_looked_at_are_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With checksums that always agree the flipped bits above would be read as truth."""
    for name in ("read_batches", "read_segments", "read_meta"):
        plain = getattr(schema, name)
        monkeypatch.setattr(schema, name, lambda conn, plain=plain: ((k, b, True) for k, b, _ in plain(conn)))
    with pytest.raises(AssertionError):
        test_no_flipped_bit_changes_what_is_read(tmp_path, crashed=False)
