"""How values look to clients that know only strings."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrepl.runtime.resp.shown import json_text, kind, shown


@pytest.mark.parametrize(
    ("value", "text", "name"),
    [
        (b"\xff\x00", b"\xff\x00", "bytes"),
        ("né", "né".encode(), "str"),
        (None, b"null", "null"),
        (True, b"true", "bool"),
        (-5, b"-5", "int"),
        ((1 << 63) - 1, b"9223372036854775807", "int"),
        (1.5, b"1.5", "float"),
        (float("nan"), b'"NaN"', "float"),
        (float("-inf"), b'"-Infinity"', "float"),
        ([1, "a", None], b'[1,"a",null]', "list"),
        ({"b": b"x", "a": b"\xff"}, b'{"b":"x","a":{"base64":"/w=="}}', "dict"),
        ([float("inf")], b'["Infinity"]', "list"),
    ],
)
def test_each_type(value, text, name):
    """What GET shows, and what MM.READ calls it."""
    assert shown(value) == text
    assert kind(value) == name


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(plain)
def test_json_is_json(value):
    """Values that JSON can say come back from it."""
    assert orjson.loads(json_text(value)) == value
