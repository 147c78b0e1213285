"""Members come and go: one at a time, jointly, and never so that two majorities do not meet."""

from __future__ import annotations

import pytest

from mmrepl.errors import MembersChanging, RemovedMember, UsageError
from mmrepl.single_master.configuration import (
    Configuration,
    History,
    decode_configuration,
    encode_configuration,
    founding,
)
from mmrepl.single_master.options import MemberState, Role
from mmrepl.types import NodeId
from mmrepl.wire.messages import Refuse
from mmrepl.wire.single_master import Append, Campaign, Vote
from tests.single_master.bench import Answered, Bench


def change(bench, **how):
    leader = bench.leader()
    token = bench.token()
    leader.core.change_members(leader.now_ms, leader.wall_ms, token=token, **how)
    bench.run(1_000)
    return leader.answer(token)


def voters(bench):
    return {node.name: node.core.history.current.voters for node in bench.living()}


def test_a_new_voter_is_a_learner_until_it_has_caught_up():
    """It is added, catches up, and is made a voter by the leader."""
    bench = Bench("abc")
    leader = bench.elect("a")
    leader.put("k", 1)
    bench.add("d")
    bench.run(500)
    seen = []
    bench.filter = lambda s, t, m: seen.append(leader.core.history.current) or True
    assert isinstance(change(bench, add=("d",)), Answered)
    assert any(c.learners == ("d",) for c in seen)
    assert set(voters(bench).values()) == {("a", "b", "c", "d")}
    assert bench["d"].value("k") == 1


def test_a_newcomer_is_told_where_the_members_are():
    """It was given the address of a follower alone; the leader can add it all the same."""
    bench = Bench("abc")
    bench.elect("a")
    bench.add("d", expected=("b",))
    bench.run(500)
    assert isinstance(change(bench, add=("d",)), Answered)
    assert set(voters(bench).values()) == {("a", "b", "c", "d")}


def test_whoever_is_a_member_looks_in_its_own_list_only():
    """What a newcomer was told is forgotten for what its own log says: no address of old is dialled for ever."""
    bench = Bench("abc")
    bench.elect("a")
    newcomer = bench.add("d", expected=("b",))
    bench.run(500)
    assert newcomer.core.wanted_addresses() == ["a", "b", "c"]
    change(bench, add=("d",))
    change(bench, remove=("c",))
    assert newcomer.core.wanted_addresses() == ["a", "b"]


def test_a_leader_that_takes_itself_out_and_falls_can_finish_what_it_began():
    """It alone holds the change, and of the other three one is gone: they need its vote, or it needs theirs."""
    bench = Bench("abcd")
    leader = bench.elect("a")
    leader.put("k", 1)
    bench.run(300)
    bench.filter = lambda source, _, message: not (source == "a" and isinstance(message, Append) and message.bodies)
    leader.core.change_members(leader.now_ms, leader.wall_ms, remove=("a",), token="away")
    bench.settle()
    assert not leader.core.history.current.is_voter("a")
    bench["d"].crash()
    leader.crash()
    bench.filter = None
    leader.start()
    bench.run(10_000)
    assert bench.leader().name in "bc"
    assert bench.leader().core.history.current.voters == ("b", "c", "d")


def test_nobody_is_told_of_its_removal_before_that_is_committed():
    """A leader that has only written the removal down falls, and is heard again: what it has may be cut off."""
    bench = Bench("abc")
    leader = bench.elect("a")
    leader.put("k", 1)
    bench.run(300)
    bench.filter = lambda source, _, message: not (source == "a" and isinstance(message, Append) and message.bodies)
    leader.core.change_members(leader.now_ms, leader.wall_ms, remove=("c",), token="away")
    bench.settle()
    assert not leader.core.history.current.is_voter("c")
    leader.crash()
    bench.run(5_000)
    assert bench.leader().name in "bc"
    bench.filter = None
    leader.start()
    bench.run(2_000)
    assert bench["c"].core.removed is None
    assert bench["a"].core.history.current.voters == ("a", "b", "c")
    assert len(bench["a"].core.reception.up()) == 2


