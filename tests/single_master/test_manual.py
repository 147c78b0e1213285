"""Manual failover: a primary and its replicas, and what promoting another one can lose."""

from __future__ import annotations

import pytest

from mmrepl.errors import MembersChanging, NotPrimary, PromotionRefused, RemovedMember, UsageError
from mmrepl.resolvers import KeepSiblings, LastWriterWins
from mmrepl.single_master.configuration import SLOTS
from mmrepl.single_master.events import BranchKept, Installed, Merged, Promoted
from mmrepl.single_master.options import ReadLevel, Role
from mmrepl.single_master.snapshot import encode_head, head_of
from mmrepl.single_master.state import State
from mmrepl.storage.memory import MemoryDisk
from mmrepl.wire.single_master import Append, Appended, Chunk
from tests.single_master.bench import Answered, Bench, Failed, ReadReady, contents


def manual(names="abc", **options):
    """A cluster whose first primary is a."""
    bench = Bench(names, failover="manual", start=False, ack=options.pop("ack", "async"), **options)
    for name in names:
        if name == "a":
            bench[name].options = type(bench[name].options)(
                address="a", expected=tuple(n for n in names if n != "a"), primary=True, **bench.options
            )
        bench[name].start()
    bench.run_until(lambda: bench["a"].core.role is Role.PRIMARY and bench["a"].core.tenure.has_committed)
    bench.run(300)
    return bench


def promote(bench, name, *, force=False):
    token = bench.token()
    bench[name].core.promote(bench[name].now_ms, token=token, force=force)
    bench.run(6_000)
    return bench[name].answer(token)


def test_the_primarys_disk_commits():
    """With `async` a write is answered by the primary alone, whoever else is there."""
    bench = manual()
    bench.partition("a", "bc")
    token = bench["a"].put("k", 1)
    bench.turn(bench["a"])
    assert isinstance(bench["a"].answer(token), Answered)
    assert bench["a"].value("k") == 1
    bench.run(30_000)
    assert bench["a"].core.role is Role.PRIMARY, "nobody is elected, and nobody steps down"


@pytest.mark.parametrize(("ack", "reachable", "answered"), [
    ("async", "", True), ("one", "", False), ("one", "b", True), (2, "b", False), (2, "bc", True),
    ("quorum", "", False), ("quorum", "c", True), ("all", "b", False), ("all", "bc", True), (3, "bc", False),
])  # fmt: skip
def test_acknowledgements_wait_for_those_that_were_asked_for(ack, reachable, answered):
    """A replica that does not answer acknowledges nothing; then the write is indefinite, and stays."""
    bench = manual(ack_timeout_ms=2_000)
    bench.partition({"a", *reachable}, *[{name} for name in "bc" if name not in reachable])
    token = bench["a"].put("k", 1, ack=ack)
    bench.run(500)
    assert isinstance(bench["a"].answer(token), Answered) is answered
    bench.run(3_000)
    if not answered:
        failed = bench["a"].answer(token)
        assert isinstance(failed, Failed)
        assert not failed.error.definite
        assert failed.error.confirmed == 1 + len(reachable)
    assert bench["a"].value("k") == 1


def test_a_replica_takes_no_writes_and_says_who_does():
    """NotPrimary, definite, with the name and the address of the primary."""
    bench = manual(client="clients:1")
    with pytest.raises(NotPrimary, match="'a' is the primary") as caught:
        bench["b"].put("k", 1)
    assert caught.value.definite
    assert (caught.value.name, caught.value.primary) == ("a", "clients:1")


def test_promote_fences_the_old_primary():
    """The new primary has a higher term of its own slot; the old one follows it as soon as it hears."""
    bench = manual()
    bench["a"].put("k", 1)
    bench.run(200)
    promoted = promote(bench, "b")
    assert isinstance(promoted, Promoted)
    assert promoted.lost == {}
    assert promoted.term % SLOTS == 1
    assert bench["a"].core.role is Role.REPLICA
    assert bench["a"].core.leader == "b"
    with pytest.raises(NotPrimary):
        bench["a"].put("k", 2)
    token = bench["b"].put("k", 2, ack="all")
    bench.run(200)
    assert isinstance(bench["b"].answer(token), Answered)


