"""
The embedded replica: a store in this process, in memory or in one file, with no server and no network.

It is a mapping; it takes writes whether or not anybody else is there; and it exchanges deltas with other replicas as
bytes, which travel as you like. Calls from several threads are safe: one lock guards the store, another orders the
commits, so that while one thread waits for the disk the writes of the others gather and share the next commit.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

from mmrepl.causality.context import CausalContext
from mmrepl.causality.version_vector import VersionVector
from mmrepl.effects import Persist
from mmrepl.errors import ClosedError, UsageError
from mmrepl.log.policy import DEFAULT_LOG, LogGauge, LogPolicy
from mmrepl.ports import Clock, Durability, Rng, Storage
from mmrepl.replication.local import LocalCore, Merged
from mmrepl.replication.opening import open_core
from mmrepl.resolvers import Resolver
from mmrepl.runtime.flusher import Flusher
from mmrepl.runtime.group_commit import GroupCommit
from mmrepl.runtime.outcomes import (
    Change,
    Receipts,
    SiblingsEvent,
    Written,
    as_level,
    as_vector,
    changes_since,
    siblings_event,
    written,
)
from mmrepl.runtime.shipping import check_compression, from_bytes, to_bytes
from mmrepl.runtime.system import SYSTEM_CLOCK, system_rng
from mmrepl.runtime.table_view import TableHost, TableView
from mmrepl.store.read import Read, read, read_payload
from mmrepl.store.table import PAGE_KEYS, Table
from mmrepl.types import DEFAULT_LIMITS, DEFAULT_TABLE, Limits, Value
from mmrepl.values import Items, check_key, check_table, columns_of, decode, encode

GATHERED_MOST = 64
"""
So many puts into memory gather, without a lock, and are applied together, at a third of the cost of one at a time.

