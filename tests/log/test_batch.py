"""A batch comes back as it was, and what no store has written is refused before it costs anything."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrepl.causality.dot import COUNTER_MAX
from mmrepl.errors import FrameError, PeerError
from mmrepl.log.batch import Batch, decode_batch, differences, encode_batch, expand, run_lengths
from mmrepl.resolvers import KeepSiblings
from mmrepl.store.store import Store
from mmrepl.types import Limits, NodeId
from tests.log.batches import batches

OURS = NodeId("ours", 7)


def changed(batch: Batch, **columns: Any) -> Batch:
    return msgspec.structs.replace(batch, **columns)


GOOD = Batch(
    origins=[("paris", 1), ("tokyo", 2)],
    tables=["", "carts"],
    runs=[0, 1, 2, 1, 1, -3, 1, 4, 1],
    table_runs=[0, 1, 1, 2],
    keys=["a", "b", "c"],
    stamps=[65536, 1, -3],
    payloads=[b"\x01", None, b"\x02"],
    contexts=[[1, 1, 9], [2, 0, 2, 1, 3]],
)


@given(batches())
def test_a_batch_comes_back_as_it_was(batch: Batch):
    """Encoding and decoding are inverse, for bytes and for a view of them."""
    data = encode_batch(batch)
    assert decode_batch(data) == batch
    assert decode_batch(memoryview(data)) == batch
    assert len(batch) == len(batch.keys)
    assert batch.dot_count == sum(run.size for run in batch.iter_runs())


@given(st.lists(st.integers(0, 2**63 - 1)), st.lists(st.integers(0, 4)))
def test_columns_in_short_form_are_the_same_columns(stamps: list[int], refs: list[int]):
    """Differences and run lengths lose nothing; a single table costs nothing."""
    batch = changed(GOOD, stamps=differences(stamps))
    assert batch.absolute_stamps() == stamps
    pairs = run_lengths(refs)
    if pairs:
        assert list(expand(zip(pairs[0::2], pairs[1::2], strict=True))) == refs
    else:
        assert not any(refs)


MALFORMED = {
    "fewer keys": {"keys": ["a", "b"]},
    "fewer stamps": {"stamps": [1, 1]},
    "more payloads": {"payloads": [None] * 4},
    "runs cut off": {"runs": [0, 1, 2, 1, 1]},
    "a run of an origin that is not there": {"runs": [2, 1, 3]},
    "a run of a negative origin": {"runs": [-1, 1, 3]},
    "a run that begins at nothing": {"runs": [0, 0, 3]},
    "a run of nothing": {"runs": [0, 1, 0, 0, 1, 3]},
    "runs of fewer operations than there are": {"runs": [0, 1, 2]},
    "runs of more operations than there are": {"runs": [0, 1, 4]},
    "a run beyond the last counter": {"runs": [0, COUNTER_MAX - 1, 3]},
    "a void that would fill the memory": {"runs": [0, 1, 3, 1, 1, -(2**45)]},
    "voids that together would": {"runs": [0, 1, 3, *(1, 1, -(2**20)) * 8]},
    "table runs cut off": {"table_runs": [0, 1, 1]},
    "table runs too short": {"table_runs": [0, 1, 1, 1]},
    "table runs too long": {"table_runs": [0, 1, 1, 2**60]},
    "a table run of a negative count": {"table_runs": [0, -1, 1, 4]},
    "a table that is not there": {"table_runs": [0, 1, 2, 2]},
    "no table": {"tables": [], "table_runs": []},
    "a table named twice": {"tables": ["carts", "carts"]},
    "an origin named twice": {"origins": [("paris", 1), ("paris", 1)]},
    "an origin without a name": {"origins": [("", 1), ("tokyo", 2)]},
    "an origin of a long name": {"origins": [("paris", 1), ("t" * 1025, 2)]},
    "an incarnation out of range": {"origins": [("paris", 1), ("tokyo", 2**63)]},
    "a negative incarnation": {"origins": [("paris", -1), ("tokyo", 2)]},
    "a table of a long name": {"tables": ["", "x" * 1025]},
    "a key of nothing": {"keys": ["a", "", "c"]},
    "a long key": {"keys": ["a", "b", "c" * 1025]},
    "a key that is long in bytes": {"keys": ["a", "b", "€" * 342]},
    "a large value": {"payloads": [b"\x01", None, b"\xc6\x00\x10\x00\x00" + bytes(1024 * 1024)]},
    "a value of no bytes": {"payloads": [b"\x01", None, b""]},
    "a husk without a context": {"payloads": [b"\x01", None, b"\xc1"], "contexts": [[1, 1, 9]]},
    "a negative stamp": {"stamps": [65536, -65537, 0]},
    "a stamp out of range": {"stamps": [2**62, 2**62, 2**62]},
    "a context of no operation": {"contexts": [[3, 1, 1]]},
    "a context of a negative operation": {"contexts": [[-1, 1, 1]]},
    "a context of nothing at all": {"contexts": [[]]},
    "a context cut off": {"contexts": [[1, 1]]},
    "a context of an origin that is not there": {"contexts": [[1, 2, 1]]},
    "a context with a counter of nothing": {"contexts": [[1, 1, 0]]},
    "a context beyond the last counter": {"contexts": [[1, 1, COUNTER_MAX + 1]]},
    "two contexts of one operation": {"contexts": [[1, 1, 1], [1, 1, 2]]},
    "contexts in another order": {"contexts": [[2, 1, 1], [1, 1, 1]]},
    "a context that names an origin twice": {"contexts": [[1, 1, 1, 1, 2]]},
    "a context that covers its own write": {"contexts": [[2, 1, 4]]},
    "a context that covers what comes after": {"contexts": [[0, 0, 2]]},
}  # fmt: skip


def test_the_batch_that_the_malformed_ones_are_made_of_is_good():
    """Or they would prove nothing."""
    GOOD.check()


@pytest.mark.parametrize("what", MALFORMED)
def test_what_is_malformed_is_refused(what: str):
    """By FrameError, from the columns and from their bytes."""
    batch = changed(GOOD, **MALFORMED[what])
    with pytest.raises(FrameError):
        batch.check()
    with pytest.raises(FrameError):
        decode_batch(encode_batch(batch))


def test_table_runs_without_operations_are_refused():
    """They are repeated in memory, and a hostile count would never end."""
    empty = Batch([], ["a"], [], [0, 2**60], [], [], [], [])
    with pytest.raises(FrameError):
        empty.check()
    Batch([], [], [], [], [], [], [], []).check()


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        (Limits(frame_operations=5), "frame_operations"),
        (Limits(vector_entries=1), "origins"),
        (Limits(tables=1), "tables"),
        (Limits(key_bytes=4), "origin"),
        (Limits(value_bytes=1), None),
    ],
)
def test_limits_are_kept(limits: Limits, named: str | None):
    """Each limit of a batch is met by an error that says which; at the limit all is well."""
    if named is None:
        GOOD.check(limits)
        return
    with pytest.raises(FrameError, match=named):
        GOOD.check(limits)
    GOOD.check(Limits(frame_operations=6, vector_entries=2, tables=2, key_bytes=5))


@given(st.binary(max_size=60))
def test_bytes_that_are_no_batch_are_refused(data: bytes):
    """By FrameError, whatever they are."""
    try:
        decode_batch(data)
    except FrameError:
        return


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """The bytes of a batch with a few of them changed, taken out or put in."""
    data = bytearray(encode_batch(draw(batches())))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        how = draw(st.integers(0, 2))
        if how == 0 and data:
            data[at] = draw(st.integers(0, 255))
        elif how == 1:
            del data[at : at + draw(st.integers(1, 3))]
        else:
            data[at:at] = draw(st.binary(min_size=1, max_size=3))
    return bytes(data)


@st.composite
def mutated_columns(draw: st.DrawFn) -> Batch:
    """A batch with one column changed for another value of its type."""
    batch = draw(batches())
    numbers = st.integers(-3, 9) | st.sampled_from([2**31, 2**45, COUNTER_MAX, 2**62, -(2**63), 2**63 - 1])
    column = draw(st.sampled_from(["runs", "table_runs", "stamps", "contexts", "payloads", "keys", "tables"]))
    if column == "contexts":
        return changed(batch, contexts=draw(st.lists(st.lists(numbers, max_size=5), max_size=3)))
    if column in {"runs", "table_runs", "stamps"}:
        old = list(getattr(batch, column)) or [0]
        for _ in range(draw(st.integers(1, 3))):
            old[draw(st.integers(0, len(old) - 1))] = draw(numbers)
        return changed(batch, **{column: old})
    if column == "payloads":
        return changed(
            batch, payloads=[draw(st.sampled_from([b"", b"\xc1", b"\xc1\xc1", None])) for _ in batch.payloads]
        )
    return changed(batch, **{column: draw(st.permutations(getattr(batch, column)))})


def offered_to_a_store(batch: Batch) -> None:
    """A store takes it or refuses it as a peer's doing; either way it is whole, and takes itself for whole."""
    store = Store(OURS, tables={"carts": KeepSiblings()})
    table = store.table("")
    for index in range(4):
        store.put(table, f"k{index % 2}", b"\x01", 1_000)
    before = store.version
    try:
        store.apply(batch)
    except PeerError:
        assert store.version == before
    store.check()
    for table in store.keyspace.tables.values():
        for key in list(table.states):
            store.siblings(table, key)
    store.log.batch(store.log.missing({}), store.log.end).check()
    store.log.cut(store.log.end)
    store.check()


