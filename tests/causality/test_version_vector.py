"""Version vectors: a lattice beside the dumb model, the set of all dots seen."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrepl.causality.dot import COUNTER_MAX, Dot
from mmrepl.causality.version_vector import EMPTY, Ordering, VersionVector
from mmrepl.types import NodeId

ORIGINS = tuple(NodeId(name, 1) for name in "abc")
vectors = st.dictionaries(st.sampled_from(ORIGINS), st.integers(0, 3)).map(VersionVector)
dots = st.builds(Dot, st.sampled_from(ORIGINS), st.integers(1, 4))


def seen(vector: VersionVector) -> set[Dot]:
    return {Dot(origin, counter) for origin, last in vector.items() for counter in range(1, last + 1)}


@given(vectors, vectors)
def test_vectors_compare_as_the_sets_of_what_was_seen(ours: VersionVector, theirs: VersionVector):
    """descends is superset, equal is equal, join is union, meet is intersection."""
    assert ours.descends(theirs) == (seen(ours) >= seen(theirs))
    assert (ours == theirs) == (seen(ours) == seen(theirs))
    assert seen(ours.join(theirs)) == seen(ours) | seen(theirs)
    assert seen(ours.meet(theirs)) == seen(ours) & seen(theirs)
    expected = {
        (True, True): Ordering.EQUAL,
        (True, False): Ordering.AFTER,
        (False, True): Ordering.BEFORE,
        (False, False): Ordering.CONCURRENT,
    }[seen(ours) >= seen(theirs), seen(theirs) >= seen(ours)]
    assert ours.compare(theirs) is expected


@given(vectors, dots)
def test_a_vector_covers_exactly_the_dots_seen(vector: VersionVector, dot: Dot):
    """And including one adds it, with everything below it."""
    assert vector.covers(dot) == (dot in seen(vector))
    below = {Dot(dot.origin, counter) for counter in range(1, dot.counter + 1)}
    assert seen(vector.including(dot)) == seen(vector) | below


@given(vectors, vectors)
def test_lacks_names_the_ranges_that_are_missing(ours: VersionVector, theirs: VersionVector):
    """No more and no less, origins in order."""
    lacking = ours.lacks(theirs)
    missing = {Dot(origin, n) for origin, (first, last) in lacking.items() for n in range(first, last + 1)}
    assert missing == seen(theirs) - seen(ours)
    assert list(lacking) == sorted(lacking)


@given(vectors, vectors, vectors)
def test_join_and_meet_form_a_lattice(a: VersionVector, b: VersionVector, c: VersionVector):
    """Idempotent, commutative, associative, absorbing."""
    for join, other in ((VersionVector.join, VersionVector.meet), (VersionVector.meet, VersionVector.join)):
        assert join(a, a) == a
        assert join(a, b) == join(b, a)
        assert join(join(a, b), c) == join(a, join(b, c))
        assert join(a, other(a, b)) == a


@given(vectors)
def test_equal_vectors_hash_alike_and_read_back(vector: VersionVector):
    """Whatever the order of insertion, zeros given or not."""
    again = VersionVector([(origin, vector.counter(origin)) for origin in reversed(ORIGINS)])
    assert again == vector
    assert hash(again) == hash(vector)
    assert list(again) == sorted(again)
    assert eval(repr(vector)) == vector
    assert str(again) == str(vector)
    assert 0 not in again.values()


@pytest.mark.parametrize("counter", [-1, COUNTER_MAX + 1, 2**63 - 1])
def test_a_counter_out_of_range_is_refused(counter: int):
    """No poisoned entry gets into any vector."""
    with pytest.raises(ValueError, match="counter of a~1"):
        VersionVector({ORIGINS[0]: counter})


def test_a_vector_is_not_equal_to_a_dict_and_missing_origins_are_missing():
    """It is a mapping, with zero as the counter of strangers."""
    vector = VersionVector({ORIGINS[0]: 1})
    assert vector != {ORIGINS[0]: 1}
    assert ORIGINS[1] not in vector
    assert vector.counter(ORIGINS[1]) == 0
    assert not EMPTY
