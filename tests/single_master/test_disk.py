"""Persist, then say: what the disk does not hold, nobody hears of; what it holds, comes back."""

from __future__ import annotations

import random

import pytest

from mmrepl.errors import StoreCorrupt, StoreForeign
from mmrepl.ports import Commit, Durability
from mmrepl.replication.opening import open_core
from mmrepl.single_master.core import open_single_master
from mmrepl.single_master.entry import decode_run
from mmrepl.single_master.entry_log import EntryLog
from mmrepl.single_master.journal import Journal
from mmrepl.single_master.options import Options, Role
from mmrepl.storage.memory import MemoryDisk, MemoryStorage
from mmrepl.types import NodeId
from mmrepl.wire.single_master import Append, Appended, Vote
from tests.single_master.bench import Answered, Bench
from tests.single_master.test_paper import messages, slow


def test_a_vote_is_said_when_it_is_on_disk():
    """A voter whose disk is slow says nothing before its vote is on it."""
    bench = slow()
    bench.make_leader("a")
    bench["c"].slow_disk = True
    bench.make_leader("b")
    assert not [m for m in messages(bench, Vote, "c") if m.granted and m.term == 2]
    bench.commit(bench["c"])
    bench.settle()
    assert [m for m in messages(bench, Vote, "c") if m.granted and m.term == 2]


def test_an_entry_is_confirmed_when_it_is_on_disk():
    """A follower whose disk is slow confirms no more than its disk holds, and the leader counts no more."""
    bench = slow()
    leader = bench.make_leader("a")
    bench.run(300)
    before = bench["b"].core.log.last
    for name in "bc":
        bench[name].slow_disk = True
    token = leader.put("k", 1)
    bench.settle()
    assert bench["b"].core.log.last == before + 1
    assert all(m.match <= before for m in messages(bench, Appended, "b"))
    assert leader.answer(token) is None
    bench.commit(bench["b"])
    bench.settle()
    assert isinstance(leader.answer(token), Answered)


def test_an_entry_is_sent_and_counted_when_it_is_on_the_leaders_disk():
    """A leader whose disk is slow neither sends nor acknowledges what is not on it, not even to itself."""
    for names in ("abc", "a"):
        bench = slow(names)
        leader = bench.make_leader("a")
        bench.run(300)
        leader.slow_disk = True
        bench.sent.clear()
        token, other = leader.put("k", 1, ack="async"), leader.put("k", 2, ack="quorum")
        bench.run(200)
        assert leader.answer(token) is None
        assert leader.answer(other) is None
        assert not [m for m in messages(bench, Append) if m.bodies]
        bench.commit(leader)
        bench.settle()
        assert isinstance(leader.answer(token), Answered)


def test_what_was_cut_off_while_it_was_under_way_to_the_disk_does_not_count():
    """A commit that is done after its entries were cut off says nothing about those that took their place."""
    bench = slow()
    bench.make_leader("a")
    bench.run(300)
    bench.partition("ab", "c")
    bench["b"].slow_disk = True
    bench["a"].put("k", "old", ack="async")
    bench.settle()
    index = bench["b"].core.log.last
    bench.partition("a", "bc")
    bench["c"].core.set_term(1)
    bench["b"].core.cut_off(index - 1, 0)
    bench["b"].core.term = 1
    bench["b"].core.committed = min(bench["b"].core.committed, index - 1)
    durable = bench["b"].core.journal.durable
    bench.commit(bench["b"])
    assert bench["b"].core.journal.durable == durable == index - 1


