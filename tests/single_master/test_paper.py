"""
What "In Search of an Understandable Consensus Algorithm" (Ongaro, Ousterhout 2014) and the thesis say must be so.

One test for each sentence about safety, under the section that has it. Elections are called by hand: `slow` keeps
nodes from campaigning by themselves.
"""

from __future__ import annotations

import pytest

from mmrepl.single_master.events import Answered, Failed
from mmrepl.single_master.options import Role
from mmrepl.wire.single_master import Append, Appended, Campaign, Vote
from tests.single_master.bench import Bench


def slow(names="abc", **options):
    options = {"election_ms_min": 100_000, "election_ms_max": 200_000} | options
    return Bench(names, **options)


def messages(bench, kind, source=None):
    return [m for s, t, m in bench.sent if isinstance(m, kind) and source in (None, s)]


# -- 5.1 basics


def test_a_server_with_a_smaller_term_updates_to_the_larger_one():
    """5.1: if one server's current term is smaller than the other's, it updates its current term to the larger."""
    bench = slow()
    bench.make_leader("a")
    bench.make_leader("b")
    assert {node.core.term for node in bench.living()} == {2}


def test_a_leader_that_discovers_a_higher_term_reverts_to_follower():
    """5.1: a leader or candidate that discovers that its term is out of date immediately reverts to follower."""
    bench = slow()
    leader = bench.make_leader("a")
    assert leader.core.role is Role.LEADER
    bench.make_leader("b")
    assert leader.core.role is Role.FOLLOWER
    assert leader.core.leader == "b"


def test_a_request_with_a_stale_term_is_rejected():
    """5.1: a server that receives a request with a stale term number rejects it."""
    bench = slow()
    bench.make_leader("a")
    bench.partition("a", "bc")
    bench.make_leader("b")
    before = bench.log_of("c")
    bench["c"].core.following.verified = 0
    bench.heal()
    bench.dial()
    bench.settle()
    assert bench.log_of("c") == before
    assert bench["a"].core.term == bench["c"].core.term == 2
    assert bench["a"].core.role is Role.FOLLOWER


# -- 5.2 elections


def test_a_server_votes_for_at_most_one_candidate_a_term():
    """5.2: each server votes for at most one candidate in a given term, on a first-come-first-served basis."""
    bench = slow("abc")
    bench.make_leader("a")
    bench.run(100)
    for name in "bc":
        bench[name].core.election.campaign(transfer=True)
    bench.turn(bench["b"])
    bench.turn(bench["c"])
    bench.settle()
    assert bench["b"].core.term == bench["c"].core.term == 2
    granted = [m for m in messages(bench, Vote, "a") if m.term == 2 and m.granted and not m.survey]
    assert len(granted) == 1
    assert sum(bench[name].core.role is Role.LEADER for name in "bc") == 1


def test_a_vote_is_remembered_through_a_restart():
    """5.2, figure 2: currentTerm and votedFor are on stable storage before responding."""
    bench = slow("abc")
    bench.make_leader("a")
    bench.filter = lambda s, t, m: not (isinstance(m, Vote) and m.term == 2)
    bench.make_leader("b")  # a and c vote for b in term 2; b never hears it
    for name in "ac":
        assert bench[name].core.vote == str(bench["b"].core.node)
        bench[name].crash(power=True)
    for name in "ac":
        bench[name].start()
        assert (bench[name].core.term, bench[name].core.vote) == (2, str(bench["b"].core.node))
    bench.filter = None
    bench.partition("ac", "b")
    bench.dial()
    bench.settle()
    core = bench["c"].core
    core.set_term(1)  # as if it had slept through term 2
    core.election.campaign(transfer=True)
    bench.settle()
    assert core.term == 2
    assert core.role is not Role.LEADER, "a has voted twice in term 2"


def test_a_candidate_recognises_a_legitimate_leader():
    """5.2: if a candidate receives AppendEntries of a leader whose term is at least its own, it becomes a follower."""
    bench = slow("abc")
    bench.make_leader("a")
    bench["b"].core.become_candidate()
    bench["b"].core.election.is_surveying = True
    bench.run(300)
    assert bench["b"].core.role is Role.FOLLOWER
    assert bench["b"].core.leader == "a"


