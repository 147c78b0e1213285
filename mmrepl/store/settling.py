"""
Taking in settled operations: those of a snapshot, and those of a segment that was saved.

Both come as batches of live operations, ascending per origin, and both end in the settled part of the columns and in
the keyspace, by the same path as every other operation. They are taken a piece at a time: consecutive operations of
one origin on one table, a slice a column.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from mmrepl.causality.dot import COUNTER_BITS
from mmrepl.log.batch import Batch
from mmrepl.log.columns import VOID, Columns, Context
from mmrepl.store.store import Store
from mmrepl.store.table import Table


@frozen
class Piece:
    """Consecutive operations of one origin on one table: counters from *first* on, columns [low, high)."""

    owner: Columns
    first: int
    low: int
    high: int
    table: Table

    def above(self, counter: int) -> Piece | None:
        """What of the piece stands above *counter*; None when nothing does."""
        skip = max(0, counter + 1 - self.first)
        if skip >= self.high - self.low:
            return None
        return Piece(self.owner, self.first + skip, self.low + skip, self.high, self.table) if skip else self

    def without(self, counters: frozenset[int]) -> Iterator[Piece]:
        """The piece less some of its counters."""
        low = self.low
        for index in range(self.low, self.high + 1):
            if index == self.high or self.first + index - self.low in counters:
                if low < index:
                    yield Piece(self.owner, self.first + low - self.low, low, index, self.table)
                low = index + 1


class Settling:
    """One batch on its way in. Enters its origins and tables at once."""

    def __init__(self, store: Store, batch: Batch) -> None:
        self._store = store
        self._batch = batch
        self._columns = [store.log.origin(node) for node in batch.node_ids()]
        self._contexts = store.pack_contexts(batch, self._columns)
        self._stamps = batch.absolute_stamps()
        self._payloads = batch.payloads
        if VOID in batch.payloads:  # a husk; it is told by identity from here on
            self._payloads = [VOID if payload == VOID else payload for payload in batch.payloads]
        if self._stamps:
            store.hlc.observe(max(self._stamps))

    def pieces(self) -> Iterator[Piece]:
        """The batch, in order."""
        tables = [self._store.enter_table(name) for name in self._batch.tables]
        table_runs = list(self._batch.iter_tables())
        at, left = 0, table_runs[0][1] if table_runs else 0
        index = 0
        for ref, first, size, _ in self._batch.iter_runs():
            done = 0
            while done < size:
                if not left:
                    at += 1
                    left = table_runs[at][1]
                take = min(left, size - done)
                table = tables[table_runs[at][0]]
                yield Piece(self._columns[ref], first + done, index, index + take, table)
                done, index, left = done + take, index + take, left - take

    def take(self, piece: Piece, position: int, number: int | None = None) -> None:
        """Settle a piece, in segment *number* if it comes from one, and apply it at log *position*."""
        batch, owner, low, high = self._batch, piece.owner, piece.low, piece.high
        contexts: dict[int, Context] = {}
        if self._contexts:
            shift = piece.first - low
            contexts = {at + shift: self._contexts[at] for at in range(low, high) if at in self._contexts}
        keys, payloads = batch.keys[low:high], self._payloads[low:high]
        stamps, table = self._stamps[low:high], piece.table
        self._store.log.settled_extend(owner, piece.first, stamps, table.number, keys, payloads, contexts, number)
        dot = owner.index << COUNTER_BITS | piece.first
        self._store.keyspace.apply_run(table, keys, payloads, dot, position, contexts, stride=0)
