"""All nodes take writes: real nodes on loopback, cut and partitioned, and sessions that move between them."""

from __future__ import annotations

import asyncio
import math

import pytest

from mmrepl import BLIND, errors
from mmrepl.client.client import Client
from mmrepl.client.sessions import SessionState
from mmrepl.resolvers import KeepSiblings
from tests.client.servers import PATIENCE, QUICK, until, wires
from tests.integration.nodes import cluster, converged

PORT = {"client": "127.0.0.1:0"}


def ports(nodes):
    return [node.client_address for node in nodes]


@pytest.mark.parametrize(
    "value", [None, True, -7, math.inf, 0.5, "né", b"\xff\r\n", [1, b"x", None], {"a": {"b": [b""]}}]
)
async def test_values_come_back_exactly(value):
    """With their types, bytes within lists and infinities included; absent is not None."""
    async with cluster("paris", **PORT) as nodes, Client(ports(nodes), **QUICK) as client:
        receipt = await client.put("k", value)
        assert await client.get("k", "absent") == value
        assert type(await client.get("k")) is type(value)
        read = await client.read("k")
        assert (read.present, read.value, read.siblings[0].value) == (True, value, value)
        assert (read.siblings[0].dot, read.context, read.node) == (receipt.dot, receipt.context, receipt.node)
        assert await client.contains("k")
        assert not await client.contains("other")
        assert not (await client.read("other")).context.vector


async def test_contexts_siblings_and_tables():
    """What a node offers, over the wire: contexts replace just what was read, tables keep to themselves."""
    async with (
        cluster("paris", tables={"drafts": KeepSiblings()}, **PORT) as nodes,
        Client(ports(nodes), **QUICK) as client,
    ):
        drafts = client.table("drafts")
        first = await drafts.put("k", "one")
        await drafts.put("k", "two", context=BLIND)
        assert await drafts.get("k") == ["one", "two"]
        await drafts.put("k", "three", context=first.context)
        assert await drafts.get("k") == ["two", "three"]
        await drafts.put("k", "four", context=(await drafts.read("k")).context, durability="none")
        assert await drafts.get("k") == ["four"]
        assert await client.get("k") is None
        assert await drafts.delete("other") is None
        assert (await drafts.delete("k")).context == (await drafts.read("k")).context
        with pytest.raises(errors.WrongContext, match=r"MM\.PUT 'other'"):
            await drafts.put("other", 1, context=first.context)
        with pytest.raises(errors.InvalidValue):
            await drafts.put("k", {1: 2})
        with pytest.raises(errors.InvalidKey):
            await drafts.put("", 1)
        with pytest.raises(errors.UsageError, match="not offered"):
            await client.command("INCR", "k", writes=True, key="k")
        assert await client.command("SET", "k", b"v", writes=True) == "OK"
        assert await client.command("GET", "k", writes=False) == b"v"


async def test_keys_are_walked_over_several_nodes(monkeypatch):
    """A page from each, as it comes; in order, each once."""
    monkeypatch.setattr("mmrepl.client.client.PAGE_KEYS", 3)
    async with cluster("paris", "tokyo", **PORT) as nodes, Client(ports(nodes), reads="round-robin", **QUICK) as client:
        await until(lambda: all(row["up"] for row in client.status()))
        names = [f"k{number}" for number in range(10)]
        for name in names:
            await client.put(name, 1)
        await client.put("other", 1)
        await converged(*nodes)
        assert [key async for key in client.keys("k")] == names
        assert [key async for key in client.session().keys("k", after="k7")] == ["k8", "k9"]
        assert [key async for key in client.keys("")] == [*names, "other"]


async def test_a_client_goes_elsewhere_when_its_node_closes():
    """Writes and reads, without an error that anybody sees, and back when it returns."""
    async with cluster("paris", "tokyo", **PORT) as (paris, tokyo), Client(ports((paris, tokyo)), **QUICK) as client:
        first = await client.put("k", 1)
        near, far = (paris, tokyo) if first.node == paris.client_address else (tokyo, paris)
        await near.close()
        await until(lambda: sum(row["up"] for row in client.status()) == 1)
        assert (await client.put("k", 2)).node == far.client_address
        assert await client.get("k") == 2


async def test_a_client_goes_elsewhere_when_the_wire_is_cut():
    """And comes back when it is mended; what was under way is in doubt, and says so."""
    async with (
        cluster("paris", "tokyo", **PORT) as nodes,
        wires(*ports(nodes)) as (one, two),
        Client([one.address, two.address], **QUICK) as client,
    ):
        await until(lambda: all(row["up"] for row in client.status()))
        node = (await client.put("k", 1)).node
        near, far = (one, two) if node == one.address else (two, one)
        near.stop()
        writing = asyncio.ensure_future(client.put("k", 2))
        await until(lambda: any(row["under_way"] for row in client.status()))
        await asyncio.sleep(0)
        near.cut()
        with pytest.raises(errors.Unavailable) as caught:
            await writing
        assert (caught.value.definite, caught.value.call.node) == (False, near.address)
        await until(lambda: not next(row for row in client.status() if row["address"] == near.address)["up"])
        assert (await client.put("k", 3)).node == far.address
        near.mend()
        await until(lambda: all(row["up"] for row in client.status()))


async def test_a_session_reads_its_writes_at_another_node():
    """During a partition it waits and says so, or goes where it was; after it, it reads them everywhere."""
    async with (
        cluster("paris", "tokyo", **PORT) as (paris, tokyo),
        Client(paris.client_address, **QUICK) as at_paris,
        Client(tokyo.client_address, **QUICK) as at_tokyo,
    ):
        tokyo.block("paris")
        session = at_paris.session()
        await session.put("k", "mine")
        moved = at_tokyo.session(session.token)
        with pytest.raises(errors.NodeBehind, match="has not applied") as caught:
            await moved.get("k", timeout=0.15)
        assert caught.value.definite
        assert await at_tokyo.session(session.token, read_your_writes=False).get("k") is None
        reading = asyncio.ensure_future(moved.get("k"))
        tokyo.unblock()
        assert await asyncio.wait_for(reading, PATIENCE) == "mine"


