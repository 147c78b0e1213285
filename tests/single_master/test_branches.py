"""What a deposed leader never shipped: kept, listed, merged, dropped; in a cluster with elections."""

from __future__ import annotations

import pytest

from mmrepl.errors import LeadershipLost, UnknownBranch
from mmrepl.resolvers import Callback, LastWriterWins
from mmrepl.single_master.events import BranchDropped, BranchKept, Merged
from mmrepl.single_master.options import Role
from tests.single_master.bench import Answered, Bench, Failed
from tests.single_master.test_paper import slow


def deposed(**options):
    """a accepted writes alone, b was elected by c, and then they met."""
    bench = slow(**options)
    leader = bench.make_leader("a")
    leader.put("both", ["before"])
    bench.run(300)
    bench.partition("a", "bc")
    leader.put("mine", ["a"], token="mine", ack="quorum")
    leader.put("both", ["a"], token="both", ack="async")
    bench.settle()
    bench.make_leader("b")
    bench["b"].put("both", ["b"])
    bench.settle()
    bench.heal()
    bench.run(2_000)
    return bench


def test_what_was_cut_off_is_kept():
    """The asynchronous writer was answered, the other is told that nobody knows; both writes are in the branch."""
    bench = deposed()
    old = bench["a"]
    assert old.core.role is Role.FOLLOWER
    assert isinstance(old.answer("both"), Answered)
    failed = old.answer("mine")
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, LeadershipLost)
    assert old.value("both") == ["b"]
    assert old.value("mine") is None
    (info,) = old.core.branches()
    assert old.last_event(BranchKept).branch == info.id
    assert [entry.key for entry in old.core.branches_kept.writes(old.core.branch(info.id))] == ["mine", "both"]


def test_it_is_merged_with_the_resolver_of_each_table():
    """What both wrote goes to the resolver as two siblings."""
    bench = deposed()
    old = bench["a"]
    (info,) = old.core.branches()
    merged_by = Callback(lambda values: sorted(v for value in values for v in value))
    old.core.merge_branch(info.id, lambda table: merged_by, old.now_ms, token="m")
    bench.run(1_000)
    assert old.answer("m") == Merged("m", info.id, 2, 0)
    for node in bench.living():
        assert node.value("mine") == ["a"]
        assert node.value("both") == ["a", "b"]


def test_a_key_that_is_written_while_it_is_merged_is_looked_at_again():
    """The condition of the merge does not hold, so nothing is overwritten unseen."""
    bench = deposed()
    old = bench["a"]
    (info,) = old.core.branches()
    merged_by = Callback(lambda values: sorted({v for value in values for v in value}))
    old.core.merge_branch(info.id, merged_by, old.now_ms, token="m")
    bench.turn(old)
    bench["b"].put("both", ["b", "later"])
    bench.run(1_000)
    assert isinstance(old.answer("m"), Merged)
    assert bench["c"].value("both") == ["a", "b", "later"]


def test_it_is_merged_at_the_leader_too():
    """The node that kept it may lead again by then."""
    bench = deposed()
    bench.make_leader("a")
    bench.run(300)
    old = bench["a"]
    (info,) = old.core.branches()
    old.core.merge_branch(info.id, LastWriterWins(), old.now_ms, token="m")
    bench.run(1_000)
    assert isinstance(old.answer("m"), Merged)
    assert bench["c"].value("mine") == ["a"]


def test_a_retry_that_was_applied_is_not_merged():
    """The client of a write in the branch has tried again, and succeeded: it is not written a second time."""
    bench = slow()
    leader = bench.make_leader("a")
    leader.core.open_session(leader.now_ms, leader.wall_ms, token="s")
    bench.run(300)
    session = leader.answer("s").index
    bench.partition("a", "bc")
    leader.put("k", "once", session=session, request=1)
    bench.settle()
    new = bench.make_leader("b")
    new.put("k", "once", session=session, request=1)
    bench.settle()
    new.put("k", "later")
    bench.settle()
    bench.heal()
    bench.run(2_000)
    old = bench["a"]
    (info,) = old.core.branches()
    old.core.merge_branch(info.id, Callback(lambda values: "both"), old.now_ms, token="m")
    bench.run(1_000)
    assert old.answer("m") == Merged("m", info.id, 0, 0)
    assert bench["c"].value("k") == "later"


def test_a_branch_is_dropped_when_asked():
    """And is unknown afterwards, a restart later too."""
    bench = deposed()
    old = bench["a"]
    (info,) = old.core.branches()
    old.core.drop_branch(info.id)
    bench.run(100)
    with pytest.raises(UnknownBranch):
        old.core.branch(info.id)
    old.crash()
    old.start()
    assert old.core.branches() == []


def test_branches_are_bounded():
    """Of too many the oldest goes, and it is said."""
    bench = deposed(branches_max=1)
    bench.make_leader("a")
    bench.run(300)
    bench.partition("a", "bc")
    bench["a"].put("again", 1, ack="async")
    bench.settle()
    bench.make_leader("b")
    bench.heal()
    bench.run(2_000)
    assert len(bench["a"].core.branches()) == 1
    assert bench["a"].last_event(BranchDropped).writes == 2


def test_a_merge_without_a_leader_fails_and_keeps_the_branch():
    """It can be tried again."""
    bench = deposed(ack_timeout_ms=500)
    old = bench["a"]
    (info,) = old.core.branches()
    bench.partition("a", "b", "c")
    old.core.merge_branch(info.id, LastWriterWins(), old.now_ms, token="m")
    bench.run(1_000)
    assert isinstance(old.answer("m"), Failed)
    bench.heal()
    bench.run(1_000)
    old.core.merge_branch(info.id, LastWriterWins(), old.now_ms, token="again")
    bench.run(1_000)
    assert isinstance(old.answer("again"), Merged)


def test_no_ops_alone_make_no_branch():
    """A deposed leader's first entry is nobody's write."""
    bench = Bench("abc", election_ms_min=100_000, election_ms_max=200_000)
    bench.make_leader("a")
    bench.run(300)
    bench.partition("a", "bc")
    bench["b"].core.set_term(1)
    bench.make_leader("b")
    bench.partition("abc")
    bench.heal()
    bench.run(1_000)
    assert not any(node.core.branches() for node in bench.living())
