"""The router and real single-master nodes: redirects, failover, sessions that move, writes that are applied once."""

from __future__ import annotations

import asyncio

import pytest

import mmrepl
from mmrepl.client import health
from mmrepl.client.dispatch import Dispatcher
from mmrepl.errors import MmreplError
from tests.runtime.test_single_master_node import Three


def addresses(three):
    return [node.client_address for node in three.nodes.values()]


async def test_writes_find_the_primary_and_reads_are_spread():
    """Whichever node is asked first."""
    async with Three() as three:
        leader = await three.leader()
        follower = three.follower(leader)
        async with mmrepl.Client([follower.client_address], reads="primary") as client:
            await client.put("k", {"v": 1})
            assert await client.read("k") == {"v": 1} or (await client.get("k")) == {"v": 1}
        assert leader.get("k") == {"v": 1}


async def test_a_new_primary_is_found_after_a_failover():
    """The old one is gone; the call that meets this takes a little longer."""
    async with Three() as three:
        leader = await three.leader()
        async with mmrepl.Client(addresses(three), timeout=15, retry_writes="once", health_interval=0.2) as client:
            await client.put("k", 1)
            await leader.close()
            await client.put("k", 2)
            rest = [node for node in three.nodes.values() if node is not leader]
            await rest[0].wait_until(lambda: rest[0].get("k") == 2, "that it is applied")


@pytest.mark.parametrize("looks", [True, False])
async def test_a_new_primary_is_looked_for_while_a_write_waits_for_one(looks, monkeypatch):
    """Not at the next regular look only, which here never comes; planted: a client that just waits."""
    if not looks:
        monkeypatch.setattr(Dispatcher, "_look_again", lambda _: None)
    async with Three() as three:
        leader = await three.leader()
        timeout = 15 if looks else 1
        async with mmrepl.Client(addresses(three), timeout=timeout, retry_writes="once", health_interval=600) as client:
            await client.put("k", 1)
            await leader.close()
            if looks:
                await client.put("k", 2)
            else:
                with pytest.raises(MmreplError):
                    await client.put("k", 2)


async def test_a_node_that_was_away_is_believed_to_be_back_when_others_name_it_as_the_primary(tmp_path, monkeypatch):
    """Of its own accord the client would not look at it again here, as after a long absence."""
    monkeypatch.setattr(health, "RETRY_MS_MIN", 600_000)
    monkeypatch.setattr(health, "RETRY_MS_MAX", 600_000)
    async with Three(tmp_path) as three:
        leader = await three.leader()
        away = three.follower(leader)
        await leader.put("k", 0, ack="all")
        async with mmrepl.Client(addresses(three), timeout=15, health_interval=0.05) as client:
            place, dispatcher = away.client_address, client._dispatcher
            await away.close()
            while dispatcher.endpoints[place].health.up:
                await dispatcher._changed.wait()
            three.options["client"] = place
            back = await three.make(away.name).start()
            await leader.wait_until(
                lambda: leader.core.tenure.match(back.name) == leader.core.log.last, "that it is back"
            )
            await leader.transfer(back.name)
            await leader.close()  # so that it redirects nobody
            await client.put("k", 1)
            assert back.get("k") == 1


async def test_no_write_is_in_doubt_because_a_leader_was_stopped():
    """It hands over, and for a moment sends its clients to the new one: nothing is refused, nothing breaks off."""
    async with Three() as three:
        leader = await three.leader()
        async with mmrepl.Client(addresses(three), timeout=15) as client:
            await client.put("k", 0)
            stopping = asyncio.ensure_future(leader.stop())
            count = 0
            while not stopping.done():
                count += 1
                await client.put("k", count)  # not numbered: whatever broke off would be in doubt
            assert await stopping is not None
            rest = next(node for node in three.nodes.values() if node is not leader)
            assert await rest.read("k") == count > 0


async def test_a_session_sees_its_write_at_a_replica():
    """A replica that is behind is waited for, or passed over."""
    async with Three() as three:
        await three.leader()
        async with mmrepl.Client(addresses(three), reads="replica") as client:
            session = client.session()
            for number in range(20):
                await session.put("k", number)
                assert await session.get("k") == number


async def test_without_a_quorum_a_write_ends_in_an_error_that_tells_its_fate():
    """And not in waiting for ever."""
    async with Three() as three:
        leader = await three.leader()
        for node in three.nodes.values():
            if node is not leader:
                await node.close()
        async with mmrepl.Client([leader.client_address], timeout=2, health_interval=0.2) as client:
            with pytest.raises(MmreplError):
                await client.put("k", 1)
