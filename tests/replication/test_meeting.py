"""Clusters that meet: strangers, who rejoins whom, and parts of one cluster that come together again."""

from __future__ import annotations

import pytest

from mmrepl.causality.version_vector import VersionVector
from mmrepl.types import NodeId
from mmrepl.wire.messages import Delta, Digest
from tests.replication.world import World, dialled_again_and_again, meshed


def test_two_clusters_that_meet_stay_apart_and_say_so():
    """Nobody's data are set aside because of a wrong address."""
    world = World("a", "b", "x", "y")
    world.connect("a", "b")
    world.connect("x", "y")
    world.run(500)
    for name in "abxy":
        world[name].put(name, 1)
    world.run(500)
    nodes = {name: site.node for name, site in world.sites.items()}
    for _ in range(8):
        world.connect("a", "x")
        world.run(500)
        assert not world.between("a", "x")
    assert {name: site.node for name, site in world.sites.items()} == nodes
    assert any(text.startswith("rejoin") for text in world["a"].core.complaints)
    assert any(text.startswith("rejoin") for text in world["x"].core.complaints)


@pytest.mark.parametrize("forgotten", [False, True])
def test_of_two_clusters_one_is_made_by_taking_the_nodes_out_of_the_other(forgotten):
    """The one that is left rejoins, with what all of them had written, and brings nothing back that was deleted."""
    world = World("a", "b", "x", "y", options={"cut_operations": 1})
    world.connect("a", "b")
    world.connect("x", "y")
    world.run(500)
    for name in "abxy":
        world[name].put(name, 1)
        if forgotten:
            world[name].put("gone", name)
            world[name].delete("gone")
    world.run(3000)
    for _ in range(8):
        world.connect("a", "x")
        world.run(500)
        assert not world.between("a", "x")
    world["x"].core.remove("y")
    for _ in range(3):
        world.run(1500)
        world.connect("a", "x")
    world.run(1500)
    assert world["a"].core.members.names() == world["x"].core.members.names() == ["a", "b", "x"]
    for name in "abx":
        assert [world[name].get(key) for key in ("a", "b", "x", "y", "gone")] == [1, 1, 1, 1, None]


def test_who_is_alone_and_has_forgotten_rejoins_by_itself():
    """Its silence about a key may be a forgotten tombstone: it must not be merged as if it had never been deleted."""
    world = World("lima", "paris")
    world.connect("lima", "paris")
    world.run(500)
    world["lima"].put("cluster", 1)
    world.settle()
    tokyo = world.add("tokyo", options={"cut_operations": 1})
    tokyo.put("gone", 1)
    tokyo.delete("gone")
    tokyo.put("kept", 2)
    world.run(2000)
    assert tokyo.core.rejoin.has_forgotten
    before = tokyo.node
    world.connect("tokyo", "lima")
    world.run(300)
    world.connect("tokyo", "lima")
    world.settle()
    assert tokyo.node != before
    for site in world.sites.values():
        assert site.get("kept") == 2
        assert site.get("cluster") == 1
        assert site.get("gone") is None


def test_two_that_are_alone_and_have_forgotten_come_together():
    """One of them starts over, and loses nothing."""
    world = World("lima", "paris", options={"cut_operations": 1})
    for name in ("lima", "paris"):
        world[name].put("gone", name)
        world[name].delete("gone")
        world[name].put(name, 1)
    world.run(2000)
    for _ in range(3):
        if not world.between("lima", "paris"):
            world.connect("lima", "paris")
        world.run(500)
    world.settle()
    for name in ("lima", "paris"):
        assert world[name].get("lima") == 1
        assert world[name].get("paris") == 1
        assert world[name].get("gone") is None


def test_a_wiped_member_that_wrote_before_it_met_anybody_rejoins():
    """Its name is a member's, its incarnation is not: what it wrote knows of no tombstone."""
    world = meshed("lima", "paris", "tokyo")
    world["paris"].put("k", 1)
    world.settle()
    world["tokyo"].wipe()
    world["tokyo"].put("early", 1)
    world.run(50)
    before = world["tokyo"].node
    for _ in range(2):
        world.connect("tokyo", "paris")
        world.run(500)
        if world.between("tokyo", "paris"):
            break
    assert world["tokyo"].node != before
    world.connect("tokyo", "lima")
    world.settle()
    assert world["lima"].get("early") == 1
    assert world["tokyo"].get("k") == 1


