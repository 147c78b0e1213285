"""
The journal: a store as commits, and commits as a store.

The tail of the log is persisted as batches, one a commit, keyed by the position of their first operation. Small ones
are rewritten now and then as larger ones, so that opening reads hundreds of rows and not a million. When the log is
cut, what is still live from below the cut is written as settled segments in the same commit that drops the batches,
together with the deaths in older segments: whatever killed those may be in the batches that go. Half-dead segments
are rewritten. Opening loads the segments less their dead, then replays the batches.

A payload that was overwritten may be missing on disk once the operation that overwrote it is durable, and not before:
else a crash in between would take both.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from mmrepl.errors import FrameError, PeerError, StoreCorrupt, StoreForeign
from mmrepl.log.batch import Batch, decode_batch, encode_batch
from mmrepl.log.columns import Columns, Segment
from mmrepl.ports import Commit, CommitBuilder, Loaded
from mmrepl.store.settling import Settling
from mmrepl.store.store import Store
from mmrepl.types import Limits, NodeId

MERGE_ROWS: Final = 256
"""So many small batches in a row are rewritten as one."""

SMALL_BATCH_OPERATIONS: Final = 256

COMMIT_OPERATIONS: Final = 65_536
"""A commit of more operations is divided into batches of this many."""


class Saved(msgspec.Struct, array_like=True, frozen=True):
    """The fixed part of a store's durable state, beside batches and segments."""

    node: tuple[str, int]  # who we are
    past: list[tuple[str, int]]  # who we were
    floor: list[tuple[str, int, int]]  # per origin: the highest counter that was cut
    hlc: int  # highest stamp seen when this was written
    end: int  # position above everything cut


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Saved)

STATE: Final = "state"
"""The meta key of `Saved`."""

OTHER_MODE: Final = "single/node"
"""The meta key that the store of a single-master node has."""

DEAD: Final = "dead/{}"
"""The meta key of the counters that died in a segment since it was written."""

MARK: Final = "weak"
"""The meta key that is there while writes are answered that may not be on disk yet (`mmrepl.replication.mark`)."""

_deaths = msgspec.msgpack.Encoder()
_dead_decoder = msgspec.msgpack.Decoder(list[int])