def test_a_log_may_be_cut_off_twice_before_the_disk_hears_of_it():
    """What counts as durable gives way each time, though nothing is handed out in between."""
    log = EntryLog()
    journal = Journal(log, Durability.SYNC, volatile=False)
    for _ in range(3):
        log.append(1, [b"x"] * 4)
        journal.persisted(journal.take().position)
    assert journal.durable == 12
    for index in (10, 9, 3):
        log.truncate(index)
        journal.truncated(index)
        journal.check()
        assert journal.durable == index
    log.append(2, [b"y"] * 2)
    persist = journal.take()
    journal.persisted(persist.position)
    assert journal.durable == log.last == 5
    held = {1: b"", 5: b"", 9: b""}
    first, end = persist.commit.drop_batches
    kept = {position for position in held if not first <= position < end}
    bodies = [body for row in persist.commit.batches.values() for body in decode_run(row).bodies]
    assert not kept
    assert bodies == [b"x"] * 3 + [b"y"] * 2


def test_all_members_restart_at_once_and_lose_nothing():
    """Every acknowledged write is there after all of them lost power."""
    bench = Bench("abc", log_entries=20, log_margin=5)
    leader = bench.elect()
    for value in range(100):
        leader.put(f"k{value % 7}", value)
        bench.settle()
    for name in "abc":
        bench[name].crash(power=True)
    for name in "abc":
        bench[name].start()
    bench.elect()
    bench.run(500)
    for node in bench.living():
        assert {key: node.value(key) for key in node.core.keys("")} == {f"k{v % 7}": v for v in range(93, 100)}
        assert node.core.log.start > 0, "the log was cut, and the checkpoint read"


def test_a_checkpoint_ahead_of_the_log_is_enough():
    """Metadata ahead of the log: the state is on disk up to its entry, and the log goes on from there."""
    bench = Bench("a", log_entries=20, log_margin=5)
    leader = bench.elect()
    for value in range(60):
        leader.put("k", value)
        bench.settle()
    checkpoint = leader.core.journal.checkpoint
    leader.crash()
    storage = MemoryStorage(leader.disk)
    storage.load()
    storage.commit(Commit(drop_batches=(0, 1 << 60)), Durability.SYNC)
    leader.disk.crash()
    leader.start()
    assert leader.core.applied == leader.core.log.last == checkpoint
    assert leader.core.get("", "k") is not None


def test_a_hole_in_the_log_is_said():
    """Entries that are missing in the middle are StoreCorrupt, and not guessed."""
    bench = Bench("a")
    leader = bench.elect()
    for value in range(10):
        leader.put("k", value)
        bench.settle()
    leader.crash()
    storage = MemoryStorage(leader.disk)
    storage.load()
    storage.commit(Commit(drop_batches=(4, 6)), Durability.SYNC)
    leader.disk.crash()
    with pytest.raises(StoreCorrupt, match="missing"):
        leader.start()


def test_a_memory_in_doubt_is_a_new_incarnation_that_counts_for_nothing():
    """A node that may have forgotten votes is nobody that ever voted: its vote and its confirmation are not counted."""
    bench = Bench("abc")
    leader = bench.elect("a")
    bench["c"].crash()
    bench["c"].disk = MemoryDisk()  # a new disk
    bench["c"].start()
    bench["b"].crash()
    assert not leader.core.history.current.has(bench["c"].core.node)
    token = leader.put("k", 1)
    bench.run(1_000)
    assert leader.answer(token) is None, "two of three have it, and one of them does not count"
    bench.run(5_000)
    assert bench.leader() is None
    bench["b"].start()
    bench.elect()
    assert bench.leader().name in "ab"


def test_it_counts_again_when_it_was_added_again():
    """Added again, the new incarnation takes the place of the old one and catches up."""
    bench = Bench("abc")
    leader = bench.elect("a")
    leader.put("k", 1)
    bench["c"].crash()
    bench["c"].disk = MemoryDisk()
    bench["c"].start()
    bench.run(500)
    leader.core.change_members(leader.now_ms, leader.wall_ms, add=("c",), token="add")
    bench.run(1_000)
    assert isinstance(leader.answer("add"), Answered)
    assert leader.core.history.current.voters == ("a", "b", "c")
    assert leader.core.history.current.has(bench["c"].core.node)
    bench["b"].crash()
    token = leader.put("k", 2)
    bench.run(500)
    assert isinstance(leader.answer(token), Answered)


