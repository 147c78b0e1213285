"""One node takes writes: redirects, failovers, reads at replicas. Against nodes that follow a script."""

from __future__ import annotations

import asyncio

import pytest

from mmrepl import errors
from mmrepl.client.client import Client
from mmrepl.client.sessions import SessionState
from tests.client.servers import PATIENCE, QUICK, scripted, until


def role_of(client, node):
    return next(row["role"] for row in client.status() if row["address"] == node.address)


async def test_writes_go_to_the_primary_and_reads_to_replicas_in_turn():
    """By role, from the first call on; the primary serves no reads as long as a replica does."""
    async with scripted("primary", "replica", "replica") as nodes:
        a, b, c = nodes
        async with Client([n.address for n in (b, a, c)], reads="replica", weights={b.address: 2}, **QUICK) as client:
            await until(lambda: all(row["up"] for row in client.status()))
            receipt = await client.put("k", "v")
            assert receipt.node == a.address
            b.catch_up()
            c.catch_up()
            assert [await client.get("k") for _ in range(6)] == ["v"] * 6
            assert ([len(node.asked) for node in nodes]) == [1, 4, 2]
            assert await client.get("k", reads="primary") == "v"
            assert len(a.asked) == 2
            await b.stop()
            await c.stop()
            assert await client.get("k") == "v"
            assert len(a.asked) == 3


async def test_a_redirect_is_followed_and_remembered():
    """To a node that nobody named, too; the next write goes there at once."""
    async with scripted("replica", "primary") as (a, b):
        a.knows_primary = b.address
        async with Client([a.address], **QUICK) as client:
            assert (await client.put("k", 1)).node == b.address
            assert len(a.asked) == 0  # its role was known: nobody asked it to write
            await until(lambda: role_of(client, b) == "primary")
            assert (await client.put("k", 2)).node == b.address


async def test_moved_is_followed():
    """A node that was the primary until now says where to go, and the write is made there, once."""
    async with (
        scripted("primary", "replica") as (a, b),
        Client([a.address, b.address], **QUICK | {"health_interval": 30}) as client,
    ):
        await until(lambda: all(row["up"] for row in client.status()))
        a.role, b.role, a.knows_primary, b.term = "replica", "primary", b.address, 2
        assert (await client.put("k", 1)).node == b.address
        assert (await client.put("k", 2)).node == b.address
        assert len(a.asked) == 1
        assert [value for _, _, value in b.log.entries] == [b"\x01", b"\x02"]


async def test_two_nodes_that_send_to_each_other():
    """Not for ever: the call ends with its timeout, and has asked a bounded number of times."""
    async with scripted("primary", "primary") as (a, b):
        a.trouble["MM.PUT"] = [b"-MOVED 0 %b\r\n" % b.address.encode()] * 10_000
        b.trouble["MM.PUT"] = [b"-MOVED 0 %b\r\n" % a.address.encode()] * 10_000
        async with Client([a.address, b.address], **QUICK) as client:
            with pytest.raises(errors.WaitTimeout, match="primary is at"):
                await client.put("k", 1, timeout=0.3)
            assert not a.log.entries
            assert client._dispatcher.redirects_count < 100


async def test_a_write_waits_for_the_new_primary():
    """READONLY everywhere: the roles are asked for again, with back-off, until somebody is elected."""
    async with scripted("primary", "replica") as (a, b), Client([a.address, b.address], **QUICK) as client:
        await client.put("k", 1)
        a.role = "replica"
        writing = asyncio.ensure_future(client.put("k", 2))
        await until(lambda: role_of(client, a) == "replica")
        assert not writing.done()
        b.role, b.term = "primary", 2
        assert (await writing).node == b.address


