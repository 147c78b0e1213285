"""Client sessions and conditions: a retry is applied once, and a write only where it may be."""

from __future__ import annotations

import pytest

from mmrepl.errors import SessionExpired, StaleRequest
from mmrepl.single_master.entry import SESSION, WRITE, Entry
from mmrepl.single_master.state import APPLIED, EXPIRED, REPEATED, STALE, UNMET, SessionBounds, State
from mmrepl.values import encode
from tests.single_master.bench import Answered, Bench, Failed
from tests.single_master.test_manual import manual
from tests.single_master.test_paper import slow


def opened(bench):
    leader = bench.leader()
    leader.core.open_session(leader.now_ms, leader.wall_ms, token="session")
    bench.settle()
    return leader.answer("session").index


def test_a_retry_through_the_log_is_applied_once():
    """A client that was told nothing asks the new leader again: the write is in the log twice, and applied once."""
    bench = slow()
    leader = bench.make_leader("a")
    session = opened(bench)
    leader.put("k", "first", session=session, request=1, token="one")
    bench.turn(leader)
    bench.settle()
    first = leader.answer("one").index
    leader.put("k", "other", token="between")
    bench.settle()
    other = bench["b"]
    bench["a"].crash()
    bench.make_leader("b")
    other.core.propose("", "k", encode("first"), other.now_ms, other.wall_ms, session=session, request=1, token="two")
    bench.settle()
    bench.run(300)
    answer = other.answer("two")
    assert (answer.index, answer.applied) == (first, True), "the same answer"
    assert bench["c"].value("k") == other.value("k") == "other", "not applied again over a later write"


def test_two_of_one_request_in_the_log_are_applied_once():
    """Both were appended before either was applied: the second does nothing, and gives the answer of the first."""
    bench = slow()
    leader = bench.make_leader("a")
    session = opened(bench)
    bench.partition("a", "bc")
    leader.put("k", 1, session=session, request=1, token="one")
    leader.put("k", "between", token="between")
    leader.put("k", 1, session=session, request=1, token="two")
    bench.heal()
    bench.run(500)
    assert leader.answer("one").index == leader.answer("two").index
    assert leader.value("k") == "between"


def test_an_unknown_session_and_an_old_request_are_told_so():
    """Neither is applied; nobody can tell about earlier attempts, so both are indefinite."""
    bench = slow()
    leader = bench.make_leader("a")
    leader.put("k", 1, session=999, request=1, token="unknown")
    bench.settle()
    failed = leader.answer("unknown")
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, SessionExpired)
    assert not failed.error.definite
    session = opened(bench)
    for request in (1, 2):
        leader.put("k", request, session=session, request=request)
        bench.settle()
    with pytest.raises(StaleRequest):
        leader.put("k", 3, session=session, request=1)
    assert leader.value("k") == 2


def write(key, value, stamp, **how):
    return Entry(
        WRITE, stamp, "", key, encode(value), how.get("session", 0), how.get("request", 0), how.get("expect", -1)
    )


def session_entry(stamp, count=10, age_ms=1_000):
    import msgspec

    return Entry(SESSION, stamp, payload=msgspec.msgpack.encode(SessionBounds(count, age_ms)))


def test_sessions_expire_by_the_stamps_of_the_log():
    """A session that was not used for longer than its bound, by stamps, is gone: at every node at the same entry."""
    state = State()
    state.apply(1, session_entry(1_000))
    assert state.apply(2, write("k", 1, 1_900, session=1, request=1)) == APPLIED
    assert state.apply(3, write("k", 2, 2_800, session=1, request=2)) == APPLIED
    assert state.apply(4, write("j", 2, 3_900)) == APPLIED
    assert state.apply(5, write("k", 3, 3_900, session=1, request=3)) == EXPIRED
    assert state.get("", "k") == (encode(2), 3)


def test_sessions_are_bounded_in_number():
    """The least recently used goes."""
    state = State()
    for index in (1, 2, 3):
        state.apply(index, session_entry(index, count=3))
    state.apply(4, write("k", 1, 4, session=1, request=1))
    state.apply(5, session_entry(5, count=3))
    assert list(state.sessions) == [3, 1, 5]
    state.check()


def test_what_comes_of_requests():
    """Applied, repeated, stale: by the number of the request alone."""
    state = State()
    state.apply(1, session_entry(1))
    assert state.apply(2, write("k", 1, 1, session=1, request=1)) == APPLIED
    assert state.apply(3, write("k", 1, 1, session=1, request=1)) == REPEATED
    assert state.apply(4, write("k", 2, 1, session=1, request=5)) == APPLIED
    assert state.apply(5, write("k", 3, 1, session=1, request=4)) == STALE


def test_a_condition_is_judged_where_it_is_applied():
    """A write on condition holds only where the key was last written at that index; 0 is absent."""
    state = State()
    assert state.apply(1, write("k", 1, 1, expect=0)) == APPLIED
    assert state.apply(2, write("k", 2, 1, expect=0)) == UNMET
    assert state.apply(3, write("k", 3, 1, expect=1)) == APPLIED
    assert state.apply(4, Entry(WRITE, 1, "", "k", None, 0, 0, 3)) == APPLIED
    assert state.apply(5, write("k", 5, 1, expect=4)) == UNMET, "deleted is absent"
    assert state.apply(6, write("k", 6, 1, expect=0)) == APPLIED
    state.forget_deletions(4)
    state.check()


def test_the_writer_is_told_whether_the_condition_held():
    """`Answered.applied` says it."""
    bench = Bench("a")
    leader = bench.elect()
    leader.put("k", 1, token="one", expect=0)
    leader.put("k", 2, token="two", expect=0)
    bench.settle()
    assert leader.answer("one").applied
    assert isinstance(leader.answer("two"), Answered)
    assert not leader.answer("two").applied


def test_sessions_survive_checkpoints_and_snapshots():
    """A retry is recognised by a node that has the session only from a snapshot, and after a restart."""
    bench = Bench("abc", log_entries=10, log_margin=2, election_ms_min=100_000, election_ms_max=200_000)
    leader = bench.make_leader("a")
    session = opened(bench)
    leader.put("s", "once", session=session, request=1, token="one")
    bench.settle()
    first = leader.answer("one").index
    bench["c"].crash()
    for value in range(50):
        leader.put("k", value)
        bench.settle()
    bench["c"].start()
    bench.run(1_000)
    assert bench["c"].core.log.start > 10
    bench["c"].crash()
    bench["c"].start()
    bench["b"].crash()
    bench.run(500)
    bench["a"].core.transfer("c", leader.now_ms, token="t")
    bench.run(1_000)
    other = bench["c"]
    other.core.propose("", "s", encode("once"), other.now_ms, other.wall_ms, session=session, request=1, token="two")
    bench.run(300)
    assert other.answer("two").index == first


def test_a_retry_is_acknowledged_by_as_many_as_it_asks_for():
    """With a primary that commits by its own disk, what was applied is not yet what a quorum holds."""
    bench = manual()
    primary = bench["a"]
    session = opened(bench)
    bench.partition("a", "bc")
    for token in ("one", "two"):
        primary.put("k", 1, session=session, request=1, token=token, ack="quorum")
        bench.run(100)
        assert primary.value("k") == 1
        assert primary.answer(token) is None, "applied, and held by nobody else"
    bench.heal()
    bench.run(500)
    assert primary.answer("one").index == primary.answer("two").index
