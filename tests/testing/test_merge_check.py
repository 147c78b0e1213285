"""`check_merge` finds which law a function of two values breaks, byte by byte."""

from __future__ import annotations

import operator

import pytest
from hypothesis import strategies as st

from mmrepl.errors import UsageError
from mmrepl.testing import MergeRefuted, check_merge
from tests.testing import wrong

texts = st.lists(st.text(max_size=3), max_size=4)
counts = st.dictionaries(st.sampled_from("abc"), st.integers(0, 3))

PLANTED = [
    (wrong.merge_concatenation, texts, "not idempotent"),
    (wrong.merge_left, st.integers(0, 9), "not commutative"),
    (wrong.merge_mean, st.floats(allow_nan=False, allow_infinity=False, width=16), "not associative"),
    (wrong.merge_sum, st.floats(0, 1), "not idempotent"),
    (wrong.merge_dicts, counts, "not commutative"),
    (wrong.merge_set_order, texts, "hash order"),
    (wrong.merge_in_place, counts, "mutates"),
    (wrong.merge_with_clock, st.integers(0, 9), "clock"),
    (wrong.merge_sets, texts, "not a value"),
]


def name_of(thing) -> str:
    return getattr(thing, "__name__", "")


@pytest.mark.parametrize(("function", "values", "kind"), PLANTED, ids=name_of)
def test_a_planted_fault_is_found_and_the_pasted_test_fails_alike(function, values, kind):
    """With the smallest values; and the regression test, run as it is printed, is red for the same law."""
    with pytest.raises(MergeRefuted) as caught:
        check_merge(function, values)
    refutation = caught.value
    assert refutation.kind == kind, refutation
    assert str(refutation).startswith(function.__name__)
    assert 1 <= len(refutation.values) <= 3
    namespace: dict[str, object] = {}
    exec(refutation.regression, namespace)
    (test,) = (value for name, value in namespace.items() if name.startswith("test_"))
    with pytest.raises(MergeRefuted) as again:
        test()
    assert again.value.kind == kind


@pytest.mark.parametrize(
    ("function", "values"),
    [
        (wrong.merge_union, st.lists(st.text()).map(lambda texts: sorted(set(texts)))),
        (wrong.merge_dicts_by_key, counts.map(lambda found: dict(sorted(found.items())))),
        (max, [1, 2, 3]),
        (operator.or_, st.integers(0, 255)),
    ],
)
def test_a_merge_is_let_be(function, values):
    """Union, maximum, bitwise or: the semilattices that everybody knows."""
    told = check_merge(function, values)
    assert told.notes == ()


def test_a_merge_that_first_tidies_up_is_let_be_with_a_note():
    """Unsorted lists become sorted when they first meet: the laws hold for what the function makes."""
    told = check_merge(wrong.merge_union, texts)
    assert "rewrites some values when it first meets them" in str(told)


def test_equal_in_python_and_different_as_bytes_is_said():
    """Dicts in different order are equal with ``==``."""
    with pytest.raises(MergeRefuted, match="equal in Python and differ as bytes"):
        check_merge(wrong.merge_dicts, [{"a": 1}, {"b": 2}])


def test_floats_are_not_associative():
    """The textbook case, in its smallest form: three values and two sums."""

    def clipped_sum(a, b):
        return a if a == b else min(a + b, 2.0)

    with pytest.raises(MergeRefuted) as caught:
        check_merge(clipped_sum, [0.1, 0.2, 0.3])
    assert caught.value.kind == "not associative"
    assert [name for name, _ in caught.value.answers] == ["(a with b) with c", "a with (b with c)"]
    assert "lima" in caught.value.diagram


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (42, "needs a function of two values, not 42"),
        (len, "a function of a list of values is checked by check_resolver"),
        (wrong.waits, "coroutine function waits"),
    ],
)
def test_what_is_no_merge_is_refused(given, message):
    """The caller is told what was expected."""
    with pytest.raises(UsageError, match=message):
        check_merge(given)
