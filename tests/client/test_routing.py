"""Whom to ask, and whom after that."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrepl.client.routing import PREFERENCES, NodeView, Router, Wheel, check_preference
from mmrepl.errors import UsageError

ROLES = st.sampled_from(["node", "primary", "replica", "candidate", ""])
NODES = st.lists(
    st.builds(NodeView, st.sampled_from("abcde"), ROLES, st.integers(0, 3), st.floats(0.1, 9)),
    max_size=5,
    unique_by=lambda node: node.address,
)


@given(NODES, st.sampled_from(PREFERENCES), st.integers(1, 4))
def test_an_order_names_nodes_once_and_only_who_may_serve(nodes, preference, times):
    """Writes go to who takes them; reads reach everybody in the end, but for those that only the primary may serve."""
    router = Router()
    for _ in range(times):
        writers = router.for_write(nodes)
        primaries = [node for node in nodes if node.role == "primary"]
        if primaries:
            assert [writers] == [[a.address] for a in primaries if writers == [a.address]]
            assert all(node.term <= next(p.term for p in primaries if p.address == writers[0]) for node in primaries)
        else:
            assert sorted(writers) == sorted(node.address for node in nodes if node.role == "node")
        readers = router.for_read(nodes, preference)
        if preference == "primary":
            assert readers == router.for_write(nodes)
        else:
            assert sorted(readers) == sorted(node.address for node in nodes)


@given(NODES)
def test_a_read_at_replicas_falls_back_to_the_primary(nodes):
    """Replicas first, then the primaries, then candidates."""
    rank = {"replica": 0, "node": 0, "primary": 1, "candidate": 2, "": 2}
    order = Router().for_read(nodes, "replica")
    roles = {node.address: rank[node.role] for node in nodes}
    assert [roles[address] for address in order] == sorted(roles.values())


@given(st.dictionaries(st.sampled_from("abcd"), st.integers(0, 5), min_size=1))
def test_the_wheel_gives_everybody_their_share(weights):
    """In a round of as many turns as the weights sum up to, each comes exactly as often as its weight says."""
    wheel, total = Wheel(), sum(weights.values())
    for _ in range(2):
        turns = [wheel.turn(weights) for _ in range(total)]
        assert {name: turns.count(name) for name in weights} == weights
    if not total:
        assert wheel.turn(weights) is None


@given(st.lists(st.dictionaries(st.sampled_from("abcd"), st.integers(1, 3), min_size=1), max_size=20))
def test_the_wheel_turns_whoever_comes_and_goes(rounds):
    """It always names somebody who is there."""
    wheel = Wheel()
    for weights in rounds:
        assert wheel.turn(weights) in weights


def test_reads_take_turns_by_weight():
    """Replicas are read in proportion, the primary only after them."""
    nodes = [NodeView("p", "primary", 1, 0.1), NodeView("a", "replica", 1, 1), NodeView("b", "replica", 1, 2)]
    router = Router({"a": 2})
    assert [router.for_read(nodes, "replica")[0] for _ in range(6)] == ["a", "b", "a", "a", "b", "a"]
    assert router.for_read(nodes, "replica")[-1] == "p"
    spread = Router()
    assert {spread.for_read(nodes, "round-robin")[0] for _ in range(3)} == {"p", "a", "b"}
    assert Router({"a": 0, "b": 0}).for_read(nodes, "replica") == ["a", "b", "p"]


def test_the_nearest_stays_until_another_is_much_nearer():
    """Two nodes in one rack do not take turns at every measurement."""

    def nodes(a, b):
        return [NodeView("a", "node", 0, a), NodeView("b", "node", 0, b)]

    router = Router()
    assert router.for_write(nodes(1.0, 2.0)) == ["a", "b"]
    assert router.for_write(nodes(1.0, 0.8)) == ["a", "b"]
    assert router.for_write(nodes(1.0, 0.5)) == ["b", "a"]
    assert router.for_write(nodes(0.4, 0.5)) == ["b", "a"]
    assert router.for_write(nodes(0.4, 0.5)[:1]) == ["a"]


@pytest.mark.parametrize(
    "make", [lambda: check_preference("best"), lambda: Router({"a": -1}), lambda: Router({"a": 1.5})]
)
def test_what_is_no_preference_or_weight(make):
    """Refused at once."""
    with pytest.raises(UsageError):
        make()
