"""
Looking for damage in a store that is not in use, and saying where it is.

Three things are examined: the structure of the SQLite file (its own ``integrity_check``), the checksum of every row,
and, with the help of the caller, what the rows contain: only the node knows whether batches follow on one another.
The end of the write-ahead log is looked at as on opening.

The store is left as it is found. A running store is refused, not disturbed: its lock is tested for a moment with a
shared one, which a node that is just starting waits out. A store that was closed is read without any locks; one whose
process died has commits in its log that only a recovery would show, so both files are copied, and the copy is read.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from attrs import field, frozen

from mmrepl.errors import MmreplError, StorageError, StoreForeign, StoreLocked
from mmrepl.storage import identity as identities
from mmrepl.storage import sqlite_schema as schema
from mmrepl.storage import wal_tail
from mmrepl.storage.sqlite import is_open_here

try:
    import fcntl
except ImportError:  # pragma: no cover - not a POSIX system: SQLite's own lock will have to do
    fcntl = None  # type: ignore[assignment]

Inspect = Callable[[str, "int | str", bytes], "str | None"]
"""
Told each sound row, as (table, key, body), in order: segments, then batches, then meta, then ``("", "", b"")``.

Answers what is wrong with it, or None. An error of `MmreplError` that it raises counts as such an answer.
"""

PROBLEMS_MAX: Final = 100
"""So many findings are listed; a file with more is beyond being listed."""

# Where SQLite keeps its lock bytes (sqlite.org/fileformat2.html, "The Lock-Byte Page").
_SHARED_FIRST: Final = 0x4000_0002
_SHARED_COUNT: Final = 510


@frozen
class Damage:
    """One finding: in which table (or ``"file"``, ``"log"``), at which row, and what."""

    table: str
    key: int | str | None
    what: str

    def __str__(self) -> str:
        return f"{self.table}{'' if self.key is None else f' {self.key}'}: {self.what}"


@frozen
class Report:
    """What `verify` found. Sound means no damage; a store in doubt can be sound."""

    path: str
    damage: tuple[Damage, ...] = ()
    doubt: str | None = None  # why the node would come back as a new incarnation, were it opened here
    counts: dict[str, int] = field(factory=dict)  # sound rows by table
    body_bytes: int = 0  # of the sound rows

    @property
    def sound(self) -> bool:
        """Whether nothing is damaged."""
        return not self.damage


def verify(path: str | os.PathLike[str], inspect: Inspect | None = None) -> Report:
    """
    Everything that is wrong with the store at *path*, up to `PROBLEMS_MAX` findings. Changes nothing.

    Cost: reads the whole file twice; when its process died, copies it first.

    Raises:
        StoreLocked: it is in use, or came into use meanwhile. Verify a backup instead.
        StoreForeign, StoreTooNew: not a store that we could judge.
        StorageError: there is no file, or it cannot be read.
    """
    path = schema.normal_path(path)
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise StorageError(f"cannot verify {path}: it is not a regular file")
        _check_unused(path)
        before = _stamp(path)
        report = _examine_file(path, inspect)
        _check_unused(path)
    except sqlite3.Error as error:
        raise schema.explain(error, path, "verify") from error
    except OSError as error:
        raise StorageError(f"cannot verify {path}: {error.strerror or error}") from error
    if _stamp(path) != before:
        raise StoreLocked(f"cannot verify {path}: it came into use meanwhile; verify a backup instead")
    return report


def _check_unused(path: str) -> None:
    found = Path(path).stat()
    # First of all, and before opening the file: closing it again would drop the lock of a store in this process.
    in_use = is_open_here(found.st_dev, found.st_ino)
    if not in_use and fcntl is not None:
        with Path(path).open("rb") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB, _SHARED_COUNT, _SHARED_FIRST)
            except (BlockingIOError, PermissionError):
                in_use = True
    if in_use:
        raise StoreLocked(f"cannot look into {path}: a running node has it open; ask the node, or look into a backup")


def _stamp(path: str) -> tuple[tuple[int, int, int] | None, ...]:
    found: list[tuple[int, int, int] | None] = []
    for name in (path, f"{path}-wal"):
        try:
            status = Path(name).stat()
        except FileNotFoundError:
            found.append(None)
        else:
            found.append((status.st_ino, status.st_size, status.st_ctime_ns))
    return tuple(found)


def _examine_file(path: str, inspect: Inspect | None) -> Report:
    if not Path(path).stat().st_size:
        return Report(path, (Damage("file", None, "it is empty: cut short, or never written"),))
    schema.peek(path)
    found = identities.look(path)
    if not found.wal_bytes:
        connection = schema.connect(path, "mode=ro&immutable=1")
        try:
            return _examine(connection, path, inspect, found, None)
        finally:
            connection.close()
    with tempfile.TemporaryDirectory(prefix="mmrepl-verify-") as folder:
        copy = str(Path(folder) / "store.db")
        shutil.copyfile(path, copy)
        shutil.copyfile(f"{path}-wal", f"{copy}-wal")
        connection = schema.connect(copy)
        try:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("PRAGMA wal_autocheckpoint=0")
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # recovers the log
            whole = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1]
            return _examine(connection, path, inspect, found, wal_tail.torn(f"{path}-wal", max(0, whole)))
        finally:
            connection.close()


def _examine(
    connection: sqlite3.Connection,
    path: str,
    inspect: Inspect | None,
    found: identities.Surroundings,
    torn: str | None,
) -> Report:
    if not schema.check_header(connection, path):
        raise StoreForeign(f"{path} is an SQLite database, but none of ours")
    findings = _Findings()
    if torn is not None:
        findings.add("log", None, torn)
    for what in _guard(findings, "file", lambda: connection.execute(f"PRAGMA integrity_check({PROBLEMS_MAX})")):
        if what[0] != "ok":
            findings.add("file", None, what[0].replace("\n", "; ").removeprefix("*** in database main ***; "))
    counts: dict[str, int] = {}  # sound rows
    seen: dict[str, int] = {}  # all rows
    body_bytes = 0
    readers: dict[str, Callable[[sqlite3.Connection], Iterator[tuple[int | str, bytes, bool]]]] = {
        "segments": schema.read_segments,
        "batches": schema.read_batches,
        "meta": schema.read_meta,
    }
    for table, reader in readers.items():
        counts[table] = seen[table] = 0
        for key, body, sound in _guard(findings, table, partial(reader, connection)):
            seen[table] += 1
            if not sound:
                findings.add(table, key, "its checksum is wrong")
                continue
            counts[table] += 1
            body_bytes += len(body)
            findings.ask(inspect, table, key, body)
    findings.ask(inspect, "", "", b"")
    note = next(_guard(findings, "self", lambda: iter([schema.read_self(connection)])), None)
    doubt = torn
    if note is None:
        findings.add("self", None, "what the store notes about itself is damaged")
    else:
        _position, last_at_ms = next(
            _guard(findings, "batches", lambda: iter([schema.last_batch(connection)])), (-1, 0)
        )
        doubt = identities.judge(note, found, max(note.at_ms, last_at_ms)) or torn
        if note.counts is not None and not note.open and torn is None and not found.wal_bytes:
            for table, expected_count in zip(("batches", "segments", "meta"), note.counts, strict=True):
                if seen[table] != expected_count:
                    findings.add(table, None, f"{expected_count} rows when closed, {seen[table]} now")
    return Report(path, tuple(findings.listed), doubt, counts, body_bytes)


class _Findings:
    """Gathers damage, up to its bound."""

    def __init__(self) -> None:
        self.listed: list[Damage] = []

    def add(self, table: str, key: int | str | None, what: str) -> None:
        if len(self.listed) < PROBLEMS_MAX:
            self.listed.append(Damage(table, key, what))

    def ask(self, inspect: Inspect | None, table: str, key: int | str, body: bytes) -> None:
        if inspect is None:
            return
        try:
            what = inspect(table, key, body)
        except MmreplError as error:
            what = str(error)
        if what is not None:
            self.add(table or "log", key if table else None, what)


def _guard(findings: _Findings, table: str, rows: Callable[[], Iterator]) -> Iterator:  # type: ignore[type-arg]
    """The rows until SQLite finds that it cannot go on, which is a finding."""
    try:
        yield from rows()
    except sqlite3.Error as error:
        findings.add(table, None, f"cannot be read further: {error}")