def test_a_stale_replica_is_not_promoted():
    """Another one is further: refused, with what would be lost, and nothing is changed."""
    bench = manual()
    bench.partition("ab", "c")
    for value in range(5):
        bench["a"].put("k", value, ack="one")
    bench.run(300)
    bench["a"].crash()
    bench.heal()
    bench.run(500)
    failed = promote(bench, "c")
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, PromotionRefused)
    assert failed.error.ahead == {"b": 5}
    assert failed.error.silent == ("a",)
    assert "promote 'b'" in str(failed.error)
    assert bench["c"].core.role is Role.REPLICA
    promoted = promote(bench, "b")
    assert isinstance(promoted, Promoted), "b can be"


def test_too_few_answers_are_not_enough_to_know():
    """Whoever does not answer may have more: a minority is not promoted without force."""
    bench = manual()
    bench.partition("c", "ab")
    failed = promote(bench, "c")
    assert failed.error.silent == ("a", "b")
    promoted = promote(bench, "c", force=True)
    assert isinstance(promoted, Promoted)
    assert bench["c"].core.role is Role.PRIMARY
    assert bench["a"].core.role is Role.PRIMARY, "two primaries, as the operator wished"


def test_what_a_quorum_acknowledged_survives_a_promotion():
    """Without force a majority gives its votes to the new primary: it has what a majority had acknowledged."""
    bench = manual()
    bench.partition("ab", "c")
    token = bench["a"].put("k", "kept", ack="quorum")
    bench.run(200)
    assert isinstance(bench["a"].answer(token), Answered)
    bench.partition("a", "bc")
    assert isinstance(promote(bench, "c"), Failed)
    assert isinstance(promote(bench, "b"), Promoted)
    assert bench["b"].value("k") == "kept"


def lost_writes():
    """The old primary has writes that nobody else got, some over keys that the new one wrote as well."""
    bench = manual()
    bench.check_committed = False
    bench["a"].put("both", "before")
    bench["a"].put("gone", "x")
    bench.run(300)
    bench.partition("a", "bc")
    bench["a"].put("mine", "only a")
    bench["a"].put("both", "a")
    bench["a"].put("gone", None)
    bench.run(200)
    promote(bench, "b")
    bench.run(100)
    bench["b"].put("both", "b")
    bench["b"].put("theirs", "only b")
    bench.run(200)
    bench.heal()
    bench.run(2_000)
    return bench


def test_writes_that_were_never_shipped_are_kept_as_a_branch():
    """The old primary's state is taken back to where the logs part, and what it had applied since is a branch."""
    bench = lost_writes()
    assert bench["a"].core.role is Role.REPLICA
    assert contents(bench["a"].core) == contents(bench["b"].core)
    assert bench["a"].last_event(Installed) is not None
    kept = bench["a"].last_event(BranchKept)
    assert kept.writes == 3
    (info,) = bench["a"].core.branches()
    assert (info.writes, info.keys, info.certain) == (3, 3, True)
    bench["a"].crash()
    bench["a"].start()
    assert bench["a"].core.branches() == [info], "it is durable"


def test_a_branch_is_merged_through_the_primary():
    """What only the branch wrote is written; what both wrote is decided by the resolver; then the branch is gone."""
    bench = lost_writes()
    (info,) = bench["a"].core.branches()
    bench["a"].core.merge_branch(info.id, LastWriterWins(), bench["a"].now_ms, token="m")
    bench.run(1_000)
    merged = bench["a"].answer("m")
    assert isinstance(merged, Merged), merged
    for node in bench.living():
        assert node.value("mine") == "only a"
        assert node.value("both") == "b", "the later write"
        assert node.value("theirs") == "only b"
        assert node.value("gone") is None
    assert bench["a"].core.branches() == []


def test_a_branch_is_merged_by_any_resolver():
    """Keeping siblings, both values are there afterwards, and are everywhere."""
    bench = lost_writes()
    (info,) = bench["a"].core.branches()
    bench["a"].core.merge_branch(info.id, KeepSiblings(), bench["a"].now_ms, token="m")
    bench.run(1_000)
    assert isinstance(bench["a"].answer("m"), Merged)
    assert all(sorted(node.value("both")) == ["a", "b"] for node in bench.living())


