"""
The operation log: every operation of every origin, in the order in which we applied them.

Each origin is contiguous from its ``base`` on (see `mmrepl.log.columns`); across origins each operation has a
*position*, counted from 1, local to this node and never on the wire. "What does a peer lack" is a suffix of each
origin, "what came since" a range of positions: both are slices of columns.

An operation that was overwritten within a batch need not be in it: the receiver would only throw it away. It leaves
a void, because its counter must not be missing. The rule is exact: void if the operation that buried it stands in
the same batch, for a batch is applied whole. Where the payload is already gone, the batch is made long enough for
the rule to hold; where that would make it too long, the answer is `LogTruncated`, and a snapshot.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import count

from mmrepl.causality.dot import COUNTER_BITS, COUNTER_MAX, Dot
from mmrepl.causality.version_vector import EMPTY, VersionVector
from mmrepl.errors import LogTruncated
from mmrepl.log.batch import Batch, differences
from mmrepl.log.building import BatchBuilder, batch_of_one, in_log_order
from mmrepl.log.columns import SEGMENT_OPERATIONS, VOID, Columns, Context, Segment
from mmrepl.log.operation import Operation
from mmrepl.types import NodeId

Slice = tuple[Columns, int, int]
"""Operations of one origin: first and last counter, inclusive."""


class OpLog:
    """
    Owner of the columns. Knows nothing of what a key's state is; the store tells it what is buried.

    Packed dots are ``origin index << 47 | counter``; origin indexes are this log's own.
    """

    def __init__(self) -> None:
        self.columns: list[Columns] = []
        self.table_names: list[str] = []
        self.end = 1  # position that the next operation gets
        self.start = 1  # what was not cut stands from here on; below, only settled operations are left
        self._indexes: dict[tuple[str, int], int] = {}  # of node ids, which are equal to plain tuples
        self._table_ids: dict[str, int] = {}
        self._segment_numbers = count(1)
        self._vector = EMPTY  # of all before position `_vector_end`
        self._vector_end = 1

    # -- names

    def origin(self, node: NodeId) -> Columns:
        """The columns of *node*, made when they are new."""
        index = self._indexes.get(node)
        if index is None:
            index = self._indexes[node] = len(self.columns)
            self.columns.append(Columns(node, index))
        return self.columns[index]

    def known(self, node: tuple[str, int]) -> Columns | None:
        """The columns of *node*, if there are any."""
        index = self._indexes.get(node)
        return None if index is None else self.columns[index]

    def table_id(self, name: str) -> int:
        """Our number of the table, given when it is new."""
        number = self._table_ids.get(name)
        if number is None:
            number = self._table_ids[name] = len(self.table_names)
            self.table_names.append(name)
        return number

    def has_table(self, name: str) -> bool:
        """Whether the table has a number."""
        return name in self._table_ids

    def known_table_id(self, name: str) -> int | None:
        """Our number of the table, if it has one."""
        return self._table_ids.get(name)

    def dot(self, packed: int) -> Dot:
        """The dot of a packed one."""
        return Dot(self.columns[packed >> COUNTER_BITS].origin, packed & COUNTER_MAX)

    def pack(self, dot: Dot) -> int:
        """The packed dot of a dot; its origin is entered when it is new."""
        return self.origin(dot.origin).index << COUNTER_BITS | dot.counter

    def unpack_context(self, context: Context) -> VersionVector:
        """A packed context as a version vector."""
        return VersionVector({self.columns[p >> COUNTER_BITS].origin: p & COUNTER_MAX for p in context})

    def vector(self) -> VersionVector:
        """
        What the log has: the version vector of the store; the same one until there is more.

        Cost: proportional to the number of origins, when there is more.
        """
        if self._vector_end != self.end:
            self._vector_end = self.end
            self._vector = VersionVector.unchecked(
                {c.origin: head for c in self.columns if (head := c.base + len(c.stamps) - 1)}  # `head`, spelled out
            )
        return self._vector

    def floor(self) -> VersionVector:
        """Below this, operations were cut; a peer that lacks some of it needs a snapshot."""
        return VersionVector({columns.origin: columns.base - 1 for columns in self.columns})

    # -- growing

    def append(
        self, columns: Columns, stamp: int, table: int, key: str, payload: bytes | None, context: Context | None
    ) -> int:
        """Add the next operation of an origin; returns its counter. Its position is the old ``end``."""
        position = self.end
        columns.positions.append(position)
        columns.stamps.append(stamp)
        columns.tables.append(table)
        columns.keys.append(key)
        columns.payloads.append(payload)
        columns.buried.append(0)
        counter = columns.base + len(columns.stamps) - 1
        if context is not None:
            columns.contexts[counter] = context
        self.end = position + 1
        return counter

    def extend(
        self, columns: Columns, stamps: Iterable[int], table: int, keys: list[str], payloads: list[bytes | None]
    ) -> None:
        """Add a run of operations of an origin, all on one table."""
        size, position = len(keys), self.end
        columns.positions += array("q", range(position, position + size))
        columns.stamps += array("q", stamps)
        columns.tables += array("H", (table,)) * size
        columns.keys += keys
        columns.payloads += payloads
        columns.buried.frombytes(bytes(8 * size))
        self.end = position + size

    def extend_void(self, columns: Columns, size: int, buried_at: int) -> None:
        """Add operations of which only the dots are known: they were overwritten by what ends at *buried_at*."""
        self.extend(columns, array("q", bytes(8 * size)), 0, [""] * size, [VOID] * size)
        columns.buried[len(columns.buried) - size :] = array("q", [buried_at]) * size  # [-size:] is all of it for 0

    # -- slicing

    def missing(self, vector: Mapping[NodeId, int], until: int | None = None) -> list[Slice]:
        """
        What somebody with *vector* lacks of the log before position *until*, an origin at a time.

        Cost: proportional to the number of origins.

        Raises:
            LogTruncated: some of it has been cut.
        """
        slices: list[Slice] = []
        whole = until is None or until >= self.end
        for columns in self.columns:
            first = vector.get(columns.origin, 0) + 1
            last = columns.head if until is None or whole else columns.last_before(until)
            if first > last:
                continue
            if first < columns.base:
                raise LogTruncated(
                    f"operations {first} to {columns.base - 1} of {columns.origin} have been cut from the log;"
                    " a snapshot brings the peer up to date"
                )
            slices.append((columns, first, last))
        return slices

    def range(self, first: int, end: int) -> list[Slice]:
        """The operations at positions from *first* to before *end*, an origin at a time."""
        slices: list[Slice] = []
        for columns in self.columns:
            positions = columns.positions
            if not positions or positions[-1] < first:
                continue  # of most origins there is nothing new
            low = bisect_left(positions, first)
            high = bisect_left(positions, end, lo=low)
            if low < high:
                slices.append((columns, columns.base + low, columns.base + high - 1))
        return slices

    def reach(self, slices: list[Slice], until: int) -> int:
        """
        How far a batch of *slices* from before *until* must reach so that every payload that is gone is a legal void.

        Never below *until*; it may lie beyond the last of *slices*, which then must not be sent. Cost: proportional to
        the operations before the answer.
        """
        looked = [first - columns.base for columns, first, _ in slices]  # offset up to which each has been looked at
        before = 0
        while before < until:
            before = until
            for place, (columns, _, last) in enumerate(slices):
                offset, stop = looked[place], last - columns.base + 1
                positions, payloads, buried = columns.positions, columns.payloads, columns.buried
                high = bisect_left(positions, until, offset, stop)
                if VOID not in payloads[offset:high]:
                    offset = high
                while offset < stop and positions[offset] < until:
                    if payloads[offset] is VOID and buried[offset] >= until:
                        until = buried[offset] + 1
                    offset += 1
                looked[place] = offset
        return until

    def batch(self, slices: list[Slice], until: int) -> Batch:
        """
        The slices as one batch in log order. What was buried before position *until* becomes a void.

        Cost: proportional to the answer; column slices where an origin stands alone or nothing was buried.
        """
        if len(slices) == 1:
            columns, first, last = slices[0]
            batch = batch_of_one(self, columns, first) if first == last else self.plain_batch(columns, first, last)
            if batch is not None:
                return batch
        build = BatchBuilder(self, until)
        for columns, first, last in in_log_order(slices):
            build.add(columns, first, last)
        return build.batch()

    def plain_batch(self, columns: Columns, first: int, last: int) -> Batch | None:
        """As `batch`, for operations of one origin on one table with nothing special about them; else None."""
        low, high = first - columns.base, last - columns.base + 1
        table = columns.tables[low]
        if columns.contexts or any(columns.buried[low:high]) or columns.tables[low:high].count(table) < high - low:
            return None
        return Batch(
            origins=[(columns.origin.name, columns.origin.incarnation)],
            tables=[self.table_names[table]],
            runs=[0, first, high - low],
            table_runs=[],
            keys=columns.keys[low:high],
            stamps=differences(columns.stamps[low:high].tolist()),
            payloads=columns.payloads[low:high],
            contexts=[],
        )

    def operations(self, slices: list[Slice]) -> Iterator[Operation]:
        """The slices as objects in log order, without those whose payload is gone. Cost: some 2 microseconds each."""
        for columns, first, last in in_log_order(slices):
            for counter in range(first, last + 1):
                if columns.payloads[counter - columns.base] is not VOID:
                    yield self.operation(columns, counter)

    def runs(self, slices: list[Slice]) -> Iterator[Slice]:
        """The slices in log order: cut into runs that follow each other in the log."""
        return in_log_order(slices)

    def operation(self, columns: Columns, counter: int) -> Operation:
        """One operation that is held. Raises KeyError when it is not."""
        stamp, table, key, payload, context = columns.entry(counter)
        plain = VersionVector({columns.origin: counter - 1})
        vector = plain if context is None else self.unpack_context(context)
        return Operation(Dot(columns.origin, counter), self.table_names[table], key, stamp, payload, vector)

    # -- burying and cutting

    def bury(self, packed: int, position: int, *, forget_payload: bool, seen: Mapping[int, int] | None = None) -> None:
        """The operation *packed* was overwritten by the one at *position*, which had *seen* that of the key."""
        columns = self.columns[packed >> COUNTER_BITS]
        columns.bury(packed & COUNTER_MAX, position, self.columns, forget_payload=forget_payload, seen=seen)

    def bury_voids(self, position: int, since: int = 0) -> None:
        """
        Take it that every void from position *since* on was buried as late as *position*.

        After loading, and after receiving what was overwritten by something in the same batch, nobody knows any better.
        """
        for columns in self.columns:
            first = bisect_left(columns.positions, since)
            if VOID in columns.payloads[first:]:
                for offset in range(first, len(columns.payloads)):
                    if columns.payloads[offset] is VOID:
                        columns.buried[offset] = position

    def prefix_below(self, watermark: Mapping[NodeId, int]) -> int:
        """The first position whose operation the *watermark* does not cover. Cost: proportional to the origins."""
        first = self.end
        for columns in self.columns:
            offset = max(0, watermark.get(columns.origin, 0) + 1 - columns.base)
            if offset < len(columns.positions):
                first = min(first, columns.positions[offset])
        return first

    def cut(self, position: int) -> list[Segment]:
        """Settle everything before *position*; returns the segments that changed. Cost: proportional to the cut."""
        changed: list[Segment] = []
        for columns in self.columns:
            size = bisect_left(columns.positions, position)
            changed += columns.settle(columns.base + size - 1, self._segment_numbers, self.columns)
        self.start = max(self.start, min(position, self.end))
        return changed

    def settle_origin(self, columns: Columns, through: int) -> None:
        """Settle one origin by itself and let its counters continue above *through* (a snapshot was joined)."""
        columns.settle(min(through, columns.head), self._segment_numbers, self.columns)
        columns.base = max(columns.base, through + 1)
        self._vector_end = 0

    def release(self, position: int) -> None:
        """Let settled payloads go that were buried before *position*, which is durable."""
        for columns in self.columns:
            for segment in columns.segments:
                if segment.buried:
                    segment.release(position)

    def compact(self) -> tuple[list[Segment], list[int]]:
        """Rewrite half-dead segments: (new ones, numbers of those replaced)."""
        fresh: list[Segment] = []
        gone: list[int] = []
        for columns in self.columns:
            new, old = columns.compact(self.columns)
            fresh += new
            gone += old
        return fresh, gone

    def settled_extend(
        self,
        columns: Columns,
        first: int,
        stamps: list[int],
        table: int,
        keys: list[str],
        payloads: list[bytes | None],
        contexts: dict[int, Context],
        number: int | None,
    ) -> None:
        """
        Add consecutive operations on one table, from counter *first* on, above all settled ones of their origin.

        They come from a snapshot, or from the saved segment *number*.
        """
        low = 0
        while low < len(keys):
            segment = columns.segments[-1] if columns.segments else None
            if segment is None or (len(segment) >= SEGMENT_OPERATIONS if number is None else segment.number != number):
                segment = Segment(next(self._segment_numbers) if number is None else number)
                columns.segments.append(segment)
            high = len(keys) if number is not None else min(len(keys), low + SEGMENT_OPERATIONS - len(segment))
            segment.counters += array("q", range(first + low, first + high))
            segment.stamps += array("q", stamps[low:high])
            segment.tables += array("H", (table,)) * (high - low)
            segment.keys += keys[low:high]
            segment.payloads += payloads[low:high]
            low = high
            if contexts:
                held = range(segment.counters[0], segment.counters[-1] + 1)
                segment.contexts.update((n, context) for n, context in contexts.items() if n in held)

    def continue_segments_after(self, number: int) -> None:
        """Number new segments from above *number* (the highest that was loaded)."""
        self._segment_numbers = count(number + 1)

    def segment_batch(self, columns: Columns, segment: Segment) -> Batch:
        """A segment in the common encoding."""
        build = BatchBuilder(self, 0)
        build.add_segment(columns, segment)
        return build.batch()

    def check(self) -> None:
        """Assert the invariants."""
        positions = sorted(position for columns in self.columns for position in columns.positions)
        assert len(positions) == len(set(positions)), "a position has one operation"
        assert not positions or positions[-1] < self.end
        assert self.start <= self.end
        heads = {columns.origin: columns.head for columns in self.columns}
        assert self.vector() == VersionVector(heads), "what is remembered of it is still so"
        for index, columns in enumerate(self.columns):
            assert columns.index == index == self._indexes[columns.origin]
            columns.check()
