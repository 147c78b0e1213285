"""Siblings by hand, and the one order in which everybody sees them."""

from __future__ import annotations

import pytest
from hypothesis import given

from mmrepl.causality.dot import Dot
from mmrepl.clock import hlc
from mmrepl.errors import Equivocation, InvalidValue, UsageError
from mmrepl.resolvers import Sibling, canonical
from mmrepl.types import NodeId
from tests.resolvers.strategies import shuffled


def test_a_sibling_by_hand_is_what_the_store_makes():
    """`of` and `tombstone` need a name and a number; a dot or a node id will do as well."""
    dot = Dot(NodeId("paris", 0), 3)
    made = Sibling(dot, 7, b"\xa3tea")
    assert Sibling.of("tea", timestamp=7, origin="paris", counter=3) == made
    assert Sibling.of("tea", timestamp=7, origin=NodeId("paris", 0), counter=3) == made
    assert Sibling.of("tea", timestamp=7, dot=dot) == made
    assert Sibling.tombstone(timestamp=7, dot=dot) == Sibling(dot, 7, None)
    assert hash(made) == hash(Sibling.of("tea", timestamp=7, dot=dot))


def test_a_sibling_by_hand_is_checked():
    """Values outside the domain, missing names and numbers out of range are refused."""
    for arguments in (
        {"timestamp": 1},
        {"timestamp": 1, "origin": "a", "dot": Dot(NodeId("a", 0), 1)},
        {"timestamp": 1, "origin": "a", "counter": 0},
        {"timestamp": 1, "origin": "a", "counter": True},
        {"timestamp": 1.5, "origin": "a"},
        {"timestamp": 2**63, "origin": "a"},
    ):
        with pytest.raises(UsageError):
            Sibling.of("tea", **arguments)
        with pytest.raises(UsageError):
            Sibling.tombstone(**arguments)
    with pytest.raises(InvalidValue, match=r"value\[0\]"):
        Sibling.of([(1,)], timestamp=1, origin="a")


def test_a_value_is_decoded_afresh_each_time():
    """Changing what one reader got changes nothing for another; a tombstone has no value."""
    sibling = Sibling.of(["tea"], timestamp=1, origin="a")
    sibling.value.append("milk")
    assert sibling.value == ["tea"]
    assert Sibling.tombstone(timestamp=1, origin="a").value is None
    assert not sibling.is_tombstone
    assert not Sibling.of(None, timestamp=1, origin="a").is_tombstone


def test_a_sibling_tells_people_what_it_is():
    """Stamps read as times, long values are cut, and bytes that are no value do not raise."""
    dot = Dot(NodeId("paris", 31), 7)
    stamp = hlc.pack(1_700_000_000_123, 7)
    assert str(Sibling(dot, stamp, b"\xa3tea")) == "Sibling(paris~1f:7, 2023-11-14T22:13:20.123Z+7, 'tea')"
    assert str(Sibling(dot, 5, None)) == "Sibling(paris~1f:7, 5, deleted)"
    assert str(Sibling(dot, -5, b"\xc1")) == "Sibling(paris~1f:7, -5, <no value, 1 bytes>)"
    assert len(str(Sibling.of("x" * 1_000, timestamp=1, dot=dot))) < 100
    assert len(str(Sibling.of("x" * 10_000, timestamp=1, dot=dot))) < 100


@given(shuffled())
def test_canonical_order_is_timestamp_then_origin_then_counter(both):
    """Whatever the order of arrival; it agrees with sorting by all parts spelled out."""
    ours, theirs = both
    ordered = canonical(ours)
    assert ordered == canonical(theirs) == canonical(iter(ordered)) == tuple(sorted(ours, key=lambda s: s.rank))
    parts = [(s.timestamp, s.dot.origin.name, s.dot.origin.incarnation, s.dot.counter) for s in ordered]
    assert parts == sorted(parts)


@given(shuffled())
def test_a_sibling_given_twice_counts_once(both):
    """Idempotence, for applications that pool what they heard from several nodes."""
    ours, theirs = both
    assert canonical([*ours, *theirs]) == canonical(ours)


def test_two_contents_under_one_dot_are_refused():
    """A dot is one write: other bytes, or another stamp, under the same dot are somebody's bug."""
    tea = Sibling.of("tea", timestamp=1, origin="a")
    for other in (
        Sibling.of("milk", timestamp=1, origin="a"),
        Sibling.of("tea", timestamp=2, origin="a"),
        Sibling.tombstone(timestamp=1, origin="a"),
        Sibling(tea.dot, 1, b"\xd9\x03tea"),
    ):
        for pair in ([tea, other], [other, tea], [tea, Sibling.of(1, timestamp=1, origin="b"), other]):
            with pytest.raises(Equivocation, match="a~0:1"):
                canonical(pair)