def test_a_primary_that_restarts_goes_on_in_its_own_term():
    """It asks nobody, and its term is the same: a promotion that it slept through has a higher one."""
    bench = manual()
    bench["a"].put("k", 1)
    bench.turn(bench["a"])
    term = bench["a"].core.term
    bench["a"].crash(power=True)
    bench["a"].start()
    assert (bench["a"].core.role, bench["a"].core.term) == (Role.PRIMARY, term)
    bench.run(500)
    assert bench["b"].value("k") == 1


def test_a_primary_that_restarts_after_a_promotion_does_not_come_back_above_it():
    """The old primary was away while another was promoted: it is fenced when they meet, whatever it does before."""
    bench = manual()
    bench.check_committed = False
    bench["a"].crash()
    assert isinstance(promote(bench, "c"), Promoted)
    bench.partition("a", "bc")
    bench["a"].start()
    bench["a"].put("k", "split")
    bench.run(500)
    assert bench["a"].core.role is Role.PRIMARY
    bench.heal()
    bench.run(1_500)
    assert bench["a"].core.role is Role.REPLICA
    assert bench["c"].core.role is Role.PRIMARY
    assert len(bench["a"].core.branches()) == 1


def test_terms_of_two_promotions_are_never_the_same():
    """Two that do not see each other draw from different slots."""
    bench = manual("abcde")
    bench.check_committed = False
    bench["a"].crash()
    bench.partition("bc", "de")
    one = promote(bench, "b", force=True)
    other = promote(bench, "d", force=True)
    assert one.term != other.term
    bench.heal()
    bench.run(2_000)
    assert sum(node.core.role is Role.PRIMARY for node in bench.living()) == 1


def test_a_new_replica_is_added_by_starting_it():
    """Whoever connects to the primary becomes a replica, and catches up."""
    bench = manual("ab")
    bench["a"].put("k", 1)
    bench.run(100)
    bench.add("c")
    bench.run(1_000)
    assert bench["a"].core.history.current.voters == ("a", "b", "c")
    assert bench["c"].value("k") == 1


def test_an_election_cannot_be_forced():
    """Force is for where nobody is elected."""
    bench = Bench("abc")
    bench.elect("a")
    with pytest.raises(UsageError):
        bench["b"].core.promote(bench["b"].now_ms, token="t", force=True)


def test_a_living_leader_is_not_voted_out_by_an_operator():
    """It may hold the lease: an election that is asked for is refused, and says to transfer instead."""
    bench = Bench("abc")
    leader = bench.elect("a")
    term = leader.core.term
    bench["b"].core.promote(bench["b"].now_ms, token="p")
    bench.run(1_000)
    failed = bench["b"].answer("p")
    assert isinstance(failed, Failed)
    assert "transfer" in str(failed.error)
    assert leader.core.role is Role.LEADER
    assert leader.core.term == term
    leader.crash()
    bench.run(900)
    bench["b"].core.promote(bench["b"].now_ms, token="again")
    bench.run(500)
    assert isinstance(bench["b"].answer("again"), Promoted) or bench.leader() is not None


def test_transfer_hands_over_in_good_order():
    """Nothing is lost, and no branch is made."""
    bench = manual()
    for value in range(10):
        bench["a"].put("k", value)
    bench["a"].core.transfer("c", bench["a"].now_ms, token="t")
    bench.run(1_000)
    assert bench["a"].answer("t").name == "c"
    assert bench["c"].core.role is Role.PRIMARY
    assert bench["c"].value("k") == 9
    assert not any(node.core.branches() for node in bench.living())


def test_a_log_that_was_cut_beyond_the_new_primarys_confirms_nothing():
    """What the old primary has cut off its log nobody can compare: it takes a snapshot, and does not just say yes."""
    bench = manual(log_entries=10, log_margin=2, log_bytes=300)  # it may grow to four times that
    bench.check_committed = False
    bench["a"].put("k", "common")
    bench.run(300)
    bench.partition("a", "bc")
    for value in range(100):
        bench["a"].put("k", value)
        bench.run(10)
    assert isinstance(promote(bench, "b"), Promoted)
    assert bench["a"].core.log.start > bench["b"].core.log.last
    bench["b"].put("k", "new", ack="all")
    bench.heal()
    bench.run(3_000)
    assert contents(bench["a"].core) == contents(bench["b"].core)
    assert bench["a"].value("k") == "new"


