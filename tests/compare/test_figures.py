"""Each figure finds what it is named after in a record made by hand, and nothing in one that is right."""

from __future__ import annotations

import pytest

from mmrepl.causality.dot import Dot
from mmrepl.causality.version_vector import VersionVector
from mmrepl.compare import figures
from mmrepl.compare.figures import latency
from mmrepl.compare.record import Event, Record, RunRecord, covers, descends
from mmrepl.types import NodeId
from mmrepl.wire.seen import LogPosition

A = NodeId("a", 1)


def write(item, called, answered, mark, *, writes=None, outcome="ok", client=1, home="a", key="k"):
    items = frozenset([item]) if writes is None and item is not None else writes
    return Record(
        client, home, "write", key, called, answered, outcome, item=item, writes=items, mark=mark, size_bytes=10
    )


def read(shows, called, answered, position, *, client=1, home="a", siblings=1, key="k"):
    return Record(
        client, home, "read", key, called, answered, "ok", shows=frozenset(shows), siblings=siblings, position=position
    )


def run(*records, final=(), survived=(), events=(), isolated=(), single=True):
    return RunRecord(
        "mode", ("a", "b"), 0, list(records), list(events), frozenset(isolated),
        {"k": tuple(map(frozenset, final))}, set(survived), single,
    )  # fmt: skip


ONE, TWO, THREE = LogPosition(1, 1), LogPosition(1, 2), LogPosition(2, 3)


def right():
    return run(
        write("x", 0, 2, ONE), read(["x"], 3, 4, ONE), write("y", 5, 7, TWO, writes=frozenset("xy")),
        read(["x", "y"], 8, 9, TWO, client=2),
        final=["xy"], survived=[ONE, TWO],
    )  # fmt: skip


def test_a_right_run_has_nothing_to_be_ashamed_of():
    """No figure finds harm."""
    found = figures(right())
    assert (found.lost, found.overwritten_unseen, found.stale_reads, found.broken.total) == (0, 0, 0, 0)
    assert found.nonlinear_keys == 0
    assert (found.writes.p50, found.reads.p50) == (2, 1)
    assert found.whole.ok == 2
    assert found.siblings_left == 0


def test_a_deletion_that_found_nothing_is_accepted_and_cannot_be_lost():
    """It wrote nothing: it is no loss, it removed no item of others, and it carried no useful byte."""
    nothing = write(None, 8, 9, None, client=2)
    before = right()
    after = run(*before.records, nothing, final=["x"], survived=[ONE, TWO])
    found = figures(after)
    assert (found.whole.ok, found.whole.refused, found.lost) == (3, 0, 0)
    assert found.broken.total == 0
    assert found.overwritten_unseen == 1  # "y", which this deletion has not removed
    assert nothing.wrote_nothing
    assert write("z", 8, 9, None, outcome="refused").wrote_nothing
    assert not write("z", 8, None, None, outcome="unknown").wrote_nothing
    after.sent_bytes = before.sent_bytes = 100
    assert figures(after).bytes_per_useful == figures(before).bytes_per_useful


def test_an_acknowledged_write_without_a_trace_is_lost():
    """And a refused one is not."""
    found = figures(run(write("x", 0, 1, ONE), write("y", 2, 3, TWO, outcome="refused"), final=[""]))
    assert (found.lost, found.overwritten_unseen) == (1, 0)


def test_an_item_written_over_by_somebody_who_had_not_seen_it_is_counted():
    """Its write is in the history, the item is in no list."""
    records = (write("x", 0, 1, ONE, client=1), write("y", 0, 1, TWO, client=2))
    assert figures(run(*records, final=["y"], survived=[ONE, TWO])).overwritten_unseen == 1
    siblings = figures(run(*records, final=["x", "y"], survived=[ONE, TWO]))
    assert (siblings.overwritten_unseen, siblings.siblings_left) == (0, 1)


