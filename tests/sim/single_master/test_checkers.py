"""Every checker finds what was planted in a history made by hand, and nothing in one that is right."""

from __future__ import annotations

import pytest

from mmrepl.sim.single_master import checkers
from mmrepl.sim.single_master.history import (
    Acknowledged,
    Committed,
    Cut,
    Final,
    Forced,
    Installed,
    Kept,
    Led,
    Logged,
    LogHistory,
    Lost,
    Opened,
    Shown,
)
from mmrepl.sim.wing_gong import Call

K = ("", "k")


def opened(node, last=0, start=0):
    return Opened(0, node, f"{node}~1", start, 0, last)


def right():
    """Two nodes, two terms, an entry each; what the first leader did not ship is cut off and kept."""
    return [
        opened("a"), opened("b"),
        Led(1, "a", 1, 0), Logged(2, "a", 1, ((1, 11), (1, 12))), Logged(3, "b", 1, ((1, 11),)),
        Committed(4, "a", 1), Acknowledged(4, "a", 1, 1, "quorum"), Acknowledged(5, "a", 2, 1, "async"),
        Led(6, "b", 2, 1), Logged(7, "b", 2, ((2, 21),)), Committed(8, "b", 1),
        Cut(9, "a", 1), Kept(9, "a", 2, 2, (1,)), Logged(9, "a", 2, ((2, 21),)),
        Committed(10, "b", 2), Committed(11, "a", 2),
        Final("a", 2, {K: b"\x01"}), Final("b", 2, {K: b"\x01"}),
    ]  # fmt: skip


def judged(events, calls=(), *, elected=True):
    history = LogHistory(elected=elected, events=list(events), calls=list(calls))
    return {violation.checker for violation in checkers.check_log_history(history)}


def test_a_right_history_has_no_violation():
    """Whatever the checkers find elsewhere is not in here."""
    assert judged(right()) == set()


def without(kind):
    return [event for event in right() if not isinstance(event, kind)]


PLANTED = {
    "election_safety": [*right(), Led(12, "a", 2, 2)],
    "log_matching": [*right(), Logged(12, "a", 3, ((2, 31),)), Logged(13, "b", 3, ((2, 32),))],
    "leader_completeness": [*right(), opened("c"), Led(12, "c", 3, 0)],
    "state_machine_safety": [
        *right(), Logged(12, "a", 3, ((2, 31),)), Committed(13, "a", 3), Cut(14, "b", 2),
        Logged(15, "b", 3, ((3, 32),)), Committed(16, "b", 3),
    ],
    "acknowledged_survive": without(Kept),
    "agreement": [*right()[:-1], Final("b", 2, {K: b"\x02"})],
    "applied_once": [*right(), Shown(12, "a", K, b"\x01", 1, 1), Shown(13, "b", K, b"\x01", 2, 2)],
}  # fmt: skip


@pytest.mark.parametrize("checker", PLANTED)
def test_what_is_planted_is_found(checker):
    """By the checker whose business it is."""
    assert checker in judged(PLANTED[checker])


def test_who_wins_an_old_term_late_may_lack_what_a_newer_one_committed():
    """Only what was committed in an earlier term has to be in the log of a leader."""
    late = [
        opened("a"), opened("b"), opened("c"), Logged(1, "a", 1, ((1, 11),)), Led(2, "a", 3, 1),
        Logged(3, "a", 2, ((3, 32),)), Committed(4, "a", 2),
    ]  # fmt: skip
    assert "leader_completeness" not in judged([*late, Led(5, "b", 2, 0)])
    assert "leader_completeness" in judged([*late, Led(5, "b", 4, 0)])


def test_an_acknowledged_quorum_write_must_not_even_be_a_branch():
    """It has to be in the log at the end."""
    events = [Acknowledged(5, "a", 2, 1, "quorum") if event == Acknowledged(5, "a", 2, 1, "async") else event
              for event in right()]  # fmt: skip
    assert judged(events) == {"acknowledged_survive"}
    assert judged([*events, Forced(12, "b")]) == set()  # people chose to lose it