async def test_the_primary_dies_and_another_takes_over():
    """The write that finds nobody waits; the dead one's return does not take the writes back."""
    async with scripted("primary", "replica") as (a, b), Client([a.address, b.address], **QUICK) as client:
        await client.put("k", 1)
        await a.stop()
        await until(lambda: not next(row for row in client.status() if row["address"] == a.address)["up"])
        writing = asyncio.ensure_future(client.put("k", 2))
        await until(lambda: client._dispatcher.endpoints[b.address].health.checks_count > 3)
        assert not writing.done()
        b.role, b.term = "primary", 2
        assert (await writing).node == b.address
        await a.start(int(a.address.rpartition(":")[2]))  # still believes that it is the primary, of term 1
        await until(lambda: all(row["up"] for row in client.status()))
        assert (await client.put("k", 3)).node == b.address


@pytest.mark.parametrize("what", ["lose", "half"])
async def test_a_write_whose_answer_is_lost_is_in_doubt_and_not_repeated(what):
    """It may have been made, and here it was: the error says that, with node, command and key."""
    async with scripted("primary") as (a,):
        a.trouble["MM.PUT"] = [what]
        async with Client([a.address], **QUICK) as client:
            with pytest.raises(errors.Unavailable, match=f"{a.address}: MM.PUT 'k'") as caught:
                await client.put("k", 1)
            assert not caught.value.definite
            assert caught.value.call == errors.Call(a.address, "MM.PUT", "k")
            assert len(a.log.entries) == 1
            assert await client.get("k") == 1


async def test_at_least_once_if_one_chooses_it():
    """The write is repeated, and here it is made twice."""
    async with scripted("primary") as (a,):
        a.trouble["MM.PUT"] = ["lose"]
        async with Client([a.address], retry_writes=True, **QUICK) as client:
            await client.put("k", 1)
            assert len(a.log.entries) == 2


async def test_a_numbered_write_is_repeated_and_made_once():
    """Its answer is lost, twice, and the primary is another by then: the log knows the number."""
    async with (
        scripted("primary", "replica") as (a, b),
        Client([a.address, b.address], retry_writes="once", **QUICK) as client,
    ):
        await client.put("k", 0)
        a.trouble["MM.PUT"] = ["lose", "half"]
        await client.put("k", 1)
        assert [value for _, _, value in a.log.entries] == [b"\x00", b"\x01"]
        a.trouble["MM.PUT"] = ["lose"]
        a.knows_primary, b.term = b.address, 2
        writing = asyncio.ensure_future(client.put("k", 2))
        await until(lambda: len(a.log.entries) == 3)
        a.role, b.role = "replica", "primary"
        assert (await writing).node in {a.address, b.address}
        assert len(a.log.entries) == 3
        assert [latest for latest, _ in a.log.sessions] == [3]
        await asyncio.gather(*(client.table("t").put(f"k{number}", number) for number in range(20)))
        assert len(a.log.entries) == 23
        assert sum(latest for latest, _ in a.log.sessions) == 23


async def test_a_session_of_the_log_whose_request_is_in_doubt_is_given_up():
    """The next write has another; a number that was certainly not used is used again."""
    async with scripted("primary") as (a,), Client([a.address], retry_writes="once", **QUICK) as client:
        await client.put("k", 1)
        a.trouble["MM.PUT"] = [b"-INVALID no (certainly not written)\r\n"]
        with pytest.raises(errors.InvalidValue) as caught:
            await client.put("k", 2)
        assert caught.value.definite
        await client.put("k", 3)
        assert [latest for latest, _ in a.log.sessions] == [2]
        a.trouble["MM.PUT"] = ["hang"]
        with pytest.raises(errors.WaitTimeout) as caught:
            await client.put("k", 4, timeout=0.05)
        assert not caught.value.definite
        await client.put("k", 5)
        assert len(a.log.sessions) == 2


async def test_doubt_stays_whatever_comes_after():
    """A repetition that is certainly refused says nothing of the first attempt."""
    async with scripted("primary") as (a,), Client([a.address], retry_writes=True, **QUICK) as client:
        a.trouble["MM.PUT"] = ["lose", b"-INVALID no (certainly not written)\r\n"]
        with pytest.raises(errors.InvalidValue) as caught:
            await client.put("k", 1)
        assert not caught.value.definite
        a.trouble["MM.PUT"] = ["lose"] + [b"-READONLY no\r\n"] * 1000
        with pytest.raises(errors.WaitTimeout) as caught:
            await client.put("k", 1, timeout=0.1)
        assert not caught.value.definite


