"""
The columns of one origin: what it wrote, indexed by its own counter.

The *dense* part holds every operation from ``base`` on, as parallel columns: the position in our log at which it
was applied, the stamp, the table, the key, the payload. The *settled* part holds what is still live from below
``base``, in segments of sparse columns ordered by counter. A cut moves the border upwards: live operations go into
a segment, the others are gone. So a live value is found by arithmetic when it is young, by two bisections when it
is old, and costs no object of its own but its bytes.

An operation that was overwritten is *buried*: its slot remembers at which position, because a batch that holds both
need not carry it (see `mmrepl.log.batch`, voids). Of some the context is carried all the same, as a husk: of those
whose context covers something that the one which overwrote them had not seen by itself. What only they had overwritten
would rise at whoever is given a void, which has no context. That happens where another node, which had cut its log
further, had let a stable context shrink before it wrote; and where a receipt was written over.

A husk that covers what is not here yet, a deletion as read at a node that was ahead, outlives the cut as well: in its
segment, in snapshots, on disk. Of the rest the silence says enough: what was applied and does not live is dead.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from mmrepl.causality.dot import COUNTER_BITS, COUNTER_MAX
from mmrepl.types import NodeId

VOID: Final = b"\xc1"
"""Stands in the payload column where the payload is gone. 0xc1 is the one byte that begins no MessagePack value."""

Context = tuple[int, ...]
"""A causal context in packed form: one packed dot an origin, ascending."""

SEGMENT_OPERATIONS = 4096


class Segment:
    """Settled operations of one origin, ascending by counter. Saved and loaded whole, under its number."""

    __slots__ = (
        "buried",
        "contexts",
        "counters",
        "dead",
        "dead_saved",
        "husks",
        "is_stale",
        "keys",
        "number",
        "payloads",
        "stamps",
        "tables",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.counters = array("q")
        self.stamps = array("q")
        self.tables = array("H")
        self.keys: list[str] = []
        self.payloads: list[bytes | None] = []
        self.contexts: dict[int, Context] = {}  # counter -> context, where it is not plain
        self.buried: dict[int, int] = {}  # index -> position; buried, and the payload is still held
        self.husks: set[int] = set()  # counters: buried, and the context is kept; they do not count as dead
        self.is_stale = False  # whether there are husks that are not so on disk
        self.dead = 0  # how many of the entries were buried since
        self.dead_saved = 0  # how many of those the journal has on disk

    def __len__(self) -> int:
        return len(self.counters)

    def append(
        self, counter: int, stamp: int, table: int, key: str, payload: bytes | None, context: Context | None
    ) -> None:
        """Add an operation above all others of the segment."""
        self.counters.append(counter)
        self.stamps.append(stamp)
        self.tables.append(table)
        self.keys.append(key)
        self.payloads.append(payload)
        if context is not None:
            self.contexts[counter] = context

    def copy(self, low: int, high: int) -> Segment:
        """The entries from index *low* to before *high*, all taken for live."""
        part = Segment(self.number)
        part.counters, part.stamps, part.tables = self.counters[low:high], self.stamps[low:high], self.tables[low:high]
        part.keys, part.payloads = self.keys[low:high], self.payloads[low:high]
        if self.contexts:
            part.contexts = {n: self.contexts[n] for n in part.counters if n in self.contexts}
        return part

    def pick(self, indexes: Iterable[int], position: int = COUNTER_MAX) -> Segment:
        """The entries at some indexes, ascending, taken for live; for husks, those that were one at *position*."""
        part = Segment(self.number)
        for index in indexes:
            counter = self.counters[index]
            context, payload = self.contexts.get(counter), self.payloads[index]
            if counter in self.husks and self.buried.get(index, 0) < position:
                payload = VOID
                part.husks.add(counter)
            part.append(counter, self.stamps[index], self.tables[index], self.keys[index], payload, context)
        return part

    def pieces(self, size: int) -> Iterator[Segment]:
        """The entries, so many at a time, all taken for live."""
        for low in range(0, len(self), size):
            yield self.copy(low, low + size)

    def extend(self, other: Segment) -> None:
        """Add the entries of *other*, all above ours and live."""
        self.counters += other.counters
        self.stamps += other.stamps
        self.tables += other.tables
        self.keys += other.keys
        self.payloads += other.payloads
        self.contexts.update(other.contexts)

    def size_bytes(self) -> int:
        """About what the entries take as a message."""
        contexts = sum(map(len, self.contexts.values()))
        return sum(map(len, self.keys)) + sum(map(len, filter(None, self.payloads))) + 8 * (len(self) + contexts)

    def dead_counters(self) -> list[int]:
        """Counters of the entries that were buried."""
        return [counter for index, counter in enumerate(self.counters) if self.is_dead(index)]

    def is_dead(self, index: int) -> bool:
        """Whether the entry was buried, and is no husk."""
        return (self.payloads[index] is VOID or index in self.buried) and self.counters[index] not in self.husks

    def void(self, index: int) -> None:
        """Let the payload of an entry go."""
        self.payloads[index] = VOID
        if self.counters[index] not in self.husks:
            self.contexts.pop(self.counters[index], None)

    def end_husks(self, known: list[Columns]) -> None:
        """Those are dead of which everything has come that their contexts cover."""
        for counter in [counter for counter in self.husks if not is_open(self.contexts[counter], known)]:
            self.husks.discard(counter)
            self.dead += 1
            index = self.find(counter)
            if index not in self.buried:
                self.void(index)

    def release(self, position: int) -> None:
        """Let the payloads go of what was buried before *position*."""
        for index in [index for index, at in self.buried.items() if at < position]:
            del self.buried[index]
            self.void(index)

    def find(self, counter: int) -> int:
        """Index of *counter*, or -1."""
        index = bisect_left(self.counters, counter)
        return index if index < len(self.counters) and self.counters[index] == counter else -1


class Columns:
    """Everything known of one origin. Mutable; owned by the `OpLog`."""

    __slots__ = (
        "base", "buried", "contexts", "index", "keys", "needed",
        "origin", "payloads", "positions", "segments", "stamps", "tables",
    )  # fmt: skip

    def __init__(self, origin: NodeId, index: int) -> None:
        self.origin = origin
        self.index = index  # our number for this origin
        self.base = 1  # counter of the first dense operation
        self.positions = array("q")  # strictly ascending
        self.stamps = array("q")
        self.tables = array("H")
        self.keys: list[str] = []
        self.payloads: list[bytes | None] = []
        self.buried = array("q")  # position of the operation that overwrote this one; 0 while it is live
        self.contexts: dict[int, Context] = {}  # counter -> context, where it is not plain
        self.needed: set[int] = set()  # counters that are buried, and become husks: what overwrote them had seen less
        self.segments: list[Segment] = []  # ascending, disjoint, all below base

    @property
    def head(self) -> int:
        """Highest counter applied; everything below it was applied too."""
        return self.base + len(self.stamps) - 1

    def last_before(self, position: int) -> int:
        """Highest counter whose operation stands before *position* of the log, or ``base - 1``."""
        return self.base + bisect_left(self.positions, position) - 1

    # -- reading

    def payload(self, counter: int) -> bytes | None:
        """The payload of a live operation. Raises KeyError when it is not held."""
        offset = counter - self.base
        if offset >= 0:
            return self.payloads[offset]
        segment, index = self._settled(counter)
        return segment.payloads[index]

    def entry(self, counter: int) -> tuple[int, int, str, bytes | None, Context | None]:
        """(stamp, table, key, payload, context) of an operation; a context of None is plain. KeyError: not held."""
        offset = counter - self.base
        if offset >= 0:
            context = self.contexts.get(counter)
            return self.stamps[offset], self.tables[offset], self.keys[offset], self.payloads[offset], context
        segment, index = self._settled(counter)
        context = segment.contexts.get(counter)
        return segment.stamps[index], segment.tables[index], segment.keys[index], segment.payloads[index], context

    def _settled(self, counter: int) -> tuple[Segment, int]:
        place = bisect_right(self.segments, counter, key=lambda segment: segment.counters[0]) - 1
        if place >= 0:
            segment = self.segments[place]
            index = segment.find(counter)
            if index >= 0:
                return segment, index
        raise KeyError(f"{self.origin}:{counter} is not held")

    def pick_dense(self, last: int, position: int, clock: Mapping[int, int]) -> Segment:
        """
        Dense operations up to counter *last* that nothing before *position* had buried, copied as a segment.

        With them the husks whose context reaches beyond *clock*, origin index to counter.
        """
        count = max(0, last - self.base + 1)
        part = Segment(0)
        dead = [0 < at < position for at in self.buried[:count]]
        low = 0
        while low < count:
            high = low + 1
            while high < count and dead[high] == dead[low]:
                high += 1
            if not dead[low]:
                self._settle_run(part, low, high)
            low = high
        assert VOID not in part.payloads, "what lived at the clock is held until the clock has passed it"
        husks = [
            n
            for n in self.needed
            if n <= last and self.buried[n - self.base] < position and not self._is_within(self.contexts[n], clock)
        ]
        return self._with_husks(part, husks) if husks else part

    def _with_husks(self, part: Segment, husks: list[int]) -> Segment:
        both = Segment(part.number)
        entries = {counter: index for index, counter in enumerate(part.counters)}
        for counter in sorted([*entries, *husks]):
            offset = counter - self.base
            payload = part.payloads[entries[counter]] if counter in entries else VOID
            context = self.contexts.get(counter)
            both.append(counter, self.stamps[offset], self.tables[offset], self.keys[offset], payload, context)
        return both

    # -- changing

    def bury(
        self,
        counter: int,
        position: int,
        known: list[Columns],
        *,
        forget_payload: bool,
        seen: Mapping[int, int] | None = None,
    ) -> None:
        """
        The operation was overwritten, at *position* of the log. Its payload goes unless peers may still want it.

        *seen* is the context of what overwrote it, origin index to counter; None is this origin's own past. *known* are
        the columns of all origins.
        """
        offset = counter - self.base
        if offset >= 0:
            self.buried[offset] = position
            if self.contexts and not self._is_within(self.contexts.get(counter, ()), seen):
                self.needed.add(counter)
            elif forget_payload:
                self.contexts.pop(counter, None)
            if forget_payload:
                self.payloads[offset] = VOID
            return
        segment, index = self._settled(counter)
        context = segment.contexts.get(counter)
        if context is not None and is_open(context, known) and not self._is_within(context, seen):
            segment.husks.add(counter)
            segment.is_stale = True
        elif not segment.is_dead(index) or (context is not None and segment.payloads[index] is VOID):  # came as a husk
            segment.dead += 1
        if forget_payload:
            segment.buried.pop(index, None)
            segment.void(index)
        else:
            segment.buried[index] = position

    def _is_within(self, context: Context, seen: Mapping[int, int] | None) -> bool:
        if seen is None:
            return all(packed >> COUNTER_BITS == self.index for packed in context)
        return all(seen.get(packed >> COUNTER_BITS, 0) >= packed & COUNTER_MAX for packed in context)

    def settle(self, through: int, next_number: Iterator[int], known: list[Columns]) -> list[Segment]:
        """
        Move the border to above *through*: live operations into segments, all others out. Returns changed segments.

        Husks whose context covers something that is not here go with the live ones. *known* are all columns.

        Cost: proportional to what is moved.
        """
        count = through - self.base + 1
        if count <= 0:
            return []
        changed: list[Segment] = []
        husks = {n for n in self.needed if n <= through and is_open(self.contexts[n], known)}
        for first, high in self._live_runs(count, husks):
            low = first
            while low < high:
                segment = self.segments[-1] if self.segments else None
                if segment is None or len(segment) >= SEGMENT_OPERATIONS:
                    segment = Segment(next(next_number))
                    self.segments.append(segment)
                if not changed or changed[-1] is not segment:
                    changed.append(segment)
                end = min(high, low + SEGMENT_OPERATIONS - len(segment))
                self._settle_run(segment, low, end)
                low = end
        for counter in husks:
            segment, index = self._settled(counter)
            segment.payloads[index] = VOID
            segment.husks.add(counter)
        for column in (self.positions, self.stamps, self.tables, self.keys, self.payloads, self.buried):
            del column[:count]
        if self.contexts:
            self.contexts = {counter: context for counter, context in self.contexts.items() if counter > through}
        if self.needed:
            self.needed = {counter for counter in self.needed if counter > through}
        self.base = through + 1
        return changed

    def _live_runs(self, count: int, husks: set[int]) -> Iterator[tuple[int, int]]:
        """Offsets below *count* whose operations live, or are among *husks*, as (first, end)."""
        if VOID not in self.payloads[:count] and not any(self.buried[:count]):
            yield 0, count
            return
        dead = [buried or payload is VOID for buried, payload in zip(self.buried[:count], self.payloads, strict=False)]
        for counter in husks:
            dead[counter - self.base] = False
        low = 0
        while low < count:
            if dead[low]:
                low += 1
                continue
            high = low + 1
            while high < count and not dead[high]:
                high += 1
            yield low, high
            low = high

    def _settle_run(self, segment: Segment, low: int, high: int) -> None:
        """Append the operations at offsets from *low* to before *high* to a segment, a slice a column."""
        first, end = self.base + low, self.base + high
        segment.counters.extend(range(first, end))
        segment.stamps.extend(self.stamps[low:high])
        segment.tables.extend(self.tables[low:high])
        segment.keys += self.keys[low:high]
        segment.payloads += self.payloads[low:high]
        if self.contexts:
            segment.contexts.update((n, self.contexts[n]) for n in range(first, end) if n in self.contexts)

    def compact(self, known: list[Columns]) -> tuple[list[Segment], list[int]]:
        """
        Rewrite segments that are half dead. Returns the new segments and the numbers of those that they replace.

        Husks are dead once all that they cover has come. *known* are the columns of all origins.

        A new one takes the number of the first that it replaces, so that numbers ascend as counters do: by that order
        segments are loaded, and operations of one origin are applied in theirs.

        Cost: proportional to the segments rewritten, so amortised constant a burial.
        """
        for segment in self.segments:
            if segment.husks:
                segment.end_husks(known)
        if not any(segment.dead * 2 > len(segment) for segment in self.segments):
            return [], []
        fresh: list[Segment] = []
        gone: list[int] = []
        kept: list[Segment] = []
        for segment in self.segments:
            if segment.dead * 2 <= len(segment) or segment.buried:
                kept.append(segment)
                continue
            gone.append(segment.number)
            # a neighbour that was rewritten just now takes the rest in, or small segments would pile up
            target = kept[-1] if kept and kept[-1] in fresh and len(kept[-1]) < SEGMENT_OPERATIONS // 2 else None
            for index, counter in enumerate(segment.counters):
                if segment.is_dead(index):
                    continue
                payload = segment.payloads[index]
                if target is None:
                    target = Segment(segment.number)
                    fresh.append(target)
                    kept.append(target)
                context = segment.contexts.get(counter)
                target.append(
                    counter, segment.stamps[index], segment.tables[index], segment.keys[index], payload, context
                )
                if counter in segment.husks:
                    target.husks.add(counter)
        self.segments = kept
        return fresh, gone

    def check(self) -> None:
        """Assert the invariants."""
        count = len(self.stamps)
        assert len(self.positions) == len(self.tables) == len(self.keys) == count
        assert len(self.payloads) == len(self.buried) == count
        assert all(a < b for a, b in zip(self.positions, self.positions[1:], strict=False)), "log order"
        assert all(self.base <= counter <= self.head for counter in self.contexts)
        assert all(self.buried[counter - self.base] for counter in self.needed)
        counters = [counter for segment in self.segments for counter in segment.counters]
        assert counters == sorted(set(counters)), "settled operations ascend"
        assert not counters or counters[-1] < self.base
        numbers = [segment.number for segment in self.segments]
        assert numbers == sorted(set(numbers)), "numbers ascend as counters do"
        assert all(len(segment) for segment in self.segments)
        for segment in self.segments:
            assert segment.dead == len(segment.dead_counters())
            assert segment.husks <= segment.contexts.keys()
            assert all((i := segment.find(n)) in segment.buried or segment.payloads[i] is VOID for n in segment.husks)


def is_open(context: Context, known: list[Columns]) -> bool:
    """Whether a context covers something that is not here."""
    return any(packed & COUNTER_MAX > known[packed >> COUNTER_BITS].head for packed in context)