def test_what_is_cut_off_before_others_hold_it_is_told():
    """A primary alone keeps what may become a branch, up to four times its bytes; what goes then does not go in silence."""
    bench = manual(log_entries=10, log_margin=2, log_bytes=300)
    primary = bench["a"]
    bench.partition("a", "bc")
    for value in range(200):
        bench["a"].put("k", value, ack="async")
        bench.run(10)
        log = primary.core.log
        kept, told = primary.core.tenure.held, primary.core.unkept
        assert told is None if log.start <= kept else told == (kept + 1, log.start)
    assert primary.core.unkept is not None
    bench.heal()
    bench.run(3_000)
    assert primary.core.tenure.held == primary.core.log.last
    assert primary.core.unkept is None


def test_a_replica_that_has_applied_others_serves_no_read_from_them():
    """Having applied far enough is not enough: the logs have to be seen to agree that far."""
    bench = manual()
    bench.check_committed = False
    bench.partition("a", "bc")
    for value in range(20):
        bench["a"].put("k", f"lost {value}")
    bench.run(100)
    assert isinstance(promote(bench, "b"), Promoted)
    bench["b"].put("k", "new", ack="quorum")
    bench.run(100)
    bench.filter = lambda s, t, m: not (t == "a" and getattr(m, "bodies", None))
    bench.heal()
    bench.run(300)
    old = bench["a"]
    assert old.core.applied > bench["b"].core.applied
    old.core.read(ReadLevel.LINEARIZABLE, old.now_ms, token="r")
    bench.run(300)
    assert old.answer("r") is None or old.value("k") == "new"
    bench.filter = None
    bench.run(2_000)
    assert isinstance(old.answer("r"), ReadReady)
    assert old.value("k") == "new"


def test_a_primary_does_not_remove_itself():
    """Nobody would have heard of it, and nobody could be promoted without force: it hands over first."""
    bench = manual()
    for how in ({"remove": ("a",)}, {"learners": ("a",)}):
        with pytest.raises(UsageError, match="transfer"):
            bench["a"].core.change_members(0, 0, token="t", **how)


def change(bench, name, **how):
    node = bench[name]
    token = bench.token()
    node.core.change_members(node.now_ms, node.wall_ms, token=token, **how)
    bench.run(500)
    return node.answer(token)


def test_a_log_that_no_majority_holds_is_not_cut():
    """However short the log is kept: every write that was never shipped is found in the branch."""
    bench = manual(log_entries=10, log_margin=2)
    bench.check_committed = False
    bench.partition("a", "bc")
    for value in range(100):
        bench["a"].put("k", f"lost {value}")
        bench.run(10)
    assert isinstance(promote(bench, "b"), Promoted)
    bench["b"].put("k", "new", ack="quorum")
    bench.heal()
    bench.run(3_000)
    (branch,) = bench["a"].core.branches()
    assert branch.writes == 100
    assert contents(bench["a"].core) == contents(bench["b"].core)


def test_a_primary_changes_members_no_further_than_a_majority_follows():
    """Change by change it could else come to members of whom a majority and an old majority do not meet."""
    bench = manual("abcde")
    bench.check_committed = False
    bench["a"].core.change_members(bench["a"].now_ms, bench["a"].wall_ms, token="x", learners=("d", "e"))
    bench.partition("ab", "cde")
    bench.run(500)
    assert bench["a"].core.history.current.is_joint
    with pytest.raises(MembersChanging):
        change(bench, "a", learners=("b",))
    bench["a"].put("k", 1, ack="quorum")
    bench.run(500)
    assert isinstance(promote(bench, "c"), Promoted), "those who have not heard of it are a majority of five"
    bench.heal()
    bench.run(2_000)
    assert {node.core.history.current.voters for node in bench.living()} == {tuple("abcde")}


def test_a_joint_change_is_settled_by_who_is_promoted():
    """The primary dies when both majorities hold the joint configuration: its successor leaves it."""
    bench = manual("abcde")
    bench.filter = lambda s, t, m: not (s != "a" and t == "a")
    bench["a"].core.change_members(bench["a"].now_ms, bench["a"].wall_ms, token="x", learners=("d", "e"))
    bench.run(100)
    bench["a"].crash()
    bench.filter = None
    assert bench["b"].core.history.current.is_joint
    assert isinstance(promote(bench, "b"), Promoted)
    bench.run(1_000)
    assert not bench["b"].core.history.current.is_joint
    assert bench["b"].core.history.current.voters == ("a", "b", "c")