def test_a_wiped_member_rejoins_also_at_a_member_that_was_restarted():
    """That one was told to expect somebody at its address, long ago: it has met and forgotten since."""
    world = World("tokyo", "paris")
    for name, other in (("tokyo", "paris"), ("paris", "tokyo")):
        world[name].options = {"expected": (f"{other}:1",), "cut_operations": 1}
        world[name].restart()
    world.connect("tokyo", "paris")
    world["tokyo"].put("k", 1)
    world["tokyo"].delete("k")
    world.settle()
    world.run(3000)
    assert world["tokyo"].core.rejoin.has_forgotten
    world["tokyo"].restart()
    world["paris"].skew_ms = -200_000
    world["paris"].wipe()
    world["paris"].put("k", "before it knew")
    world.run(50)
    before = world["paris"].node
    for _ in range(2):
        world.connect("tokyo", "paris")
        world.run(500)
    assert world["paris"].node != before
    world.settle()


def test_somebody_expected_only_lately_is_a_stranger():
    """Nobody waited for it when deletions were forgotten: that the configuration names it now changes nothing."""
    world = World("lima", "paris", options={"cut_operations": 1})
    world.connect("lima", "paris")
    world["lima"].put("k", 1)
    world["lima"].delete("k")
    world.settle()
    world.run(3000)
    lima = world["lima"]
    lima.options = {**lima.options, "expected": ("tokyo:1",)}
    lima.restart()
    tokyo = world.add("tokyo")
    tokyo.put("k", "of its own")
    world.run(50)
    before = tokyo.node
    world.connect("lima", "tokyo")
    world.run(300)
    assert tokyo.node != before


def test_that_a_stranger_takes_us_for_a_member_proves_nothing():
    """It was admitted by another newcomer, and has our name from our own hello, with which we refused it."""
    world = World("lima", "paris", options={"cut_operations": 1})
    world.connect("lima", "paris")
    world["lima"].put("k", 1)
    world["lima"].delete("k")
    world.settle()
    world.run(3000)
    world["paris"].wipe()
    tokyo = world.add("tokyo")
    for name in ("paris", "tokyo"):
        world[name].put(name, 1)
    world["paris"].core.members.met(world["lima"].node, "lima:1", "")
    world.connect("paris", "tokyo")
    world.run(500)
    assert tokyo.core.rejoin.admitted
    tokyo.core.rejoin.admit(world["lima"].node)
    before = tokyo.node
    world.connect("tokyo", "lima")
    world.run(300)
    assert tokyo.node != before


def test_whoever_was_admitted_by_one_that_has_left_is_a_stranger():
    """
    Paris let oslo in, and before anybody else heard of it paris started over, and forgot.

    Nobody waits for oslo's acknowledgement then: a deletion may be forgotten that it has never heard of.
    """
    world = meshed("lima", "paris", "tokyo", options={"cut_operations": 1})
    for other in ("lima", "tokyo"):
        world.cut("paris", other)
    oslo = world.add("oslo")
    world.connect("oslo", "paris")
    world.run(500)
    assert oslo.core.rejoin.admitted_by == [world["paris"].node]
    oslo.put("k", "unseen")
    world.cut("oslo", "paris")
    world["paris"].wipe()
    world.connect("paris", "lima")
    world.connect("paris", "tokyo")
    world["lima"].put("k", 1)
    world["lima"].delete("k")
    world.run(5000)
    assert world["lima"].core.rejoin.has_forgotten
    before = oslo.node
    world.connect("oslo", "lima")
    world.run(300)
    assert oslo.node != before


def test_a_newcomer_asks_nobody_to_rejoin():
    """It has met a member, which has not told it yet who the others are: whoever comes first has to come again."""
    world = meshed("lima", "paris")
    world["lima"].put("k", 1)
    world.settle()
    oslo = world.add("oslo")
    oslo.core.members.met(NodeId("tokyo", 1), "tokyo:1", "")
    nodes = {name: site.node for name, site in world.sites.items()}
    world.connect("oslo", "paris")
    world.run(300)
    assert not world.between("oslo", "paris")
    assert not world["paris"].core.complaints, "it is nobody's fault"
    assert {name: site.node for name, site in world.sites.items()} == nodes


