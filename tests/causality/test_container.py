"""Containers by small examples; their laws stand in tests/properties/test_laws.py."""

from __future__ import annotations

import pytest

from mmrepl.causality.container import CausalContainer, LiveWrite
from mmrepl.causality.dot import Dot
from mmrepl.causality.version_vector import EMPTY, VersionVector
from mmrepl.types import NodeId

A, B, C = (NodeId(name, 1) for name in "abc")
START: CausalContainer[bytes] = CausalContainer()


def test_nothing_is_absent():
    """The state of a key that nobody wrote."""
    assert START.is_absent
    assert START.siblings == START.values == ()
    assert START.context == EMPTY
    START.check()


def test_siblings_come_in_canonical_order_however_they_arrived():
    """Timestamp, then origin, then counter."""
    writes = [(Dot(C, 1), 1), (Dot(A, 1), 2), (Dot(A, 2), 2), (Dot(B, 1), 2), (Dot(B, 2), 3)]
    state = START
    for dot, timestamp in (writes[4], writes[1], writes[0], writes[2]):
        state = state.apply(dot, EMPTY, timestamp, b"")
    state = state.join(START.apply(Dot(B, 1), EMPTY, 2, b""))
    assert [sibling.dot for sibling in state.siblings] == [Dot(C, 1), Dot(A, 1), Dot(A, 2), Dot(B, 2)]
    state.check()


def test_a_tombstone_is_a_sibling_like_any_other():
    """It overwrites what was read, stands beside what was not, and alone makes the key absent."""
    both = START.apply(Dot(A, 1), EMPTY, 1, b"a").apply(Dot(B, 1), EMPTY, 2, b"b")
    deleted = both.apply(Dot(C, 1), VersionVector({A: 1}), 3, None)
    assert deleted.values == (b"b",)
    assert [sibling.is_tombstone for sibling in deleted.siblings] == [False, True]
    assert not deleted.is_absent
    assert deleted.apply(Dot(C, 2), deleted.context, 4, None).is_absent


def test_an_older_write_of_an_origin_counts_as_overwritten():
    """Hence law 4: whoever applies out of order loses writes."""
    late = START.apply(Dot(A, 2), EMPTY, 2, b"second").apply(Dot(A, 1), EMPTY, 1, b"first")
    assert late.values == (b"second",)


def test_a_write_that_claims_to_have_seen_itself_is_refused():
    """A dot that was minted twice, or a lie."""
    with pytest.raises(ValueError, match="covers the write itself"):
        START.apply(Dot(A, 1), VersionVector({A: 1}), 1, b"")


def test_containers_are_values():
    """Equal however they came about; the old one stays as it was."""
    one = START.apply(Dot(A, 1), EMPTY, 1, b"a")
    other = START.apply(Dot(B, 1), EMPTY, 2, b"b")
    assert one.join(other) == other.join(one) == one.apply(Dot(B, 1), EMPTY, 2, b"b")
    assert one.values == (b"a",)
    assert hash(one.join(other)) == hash(other.join(one))


def test_forgetting_waits_for_the_whole_context():
    """A tombstone whose dot is stable and whose context is not stays, and so does every entry."""
    state = START.apply(Dot(A, 1), VersionVector({B: 2}), 1, None)
    assert state.forget(VersionVector({A: 1, B: 1})) is state
    assert state.forget(VersionVector({A: 1, B: 2})) == START


def test_forgetting_keeps_of_a_context_what_readers_must_cover():
    """A write over what is read afterwards still drops it."""
    state = START.apply(Dot(A, 1), EMPTY, 1, b"old").apply(Dot(B, 1), VersionVector({A: 1}), 2, b"new")
    forgotten = state.forget(VersionVector({A: 1, B: 1}))
    assert forgotten.siblings == state.siblings
    assert forgotten.context == VersionVector({B: 1})
    forgotten.check()


@pytest.mark.parametrize(("tombstone_at", "kept_count"), [(1, 1), (3, 2)])
def test_beside_a_value_only_an_outranked_tombstone_is_forgotten(tombstone_at: int, kept_count: int):
    """One that is later than the value wins under last-writer-wins, and is needed for that."""
    state = START.apply(Dot(A, 1), EMPTY, 2, b"value").apply(Dot(B, 1), EMPTY, tombstone_at, None)
    forgotten = state.forget(state.context)
    assert forgotten.values == (b"value",)
    assert len(forgotten.siblings) == kept_count
    assert len(state.forget(state.context, shown="values").siblings) == 1


def test_only_the_latest_may_be_kept_on_demand():
    """Siblings that lost go; if the winner is a tombstone, everything goes."""
    state = START.apply(Dot(A, 1), EMPTY, 1, b"lost").apply(Dot(B, 1), EMPTY, 2, b"won")
    assert state.forget(state.context, shown="latest") == START.apply(Dot(B, 1), EMPTY, 2, b"won")
    deleted = state.apply(Dot(C, 1), EMPTY, 3, None)
    assert deleted.forget(deleted.context, shown="latest") == START
    assert state.forget(VersionVector({A: 1}), shown="latest") is state


def test_a_snapshot_that_is_silent_about_a_value_it_has_seen_kills_it():
    """Law 8, in one picture: the value comes back with its node, the others have forgotten that it was deleted."""
    returning = START.apply(Dot(A, 1), EMPTY, 1, b"deleted long ago")
    our_clock, their_clock = VersionVector({A: 1}), VersionVector({A: 1, B: 7})
    assert returning.join(START).values == (b"deleted long ago",)
    assert returning.filled(our_clock).join(START.filled(their_clock)).is_absent
    unseen = returning.apply(Dot(A, 2), EMPTY, 2, b"written while away")
    joined = unseen.filled(VersionVector({A: 2})).join(START.filled(their_clock))
    assert joined.values == (b"written while away",)


@pytest.mark.parametrize(
    "broken",
    [
        CausalContainer((LiveWrite(Dot(A, 1), 1, b""),), EMPTY),
        CausalContainer((LiveWrite(Dot(A, 1), 1, b""), LiveWrite(Dot(A, 1), 2, b"")), VersionVector({A: 1})),
        CausalContainer((LiveWrite(Dot(A, 1), -1, b""),), VersionVector({A: 1})),
    ],
)
def test_check_finds_what_is_broken(broken: CausalContainer[bytes]):
    """A sibling that the context does not cover, a dot that stands twice, a negative timestamp."""
    with pytest.raises(AssertionError):
        broken.check()
