"""Who waits for acknowledgements: the heaps beside a list, and members that come and go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrepl.causality.version_vector import VersionVector
from mmrepl.errors import UsageError
from mmrepl.replication.waiters import Acknowledged, Waiters, needed
from mmrepl.types import NodeId
from tests.replication.world import World

PARIS, OLD = NodeId("paris", 1), NodeId("paris", 2)


class Plain:
    """The same, obviously right."""

    def __init__(self):
        self.waiting = []

    def add(self, node, counter, wanted, token):
        self.waiting.append((node, counter, wanted, token))

    def discard(self, token):
        self.waiting = [entry for entry in self.waiting if entry[3] != token]

    def satisfied(self, vectors, member_count):
        done = [
            token
            for node, counter, wanted, token in self.waiting
            if sum(vector.counter(node) >= counter for vector in vectors) >= needed(wanted, member_count)
        ]
        for token in done:
            self.discard(token)
        return done


vectors = st.lists(
    st.builds(lambda a, b: VersionVector({PARIS: a, OLD: b}), st.integers(0, 5), st.integers(0, 5)),
    min_size=1,
    max_size=5,
)
steps = st.one_of(
    st.tuples(
        st.just("add"),
        st.sampled_from([PARIS, OLD]),
        st.integers(1, 5),
        st.sampled_from([1, 2, 3, 9, "majority", "all"]),
    ),
    st.tuples(st.just("discard"), st.integers(0, 10)),
    st.tuples(st.just("satisfied"), vectors, st.integers(1, 6)),
)


@given(st.lists(steps, max_size=30))
def test_the_heaps_are_the_list(script):
    """Whatever is added, given up and confirmed, in whatever order."""
    clever, plain, serial = Waiters(), Plain(), 0
    for step in script:
        if step[0] == "add":
            for each in (clever, plain):
                each.add(*step[1:], serial)
            serial += 1
        elif step[0] == "discard":
            for each in (clever, plain):
                each.discard(step[1])
        else:
            member_count = max(step[2], len(step[1]))  # those heard of are members
            assert sorted(clever.satisfied(step[1], member_count)) == sorted(plain.satisfied(step[1], member_count))
        assert len(clever) == len(plain.waiting)
        assert bool(clever) == bool(plain.waiting)


@pytest.mark.parametrize(
    ("wanted", "members", "count"),
    [(1, 3, 1), (7, 3, 7), ("majority", 1, 1), ("majority", 2, 2), ("majority", 5, 3), ("all", 4, 4)],
)
def test_how_many_that_is(wanted, members, count):
    """A number is a number, however few there are; a majority is more than half."""
    assert needed(wanted, members) == count


@pytest.mark.parametrize("wanted", [0, -1, True, 2.0, "most", None])
def test_what_means_nothing_is_refused(wanted):
    """As a mistake of the caller, before anything waits."""
    waiters = Waiters()
    with pytest.raises(UsageError, match="majority"):
        waiters.add(PARIS, 1, wanted, "token")
    assert not waiters


# -- through cores


def meshed(*names, **options):
    world = World(*names, **options)
    world.mesh()
    world.run(1000)
    return world


def done(site):
    return [event.token for event in site.events if isinstance(event, Acknowledged)]


def test_all_means_all_members_at_the_moment():
    """One that leaves is waited for no longer; one that comes is."""
    world = meshed("lima", "paris", "tokyo")
    paris = world["paris"]
    world.hold("tokyo", "paris")
    paris.core.wait_for(paris.put("k", 1), "all", "one")
    world.run(2000)
    assert not done(paris)
    paris.core.remove("tokyo")
    world.run(100)
    assert done(paris) == ["one"]
    world.add("oslo")
    for name in ("lima", "paris"):
        world.connect("oslo", name)
    world.run(1000)
    world.hold("oslo", "paris")
    world.hold("oslo", "lima")
    paris.core.wait_for(paris.put("k", 2), "all", "two")
    world.run(2000)
    assert done(paris) == ["one"]
    world.held.clear()
    world.run(1000)
    assert done(paris) == ["one", "two"]


def test_an_acknowledgement_means_durable_there():
    """What a member has applied and not yet written down does not count."""
    world = meshed("paris", "tokyo")
    paris, tokyo = world["paris"], world["tokyo"]
    tokyo.slow = True
    paris.core.wait_for(paris.put("k", 1), 2, "token")
    world.run(2000)
    assert tokyo.get("k") == 1
    assert not done(paris)
    tokyo.flush()
    world.run(0)
    assert done(paris) == ["token"], "at once, not with the next heartbeat"


def test_our_own_disk_counts_as_one():
    """A write that is durable at another and not here is not acknowledged by one."""
    world = meshed("paris", "tokyo")
    paris = world["paris"]
    paris.slow = True
    paris.core.wait_for(paris.put("k", 1), 1, "token")
    world.run(1000)
    assert not done(paris)
    paris.flush()
    world.run(0)
    assert done(paris) == ["token"]


def test_in_a_line_acknowledgements_come_the_way_back():
    """The ends never meet; what the far end has is told by the middle."""
    world = World("a", "b", "c")
    world.connect("a", "b")
    world.connect("b", "c")
    world.run(2000)
    world["a"].core.wait_for(world["a"].put("k", 1), "all", "token")
    world.run(3000)
    assert done(world["a"]) == ["token"]


def test_a_member_that_lost_its_disk_confirms_only_what_it_has():
    """What it said before it was wiped says nothing of what it has now: not in a line, where others pass it on."""
    world = World("a", "b", "c")
    world.connect("a", "b")
    world.connect("b", "c")
    world.run(2000)
    world["a"].put("k", 1)
    world.settle()
    world.run(2000)
    world["c"].wipe()
    world.connect("b", "c")
    world.settle()
    world.run(2000)
    world["a"].core.wait_for(world["a"].put("k", 2), "all", "token")
    world.run(3000)
    assert done(world["a"]) == ["token"]


def test_who_gives_up_waiting_is_told_nothing():
    """And costs nothing any more."""
    world = meshed("paris", "tokyo")
    paris = world["paris"]
    world.cut("paris", "tokyo")
    paris.core.wait_for(paris.put("k", 1), 2, "token")
    paris.core.stop_waiting("token")
    world.connect("paris", "tokyo")
    world.run(1000)
    assert not done(paris)
    assert not paris.core.waiters
