"""`check_resolver` finds every fault that is planted, tells it well, and lets be what is right."""

from __future__ import annotations

import functools
import threading

import pytest
from hypothesis import strategies as st

import mmrepl
from mmrepl.errors import UsageError
from mmrepl.resolvers import LastWriterWins
from mmrepl.testing import (
    Arrive,
    Delete,
    Deliver,
    Exchange,
    Put,
    Repeat,
    ResolverRefuted,
    Restart,
    Send,
    Settle,
    WriteBack,
    check_history,
    check_resolver,
)
from tests.testing import wrong

QUICK = {"max_examples": 20}
HANGING = {"seconds": 0.3, "max_examples": 20}

PLANTED = [
    (wrong.set_order, "hash order"),
    (wrong.set_display, "hash order"),
    (wrong.any_of_a_set, "other process"),
    (wrong.by_hash, "hash order"),
    (wrong.stamps, "clock"),
    (wrong.dates, "clock"),
    (wrong.rolls, "dice"),
    (wrong.rolls_its_own_unseeded_dice, "two answers"),
    (wrong.names_anew, "dice"),
    (wrong.asks_the_system, "dice"),
    (wrong.sorts_as_spoken, "locale"),
    (wrong.reads_settings, "outside"),
    (wrong.knows_its_process, "outside"),
    (wrong.local_time, "other process"),
    (wrong.mutates_list, "mutates"),
    (wrong.mutates_value, "mutates"),
    (wrong.returns_set, "not a value"),
    (wrong.returns_tuple, "not a value"),
    (wrong.returns_nothing_storable, "not a value"),
    (wrong.fails_on_empty, "raises"),
    (wrong.hangs, "hangs"),
    (wrong.sleeps, "hangs"),
    (wrong.counts_calls, "two answers"),
    (wrong.remembers, "memory"),
    (wrong.concatenates, "grows"),
    (wrong.sums, "never rests"),
    (wrong.sums_floats, "never rests"),
    (wrong.wraps_each_time, "grows"),
    (wrong.ByArrival(), "order of arrival"),
    (wrong.Remembering(), "memory"),
]


def name_of(thing) -> str:
    return getattr(thing, "__name__", repr(thing))


def refuted(resolver, *arguments, **options) -> ResolverRefuted:
    """The refutation of what must be refuted."""
    with pytest.raises(ResolverRefuted) as caught:
        check_resolver(resolver, *arguments, **QUICK | options)
    return caught.value


@pytest.mark.parametrize(("resolver", "kind"), PLANTED, ids=name_of)
def test_a_planted_fault_is_found_and_the_pasted_test_fails_for_the_same_reason(resolver, kind):
    """Named in the first line, drawn, mended; and the regression test, run as it is printed, is red for the same fault."""
    refutation = refuted(resolver, **(HANGING if kind == "hangs" else QUICK))
    assert (refutation.kind, refutation.sentence.split()[0].rstrip(":")) == (
        kind,
        getattr(resolver, "__name__", type(resolver).__name__),
    ), refutation
    assert str(refutation).startswith(refutation.sentence)
    assert "paris" in refutation.diagram
    assert len(refutation.history) <= 7
    assert refutation.mend
    namespace: dict[str, object] = {}
    exec(refutation.regression, namespace)
    (test,) = (value for name, value in namespace.items() if name.startswith("test_"))
    if kind == "hangs":
        return  # it would take the whole default limit
    with pytest.raises(ResolverRefuted) as again:
        test()
    assert again.value.kind == kind
    assert again.value.history == refutation.history


@pytest.mark.parametrize("resolver", wrong.RIGHT, ids=name_of)
def test_what_is_right_is_let_be(resolver):
    """No false alarm; and another process was asked."""
    told = check_resolver(resolver, max_examples=12)
    assert not [note for note in told.notes if "another process" in note], told
    assert told.plays >= 12
    assert told.questions > 5


def test_an_invariant_sees_the_writes_behind_a_read():
    """A function that drops an item keeps all laws; only its owner knows better."""

    def keeps_all(writes, result):
        return set().union(*writes) <= set(result)

    check_resolver(wrong.drops_one, **QUICK)
    refutation = refuted(wrong.drops_one, invariant=keeps_all)
    assert refutation.kind == "invariant"
    assert "of the writes" in refutation.sentence
    assert sorted(type(step).__name__ for step in refutation.history) == ["Deliver", "Put", "Put"]
    check_resolver(wrong.union, invariant=keeps_all, **QUICK)


def test_an_invariant_counts_a_write_once_however_often_it_was_merged():
    """A sum that is written back counts twice; the history has a write-back in it, and it is the smallest."""

    def total(values: list[int]) -> int:
        return sum(values)

    def adds_up(writes, result):
        assert result == sum(writes), "counted twice"

    refutation = refuted(total, [1, 2], invariant=adds_up)
    assert refutation.kind == "invariant"
    assert "counted twice" in refutation.sentence
    assert any(isinstance(step, WriteBack | Settle) for step in refutation.history)
    assert len(refutation.history) <= 7


