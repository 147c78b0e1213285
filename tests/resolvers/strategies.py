"""Siblings by the handful: few stamps and origins, so that ties are common."""

from __future__ import annotations

from hypothesis import strategies as st

from mmrepl.causality.dot import Dot
from mmrepl.resolvers import Sibling
from mmrepl.types import NodeId
from mmrepl.values import encode

dots = st.builds(
    Dot,
    st.builds(NodeId, st.sampled_from(["lima", "paris", "tokyo", "Ω"]), st.integers(0, 1)),
    st.integers(1, 3),
)
payloads = st.none() | st.sampled_from([0, False, 0.0, "tea", ["tea"], ["milk", "tea"], {"n": 1}, b"x", None]).map(
    encode
)


@st.composite
def sibling_sets(draw, least=0, payload=payloads):
    """Siblings with different dots, in any order."""
    return [
        Sibling(dot, draw(st.integers(0, 2)), draw(payload))
        for dot in draw(st.lists(dots, unique=True, min_size=least, max_size=6))
    ]


@st.composite
def shuffled(draw, least=0, payload=payloads):
    """The same siblings in two orders of arrival."""
    siblings = draw(sibling_sets(least, payload))
    return siblings, draw(st.permutations(siblings))
