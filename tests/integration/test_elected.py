"""
Elected leaders as real processes that are killed and stopped while clients write.

``MMREPL_SOAK`` makes it minutes instead of seconds; ``python -m tests.integration.elected`` says what it saw.
"""

import os
import time

import pytest

from tests.integration.elected import Elected

SECONDS = 150 if os.environ.get("MMREPL_SOAK") else 0


@pytest.mark.parametrize("size", [3, 5])
async def test_no_acknowledged_write_is_lost_whoever_dies_or_stands_still(size, tmp_path):
    """Whatever happens to nodes one at a time, every write that a quorum acknowledged is there, at every node."""
    async with Elected(size, tmp_path, seed=size) as cluster:
        ends = time.monotonic() + SECONDS
        await cluster.disturb(of_the_leader=True)
        await cluster.disturb()
        while time.monotonic() < ends:
            await cluster.disturb()
        assert await cluster.lost() == {}
        assert cluster.acknowledged
        assert cluster.failovers


async def test_a_leader_that_is_lost_is_followed_by_another_one(tmp_path):
    """Another node leads, and takes writes, while the one that was killed stays away; it comes back as a follower."""
    async with Elected(3, tmp_path, seed=7) as cluster:
        name, term = await cluster.leader()
        await cluster.members[name].kill()
        await cluster.another_leader(term)
        other, later = await cluster.leader()
        assert other != name
        assert later > term
        await cluster.members[name].start()
        assert await cluster.lost() == {}
