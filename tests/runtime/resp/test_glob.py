"""Patterns of KEYS and SCAN, beside a matcher that tries everything."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrepl.runtime.resp.glob import matcher


def tries_everything(pattern: str, key: str) -> bool:
    """Obviously right for ``*``, ``?``, sets of plain characters, and exponential."""
    if not pattern:
        return not key
    if pattern[0] == "*":
        return any(tries_everything(pattern[1:], key[at:]) for at in range(len(key) + 1))
    if not key:
        return False
    if pattern[0] == "[":
        inside, _, rest = pattern[1:].partition("]")
        negated = inside.startswith("^")
        return (key[0] in inside.removeprefix("^")) != negated and tries_everything(rest, key[1:])
    return pattern[0] in ("?", key[0]) and tries_everything(pattern[1:], key[1:])


patterns = st.lists(st.sampled_from(["*", "?", "a", "b", ".", "[ab]", "[^a]", "[b]"]), max_size=8).map("".join)


@given(patterns, st.text("ab.\n", max_size=10))
def test_the_same_keys_match(pattern, key):
    """The quick matcher and the one that tries everything agree; matching keys begin as promised."""
    test, begin = matcher(pattern)
    assert bool(test(key)) == tries_everything(pattern, key)
    if test(key):
        assert key.startswith(begin)


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("user:*", "user:", "users"),
        (r"\*", "*", "a"),
        (r"a\\b", "a\\b", "ab"),
        ("[a-c]", "b", "d"),
        ("[c-a]", "b", "d"),
        (r"[\]]", "]", "\\"),
        ("[a", "a", "b"),
        ("[^^]", "a", "^"),
        ("[]x", "no such key", "x"),
        ("(.*)+|x{2}", "(.zz)+|x{2}", "xx"),
        ("é?", "éé", "é"),
    ],
)
def test_details(pattern, yes, no):
    """Escapes, ranges, sets that are not closed, and characters that mean something to others."""
    test, _ = matcher(pattern)
    assert test(yes) or pattern == "[]x"
    assert not test(no)


def test_many_stars_take_no_longer():
    """A pattern made to explode does not."""
    test, _ = matcher("*a" * 500 + "b")
    start = time.process_time()
    assert not test("a" * 1024)
    assert time.process_time() - start < 1
