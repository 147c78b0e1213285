"""The feed of changes: what it tells, in which order, from where, and what it says when it cannot."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrepl.errors import LogTruncated
from mmrepl.single_master import feed as feed_module
from mmrepl.single_master.entry import WRITE, decode_entries
from mmrepl.single_master.events import Installed
from mmrepl.single_master.feed import START, Feed
from mmrepl.single_master.state import APPLIED, State
from mmrepl.values import decode
from mmrepl.wire.seen import LogPosition
from tests.single_master.bench import Bench
from tests.single_master.test_manual import manual
from tests.single_master.test_sessions import opened


def told(core, since=START, count=3):
    """Everything behind *since*, in pages; (place, key, value)."""
    found = []
    while True:
        page, onward = core.changes(since, count)
        assert len(page) <= count
        assert all(since < place <= onward for place, _ in page)
        found += [(place, entry.key, None if entry.payload is None else decode(entry.payload)) for place, entry in page]
        if onward == since:
            return found
        since = onward


def plainly(core):
    """The same by a dumb twin: apply the whole log to an empty state, and keep what did something."""
    state, found = State(), []
    assert core.log.start == 0
    for index in range(1, core.applied + 1):
        [entry] = decode_entries([core.log.body(index)], core.limits)
        if state.apply(index, entry) == APPLIED and entry.kind == WRITE:
            value = None if entry.payload is None else decode(entry.payload)
            found.append((LogPosition(core.log.term_at(index), index), entry.key, value))
    return found


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from("ab"), st.integers(0, 9)),
        st.tuples(st.just("delete"), st.sampled_from("ab")),
        st.tuples(st.just("if absent"), st.sampled_from("ab"), st.integers(0, 9)),
        st.tuples(st.just("twice"), st.sampled_from("ab"), st.integers(0, 9)),
        st.tuples(st.just("another leader")),
    ),
    max_size=25,
)


def do(bench, operations):
    """What *operations* say, at whoever leads."""
    session, request = opened(bench), 0
    for kind, *what in operations:
        leader = bench.leader()
        if kind == "put":
            leader.put(*what)
        elif kind == "delete":
            leader.put(*what, None)
        elif kind == "if absent":
            leader.put(*what, expect=0)
        elif kind == "twice":  # both are in the log before one is applied
            request += 1
            leader.put(*what, session=session, request=request)
            leader.put(*what, session=session, request=request)
        else:
            bench.make_leader(next(node.name for node in bench.living() if node is not leader))
        bench.settle()
    bench.run(500)


@settings(max_examples=30, deadline=None)
@given(operations=OPERATIONS, looked_at=st.sampled_from([1, 2, 5, 4_096]), count=st.integers(1, 5))
def test_it_tells_each_write_that_did_something_once_and_in_order(operations, looked_at, count):
    """At every node the same, whatever the size of the pages: what a dumb twin finds in the log."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed_module, "LOOKED_AT", looked_at)
        bench = Bench("abc")
        bench.elect("a")
        do(bench, operations)
        wanted = plainly(bench["a"].core)
        for node in bench.living():
            assert told(node.core, count=count) == wanted
            for place, _, _ in wanted:
                assert told(node.core, place) == [change for change in wanted if change[0] > place]


def test_planted_a_retry_that_did_nothing_is_told(monkeypatch):
    """The twin is no blind one: without the note of what was idle it finds a difference."""
    monkeypatch.setattr(Feed, "was_idle", lambda *_: None)
    bench = Bench("abc")
    bench.elect("a")
    do(bench, [("twice", "a", 1), ("if absent", "a", 2)])
    assert told(bench["a"].core) != plainly(bench["a"].core)


