"""Every checker finds what was planted in a history made by hand, and nothing in one that is right."""

from __future__ import annotations

import pytest

from mmrepl.causality.dot import Dot
from mmrepl.causality.version_vector import EMPTY, VersionVector
from mmrepl.sim.checkers import CHECKERS, check_all
from mmrepl.sim.history import (
    Acknowledged,
    Answered,
    Applied,
    Became,
    Final,
    Forgiven,
    History,
    Jumped,
    Persisted,
    Queues,
    Quiet,
    Shown,
    Wrote,
)
from mmrepl.types import NodeId

A, B = NodeId("a", 1), NodeId("b", 1)
K = ("drafts", "k")


def vector(**counters):
    return VersionVector({NodeId(name, 1): counter for name, counter in counters.items()})


def dot(origin, counter):
    return Dot(origin, counter)


def wrote(origin, counter, payload=b"\x01", *, context=EMPTY, before=None, stamp=None, place=K, session=1):
    before = VersionVector({origin: counter - 1}) if before is None else before
    stamp = counter << 16 if stamp is None else stamp
    return Wrote(counter, origin.name, dot(origin, counter), place, payload, stamp, context, before, session)


def applied(node, write, *, first=None, payload="same"):
    content = (write.dot.counter, write.place, write.stamp, write.payload if payload == "same" else payload)
    counter = write.dot.counter
    return Applied(50, node, write.dot.origin, counter if first is None else first, counter, (content,))


def final(node, version, *writes):
    siblings = {}
    for write in writes:
        siblings.setdefault(write.place, []).append((write.dot, write.stamp, write.payload))
    payloads = {place: entries[-1][2] for place, entries in siblings.items() if entries[-1][2] is not None}
    return Final(node, version, EMPTY, {p: tuple(entries) for p, entries in siblings.items()}, payloads)


def shown(node, version, *writes, session=1):
    siblings = tuple((write.dot, write.stamp, write.payload) for write in writes)
    return Shown(60, node, session, K, version, siblings, siblings[-1][2] if siblings else None)


def history(*events):
    return History(
        [Became(0, "a", A, EMPTY, "opened"), Became(0, "b", B, EMPTY, "opened"), *events], keeping={"drafts"}
    )


ONE = wrote(A, 1)
TWO = wrote(A, 2, b"\x02", context=vector(a=1))
OTHER = wrote(B, 1, b"\x09", stamp=5)
GONE = wrote(A, 2, None, context=vector(a=1))
READ = shown("a", vector(a=1), ONE)


def ack(write, wanted=1, holders=1):
    return Acknowledged(40, write.node, write.dot, wanted, holders)


RIGHT = history(
    ONE, ack(ONE), READ, TWO, ack(TWO), applied("b", ONE), applied("b", TWO), shown("b", vector(a=2), TWO),
    Persisted(70, "a", vector(a=2)), final("a", vector(a=2), TWO), final("b", vector(a=2), TWO),
    Quiet(3000, 1000, 1, {"Digest": 6}), Queues("a", 10, 100, 10, 100),
)  # fmt: skip

PLANTED = {
    "convergence": history(ONE, OTHER, final("a", vector(a=1, b=1), ONE), final("b", vector(a=1, b=1), OTHER)),
    "convergence, another version": history(ONE, final("a", vector(a=1), ONE), final("b", EMPTY)),
    "no_lost_update": history(ONE, ack(ONE), final("a", vector(a=1))),
    "no_lost_update, of what nobody has": history(ONE, ack(ONE), final("a", EMPTY)),
    "no_lost_update, by other bytes": history(ONE, final("a", vector(a=1), wrote(A, 1, b"\x05"))),
    "no_zombie": history(ONE, GONE, final("a", vector(a=2), ONE, GONE)),
    "exact_reads": history(ONE, TWO, shown("a", vector(a=2), ONE, TWO)),
    "exact_reads, of too little": history(ONE, shown("a", vector(a=1))),
    "one_content": history(ONE, applied("b", ONE), applied("c", ONE, payload=b"\x05")),
    "minted_once": history(ONE, Answered(40, "a", ONE.dot), Became(41, "a", A, EMPTY, "opened"), wrote(A, 1, b"\x05")),
    "contiguous_logs": history(ONE, TWO, applied("b", TWO)),
    "contiguous_logs, twice": history(ONE, applied("b", ONE), applied("b", ONE)),
    "vectors_grow": history(ONE, Jumped(9, "a", EMPTY)),
    "vectors_grow, over a restart": history(ONE, Persisted(9, "a", vector(a=1)), Became(10, "a", A, EMPTY, "opened")),
    "causal_order": history(ONE, wrote(B, 1, before=vector(a=1)), applied("c", wrote(B, 1))),
    "causal_order, of a snapshot": history(ONE, wrote(B, 1, before=vector(a=1)), Jumped(9, "c", vector(b=1))),
    "stamps_rise": history(ONE, wrote(A, 2, stamp=3)),
    "no_far_future": history(
        ONE, Applied(5, "b", A, 1, 1, ((1, K, (10**9) << 16, b"\x01"),), "a", 1, wall_ms=5)
    ),
    "acknowledged_truly": history(ONE, ack(ONE, wanted=2, holders=1)),
    "read_your_writes": history(ONE, shown("a", EMPTY)),
    "monotonic_reads": history(ONE, READ, shown("a", EMPTY)),
    "monotonic_reads, of what had gone": history(ONE, READ, TWO, shown("a", vector(a=2), TWO), shown("a", vector(a=2), ONE)),
    "monotonic_writes": history(ONE, wrote(A, 2, session=1), applied("b", wrote(A, 2))),
    "writes_follow_reads": history(
        OTHER, applied("a", OTHER), shown("a", vector(b=1), OTHER), ONE, applied("c", ONE)
    ),
    "bounded_queues": history(Queues("a", 101, 100, 0, 100)),
    "bounded_queues, outbound": history(Queues("a", 0, 100, 101, 100)),
    "quiet": history(Quiet(3000, 1000, 1, {"Delta": 1})),
    "quiet, digests": history(Quiet(3000, 1000, 1, {"Digest": 60})),
}  # fmt: skip