Nobody can tell: whatever looks at the store has them applied first. They are checked and encoded as they come.
"""


class Replica(TableView, TableHost):
    """
    One replica, embedded. A mapping over the default table; other tables by `table`.

    *name* is this replica's name among those it exchanges with: no two of them may share it. *path* is its file
    (None: in memory). *default* and *tables* choose the resolvers. *durability*: ``"sync"``, ``"batch"`` or
    ``"none"``, for writes that do not say. *log*: how far back deltas reach before a snapshot is needed.
    *storage*, *clock* and *rng* replace the outside, for tests.

    Raises:
        StoreLocked, StoreForeign, StoreTooNew, StoreCorrupt: the file cannot be used; nothing was changed.
    """

    def __init__(
        self,
        name: str,
        path: str | Path | None = None,
        *,
        default: Resolver | None = None,
        tables: Mapping[str, Resolver] | None = None,
        durability: Durability | str = Durability.SYNC,
        limits: Limits = DEFAULT_LIMITS,
        log: LogPolicy = DEFAULT_LOG,
        storage: Storage | None = None,
        clock: Clock = SYSTEM_CLOCK,
        rng: Rng | None = None,
    ) -> None:
        check_key(name, limits)
        for table in tables or ():
            check_table(table, limits)
        super().__init__(self, DEFAULT_TABLE)
        self._closed = True  # until everything is there
        self._limits = limits
        self._level = as_level(durability)
        self._log = LogGauge(log)
        self._next_look = log.slack()  # position of the log at which its policy is asked again
        self._clock = clock
        self._wall_ms = clock.wall_ms
        self._lock = threading.RLock()  # guards the core
        self._committing = threading.Lock()  # orders the commits; taken before _lock
        self._group = GroupCommit(lambda end: self._commit(end, Durability.SYNC), lambda: self._core.durable)
        self._begun: Persist | None = None  # handed to the storage, and not known to be there; under _committing
        self._flusher: Flusher | None = None
        self._listeners: list[Callable[[SiblingsEvent], None]] = []
        self._gathers = False  # whether puts may gather; true when there is a table for them, and nobody listens
        self._gathered: list[tuple[str, bytes, int]] = []  # (key, payload, wall_ms); only appended to without the lock
        self._gathered_most = min(GATHERED_MOST, log.slack())
        self._path = None if path is None else Path(path)
        if storage is None and path is not None:
            from mmrepl.storage.sqlite import SqliteStorage

            storage = SqliteStorage(path)
        self._storage = storage
        try:
            self._core, _, _ = open_core(
                name, storage, rng or system_rng(), default=default, tables=tables, limits=limits
            )
            self._store = self._core.store
            self._store.keyspace.observed = False  # until somebody listens
            self._table_of: dict[str, Table] = {}
            self._closed = False
            self._commit(self._core.store.log.end, Durability.SYNC)
        except BaseException:
            if storage is not None:
                storage.close()
            raise

    # -- identity

    @property
    def doubt(self) -> str | None:
        """Why this replica took a new incarnation, when it was opened or later; None when it did not have to."""
        return self._core.doubt

    @property
    def node(self) -> str:
        """Name and incarnation, as in dots and vectors."""
        return str(self._store.node)

    @property
    def version(self) -> VersionVector:
        """Everything that this replica has applied. Give it to another's `delta`."""
        with self._lock:
            self._apply_gathered()
            return self._store.version

    @property
    def lost_count(self) -> int:
        """How many concurrent values met another since this replica was opened: in each meeting one does not win."""
        return self._store.keyspace.lost_count

    def table(self, name: str) -> TableView:
        """A table as a mapping. It need not have been declared: then it has the default resolver."""
        check_table(name, self._limits)
        return TableView(self, name)

    def tables(self) -> list[str]:
        """Names of the tables that were declared or hold keys, in order."""
        with self._lock:
            return self._alive().store.table_names()

    # -- exchange

    def delta(self, since: VersionVector | None = None, *, compression: str | None = None) -> bytes:
        """
        Everything that a replica at version *since* lacks, as bytes to ship; empty when it lacks nothing.

        None means everything. What is here but not yet durable is committed first. Where the log no longer reaches
        back to *since*, the bytes are a snapshot; `merge` takes either. *compression*: ``"zlib"``, ``"zstd"`` (the
        extra of that name) or None; `merge` finds out by itself. Cost: proportional to the answer.

        Raises UsageError for a *compression* that this installation does not have.
        """
        vector = as_vector(since)
        check_compression(compression)
        if self._storage is None:
            with self._lock:
                return to_bytes(self._alive().blob(vector), compression, self._limits)
        with self._lock:
            end = self._alive().store.log.end
        self._commit(end, Durability.BATCH)  # so that others can write meanwhile; what they wrote is little
        with self._committing, self._lock:
            self._write_out(self._alive().store.log.end, Durability.BATCH)
            return to_bytes(self._alive().blob(vector), compression, self._limits)

    def merge(self, delta: bytes | bytearray | memoryview) -> Merged:
        """
        Take in the bytes of another replica's `delta`; returns how many operations were new, how many known.

        Repeating is harmless. What came in is as durable as this replica's writes when the call returns. If it shows
        that this replica runs on an old copy of its file, a new incarnation is taken, and `doubt` says so.

        Raises:
            FrameError: bytes that are no delta. Nothing was changed.
            DeltaGap: it was made for a replica that has more: ask for one since `version`. Nothing was changed.
            StampAhead: it was stamped too far in the future. Nothing was changed.
            Equivocation: it has another content for a write that is here, under the same dot.
            IdentityLost: this replica runs on an old copy of its file and has written on. Nothing was changed.
        """
        messages = from_bytes(delta, self._limits)
        with self._lock:
            core = self._alive()
            merged = core.merge(messages, self._clock.wall_ms())
            core.demand(self._level)
            events, end = self._take_events(), self._store.log.end
        if self._storage is not None or end >= self._next_look:
            self._finish(end, self._level)
        if events:
            self._tell(events)
        return merged

    def changes(self, since: VersionVector | None = None) -> Iterator[Change]:
        """
        Operations applied here that a reader at *since* has not seen, in order of application, then ends.

        What is here when this is called; of that, what was overwritten may be left out. The token for the next time is
        `version`, read before.

        Raises:
            LogTruncated: the log no longer reaches back to *since*: read the keys instead.
        """
        vector = as_vector(since)
        with self._lock:
            self._alive()
            return iter(list(changes_since(self._store, vector)))

    def on_siblings(self, listener: Callable[[SiblingsEvent], None]) -> None:
        """
        Call *listener* whenever siblings of a key appear or vanish, after the change is durable.

        It runs in the thread that wrote or merged, without locks held; what it raises is raised there.
        """
        with self._lock:
            self._apply_gathered()
            self._listeners.append(listener)
            self._gathers = False
            self._store.keyspace.observed = True

    # -- upkeep

    def flush(self) -> None:
        """Return when everything written so far is durable."""
        with self._lock:
            end = self._alive().store.log.end
            self._core.demand(Durability.SYNC)
        self._commit(end, Durability.SYNC)

    def backup(self, target: str | Path) -> None:
        """A consistent copy of the file, while running. Opened, it takes a new incarnation, as it must."""
        if self._storage is None:
            raise UsageError("this replica is in memory: there is no file to back up; delta() gives its content")
        self.flush()
        with self._committing:
            self._storage.backup(str(target))

    def check(self) -> None:
        """Assert every invariant of the store. Cost: proportional to it. For tests."""
        with self._lock:
            self._apply_gathered()
            self._store.check()

    def close(self) -> None:
        """Commit what is left and release the file. Idempotent. Later calls raise ClosedError."""
        with self._lock:
            if self._closed:
                return
            self._apply_gathered()
            self._closed, self._gathers = True, False  # nothing is minted any more; what was is committed below
        try:
            if self._flusher is not None:
                self._flusher.stop()
            self._calm_down()
        finally:
            if self._storage is not None:
                with self._committing:
                    self._storage.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        where = "in memory" if self._path is None else str(self._path)
        if self._closed:
            return f"<Replica {self._store.node} {where}, closed>"
        return f"<Replica {self._store.node} {where}, {len(self._table(DEFAULT_TABLE))} keys, version {self.version}>"

    # -- TableHost

    def _alive(self) -> LocalCore:
        if self._closed:
            raise ClosedError("this replica is closed")
        if self._gathered:
            self._apply_gathered()
        return self._core

    def _table(self, name: str) -> Table:
        table = self._table_of.get(name)
        if table is None:
            table = self._table_of[name] = self._store.table(name)
        return table

    def _write(
        self, table: str, key: str, payload: bytes | None, context: CausalContext | None, level: Durability
    ) -> tuple[Table, int, int]:
        """Mint and apply, under the lock: the table, the dot's counter, the end of the log."""
        core, found = self._alive(), self._table(table)
        counter = core.put(found, key, payload, self._wall_ms(), context, level)
        return found, counter, self._store.log.end

    def _put(
        self, table: str, key: str, value: Value, context: CausalContext | None, durability: Durability | None
    ) -> Written:
        return self._store_one(table, key, encode(value, self._limits), context, durability)

    def _delete(self, table: str, key: str, context: CausalContext | None, durability: Durability | None) -> Written:
        return self._store_one(table, key, None, context, durability)

    def _store_one(
        self, table: str, key: str, payload: bytes | None, context: CausalContext | None, durability: Durability | None
    ) -> Written:
        check_key(key, self._limits)
        level = self._level if durability is None else durability
        with self._lock:
            found, counter, end = self._write(table, key, payload, context, level)
            receipt = written(self._store, found, key, counter, context)
            events = self._take_events()
        self._finish(end, level)
        self._tell(events)
        return receipt

    def _put_many(self, table: str, items: Items, durability: Durability | None) -> Receipts:
        keys, payloads = columns_of(items, self._limits)
        level = self._level if durability is None else durability
        with self._lock:
            core, found = self._alive(), self._table(table)
            first = core.put_run(found, keys, payloads, self._wall_ms(), level)
            receipts = Receipts(self._store, found, keys, first)
            end, events = self._store.log.end, self._take_events()
        self._finish(end, level)
        self._tell(events)
        return receipts

    def __setitem__(self, key: str, value: Value, table: str = DEFAULT_TABLE) -> None:
        # The hot path of a program that puts: `_store_one` without a receipt, in one piece.
        limits = self._limits
        if type(key) is not str or not key.isascii() or not 0 < len(key) <= limits.key_bytes:
            check_key(key, limits)
        payload = encode(value, limits)
        if self._gathers and table == DEFAULT_TABLE:
            gathered = self._gathered
            gathered.append((key, payload, self._wall_ms()))
            if len(gathered) >= self._gathered_most:
                with self._lock:
                    self._apply_gathered()
            return
        with self._lock:
            core, found = self._alive(), self._table(table)
            core.put(found, key, payload, self._wall_ms(), None, self._level)
            end = self._store.log.end
            events = self._take_events() if self._store.keyspace.events else None
            self._gathers = self._storage is None and not self._listeners
        if self._storage is not None or end >= self._next_look:
            self._finish(end, self._level)
        if events:
            self._tell(events)

    def _set(self, table: str, key: str, value: Value) -> None:
        Replica.__setitem__(self, key, value, table)

    def _apply_gathered(self) -> None:
        """Apply the puts that have gathered, under the lock."""
        writes = self._gathered[:]
        if writes:
            if len(writes) == 1:
                self._store.put(self._table(DEFAULT_TABLE), *writes[0])
            else:
                self._store.put_gathered(self._table(DEFAULT_TABLE), writes)
            del self._gathered[: len(writes)]  # now, not before: an interrupt (Ctrl-C) must not lose them
            if self._store.log.end >= self._next_look:
                self._finish(self._store.log.end, self._level)

    def __getitem__(self, key: str) -> Value:
        payload = self._payload(DEFAULT_TABLE, key)
        if payload is None:
            raise KeyError(key)
        return decode(payload)

    def _payload(self, table: str, key: str) -> bytes | None:
        with self._lock:
            if self._gathered or self._closed:
                self._alive()
            found = self._table_of.get(table)
            if found is None:
                found = self._table(table)
            return read_payload(self._store, found, key)

    def _get(self, table: str, key: str, default: Value) -> Value:
        payload = self._payload(table, key)
        return default if payload is None else decode(payload)

    def _read(self, table: str, key: str) -> Read:
        with self._lock:
            core, end = self._alive(), self._store.log.end
            found = read(self._store, self._table(table), key)
        if not core.may_tell(found.context.vector):  # it shows a write of another thread that is on its way to disk
            self._commit(end, Durability.SYNC)
        return found

    def _keys(self, table: str, first: str | None, end: str | None, *, reverse: bool) -> Iterator[str]:
        with self._lock:
            self._alive()
            keys = self._table(table).keys(first, end, reverse=reverse)
        return self._pages(keys)

    def _pages(self, keys: Iterator[str]) -> Iterator[str]:
        while True:
            with self._lock:
                page = list(islice(keys, PAGE_KEYS))
            yield from page
            if len(page) < PAGE_KEYS:
                return

    def _len(self, table: str) -> int:
        with self._lock:
            self._alive()
            return len(self._table(table))

    def _contains(self, table: str, key: object) -> bool:
        with self._lock:
            self._alive()
            return key in self._table(table)

    # -- commits

    def _finish(self, end: int, level: Durability) -> None:
        """See to it that everything before *end* is as durable as asked, and that the log stays within its bound."""
        if self._storage is not None:
            if not self._core.answers_at_once(level):
                self._group.commit(end)
            if level is not Durability.SYNC:
                if self._flusher is None:
                    self._start_flusher()
                else:
                    self._flusher.wake()
        if end >= self._next_look:
            with self._lock:
                log = self._store.log
                self._next_look = log.end + self._log.slack()
                self._core.upkeep(position=self._log.position(log, self._clock.wall_ms()))

    def _commit(self, end: int, level: Durability) -> None:
        """Commit until everything before *end* is durable. One thread writes; who waited finds it done."""
        if self._storage is not None:
            with self._committing:
                self._write_out(end, level)

    def _write_out(self, end: int, level: Durability) -> None:
        """As `_commit`, for a caller that holds ``_committing``."""
        if self._begun is not None:  # interrupted (Ctrl-C): it may be there or not, and a commit can be repeated
            self._carry_out(self._begun)
        with self._lock:
            core = self._core
            if core.journal is None or (core.durable >= end and not core.journal.pending()):
                return
            core.demand(level)
            self._begun = core.take_persist()
        if self._begun is not None:
            self._carry_out(self._begun)

    def _carry_out(self, persist: Persist) -> None:
        assert self._storage is not None
        self._storage.commit(persist.commit, persist.durability)
        with self._lock:
            self._begun = None
            self._core.persisted(persist.position)
            self._core.upkeep(position=0)

    def _calm_down(self) -> None:
        """Commit what there is, with the word that no weak write is under way any more."""
        with self._committing:
            with self._lock:
                self._core.calm_down()
            self._write_out(self._store.log.end, Durability.SYNC)

    def _start_flusher(self) -> None:
        with self._lock:
            if self._closed:
                return  # closing commits what was minted before
            if self._flusher is None:
                self._flusher = Flusher(self)
        self._flusher.wake()

    # -- events

    def _take_events(self) -> list[SiblingsEvent]:
        events = self._store.keyspace.events
        if not events:
            return []
        self._store.keyspace.events = []
        return [siblings_event(self._store, event) for event in events]

    def _tell(self, events: Iterable[SiblingsEvent]) -> None:
        for event in events:
            for listener in self._listeners:
                listener(event)