def test_nobody_is_told_of_a_removal_that_a_later_change_has_taken_back():
    """Of both changes a follower has the entries; that the second is committed too it may not know yet."""
    bench = Bench("abc")
    leader, follower = bench.elect("a").core, bench["b"].core
    bench.run(300)
    away, members = bench["c"].core.node, leader.history.current
    without = members.with_change([], [], ["c"])
    removal = leader.members.append(without, bench["a"].wall_ms)
    leader.members.append(without.with_change([(away, "c")], [], []), bench["a"].wall_ms)
    bench.filter = lambda source, target, message: "a" not in (source, target) or bool(getattr(message, "bodies", ()))
    bench.run(100)
    assert follower.log.last == removal + 1
    told = Append(leader.term, 0, follower.log.last, leader.term, removal, [], [])
    follower.receive(bench.links["a", "b"].number, told, bench["b"].now_ms, bench["b"].wall_ms)
    bench.turn(bench["b"])
    assert follower.committed == removal
    assert follower.history.at(removal)[1].was_removed(away)
    assert not follower.members.has_parted_with(away)


def test_the_votes_of_a_lost_election_are_not_counted_among_fewer_members():
    """Three of seven voted for a, four for g, which then takes some of these away: three of five were a majority."""
    bench = Bench("abcdefg")
    bench.elect("g")
    bench["g"].crash()
    bench["g"].start()
    bench.dial()
    bench.settle()
    mine = {"a": {"b", "c"}, "g": {"d", "e", "f"}}
    bench.filter = lambda source, target, message: not isinstance(message, Campaign) or target in mine[source]
    for name in mine:
        bench[name].core.election.campaign(transfer=True)
    bench.settle()
    assert bench.leader().name == "g"
    bench.filter = None
    term = bench.leader().core.term
    bench.run(300)
    assert not bench["a"].core.election.is_campaigning
    assert isinstance(change(bench, learners=("d", "e")), Answered)
    late = Vote(term, False, granted=False, last_index=0, last_term=0, reason="late", id=bench["a"].core.election._id)
    bench["a"].core.election.vote(bench["a"].core.peers["f"], late)
    assert bench["a"].core.tenure is None


def test_who_has_fallen_silent_gets_no_vote_yet():
    """A learner that looked caught up, and says nothing any more, would as a voter keep the rest from going on."""
    bench = Bench("a")
    leader = bench.elect("a")
    bench.add("d")
    bench.run(500)
    change(bench, learners=("d",))
    assert leader.core.tenure.progress["d"].live
    bench.filter = lambda source, _target, _message: source != "d"
    change(bench, add=("d",))
    assert leader.core.history.current.voters == ("a",)
    token = leader.put("k", 1)
    bench.run(100)
    assert isinstance(leader.answer(token), Answered)
    bench.filter = None
    bench.run(10_000)
    assert set(voters(bench).values()) == {("a", "d")}


def test_a_learner_does_not_count():
    """A learner's confirmation commits nothing, and it does not campaign."""
    bench = Bench("abc")
    leader = bench.elect("a")
    bench.add("d")
    bench.run(500)
    change(bench, learners=("d",))
    for name in "bc":
        bench[name].crash()
    token = leader.put("k", 1)
    bench.run(500)
    assert bench["d"].core.log.last == leader.core.log.last
    assert leader.answer(token) is None
    bench.run(10_000)
    assert bench["d"].core.role is Role.FOLLOWER


def test_several_at_once_go_through_a_joint_configuration():
    """Both the old and the new voters agree, and the leader leaves the joint configuration by itself."""
    bench = Bench("abc")
    leader = bench.elect("a")
    for name in "de":
        bench.add(name)
    bench.run(500)
    change(bench, learners=("d", "e"))
    joint = []
    bench.filter = lambda s, t, m: joint.append(leader.core.history.current.is_joint) or True
    leader.core.change_members(leader.now_ms, leader.wall_ms, token="j", learners=("b", "c"), add=())
    bench.run(500)
    assert any(joint)
    assert not leader.core.history.current.is_joint
    assert leader.core.history.current.voters == ("a",)


