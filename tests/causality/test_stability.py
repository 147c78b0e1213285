"""The watermark: only what every member is known to have, and what came before it is here."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrepl.causality.stability import AckMatrix
from mmrepl.causality.version_vector import EMPTY, VersionVector
from mmrepl.types import NodeId

P, Q, R = (NodeId(name, 1) for name in "pqr")


def vector(**counters: int) -> VersionVector:
    return VersionVector({NodeId(name, 1): counter for name, counter in counters.items()})


def matrix(*members: NodeId, own: VersionVector = EMPTY) -> AckMatrix[NodeId, int]:
    """That of p, in view 1."""
    acks: AckMatrix[NodeId, int] = AckMatrix(P, 0)
    acks.set_view(1, members)
    acks.applied(own)
    acks.check()
    return acks


def test_alone_everything_applied_is_stable():
    """A cluster of one forgets at once."""
    acks = matrix(P, own=vector(p=3))
    assert acks.stable() == vector(p=3)
    assert acks.members == (P,)


def test_nothing_is_stable_until_the_members_are_known():
    """A fresh matrix does not take itself for a cluster of one, not even in a view of the same id."""
    acks: AckMatrix[NodeId, int] = AckMatrix(P, 1)
    acks.applied(vector(p=1))
    assert acks.stable() == EMPTY
    acks.set_view(1, [P])
    assert acks.stable() == vector(p=1)


def test_the_watermark_is_the_least_that_anybody_has():
    """Pointwise, over all members, ourselves included."""
    acks = matrix(P, Q, R, own=vector(p=5, q=2, r=1))
    acks.acknowledge(Q, vector(p=3, q=2), 1)
    assert acks.stable() == EMPTY
    assert acks.holding_back() == (R,)
    acks.acknowledge(R, vector(p=4, q=1, r=1), 1)
    assert acks.stable() == vector(p=3, q=1)
    assert acks.holding_back() == ()
    acks.check()


def test_an_acknowledgement_waits_until_we_have_seen_as_much():
    """A write that its member made before it is still on its way to us."""
    acks = matrix(P, Q, own=vector(p=1))
    acks.acknowledge(Q, vector(p=1, q=1), 1)
    assert acks.stable() == EMPTY
    acks.applied(vector(p=1, q=1))
    assert acks.stable() == vector(p=1, q=1)
    acks.check()


@pytest.mark.parametrize("view", [0, 2])
def test_an_acknowledgement_of_another_view_does_not_count(view: int):
    """Its member may have let somebody in whom we do not know."""
    acks = matrix(P, Q, own=vector(p=1))
    acks.acknowledge(Q, vector(p=1), view)
    assert acks.stable() == EMPTY
    acks.check()


def test_an_acknowledgement_of_a_view_that_we_reach_later_is_kept():
    """The news of a member may come after its acknowledgement."""
    acks = matrix(P, Q, own=vector(p=1))
    acks.acknowledge(Q, vector(p=1), 2)
    acks.set_view(2, [P, Q, R])
    assert acks.holding_back() == (R,)
    acks.acknowledge(R, vector(p=1), 2)
    assert acks.stable() == vector(p=1)
    acks.check()


def test_in_a_new_view_everybody_acknowledges_anew():
    """The watermark falls, and rises again."""
    acks = matrix(P, Q, R, own=vector(p=1))
    acks.acknowledge(Q, vector(p=1), 1)
    acks.acknowledge(R, vector(p=1), 1)
    assert acks.stable() == vector(p=1)
    acks.set_view(1, [Q, R])
    assert acks.stable() == vector(p=1), "the same view again changes nothing"
    acks.set_view(2, [P, Q])
    assert acks.stable() == EMPTY
    acks.acknowledge(Q, vector(p=1), 2)
    assert acks.stable() == vector(p=1)


def test_constant_load_does_not_starve_the_watermark():
    """Each acknowledgement is ahead of us when it comes; were only the newest kept, none would ever count."""
    acks = matrix(P, Q)
    for counter in range(1, 100):
        acks.acknowledge(Q, vector(q=counter), 1)
        acks.applied(vector(q=counter - 1))
        acks.check()
        assert acks.stable().counter(Q) >= counter - 2


def test_in_a_quiet_cluster_the_last_acknowledgement_comes_to_count():
    """It came while an older one was waiting, and nothing comes after it."""
    acks = matrix(P, Q)
    for counter in (1, 2, 3):
        acks.acknowledge(Q, vector(q=counter), 1)
    acks.applied(vector(q=1))
    assert acks.stable() == vector(q=1)
    acks.applied(vector(q=3))
    assert acks.stable() == vector(q=3)


def test_a_late_or_repeated_acknowledgement_does_no_harm():
    """What was true stays true."""
    acks = matrix(P, Q, own=vector(p=5))
    for counter in (4, 2, 4):
        acks.acknowledge(Q, vector(p=counter), 1)
        assert acks.stable() == vector(p=4)


def test_strangers_and_we_ourselves_are_not_listened_to():
    """What we have applied we know ourselves; who is no member has no say."""
    acks = matrix(P, Q, own=vector(p=1))
    acks.acknowledge(R, EMPTY, 1)
    acks.acknowledge(P, EMPTY, 1)
    acks.acknowledge(Q, vector(p=1), 1)
    assert acks.stable() == vector(p=1)


def test_a_member_that_takes_an_origin_out_of_its_vector_is_not_waited_for_in_vain():
    """It claimed what we shall never have; what it says afterwards counts."""
    acks = matrix(P, Q, own=vector(p=2))
    acks.acknowledge(Q, vector(p=1, r=9), 1)
    acks.acknowledge(Q, vector(p=2), 1)
    assert acks.stable() == vector(p=2)
    acks.acknowledge(Q, vector(p=2, r=10), 1)
    acks.acknowledge(Q, vector(p=3), 1)
    acks.applied(vector(p=3))
    assert acks.stable() == vector(p=3)
    acks.check()


def test_a_vector_of_our_own_that_goes_back_is_a_broken_invariant():
    """Whoever lost its memory is another member, with a matrix of its own."""
    acks = matrix(P, own=vector(p=2))
    with pytest.raises(AssertionError):
        acks.applied(vector(p=1))


# -- beside a dumb one: every acknowledgement ever heard is kept


class Heard(NamedTuple):
    member: NodeId
    vector: VersionVector
    view: int


members = st.sampled_from([Q, R])
vectors = st.dictionaries(st.sampled_from([P, Q, R]), st.integers(0, 3)).map(VersionVector)
steps = st.one_of(
    st.builds(Heard, members, vectors, st.integers(1, 2)),
    vectors,
    st.tuples(st.integers(1, 2), st.sets(members)),
)


@given(st.lists(steps, max_size=20))
def test_the_watermark_never_lies(story: list[Heard | VersionVector | tuple[int, set[NodeId]]]):
    """Never above what the acknowledgements of this view allow that we have caught up with, were all of them kept."""
    acks, own, view, present = matrix(P, Q, R), EMPTY, 1, {Q, R}
    heard: list[Heard] = []
    for step in story:
        if isinstance(step, Heard):
            heard.append(step)
            acks.acknowledge(*step)
        elif isinstance(step, VersionVector):
            own = own.join(step)
            acks.applied(own)
        else:
            view, present = step
            acks.set_view(view, sorted(present))
        acks.check()
        most = own
        for member in present:
            usable = EMPTY
            for ack in heard:
                if ack.member == member and ack.view == view and own.descends(ack.vector):
                    usable = usable.join(ack.vector)
            most = most.meet(usable)
        assert most.descends(acks.stable())


@given(st.lists(st.tuples(members, st.integers(0, 3)), max_size=30))
def test_the_watermark_of_honest_members_reaches_everything_in_the_end(story: list[tuple[NodeId, int]]):
    """Once we have applied all that was ever acknowledged, the last word of each member counts."""
    acks, latest = matrix(P, Q, R), {Q: EMPTY, R: EMPTY}
    for member, more in story:
        latest[member] = latest[member].join(VersionVector({member: latest[member].counter(member) + more}))
        acks.acknowledge(member, latest[member], 1)
        if more == 3:
            acks.applied(latest[Q])
    acks.applied(latest[Q].join(latest[R]))
    assert acks.stable() == latest[Q].meet(latest[R])