def test_split_votes_are_resolved_by_random_timeouts():
    """5.2: election timeouts are chosen randomly, so that split votes are rare and resolved quickly."""
    deadlines = set()
    for seed in range(20):
        bench = Bench("ab", seed=seed)
        deadlines |= {node.core.election.deadline_ms for node in bench.living()}
        assert all(1_000 <= node.core.election.deadline_ms - bench.now_ms <= 2_000 for node in bench.living())
        bench.run_until(lambda b=bench: b.leader() is not None, ms=6_000)
    assert len(deadlines) > 30


# -- 5.3 replication


def test_logs_agree_where_they_have_the_same_entry():
    """5.3: the consistency check: a follower refuses entries when it lacks the entry just before them."""
    bench = slow("abc")
    leader = bench.make_leader("a")
    bench.partition("ab", "c")
    for value in range(5):
        leader.put("k", value)
        bench.settle()
    follower = bench["c"].core
    before = bench.log_of("c")
    bench.heal()
    bench.dial()
    bench.settle()
    assert before == bench.log_of("a")[: len(before)]
    bench.run(300)
    assert bench.log_of("c") == bench.log_of("a")
    assert follower.log.last == leader.core.log.last
    refused = [m for m in messages(bench, Appended, "c") if not m.ok]
    assert refused, "the first message after the gap does not fit"


@pytest.mark.parametrize(
    "terms",
    [
        [1, 1, 1, 4, 4, 5, 5, 6, 6],  # a: lacks one
        [1, 1, 1, 4],  # b: lacks many
        [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],  # c: has one too many
        [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],  # d: has others of a later term
        [1, 1, 1, 4, 4, 4, 4],  # e: both
        [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],  # f: both, of several terms
    ],
)
def test_figure_7_any_follower_comes_to_the_leaders_log(terms):
    """5.3, figure 7: the leader forces the followers' logs to duplicate its own, whatever they had."""
    bench = slow("abc")
    bench.make_leader("a")
    bench.run(300)
    base = bench["a"].core.log.last
    leader, follower = bench["a"].core, bench["b"].core
    bench.partition("a", "b", "c")
    bench.check_committed = False
    for core, column in ((leader, [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]), (follower, terms)):
        if core.tenure is not None:
            core.step_down(1, "for the test")
        for number, term in enumerate(column):
            core.term = term + 1
            core.append(*entry(f"{core.node.name}{term}" if term > 6 or term in (2, 3) else f"{term}", number))
        core.set_term(8)
        bench.turn(bench[core.node.name])
    bench.partition("ab", "c")
    bench["c"].core.set_term(8)
    leader_log = bench.log_of("a")
    bench.heal()
    bench.make_leader("a")
    assert leader.role is Role.LEADER
    bench.run(1000)
    assert bench.log_of("a")[: len(leader_log)] == leader_log, "a leader never overwrites or deletes its own entries"
    assert bench.log_of("b") == bench.log_of("a") == bench.log_of("c")
    assert leader.log.last == base + 10 + 1
    bench["b"].core.check()


def entry(key, number):
    from mmrepl.single_master.entry import WRITE, Entry, encode_entry
    from mmrepl.values import encode

    made = Entry(WRITE, 10 + number, "", key, encode(number))
    return made, encode_entry(made)


def test_a_leader_never_overwrites_its_own_log():
    """5.3, leader append-only: a leader only appends."""
    bench = slow("abc")
    leader = bench.make_leader("a")
    seen = []
    for value in range(10):
        leader.put("k", value)
        bench.settle()
        now = bench.log_of("a")
        assert now[: len(seen)] == seen
        seen = now


def test_commit_index_reaches_followers_with_later_messages():
    """5.3: once a follower learns that an entry is committed, it applies it, in log order."""
    bench = slow("abc")
    leader = bench.make_leader("a")
    leader.put("k", 1)
    bench.settle()
    assert [bench[name].value("k") for name in "abc"] == [1, 1, 1]


# -- 5.4 safety