def test_a_newcomer_whose_sponsor_is_gone_does_not_wait_for_ever():
    """It has nothing that anybody's writes could disagree with."""
    world = meshed("lima", "paris")
    world["lima"].put("k", 1)
    world.settle()
    oslo = world.add("oslo")
    oslo.core.members.met(NodeId("tokyo", 1), "tokyo:1", "")
    world.run(6000)
    world.connect("oslo", "paris")
    world.settle()
    assert oslo.get("k") == 1


def left_behind(*, has_forgotten):
    """Oslo is a member and knows many others, and then all those lose their memories, and delete and forget."""
    world = meshed("lima", "paris", "tokyo", "oslo", options={"cut_operations": 1})
    oslo = world["oslo"]
    oslo.put("k", 1)
    if has_forgotten:
        oslo.delete("k")
        world.settle()
        world.run(3000)
    assert oslo.core.rejoin.has_forgotten is has_forgotten
    for other in ("lima", "paris", "tokyo"):
        world.cut("oslo", other)
    for other in ("lima", "paris", "tokyo"):
        world[other].wipe()
    world.connect("lima", "paris")
    world.connect("lima", "tokyo")
    world.connect("paris", "tokyo")
    world["lima"].put("gone", 1)
    world["lima"].delete("gone")
    oslo.put("more", 1)
    world.run(5000)
    assert world["lima"].core.rejoin.has_forgotten
    return world


@pytest.mark.parametrize("has_forgotten", [False, True])
def test_two_that_ask_each_other_to_rejoin_do_not_stay_apart_for_ever(has_forgotten):
    """Whoever held oslo for a member is gone: it is oslo that starts over, once it has seen that the others do not."""
    world = left_behind(has_forgotten=has_forgotten)
    before = {name: site.node for name, site in world.sites.items()}
    for _ in range(12):
        for other in ("lima", "paris", "tokyo"):
            if not world.between("oslo", other):
                world.connect("oslo", other)
            world.run(300)
    world.settle()
    assert {name for name, site in world.sites.items() if site.node != before[name]} == {"oslo"}
    for site in world.sites.values():
        assert (site.get("more"), site.get("gone")) == (1, None)


@pytest.mark.parametrize("size", [2, 3])
def test_a_cluster_that_came_apart_into_two_comes_together(size):
    """
    Cleo lost its disk, and met dan before those who had known it. Both are whole clusters, and cleo is in both.

    The smaller one starts over, one after the other; of equal ones that whose last name comes first. Nothing is lost.
    """
    ours, theirs = ["ada", "bob"], ["dan", "eve"][: size - 1]
    world = World(*ours, "cleo", *theirs)
    for other in ("ada", "cleo"):
        world.connect("bob", other)
    for other in theirs[1:]:
        world.connect("dan", other)
    world.run(1000)
    world["cleo"].wipe()
    world.connect("cleo", "dan")
    world.run(500)
    for site in world.sites.values():
        site.put(site.name, 1)
        world.run(300)
    before = {name: site.node for name, site in world.sites.items()}
    dialled_again_and_again(
        world, [("ada", "bob"), ("bob", "cleo"), *(("dan", other) for other in ("cleo", *theirs[1:]))]
    )
    world.settle()
    changed = {name for name, site in world.sites.items() if site.node != before[name]}
    assert changed == ({"cleo", "dan"} if size == 2 else {"ada", "bob"})
    for site in world.sites.values():
        assert {site.get(name) for name in world.sites} == {1}


def test_parts_that_were_told_of_each_other_come_together():
    """They have no name in common: each was made of nodes that had rejoined one of themselves. But they were told."""
    world = World("ada", "bob", "cleo", "dan", options={"cut_operations": 1})
    for one, other in (("ada", "bob"), ("cleo", "dan")):
        world.connect(one, other)
        world[one].put(one, 1)
        world[one].put("gone", 1)
        world[one].delete("gone")
    world.run(5000)
    bob, cleo = world["bob"].core, world["cleo"].core
    assert bob.rejoin.has_forgotten
    assert cleo.rejoin.has_forgotten
    bob.members.expected.add("cleo:1")
    nodes = {name: world[name].node for name in ("cleo", "dan")}
    dialled_again_and_again(world, [("ada", "bob"), ("bob", "cleo"), ("cleo", "dan")])
    world.settle()
    assert {name: world[name].node for name in ("cleo", "dan")} == nodes
    assert world["dan"].get("ada") == world["ada"].get("cleo") == 1