def test_what_somebody_may_have_deleted_is_not_held_against_the_mode():
    """A deletion after it, or of unknown fate, excuses; one before it does not."""

    def counted(deletion):
        return figures(run(write("x", 5, 6, TWO), deletion, final=[], survived=[ONE, TWO, THREE])).overwritten_unseen

    assert counted(write(None, 7, 8, THREE)) == 0
    assert counted(write(None, 0, None, None, outcome="unknown")) == 0
    assert counted(write(None, 0, 1, ONE)) == 1


def test_a_read_by_a_node_that_lacked_an_acknowledged_write_is_stale():
    """If it was acknowledged before the read began."""
    late = run(write("x", 0, 2, ONE), read([], 3, 4, LogPosition(0, 0)), survived=[ONE], final=["x"])
    assert figures(late).stale_reads == 1
    overlapping = run(write("x", 0, 3, ONE), read([], 3, 4, LogPosition(0, 0), client=2), survived=[ONE], final=["x"])
    assert figures(overlapping).stale_reads == 0


def test_session_guarantees():
    """Each by a history that breaks it."""
    nothing = LogPosition(0, 0)
    own = figures(run(write("x", 0, 1, ONE), read([], 2, 3, nothing), survived=[ONE]))
    assert own.broken.read_your_writes == 1
    back = figures(run(read(["x"], 0, 1, ONE), read([], 2, 3, nothing)))
    assert (back.broken.monotonic_reads, back.broken.read_your_writes) == (1, 0)
    order = figures(run(write("x", 0, 1, ONE), write("y", 2, 3, THREE), survived=[THREE], final=["y"]))
    assert (order.broken.monotonic_writes, order.lost) == (1, 1)
    ground = figures(
        run(
            write("x", 0, 1, ONE, client=2), read(["x"], 2, 3, ONE), write("y", 4, 5, THREE, writes=frozenset("xy")),
            survived=[THREE], final=["xy"],
        )
    )  # fmt: skip
    assert ground.broken.writes_follow_reads == 1


def test_calls_that_no_single_copy_could_have_answered():
    """Asked only where there is one writer."""
    stale = [write("x", 0, 1, ONE), read([], 2, 3, LogPosition(0, 0))]
    assert figures(run(*stale, survived=[ONE])).nonlinear_keys == 1
    assert figures(run(*stale, survived=[ONE], single=False)).nonlinear_keys is None


def test_sides_of_a_partition_are_counted_by_the_homes_of_clients():
    """Only what was called while the network was parted."""
    events = [Event(10, "isolate", "a"), Event(20, "heal")]
    found = figures(
        run(
            write("x", 5, 6, ONE), write("y", 12, 13, TWO), write("z", 12, None, None, outcome="unknown", home="b"),
            write("w", 25, 26, THREE), events=events, isolated=["a"], survived=[ONE, TWO, THREE], final=["xyzw"],
        )
    )  # fmt: skip
    assert (found.cut_off.ok, found.cut_off.unknown) == (1, 0)
    assert (found.others.ok, found.others.unknown) == (0, 1)


@pytest.mark.parametrize(("count", "p50", "p99"), [(1, 1, 1), (2, 1, 2), (100, 50, 99), (101, 51, 100)])
def test_percentiles_are_by_nearest_rank(count, p50, p99):
    """Of what was answered."""
    found = latency([read([], 0, took, ONE) for took in range(1, count + 1)])
    assert (found.p50, found.p99) == (p50, p99)


def test_no_answer_has_no_latency():
    """Rather than a nought."""
    assert latency([]).p50 is None


def test_positions_cover_marks_in_either_mode():
    """A later term at a lower index was never in that log."""
    assert covers(LogPosition(2, 9), LogPosition(1, 3))
    assert not covers(LogPosition(1, 9), LogPosition(2, 3))
    assert not covers(LogPosition(2, 2), LogPosition(1, 3))
    vector = VersionVector({A: 3})
    assert covers(vector, Dot(A, 3))
    assert not covers(vector, Dot(A, 4))
    assert descends(vector, VersionVector({A: 2}))
    assert not descends(VersionVector({A: 2}), vector)
