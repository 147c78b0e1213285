"""Waiting before the next attempt."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrepl.errors import UsageError
from mmrepl.transport.backoff import Backoff


@given(st.integers(1, 1000), st.integers(0, 100_000), st.integers())
def test_waits_double_up_to_the_most_and_stay_there(least, more, seed):
    """The so-many-th wait lies between half a step and a step; steps double from the least to the most, for ever."""
    most = least + more
    backoff, step = Backoff(least, most, random.Random(seed)), least
    for attempt in range(1, 40):
        wait = backoff.next_ms()
        assert (step + 1) // 2 <= wait <= step
        assert isinstance(wait, int)
        assert backoff.attempts == attempt
        step = min(2 * step, most)


def test_the_ten_thousandth_wait_is_like_the_tenth():
    """There is no last attempt, and no number grows."""
    backoff = Backoff(100, 30_000, random.Random(1))
    waits = [backoff.next_ms() for _ in range(10_000)]
    assert 15_000 <= min(waits[10:]) <= max(waits[10:]) <= 30_000


def test_reset_begins_again():
    """After an answer the next wait is short."""
    backoff = Backoff(100, 30_000, random.Random(1))
    for _ in range(20):
        backoff.next_ms()
    backoff.reset()
    assert backoff.attempts == 0
    assert 50 <= backoff.next_ms() <= 100


def test_nodes_that_lost_a_peer_together_return_apart():
    """A hundred nodes with dice of their own draw waits all over the range."""
    backoffs = [Backoff(30_000, 30_000, random.Random(seed)) for seed in range(100)]
    assert len({backoff.next_ms() // 1000 for backoff in backoffs}) > 10


def test_the_same_dice_give_the_same_waits():
    """Same seed, same run."""
    one, two = (Backoff(100, 30_000, random.Random(5)) for _ in range(2))
    assert [one.next_ms() for _ in range(50)] == [two.next_ms() for _ in range(50)]


@pytest.mark.parametrize(("least", "most"), [(0, 10), (-1, 10), (11, 10)])
def test_bounds_that_make_no_sense_are_refused(least, most):
    """The caller is told both numbers."""
    with pytest.raises(UsageError, match=f"{least} and {most}"):
        Backoff(least, most, random.Random())
