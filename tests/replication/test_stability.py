"""What everybody has: the watermark over members, and what may be forgotten and cut below it."""

from __future__ import annotations

import pytest

from mmrepl.log.policy import LogPolicy
from mmrepl.resolvers import KeepSiblings
from mmrepl.wire.messages import Delta, Digest, Snapshot
from tests.replication.world import World

EAGER = {"cut_operations": 1}


def meshed(*names, **options):
    world = World(*names, **options)
    world.mesh()
    world.run(1000)
    return world


def test_the_watermark_follows_what_all_have():
    """Everywhere, soon after the last digest."""
    world = meshed("lima", "paris", "tokyo")
    for i in range(5):
        for site in world.sites.values():
            site.put(f"{site.name}{i}", i)
        world.run(50)
    world.settle()
    world.run(3000)
    for site in world.sites.values():
        assert site.core.watermark == site.version


def test_it_moves_under_load():
    """Also while everybody writes all the time, and each word is old when it arrives."""
    world = meshed("lima", "paris", "tokyo")
    for i in range(100):
        for site in world.sites.values():
            site.put(f"{site.name}{i}", i)
        world.run(50)
    for site in world.sites.values():
        assert all(site.core.watermark.counter(other.node) > 50 for other in world.sites.values())


def test_in_a_line_the_ends_are_waited_for_and_heard_of():
    """What is stable is stable over all members, connected or not."""
    world = World("a", "b", "c", "d")
    for pair in ("ab", "bc", "cd"):
        world.connect(*pair)
    world.run(2000)
    world["a"].put("k", 1)
    world.settle()
    world.run(3000)
    for site in world.sites.values():
        assert site.core.watermark == site.version


def test_one_that_is_away_holds_it_back_and_is_named():
    """Until it is back, or removed."""
    world = meshed("lima", "paris", "tokyo")
    for other in ("lima", "paris"):
        world.cut("tokyo", other)
    world["paris"].put("k", 1)
    world.run(5000)
    node = world["paris"].node
    assert world["paris"].core.watermark.counter(node) == 0
    world["paris"].core.remove("tokyo")
    world.run(3000)
    assert world["paris"].core.watermark.counter(node) == 1


def test_a_tombstone_is_forgotten_when_all_have_it_and_not_before():
    """And what it deleted does not rise when an old copy of it comes late."""
    world = meshed("lima", "paris", "tokyo", options=EAGER)
    world["paris"].put("k", 1)
    world.settle()
    for other in ("lima", "paris"):
        world.cut("tokyo", other)
    world["paris"].delete("k")
    world["paris"].put("l", 1)
    world.run(5000)
    store = world["paris"].core.local.store
    assert "k" in store.table("").states
    for other in ("lima", "paris"):
        world.connect("tokyo", other)
    world.settle()
    world["lima"].put("m", 1)
    world.settle()
    world.run(5000)
    for site in world.sites.values():
        assert "k" not in site.core.local.store.table("").states
        assert site.get("k") is None
        assert site.core.rejoin.has_forgotten


def test_a_write_concurrent_with_a_forgotten_tombstone_shows_alike_everywhere():
    """The sequence of events behind condition (b) of stability: tokyo's write is slow, its acknowledgement is not."""
    world = meshed("lima", "paris", "tokyo", options=EAGER, default=KeepSiblings())
    world["paris"].put("k", 1)
    world.settle()
    world.hold("tokyo", "paris")
    world["paris"].delete("k")
    world["tokyo"].put("k", 2)  # before it hears of the deletion
    world.run(3000)
    world.release("tokyo", "paris")
    world["paris"].put("l", 1)
    world.settle()
    world.run(5000)
    assert [site.get("k") for site in world.sites.values()] == [[2], [2], [2]]


def test_the_log_is_cut_below_the_watermark():
    """What all have is never asked for again."""
    world = meshed("paris", "tokyo", options=EAGER)
    for i in range(50):
        world["paris"].put(f"k{i}", i)
        world.run(20)
    world.settle()
    world.run(3000)
    for site in world.sites.values():
        log = site.core.local.store.log
        assert log.end - log.start < 10
        assert site.get("k7") == 7
    mark = len(world.said)
    world.cut("paris", "tokyo")
    world["paris"].put("late", 1)
    world.connect("paris", "tokyo")
    world.settle()
    assert world.said_count(Snapshot, mark) == 0
    assert world.said_count(Delta, mark) == 1


def test_the_policy_cuts_even_what_a_member_lacks():
    """It gets a snapshot; nothing is lost by that."""
    world = meshed("paris", "tokyo", options={**EAGER, "log": LogPolicy(operations=8)})
    world.cut("paris", "tokyo")
    for i in range(100):
        world["paris"].put(f"k{i}", i)
        world.run(20)
    world.run(1000)
    log = world["paris"].core.local.store.log
    assert log.end - log.start <= 8 + 2
    mark = len(world.said)
    world.connect("paris", "tokyo")
    world.settle()
    assert world.said_count(Snapshot, mark) >= 1


@pytest.mark.parametrize("restart", [False, True])
def test_what_was_cut_and_forgotten_stays_so_over_restarts(restart):
    """And a newcomer is given what lives, and nothing of what does not."""
    world = meshed("paris", "tokyo", options=EAGER)
    world["paris"].put("gone", 1)
    world["paris"].put("kept", 2)
    world["paris"].delete("gone")
    world.settle()
    world.run(3000)
    world["tokyo"].put("more", 3)
    world.settle()
    world.run(3000)
    if restart:
        for site in world.sites.values():
            site.restart()
        world.connect("paris", "tokyo")
        world.run(500)
    lima = world.add("lima", options=EAGER)
    world.connect("lima", "tokyo")
    world.settle()
    assert (lima.get("gone"), lima.get("kept"), lima.get("more")) == (None, 2, 3)


def test_digests_of_strangers_and_of_another_view_count_for_nothing():
    """A claim under a view that is not ours does not make anything stable."""
    world = meshed("paris", "tokyo")
    world.hold("tokyo", "paris")
    world["paris"].put("k", 1)
    world.run(500)
    vector = [(origin.name, origin.incarnation, counter) for origin, counter in world["paris"].version.items()]
    wire = world.between("paris", "tokyo")[0]
    world["paris"].core.receive(wire.ends["paris"], Digest(vector, 12345, 0), world.now, world["paris"].wall_ms)
    world.run(500)
    assert world["paris"].core.watermark.counter(world["paris"].node) == 0
