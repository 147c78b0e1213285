"""Values as people type them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrepl.cli.values import as_text, from_shown, typed, wire_form
from mmrepl.errors import InvalidValue
from mmrepl.runtime.resp.shown import kind, shown

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(JSON)
def test_json_means_what_it_says(value):
    """What parses as JSON is stored as that, to the type."""
    found = typed(json.dumps(value), "auto")
    assert (type(found), found) == (type(value), value)
    assert repr(found) == repr(value)


@given(JSON)
def test_a_value_survives_the_way_to_a_node_and_back(value):
    """What MM.PUT is told, and what MM.READ shows, give the value again: 1.0 stays a float."""
    words, form = wire_form(value)
    assert form == ("JSON",)
    assert repr(json.loads(words)) == repr(value)
    assert repr(from_shown(kind(value), shown(value))) == repr(value)


@given(st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: text != "-"))
def test_text_is_kept_as_it_is(text):
    """Taken as a string, every text is itself; taken as bytes, its UTF-8."""
    assert typed(text, "string") == text
    assert typed(text, "bytes") == text.encode()


@pytest.mark.parametrize(
    ("text", "how", "why"),
    [
        ("9223372036854775808", "auto", "64 bits"),
        ("[1, 99999999999999999999]", "auto", r"value\[1\]"),
        ("1e999", "auto", "too large"),
        ('{"a": 1, "a": 2}', "auto", "'a' stands twice"),
        ("tea", "json", "not JSON"),
        ("NaN", "json", "not JSON"),
        ("1" * 5000, "auto", "cannot be read"),
        ("[" * 100 + "]" * 100, "auto", "deep"),
        ("[" * 100_000, "auto", "deep"),
        ('"\\ud800"', "auto", "surrogate"),
    ],
)
def test_what_cannot_be_stored_without_loss_is_refused(text, how, why):
    """A number is not rounded, a name not dropped, without a word."""
    with pytest.raises(InvalidValue, match=why):
        typed(text, how)


def test_what_is_no_json_is_text():
    """NaN and Infinity are no JSON; so they are words like others."""
    assert [typed(text, "auto") for text in ("NaN", "Infinity", "tea", "", "{")] == ["NaN", "Infinity", "tea", "", "{"]


@given(JSON | st.binary(max_size=5))
def test_a_shown_value_stays_on_its_line(value):
    """Whatever a value holds, no control character reaches the terminal."""
    assert as_text(value).isprintable()


@given(JSON)
def test_the_planted_bug_is_seen(value):
    """A parser that took floats for ints, say, would be noticed: 1.0 and 1 differ where it counts."""
    assert repr(typed("1.0", "auto")) != repr(typed("1", "auto"))
