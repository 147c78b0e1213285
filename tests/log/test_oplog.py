"""
The columns of the log beside a list of plain entries: slices, order, voids, cut.

What is overwritten by what is the store's business; here anything may bury anything older, as the log allows.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import pytest
from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrepl.causality.dot import Dot
from mmrepl.causality.version_vector import VersionVector
from mmrepl.errors import LogTruncated
from mmrepl.log import columns as columns_module
from mmrepl.log import oplog as oplog_module
from mmrepl.log.batch import Batch, decode_batch, encode_batch
from mmrepl.log.building import BatchBuilder, batch_of_one
from mmrepl.log.columns import VOID, Segment
from mmrepl.log.oplog import OpLog
from mmrepl.types import NodeId

NODES = tuple(NodeId(name, 1) for name in "abc")


@define
class Entry:
    """One operation of the dumb log."""

    dot: Dot
    stamp: int
    key: str
    payload: bytes | None
    buried: int = 0
    is_gone: bool = False  # whether its payload is


@define
class Twin:
    """The log, and the same as a list in log order."""

    log: OpLog = field(factory=OpLog)
    entries: list[Entry] = field(factory=list)
    cut_at: int = 1

    def append(self, who: int, size: int) -> None:
        """A run of one origin; a single one by `append`, several by `extend`."""
        columns = self.log.origin(NODES[who])
        table = self.log.table_id("")
        begin = columns.head + 1
        position = self.log.end
        made = [
            Entry(
                Dot(NODES[who], begin + i),
                position + i,
                f"k{(begin + i) % 3}",
                None if (begin + i) % 4 == 0 else b"\x01",
            )
            for i in range(size)
        ]
        if size == 1:
            one = made[0]
            assert self.log.append(columns, one.stamp, table, one.key, one.payload, None) == begin
        else:
            stamps, keys = [entry.stamp for entry in made], [entry.key for entry in made]
            self.log.extend(columns, array("q", stamps), table, keys, [entry.payload for entry in made])
        self.entries += made

    def bury(self, which: int, *, forget: bool) -> None:
        """The newest operation overwrites an older one."""
        living = [entry for entry in self.entries[:-1] if not entry.buried]
        if living:
            entry = living[which % len(living)]
            entry.buried, entry.is_gone = self.log.end - 1, forget
            columns = self.log.origin(entry.dot.origin)
            self.log.bury(self.log.pack(entry.dot), self.log.end - 1, forget_payload=forget)
            assert columns.positions is self.log.origin(entry.dot.origin).positions

    def cut(self, position: int) -> list[Segment]:
        self.cut_at = max(self.cut_at, min(position, self.log.end))
        return self.log.cut(position)

    def dense(self) -> list[tuple[int, Entry]]:
        """What was not cut, with positions."""
        return [(place, entry) for place, entry in enumerate(self.entries, 1) if place >= self.cut_at]


@st.composite
def twins(draw: st.DrawFn, *, cuts: bool = False) -> Twin:
    twin = Twin()
    for _ in range(draw(st.integers(0, 14))):
        match draw(st.integers(0, 3 if cuts else 2)):
            case 0 | 1:
                twin.append(draw(st.integers(0, 2)), draw(st.integers(1, 3)))
            case 2:
                twin.bury(draw(st.integers(0, 9)), forget=draw(st.booleans()))
            case _:
                twin.cut(draw(st.integers(1, twin.log.end)))
    return twin


vectors = st.builds(lambda *counts: VersionVector(zip(NODES, counts, strict=True)), *[st.integers(0, 5)] * 3)


def dots_of(batch: Batch) -> Iterator[tuple[Dot, bool]]:
    """Dots in their order, with whether they are void."""
    nodes = batch.node_ids()
    for run in batch.iter_runs():
        for counter in range(run.first, run.first + run.size):
            yield Dot(nodes[run.origin], counter), run.void


@given(twins(cuts=True), vectors, st.integers(1, 40))
def test_what_is_missing_is_every_later_operation_in_log_order(twin: Twin, vector: VersionVector, until: int):
    """Of each origin what the vector has not, before a position; LogTruncated exactly when some of it was cut."""
    wanted = [(place, e) for place, e in enumerate(twin.entries, 1) if place < until and not vector.covers(e.dot)]
    cut = [entry for place, entry in wanted if place < twin.cut_at]
    try:
        slices = twin.log.missing(vector, until)
    except LogTruncated:
        assert cut or any(place < twin.cut_at and not vector.covers(e.dot) for place, e in enumerate(twin.entries, 1))
        return
    assert not cut
    operations = list(twin.log.operations(slices))
    assert [op.dot for op in operations] == [entry.dot for _, entry in wanted if not entry.is_gone]
    by_dot = {entry.dot: entry for _, entry in wanted}
    for op in operations:
        entry = by_dot[op.dot]
        assert (op.timestamp, op.key, op.payload, op.table) == (entry.stamp, entry.key, entry.payload, "")
        assert op.context == VersionVector({op.dot.origin: op.dot.counter - 1})


covered = st.dictionaries(st.integers(0, 2), st.integers(1, 9))


@given(st.lists(st.tuples(st.integers(0, 2), covered), min_size=1, max_size=8))
def test_an_operation_by_itself_is_built_as_it_is_among_others(made: list[tuple[int, dict[int, int]]]):
    """The short way for one operation, with a context or without, beside the long one."""
    log = OpLog()
    table = log.table_id("")
    for who, seen in made:
        columns = log.origin(NODES[who])
        context = tuple(log.pack(Dot(NODES[other], counter)) for other, counter in sorted(seen.items())) or None
        log.append(columns, log.end, table, f"k{log.end}", b"\x01", context)
    for columns in log.columns:
        for counter in range(1, columns.head + 1):
            build = BatchBuilder(log, log.end)
            build.add(columns, counter, counter)
            assert batch_of_one(log, columns, counter) == build.batch()


@given(twins(cuts=True), st.integers(1, 40), st.integers(0, 40))
def test_a_range_of_positions_is_what_stands_there(twin: Twin, first: int, size: int):
    """Also where origins interleave, and where a part of it was cut."""
    slices = twin.log.range(first, first + size)
    wanted = [entry.dot for place, entry in twin.dense() if first <= place < first + size]
    assert [dot for dot, _ in dots_of(twin.log.batch(slices, twin.log.end))] == wanted


@given(twins(), vectors, st.integers(1, 40))
def test_a_void_stands_for_what_the_batch_itself_overwrites(twin: Twin, vector: VersionVector, until: int):
    """Void is what was buried before the end of the batch; everything else is there, byte for byte."""
    slices = twin.log.missing(vector)
    until = twin.log.reach(slices, until)
    slices = [
        (columns, first, min(last, columns.last_before(until)))
        for columns, first, last in slices
        if columns.positions[first - columns.base] < until
    ]
    batch = decode_batch(encode_batch(twin.log.batch(slices, until)))
    wanted = [entry for place, entry in enumerate(twin.entries, 1) if place < until and not vector.covers(entry.dot)]
    assert list(dots_of(batch)) == [(entry.dot, 0 < entry.buried < until) for entry in wanted]
    present = [entry for entry in wanted if not 0 < entry.buried < until]
    assert not any(entry.is_gone for entry in present)
    assert batch.keys == [entry.key for entry in present]
    assert batch.payloads == [entry.payload for entry in present]
    assert batch.absolute_stamps() == [entry.stamp for entry in present]


@given(twins(), vectors, st.integers(1, 40))
def test_a_batch_reaches_no_further_than_it_must(twin: Twin, vector: VersionVector, until: int):
    """The least position from *until* on at which no payload is wanted that is gone."""
    wanted = [(place, entry) for place, entry in enumerate(twin.entries, 1) if not vector.covers(entry.dot)]

    def is_legal(end: int) -> bool:
        return all(entry.buried < end for place, entry in wanted if entry.is_gone and place < end)

    legal = [end for end in range(until, max(until, twin.log.end) + 1) if is_legal(end)]
    assert twin.log.reach(twin.log.missing(vector), until) == legal[0]


def test_a_payload_that_is_gone_cannot_be_sent_without_what_buried_it():
    """The batch that would need it is refused; a longer one makes it a void."""
    twin = Twin()
    twin.append(0, 2)
    twin.bury(0, forget=True)
    with pytest.raises(LogTruncated):
        twin.log.batch(twin.log.range(1, 2), 2)
    assert list(dots_of(twin.log.batch(twin.log.range(1, 3), 3))) == [
        (Dot(NODES[0], 1), True),
        (Dot(NODES[0], 2), False),
    ]


def test_a_long_chain_of_overwrites_is_reached_in_one_pass():
    """Each gone because of the next: the answer is the end, found without looking at any operation twice."""
    log = OpLog()
    columns, table = log.origin(NODES[0]), log.table_id("")
    for counter in range(1, 50_001):
        log.append(columns, counter, table, "k", b"\x01", None)
        if counter > 1:
            log.bury(log.pack(Dot(NODES[0], counter - 1)), counter, forget_payload=True)
    assert log.reach(log.missing({}), 2) == log.end
    batch = log.batch(log.missing({}), log.end)
    assert (batch.dot_count, len(batch)) == (50_000, 1)


@settings(max_examples=80)
@given(twins(), st.integers(1, 40), st.lists(st.integers(0, 30), max_size=12))
def test_a_cut_keeps_what_lives_and_nothing_else(twin: Twin, position: int, deaths: list[int]):
    """Before the position only live operations are left, in segments; they can die there, and be swept out."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (columns_module, oplog_module):
            patch.setattr(module, "SEGMENT_OPERATIONS", 3)
        twin.cut(position // 2)
        twin.cut(position)
        twin.log.check()
        settled = {entry.dot: entry for place, entry in enumerate(twin.entries, 1) if place < twin.cut_at}
        living = {dot: entry for dot, entry in settled.items() if not entry.buried}
        held(twin, living, settled)
        order = sorted(living)
        for which in deaths:
            if order:
                dot = order.pop(which % len(order))
                living.pop(dot)
                twin.log.bury(twin.log.pack(dot), twin.log.end, forget_payload=bool(which % 2))
        twin.log.check()
        twin.log.release(twin.log.end + 1)
        fresh, gone = twin.log.compact()
        twin.log.check()
        held(twin, living, settled)
        segments = [segment for columns in twin.log.columns for segment in columns.segments]
        assert all(segment.dead * 2 <= len(segment) for segment in segments)
        assert all(len(segment) <= 3 for segment in segments)
        assert {id(segment) for segment in fresh} <= {id(segment) for segment in segments}
        assert len(gone) >= len(fresh)


def held(twin: Twin, living: dict[Dot, Entry], settled: dict[Dot, Entry]) -> None:
    """What lives is found by its counter, as it was; batches of segments hold just that."""
    for dot in settled:
        columns = twin.log.origin(dot.origin)
        if dot in living:
            entry = living[dot]
            assert columns.payload(dot.counter) == entry.payload
            assert columns.entry(dot.counter)[:1] == (entry.stamp,)
            assert twin.log.operation(columns, dot.counter).key == entry.key
    found: list[Dot] = []
    for columns in twin.log.columns:
        for segment in columns.segments:
            batch = twin.log.segment_batch(columns, segment)
            batch.check()
            found += [dot for dot, void in dots_of(batch) if not void]
    assert sorted(found) == sorted(living)


def test_what_was_never_written_is_not_found():
    """KeyError, below the cut as well."""
    twin = Twin()
    twin.append(0, 3)
    twin.bury(0, forget=False)
    twin.cut(3)
    columns = twin.log.origin(NODES[0])
    with pytest.raises(KeyError):
        columns.payload(1)
    with pytest.raises(KeyError):
        twin.log.operation(columns, 1)
    assert columns.payload(2) == b"\x01"
    assert twin.log.floor() == VersionVector({NODES[0]: 2})
    assert twin.log.vector() == VersionVector({NODES[0]: 3})


@given(twins(cuts=True), vectors)
def test_the_prefix_below_a_watermark_is_what_it_covers(twin: Twin, watermark: VersionVector):
    """Up to the first operation in the log that it does not cover."""
    uncovered = [place for place, entry in twin.dense() if not watermark.covers(entry.dot)]
    assert twin.log.prefix_below(watermark) == min(uncovered, default=twin.log.end)


def test_known_and_unknown_names():
    """Origins and tables get numbers when they are first named, once."""
    log = OpLog()
    assert log.known(NODES[0]) is None
    assert not log.has_table("t")
    assert log.table_id("t") == log.table_id("t") == 0
    assert log.has_table("t")
    packed = log.pack(Dot(NODES[1], 5))
    assert log.dot(packed) == Dot(NODES[1], 5)
    assert log.known(NODES[1]) is log.columns[0]
    assert log.vector() == VersionVector()


def test_voids_that_were_received_are_buried_where_the_batch_ends():
    """Only their dots are known; what overwrote them came with them."""
    log = OpLog()
    columns = log.origin(NODES[0])
    log.extend_void(columns, 3, 4)
    log.extend_void(columns, 0, 9)
    log.append(columns, 1, log.table_id(""), "k", b"\x01", None)
    assert list(columns.payloads) == [VOID, VOID, VOID, b"\x01"]
    assert log.reach(log.missing({}), 1) == 1
    assert log.reach(log.missing({}), 2) == 5
    log.check()
