"""
The state: what the committed entries, applied in order, have made of the keys.

A function of the log and of nothing else: every node that has applied up to an index has the same tables and the same
client sessions there, to the byte. So sessions expire by the stamps in the log and not by anybody's clock, and their
bounds travel in the entries that open them.

A client session makes a retry apply once (Raft thesis §6.3). Requests of a session are numbered, one at a time; the
state keeps the latest number and what came of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

import msgspec

from mmrepl.errors import FrameError
from mmrepl.single_master.entry import SESSION, WRITE, Entry

Record = tuple[bytes | None, int, int]
"""Payload (None: deleted, and not yet forgotten), index and stamp of the entry that wrote it."""

# What came of an entry.
APPLIED: Final = 0
UNMET: Final = 1  # its condition did not hold
REPEATED: Final = 2  # a retry: the session tells what came of the first attempt
STALE: Final = 3  # a request older than the session's latest
EXPIRED: Final = 4  # the session is not known


class Session(msgspec.Struct, array_like=True):
    """A client session."""

    request: int  # the latest
    index: int  # where it stands
    applied: bool  # whether its condition held
    stamp: int  # of its last use


class SessionBounds(msgspec.Struct, array_like=True, frozen=True):
    """How many sessions are kept, and for how long without use; the payload of an entry that opens one."""

    count: int
    age_ms: int


_bounds_decoder = msgspec.msgpack.Decoder(SessionBounds)


def decode_bounds(payload: bytes | None) -> SessionBounds:
    """Raises FrameError."""
    try:
        bounds = _bounds_decoder.decode(payload or b"")
    except (msgspec.MsgspecError, ValueError) as error:
        raise FrameError(f"bounds of sessions that cannot be read: {error}") from error
    if not 1 <= bounds.count <= 1_000_000 or not 1 <= bounds.age_ms < 1 << 53:
        raise FrameError(f"{bounds.count} sessions for {bounds.age_ms} ms")
    return bounds


class State:
    """Tables and sessions. Mutable; entries are applied in order, each once."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, Record]] = {}
        self.sessions: dict[int, Session] = {}  # by number; the least recently used first
        self.bounds = SessionBounds(1, 1)  # as the latest opening said
        self.stamp = 0  # the highest applied
        self._dead: deque[tuple[int, str, str]] = deque()  # deletions that are remembered, by index
        self._sorted: dict[str, list[str]] = {}  # keys in order, of tables that were listed and have not changed since

    # -- reading

    def get(self, table: str, key: str) -> tuple[bytes, int] | None:
        """Payload, and the index that wrote it; None when absent."""
        held = self.tables.get(table)
        record = None if held is None else held.get(key)
        if record is None or record[0] is None:
            return None
        return record[0], record[1]

    def record(self, table: str, key: str) -> Record | None:
        """As `get`, with the stamp, and with deletions that are still remembered."""
        return self.tables.get(table, {}).get(key)

    def keys(self, table: str) -> list[str]:
        """Keys of a table, in order. Cost: a sort, where keys came or went since the last time."""
        found = self._sorted.get(table)
        if found is None:
            held = self.tables.get(table, {})
            found = self._sorted[table] = sorted(key for key, record in held.items() if record[0] is not None)
        return found

    def names(self) -> list[str]:
        """Tables that hold something, in order."""
        return sorted(name for name in self.tables if self.keys(name))

    # -- applying

    def apply(self, index: int, entry: Entry) -> int:
        """Apply the entry at *index*; returns what came of it."""
        stamp = entry.stamp
        if stamp > self.stamp:
            self.stamp = stamp
            if self.sessions:
                self._expire()
        if entry.kind != WRITE:
            if entry.kind == SESSION:
                self.bounds = decode_bounds(entry.payload)
                self.sessions[index] = Session(0, index, True, self.stamp)
                self._expire()
            return APPLIED
        table, key = entry.table, entry.key
        session = None
        if entry.session:
            session = self.sessions.get(entry.session)
            if session is None:
                return EXPIRED
            if entry.request <= session.request:
                return REPEATED if entry.request == session.request else STALE
        held = self.tables.get(table)
        if held is None:
            held = self.tables[table] = {}
        before = held.get(key)
        is_there = before is not None and before[0] is not None
        outcome = APPLIED
        if entry.expect >= 0 and entry.expect != (before[1] if before is not None and is_there else 0):
            outcome = UNMET
        else:
            payload = entry.payload
            if payload is None:
                if is_there:
                    self._sorted.pop(table, None)
                self._dead.append((index, table, key))
            elif not is_there:
                self._sorted.pop(table, None)
            held[key] = (payload, index, stamp)
        if session is not None:
            del self.sessions[entry.session]
            self.sessions[entry.session] = session
            session.request, session.index, session.stamp = entry.request, index, self.stamp
            session.applied = outcome == APPLIED
        return outcome

    def _expire(self) -> None:
        """Let sessions go that are too old or too many, the least recently used first."""
        bounds = self.bounds
        while self.sessions:
            number, session = next(iter(self.sessions.items()))
            if len(self.sessions) <= bounds.count and session.stamp + bounds.age_ms >= self.stamp:
                return
            del self.sessions[number]

    def forget_deletions(self, index: int) -> None:
        """Deletions at *index* and before need not be remembered any more: the key is just absent."""
        while self._dead and self._dead[0][0] <= index:
            at, table, key = self._dead.popleft()
            record = self.tables[table].get(key)
            if record is not None and record[0] is None and record[1] == at:
                del self.tables[table][key]

    # -- filling

    def fill(self, table: str, keys: Iterable[str], records: Iterable[Record]) -> None:
        """Put records as a snapshot has them; a record without payload takes the key away."""
        held = self.tables.setdefault(table, {})
        for key, record in zip(keys, records, strict=True):
            if record[0] is None:
                held.pop(key, None)
            else:
                held[key] = record
        self._sorted.pop(table, None)

    def check(self) -> None:
        """Assert the invariants."""
        dead = {(at, table, key) for at, table, key in self._dead}
        for table, held in self.tables.items():
            for key, (payload, index, _) in held.items():
                assert payload is not None or (index, table, key) in dead
            assert self._sorted.get(table) in (None, sorted(k for k, r in held.items() if r[0] is not None))
        assert not self.sessions or len(self.sessions) <= self.bounds.count
