"""Following the changes at nodes of a single-master cluster, and over their client port."""

from __future__ import annotations

import asyncio

import pytest

import mmrepl
from mmrepl.clock import hlc
from mmrepl.errors import ClosedError, LogTruncated, UsageError
from mmrepl.runtime.resp.client import Client
from tests.runtime.test_single_master_node import Three


async def take(node, count, since=None):
    """So many changes, as soon as they are there."""
    found = []
    async with asyncio.timeout(15):
        async for change in node.changes(since):
            found.append(change)
            if len(found) == count:
                break
    return found


async def test_every_node_tells_the_same_and_from_any_place_on():
    """In the order of the log, with the index that the writer was told; what changed nothing is no change."""
    async with Three() as three:
        leader = await three.leader()
        first = await leader.put("k", [1, None])
        await leader.put("k", 2, expect=0)  # it is there: nothing is done
        await leader.put("k", "three", table="other")
        await leader.delete("k")
        told = [await take(node, 3) for node in three.nodes.values()]
        assert told[0] == told[1] == told[2]
        one, two, three_ = told[0]
        assert (one.index, one.table, one.key, one.value, one.is_tombstone) == (first.index, "", "k", [1, None], False)
        assert (two.table, two.value) == ("other", "three")
        assert (three_.value, three_.payload, three_.is_tombstone) == (None, None, True)
        assert abs(hlc.ms_of(one.timestamp) - leader._clock.wall_ms()) < 60_000
        for node in three.nodes.values():
            assert await node.next_changes(one.token, count=1) == [two]
            assert await node.next_changes(node.position, timeout=0) == []


async def test_a_reader_goes_on_at_another_node_when_its_own_is_gone():
    """A token is good everywhere: nothing is missing, nothing comes twice."""
    async with Three() as three:
        leader = await three.leader()
        for number in range(5):
            await leader.put("k", number)
        seen = await take(leader, 5)
        await leader.close()
        other = next(node for node in three.nodes.values() if node is not leader)
        waiting = asyncio.ensure_future(take(other, 1, seen[-1].token))
        await other.wait_until(lambda: other.leader not in {"", leader.name}, "another leader")
        await three.nodes[other.leader].put("k", "after")
        assert [change.value for change in await waiting] == ["after"]


async def test_who_waits_is_woken_by_a_change_and_by_the_end():
    """Entries that are nobody's writes wake nobody; closing does, with an error."""
    async with Three() as three:
        leader = await three.leader()
        waiting = asyncio.ensure_future(leader.next_changes(leader.position))
        await leader.open_session()
        assert not waiting.done()
        await leader.put("k", 1)
        assert [change.value for change in await waiting] == [1]
        waiting = asyncio.ensure_future(leader.next_changes(leader.position))
        await asyncio.sleep(0)
        await leader.close()
        with pytest.raises(ClosedError):
            await waiting


async def test_a_reader_that_is_slower_than_the_log_is_cut_is_told():
    """It costs nobody anything meanwhile; it is cut off by name, and goes on from the position of what it then reads."""
    async with Three(options={"log_entries": 50, "log_margin": 10}) as three:
        leader = await three.leader()
        await leader.put("k", 0)
        [slow] = await take(leader, 1)
        for number in range(100):
            await leader.put("k", number)
        with pytest.raises(LogTruncated, match="are not held here any more"):
            await leader.next_changes(slow.token)
        with pytest.raises(LogTruncated):
            await take(leader, 1)
        position = leader.position
        await leader.put("k", "next")
        assert [change.value for change in await take(leader, 1, position)] == ["next"]


async def test_a_place_of_another_kind_is_refused():
    """Of the other mode, or no place at all."""
    async with Three() as three:
        leader = await three.leader()
        for since in (mmrepl.VersionVector(), "3.4", 7):
            with pytest.raises(UsageError, match="LogPosition"):
                await leader.next_changes(since)


async def test_the_client_port_tells_them():
    """In pages, waiting for the next, with tokens that hold at every node."""
    async with Three() as three:
        leader = await three.leader()
        follower = three.follower(leader)

        def talk():
            with Client(leader.client_address) as primary, Client(follower.client_address) as replica:
                for number in range(5):
                    primary.call("SET", f"k{number}", number)
                primary.call("DEL", "k0")
                first = primary.call("MM.CHANGES", "COUNT", 4)
                assert [change[b"key"] for change in first[b"changes"]] == [b"k0", b"k1", b"k2", b"k3"]
                assert first[b"token"] == first[b"changes"][-1][b"dot"]
                rest = replica.call("MM.CHANGES", "SINCE", first[b"token"], "BLOCK", 5_000, wait_s=10)
                assert (rest[b"changes"][0][b"key"], rest[b"changes"][0][b"deleted"]) == (b"k4", False)
                token = primary.call("MM.VERSION")[b"token"]
                assert primary.call("MM.CHANGES", "SINCE", token)[b"changes"] == []
                nothing = primary.call("MM.CHANGES", "SINCE", token, "BLOCK", 20, wait_s=10)
                assert (nothing[b"changes"], nothing[b"token"]) == ([], token)
                with pytest.raises(UsageError, match="multi-master cluster"):
                    primary.call("MM.CHANGES", "SINCE", "W1sib3Nsb34xIiwzXV0")
                assert primary.call("MM.CHANGES", "SINCE", "-", "COUNT", 1)[b"changes"][0][b"key"] == b"k0"

        await asyncio.to_thread(talk)
        with pytest.raises(UsageError, match="single-master log"):
            async with mmrepl.Node("oslo", client="127.0.0.1:0") as oslo:
                await asyncio.to_thread(lambda: ask(oslo.client_address, "MM.CHANGES", "SINCE", "3.4"))


def ask(address, *words):
    with Client(address) as client:
        return client.call(*words)
