"""Who belongs to the cluster: a map that converges, and what it means to come, go, be removed and return."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrepl.causality.context import BLIND
from mmrepl.errors import FrameError, UsageError
from mmrepl.ports import Durability
from mmrepl.replication.membership import ENTRIES_MAX, Membership
from mmrepl.types import NodeId
from mmrepl.wire.codec import encode
from mmrepl.wire.messages import MemberEntry, Members
from tests.replication.world import World, dialled_again_and_again, meshed, views

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


def test_who_makes_the_same_write_again_leaves_one():
    """Bob and cleo both rejoin with it: the second one replaces what the first has made, by its stamp."""
    world = returning_with_a_stranger()
    assert {tuple(site.values("k")) for site in world.sites.values()} == {("of bob",)}


def test_what_it_was_like_when_it_did_come_along(monkeypatch):
    """Ada shows what eve holds for deleted, for ever."""
    monkeypatch.setattr(Membership, "keep", lambda _self, _nodes: None)
    world = returning_with_a_stranger()
    assert (world["ada"].get("k"), world["eve"].get("k")) == ("of bob", None)


@pytest.mark.parametrize("killed", [False, True])
def test_who_was_taken_out_and_has_lost_its_memory_starts_over_and_not_the_one_that_it_knows(killed):
    """
    Ada took bob out and has forgotten deletions since; bob, restored from a backup, comes back as somebody else.

    It knows ada, and nobody knows it. Were it ada that started over, what it had deleted would be there again. The same
    if ada was killed meanwhile while it answered weak writes, and continues the one that bob knows.
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
    if killed:
        ada.put("weak", 1, durability=Durability.NONE)
        world.run(300)
        known = ada.node
        ada.restart()
        assert known in ada.core.local.continues
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


def forgetful(names, forgets):
    """A mesh whose nodes all know of a deletion, which the one that *forgets* has forgotten and the others have not."""
    world = World(*names)
    world[forgets].options = {"cut_operations": 1}
    world[forgets].restart()
    world.mesh()
    world[names[-1]].put("k", "deleted")
    world.settle()
    world[names[-1]].delete("k")
    world.settle()
    world.run(3000)
    assert world[forgets].core.rejoin.has_forgotten
    assert [world[name].values("k") for name in names if name != forgets] == [[None]] * (len(names) - 1)
    return world


@pytest.mark.parametrize("name", ["ada", "zoe"])
def test_who_was_let_in_without_knowing_it_starts_over_with_what_it_wrote_meanwhile(name):
    """
    Bob had its hello and holds it for a member; it never had an answer, and wrote on by a clock that is behind.

    Where the deletion was forgotten the write would live, and where it was not it would lose to it.
    """
    world = forgetful(["bob", "dave"], "bob")
    late = world.add(name)
    late.skew_ms = -60_000
    world.hold("bob", name)
    world.connect(name, "bob")
    world.run(100)
    world.cut("bob", name)
    world.release("bob", name)
    assert world["bob"].core.members.has(late.node)
    node = late.node
    late.put("k", "late")
    dialled_again_and_again(world, [(name, "bob")], 4)
    world.settle()
    assert late.node != node


def test_whom_a_newcomer_has_met_before_comes_in_by_itself():
    """
    Cleo was told to expect ada, and met it first: nobody there has forgotten anything. Bob has, and waited for neither.

    Ada writes by a clock that is behind. Brought along as a member it would not be asked to start over.
    """
    world = forgetful(["bob", "dave"], "bob")
    ada, cleo = world.add("ada"), world.add("cleo", options={"expected": ("ada:1",)})
    ada.skew_ms = -60_000
    ada.put("k", "late")
    node = ada.node
    world.told = lambda source, target, _: (source, target) == ("ada", "cleo") and world.hold("ada", "cleo")
    world.connect("ada", "cleo")
    world.run(100)
    assert cleo.core.members.has(node)
    world.connect("cleo", "bob")
    world.run(300)
    assert world["bob"].core.members.has(cleo.node)
    world.told = None
    world.release("ada", "cleo")
    dialled_again_and_again(world, [("ada", "cleo"), ("cleo", "dave")], 6)
    world.settle()
    assert ada.node != node


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