async def test_one_client_serves_a_session_from_where_it_holds():
    """Of two nodes, one behind: the session passes over it, others do not."""
    async with (
        cluster("paris", "tokyo", **PORT) as (paris, tokyo),
        Client(ports((paris, tokyo)), reads="round-robin", **QUICK) as client,
    ):
        await until(lambda: all(row["up"] for row in client.status()))
        tokyo.block("paris")
        session = client.session()
        await session.put("k", "mine")
        assert [await session.get("k") for _ in range(4)] == ["mine"] * 4
        assert {await client.get("k") for _ in range(4)} == {"mine", None}
        await session.put("k", "again")
        assert await session.get("k") == "again"
        paris.unblock()


async def test_reads_do_not_go_back():
    """Monotonic reads: what somebody else wrote and this session saw stays seen, and nothing more is asked."""
    async with (
        cluster("paris", "tokyo", **PORT) as (paris, tokyo),
        Client(paris.client_address, **QUICK) as at_paris,
        Client(tokyo.client_address, **QUICK) as at_tokyo,
    ):
        await at_paris.put("old", 1)
        await converged(paris, tokyo)
        tokyo.block("paris")
        await at_paris.put("k", 1)
        session = at_paris.session()
        assert await session.get("old") == 1
        assert await at_tokyo.session(session.token).get("old") == 1  # what it saw is there, though paris has more
        assert await session.get("k") == 1
        moved = at_tokyo.session(session.token)
        with pytest.raises(errors.NodeBehind):
            await moved.get("old", timeout=0.15)
        assert await at_tokyo.session(session.token, monotonic_reads=False).get("k") is None


@pytest.mark.parametrize("guarantee", ["monotonic_writes", "writes_follow_reads"])
async def test_a_write_waits_for_what_it_follows(guarantee):
    """Its own earlier writes, or what its session has read; so nobody sees the later one without the earlier."""
    async with (
        cluster("paris", "tokyo", "lima", **PORT) as (paris, tokyo, lima),
        Client(paris.client_address, **QUICK) as at_paris,
        Client(tokyo.client_address, **QUICK) as at_tokyo,
    ):
        tokyo.block("paris")
        lima.block("paris")
        session = at_paris.session()
        if guarantee == "monotonic_writes":
            await session.put("first", 1)
        else:
            await at_paris.put("first", 1)
            assert await session.get("first") == 1
        moved = at_tokyo.session(session.token)
        with pytest.raises(errors.NodeBehind) as caught:
            await moved.put("second", 2, timeout=0.15)
        assert caught.value.definite
        assert tokyo.get("second") is None
        careless = at_tokyo.session(session.token, **{guarantee: False})
        await careless.put("careless", 2)
        await lima.wait_until(lambda: lima.get("careless") == 2, "lima has it", timeout=PATIENCE)
        assert lima.get("first") is None  # the later without the earlier
        writing = asyncio.ensure_future(moved.put("second", 2))
        tokyo.unblock()
        await writing
        await lima.wait_until(lambda: lima.get("second") == 2, "lima has it", timeout=PATIENCE)
        assert lima.get("first") == 1


async def _session_moves(at_paris, at_tokyo, tokyo):
    """Each of the four guarantees once, during a partition; fails when one is broken."""
    tokyo.block("paris")
    session = at_paris.session()
    await session.put("k", "mine")
    moved = at_tokyo.session(session.token)
    for call in (lambda: moved.get("k", timeout=0.1), lambda: moved.put("other", 1, timeout=0.1)):
        try:
            found = await call()
        except errors.NodeBehind:
            continue
        assert found == "mine", "a node served that was behind"


@pytest.mark.parametrize("planted", [None, "before_read", "before_write"])
async def test_planted_a_client_that_does_not_ask_is_caught(monkeypatch, planted):
    """Without the precondition of reads, or that of writes, the same story breaks."""
    if planted is not None:
        monkeypatch.setattr(SessionState, planted, property(lambda _: SessionState().written))
    async with (
        cluster("paris", "tokyo", **PORT) as (paris, tokyo),
        Client(paris.client_address, **QUICK) as at_paris,
        Client(tokyo.client_address, **QUICK) as at_tokyo,
    ):
        if planted is None:
            await _session_moves(at_paris, at_tokyo, tokyo)
        else:
            with pytest.raises(AssertionError, match="was behind"):
                await _session_moves(at_paris, at_tokyo, tokyo)


async def test_a_password_is_asked_for():
    """The right one opens; the wrong one, or none, is told at the start."""
    async with cluster("paris", client_password="hush", **PORT) as nodes:
        async with Client(ports(nodes), password="hush", **QUICK) as client:
            await client.put("k", 1)
        for password in ("x", None):
            with pytest.raises(errors.UsageError, match="refuses this client"):
                await Client(ports(nodes), password=password, **QUICK).start()


async def test_repeating_a_write_makes_a_sibling():
    """Why nothing is repeated unasked: the second has a dot of its own, and the same context covers neither."""
    async with cluster("paris", default=KeepSiblings(), **PORT) as nodes, Client(ports(nodes), **QUICK) as client:
        context = (await client.put("k", "before")).context
        for _ in range(2):
            await client.put("k", "tea", context=context)
        assert await client.get("k") == ["tea", "tea"]
