"""Random lives of small clusters: nothing that must never happen happens (see `tests.single_master.chaos`)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.single_master.chaos import live


@pytest.mark.parametrize("seed", range(14))
def test_three_nodes_live(seed):
    """One leader a term, logs that match, leaders complete, committed entries that stay, nothing acknowledged lost."""
    live(seed)


@pytest.mark.parametrize("seed", range(4))
def test_five_nodes_live(seed):
    """The same of five."""
    live(seed, names="abcde", steps=900)


@pytest.mark.parametrize("seed", range(4))
def test_members_come_and_go(seed):
    """The same while voters become learners and learners voters, one at a time and several at once."""
    live(seed, names="abcd", steps=900, changes=True)


@pytest.mark.parametrize("seed", range(36, 42))
def test_primaries_are_promoted(seed):
    """With manual failover, never by force: what a quorum acknowledged is not lost, and reads that must see it do."""
    live(seed, failover="manual", primary=True)


@settings(max_examples=6, deadline=None)
@given(st.integers(min_value=100, max_value=1 << 40))
def test_any_life(seed):
    """The same of any seed."""
    live(seed, steps=400)