def test_replicas_that_have_lost_their_memory_do_not_hold_up_a_change_for_ever():
    """Nobody who knows the last change is a majority, nor ever will be: by force they are replaced by what they are now."""
    bench = manual("abcd")
    primary = bench["a"]
    for name in "bcd":
        bench[name].crash()
        bench[name].disk = MemoryDisk()
    bench.add("e")
    bench.run(1_000)
    assert primary.core.history.current.voters == ("a", "b", "c", "d", "e")
    for name in "bcd":
        bench[name].start()
    bench.run(3_000)
    assert not any(primary.core.history.current.has(bench[name].core.node) for name in "bcd")
    promote(bench, "a", force=True)
    assert all(primary.core.history.current.has(bench[name].core.node) for name in "abcde")
    token = primary.put("k", 1, ack="quorum")
    bench.run(500)
    assert isinstance(primary.answer(token), Answered)


def test_who_came_back_as_somebody_else_can_be_removed_as_who_it_was():
    """It is connected, and is not the member: a change that is not settled does not keep people from saying so."""
    bench = manual("abcd")
    for name in "bcd":
        bench[name].crash()
    bench.add("e")
    bench.run(1_000)
    bench["d"].disk = MemoryDisk()
    bench["d"].start()
    bench.run(500)
    change(bench, "a", remove=("d",))  # MembersChanging, if it counted as being there
    assert bench["a"].core.history.current.member("d") is None


def test_a_replica_without_a_vote_that_lost_its_memory_comes_back_without_one():
    """It is let in again, as what it was."""
    bench = manual()
    bench.add("d")
    bench.run(1_000)
    change(bench, "a", learners=("d",))
    bench["d"].crash()
    bench["d"].disk = MemoryDisk()
    bench["d"].start()
    bench.run(1_000)
    assert bench["a"].core.history.current.has(bench["d"].core.node)
    assert bench["a"].core.history.current.learners == ("d",)


def test_a_removal_that_a_deposed_primary_alone_holds_takes_no_vote_from_the_one_that_goes_further():
    """A, cut off, has taken b out; c voted for b, and lost its disk. B goes further than a, and has to get a's vote."""
    bench = manual()
    bench.check_committed = False
    bench.partition({"a"}, {"b", "c"})
    change(bench, "a", remove=("b",))
    promote(bench, "b")
    bench["b"].put("k", 1)
    bench.run(300)
    bench["b"].crash()
    bench.heal()
    bench.run(500)  # c tells a of the term
    assert bench["a"].core.tenure is None
    bench["c"].crash()
    bench["c"].disk = MemoryDisk()
    bench["c"].start()
    bench["a"].core.step_down(bench["a"].core.term + 1, "somebody has campaigned, and lost")
    bench["b"].start()
    bench.run(500)
    assert bench.leader() is None
    assert bench["a"].core.history.current.was_removed(bench["b"].core.node)
    promote(bench, "b")
    bench.run(1_000)
    assert bench.leader() is bench["b"]
    assert bench["a"].value("k") == 1


def test_who_alone_knows_that_it_has_no_vote_any_more_is_promoted_to_tell_it():
    """Its log goes further than those of the others, who need its vote; then one of them is promoted."""
    bench = manual("abcd")
    bench.filter = lambda _, target, message: not (isinstance(message, Append) and message.bodies and target in "bd")
    change(bench, "a", learners=("c",))
    bench["a"].crash()
    bench["a"].disk = MemoryDisk()
    bench["a"].start()
    bench.filter = None
    bench.run(500)
    assert isinstance(promote(bench, "b"), Failed)
    promote(bench, "c")
    bench.run(1_000)
    assert bench.leader() is None
    promote(bench, "b")
    bench.run(500)
    assert bench.leader() is bench["b"]
    assert bench["b"].core.history.current.learners[:1] == ("c",)


def test_what_a_replica_confirmed_before_it_lost_its_disk_is_not_believed_when_it_comes_again():
    """A network may say again what it once carried, on the connection of today."""
    bench = manual()
    for number in range(5):
        bench["a"].put("k", number)
    bench.run(300)
    primary = bench["a"].core
    progress = primary.tenure.progress["c"]
    said = Appended(primary.term, progress.round, ok=True, match=progress.match)
    assert said.match == primary.log.last
    bench["c"].crash()
    bench["c"].disk = MemoryDisk()
    bench["c"].slow_disk = True
    bench["c"].start()
    bench.run_until(lambda: primary.history.current.has(bench["c"].core.node))
    for _ in range(3):
        primary.receive(bench.links["c", "a"].number, said, bench["a"].now_ms, bench["a"].wall_ms)
        assert primary.tenure.match("c") < said.match
        bench.run(100)


