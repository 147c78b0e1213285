"""What a session has seen: a lattice, and text that comes back as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrepl.causality.version_vector import EMPTY, VersionVector
from mmrepl.errors import UsageError
from mmrepl.types import NodeId
from mmrepl.wire.seen import LogPosition, join_seen, parse_seen_token, seen_token

VECTORS = st.dictionaries(
    st.builds(NodeId, st.sampled_from(["paris", "tokyo", "né"]), st.integers(0, 3)), st.integers(1, 4), max_size=3
).map(VersionVector)
POSITIONS = st.builds(LogPosition, st.integers(0, 3), st.integers(1, 5))
PAIRS = st.one_of(
    st.lists(VECTORS, min_size=3, max_size=3), st.lists(POSITIONS | st.just(EMPTY), min_size=3, max_size=3)
)


@given(VECTORS | POSITIONS)
def test_a_token_comes_back(seen):
    """As text and as bytes, without blanks."""
    token = seen_token(seen)
    assert parse_seen_token(token) == parse_seen_token(token.encode()) == seen
    assert len(token.split()) == 1


@given(PAIRS)
def test_joining_is_idempotent_commutative_and_associative(three):
    """The laws of a join."""
    a, b, c = three
    assert join_seen(a, a) == a
    assert join_seen(a, b) == join_seen(b, a)
    assert join_seen(join_seen(a, b), c) == join_seen(a, join_seen(b, c))
    assert join_seen(a, EMPTY) == a


def test_the_two_kinds_do_not_mix():
    """A vector and a log position are of clusters that have nothing to do with each other."""
    with pytest.raises(UsageError, match="different modes"):
        join_seen(VersionVector({NodeId("a", 1): 1}), LogPosition(1, 1))


@pytest.mark.parametrize(
    "token", ["", "x", "1.", ".1", "1.0", "01.2", "-1.2", "1.2.3", " 1.2", "é", b"\xff", "9" * 30 + ".1"]
)
def test_what_is_no_token(token):
    """Refused, never misread."""
    with pytest.raises(UsageError, match="token"):
        parse_seen_token(token)
