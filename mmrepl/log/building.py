"""
Batches out of columns: what is gathered for a commit, a frame or a snapshot.

`BatchBuilder` takes runs in log order, and decides of each operation whether it is present, a void or a husk (see
`mmrepl.log.batch`); one operation by itself, by far the usual case, needs none of that.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from mmrepl.causality.dot import COUNTER_BITS, COUNTER_MAX
from mmrepl.errors import LogTruncated
from mmrepl.log.batch import Batch, differences
from mmrepl.log.columns import VOID, Columns, Context, Segment

if TYPE_CHECKING:
    from mmrepl.log.oplog import OpLog, Slice


def batch_of_one(log: OpLog, columns: Columns, counter: int) -> Batch | None:
    """One operation that nothing has buried, as a batch; else None. Most frames and commits are of one."""
    offset = counter - columns.base
    if columns.buried[offset]:
        return None
    refs, contexts = {columns.index: 0}, []
    context = columns.contexts.get(counter)
    if context is not None:
        entry = [0]
        for packed in context:
            entry += (refs.setdefault(packed >> COUNTER_BITS, len(refs)), packed & COUNTER_MAX)
        contexts.append(entry)
    origins = [log.columns[index].origin for index in refs]
    return Batch(
        origins=[(origin.name, origin.incarnation) for origin in origins],
        tables=[log.table_names[columns.tables[offset]]],
        runs=[0, counter, 1],
        table_runs=[],
        keys=[columns.keys[offset]],
        stamps=[columns.stamps[offset]],
        payloads=[columns.payloads[offset]],
        contexts=contexts,
    )


def in_log_order(slices: list[Slice]) -> Iterator[Slice]:
    """Cut slices of several origins into runs that follow each other in the log."""
    if len(slices) == 1:
        yield slices[0]
        return
    rest = [(columns.positions[first - columns.base], columns, first, last) for columns, first, last in slices]
    rest.sort(key=itemgetter(0))
    while len(rest) > 1:
        _, columns, first, last = rest.pop(0)
        size = bisect_left(columns.positions, rest[0][0], first - columns.base, last - columns.base + 1)
        run_last = columns.base + size - 1
        yield columns, first, run_last
        if run_last < last:
            insort(rest, (columns.positions[size], columns, run_last + 1, last), key=itemgetter(0))
    for _, columns, first, last in rest:
        yield columns, first, last


def _consecutive(counters: array[int]) -> Iterator[tuple[int, int]]:
    """Ascending counters as (first, last) of what follows without a gap."""
    if counters[-1] - counters[0] + 1 == len(counters):
        yield counters[0], counters[-1]
        return
    first = before = counters[0]
    for counter in counters[1:]:
        if counter != before + 1:
            yield first, before
            first = counter
        before = counter
    yield first, before


class BatchBuilder:
    """Gathers runs into columns."""

    def __init__(self, log: OpLog, until: int) -> None:
        self._log = log
        self._until = until
        self._origins: dict[int, int] = {}  # origin index -> reference
        self._tables: dict[int, int] = {}  # table id -> reference
        self._runs: list[int] = []
        self._table_runs: list[int] = []
        self._keys: list[str] = []
        self._stamps: list[int] = []
        self._payloads: list[bytes | None] = []
        self._contexts: list[list[int]] = []

    def _origin(self, index: int) -> int:
        return self._origins.setdefault(index, len(self._origins))

    def add(self, columns: Columns, first: int, last: int) -> None:
        """Operations *first* to *last*, voids left out."""
        low, high = first - columns.base, last - columns.base + 1
        buried = columns.buried[low:high]
        if not any(buried):
            self._present(columns, low, high)
            return
        until, payloads, needed, base = self._until, columns.payloads, columns.needed, columns.base
        begin = low
        while begin < high:
            over = 0 < columns.buried[begin] < until
            if not over and payloads[begin] is VOID:
                raise LogTruncated(f"the payload of {columns.origin}:{columns.base + begin} is gone; send a snapshot")
            husk = over and base + begin in needed
            end = begin + 1
            while end < high and (over or payloads[end] is not VOID):
                if (0 < columns.buried[end] < until) != over or (over and (base + end in needed) != husk):
                    break
                end += 1
            if husk:
                self._present(columns, begin, end)
                self._payloads[begin - end :] = [VOID] * (end - begin)
            elif over:
                self._run(columns, columns.base + begin, begin - end)
            else:
                self._present(columns, begin, end)
            begin = end

    def _run(self, columns: Columns, first: int, count: int) -> None:
        ref = self._origin(columns.index)
        runs = self._runs
        if runs and runs[-3] == ref and runs[-2] + runs[-1] == first and runs[-1] > 0 < count:
            runs[-1] += count
        else:
            runs += (ref, first, count)

    def _present(self, columns: Columns, low: int, high: int) -> None:
        first = columns.base + low
        self._run(columns, first, high - low)
        if columns.contexts:
            at = len(self._keys) - low - columns.base
            for counter in range(first, columns.base + high):
                context = columns.contexts.get(counter)
                if context is not None:
                    self._context(at + counter, context)
        self._table_refs(columns.tables[low:high])
        keys, stamps, payloads = columns.keys[low:high], columns.stamps[low:high].tolist(), columns.payloads[low:high]
        if self._keys:
            self._keys += keys
            self._stamps += stamps
            self._payloads += payloads
        else:
            self._keys, self._stamps, self._payloads = keys, stamps, payloads

    def _table_refs(self, tables: array[int]) -> None:
        if tables.count(tables[0]) == len(tables):
            self._table_run(tables[0], len(tables))
        else:
            for table, group in groupby(tables):
                self._table_run(table, sum(1 for _ in group))

    def _table_run(self, table: int, count: int) -> None:
        ref, runs = self._tables.setdefault(table, len(self._tables)), self._table_runs
        if runs and runs[-2] == ref:
            runs[-1] += count
        else:
            runs += (ref, count)

    def _context(self, index: int, context: Context) -> None:
        entry = [index]
        for packed in context:
            entry += (self._origin(packed >> COUNTER_BITS), packed & COUNTER_MAX)
        self._contexts.append(entry)

    def add_segment(self, columns: Columns, segment: Segment) -> None:
        """The live operations of a segment, and its husks."""
        if segment.dead or segment.husks:
            segment = segment.pick(index for index in range(len(segment)) if not segment.is_dead(index))
        if not len(segment):
            return
        at, counters = len(self._keys), segment.counters
        for first, last in _consecutive(counters):
            self._run(columns, first, last - first + 1)
        for counter, context in sorted(segment.contexts.items()):
            self._context(at + bisect_left(counters, counter), context)
        self._table_refs(segment.tables)
        self._keys += segment.keys
        self._stamps += segment.stamps
        self._payloads += segment.payloads

    def batch(self) -> Batch:
        """What was gathered."""
        log = self._log
        nodes = [log.columns[index].origin for index in self._origins]
        return Batch(
            origins=[(node.name, node.incarnation) for node in nodes],
            tables=[log.table_names[table] for table in self._tables],
            runs=self._runs,
            table_runs=self._table_runs if len(self._tables) > 1 else [],
            keys=self._keys,
            stamps=differences(self._stamps),
            payloads=self._payloads,
            contexts=self._contexts,
        )
