"""The application's own function: when it is called, with what, and how its failures are told."""

from __future__ import annotations

import functools
import itertools

import pytest
from hypothesis import given

from mmrepl.errors import ResolverError, UsageError
from mmrepl.resolvers import Callback, Sibling
from mmrepl.resolvers.callback import SAMPLE_SIZE
from mmrepl.values import encode
from tests.resolvers.strategies import sibling_sets

TEA = Sibling.of(["tea"], timestamp=1, origin="paris")
MILK = Sibling.of(["milk"], timestamp=2, origin="lima")
GONE = Sibling.tombstone(timestamp=3, origin="tokyo")


def merge_carts(carts):
    return sorted(set().union(*carts))


@given(sibling_sets())
def test_the_function_gets_the_live_values_in_canonical_order(siblings):
    """Decoded, without tombstones, and only when there are two or more."""
    calls = []

    def record(values):
        calls.append(values)
        return "merged"

    resolution = Callback(record, check="never").resolve(siblings)
    live = [sibling for sibling in sorted(siblings, key=lambda s: s.rank) if not sibling.is_tombstone]
    if len(live) >= 2:
        assert encode(calls) == encode([[sibling.value for sibling in live]])
        assert resolution.value == "merged"
        assert resolution.winner is None
    else:
        assert calls == []
        assert resolution.payload == (live[0].payload if live else None)


def test_carts_are_merged():
    """As in the README; the deletion lost to the updates."""
    resolution = Callback(merge_carts).resolve([GONE, MILK, TEA])
    assert resolution.value == ["milk", "tea"]
    assert resolution.payload == encode(["milk", "tea"])
    assert resolution.losers == (GONE,)


def test_the_function_may_ask_for_siblings():
    """To look at stamps and origins; the objects are immutable."""

    def latest_of_paris(siblings):
        return next(sibling.value for sibling in siblings if sibling.dot.origin.name == "paris")

    assert Callback(latest_of_paris, with_siblings=True).resolve([MILK, TEA, GONE]).value == ["tea"]


def test_a_function_that_changes_its_arguments_harms_nobody_here():
    """It must not (`check_resolver` refuses it), but siblings and the next call do not see it: each has its own."""

    def greedy(carts):
        carts[0].extend(carts.pop())
        return carts[0]

    for _ in range(2):
        assert Callback(greedy).resolve([TEA, MILK]).value == ["tea", "milk"]
    assert TEA.value == ["tea"]


def failure(function, *siblings, **options) -> ResolverError:
    with pytest.raises(ResolverError) as caught:
        Callback(function, name="f", **options).resolve(siblings or (MILK, TEA))
    assert caught.value.policy == "callback f"
    assert "callback f" in str(caught.value)
    assert set(caught.value.siblings) == set(siblings or (MILK, TEA))
    return caught.value


def test_a_function_that_raises_is_named_with_the_siblings():
    """The cause is kept, too."""
    error = failure(lambda carts: carts[0]["no"])
    assert isinstance(error.__cause__, TypeError)
    assert "raised TypeError" in str(error)
    assert "Sibling(paris~0:1, 1, ['tea']), Sibling(lima~0:1, 2, ['milk'])" in str(error)


@pytest.mark.parametrize("answer", [(1,), {"x": {1}}, 2**64, object(), "\ud800"], ids=repr)
def test_an_answer_that_cannot_be_stored_is_refused(answer):
    """With the path to the culprit."""
    assert "answered what cannot be stored: value" in str(failure(lambda _carts: answer))


def test_an_answer_deeper_than_a_value_is_refused():
    """A cycle is no answer either."""

    def cyclic(carts):
        carts.append(carts)
        return carts

    assert "contains itself" in str(failure(cyclic))


@pytest.mark.parametrize("check", ["always", "sample"])
def test_two_answers_for_the_same_siblings_are_found(check):
    """Counters, clocks and dice: the answer is made twice and the bytes compared, False and 0 included."""
    for answers in ([1, 2], [False, 0], [0.0, -0.0], [{"a": 1, "b": 2}, {"b": 2, "a": 1}]):
        for counter in range(1, 20 * SAMPLE_SIZE):
            made = itertools.cycle(answers)
            siblings = (TEA, Sibling.of("x", timestamp=1, origin="a", counter=counter))
            resolver = Callback(lambda _values, made=made: next(made), name="f", check=check)
            try:
                resolver.resolve(siblings)
            except ResolverError as error:
                assert "callback f gave two answers" in str(error)  # noqa: PT017 - sampling finds it at some set
                break
            assert check == "sample"
        else:
            pytest.fail("never found")


def test_sampling_chooses_the_same_sets_each_time_and_about_one_in_sixteen():
    """By dots, not by dice."""
    calls = []
    resolver = Callback(lambda values: calls.append(1) or len(values), name="f", check="sample")
    sets = [(TEA, Sibling.of("x", timestamp=1, origin="a", counter=n)) for n in range(1, 801)]
    counted = []
    for _ in range(2):
        calls.clear()
        for siblings in sets:
            resolver.resolve(siblings)
        counted.append(len(calls))
    assert counted[0] == counted[1]
    assert 800 + 25 <= counted[0] <= 800 + 100


def test_never_is_once():
    """The check can be given up for a function that is costly."""
    calls = []
    Callback(lambda values: calls.append(1) or len(values), name="f", check="never").resolve([TEA, MILK])
    Callback(lambda values: calls.append(1) or len(values), name="f").resolve([TEA, MILK])
    assert len(calls) == 3


def test_a_sibling_that_cannot_be_read_is_told_apart_from_a_failing_function():
    """It is not the function's doing."""
    broken = Sibling(Sibling.tombstone(timestamp=1, origin="z").dot, 1, b"\xc1")
    assert "cannot be asked, for a sibling cannot be read" in str(failure(merge_carts, TEA, broken))


def test_a_function_of_the_event_loop_is_refused():
    """A resolver is pure: there is nothing to wait for."""

    async def later(carts):
        return carts

    with pytest.raises(UsageError, match="coroutine"):
        Callback(later)
    error = failure(lambda carts: later(carts[0]))
    assert "await it first" in str(error)


def test_names_come_from_the_function_or_must_be_given():
    """What has no name would be named by an address, and differ between nodes."""
    assert Callback(merge_carts).name == "tests.resolvers.test_callback:merge_carts"
    assert Callback(len).policy == "callback builtins:len"
    partial = functools.partial(merge_carts)
    with pytest.raises(UsageError, match="name="):
        Callback(partial)
    assert Callback(partial, name="carts").policy == "callback carts"
    assert Callback(partial, name="carts").resolve([TEA, MILK]).value == ["milk", "tea"]


def test_options_are_checked():
    """When the resolver is made, not when a key first has siblings."""
    with pytest.raises(UsageError, match="needs a function of a list of values, not a list"):
        Callback([])
    for arguments, options in [((1,), {}), ((None,), {}), ((merge_carts,), {"check": "often"}), ((len,), {"name": 1})]:
        with pytest.raises((UsageError, ValueError, TypeError)):
            Callback(*arguments, **options)