class Journal:
    """
    Turns what is new in a store into commits. Mutable; one beside each store that persists.

    ``persisted`` is the end of the log as handed out for persisting; the host knows when that has become durable.
    """

    def __init__(self, store: Store, past: Iterable[NodeId] = ()) -> None:
        self.store = store
        self.past = list(past)
        self.persisted = store.log.end
        self._rows: list[int] = []  # positions of the batches on disk, ascending
        self._merged = 0  # rows before this index are not looked at for merging again
        self._saved_segments: set[int] = set()  # numbers of the segments on disk
        self._left_out: dict[int, bytes] = {}  # segment -> its deaths as they were on disk when the store was opened
        self._new = CommitBuilder()

    # -- what is new

    def pending(self) -> bool:
        """Whether `take` would return something."""
        return self.persisted < self.store.log.end or bool(self._new)

    def note(self, key: str, value: bytes | None) -> None:
        """Put a meta entry into the next commit."""
        self._new.meta[key] = value

    def note_state(self) -> None:
        """Put identity and floor into the next commit."""
        store = self.store
        floor = [(o.name, o.incarnation, counter) for o, counter in store.log.floor().items()]
        past = [(node.name, node.incarnation) for node in self.past]
        node = (store.node.name, store.node.incarnation)
        self.note(STATE, _encoder.encode(Saved(node, past, floor, store.hlc.last, store.log.start)))

    def become(self, node: NodeId) -> None:
        """Let the store take a new incarnation; durable with the next commit, which carries all minted under it."""
        self.past.append(self.store.node)
        self.store.become(node)
        self.note_state()

    def take(self) -> Commit | None:
        """Everything new as one commit, or None. Marks it as handed out. Cost: proportional to what is new."""
        log, new = self.store.log, self._new
        if self.persisted >= log.end and not new:
            return None
        while self.persisted < log.end:
            first, end = self.persisted, min(log.end, self.persisted + COMMIT_OPERATIONS)
            slices = log.range(first, end)
            if slices:  # a snapshot has a position and no operations
                new.batches[first] = self._encoded(log.batch(slices, log.end))
                self._rows.append(first)
            self.persisted = end
        self._new = CommitBuilder()
        return new.build()

    def _encoded(self, batch: Batch) -> bytes:
        """A batch as a row. Voids have no stamps: what our clock has seen goes with them, or it might run back."""
        if min(batch.runs[2::3]) < 0:
            self.note_state()
        return encode_batch(batch)

    # -- upkeep

    def merge_rows(self, durable: int) -> bool:
        """
        Put the rewriting of many small batches as one into the next commit, if there are enough of them.

        Only batches below the *durable* position are touched. Cost: proportional to what is rewritten.
        """
        rows, low = self._rows, self._merged
        high = low + MERGE_ROWS
        if high >= len(rows) or rows[high] > durable or self._new.drop is not None:
            return False
        first, end = rows[low], rows[high]
        if end - first > MERGE_ROWS * SMALL_BATCH_OPERATIONS:
            self._merged = high
            return False
        log = self.store.log
        slices = log.range(first, end)
        reach = log.reach(slices, end)
        if reach > durable:
            return False  # what buried a payload that is gone from memory is not durable yet: later
        # Void is whatever is known to be dead. To write again what was overwritten only after these rows would be legal
        # as long as the later rows said so; but a joined snapshot kills as well, and no row says that.
        self._new.batches[first] = self._encoded(log.batch(slices, durable))
        self._new.drop = (first, end)
        del rows[low + 1 : high]
        self._merged = low + 1
        return True

    def cut(self, position: int) -> bool:
        """
        Cut the log before *position*, rounded down to the begin of a batch; the commit that says so is the next one.

        Only what was handed out for persisting can be cut. Returns whether anything was. Cost: proportional to what
        is cut, and to the number of segments.
        """
        rows, log = self._rows, self.store.log
        if self._new.drop is not None:
            return False
        if position >= self.persisted:
            index, position = len(rows), self.persisted
        else:
            index = bisect_right(rows, position) - 1
            position = rows[index] if index >= 0 else 0
        if index <= 0 or position <= log.start:
            return False
        self._new.drop = (rows[0], position)
        del rows[:index]
        self._merged = max(0, self._merged - index)
        changed = {segment.number for segment in log.cut(position)}
        self.store.forget_settled()
        fresh, gone = log.compact()
        changed.update(segment.number for segment in fresh)
        for number in gone:
            self._drop_segment(number)
        for columns in log.columns:
            for segment in columns.segments:
                if segment.number in changed or segment.is_stale:
                    self._save_segment(columns, segment)
                elif segment.dead != segment.dead_saved:
                    self._note_deaths(segment)
        self.note_state()
        return True

    def rewrite(self) -> None:
        """
        Put the whole state into the next commit, replacing all that is there (a snapshot was joined).

        Cost: proportional to the store.
        """
        log = self.store.log
        self._new.drop, self._new.batches = (0, 1 << 62), {}
        self._rows, self._merged = [], 0
        self.persisted = min((columns.positions[0] for columns in log.columns if columns.positions), default=log.end)
        log.start = self.persisted
        for number in sorted(self._saved_segments):
            self._drop_segment(number)
        for columns in log.columns:
            for segment in columns.segments:
                self._save_segment(columns, segment)
        self.note_state()

    def _note_deaths(self, segment: Segment) -> None:
        """Those of earlier runs are in the segment on disk still, and not in memory: without them they would rise."""
        before = self._left_out.get(segment.number)
        dead = segment.dead_counters()
        if before is not None:
            dead = sorted({*_dead_decoder.decode(before), *dead})
        self.note(DEAD.format(segment.number), _deaths.encode(dead))
        segment.dead_saved = segment.dead

    def _save_segment(self, columns: Columns, segment: Segment) -> None:
        self._new.segments[segment.number] = encode_batch(self.store.log.segment_batch(columns, segment))
        if self._left_out.pop(segment.number, None) or segment.dead_saved:
            self.note(DEAD.format(segment.number), None)
        segment.dead_saved = segment.dead
        segment.is_stale = False
        self._saved_segments.add(segment.number)

    def _drop_segment(self, number: int) -> None:
        self._left_out.pop(number, None)
        if number in self._saved_segments:
            self._saved_segments.discard(number)
            self._new.segments[number] = None
            self.note(DEAD.format(number), None)
        else:
            self._new.segments.pop(number, None)