def doubted(bench, name):
    bench[name].crash()
    bench[name].disk._doubt = "its end was torn"
    bench[name].start()


def test_who_comes_back_from_its_own_store_is_added_again_by_the_leader():
    """What was in doubt is not counted: it is a learner until it has caught up, and then has a vote again."""
    bench = Bench("abc")
    leader = bench.elect("a")
    leader.put("k", 1)
    bench.run(300)
    doubted(bench, "c")
    assert not leader.core.history.current.has(bench["c"].core.node)
    bench.run(1_000)
    assert leader.core.history.current.has(bench["c"].core.node)
    assert leader.core.history.current.voters == ("a", "b", "c")
    doubted(bench, "c")  # and its log names it as it was before
    bench.run(1_000)
    bench["b"].crash()
    token = leader.put("k", 2)
    bench.run(500)
    assert isinstance(leader.answer(token), Answered)


def test_a_learner_that_comes_back_is_a_learner():
    """Coming back gives nobody a vote who had none."""
    bench = Bench("abc")
    leader = bench.elect("a")
    bench.add("d")
    bench.run(500)
    leader.core.change_members(leader.now_ms, leader.wall_ms, learners=("d",), token="learner")
    bench.run(1_000)
    doubted(bench, "d")
    bench.run(1_000)
    assert leader.core.history.current.has(bench["d"].core.node)
    assert leader.core.history.current.learners == ("d",)
    assert bench["d"].core.log.last == leader.core.log.last


def test_nobody_is_added_again_while_too_few_remember():
    """Two of three in doubt at once: the third one is no majority, and changes nothing by itself."""
    bench = Bench("abc")
    leader = bench.elect("a")
    leader.put("k", 1)
    bench.run(300)
    before = leader.core.history.index
    doubted(bench, "b")
    doubted(bench, "c")
    bench.run(10_000)
    assert bench.leader() is None
    assert leader.core.history.at(leader.core.committed)[0] == before


def test_two_that_lost_their_disks_cannot_found_a_second_cluster():
    """Founding takes all first members: two without memory and one that sleeps make no new cluster over the old one."""
    bench = Bench("abc")
    bench.elect("a")
    bench["a"].crash()
    for name in "bc":
        bench[name].crash()
        bench[name].disk = MemoryDisk()
        bench[name].start()
    bench.run(10_000)
    assert bench.leader() is None
    bench["a"].start()
    bench.run(10_000)
    assert bench.leader() is None, "a alone remembers, and is no majority"


def test_a_store_of_another_node_or_mode_is_refused():
    """A file is opened by the node that it belongs to, in the mode that it was made in."""
    bench = Bench("a")
    bench.elect()
    bench["a"].crash()
    with pytest.raises(StoreForeign, match="belongs to node 'a'"):
        open_single_master("b", MemoryStorage(bench["a"].disk), random.Random(1), Options())
    disk = MemoryDisk()
    storage = MemoryStorage(disk)
    storage.load()
    storage.commit(Commit(meta={"state": b"x"}), Durability.SYNC)
    disk.crash()
    with pytest.raises(StoreForeign, match="multi-master"):
        open_single_master("a", MemoryStorage(disk), random.Random(1), Options())
    bench["a"].disk.crash()
    with pytest.raises(StoreForeign, match="single-master"):
        open_core("a", MemoryStorage(bench["a"].disk), random.Random(1))


def test_in_memory_everything_is_durable_at_once():
    """Without a storage a cluster works, and a node that restarts is another one."""
    bench = Bench("abc", disk=False)
    leader = bench.elect("a")
    token = leader.put("k", 1)
    bench.settle()
    assert isinstance(leader.answer(token), Answered)
    node = bench["c"].core.node
    bench["c"].crash()
    bench["c"].start()
    assert bench["c"].core.node != node
    assert isinstance(node, NodeId)
    assert leader.core.role is Role.LEADER