def test_an_invariant_that_fails_itself_is_the_callers_error():
    """What is wrong with the invariant is not told of the resolver."""
    with pytest.raises(UsageError, match="the invariant raised TypeError"):
        check_resolver(wrong.union, invariant=lambda writes, result: writes + 1, **QUICK)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (42, "needs a Resolver, or a function of a list of values, not 42 of type int"),
        (LastWriterWins, r"is a class: give check_resolver an instance of it, LastWriterWins\(\.\.\.\)"),
        (
            lambda a, b: a,
            "cannot be called with one list of values .* a function of two values is checked by check_merge",
        ),
        (wrong.waits, "not a coroutine function"),
    ],
)
def test_what_is_no_resolver_is_refused(given, message):
    """The caller is told what was expected."""
    with pytest.raises(UsageError, match=message):
        check_resolver(given)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "empty list"),
        ([["tea"], {"tea"}], r"values\[1\] cannot be stored"),
        (st.sets(st.integers()), "which cannot be stored"),
        ("tea", "must be a Hypothesis strategy, a list of examples or a type"),
        (st.integers(min_value=2**70), "no example came out"),
    ],
)
def test_values_that_cannot_be_written_are_the_callers_error(values, message):
    """Named, before anything is blamed on the resolver."""
    with pytest.raises(UsageError, match=message):
        check_resolver(wrong.union, values)


@pytest.mark.parametrize("values", [st.integers(), int, [1, 2, 3], int | None, dict[str, list[int]]])
def test_values_come_in_many_shapes(values):
    """A strategy, a list of examples, a type. Ints of more than 64 bits are left out."""
    check_resolver(lambda group: group[0], values, max_examples=20)


def test_a_lambda_is_checked_as_far_as_it_goes_and_the_report_says_how_far():
    """It has no name for another process; the order of sets is found all the same."""
    told = check_resolver(lambda carts: sorted(set().union(*carts)), [["tea"], ["milk"]], **QUICK)
    assert "the lambda was not asked in another process" in str(told)
    refutation = refuted(lambda carts: list(set().union(*carts)), [["tea"], ["milk", "cake"]])
    assert refutation.kind == "hash order"
    assert "resolver = ...  # put the lambda here" in refutation.regression


def test_a_closure_that_remembers_is_found_without_another_process():
    """Asked in another order, in this process."""
    heard: set[str] = set()

    def hoards(carts: list[list[str]]) -> list[str]:
        heard.update(*carts)
        return sorted(heard)

    assert refuted(hoards, [["a"], ["b"], ["c"]]).kind == "memory"


def test_a_partial_has_a_name():
    """That of the function in it."""

    def first(place, carts):
        raise RuntimeError("no")

    assert refuted(functools.partial(first, 0)).sentence.startswith(
        "first raises RuntimeError: no (test_resolver_check.py:"
    )


def test_the_first_fault_in_the_order_of_mistakes_is_told():
    """Several faults: what fails outright comes before what fails in the end."""

    def both(carts: list[list[str]]):
        if ["x"] in carts:
            return {"x"}
        return [item for cart in carts for item in cart]

    assert refuted(both, [["x"], ["a"]]).kind == "not a value"


def test_the_same_seed_finds_the_same_history_and_another_may_find_another():
    """The message, too, is the same to the letter."""
    assert str(refuted(wrong.mutates_list)) == str(refuted(wrong.mutates_list))
    assert refuted(wrong.mutates_list, seed=1).kind == "mutates"


def test_it_works_away_from_the_main_thread_and_stops_what_hangs_there():
    """Where there are no signals, the exception is raised in the thread itself."""
    caught: list[BaseException] = []

    def check() -> None:
        try:
            check_resolver(wrong.hangs, **HANGING)
        except ResolverRefuted as refutation:
            caught.append(refutation)

    thread = threading.Thread(target=check)
    thread.start()
    thread.join(30)
    assert caught[0].kind == "hangs"


def test_a_check_leaves_the_profile_function_and_the_signal_handler_as_they_were():
    """Coverage and profilers go on."""
    import signal
    import sys

    def mine(*_):
        return None

    sys.setprofile(mine)
    before = signal.getsignal(signal.SIGVTALRM)
    try:
        check_resolver(wrong.union, max_examples=5)
        assert sys.getprofile() is mine
    finally:
        sys.setprofile(None)
    assert signal.getsignal(signal.SIGVTALRM) is before


# -- histories


def test_every_step_can_be_played_and_pasted():
    """A history with each kind of step; its repr is its source."""
    history = [
        Put("paris", ["a"]),
        Send("paris", "tokyo"),
        Put("tokyo", ["b"], blind=True),
        Put("paris", [float("inf"), float("-inf")]),
        Deliver("paris", "tokyo"),
        Arrive("paris", "tokyo"),
        Arrive("paris", "tokyo"),
        Repeat("paris", "tokyo"),
        Repeat("tokyo", "lima"),
        Restart("tokyo"),
        WriteBack("tokyo"),
        WriteBack("lima"),
        Delete("paris"),
        Exchange(),
        Settle(rounds=3),
    ]
    assert check_history(wrong.union_in_order, history, other_process=False).questions > 1
    assert eval(repr(history)) == history


def test_a_history_of_something_else_is_refused():
    """By its place."""
    with pytest.raises(UsageError, match="step 1 of the history is a str"):
        check_history(wrong.union, [Put("paris", 1), "tokyo"])


def test_replicas_that_would_answer_otherwise_are_found(monkeypatch):
    """Planted: a replica whose read ignores a sibling, so that it shows another value than the resolver gives."""
    honest = mmrepl.Replica.read

    def careless(self, key):
        read = honest(self, key)
        if not self.node.startswith("tokyo"):
            return read
        from attrs import evolve

        return evolve(read, resolution=self._store.default.resolve(read.siblings[:1]))

    monkeypatch.setattr(mmrepl.Replica, "read", careless)
    assert refuted(wrong.union).kind == "replicas differ"