def test_a_candidate_with_an_older_log_is_refused():
    """5.4.1: a voter denies its vote if its own log is more up-to-date than that of the candidate."""
    bench = slow("abc")
    leader = bench.make_leader("a")
    bench.partition("ab", "c")
    token = leader.put("k", "kept")
    bench.settle()
    assert isinstance(leader.answer(token), Answered)
    bench.partition("a", "bc")
    bench.make_leader("c")
    assert bench["c"].core.role is not Role.LEADER
    bench.make_leader("b")
    assert bench["b"].core.role is Role.LEADER
    assert bench["b"].core.log.last >= leader.core.committed


def test_the_longer_log_of_an_older_term_is_not_more_up_to_date():
    """5.4.1: the log with the later last term is more up-to-date, however short it is."""
    bench = slow("abc")
    leader = bench.make_leader("a")
    bench.partition("a", "bc")
    for value in range(10):
        leader.put("k", value)
    bench.settle()
    bench.make_leader("b")
    assert bench["a"].core.log.last > bench["b"].core.log.last
    assert not bench["b"].core.log.up_to_date(bench["a"].core.log.last, bench["a"].core.log.last_term)
    assert bench["a"].core.log.up_to_date(bench["b"].core.log.last, bench["b"].core.log.last_term)


def test_figure_8_an_older_terms_entry_is_not_committed_by_counting():
    """5.4.2, figure 8: an entry of an older term on a majority can still be overwritten; so it does not count."""
    bench = slow("abcde", append_entries=1)
    bench.make_leader("a")
    bench.run(300)
    bench.partition("ab", "c", "d", "e")
    bench["a"].put("k", "two", ack="async")  # (a) reaches b only
    bench.settle()
    index = bench["a"].core.log.last
    assert bench["b"].core.log.last == index
    assert bench["a"].core.committed < index
    bench.partition("a", "b", "cde")
    bench.filter = lambda s, t, m: not (isinstance(m, Append) and s == "e")
    bench.make_leader("e")  # (b) elected by c and d; what it appends reaches nobody
    assert bench["e"].core.role is Role.LEADER
    bench["e"].crash()
    bench.partition("abc", "d", "e")  # (c) a is elected again, and "two" comes to be on a majority
    bench.filter = lambda s, t, m: not (isinstance(m, Append) and s == "a" and any_of_own_term(bench, m))
    bench.run(300)
    bench.make_leader("a", times=3)
    bench.run(1_000)
    assert bench["a"].core.role is Role.LEADER
    assert all(bench[name].core.log.has(index, 1) for name in "abc"), "on a majority"
    assert bench["a"].core.committed < index, "and not committed all the same"
    bench.filter = None
    bench.partition("a", "bcde")  # (d) e can still win, and overwrite it
    bench["e"].start()
    bench.run(300)
    bench.make_leader("e", times=3)
    bench.run(1_000)
    assert bench["e"].core.role is Role.LEADER
    assert bench["b"].core.log.term_at(index) == bench["e"].core.log.term_at(index) == 2


def any_of_own_term(bench, message):
    return any(term == message.term for term, _ in message.runs)


def test_an_entry_of_the_own_term_commits_those_before_it():
    """5.4.2: once an entry of the current term is committed, all prior entries are committed indirectly."""
    bench = slow("abc")
    leader = bench.make_leader("a")
    bench.partition("a", "bc")
    leader.put("k", "old", ack="async")
    bench.settle()
    index = leader.core.log.last
    bench["a"].crash()
    bench["a"].start()
    bench.heal()
    bench["b"].crash()
    bench.make_leader("a")
    bench.run(300)
    assert bench["a"].core.committed > index
    assert bench["c"].value("k") == "old"


# -- 5.5, 6, and the thesis


def test_a_message_that_is_repeated_does_no_harm():
    """5.5: AppendEntries that contain entries already in the log are ignored: they are idempotent."""
    bench = slow("abc")
    leader = bench.make_leader("a")
    leader.put("k", 1)
    bench.settle()
    again = [m for s, t, m in bench.sent if isinstance(m, Append) and t == "b"]
    before = bench.log_of("b")
    link = bench.links["a", "b"]
    for message in again:
        bench["b"].core.receive(link.number, message, bench.now_ms, 0)
        bench.turn(bench["b"])
    assert bench.log_of("b") == before
    assert bench["b"].core.role is Role.FOLLOWER