def test_what_was_cut_from_the_log_is_not_passed_over_in_silence():
    """Who is behind the cut is told so, and where it could go on; who is not, goes on."""
    bench = Bench("abc", log_entries=20, log_margin=5)
    leader = bench.elect("a")
    for value in range(10):
        leader.put("k", value)
    bench.settle()
    early = told(leader.core)[-1][0]
    for value in range(100):
        leader.put("k", value)
        bench.settle()
    assert leader.core.log.start > early.index
    with pytest.raises(LogTruncated, match="are not held here any more"):
        leader.core.changes(early, 10)
    with pytest.raises(LogTruncated):
        leader.core.changes(START, 10)
    late = LogPosition(leader.core.log.start_term, leader.core.log.start)
    values = [value for _, _, value in told(leader.core, late)]
    assert values == list(range(100))[-len(values) :]


def test_a_snapshot_in_place_of_the_log_is_told():
    """A reader at a node that was sent a snapshot has missed what was in it, and can go on behind it."""
    bench = Bench("abc", log_entries=20, log_margin=5)
    leader = bench.elect("a")
    leader.put("k", "before")
    bench.run(300)
    reader = told(bench["c"].core)[-1][0]
    bench["c"].crash()
    for value in range(100):
        leader.put("k", value)
        bench.settle()
    bench["c"].start()
    bench.run(1_000)
    installed = bench["c"].last_event(Installed)
    assert installed is not None
    with pytest.raises(LogTruncated):
        bench["c"].core.changes(reader, 10)
    here = bench["c"].core
    position = LogPosition(here.log.term_at(here.applied), here.applied)
    leader.put("k", "after")
    bench.run(300)
    assert [value for _, _, value in told(here, position)] == ["after"]


def test_after_a_restart_it_begins_behind_the_checkpoint():
    """What of the entries before it did something nobody can tell any more; those behind it are applied again."""
    bench = Bench("abc", log_entries=20, log_margin=15)
    leader = bench.elect("a")
    for value in range(30):
        leader.put("k", value)
        bench.settle()
    bench.run(300)
    checkpoint, start = leader.core.journal.checkpoint, leader.core.log.start
    assert start < checkpoint < leader.core.applied
    wanted = told(leader.core, LogPosition(leader.core.log.start_term, start))
    bench["c"].crash()
    bench["c"].start()
    bench.run(500)
    here = bench["c"].core
    first = here.feed.first
    assert first == here.journal.checkpoint > here.log.start
    assert told(here, LogPosition(here.log.term_at(first), first)) == [each for each in wanted if each[0].index > first]
    with pytest.raises(LogTruncated):
        here.changes(LogPosition(here.log.term_at(first - 1), first - 1), 10)


def test_a_place_that_is_not_reached_yet_tells_nothing():
    """A reader that comes from a node which is ahead waits until this one has applied as much."""
    bench = Bench("abc")
    leader = bench.elect("a")
    leader.put("k", 1)
    bench.run(300)
    core = leader.core
    ahead = LogPosition(core.term, core.applied + 5)
    assert core.changes(ahead, 10) == ([], ahead)
    now = LogPosition(core.term, core.applied)
    assert core.changes(now, 10) == ([], now)


def test_a_place_that_was_cut_off_is_no_place_any_more():
    """Who has followed a primary that was deposed, and comes to the new one's log, has seen what never was."""
    bench = manual()
    bench.check_committed = False  # that is what manual failover is about
    old = bench["a"]
    old.put("k", "common")
    bench.run(300)
    bench.partition("a", "bc")
    for value in range(10):
        old.put("k", value)
    bench.run(100)
    seen = told(old.core)
    assert seen[-1][2] == 9
    bench["b"].core.promote(bench["b"].now_ms, token="promote")
    bench.run(1_000)
    bench["b"].put("k", "new")
    bench.run(300)
    for place in (seen[-1][0], seen[-5][0], seen[-10][0]):  # beyond the new log's end, and within it
        with pytest.raises(LogTruncated, match="cut off"):
            bench["b"].core.changes(place, 10)
    assert [value for _, _, value in told(bench["b"].core, seen[-11][0])] == ["new"]