@pytest.mark.parametrize("what", ["lose", "half", "refuse", b"garbage\r\n", b"-CLOSED the node is closing\r\n"])
async def test_a_read_goes_elsewhere_whatever_happens_to_it(what):
    """Reads change nothing, so they may be repeated."""
    async with (
        scripted("primary", "replica") as (a, b),
        Client([a.address, b.address], reads="replica", **QUICK) as client,
    ):
        await client.put("k", 1)
        b.trouble["MM.GET"] = [what]
        assert await client.get("k") == 1


async def test_a_node_that_hangs_is_found_out_by_its_health():
    """A read that hangs there goes elsewhere when the check does; a write there is in doubt."""
    async with scripted("primary", "replica") as (a, b):
        settings = QUICK | {"health_timeout": 0.05}
        async with Client([a.address, b.address], reads="replica", **settings) as client:
            await client.put("k", 1)
            b.trouble |= {"MM.GET": ["hang"], "PING": ["hang"] * 100}
            assert await client.get("k") == 1
            a.trouble |= {"MM.PUT": ["hang"], "PING": ["hang"] * 100}
            with pytest.raises(errors.Unavailable) as caught:
                await client.put("k", 2)
            assert not caught.value.definite


async def test_a_call_ends_with_its_timeout():
    """And says of a write that was sent that nobody knows; of one that was not, that it was not made."""
    async with scripted("primary") as (a,), Client([a.address], **QUICK) as client:
        a.trouble["MM.PUT"] = ["hang"]
        with pytest.raises(errors.WaitTimeout, match=r"not done within 0\.05 s") as caught:
            await client.put("k", 1, timeout=0.05)
        assert not caught.value.definite
        assert await client.get("k") is None  # over another connection
        await a.stop()
        await until(lambda: not client.status()[0]["up"])
        with pytest.raises(errors.WaitTimeout, match="known nodes") as caught:
            await client.put("k", 1, timeout=0.05)
        assert caught.value.definite


async def test_a_session_waits_for_a_replica_or_goes_to_the_primary():
    """Read your writes, where the replica is behind: with the primary at hand it answers, without it one waits."""
    async with (
        scripted("primary", "replica") as (a, b),
        Client([a.address, b.address], reads="replica", **QUICK) as client,
    ):
        session = client.session()
        await session.put("k", 1)
        assert session.token == "s1:1.1:-"
        assert await session.get("k") == 1
        assert [len(a.asked), len(b.asked)] == [2, 0]
        await a.stop()
        with pytest.raises(errors.NodeBehind, match=r"MM\.GET 'k'") as caught:
            await session.get("k", timeout=0.2)
        assert caught.value.definite
        reading = asyncio.ensure_future(session.get("k"))
        await until(lambda: any(row["under_way"] for row in client.status()))
        b.catch_up()
        assert await asyncio.wait_for(reading, PATIENCE) == 1
        assert session.token == "s1:1.1:1.1"


async def test_planted_a_session_that_asks_for_nothing_reads_the_past(monkeypatch):
    """The test above has teeth."""
    monkeypatch.setattr(SessionState, "before_read", property(lambda _: SessionState().written))
    async with (
        scripted("primary", "replica") as (a, b),
        Client([a.address, b.address], reads="replica", **QUICK) as client,
    ):
        session = client.session()
        await session.put("k", 1)
        assert await session.get("k") is None


async def test_a_node_without_roles_is_taken_for_what_redis_says():
    """MM.ROLE is not known there; HELLO tells master or replica."""
    async with scripted("primary", "replica") as (a, b):
        a.say_role = b.say_role = False
        async with Client([b.address, a.address], **QUICK) as client:
            await until(lambda: all(row["up"] for row in client.status()))
            assert (await client.put("k", 1)).node == a.address
