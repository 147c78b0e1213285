"""Reads of every level: what each may show, and when it must not."""

from __future__ import annotations

import pytest

from mmrepl.errors import NotPrimary, ReadTooStale
from mmrepl.single_master.events import ReadReady
from mmrepl.single_master.options import ReadLevel, Role
from tests.single_master.bench import Bench, Failed


def two_leaders():
    """An old leader that does not know yet, and a new one that has committed another value."""
    bench = Bench("abc", election_ms_min=1_000, election_ms_max=1_200)
    old = bench.elect("a")
    old.put("k", "old")
    bench.run(300)
    bench.partition("a", "bc")
    old.rate = 0.0  # it stands still while the others go on
    old.skew_ms = bench.now_ms
    bench["a"].core, paused = None, bench["a"].core
    bench.run(4_000)
    new = bench.leader()
    assert new.name in "bc"
    new.put("k", "new")
    bench.settle()
    old.rate, old.skew_ms = 1.0, 0
    old.core = paused
    assert old.core.role is Role.LEADER
    return bench, old


def test_a_lease_read_is_not_served_without_a_quorum():
    """A leader that was away longer than its lease serves no leader read from what it has."""
    bench, old = two_leaders()
    old.core.read(ReadLevel.LEADER, old.now_ms, token="r")
    bench.turn(old)
    assert not isinstance(old.answer("r"), ReadReady)


def test_a_linearizable_read_is_not_served_without_a_quorum():
    """Nor a linearizable one; it is served when the new leader's word has come."""
    bench, old = two_leaders()
    old.core.read(ReadLevel.LINEARIZABLE, old.now_ms, token="r")
    bench.turn(old)
    assert old.answer("r") is None
    bench.heal()
    bench.run(1_000)
    assert isinstance(old.answer("r"), ReadReady)
    assert old.value("k") == "new"


def test_a_lease_read_is_served_at_once():
    """Under the lease a read costs no message."""
    bench = Bench("abc")
    leader = bench.elect("a")
    bench.partition("a", "bc")
    leader.core.read(ReadLevel.LEADER, leader.now_ms, token="r")
    bench.turn(leader)
    assert isinstance(leader.answer("r"), ReadReady)


def test_there_is_no_lease_once_a_successor_was_told():
    """After TakeOver nobody would refuse the successor a vote, so the lease is given up for the term."""
    bench = Bench("abc")
    leader = bench.elect("a")
    bench.filter = lambda s, t, m: type(m).__name__ != "TakeOver"
    leader.core.transfer("b", leader.now_ms, token="t")
    bench.run(100)
    assert leader.core.tenure is not None
    assert not leader.core.tenure.has_lease(leader.now_ms)


def test_a_restarted_voter_lets_the_lease_run_out():
    """Who has just started may have promised a leader not to vote a moment ago, and keeps the promise."""
    bench = Bench("abc")
    bench.elect("a")
    for name in "bc":
        bench[name].crash()
        bench[name].start()
    bench.partition("a", "bc")
    began = bench.now_ms
    bench.dial()
    bench.settle()
    bench["b"].core.election.campaign(transfer=False)
    bench.run(900)
    assert bench["b"].core.role is not Role.LEADER
    bench.run_until(lambda: any(bench[name].core.role is Role.LEADER for name in "bc"))
    assert bench.now_ms - began >= 1_000


@pytest.mark.parametrize("name", ["b", "c"])
def test_followers_serve_linearizable_reads(name):
    """A follower asks the leader for the read index, and serves the read when it has applied that far."""
    bench = Bench("abc")
    leader = bench.elect("a")
    leader.put("k", 7)
    bench.turn(leader)
    bench[name].core.read(ReadLevel.LINEARIZABLE, bench[name].now_ms, token="r")
    bench.settle()
    ready = bench[name].answer("r")
    assert isinstance(ready, ReadReady)
    assert bench[name].value("k") == 7


def test_a_read_waits_for_a_new_leader_to_commit():
    """A leader that has not committed in its own term does not know what is committed: reads wait (thesis 6.4)."""
    bench = Bench("abc", election_ms_min=100_000, election_ms_max=200_000)
    bench.make_leader("a")
    bench.filter = lambda s, t, m: not getattr(m, "bodies", None)
    leader = bench.make_leader("b")
    assert leader.core.role is Role.LEADER
    leader.core.read(ReadLevel.LINEARIZABLE, leader.now_ms, token="r")
    bench.run(300)
    assert leader.answer("r") is None
    bench.filter = None
    bench.run(1_000)
    assert isinstance(leader.answer("r"), ReadReady)


def test_a_bounded_read_says_how_far_behind():
    """Refused when further behind than allowed, with the figures; served when not."""
    bench = Bench("abc")
    leader = bench.elect("a")
    bench["c"].core.read(ReadLevel.BOUNDED, bench["c"].now_ms, max_entries=0, max_ms=500, token="fresh")
    bench.turn(bench["c"])
    assert isinstance(bench["c"].answer("fresh"), ReadReady)
    bench.partition("ab", "c")
    leader.put("k", 1)
    bench.run(800)
    with pytest.raises(ReadTooStale) as caught:
        bench["c"].core.read(ReadLevel.BOUNDED, bench["c"].now_ms, max_ms=500, token="stale")
    assert 800 <= caught.value.behind_ms <= 1_000
    assert caught.value.definite
    bench["c"].core.read(ReadLevel.BOUNDED, bench["c"].now_ms, max_ms=5_000, token="older")


def test_a_leader_read_elsewhere_says_where():
    """A follower refuses it and names the leader."""
    bench = Bench("abc", client="clients:1")
    bench.elect("a")
    with pytest.raises(NotPrimary) as caught:
        bench["b"].core.read(ReadLevel.LEADER, bench["b"].now_ms, token="r")
    assert (caught.value.name, caught.value.address, caught.value.primary) == ("a", "a", "clients:1")


def test_a_read_that_nobody_confirms_fails_in_time():
    """Without a quorum a linearizable read ends in QuorumLost, and is not served."""
    bench = Bench("abc", read_timeout_ms=1_000)
    leader = bench.elect("a")
    bench.partition("a", "b", "c")
    leader.core.read(ReadLevel.LINEARIZABLE, leader.now_ms, token="r")
    bench.run(1_500)
    failed = leader.answer("r")
    assert isinstance(failed, Failed)
    assert failed.error.definite


def test_single_voter_reads_at_once():
    """A cluster of one confirms itself."""
    bench = Bench("a")
    leader = bench.elect()
    leader.core.read(ReadLevel.LINEARIZABLE, leader.now_ms, token="r")
    bench.settle()
    assert isinstance(leader.answer("r"), ReadReady)
