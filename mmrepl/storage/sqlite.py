"""
Remembering in one SQLite file: a commit is a transaction, and usually one row.

The batch that a turn of the core produced is one row of ``batches``; SQLite appends it to its write-ahead log and
syncs that once. The log is checkpointed into the database every `CHECKPOINT_PAGES` and then written from its
beginning again, and it is filled up to that length early on: so a commit overwrites a file of constant size, which
costs the file system half of what appending to one does. That is how a commit keeps pace with a bare write +
fdatasync. We checkpoint ourselves because SQLite, left to do it, keeps the errors of it to itself.

Levels. ``SYNC`` and ``BATCH`` commits are synced before `commit` returns. ``NONE`` commits are not; the log still
keeps them in order and whole, so that after a power failure a prefix of them is there. Which prefix, nobody can tell,
and the node may have sent to others what it lost: it has to come back as a new incarnation. So the first weak commit
after strong ones is preceded by a note, in the same transaction, and *that transaction is synced*: else the note would
be lost together with what it warns of. After `CALM_COMMITS` strong commits in a row the note is taken back.

Doubt. `load` judges whether the file is the latest memory of its node (`mmrepl.storage.identity`) and writes down what
it found. The first commit afterwards is the node's answer, made under its new incarnation if there was a doubt: it
replaces the note about where and in which boot the file lives, and settles the doubt in the same transaction.

Failure. Only a full disk, refused before anything was committed, can be recovered from (`DiskFull`). After any other
error of a write or a sync the store is done for, and says so (`StoreFailed`): after a failed fsync the kernel may call
pages clean that it never wrote, so a later one that succeeds proves nothing. An interrupt (Ctrl-C) in the middle of
a commit leaves it whole or absent in the file; the next `commit` or `close` completes it first, so that nothing that
follows stands on a hole.

HAZARD: the lock on the file belongs to the process. Do not carry an open store across ``fork``, and do not open the
file yourself in the process that runs the node: closing any descriptor of it drops the lock (POSIX).
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sqlite3
import weakref
from collections.abc import Callable, Iterator
from typing import Final

from attrs import evolve

from mmrepl.errors import ClosedError, DiskFull, StorageError, StoreCorrupt, StoreFailed
from mmrepl.ports import Commit, Durability
from mmrepl.storage import backup as backups
from mmrepl.storage import identity as identities
from mmrepl.storage import sqlite_schema as schema
from mmrepl.storage import wal_tail
from mmrepl.storage.identity import Identity, Surroundings
from mmrepl.storage.loaded import LoadedStore

CHECKPOINT_PAGES: Final = 512
"""The log is checkpointed when it has grown by about so many pages of 4 KiB: 2 MiB, one or two milliseconds."""

FILL_AFTER_COMMITS: Final = 16
"""A program that commits so often will commit more: the log is filled up to its usual length."""

LOG_BYTES_KEPT: Final = 4 * 1024 * 1024
"""A log that one large commit has made longer than this is cut back when it is next written from the beginning."""

CALM_COMMITS: Final = 8
"""After so many strong commits in a row the note about weak ones is taken back; at once would cost a page each time."""


class SqliteStorage:
    """
    A store in the file at *path*, created if need be; at most one is open on a file at any time.

    Cost of a commit of one batch: one sync, for weak ones none; 10 µs besides.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        wall_ms: Callable[[], int] = identities.wall_ms,
        boot_id: Callable[[], str | None] = identities.boot_id,
    ) -> None:
        """Touches nothing yet. *wall_ms* and *boot_id* stand for the machine; tests bring their own."""
        self.path = schema.normal_path(path)
        self._wall_ms = wall_ms
        self._boot_id = boot_id
        self._connection: sqlite3.Connection | None = None
        self._identity: Identity  # as the file has it; set by load
        self._inode = (0, 0)  # device and inode of the file
        self._answered = False  # the first commit after load was made
        self._failed: str | None = None
        self._closed = False
        self._unfinished: tuple[Commit, Durability] | None = None  # interrupted: to be made again, first
        self._last_position = -1  # highest position of a batch, or higher
        self._level_is_strong = True  # of the connection: synchronous=FULL
        self._unsynced = False  # a weak commit was made since the last strong one
        self._strong_count = 0  # strong commits in a row
        self._log_pages = 0  # about how much the log has grown since the last checkpoint

    # -- the port

    def load(self) -> LoadedStore:
        """
        Open, check and judge. Called once, first; rows are read as the iterators of the answer are.

        Raises:
            StoreLocked: somebody has it open.
            StoreForeign, StoreTooNew: not ours to touch; nothing was.
            StoreCorrupt: damage, here or while iterating; the message says which row.
            StorageError: there can be no file at that place, and why.
        """
        if self._connection is not None or self._closed:
            raise ClosedError(f"the store at {self.path} was loaded before: make a new SqliteStorage to open it again")
        schema.check_place(self.path)
        try:
            schema.peek(self.path)
            unopened = identities.unopened_wal(self.path)
            self._connection = schema.connect(self.path)
            return self._open(self._connection, unopened)
        except sqlite3.Error as error:
            self._release()
            raise schema.explain(error, self.path, "open") from error
        except BaseException:
            self._release()
            raise

    def commit(self, commit: Commit, durability: Durability) -> None:
        """
        Make *commit* durable to *durability*, whole or not at all. Repeating a commit changes nothing.

        An empty strong commit syncs the weak ones before it.

        Raises:
            DiskFull: no space; certainly not committed, and the store goes on.
            StoreFailed: a write or sync failed, now (may have been committed) or earlier (certainly not).
            ClosedError: closed, or not loaded.
        """
        self._usable()
        self._finish()
        self._unfinished = (commit, durability)
        self._guarded(commit, durability)

    def backup(self, target: str) -> None:
        """
        A consistent copy of what was committed, at *target*, marked so that opening it draws a new incarnation.

        It appears under its name only when it is whole and synced. An earlier backup of that name is replaced, any
        other file is not. Commits wait meanwhile. Cost: reads and writes the whole store.

        Raises StorageError, and UsageError for a target that is in the way; the store itself is not affected.
        """
        connection = self._usable()
        self._finish()
        backups.write(connection, self._identity, self.path, target, self._wall_ms())

    def close(self) -> None:
        """
        Sync, mark as closed, release. Idempotent; the file is released even when an error is raised.

        Raises DiskFull or StoreFailed when the last weak commits could not be synced.
        """
        if self._closed:
            return
        try:
            if self._connection is not None and self._failed is None:
                self._finish()
                self._note_closed(self._connection)
        except sqlite3.Error as error:
            raise self._refusal(error) from error
        finally:
            self._release()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # half-built, or the interpreter is going away
            self.close()

    # -- opening

    def _open(self, connection: sqlite3.Connection, unopened: os.stat_result | None) -> LoadedStore:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        if not schema.check_header(connection, self.path):  # the first read: takes the lock
            schema.create(connection, self._note(identities.look(self.path, self._boot_id), opened=False).encode())
        # Before anything is written. (Opening alone writes nothing: recovering the log happens in memory.)
        found = identities.look(self.path, self._boot_id, unopened)
        self._inode = (found.device, found.inode)
        _open_stores.add(self)
        schema.tune(connection, self.path, LOG_BYTES_KEPT)
        self._last_position, last_at_ms = schema.last_batch(connection)
        remembered = schema.read_self(connection)
        if remembered is None:
            doubt: str | None = "what the store notes about itself is damaged"
        else:
            doubt = identities.judge(remembered, found, max(remembered.at_ms, last_at_ms))
        meta = self._read_meta(connection)
        counts = None if remembered is None or remembered.open else remembered.counts
        if counts is not None and counts[2] != len(meta):
            raise StoreCorrupt(f"{self.path}: meta had {counts[2]} rows when closed, now {len(meta)}. {schema.WAY_OUT}")
        if found.wal_bytes:
            # The process died. First learn how much of the log SQLite accepts, while it still lies there.
            whole_count = self._checkpoint(connection)
            doubt = doubt or wal_tail.torn(self.path + "-wal", whole_count)
            counts = None  # noted before what is in the log
        self._identity = self._note(found, opened=bool(found.wal_bytes or doubt), doubt=doubt)
        if self._identity.open:
            self._put_self(connection, self._identity)
        batches_count, segments_count = (None, None) if counts is None else counts[:2]
        return LoadedStore(
            meta,
            doubt,
            lambda: self._read("segments", schema.read_segments(connection), segments_count),
            lambda: self._read("batches", schema.read_batches(connection), batches_count),
        )

    def _read_meta(self, connection: sqlite3.Connection) -> dict[str, bytes]:
        meta = {}
        for key, body, sound in schema.read_meta(connection):
            if not sound:
                raise StoreCorrupt(f"{self.path}: the row of meta with key {key!r} is damaged. {schema.WAY_OUT}")
            meta[key] = body
        return meta

    def _read(
        self, table: str, rows: Iterator[tuple[int, bytes, bool]], expected_count: int | None
    ) -> Iterator[tuple[int, bytes]]:
        """The rows as long as they are sound, and as many as there were when the store was closed."""
        count = 0
        try:
            for key, body, sound in rows:
                if not sound:
                    raise StoreCorrupt(f"{self.path}: the row of {table} with key {key} is damaged. {schema.WAY_OUT}")
                count += 1
                yield key, body
        except sqlite3.Error as error:
            raise schema.explain(error, self.path, f"read {table} of") from error
        if expected_count is not None and count != expected_count:
            raise StoreCorrupt(
                f"{self.path}: {table} had {expected_count} rows when closed, now {count}. {schema.WAY_OUT}"
            )

    def _note(self, found: Surroundings, *, opened: bool, doubt: str | None = None) -> Identity:
        return Identity(
            device=found.device,
            inode=found.inode,
            boot=found.boot,
            at_ms=self._wall_ms(),
            open=opened,
            doubt=doubt,
        )

    # -- committing

    def _usable(self) -> sqlite3.Connection:
        if self._closed or self._connection is None:
            raise ClosedError(f"the store at {self.path} is " + ("closed" if self._closed else "not loaded yet"))
        if self._failed is not None:
            refusal = StoreFailed(f"{self.path} failed earlier ({self._failed}): nothing was done; reopen the store")
            refusal.definite = True
            raise refusal
        return self._connection

    def _finish(self) -> None:
        """Make an interrupted commit again. It stays the first to be made, even when there is no space for it now."""
        unfinished = self._unfinished
        if unfinished is not None:
            try:
                self._guarded(*unfinished)
            except DiskFull:
                self._unfinished = unfinished
                raise

    def _guarded(self, commit: Commit, durability: Durability) -> None:
        """Write, and leave the store in a known state whatever happens."""
        connection = self._usable()
        try:
            _roll_back(connection)  # what an interrupt may have left
            self._write(connection, commit, durability)
        except Exception as error:
            self._unfinished = None
            if isinstance(error, sqlite3.Error):
                raise self._refusal(error) from error
            _roll_back(connection)  # a body that is no bytes, or no memory: it was not done
            raise
        except BaseException:
            _roll_back(connection)  # interrupted: done or not done; `_unfinished` knows what
            raise
        self._unfinished = None
        if self._log_pages >= CHECKPOINT_PAGES:
            self._checkpoint_behind(connection)
        if self._strong_count == FILL_AFTER_COMMITS:
            wal_tail.fill(self.path + "-wal", CHECKPOINT_PAGES * (schema.PAGE_BYTES + wal_tail.FRAME.size))

    def _write(self, connection: sqlite3.Connection, commit: Commit, durability: Durability) -> None:
        strong = durability is not Durability.NONE
        now_ms = self._wall_ms()
        batches = commit.batches
        others = bool(commit.drop_batches or commit.segments or commit.meta)
        note = self._next_note(commit, strong=strong, others=others, now_ms=now_ms)
        announcing = note is not None and (not self._answered or note.weak != self._identity.weak)
        self._set_level(connection, strong=strong or announcing)
        if note is None and not others and len(batches) == 1:
            [(position, body)] = batches.items()
            connection.execute(schema.PUT_BATCH, (position, now_ms, schema.batch_crc(position, now_ms, body), body))
        elif note is not None or others or batches:
            schema.transact(connection, commit, now_ms, None if note is None else note.encode())
        else:
            return
        if batches:
            self._last_position = max(self._last_position, *batches)
        if note is not None:
            self._identity = note
        self._unsynced = not (strong or announcing)
        self._strong_count = self._strong_count + 1 if strong else 0
        self._log_pages += sum(len(body) // schema.PAGE_BYTES + 1 for body in batches.values())
        if note is not None or others:
            bodies = [body for body in commit.segments.values() if body is not None]
            self._log_pages += 2 + sum(len(body) // schema.PAGE_BYTES + 1 for body in bodies)
        if not self._answered:
            self._answered = True
            self._log_pages = CHECKPOINT_PAGES  # so that the database itself, without its log, knows that it is open

    def _next_note(self, commit: Commit, *, strong: bool, others: bool, now_ms: int) -> Identity | None:
        """What the store must note about itself along with *commit*; None when the note that is there still fits."""
        weak = not strong or (self._identity.weak and self._strong_count + 1 < CALM_COMMITS)
        times_itself = bool(commit.batches) and max(commit.batches) >= self._last_position
        untimed = (others or bool(commit.batches)) and not times_itself
        syncs_only = strong and self._unsynced and not others and not commit.batches
        if self._answered and weak == self._identity.weak and not untimed and not syncs_only:
            return None
        return evolve(self._identity, at_ms=now_ms, open=True, weak=weak, backup=False, doubt=None, counts=None)

    def _set_level(self, connection: sqlite3.Connection, *, strong: bool) -> None:
        if strong != self._level_is_strong:
            # NORMAL, not OFF: it still syncs around checkpoints, without which a power failure destroys the database.
            connection.execute(f"PRAGMA synchronous={'FULL' if strong else 'NORMAL'}")
            self._level_is_strong = strong

    def _put_self(self, connection: sqlite3.Connection, note: Identity) -> None:
        self._set_level(connection, strong=True)
        body = note.encode()
        connection.execute(schema.PUT_SELF, (schema.segment_crc(0, body), body))
        self._identity = note

    def _refusal(self, error: sqlite3.Error) -> StorageError:
        """Roll back, decide whether the store can go on, and say it."""
        connection = self._connection
        clean = connection is not None and _roll_back(connection)
        code = schema.primary_code(error)
        if clean and code == sqlite3.SQLITE_FULL:
            return DiskFull(f"no space left for a commit to {self.path}: it was not made; free some and repeat it")
        if clean and (code == sqlite3.SQLITE_TOOBIG or isinstance(error, sqlite3.DataError)):
            return StorageError(f"a commit to {self.path} is larger than SQLite allows: it was not made ({error})")
        self._failed = f"{getattr(error, 'sqlite_errorname', '')} {error}".strip()
        return StoreFailed(
            f"a write to {self.path} failed ({self._failed}). Whether this commit is on disk is unknown; nothing more "
            f"is accepted. Look after the disk, then reopen the store"
        )

    # -- the log

    def _checkpoint(self, connection: sqlite3.Connection) -> int:
        """Copy the log into the database, as far as nobody reads; the number of whole frames that it held."""
        _busy, frames_count, _copied_count = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        self._log_pages = 0
        return max(0, int(frames_count))

    def _checkpoint_behind(self, connection: sqlite3.Connection) -> None:
        """
        Checkpoint after a commit that has already succeeded, and must therefore not be refused any more.

        Without space for it the log grows on, and it is tried again. Any other error is held against the next commit.
        """
        try:
            self._checkpoint(connection)
        except sqlite3.Error as error:
            self._log_pages = 0
            if schema.primary_code(error) != sqlite3.SQLITE_FULL:
                self._failed = f"checkpoint: {getattr(error, 'sqlite_errorname', '')} {error}"

    def _note_closed(self, connection: sqlite3.Connection) -> None:
        if not self._identity.open:
            return  # loaded, found in order, never written to
        # Checkpoint first, so that little is left to do between the time that we note and the last change of the file.
        self._checkpoint(connection)
        counts = connection.execute(schema.COUNTS).fetchone()
        self._put_self(
            connection, evolve(self._identity, at_ms=self._wall_ms(), open=False, weak=False, counts=tuple(counts))
        )

    def _release(self) -> None:
        self._closed = True
        _open_stores.discard(self)
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):  # what could fail here is the checkpoint; the log stays, then
                connection.close()


def is_open_here(device: int, inode: int) -> bool:
    """Whether this process has a store open in that file, so that it must not open and close the file otherwise."""
    return any(store._inode == (device, inode) for store in list(_open_stores))


_open_stores: weakref.WeakSet[SqliteStorage] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """A program that ends without closing its stores has still not lost anything, and is not to be doubted for it."""
    for store in list(_open_stores):
        with contextlib.suppress(StorageError):
            store.close()


def _roll_back(connection: sqlite3.Connection) -> bool:
    """Whether no transaction is left open."""
    if connection.in_transaction:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
    return not connection.in_transaction
