"""
The SQLite file: its tables, its checksums, how it is opened, and what its errors mean.

Four tables. ``batches``, ``segments`` and ``meta`` hold what the node commits, each body with a checksum of itself and
of its key; ``self`` holds one row, what the store notes about itself (`mmrepl.storage.identity`). The header carries
an application id, so that a file of another program is known before anything is written to it, and our format's
version as ``user_version``.

One connection a file, for good: it holds SQLite's exclusive lock while it lives, which keeps a second process out
and makes the shared-memory file (-shm) unnecessary.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

from mmrepl.errors import (
    DiskFull,
    StorageError,
    StoreCorrupt,
    StoreFailed,
    StoreForeign,
    StoreLocked,
    StoreTooNew,
    UsageError,
)
from mmrepl.ports import Commit
from mmrepl.storage.identity import Identity

APPLICATION_ID: Final = 0x6D6D_7265  # "mmre"
VERSION: Final = 1
PAGE_BYTES: Final = 4096

SMALLEST_BYTES: Final = 512
"""The smallest page that SQLite knows: a shorter file is no database."""

BUSY_S: Final = 0.25
"""How long opening waits for a lock. Long enough for somebody who only looked, short enough for a person."""

SCHEMA: Final = """
CREATE TABLE batches(position INTEGER PRIMARY KEY, at INTEGER NOT NULL, crc INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE segments(number INTEGER PRIMARY KEY, crc INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE meta(key TEXT PRIMARY KEY, crc INTEGER NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE self(id INTEGER PRIMARY KEY CHECK (id = 0), crc INTEGER NOT NULL, body BLOB NOT NULL);
"""

PUT_BATCH: Final = "INSERT OR REPLACE INTO batches(position, at, crc, body) VALUES (?, ?, ?, ?)"
PUT_SEGMENT: Final = "INSERT OR REPLACE INTO segments(number, crc, body) VALUES (?, ?, ?)"
PUT_META: Final = "INSERT OR REPLACE INTO meta(key, crc, body) VALUES (?, ?, ?)"
PUT_SELF: Final = "INSERT OR REPLACE INTO self(id, crc, body) VALUES (0, ?, ?)"
DROP_BATCHES: Final = "DELETE FROM batches WHERE position >= ? AND position < ?"
DROP_SEGMENT: Final = "DELETE FROM segments WHERE number = ?"
DROP_META: Final = "DELETE FROM meta WHERE key = ?"
GET_BATCHES: Final = "SELECT position, at, crc, body FROM batches ORDER BY position"
GET_SEGMENTS: Final = "SELECT number, crc, body FROM segments ORDER BY number"
GET_META: Final = "SELECT key, crc, body FROM meta ORDER BY key"
GET_SELF: Final = "SELECT crc, body FROM self WHERE id = 0"
COUNTS: Final = "SELECT (SELECT count(*) FROM batches), (SELECT count(*) FROM segments), (SELECT count(*) FROM meta)"
LAST_BATCH: Final = "SELECT position, at FROM batches ORDER BY position DESC LIMIT 1"

WAY_OUT: Final = (
    "`mmrepl verify` lists all damage. Restore a backup, or move the file away: the node then comes back "
    "with nothing, as a new incarnation, and its peers give it what they have"
)

# -- checksums

_PRIME: Final = 0xFFFF_FFFB


def batch_crc(position: int, at_ms: int, body: bytes) -> int:
    """Of a batch with its key and its time. Any change in one of them alone changes it."""
    return zlib.crc32(body, (position * 0x9E37_79B1 + at_ms) % _PRIME)


def segment_crc(number: int, body: bytes) -> int:
    """Of a segment, or of the row about ourselves, with its key."""
    return zlib.crc32(body, number % _PRIME)


def meta_crc(key: str, body: bytes) -> int:
    """Of an entry of the small map, with its key."""
    return zlib.crc32(body, zlib.crc32(key.encode()))


# -- opening


def normal_path(path: str | os.PathLike[str]) -> str:
    """
    The real place of a file, links followed: SQLite puts the log beside the real file too.

    Raises UsageError for what is no path.
    """
    text = os.fspath(path)
    if not isinstance(text, str) or not text or "\0" in text or text == ":memory:":
        raise UsageError(f"{path!r} is no path of a file; a store that needs no file is MemoryStorage")
    try:
        return os.path.realpath(text)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path!r} is no path of a file: {error}") from None


def check_place(path: str) -> None:
    """Raises StorageError, with the way out, unless there is or could be a file of ours at *path*. Opens nothing."""
    folder = Path(path).parent
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except FileNotFoundError:
        if not folder.is_dir():
            raise StorageError(f"cannot create {path}: there is no directory {folder}; create it first") from None
        if not os.access(folder, os.W_OK | os.X_OK):
            raise StorageError(f"cannot create {path}: no permission to write in {folder}") from None
        return
    except OSError as error:
        raise StorageError(f"cannot open {path}: {error.strerror}") from None
    if stat.S_ISDIR(mode):
        raise StorageError(f"cannot open {path}: it is a directory; give the path of a file, such as {path}/node.db")
    if not stat.S_ISREG(mode):
        raise StorageError(f"cannot open {path}: it is not a regular file")
    if not os.access(path, os.R_OK | os.W_OK):
        raise StorageError(f"cannot open {path}: no permission to read and write it, or a read-only disk")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StorageError(f"cannot open {path}: no permission to write its log in {folder}")


def connect(path: str, parameters: str = "mode=rwc") -> sqlite3.Connection:
    """A connection to the file, in autocommit mode, usable from any one thread at a time."""
    return sqlite3.connect(
        f"file:{quote(os.fsencode(path))}?{parameters}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=BUSY_S,
    )


def peek(path: str) -> None:
    """
    Raises StoreForeign or StoreTooNew for a file that we must not touch. Takes no lock and changes nothing.

    ``immutable`` makes SQLite ignore locks and logs; our header is written before there is a log.
    """
    size = os.path.getsize(path) if os.path.exists(path) else 0  # noqa: PTH110, PTH202
    if not size:
        return
    if size < SMALLEST_BYTES:  # SQLite would take it for empty, and write over it
        raise StoreForeign(f"{path} is no store: it has only {size} bytes; remove it, or give another path")
    connection = connect(path, "mode=ro&immutable=1")
    try:
        check_header(connection, path)
    except sqlite3.DatabaseError as error:
        # A checkpoint that was cut short may leave a header that speaks of pages which are in the log only.
        log = path + "-wal"
        whole = error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_CORRUPT
        if whole or not os.path.exists(log) or not os.path.getsize(log):  # noqa: PTH110, PTH202
            raise
    finally:
        connection.close()


def check_header(connection: sqlite3.Connection, path: str) -> bool:
    """Whether the file is ours; False when it is empty. Raises StoreForeign, StoreTooNew."""
    application, version = pragma(connection, "application_id"), pragma(connection, "user_version")
    if application == APPLICATION_ID:
        if version > VERSION:
            raise StoreTooNew(
                f"{path} has format {version}, this mmrepl knows up to {VERSION}: upgrade mmrepl; nothing was touched"
            )
        return True
    if not application and not pragma(connection, "schema_version"):
        return False
    raise StoreForeign(f"{path} belongs to another program (application id {application:#x}); give another path")


def create(connection: sqlite3.Connection, note: bytes) -> None:
    """Make an empty file ours, in one transaction."""
    connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
    connection.execute("PRAGMA auto_vacuum=NONE")
    connection.execute("BEGIN EXCLUSIVE")
    connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version={VERSION}")
    for statement in SCHEMA.strip().split(";"):
        connection.execute(statement)
    connection.execute(PUT_SELF, (segment_crc(0, note), note))
    connection.execute("COMMIT")


def tune(connection: sqlite3.Connection, path: str, log_bytes_kept: int) -> None:
    """Make the connection one that commits. Raises StorageError where there can be no write-ahead log."""
    mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    if mode != "wal":
        raise StorageError(f"cannot open {path}: its file system allows no write-ahead log (journal mode {mode})")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA wal_autocheckpoint=0")
    connection.execute(f"PRAGMA journal_size_limit={log_bytes_kept}")
    connection.execute("PRAGMA secure_delete=OFF")
    connection.execute("PRAGMA cell_size_check=ON")
    connection.execute("PRAGMA trusted_schema=OFF")


def pragma(connection: sqlite3.Connection, text: str) -> int:
    """The number that a pragma answers, 0 for no answer."""
    row = connection.execute(f"PRAGMA {text}").fetchone()
    return int(row[0]) if row else 0


# -- errors

# SQLITE_ERROR: a statement that does not fit the schema; ours do.
_CORRUPT: Final = frozenset(
    {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_ERROR}
)


def primary_code(error: sqlite3.Error) -> int | None:
    """SQLite's result code without its extension; None when the error comes from the module and not from SQLite."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def explain(error: sqlite3.Error, path: str, doing: str) -> StorageError:
    """What an error of SQLite means for somebody who wanted to *doing*, outside a commit: an error of ours."""
    code = primary_code(error)
    said = f"{getattr(error, 'sqlite_errorname', '') or 'sqlite'}: {error}"
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return StoreLocked(f"cannot {doing} {path}: another process, or another store of this one, has it open")
    if code == sqlite3.SQLITE_NOTADB:
        return StoreForeign(
            f"cannot {doing} {path}: it is no SQLite database; a file of another program, or damaged in its first bytes"
        )
    # The module itself complains about text that is not Unicode, without a code: only damage leads there.
    if code in _CORRUPT or code is None:
        return StoreCorrupt(f"cannot {doing} {path}: it is damaged ({said}). {WAY_OUT}")
    if code == sqlite3.SQLITE_FULL:
        return DiskFull(f"cannot {doing} {path}: no space left ({said}); nothing was changed")
    if code in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}:
        return StorageError(f"cannot {doing} {path}: {said}; check permissions, and that the disk is not read-only")
    if code == sqlite3.SQLITE_IOERR:
        return StoreFailed(f"cannot {doing} {path}: the disk failed ({said})")
    return StorageError(f"cannot {doing} {path}: {said}")


# -- writing and reading rows

# Damage can change the type of a column, even that of a primary key when it is in the text of the schema.


def transact(connection: sqlite3.Connection, commit: Commit, at_ms: int, note: bytes | None) -> None:
    """*commit*, and the *note* of the store about itself, in one transaction: deletions first."""
    execute, many = connection.execute, connection.executemany
    execute("BEGIN IMMEDIATE")
    if commit.drop_batches is not None:
        execute(DROP_BATCHES, commit.drop_batches)
    many(DROP_SEGMENT, [(number,) for number, body in commit.segments.items() if body is None])
    many(DROP_META, [(key,) for key, body in commit.meta.items() if body is None])
    many(PUT_BATCH, [(at, at_ms, batch_crc(at, at_ms, body), body) for at, body in commit.batches.items()])
    segments = [(number, body) for number, body in commit.segments.items() if body is not None]
    many(PUT_SEGMENT, [(number, segment_crc(number, body), body) for number, body in segments])
    meta = [(key, body) for key, body in commit.meta.items() if body is not None]
    many(PUT_META, [(key, meta_crc(key, body), body) for key, body in meta])
    if note is not None:
        execute(PUT_SELF, (segment_crc(0, note), note))
    execute("COMMIT")


def last_batch(connection: sqlite3.Connection) -> tuple[int, int]:
    """Position and time of the end of the log, as noted there; -1 and 0 when there is none, or no telling."""
    position, at_ms = connection.execute(LAST_BATCH).fetchone() or (-1, 0)
    return (position, at_ms) if isinstance(position, int) and isinstance(at_ms, int) else (-1, 0)


def read_self(connection: sqlite3.Connection) -> Identity | None:
    """What the store notes about itself; None when that is damaged."""
    row = connection.execute(GET_SELF).fetchone()
    if row is None or not isinstance(row[1], bytes) or row[0] != segment_crc(0, row[1]):
        return None
    try:
        return Identity.decode(row[1])
    except ValueError:
        return None


def read_batches(connection: sqlite3.Connection) -> Iterator[tuple[int, bytes, bool]]:
    """Position, body, and whether the checksum is right."""
    for position, at_ms, crc, body in connection.execute(GET_BATCHES):
        typed = isinstance(position, int) and isinstance(at_ms, int) and isinstance(body, bytes)
        yield position, body, typed and crc == batch_crc(position, at_ms, body)


def read_segments(connection: sqlite3.Connection) -> Iterator[tuple[int, bytes, bool]]:
    """Number, body, and whether the checksum is right."""
    for number, crc, body in connection.execute(GET_SEGMENTS):
        typed = isinstance(number, int) and isinstance(body, bytes)
        yield number, body, typed and crc == segment_crc(number, body)


def read_meta(connection: sqlite3.Connection) -> Iterator[tuple[str, bytes, bool]]:
    """Key, body, and whether the checksum is right."""
    for key, crc, body in connection.execute(GET_META):
        typed = isinstance(key, str) and isinstance(body, bytes)
        yield key, body, typed and crc == meta_crc(key, body)
