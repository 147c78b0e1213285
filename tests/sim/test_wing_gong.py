"""The search for a linear order, beside one that tries them all."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrepl.errors import UsageError
from mmrepl.sim import wing_gong as module
from mmrepl.sim.wing_gong import Call, Undecided, linear_order, linearizability

K = ("", "k")
ONE, TWO = b"\x01", b"\x02"


def write(payload, called, answered, client="ada"):
    return Call(client, K, True, payload, called, answered, "n1")


def read(payload, called, answered, client="bob"):
    return Call(client, K, False, payload, called, answered, "n2")


def is_order(order, initial=None):
    """Whether the calls, one after the other, respect real time and show what was written."""
    for index, call in enumerate(order):
        if any(later.answered is not None and later.answered < call.called for later in order[index + 1 :]):
            return False
    state = initial
    for call in order:
        if call.is_write:
            state = call.payload
        elif call.payload != state:
            return False
    return True


def tried_all(calls):
    """The dumb twin: every subset of the calls of unknown fate, in every order."""
    sure = [call for call in calls if call.answered is not None]
    unsure = [call for call in calls if call.answered is None]
    for mask in range(1 << len(unsure)):
        chosen = sure + [call for bit, call in enumerate(unsure) if mask >> bit & 1]
        if any(is_order(order) for order in permutations(chosen)):
            return True
    return False


@st.composite
def histories(draw):
    calls = []
    for number in range(draw(st.integers(0, 5))):
        called = draw(st.integers(0, 8))
        payload = draw(st.sampled_from([None, ONE, TWO]))
        is_write = draw(st.booleans())
        answered = called + draw(st.integers(0, 5))
        if is_write and draw(st.integers(0, 3)) == 0:
            answered = None
        calls.append(Call(f"c{number}", K, is_write, payload, called, answered))
    return calls


@settings(report_multiple_bugs=False)
@given(histories())
def test_the_search_agrees_with_trying_every_order(calls):
    """Clever equals dumb; and the order that is given is one."""
    order = linear_order(calls)
    assert (order is not None) == tried_all(calls)
    assert (linearizability(calls) == []) == (order is not None)
    if order is not None:
        assert is_order(order)
        assert {call.client for call in calls if call.answered is not None} <= {call.client for call in order}


def test_a_stale_read_is_found_and_told():
    """A read that began after a write was answered must not show what was there before."""
    calls = [write(ONE, 0, 10), write(TWO, 20, 30), read(ONE, 40, 50), read(TWO, 60, 70)]
    (violation,) = linearizability(calls)
    assert violation.checker == "linearizability"
    assert violation.place == K
    assert "bob reads 1 at n2 [40..50]" in violation.text
    assert "ada writes 2 at n1 [20..30]" in violation.text
    assert "of 3 calls" in violation.text  # the last read has nothing to do with it


def test_two_reads_that_see_a_write_come_and_go_are_found():
    """Once somebody saw the new value, nobody may see the old one."""
    calls = [write(ONE, 0, 1), write(TWO, 10, 40), read(TWO, 12, 14), read(ONE, 20, 22)]
    assert linearizability(calls)
    assert not linearizability([*calls[:2], read(ONE, 12, 14), read(TWO, 20, 22)])


def test_a_write_of_unknown_fate_may_happen_late_or_never():
    """Nobody may hold against the store what its client does not know."""
    lost = write(TWO, 10, None)
    assert not linearizability([write(ONE, 0, 1), lost, read(ONE, 20, 30)])
    assert not linearizability([write(ONE, 0, 1), lost, read(ONE, 20, 30), read(TWO, 40, 50)])
    assert linearizability([write(ONE, 0, 1), lost, read(TWO, 20, 30), read(ONE, 40, 50)])


def test_keys_are_judged_by_themselves():
    """What is wrong with one key says nothing of another."""
    other = Call("ada", ("", "l"), True, ONE, 0, 1)
    found = linearizability([other, write(ONE, 0, 1), read(None, 2, 3)])
    assert [violation.place for violation in found] == [K]


def test_what_was_there_before_may_be_given():
    """A history need not begin with an empty store."""
    assert linearizability([read(ONE, 0, 1)])
    assert not linearizability([read(ONE, 0, 1)], initial={K: ONE})


def test_a_call_answered_before_it_was_made_is_refused():
    """Such a history is not one."""
    with pytest.raises(UsageError, match="before it was made"):
        linearizability([write(ONE, 5, 4)])


def test_the_search_is_bounded():
    """Too many calls at once end in an error that says so, not in a verdict."""
    calls = [write(bytes([value]), 0, 100, f"c{value}") for value in range(1, 40)] + [read(b"\x7f", 50, 90)]
    with pytest.raises(Undecided, match="states_max"):
        linearizability(calls, states_max=1_000)


def test_long_histories_of_few_overlaps_are_quick():
    """The memory of what was looked at makes the cost follow the overlaps, not the length."""
    calls = []
    for step in range(2_000):
        payload = step.to_bytes(2, "big")
        calls += [write(payload, 10 * step, 10 * step + 7), read(payload, 10 * step + 5, 10 * step + 12)]
    assert linear_order(calls) is not None


@pytest.mark.parametrize("planted", ["blind", "careless"])
def test_a_search_with_a_defect_is_found(planted, monkeypatch):
    """The dumb twin finds a search that ignores what reads show, and one that forgets to take back."""
    if planted == "blind":
        monkeypatch.setattr(module, "_order", lambda calls, initial, most: list(calls))
    else:
        monkeypatch.setattr(module._Node, "put_back", lambda self: None)
    with pytest.raises((AssertionError, AttributeError)):
        test_the_search_agrees_with_trying_every_order()