@given(mutations())
def test_a_damaged_batch_is_refused_or_harmless(data: bytes):
    """FrameError, or a batch that a store can hold; never anything else, never half of it."""
    try:
        batch = decode_batch(data)
    except FrameError:
        return
    offered_to_a_store(batch)


@given(batches() | mutated_columns())
def test_a_hostile_batch_is_refused_or_harmless(batch: Batch):
    """As above, for columns that were made to look right."""
    try:
        batch.check()
    except FrameError:
        return
    offered_to_a_store(batch)


def test_more_origins_or_tables_than_allowed_are_refused_whole():
    """Bounds are of the store, not of one batch."""
    store = Store(OURS, limits=Limits(vector_entries=2, tables=2))
    few = changed(GOOD, origins=[("paris", 1)], tables=["a"], runs=[0, 1, 3], table_runs=[], contexts=[])
    store.apply(few)
    for excess in (
        changed(few, origins=[("tokyo", 1)]),
        changed(few, runs=[0, 4, 3], tables=["b", "c"], table_runs=[0, 1, 1, 2]),
    ):
        before = store.version
        with pytest.raises(FrameError, match="limits"):
            store.apply(excess)
        assert store.version == before
        store.check()


TEXTS = ["a", "", "a" * 16, "a" * 17, "a" * 64, "a" * 65, "😀" * 16, "😀" * 17]
PAYLOADS = [b"\x01", None, b"", b"\xc1", b"\xa3abc", b"\xc4\x0e" + bytes(14), b"\xc4\x0f" + bytes(15)]
RUNS = [[0, 1, 1], [0, COUNTER_MAX - 1, 1], [0, COUNTER_MAX, 1], [0, 0, 1], [1, 1, 1], [0, 1, -1], [0, 1, 2], [0, 1]]


