"""
Elected leaders as real processes that are killed and stopped while clients write.

``MMREPL_SOAK`` makes it minutes instead of seconds; ``python -m tests.integration.elected`` says what it saw.
"""

import asyncio
import os
import time

import pytest

from tests.integration.elected import PATIENCE, Elected
from tests.integration.served import call, fields, insist

SECONDS = 150 if os.environ.get("MMREPL_SOAK") else 0


@pytest.mark.parametrize("size", [3, 5])
async def test_no_acknowledged_write_is_lost_whoever_dies_or_stands_still(size, tmp_path):
    """Whatever happens to nodes one at a time, every write that a quorum acknowledged is there once, at every node."""
    async with Elected(size, tmp_path, seed=size) as cluster:
        ends = time.monotonic() + SECONDS
        await cluster.disturb(of_the_leader=True)
        await cluster.disturb()
        while time.monotonic() < ends:
            await cluster.disturb()
        assert await cluster.lost() == {}
        assert await cluster.twice() == []
        assert cluster.strangers() == []
        assert cluster.acknowledged
        assert cluster.failovers


async def test_a_leader_that_is_lost_is_followed_by_another_one(tmp_path):
    """Another node leads, and takes writes, while the one that was killed stays away; it comes back as a follower."""
    async with Elected(3, tmp_path, seed=7) as cluster:
        name, term = await cluster.news.until(cluster.leader, PATIENCE)
        lost_at = time.time()
        await cluster.members[name].kill()
        await cluster.another_leader(term, lost_at)
        other, later = cluster.leader()
        assert other != name
        assert later > term
        await cluster.members[name].start()
        assert await cluster.lost() == {}
        assert await cluster.twice() == []
        key = next(iter(cluster.acknowledged))  # and planted: a retry without a number
        await insist(PATIENCE, cluster.members[other].client, "SET", key, cluster.acknowledged[key])
        for member in cluster.members.values():
            await insist(PATIENCE, member.client, "MM.AT", "linearizable", "GET", key)
        assert await cluster.twice() == [key]


def test_the_time_of_an_election_begins_when_there_is_somebody_to_vote(tmp_path):
    """Not before a quorum is running, and with the loss of the leader, if one is running then."""
    cluster = Elected(3, tmp_path, seed=1)
    n1, n2, n3 = cluster.members.values()
    n2.running_since, n3.running_since = 10.0, 12.0
    assert cluster.whole_since(20.0) == 20.0
    n3.running_since = 23.5  # it was starting when n1 was lost
    assert cluster.whole_since(20.0) == 23.5
    n3.running_since = None  # it still is
    assert cluster.whole_since(20.0) is None
    n1.running_since = 5.0
    assert cluster.whole_since(20.0) == 20.0


def test_who_was_elected_is_what_the_nodes_told(tmp_path):
    """The first one of a later term, at the time that it told; a follower, or the term that is over, is nobody."""
    cluster = Elected(3, tmp_path, seed=1)
    n1, n2, n3 = cluster.members.values()
    told = {"event": "role", "role": "leader"}
    n1.told = [told | {"term": 1, "at": 3.0}]
    n2.told = [told | {"term": 2, "at": 9.0, "role": "follower"}, told | {"term": 4, "at": 11.0}]
    assert cluster.elected(4) is None
    assert cluster.elected(1) == (11.0, "n2", 4)
    n3.told = [told | {"term": 3, "at": 10.5}, {"event": "started", "at": 12.0, "node": "n3~1"}]
    assert cluster.elected(1) == (10.5, "n3", 3)
    assert cluster.strangers() == []
    n3.told.append({"event": "started", "at": 15.0, "node": "n3~2"})
    assert cluster.strangers() == ["n3"]


async def lonely_writes(cluster, count):
    """
    The leader, after it has acknowledged so many writes while all others stood still, and they stand still now.

    Where it has given up leading before it had them all, as it must without a quorum, everybody goes on, and it is
    tried with who leads then: on a busy machine the time may not suffice.
    """
    async with asyncio.timeout(2 * PATIENCE):
        while True:
            name, term = await cluster.news.until(cluster.leader, PATIENCE)
            leader, others = cluster.members[name], [each for each in cluster.members.values() if each.name != name]
            for member in others:  # they have what came before
                await insist(PATIENCE, member.client, "MM.AT", "linearizable", "GET", "first")
            for member in others:
                await member.stand_still()
            try:
                for number in range(count):
                    key = f"lonely/{term}/{number}"
                    await call(leader.client, "SET", key, str(number))
                    cluster.acknowledged[key] = str(number)
            except (OSError, ValueError, EOFError, TimeoutError):
                for member in others:
                    member.go_on()
                continue
            return leader, others, term


async def test_without_a_quorum_s_acknowledgement_writes_are_lost_and_it_shows(tmp_path):
    """
    The check is no blind one: what only the leader had when it was killed is found missing, and is kept as a branch.

    Its followers stood still from before the first of these writes until they were killed themselves, so not even a
    buffer of theirs has any of it.
    """
    async with Elected(3, tmp_path, seed=11, ack="async", election_ms=(1000, 2000), clients=0) as cluster:
        leader, others, term = await lonely_writes(cluster, 10)
        lonely = {f"lonely/{term}/{number}" for number in range(10)}
        lost_at = time.time()
        await leader.kill()
        for member in others:
            await member.kill()
            await member.start()
        await cluster.another_leader(term, lost_at)
        await leader.start()
        lost = await cluster.lost()
        assert {name: set(keys) & lonely for name, keys in lost.items()} == dict.fromkeys(cluster.members, lonely)
        told = await insist(PATIENCE, leader.client, "MM.BRANCHES")
        branches = [fields(branch) for branch in told]
        assert [branch["writes"] for branch in branches if term in branch["terms"]] == [10]