def test_in_a_joint_configuration_one_majority_is_not_enough():
    """A majority of the old voters alone commits nothing while the configuration is joint."""
    bench = Bench("abc")
    leader = bench.elect("a")
    for name in "de":
        bench.add(name)
    bench.run(500)
    change(bench, learners=("d", "e"))
    for name in "de":
        bench[name].crash()
    current = leader.core.history.current
    nodes = [(bench_node, "") for bench_node in (m.node for m in current.members if m.name in "de")]
    changed = current.with_change(nodes, [], ["b", "c"])
    assert changed.sets == (("a", "d", "e"), ("a", "b", "c"))
    leader.core.members.append(changed, leader.wall_ms)
    index = leader.core.log.last
    bench.run(800)
    assert all(bench[name].core.log.last >= index for name in "abc")
    assert leader.core.committed < index


def test_one_change_at_a_time():
    """While one is not committed, another is refused; so is one of a leader that has not committed in its term."""
    bench = Bench("abc", election_ms_min=100_000, election_ms_max=200_000)
    leader = bench.make_leader("a")
    bench.run(300)
    bench.partition("a", "bc")
    leader.core.change_members(leader.now_ms, leader.wall_ms, token="one", remove=("c",))
    with pytest.raises(MembersChanging):
        leader.core.change_members(leader.now_ms, leader.wall_ms, token="two", remove=("b",))
    bench.heal()
    bench.filter = lambda s, t, m: not getattr(m, "bodies", None)
    other = bench.make_leader("b")
    with pytest.raises(MembersChanging):
        other.core.change_members(other.now_ms, other.wall_ms, token="three", remove=("c",))


def test_a_removed_leader_steps_down_when_it_is_committed():
    """It manages the cluster until then, and another is elected without it."""
    bench = Bench("abc")
    leader = bench.elect("a")
    assert isinstance(change(bench, remove=("a",)), Answered)
    assert leader.core.role is not Role.LEADER
    bench.run(5_000)
    assert bench.leader().name in "bc"
    assert bench.leader().core.history.current.voters == ("b", "c")


def test_a_removed_node_that_returns_is_told_so_and_disturbs_nobody():
    """It is refused with the reason, campaigns no more, and answers its clients with RemovedMember."""
    bench = Bench("abc")
    leader = bench.elect("a")
    bench["c"].crash()
    change(bench, remove=("c",))
    term = leader.core.term
    bench["c"].start()
    bench.run(10_000)
    assert leader.core.role is Role.LEADER
    assert leader.core.term == term
    assert "removed" in bench["c"].core.removed
    with pytest.raises(RemovedMember):
        bench["c"].put("k", 1)
    with pytest.raises(RemovedMember):
        bench["c"].core.promote(0, token="p")


def test_a_removal_that_was_told_to_somebody_else_is_not_believed():
    """A network may bring the refusal of who it was before once more: it answers another hello."""
    bench = Bench("abc")
    bench.elect("a")
    node, link = bench["c"], bench.links["a", "c"].number
    node.core.receive(
        link, Refuse("removed", "'c' was removed from the cluster", b"earlier"), node.now_ms, node.wall_ms
    )
    assert node.core.removed is None
    bench.run(500)
    link = bench.links["a", "c"].number
    nonce = node.core.reception.links[link].ours.nonce
    node.core.receive(link, Refuse("removed", "'c' was removed from the cluster", nonce), node.now_ms, node.wall_ms)
    assert node.core.removed is not None


def test_the_last_voter_stays():
    """A cluster without voters could never decide anything again."""
    bench = Bench("a")
    leader = bench.elect()
    with pytest.raises(UsageError, match="vote"):
        leader.core.change_members(0, 0, token="t", remove=("a",))
    with pytest.raises(UsageError, match="no member"):
        leader.core.change_members(0, 0, token="t", remove=("x",))
    with pytest.raises(UsageError, match="not connected"):
        leader.core.change_members(0, 0, token="t", add=("x",))


