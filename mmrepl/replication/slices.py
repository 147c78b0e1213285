"""
Frames are cut out of slices of the log: how large one is, where it ends, and what its receiver has afterwards.
"""

from __future__ import annotations

from mmrepl.causality.version_vector import VersionVector
from mmrepl.log.batch import Batch
from mmrepl.log.oplog import Slice
from mmrepl.types import NodeId


def size_bytes(batch: Batch) -> int:
    """About how large the batch is when encoded; keys that are not ASCII make it up to four times as large."""
    texts = sum(map(len, filter(None, batch.payloads))) + sum(map(len, batch.keys))
    return texts + 8 * len(batch.keys) + 8 * sum(map(len, batch.contexts))


def before(slices: list[Slice], until: int) -> list[Slice]:
    """The part of the slices that stands before position *until*."""
    chosen: list[Slice] = []
    for columns, first, last in slices:
        low = first - columns.base
        if columns.positions[last - columns.base] < until:
            chosen.append((columns, first, last))
        elif columns.positions[low] < until:
            chosen.append((columns, first, columns.last_before(until)))
    return chosen


def from_position(slices: list[Slice], position: int) -> list[Slice]:
    """The part of the slices that stands at *position* or after it."""
    rest: list[Slice] = []
    for columns, first, last in slices:
        if columns.positions[first - columns.base] >= position:
            rest.append((columns, first, last))
        elif columns.positions[last - columns.base] >= position:
            rest.append((columns, columns.last_before(position) + 1, last))
    return rest


def after(vector: VersionVector, batch: Batch) -> VersionVector:
    """What somebody at *vector* has when the batch was applied."""
    reached, flat = dict(vector.counters), iter(batch.runs)
    for ref, first, count in zip(flat, flat, flat, strict=True):
        name, incarnation = batch.origins[ref]
        origin, last = NodeId(name, incarnation), first + abs(count) - 1
        if last > reached.get(origin, 0):
            reached[origin] = last
    return VersionVector.unchecked(reached)
