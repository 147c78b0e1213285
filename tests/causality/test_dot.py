"""Dots as values and as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrepl.causality.dot import COUNTER_MAX, Dot
from mmrepl.types import NodeId

names = st.text(min_size=1).filter(lambda name: not name.isspace())
origins = st.builds(NodeId, names, st.integers(0, 2**63 - 1))


@given(st.builds(Dot, origins, st.integers(1, COUNTER_MAX)))
def test_text_of_a_dot_reads_back(dot: Dot):
    """Whatever stands in the name, tilde and colon included."""
    assert Dot.parse(str(dot)) == dot


@pytest.mark.parametrize(
    "text", ["", "a", "a~1", "a:1", "a~1:", "a~1:0", "a~1:-1", "a~1:+1", "a~1: 1", "a~01:1", "a~1:1_0", f"a~1:{2**47}"]
)
def test_what_is_no_dot_is_refused(text: str):
    """Zero is no write, and there is one way to write a number."""
    with pytest.raises(ValueError, match=r"."):
        Dot.parse(text)


def test_dots_order_by_name_incarnation_counter():
    """The order that breaks ties."""
    dots = [Dot(NodeId("a", 1), 9), Dot(NodeId("a", 2), 1), Dot(NodeId("a", 10), 1), Dot(NodeId("b", 0), 1)]
    assert sorted([dots[2], dots[0], dots[3], dots[1]]) == dots