def test_all_are_also_those_who_are_about_to_lose_their_votes():
    """Who has not heard that it has none may still be promoted by another one who has not, without the write."""
    bench = manual()
    bench.filter = lambda source, target, _: "a" not in (source, target)
    change(bench, "a", learners=("b", "c"))
    assert bench["a"].core.history.current.is_joint
    token = bench["a"].put("k", 1, ack="all")
    bench.run(300)
    assert not isinstance(bench["a"].answer(token), Answered)
    bench.filter = None
    bench.run(1_000)
    token = bench["a"].put("k", 2, ack="all")
    bench.run(1_000)
    assert isinstance(bench["a"].answer(token), Answered)


def test_a_late_snapshot_takes_nothing_from_a_replica_that_has_more_though_its_log_begins_later():
    """What it was seen to hold of the primary's log, and has confirmed, stays."""
    bench = manual(log_entries=10, log_margin=2)
    for number in range(40):
        bench["a"].put("k", number)
        bench.run(50)
    bench.run(500)
    replica = bench["c"].core
    at = replica.log.start - 1
    assert at > 0
    head = head_of(State(), at, replica.term, 1, replica.history.current)
    chunk = Chunk(replica.term, 999, 1, at, replica.term, 0, 1, encode_head(head))
    last = replica.log.last
    replica.receive(bench.links["a", "c"].number, chunk, bench["c"].now_ms, bench["c"].wall_ms)
    bench.turn(bench["c"])
    assert replica.log.last == last
    assert bench["c"].value("k") == 39


def test_who_has_forgotten_its_vote_makes_no_majority_with_the_old_primary():
    """B was promoted by c, which lost its disk then. A, which has not heard of b, must not be confirmed by what c is now."""
    bench = manual()
    bench.check_committed = False
    bench.partition({"a"}, {"b", "c"})
    bench["a"].crash()
    promote(bench, "b")
    assert bench["b"].core.role is Role.PRIMARY
    bench["b"].crash()
    bench["c"].crash()
    bench["c"].disk = MemoryDisk()
    bench.heal()
    bench["a"].start()
    bench["c"].start()
    bench.run(3_000)
    token = bench["a"].put("k", 1, ack="quorum")
    bench.run(1_000)
    assert bench["a"].answer(token) is None
    assert not bench["a"].core.history.current.has(bench["c"].core.node)


def test_a_cluster_of_which_all_are_in_doubt_is_taken_up_by_force():
    """Power was lost everywhere, and each end was torn: nobody has a vote. Somebody says who goes on, with what it holds."""
    bench = manual()
    bench["a"].put("k", 1)
    bench.run(500)
    for name in "abc":
        bench[name].crash()
        bench[name].disk._doubt = "its end was torn"
        bench[name].start()
    bench.run(2_000)
    assert bench.leader() is None
    with pytest.raises(RemovedMember, match="no vote"):
        bench["b"].core.promote(bench["b"].now_ms, token="gently")
    promote(bench, "b", force=True)
    bench.run(3_000)
    assert bench.leader() is bench["b"]
    assert all(bench["b"].core.history.current.has(bench[name].core.node) for name in "abc")
    token = bench["b"].put("k2", 2, ack="quorum")
    bench.run(500)
    assert isinstance(bench["b"].answer(token), Answered)
    assert [bench[name].value("k") for name in "abc"] == [1, 1, 1]
    bench["b"].crash()
    bench["b"].start()
    bench.run(1_000)
    assert bench["b"].core.role is Role.PRIMARY, "it is the one that its log knows"


def test_members_that_are_gone_are_removed_without_asking_them():
    """Of three two are gone for good: the last one removes them, one after the other, and new ones come in."""
    bench = manual()
    for name in "bc":
        bench[name].crash()
    bench.run(100)
    for name in "bc":
        change(bench, "a", remove=(name,))
    assert bench["a"].core.history.current.voters == ("a",)
    for name in "de":
        bench.add(name)
    bench.run(2_000)
    assert bench["a"].core.history.current.voters == ("a", "d", "e")
