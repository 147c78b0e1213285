"""What a session asks of nodes, beside a dumb twin that keeps sets of writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrepl.causality.dot import Dot
from mmrepl.causality.version_vector import VersionVector
from mmrepl.client.sessions import Guarantees, SessionState
from mmrepl.errors import UsageError
from mmrepl.types import NodeId
from mmrepl.wire.seen import LogPosition

NODES = [NodeId(name, 1) for name in "abc"]
DOTS = st.tuples(st.sampled_from(NODES), st.integers(1, 3))
GUARANTEES = st.builds(
    Guarantees,
    read_your_writes=st.booleans(),
    monotonic_reads=st.booleans(),
    monotonic_writes=st.booleans(),
    writes_follow_reads=st.booleans(),
)


def closed(dots):
    """All writes up to these, origin by origin: what a vector stands for."""
    return {(node, below) for node, counter in dots for below in range(1, counter + 1)}


@given(GUARANTEES, st.lists(st.tuples(st.booleans(), DOTS), max_size=6), st.lists(DOTS, max_size=6))
def test_exactly_the_nodes_that_may_serve_are_let_serve(guarantees, history, node_has):
    """A node may serve just when it has every write that a chosen guarantee asks for: no fewer, and no more."""
    state, wrote, saw = SessionState(guarantees), set(), set()
    for is_write, dot in history:
        (wrote if is_write else saw).add(dot)
        (state.wrote if is_write else state.saw)(VersionVector([dot]))
    has = closed(node_has)
    version = VersionVector()
    for node, counter in has:
        version = version.including(Dot(node, counter))
    for_read = (wrote if guarantees.read_your_writes else set()) | (saw if guarantees.monotonic_reads else set())
    for_write = (wrote if guarantees.monotonic_writes else set()) | (saw if guarantees.writes_follow_reads else set())
    assert version.descends(state.before_read) == (closed(for_read) <= has)
    assert version.descends(state.before_write) == (closed(for_write) <= has)


@given(GUARANTEES, st.lists(st.tuples(st.booleans(), DOTS), max_size=6))
def test_a_token_goes_on_where_the_session_was(guarantees, history):
    """Short text there and back; the guarantees are the program's, not the token's."""
    state = SessionState(guarantees)
    for is_write, dot in history:
        (state.wrote if is_write else state.saw)(VersionVector([dot]))
    again = SessionState.parse(state.token, guarantees)
    assert (again.before_read, again.before_write, again.token) == (state.before_read, state.before_write, state.token)
    assert SessionState.parse(state.token).written == state.written


def test_places_in_a_log():
    """With one writer the two halves are places, and the later one counts."""
    state = SessionState()
    state.wrote(LogPosition(2, 7))
    state.saw(LogPosition(2, 9))
    assert state.token == "s1:2.7:2.9"
    assert state.before_read == state.before_write == LogPosition(2, 9)
    with pytest.raises(UsageError, match="different modes"):
        state.saw(VersionVector({NODES[0]: 1}))


@pytest.mark.parametrize("token", ["", "s1", "s1:-", "s2:-:-", "s1:-:-:-", "s1:x:-", 7, None])
def test_what_is_no_token(token):
    """Refused, never misread."""
    with pytest.raises(UsageError, match="token"):
        SessionState.parse(token)
