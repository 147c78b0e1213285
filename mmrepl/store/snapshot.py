"""
Snapshots: everything that lives, under the clock at which it lived.

A peer from before the cut of the log is brought up to date with the live operations and a version vector, the
*clock*, taken before the first chunk. The snapshot's silence means something (law L8): a dot that the clock covers
and the snapshot lacks is dead. So a snapshot is joined, never pasted: what the receiver holds and the clock covers
goes unless the snapshot holds it too; what the clock does not cover (writes that only the receiver has) stays, as
siblings where they are concurrent; what the receiver's own vector covers and it no longer holds stays dead.

Where an operation that is dead covered something that the clock does not, and what overwrote it does not cover it as
well, the snapshot holds the operation's *husk*: its context, without a value (see `mmrepl.log.columns`).

(Join with contexts filled from both clocks: Gonçalves et al., "DottedDB: Anti-Entropy without Merkle Trees, Deletes
without Tombstones", 2017. A plain join of the keys alone is wrong in one random history of twenty.)
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping

from attrs import frozen

from mmrepl.causality.dot import COUNTER_BITS, COUNTER_MAX
from mmrepl.causality.version_vector import VersionVector
from mmrepl.errors import FrameError
from mmrepl.log.batch import Batch
from mmrepl.log.columns import VOID, Columns, Segment
from mmrepl.store.settling import Settling
from mmrepl.store.store import Store

CHUNK_OPERATIONS = 8192

PIECE_OPERATIONS = 256
"""The size of a chunk is looked at after so many operations."""


@frozen
class Capture:
    """
    A snapshot as it was at *clock*; holds references to the payloads, so it stays true while the store moves on.

    Memory: some 40 bytes an operation beside the payloads.
    """

    id: str
    clock: VersionVector
    chunks: tuple[tuple[Columns, Segment], ...]

    def __len__(self) -> int:
        """Number of chunks; an empty store makes one empty chunk."""
        return max(1, len(self.chunks))

    def batch(self, store: Store, index: int) -> Batch:
        """One chunk, encoded from the columns of the *store* that it was captured from."""
        if not self.chunks:
            return Batch([], [], [], [], [], [], [], [])
        columns, segment = self.chunks[index]
        return store.log.segment_batch(columns, segment)


def capture(store: Store, clock: VersionVector, position: int, id: str) -> Capture:
    """
    What lived when the log had reached *position*, at which its vector was *clock*, less what was forgotten since.

    Chunks are closed at ``limits.delta_bytes``. Cost: proportional to the store, a fifth of a microsecond a key.
    """
    chunks: list[tuple[Columns, Segment]] = []
    reached = {columns.index: clock.counter(columns.origin) for columns in store.log.columns}
    for columns in store.log.columns:
        chunk, size = Segment(0), 0
        for live in _live(columns, reached, position):
            for piece in _small(live, store.limits.delta_bytes):
                if size > store.limits.delta_bytes or len(chunk) >= CHUNK_OPERATIONS:
                    chunks.append((columns, chunk))
                    chunk, size = Segment(0), 0
                chunk.extend(piece)
                size += piece.size_bytes()
        if len(chunk):
            chunks.append((columns, chunk))
    return Capture(id, clock, tuple(chunks))


def _small(live: Segment, most_bytes: int, most: int = PIECE_OPERATIONS) -> Iterator[Segment]:
    """*live* in pieces of at most *most_bytes*, or of one operation: some values are as large as a frame of others."""
    for piece in live.pieces(most):
        if len(piece) > 1 and piece.size_bytes() > most_bytes:
            yield from _small(piece, most_bytes, (len(piece) + 1) // 2)
        else:
            yield piece


def _live(columns: Columns, clock: Mapping[int, int], position: int) -> Iterator[Segment]:
    """Operations that the *clock* covers and nothing before *position* had buried, and husks, as copies of columns."""
    last = clock[columns.index]
    for segment in columns.segments:
        gone = [at < position for at in segment.buried.values()]
        if not segment.husks and (not segment.dead or (len(gone) == segment.dead and not any(gone))):
            yield segment.copy(0, bisect_right(segment.counters, last))
            continue
        indexes = (
            index
            for index, counter in enumerate(segment.counters)
            if counter <= last
            and (
                counter in segment.husks
                or (segment.payloads[index] is not VOID and segment.buried.get(index, position) >= position)
            )
        )
        yield segment.pick(indexes, position)
    yield columns.pick_dense(last, position, clock)


def install(store: Store, clock: VersionVector, batches: list[Batch]) -> int:
    """
    Join a whole snapshot; returns how many operations were new. The journal has to rewrite the store afterwards.

    What it killed was killed at a log position of the snapshot's own, so that "durable up to" can speak of it.
    Cost: proportional to the store and the snapshot.

    Raises:
        FrameError: the chunks hold what no snapshot holds, or more than allowed. Nothing was changed.
    """
    _check(clock, batches)
    store.refuse_excess(clock, batches)
    log, keyspace = store.log, store.keyspace
    position, log.end = log.end, log.end + 1
    before = {columns.index: columns.head for columns in log.columns}
    clock_here = {log.origin(origin).index: counter for origin, counter in clock.items()}
    for index, counter in clock_here.items():
        if counter > before.get(index, 0):
            log.settle_origin(log.columns[index], counter)
    held = [table for table in keyspace.tables.values() if table.states]
    alive = _dots(store, batches) if held else set()
    for table in held:
        for key in list(table.states):
            dead = {
                dot
                for dot in keyspace.live(table, key)
                if clock_here.get(dot >> COUNTER_BITS, 0) >= dot & COUNTER_MAX and dot not in alive
            }
            if dead:
                keyspace.drop(table, key, dead, position)
    return sum(_take_in(store, batch, before, position) for batch in batches)


def _check(clock: VersionVector, batches: list[Batch]) -> None:
    """Refuse voids, dots that the clock does not cover, and dots out of their order."""
    reached: dict[tuple[str, int], int] = {}
    for batch in batches:
        nodes = batch.node_ids()
        for ref, first, count, void in batch.iter_runs():
            node, last = nodes[ref], first + count - 1
            if void or first <= reached.get(node, 0) or last > clock.counter(node):
                raise FrameError(f"a snapshot with operations {first} to {last} of {node}: void, twice, or not covered")
            reached[node] = last


def _dots(store: Store, batches: list[Batch]) -> set[int]:
    """What lives in the snapshot."""
    dots: set[int] = set()
    for batch in batches:
        tags = [store.log.origin(node).index << COUNTER_BITS for node in batch.node_ids()]
        index, husks = 0, VOID in batch.payloads
        for ref, first, count, _ in batch.iter_runs():
            present = range(tags[ref] | first, (tags[ref] | first) + count)
            if husks:
                dots.update(dot for at, dot in enumerate(present, index) if batch.payloads[at] != VOID)
            else:
                dots.update(present)
            index += count
    return dots


def _take_in(store: Store, batch: Batch, before: dict[int, int], position: int) -> int:
    """Operations that are new become settled ones, each applied as any other."""
    settling = Settling(store, batch)
    fresh = 0
    for piece in settling.pieces():
        new = piece.above(before.get(piece.owner.index, 0))
        if new is not None:
            settling.take(new, position)
            fresh += new.high - new.low
    return fresh