@given(
    st.sampled_from(TEXTS),
    st.sampled_from([1, 0, -1, (1 << 63) - 1, 1 << 63]),
    st.sampled_from([[""], ["a" * 16], ["a" * 17], ["😀" * 16], ["😀" * 17], [], ["a", "b"]]),
    st.sampled_from(RUNS),
    st.sampled_from(TEXTS),
    st.sampled_from([1, 0, -1, (1 << 63) - 1, 1 << 63]),
    st.sampled_from(PAYLOADS),
    st.sampled_from([[], [("b", 1)], [("a", 1)], [("", 1)], [("b", -1)], [("b", 1), ("c", 1)]]),
    st.sampled_from([[], [[0]], [[0, 1, 7]], [[0, 2, 7]], [[0, 0, 1]], [[1, 1, 7]], [[0, 1]], [[0, 1, 7], [0, 1, 7]]]),
)
def test_a_batch_of_one_is_refused_for_the_same_reasons(
    name: str,
    incarnation: int,
    tables: list[str],
    runs: list[int],
    key: str,
    stamp: int,
    payload: bytes | None,
    others: list[tuple[str, int]],
    contexts: list[list[int]],
):
    """The short way of checking one operation lets nothing pass that the long way refuses."""
    limits = Limits(key_bytes=64, value_bytes=16)
    batch = Batch([(name, incarnation), *others], tables, runs, [], [key], [stamp], [payload], contexts)
    with suppress(FrameError):
        batch.check(limits)
        with patch.object(Batch, "_is_one", lambda _self, _limits: False):
            try:
                batch.check(limits)
            except FrameError as error:
                raise AssertionError(f"let pass by the short way: {error}") from error


def test_one_operation_goes_the_short_way():
    """Also a delete, at the bounds, and one with a context."""
    limits = Limits(key_bytes=64, value_bytes=16)
    for payload in (b"\xc4\x0e" + bytes(14), None):
        batch = Batch([("a" * 16, 0)], ["a" * 16], [0, COUNTER_MAX - 1, 1], [], ["a" * 16], [0], [payload], [])
        assert batch._is_one(limits)
    assert Batch([("a", 1), ("b", 1)], [""], [0, 5, 1], [], ["k"], [0], [b"\x01"], [[0, 1, 7]])._is_one(limits)
