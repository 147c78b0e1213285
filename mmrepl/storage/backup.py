"""
A copy of a running store, which knows that it is a copy.

SQLite's online backup reads through the store's own connection, so it sees exactly what was committed. The copy is
made under another name, marked in its note about itself, synced, and only then given its name: whoever finds a file of
that name finds a whole backup. To restore one, stop the node and put the file where its own was; the mark makes the
node come back as a new incarnation and learn from its peers what happened since.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from pathlib import Path

from attrs import evolve

from mmrepl.errors import StorageError, UsageError
from mmrepl.storage import sqlite_schema as schema
from mmrepl.storage.identity import Identity


def write(connection: sqlite3.Connection, identity: Identity, source: str, target: str, now_ms: int) -> None:
    """Back the store at *source*, open as *connection*, up to the file *target*. Raises UsageError, StorageError."""
    target = schema.normal_path(target)
    schema.check_place(target)
    _check_replaceable(target, source)
    folder, name = os.path.split(target)
    try:
        descriptor, partial = tempfile.mkstemp(prefix=f"{name}.", suffix=".partial", dir=folder)
        os.close(descriptor)
        try:
            _copy(connection, partial, evolve(identity, at_ms=now_ms, open=False, weak=False, backup=True))
            os.chmod(partial, os.stat(source).st_mode & 0o777)  # noqa: PTH101, PTH116
            _fsync(partial)
            os.replace(partial, target)  # noqa: PTH105
            _fsync(folder)
        finally:
            for leftover in (partial, f"{partial}-journal", f"{partial}-wal"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(leftover)  # noqa: PTH108
    except sqlite3.Error as error:
        raise StorageError(f"no backup of {source} was made to {target}: {error}") from error
    except OSError as error:
        raise StorageError(f"no backup of {source} was made to {target}: {error.strerror or error}") from error


def is_backup(path: str) -> bool:
    """Whether *path* is a backup that nobody has opened as a store since. Takes no lock and changes nothing."""
    try:
        schema.peek(path)
        connection = schema.connect(path, "mode=ro&immutable=1")
        try:
            note = schema.read_self(connection)
        finally:
            connection.close()
    except (sqlite3.Error, StorageError):
        return False
    return note is not None and note.backup and not Path(f"{path}-wal").exists()


def _check_replaceable(target: str, source: str) -> None:
    if target in {source, f"{source}-wal", f"{source}-journal"}:
        raise UsageError(f"{target} is the running store itself: back it up to another file")
    there = Path(target)
    if there.exists() and (there.samefile(source) or not is_backup(target)):
        raise UsageError(f"{target} exists and is no backup of ours: remove it first, or choose another name")


def _copy(connection: sqlite3.Connection, path: str, note: Identity) -> None:
    copy = schema.connect(path)
    try:
        connection.backup(copy)
        copy.execute("PRAGMA locking_mode=EXCLUSIVE")
        copy.execute("PRAGMA journal_mode=DELETE")  # one file, whole by itself
        counts = tuple(copy.execute(schema.COUNTS).fetchone())
        body = evolve(note, counts=counts).encode()
        copy.execute(schema.PUT_SELF, (schema.segment_crc(0, body), body))
    finally:
        copy.close()


def _fsync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