def test_two_clusters_of_one_name_part():
    """Each founded by itself: their nodes refuse each other, and say why."""
    one, other = (Bench(name, seed=name) for name in "ab")
    one.elect()
    other.elect()
    core, number = one["a"].core, 91
    core.connected(number, "", one.now_ms, 0)
    other["b"].core.connected(number, "", other.now_ms, 0)
    hello = other["b"].core.ready(other.now_ms, 0).send[-1].message
    core.receive(number, hello, one.now_ms, 0)
    assert any("each founded by itself" in text for text in core.complaints)
    assert not core.is_up(number)


def test_who_expects_others_is_told_why_the_cluster_is_not_founded():
    """All first members have to expect the same: whoever does not is named, with the reason."""
    bench = Bench("abc", start=False)
    for name in "abc":
        expected = {"a": ("b",), "b": ("a", "c"), "c": ("a", "b")}[name]
        bench[name].options = type(bench[name].options)(address=name, expected=expected)
        bench[name].start()
    bench.run(8_000)
    assert bench.leader() is None
    assert any("'b': it expects others" in text for text in bench["a"].core.complaints), bench["a"].core.complaints


def test_a_term_from_the_future_is_not_believed():
    """It costs the connection and leaves our term as it was."""
    bench = Bench("abc")
    leader = bench.elect("a")
    term = leader.core.term
    from mmrepl.wire.single_master import Append

    message = Append(1 << 60, 1, 0, 0, 0, [], [])
    link = bench.links["b", "a"]
    leader.core.receive(link.number, message, bench.now_ms, 0)
    assert leader.core.term == term
    assert any("far in the future" in text for text in leader.core.complaints)


def test_states_of_members_are_seen():
    """Live, disconnected, failing, with the lag in entries and time."""
    bench = Bench("abc")
    leader = bench.elect("a")
    leader.put("k", 1)
    bench.run(500)
    now = {member.name: member for member in leader.core.members_now(bench.now_ms)}
    assert now["b"].state is MemberState.LIVE
    assert (now["b"].behind_entries, now["b"].behind_ms) == (0, 0)
    bench["c"].crash()
    leader.put("k", 2)
    bench.run(1_000)
    now = {member.name: member for member in leader.core.members_now(bench.now_ms)}
    assert now["c"].state is MemberState.DISCONNECTED
    assert now["c"].behind_entries == 1
    assert now["c"].behind_ms >= 800
    bench.filter = lambda s, t, m: s != "b"
    bench.run(1_500)
    now = {member.name: member for member in leader.core.members_now(bench.now_ms)}
    assert now["b"].state is MemberState.FAILING


# -- configurations by themselves


def nodes(names):
    return {NodeId(name, 1): name for name in names}


def test_configurations_travel():
    """Encoded and decoded they are the same, and checked."""
    first = founding(7, nodes("abc"))
    first.check()
    assert decode_configuration(encode_configuration(first)) == first
    changed = first.with_change([(NodeId("d", 1), "d"), (NodeId("e", 1), "e")], [], ["a"])
    changed.check()
    assert changed.is_joint
    left = changed.left()
    left.check()
    assert left.voters == ("b", "c", "d", "e")
    assert left.was_removed(NodeId("a", 1))
    assert decode_configuration(encode_configuration(changed)) == changed


def test_a_slot_is_never_given_out_twice():
    """Not even to a member of the same name that returns."""
    members = founding(7, nodes("ab"))
    members = members.with_change([], [], ["b"]).with_change([(NodeId("b", 1), "b")], [], [])
    assert members.member("b").slot == 2


def test_the_history_goes_back_with_the_log():
    """A configuration that is cut off never was."""
    first, second = founding(7, nodes("ab")), founding(7, nodes("abc"))
    history = History()
    history.append(1, first)
    history.append(5, second)
    assert history.current == second
    assert history.at(4) == (1, first)
    assert history.truncate(4)
    assert history.current == first
    assert not history.truncate(2)
    history.append(6, second)
    history.compact(6)
    assert history.at(6) == (6, second)
    assert isinstance(history.current, Configuration)