def test_whoever_removed_its_only_fellow_does_not_rejoin_it():
    """However often that one comes: it belongs to nobody else."""
    world = meshed("lima", "paris")
    world["lima"].put("k", 1)
    world.settle()
    paris = world["paris"]
    paris.core.remove("lima")
    world.run(300)
    now = paris.node
    dialled_again_and_again(world, [("lima", "paris")], 12)
    assert paris.node == now
    assert not world.between("lima", "paris")


@pytest.mark.parametrize("is_alone", [False, True])
def test_whoever_removed_a_member_and_then_lost_its_own_sponsors_rejoins(is_alone):
    """Paris removed lima, nobody heard of it, and paris came back as somebody else: lima is the cluster, not paris."""
    world = meshed("lima", "paris", "tokyo")
    world["lima"].put("k", 1)
    world.settle()
    for other in ("lima", "tokyo"):
        world.cut("paris", other)
    paris = world["paris"]
    paris.core.remove("lima")
    if is_alone:
        del paris.core.members.entries["tokyo"]
    world.run(300)
    paris.core.local.become(NodeId("paris", 7))
    paris.core.rejoin.opened()
    paris.core.members.became(NodeId("paris", 7))
    paris.put("unseen", 1)
    world.run(300)
    dialled_again_and_again(world, [("lima", "paris")], 12)
    world.settle()
    assert world["tokyo"].get("unseen") == 1
    assert paris.get("k") == 1


def test_whoever_has_the_name_of_a_member_without_its_memory_does_not_hold_us_for_one():
    """Unless it says that it continues it."""
    rejoin = meshed("lima", "paris")["lima"].core.rejoin
    (paris,) = rejoin.admitted_by
    again = NodeId("paris", 7)
    rejoin.met(again, [paris])
    assert rejoin.admitted_by == [paris]
    rejoin.met(again, [])
    assert not rejoin.admitted


def test_a_node_that_rejoins_lets_nobody_in_before_it_belongs():
    """Not even whom it was told to expect: that one may have to rejoin as well."""
    world = meshed("lima", "paris", options={"cut_operations": 1})
    world["lima"].put("gone", 1)
    world["lima"].delete("gone")
    world.settle()
    world.run(3000)
    oslo = world.add("oslo", options={"expected": ("tokyo:1", "lima:1")})
    tokyo = world.add("tokyo", options={"expected": ("oslo:1",)})
    for site in (oslo, tokyo):
        site.put(site.name, 1)
    world.run(100)
    world.connect("oslo", "lima")
    world.run(100)
    first = oslo.node
    assert oslo.core.rejoin.wanted_by == "lima"
    world.connect("tokyo", "oslo")
    world.run(300)
    assert not world.between("tokyo", "oslo")
    world.connect("oslo", "lima")
    world.run(500)
    assert oslo.core.rejoin.admitted
    before = tokyo.node
    world.connect("tokyo", "oslo")
    world.run(300)
    assert tokyo.node != before
    assert oslo.node == first
    world.connect("tokyo", "oslo")
    world.connect("oslo", "paris")
    world.settle()
    assert world["paris"].get("tokyo") == world["paris"].get("oslo") == 1


def test_a_hostile_claim_to_more_of_our_counter_costs_incarnations_but_a_bounded_number():
    """Each is believed, for it may be true; nothing is lost; after a few the peer is no longer listened to."""
    world = meshed("paris", "tokyo")
    world["paris"].put("k", 1)
    world.settle()
    mark = len(world.said)
    for _ in range(30):
        if not world.between("paris", "tokyo"):
            world.connect("tokyo", "paris")
            world.run(100)
        if world.between("paris", "tokyo"):
            claim = VersionVector({world["paris"].node: 2**47 - 2})
            vector = [(o.name, o.incarnation, c) for o, c in world["tokyo"].version.join(claim).items()]
            world.inject("tokyo", "paris", Digest(vector, 0, world["paris"].wall_ms))
        world.run(100)
    world.run(30_000)
    if not world.between("paris", "tokyo"):
        world.connect("tokyo", "paris")
    world.run(5000)
    assert world["paris"].get("k") == 1
    assert len(world["paris"].version) <= 10
    assert any("not believed" in text for text in world["paris"].core.complaints)
    assert world.said_count(Delta, mark) < 100
