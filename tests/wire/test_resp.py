"""Answers: written as Redis writes them, and read back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrepl.errors import FrameError
from mmrepl.wire.resp import Failure, ReplyReader, Simple, array, bulk, encode, failure

line = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zs", "Zl", "Zp"]), max_size=10)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.binary(max_size=20),
    line.map(Simple),
    line.filter(bool).map(lambda text: Failure("ERR", text)),
)
replies = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.binary(max_size=4), inner, max_size=4)),
    max_leaves=12,
)


@given(st.lists(replies, max_size=4), st.integers(1, 30))
def test_version_3_comes_back_as_it_went(values, step):
    """Whatever is answered in version 3 is read back equal, cut anywhere."""
    data = b"".join(encode(value, 3) for value in values)
    reader = ReplyReader()
    read = [reply for at in range(0, len(data), step) for reply in reader.feed(data[at : at + step])]
    assert read == values


@pytest.mark.parametrize(
    ("value", "second", "third"),
    [
        (None, b"$-1\r\n", b"_\r\n"),
        (True, b":1\r\n", b"#t\r\n"),
        (False, b":0\r\n", b"#f\r\n"),
        (-7, b":-7\r\n", b":-7\r\n"),
        (1 << 63, b"$19\r\n9223372036854775808\r\n", b"(9223372036854775808\r\n"),
        (1.5, b"$3\r\n1.5\r\n", b",1.5\r\n"),
        (math.inf, b"$3\r\ninf\r\n", b",inf\r\n"),
        ("é", b"$2\r\n\xc3\xa9\r\n", b"$2\r\n\xc3\xa9\r\n"),
        ([], b"*0\r\n", b"*0\r\n"),
        ([1, [None]], b"*2\r\n:1\r\n*1\r\n$-1\r\n", b"*2\r\n:1\r\n*1\r\n_\r\n"),
        ({"a": 1}, b"*2\r\n$1\r\na\r\n:1\r\n", b"%1\r\n$1\r\na\r\n:1\r\n"),
        (Simple("OK"), b"+OK\r\n", b"+OK\r\n"),
        (Failure("ERR", "no"), b"-ERR no\r\n", b"-ERR no\r\n"),
    ],
)
def test_both_versions(value, second, third):
    """The bytes of each type in versions 2 and 3."""
    assert encode(value, 2) == second
    assert encode(value, 3) == third


def test_an_error_stays_one_line_whatever_it_says():
    """Text from elsewhere in an error can not smuggle in an answer."""
    data = failure("ERR", "bad\r\n+OK\r\n\nkey " + "x" * 5000)
    assert data.count(b"\r\n") == 1
    assert len(data) < 2100
    assert ReplyReader().feed(data)[0].text.startswith("bad +OK key x")


def test_what_is_no_answer_is_a_defect_of_ours():
    """An object that cannot be said is refused when it is written."""
    with pytest.raises(TypeError, match="object"):
        encode(object(), 3)


def test_the_other_types_of_version_3():
    """Sets, pushes, attributes, verbatim strings and long errors are understood."""
    reader = ReplyReader()
    data = b"~1\r\n:1\r\n>2\r\n+a\r\n:2\r\n|1\r\n+ttl\r\n:9\r\n=7\r\ntxt:abc\r\n!6\r\nERR no\r\n*-1\r\n%1\r\n*1\r\n:1\r\n+x\r\n"
    assert reader.feed(data) == [[1], [Simple("a"), 2], b"abc", Failure("ERR", "no"), None, {(1,): Simple("x")}]


@pytest.mark.parametrize(
    "data",
    [
        b"?\r\n",
        b":x\r\n",
        b":1_0\r\n",
        b",x\r\n",
        b"#x\r\n",
        b"$x\r\n",
        b"$99999999999\r\n",
        b"*99999999999\r\n",
        b"*1\r\n" * 40,
        b"+" + b"x" * 70_000,
        b"+\xff\r\n",
    ],
)
def test_bytes_that_are_no_answer(data):
    """Malformed, oversized or too deep: an error of ours, no other."""
    with pytest.raises(FrameError):
        ReplyReader().feed(data)


@given(st.binary(max_size=100))
def test_random_bytes_raise_nothing_else(data):
    """Whatever a server sends, at worst it is a FrameError."""
    reader = ReplyReader()
    try:
        for at in range(len(data)):
            reader.feed(data[at : at + 1])
    except FrameError:
        pass


def test_arrays_of_encoded_answers():
    """The quick helpers agree with the general encoder."""
    assert array([bulk(b"a"), bulk(b"b")]) == encode([b"a", b"b"], 2)