# -- opening


def saved_node(meta: Mapping[str, bytes]) -> NodeId | None:
    """Who the stored state belongs to; None when the store is new. Raises StoreCorrupt, StoreForeign."""
    if OTHER_MODE in meta:
        raise StoreForeign("this is the store of a single-master node: a multi-master node needs one of its own")
    return NodeId(*_saved(meta).node) if STATE in meta else None


def _saved(meta: Mapping[str, bytes]) -> Saved:
    try:
        return _decoder.decode(meta[STATE])
    except (msgspec.MsgspecError, ValueError) as error:
        raise StoreCorrupt(f"the store's state entry cannot be read: {error}") from error


def load(store: Store, loaded: Loaded) -> Journal:
    """
    Fill an empty *store*, made for the node that `saved_node` tells, from what its storage holds.

    Raises:
        StoreCorrupt: a batch or segment cannot be decoded or does not continue the one before; says which.
    """
    saved = _saved(loaded.meta)
    log = store.log
    rows: list[int] = []
    numbers: set[int] = set()
    left_out: dict[int, bytes] = {}
    for number, body in loaded.segments():
        dead = loaded.meta.get(DEAD.format(number))
        gone = frozenset(_decode_deaths(number, dead)) if dead is not None else frozenset[int]()
        _load_segment(store, number, _decode(body, f"segment {number}"), gone)
        numbers.add(number)
        if dead is not None:
            left_out[number] = dead
    log.continue_segments_after(max(numbers, default=0))
    for name, incarnation, counter in saved.floor:
        log.origin(NodeId(name, incarnation)).base = counter + 1
    log.end = log.start = saved.end
    for position, body in loaded.batches():
        if position < log.end:
            raise StoreCorrupt(f"batch at position {position}: the log has reached {log.end} already")
        log.end = position
        batch = _decode(body, f"batch at position {position}")
        try:
            store.apply(batch, replay=True)
        except PeerError as error:
            raise StoreCorrupt(f"batch at position {position} does not continue the log: {error}") from error
        rows.append(position)
    log.bury_voids(log.end - 1)
    store.hlc.observe(saved.hlc)
    store.keyspace.events.clear()
    store.keyspace.lost_count = 0
    journal = Journal(store, [NodeId(*node) for node in saved.past])
    journal._rows = rows
    journal._saved_segments = numbers
    journal._left_out = left_out
    return journal


OURS: Final = Limits(key_bytes=1 << 30, value_bytes=1 << 30, vector_entries=1 << 30, tables=65_535)
"""What is on our disk was let in once. Limits that were lowered since are no damage."""


def _decode(body: bytes, what: str) -> Batch:
    try:
        return decode_batch(body, OURS)
    except FrameError as error:
        raise StoreCorrupt(
            f"{what} is damaged: {error}; restore a backup, or delete the file and let peers refill it"
        ) from error


def _decode_deaths(number: int, data: bytes) -> list[int]:
    try:
        return _dead_decoder.decode(data)
    except (msgspec.MsgspecError, ValueError) as error:
        raise StoreCorrupt(f"the deaths of segment {number} cannot be read: {error}") from error


def _load_segment(store: Store, number: int, batch: Batch, dead: frozenset[int]) -> None:
    """Operations of a segment are live ones: apply each, and keep it settled."""
    settling = Settling(store, batch)
    for whole in settling.pieces():
        for piece in whole.without(dead) if dead else (whole,):
            piece.owner.base = piece.first + piece.high - piece.low  # before it is applied: it is looked for below
            settling.take(piece, 1, number)