def test_nothing_is_wrong_with_what_is_right():
    """No checker finds anything."""
    assert check_all(RIGHT) == []


@pytest.mark.parametrize("name", PLANTED)
def test_the_planted_violation_is_found(name):
    """By the checker that it was planted for."""
    checker = name.partition(",")[0]
    found = check_all(PLANTED[name], [checker])
    assert found
    assert {violation.checker for violation in found} == {checker}
    assert str(found[0]).startswith(checker)


def test_every_checker_has_something_to_find():
    """None is left out."""
    assert {name.partition(",")[0] for name in PLANTED} == set(CHECKERS)


def test_what_a_disk_lost_alone_may_be_missing():
    """Nobody else had it: it is forgiven, and only it."""
    lost = Forgiven(45, "a", frozenset({ONE.dot}), "wiped")
    assert check_all(history(ONE, ack(ONE), lost, final("b", EMPTY)), ["no_lost_update"]) == []
    later = wrote(A, 2, b"\x02")
    assert check_all(history(ONE, lost, later, ack(later), final("b", EMPTY)), ["no_lost_update"])


def test_what_was_not_acknowledged_may_be_there_or_not():
    """An indefinite write is optional."""
    assert check_all(history(ONE, final("b", EMPTY)), ["no_lost_update"]) == []
    assert check_all(history(ONE, final("b", vector(a=1), ONE)), ["no_lost_update"]) == []


def test_tombstones_and_losers_may_be_forgotten():
    """A tombstone anywhere, a loser where the resolver only selects; never another value."""
    assert check_all(history(ONE, GONE, final("a", vector(a=2))), ["no_lost_update"]) == []
    place = ("", "k")
    low, high = wrote(A, 1, place=place), wrote(B, 1, b"\x09", place=place, stamp=1 << 30)
    assert check_all(history(low, high, final("a", vector(a=1, b=1), high)), ["no_lost_update"]) == []
    assert check_all(history(low, high, final("a", vector(a=1, b=1), low)), ["no_lost_update"])


def test_a_write_that_was_made_again_is_not_lost():
    """A node that starts over makes its unseen writes again: another dot, the same stamp and bytes, nobody's session."""
    again = Wrote(9, "a", dot(NodeId("a", 2), 1), K, ONE.payload, ONE.stamp, EMPTY, EMPTY, 0)
    events = history(ONE, ack(ONE), Became(8, "a", NodeId("a", 2), EMPTY, "started over"), again,
                     final("a", VersionVector({NodeId("a", 2): 1}), again))  # fmt: skip
    assert check_all(events, ["no_lost_update", "no_zombie"]) == []


def test_what_would_lose_as_soon_as_it_was_made_again_is_not_lost():
    """Only where a node that had it started over. Elsewhere an acknowledged write stays, be there a later one or not."""
    place = ("", "k")
    mine, later = wrote(A, 1, place=place), wrote(B, 1, b"\x09", place=place, stamp=1 << 30)
    end = final("b", vector(b=1), later)
    over = Became(8, "a", NodeId("a", 2), EMPTY, "started over")
    assert check_all(history(mine, ack(mine), over, later, end), ["no_lost_update"]) == []
    assert check_all(history(mine, ack(mine), later, end), ["no_lost_update"])


def test_what_is_made_again_under_a_dot_that_nobody_was_told_of_follows_no_reads():
    """The write of the session is forgotten, and what is made again is nobody's."""
    again = wrote(A, 1, b"\x05", session=0)
    reopened = Became(41, "a", A, EMPTY, "opened")
    events = [OTHER, applied("a", OTHER), shown("a", vector(b=1), OTHER), ONE, reopened]
    assert check_all(history(*events, again, applied("c", again)), ["writes_follow_reads"]) == []
    assert check_all(history(*events, applied("c", ONE)), ["writes_follow_reads"])


def test_a_dot_that_nobody_was_told_of_may_be_minted_again():
    """Its write died with the process; the second one is what the dot stands for."""
    second = wrote(A, 1, b"\x07", stamp=3 << 16)
    events = history(ONE, Became(5, "a", A, EMPTY, "opened"), second, ack(second), applied("b", second),
                     final("a", vector(a=1), second), final("b", vector(a=1), second))  # fmt: skip
    assert check_all(events) == []