def test_an_entry_of_a_later_message_is_not_cut_off_by_an_earlier_one():
    """5.3, figure 2: only what conflicts is deleted; a delayed shorter message deletes nothing."""
    bench = slow("abc")
    leader = bench.make_leader("a")
    for value in range(5):
        leader.put("k", value)
        bench.settle()
    short = next(m for s, t, m in bench.sent if isinstance(m, Append) and t == "b" and m.bodies)
    last = bench["b"].core.log.last
    bench["b"].core.receive(bench.links["a", "b"].number, short, bench.now_ms, 0)
    bench.turn(bench["b"])
    assert bench["b"].core.log.last == last


def test_who_hears_of_a_leader_votes_for_nobody_else():
    """6, thesis 4.2.3: a server that hears from a current leader does not grant its vote, nor take over the term."""
    bench = Bench("abc")
    leader = bench.elect("a")
    bench["c"].core.election.campaign(transfer=False)
    bench.settle()
    assert leader.core.role is Role.LEADER
    assert leader.core.term < bench["c"].core.term
    assert not [m for m in messages(bench, Vote) if m.granted and not m.survey and m.term == bench["c"].core.term]


def test_a_node_that_was_cut_off_returns_without_raising_the_term():
    """Thesis 9.6: with pre-vote, a partitioned server does not disrupt the cluster when it comes back."""
    bench = Bench("abc")
    leader = bench.elect("a")
    term = leader.core.term
    bench.partition("ab", "c")
    bench.run(20_000)
    assert bench["c"].core.role is Role.CANDIDATE
    assert bench["c"].core.term == term
    bench.heal()
    bench.run(3_000)
    assert leader.core.role is Role.LEADER
    assert {node.core.term for node in bench.living()} == {term}
    assert [m for m in messages(bench, Campaign, "c") if not m.survey] == []


def test_a_survey_binds_nobody():
    """Thesis 9.6: a pre-vote changes neither the term nor the vote of who is asked."""
    bench = slow("abc")
    bench.make_leader("a")
    before = [(bench[name].core.term, bench[name].core.vote) for name in "abc"]
    bench["c"].core.election.survey(50, transfer=False)
    bench.settle()
    assert [(bench[name].core.term, bench[name].core.vote) for name in "abc"] == before


def test_a_late_answer_to_a_survey_deposes_a_leader_of_an_older_term():
    """5.1: whatever message shows a higher term, a leader does not carry its office over into that term."""
    bench = slow("abc")
    leader = bench.make_leader("a")
    late = Vote(7, survey=True, granted=False, last_index=0, last_term=0, reason="", id=1)
    leader.core.receive(bench.links["b", "a"].number, late, bench.now_ms, 0)
    bench.turn(leader)
    assert leader.core.term == 7
    assert leader.core.role is Role.FOLLOWER


def test_a_leader_that_hears_no_quorum_steps_down():
    """Thesis 6.2: a leader steps down if an election timeout passes without a round of heartbeats to a majority."""
    bench = Bench("abc")
    leader = bench.elect("a")
    bench.partition("a", "bc")
    token = leader.put("k", 1)
    bench.run(3_000)
    assert leader.core.role is not Role.LEADER
    failed = leader.answer(token)
    assert isinstance(failed, Failed)
    assert not failed.error.definite


def test_leadership_is_transferred_without_waiting_for_a_timeout():
    """Thesis 3.10: the leader brings the target up to date and tells it to campaign at once."""
    bench = Bench("abc")
    leader = bench.elect("a")
    before = bench.now_ms
    leader.core.transfer("c", leader.now_ms, token="t")
    bench.run_until(lambda: bench["c"].core.role is Role.LEADER, ms=500)
    assert bench.now_ms - before < 500
    bench.run(200)
    assert leader.answer("t").name == "c"
