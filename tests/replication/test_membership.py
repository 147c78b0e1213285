"""Who belongs to the cluster: a map that converges, and what it means to come, go, be removed and return."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrepl.causality.context import BLIND
from mmrepl.causality.version_vector import VersionVector
from mmrepl.errors import FrameError, UsageError
from mmrepl.ports import Durability
from mmrepl.replication.membership import ENTRIES_MAX, Membership
from mmrepl.types import NodeId
from mmrepl.wire.codec import encode
from mmrepl.wire.messages import Delta, Digest, MemberEntry, Members
from tests.replication.world import World

entries = st.builds(
    MemberEntry,
    name=st.sampled_from(["lima", "oslo", "tokyo"]),
    incarnation=st.integers(1, 3),
    address=st.sampled_from(["", "a:1", "b:1"]),
    edit=st.integers(1, 3),
    removed=st.booleans(),
)
maps = st.lists(entries, max_size=4).map(Members)


def merged(*messages):
    membership = Membership(NodeId("paris", 1), "p:1")
    for message in messages:
        membership.merge(message)
    return membership


@given(maps, maps, maps)
def test_merging_is_a_lattice_join(a, b, c):
    """Commutative, associative, idempotent: maps that were edited apart become one, whatever the order."""
    ab, ba = merged(a, b), merged(b, a)
    assert ab.entries == ba.entries
    assert ab.view == ba.view
    assert merged(a, a).entries == merged(a).entries
    assert merged(merged(a, b).message(), c).entries == merged(a, merged(b, c).message()).entries


@given(maps, maps)
def test_merging_only_climbs(a, b):
    """No entry is ever replaced by a lower one, and nothing changes without being noted."""
    membership = merged(a)
    before = dict(membership.entries)
    membership.changed = False
    membership.merge(b)
    for name, entry in before.items():
        now = membership.entries[name]
        assert (now.edit, now.removed, now.incarnation, now.address) >= (
            entry.edit,
            entry.removed,
            entry.incarnation,
            entry.address,
        )
    assert membership.changed == (membership.entries != before)


def test_the_view_counts_members_incarnations_and_who_is_expected():
    """And nothing else: not addresses, not edits, not those that were removed."""
    plain = Membership(NodeId("paris", 1), "p:1")
    same = Membership(NodeId("paris", 1), "q:1")
    assert plain.view == same.view
    assert plain.view != Membership(NodeId("paris", 2), "p:1").view
    assert plain.view != Membership(NodeId("paris", 1), "p:1", ["t:1"]).view
    before = plain.view
    plain.met(NodeId("tokyo", 1), "t:1", "")
    with_tokyo = plain.view
    assert with_tokyo != before
    plain.met(NodeId("tokyo", 2), "t:1", "")
    assert plain.view not in (before, with_tokyo)
    plain.remove("tokyo")
    assert plain.view == before


def test_expected_addresses_are_met_by_either_name():
    """Where we dialled, or where the peer says it is."""
    for address, dialled in (("t:1", ""), ("other:1", "t:1")):
        membership = Membership(NodeId("paris", 1), "p:1", ["t:1", "p:1"])
        assert membership.expected == {"t:1"}
        membership.met(NodeId("tokyo", 1), address, dialled)
        assert not membership.expected


def test_an_address_that_led_to_a_member_is_remembered():
    """A node that listens at 0.0.0.0 says so; it is found again where it was found."""
    membership = Membership(NodeId("paris", 1), "p:1", ["host:1"])
    membership.met(NodeId("tokyo", 1), "0.0.0.0:1", "host:1")
    assert membership.addresses_of(membership.entries["tokyo"]) == {"0.0.0.0:1", "host:1"}


def test_removing_takes_a_member_or_an_address():
    """Anything else is refused, with the names that there are."""
    membership = Membership(NodeId("paris", 1), "p:1", ["x:1"])
    membership.remove("x:1")
    assert not membership.expected
    with pytest.raises(UsageError, match="paris"):
        membership.remove("nobody")


@pytest.mark.parametrize(
    "entry",
    [
        MemberEntry("x", 1, "a:1", 2**64 - 1, removed=False),
        MemberEntry("x", 1, "a:1", -1, removed=False),
        MemberEntry("x", 2**63, "a:1", 1, removed=False),
        MemberEntry("", 1, "a:1", 1, removed=False),
        MemberEntry("x" * 2000, 1, "a:1", 1, removed=False),
        MemberEntry("x", 1, "a" * 2000, 1, removed=False),
    ],
)
def test_a_map_that_no_node_makes_is_refused_whole(entry):
    """Edit numbers cannot be driven to where the next one does not fit a message."""
    membership = merged()
    with pytest.raises(FrameError):
        membership.merge(Members([MemberEntry("fine", 1, "f:1", 1, removed=False), entry]))
    assert membership.names() == ["paris"]


def test_a_map_is_bounded():
    """Those removed count: they are remembered for ever."""
    membership = merged(*(Members([MemberEntry(f"n{i}", 1, "", 1, removed=True)]) for i in range(ENTRIES_MAX - 1)))
    with pytest.raises(FrameError, match="4096"):
        membership.merge(Members([MemberEntry("one more", 1, "", 1, removed=False)]))


def test_a_map_survives_a_restart():
    """What was saved is what is known; of ourselves this run knows better."""
    membership = merged(Members([MemberEntry("tokyo", 7, "t:1", 3, removed=False)]))
    saved = encode(membership.message())[1]
    again = Membership(NodeId("paris", 2), "new:1")
    again.restore(saved)
    assert again.names() == ["paris", "tokyo"]
    assert again.entries["paris"].incarnation == 2
    assert again.entries["paris"].address == "new:1"
    assert again.entries["paris"].edit > membership.entries["paris"].edit


def test_whoever_was_met_in_an_earlier_run_is_not_expected_again():
    """Else its address would let in whoever came from there with writes of its own, after deletions were forgotten."""
    membership = merged(
        Members([
            MemberEntry("tokyo", 7, "t:1", 3, removed=False),
            MemberEntry("lima", 7, "l:1", 3, removed=True),
        ])
    )  # fmt: skip
    again = Membership(NodeId("paris", 1), "p:1", ["t:1", "l:1", "o:1"])
    again.restore(encode(membership.message())[1])
    assert again.expected == {"l:1", "o:1"}
    assert again.addresses() == ["l:1", "o:1", "t:1"]


def test_a_removed_node_does_not_come_back_by_restarting():
    """Else one member that had not heard of the removal would undo it for all."""
    membership = merged(Members([MemberEntry("paris", 1, "p:1", 9, removed=True)]))
    again = Membership(NodeId("paris", 1), "p:1")
    again.restore(encode(membership.message())[1])
    assert again.was_removed("paris", [NodeId("paris", 1)])
    fresh = Membership(NodeId("paris", 2), "p:1")
    fresh.restore(encode(membership.message())[1])
    assert not fresh.was_removed("paris", [NodeId("paris", 2)])
    continuing = Membership(NodeId("paris", 2), "p:1")
    continuing.restore(encode(membership.message())[1], [NodeId("paris", 1)])
    assert continuing.was_removed("paris", [NodeId("paris", 2)])


# -- through cores


def meshed(*names, **options):
    world = World(*names, **options)
    world.mesh()
    world.run(1000)
    return world


def views(world):
    return {site.core.members.view for site in world.sites.values()}


def test_everybody_comes_to_the_same_view():
    """In a line, too, where the ends never meet."""
    world = World("a", "b", "c", "d")
    for pair in ("ab", "bc", "cd"):
        world.connect(*pair)
    world.run(2000)
    assert len(views(world)) == 1
    assert world["a"].core.members.names() == ["a", "b", "c", "d"]
    assert all(site.core.rejoin.admitted for site in world.sites.values())


def test_a_newcomer_needs_to_know_but_one():
    """The rest it learns, and is told where to find them."""
    world = meshed("lima", "paris", "tokyo")
    world.add("oslo")
    world.connect("oslo", "lima")
    world.run(500)
    assert world["oslo"].core.missing_addresses() == ["paris:1", "tokyo:1"]
    assert world["paris"].core.missing_addresses() == ["oslo:1"]


@pytest.mark.parametrize("first", ["lima", "paris", "tokyo"])
def test_a_newcomer_never_makes_a_member_start_over(first):
    """It meets them one by one, and each but the first before it has been told who they are."""
    world = meshed("lima", "paris", "tokyo")
    for name in ("lima", "paris", "tokyo"):
        world[name].put(name, 1)
    world.settle()
    nodes = {name: world[name].node for name in world.sites}
    world.add("oslo")
    world.connect("oslo", first)
    for name in sorted({"lima", "paris", "tokyo"} - {first}):
        world.connect(name, "oslo")
    world.settle()
    assert {name: world[name].node for name in nodes} == nodes
    assert not any(site.core.complaints for site in world.sites.values())


def test_a_member_that_leaves_is_waited_for_no_longer():
    """Its writes stay; stability and acknowledgements go on without it."""
    world = meshed("lima", "paris", "tokyo")
    world["tokyo"].put("t", 1)
    world.settle()
    world["tokyo"].core.leave()
    world.run(500)
    for name in ("lima", "paris"):
        assert world[name].core.members.names() == ["lima", "paris"]
        assert world[name].get("t") == 1
        assert not world[name].core.complaints
    del world.sites["tokyo"]
    world["paris"].put("p", 1)
    world.run(1000)
    assert world["paris"].core.watermark.counter(world["paris"].node) == 1


def test_leaving_does_not_make_anybody_start_over():
    """Not even who is set to rejoin when removed."""
    world = meshed("paris", "tokyo", options={"rejoin": True})
    world["tokyo"].put("t", 1)
    world["paris"].put("p", 1)
    world.settle()
    nodes = {name: site.node for name, site in world.sites.items()}
    world["tokyo"].core.leave()
    world.run(500)
    assert {name: site.node for name, site in world.sites.items()} == nodes
    assert world["tokyo"].get("p") == 1


def test_a_removed_member_is_told_and_kept_out():
    """By those that removed it, and by those that only heard of it."""
    world = meshed("lima", "paris", "tokyo")
    world["paris"].core.remove("tokyo")
    world.run(500)
    assert world.between("lima", "paris")
    assert not world.between("paris", "tokyo")
    assert not world.between("lima", "tokyo")
    for name in ("lima", "paris"):
        world.connect("tokyo", name)
        world.run(200)
        assert not world.between(name, "tokyo")
    assert world["tokyo"].core.missing_addresses() == []
    assert any("removed" in text for text in world["tokyo"].core.complaints)


@pytest.mark.parametrize("rejoin", [False, True])
def test_a_removed_member_that_was_killed_under_weak_writes_is_removed_still(rejoin):
    """
    Its new incarnation continues the one that was taken out.

    Taken for a stranger it had the remover, alone by now, start over for its sake: what that one had deleted since, and
    forgotten, rose again.
    """
    world = meshed("lima", "paris", options={"cut_operations": 1, "rejoin": rejoin})
    lima, paris = world["lima"], world["paris"]
    lima.put("gone", 1)
    world.settle()
    world.cut("lima", "paris")
    paris.core.remove("lima")
    paris.delete("gone")
    world.run(2000)
    assert paris.core.rejoin.has_forgotten
    before, first = paris.node, lima.node
    lima.put("unseen", 2, durability=Durability.NONE)
    world.run(300)
    lima.restart()
    assert lima.node != first
    assert first in lima.core.local.continues
    dialled_again_and_again(world, [("lima", "paris")], 8)
    assert paris.node == before
    assert bool(world.between("lima", "paris")) is rejoin
    assert paris.get("gone") is None
    if rejoin:
        world.settle()
        assert lima.get("gone") is None
        assert paris.get("unseen") == 2


def test_a_member_hears_of_its_removal_in_an_incarnation_that_it_continues():
    """By the map that spreads; it neither contradicts nor stays."""
    world = meshed("lima", "paris", "tokyo")
    world["tokyo"].put("k", 1, durability=Durability.NONE)
    world.settle()
    old = world["tokyo"].node
    world["tokyo"].restart()
    assert world["tokyo"].node != old
    world.cut("lima", "paris")
    world["paris"].core.remove("tokyo")
    world.connect("tokyo", "lima")
    world.run(300)
    edit = world["lima"].core.members.entries["tokyo"].edit
    entry = MemberEntry("tokyo", old.incarnation, "tokyo:1", edit, removed=True)
    world.inject("lima", "tokyo", Members([entry]))
    world.run(3000)
    assert not world.between("lima", "tokyo")
    assert world["tokyo"].core.members.entries["tokyo"].removed
    assert not any("name-in-use" in text for text in world["tokyo"].core.complaints)


def test_removing_a_member_does_not_make_the_remover_start_over():
    """It hears that the other was removed, and must not take that for itself, even when set to rejoin."""
    world = meshed("paris", "tokyo", options={"rejoin": True})
    world["paris"].put("p", 1)
    world.settle()
    before = world["paris"].node
    world["paris"].core.remove("tokyo")
    world.run(500)
    assert world["paris"].node == before
    assert world["paris"].get("p") == 1


def test_a_removed_member_returns_as_a_new_incarnation():
    """With *rejoin*: it brings what nobody has seen, and nothing that was deleted meanwhile."""
    world = meshed("lima", "paris", "tokyo", options={"rejoin": True})
    world["tokyo"].put("seen", 1)
    world.settle()
    for other in ("lima", "paris"):
        world.cut("tokyo", other)
    world["tokyo"].put("unseen", 2)
    world["paris"].core.remove("tokyo")
    world["paris"].delete("seen")
    world.run(500)
    before = world["tokyo"].node
    world.connect("tokyo", "paris")
    world.run(300)
    assert world["tokyo"].node != before
    world.connect("tokyo", "paris")
    world.settle()
    for name in ("lima", "paris", "tokyo"):
        assert world[name].get("unseen") == 2
        assert world[name].get("seen") is None
        assert world[name].core.members.is_member("tokyo")


def returning_with_a_stranger():
    """
    Bob was removed, and took cleo in before it heard of that. Cleo holds a write of bob's.

    Ada wrote a deletion that is later than this, and has forgotten it; eve has not. Then bob comes back.
    """
    world = World("ada", "bob", "eve", options={"rejoin": True})
    ada, bob = world["ada"], world["bob"]
    ada.options = {**ada.options, "cut_operations": 1}
    ada.restart()
    world.mesh()
    world.run(1000)
    for other in ("ada", "eve"):
        world.cut("bob", other)
    ada.core.remove("bob")
    bob.put("k", "of bob")
    world.add("cleo", options={"rejoin": True})
    world.connect("cleo", "bob")
    world.run(1000)
    ada.delete("k", context=BLIND)
    world.run(3000)
    assert ada.values("k") == []
    assert world["eve"].values("k") == [None]
    assert world["cleo"].values("k") == ["of bob"]
    dialled_again_and_again(world, [("ada", "bob"), ("bob", "cleo"), ("ada", "eve"), ("bob", "eve")], 12)
    return world


def test_whom_a_removed_member_has_let_in_does_not_come_along_with_it():
    """Cleo rejoins too: what it brings has then seen the deletion that ada has forgotten, and eve has not."""
    world = returning_with_a_stranger()
    assert {site.get("k") for site in world.sites.values()} == {"of bob"}
    assert len(views(world)) == 1
    world.check()
    assert len({site.version for site in world.sites.values()}) == 1


def test_what_it_was_like_when_it_did_come_along(monkeypatch):
    """Ada shows what eve holds for deleted, for ever."""
    monkeypatch.setattr(Membership, "keep", lambda _self, _nodes: None)
    world = returning_with_a_stranger()
    assert (world["ada"].get("k"), world["eve"].get("k")) == ("of bob", None)


def test_who_was_taken_out_and_has_lost_its_memory_starts_over_and_not_the_one_that_it_knows():
    """
    Ada took bob out and has forgotten deletions since; bob, restored from a backup, comes back as somebody else.

    It knows ada, and nobody knows it. Were it ada that started over, what it had deleted would be there again.
    """
    world = World("ada", "bob", options={"rejoin": True})
    ada, bob = world["ada"], world["bob"]
    ada.options = {**ada.options, "cut_operations": 1}
    ada.restart()
    world.mesh()
    ada.put("k", "of ada")
    world.run(1000)
    world.cut("ada", "bob")
    ada.core.remove("bob")
    ada.delete("k")
    ada.put("other", 1)
    world.run(3000)
    assert ada.values("k") == []
    bob.crash()
    bob.disk._doubt = "restored from a backup"
    bob.start()
    bob.put("own", 1)
    world.run(50)
    node = ada.node
    dialled_again_and_again(world, [("bob", "ada")], 12)
    assert ada.node == node
    assert (ada.get("k"), bob.get("k")) == (None, None)
    assert (ada.get("own"), bob.get("other")) == (1, 1)
    world.check()


def test_a_node_cannot_remove_itself():
    """That is what leaving is for."""
    world = World("paris")
    with pytest.raises(UsageError, match="leave"):
        world["paris"].core.remove("paris")


def test_a_map_with_an_older_self_is_set_right():
    """A node that came back empty is itself, whatever a stale map says."""
    world = meshed("paris", "tokyo")
    stale = world["paris"].core.members.message()
    world["tokyo"].wipe()
    world.connect("tokyo", "paris")
    world.run(500)
    world.inject("paris", "tokyo", Members([MemberEntry(e.name, e.incarnation, e.address, e.edit + 5, e.removed)
                                            for e in stale.entries]))  # fmt: skip
    world.run(3000)
    for name in ("paris", "tokyo"):
        assert world[name].core.members.entries["tokyo"].incarnation == world["tokyo"].node.incarnation
    assert len(views(world)) == 1


def test_two_of_one_name_at_different_members_are_named_and_do_not_storm():
    """Each contradicts the other, less and less often, and says that there seem to be two."""
    world = meshed("lima", "paris")
    world.add("tokyo")
    world.connect("tokyo", "paris")
    world.run(1000)
    impostor = MemberEntry("tokyo", 77, "evil:1", 0, removed=False)
    mark = len(world.said)
    for _ in range(100):
        edit = world["tokyo"].core.members.entries["tokyo"].edit + 1
        entry = MemberEntry(impostor.name, impostor.incarnation, impostor.address, edit, impostor.removed)
        world.inject("paris", "tokyo", Members([entry]))
        world.run(300)
    assert any("another 'tokyo'" in text for text in world["tokyo"].core.complaints)
    assert world.said_count(Members, mark, source="tokyo") < 150


def test_our_own_address_under_another_name_is_not_waited_for():
    """One configuration for all nodes may name each of them, also by another name of the host."""
    world = World()
    world.add("paris", options={"expected": ("localhost:1", "tokyo:1")})
    world.add("tokyo")
    world.connect("paris", "tokyo")
    world.run(100)
    assert world["paris"].core.missing_addresses() == ["localhost:1"]
    core = world["paris"].core
    ours = core._links[next(iter(core._links))].ours
    core.connected(99, "localhost:1", world.now, 0)
    core.receive(99, ours, world.now, 0)
    world.run(100)
    assert core.missing_addresses() == []


def test_an_expected_address_that_is_another_name_of_a_peer_is_not_waited_for():
    """The second connection is one too many, and tells where it led."""
    world = World()
    world.add("paris", options={"expected": ("localhost:1",)})
    world.add("tokyo")
    world.connect("tokyo", "paris")
    world.run(300)
    assert world["paris"].core.missing_addresses() == ["localhost:1"]
    world.connect("paris", "tokyo", dialled="localhost:1")
    world.run(300)
    assert world["paris"].core.missing_addresses() == []
    assert not world["paris"].core.members.expected
    world["paris"].put("k", 1)
    world.run(1000)
    assert world["paris"].core.watermark.counter(world["paris"].node) == 1


def test_nothing_is_stable_before_everybody_expected_was_met():
    """Who is configured and has never come may hold anything; giving the address up settles it."""
    world = World()
    world.add("paris", options={"expected": ("tokyo:1", "oslo:1")})
    world.add("tokyo")
    world.connect("paris", "tokyo")
    world["paris"].put("k", 1)
    world.run(2000)
    assert not world["paris"].core.watermark
    world["paris"].core.remove("oslo:1")
    world.run(2000)
    assert world["paris"].core.watermark == world["paris"].version


# -- clusters that meet


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


def dialled_again_and_again(world, pairs, times=30):
    """As hosts do: whenever a connection is not there."""
    for _ in range(times):
        for one, other in pairs:
            if not world.between(one, other):
                world.connect(one, other)
        world.run(300)


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