def test_force_may_lose_what_a_majority_held_and_no_log_holds_any_more():
    """What its log still had its node keeps; without force what it had cut is a loss, too."""
    events = [
        opened("a"), Led(1, "a", 1, 0), Logged(2, "a", 1, ((1, 11), (1, 12))), Committed(3, "a", 2),
        Acknowledged(4, "a", 1, 1, "quorum"), Acknowledged(4, "a", 2, 1, "async"),
        Kept(9, "a", 2, 2, (1,)), Installed(9, "a", 3, 2, 1),
        opened("b"), Led(8, "b", 2, 0), Logged(8, "b", 1, ((2, 21), (2, 22), (2, 23))), Final("b", 3, {K: b"\x01"}),
    ]  # fmt: skip
    assert "acknowledged_survive" in judged(events, elected=False)
    assert "acknowledged_survive" not in judged([*events, Forced(7, "b")], elected=False)
    assert "acknowledged_survive" in judged(
        [*(e for e in events if not isinstance(e, Kept)), Forced(7, "b")], elected=False
    )


def test_a_lost_disk_excuses_what_was_on_it_alone():
    """Nobody can keep a branch on a disk that is gone; a quorum's promise stands all the same."""
    assert judged([*without(Kept), Lost(12, "a", "wiped")]) == set()


def test_agreement_is_about_what_was_applied_too():
    """A node that lags at the end has not agreed."""
    assert judged([*right()[:-1], Final("b", 1, {})]) == {"agreement"}


def test_what_a_crash_forgot_before_it_was_told_may_be_written_anew():
    """The same index and term, by the same primary: nobody had the first one."""
    events = [
        opened("a"), Led(1, "a", 1, 0), Logged(2, "a", 1, ((1, 11), (1, 12))), opened("a", last=1),
        Logged(5, "a", 2, ((1, 13),)),
    ]  # fmt: skip
    assert judged(events, elected=False) == set()
    told = [*events[:3], opened("b"), Logged(3, "b", 1, ((1, 11), (1, 12))), *events[3:]]
    assert judged(told, elected=False) == {"log_matching"}


def test_a_write_may_stand_twice_where_the_first_was_in_a_log_that_gave_way():
    """With manual failover: at a primary that was deposed, and again at its successor."""
    events = [
        *right()[:-6], Shown(8, "a", K, b"\x01", 2, 1), Shown(9, "b", K, b"\x01", 1, 1), *right()[-6:],
        Shown(12, "a", K, b"\x01", 2, 2),
    ]  # fmt: skip
    assert "applied_once" in judged(events)
    assert judged([event for event in events if event != Shown(9, "b", K, b"\x01", 1, 1)], elected=False) == set()


def test_a_read_of_what_a_primary_has_alone_says_nothing():
    """With manual failover a read may show a write before a quorum holds it; the write may be lost then."""
    calls = [
        Call("x", K, True, b"\x01", 0, 1), Call("y", K, True, b"\x02", 2, None), Call("z", K, False, b"\x02", 3, 4),
        Call("z", K, False, b"\x01", 5, 6),
    ]  # fmt: skip
    assert judged(right(), calls) == {"linearizability"}
    assert judged(right(), calls, elected=False) == set()


def test_a_snapshot_stands_for_what_was_before_it():
    """Entries that a node never had are not missed once a snapshot was installed."""
    events = [*right(), opened("c"), Installed(12, "c", 2, 2), Led(13, "c", 3, 2)]
    assert judged(events) == set()


def test_calls_are_judged_too():
    """A read of what was overwritten before it began."""
    calls = [
        Call("x", K, True, b"\x01", 0, 1), Call("x", K, True, b"\x02", 2, 3), Call("y", K, False, b"\x01", 4, 5),
    ]  # fmt: skip
    assert judged(right(), calls) == {"linearizability"}
