"""
Snapshots: everything that lives, under the clock at which it lived.

A peer from before the cut of the log is brought up to date with the live operations and a version vector, the
*clock*, taken before the first chunk. The snapshot's silence means something (law L8): a dot that the clock covers
and the snapshot lacks is dead. So a snapshot is joined, never pasted: what the receiver holds and the clock covers
goes unless the snapshot holds it too; what the clock does not cover (writes that only the receiver has) stays, as
siblings where they are concurrent; what the receiver's own vector covers and it no longer holds stays dead.

(Join with contexts filled from both clocks: Gonçalves et al., "DottedDB: Anti-Entropy without Merkle Trees, Deletes
without Tombstones", 2017. A plain join of the keys alone is wrong in one random history of twenty.)
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from mmrepl.causality.dot import COUNTER_BITS, COUNTER_MAX
from mmrepl.causality.version_vector import VersionVector
from mmrepl.errors import FrameError
from mmrepl.log.batch import Batch, expand
from mmrepl.log.columns import VOID, Columns, Segment
from mmrepl.store.store import Store

CHUNK_OPERATIONS = 8192


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
    for columns in store.log.columns:
        segment, size = Segment(0), 0
        for counter, stamp, table, key, payload in _live(columns, clock.counter(columns.origin), position):
            if size > store.limits.delta_bytes or len(segment) >= CHUNK_OPERATIONS:
                chunks.append((columns, segment))
                segment, size = Segment(0), 0
            context = columns.entry(counter)[4]
            segment.append(counter, stamp, table, key, payload, context)
            size += len(key) + len(payload or b"") + 8 * (1 + len(context or ()))
        if len(segment):
            chunks.append((columns, segment))
    return Capture(id, clock, tuple(chunks))


def _live(columns: Columns, last: int, position: int) -> Iterator[tuple[int, int, int, str, bytes | None]]:
    """Operations up to counter *last* that nothing before *position* had buried."""
    for segment in columns.segments:
        for index, counter in enumerate(segment.counters):
            if counter > last:
                break
            if segment.payloads[index] is not VOID and segment.buried.get(index, position) >= position:
                yield (
                    counter,
                    segment.stamps[index],
                    segment.tables[index],
                    segment.keys[index],
                    segment.payloads[index],
                )
    for offset in range(last - columns.base + 1):
        buried = columns.buried[offset]
        if not buried or buried >= position:
            payload = columns.payloads[offset]
            assert payload is not VOID, "what lived at the clock is held until the clock has passed it"
            yield columns.base + offset, columns.stamps[offset], columns.tables[offset], columns.keys[offset], payload


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
    alive = _dots(store, batches)
    for table in list(keyspace.tables.values()):
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
    dots: set[int] = set()
    for batch in batches:
        tags = [store.log.origin(node).index << COUNTER_BITS for node in batch.node_ids()]
        for ref, first, count, _ in batch.iter_runs():
            dots.update(range(tags[ref] | first, (tags[ref] | first) + count))
    return dots


def _take_in(store: Store, batch: Batch, before: dict[int, int], position: int) -> int:
    """Operations that are new become settled ones, each applied as any other."""
    log = store.log
    columns = [log.origin(node) for node in batch.node_ids()]
    contexts = store.pack_contexts(batch, columns)
    stamps = batch.absolute_stamps()
    tables = [store.enter_table(name) for name in batch.tables]
    refs = list(expand(batch.iter_tables()))
    fresh = index = 0
    for ref, first, count, _ in batch.iter_runs():
        owner = columns[ref]
        for counter in range(first, first + count):
            at, index = index, index + 1
            if counter <= before.get(owner.index, 0):
                continue
            fresh += 1
            table, key, payload, context = tables[refs[at]], batch.keys[at], batch.payloads[at], contexts.get(at)
            log.settled_append(owner, counter, stamps[at], table.number, key, payload, context)
            by_counter = {} if context is None else {counter: context}
            dot = owner.index << COUNTER_BITS | counter
            store.keyspace.apply_run(table, (key,), (payload,), dot, position, by_counter)
    if stamps:
        store.hlc.observe(max(stamps))
    return fresh
