"""Nodes that get on with each other, over real sockets and real files."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

import mmrepl
from mmrepl.errors import AckTimeout, UsageError, WaitTimeout
from mmrepl.resolvers import Callback, KeepSiblings
from tests.integration.nodes import PATIENCE, QUICK, cluster, connected, converged, until


async def test_three_nodes_share_what_is_written(tmp_path):
    """Each write reaches all, acknowledged by a majority or by all, and a delete too."""
    async with (
        mmrepl.Node("paris", tmp_path / "paris.db", limits=QUICK) as paris,
        mmrepl.Node("tokyo", tmp_path / "tokyo.db", limits=QUICK, peers=[paris.address]) as tokyo,
        mmrepl.Node("lima", tmp_path / "lima.db", limits=QUICK, peers=[paris.address]) as lima,
    ):
        await connected(paris, tokyo, lima)
        await paris.put("k", {"v": 1}, acks="majority")
        await tokyo.put("l", [2], acks="all")
        assert lima.get("l") == [2]
        await paris.delete("l", acks=3)
        assert tokyo.get("l", "absent") == "absent"
        await converged(paris, tokyo, lima)
        assert [node.get("k") for node in (paris, tokyo, lima)] == [{"v": 1}] * 3


async def test_acknowledgements_that_do_not_come_are_told_as_such():
    """The write is in the log, and spreads when the others are back."""
    async with cluster("paris", "tokyo") as (paris, tokyo):
        paris.block("tokyo")
        with pytest.raises(AckTimeout) as caught:
            await paris.put("k", 1, acks="all", timeout=0.05)
        assert not caught.value.definite
        assert (caught.value.confirmed, caught.value.wanted) == (1, 2)
        paris.unblock()
        await until(tokyo, lambda: tokyo.get("k") == 1, "the write has come")


@pytest.mark.parametrize("acks", [0, -1, "most", 1.5, True])
async def test_acks_that_mean_nothing_are_refused_before_anything_is_written(acks):
    """As a mistake of the caller."""
    async with mmrepl.Node("paris") as paris:
        with pytest.raises(UsageError):
            await paris.put("k", 1, acks=acks)
        assert "k" not in list(paris.keys())


async def test_changes_go_on_at_another_node_from_the_token():
    """Nothing is told twice and nothing is missed, wherever the reader goes on."""
    async with cluster("paris", "tokyo") as (paris, tokyo):
        for i in range(10):
            await paris.put(f"p{i}", i)
            await tokyo.put(f"t{i}", i)
        await converged(paris, tokyo)
        seen, token = [], None
        async for change in paris.changes():
            seen.append(change.key)
            token = change.token
            if len(seen) == 7:
                break
        async for change in tokyo.changes(since=token):
            seen.append(change.key)
            if len(seen) == 20:
                break
        assert sorted(seen) == sorted([f"p{i}" for i in range(10)] + [f"t{i}" for i in range(10)])


async def test_changes_wait_for_what_is_to_come():
    """Somebody who reads on is told of a write at another node."""
    async with cluster("paris", "tokyo") as (paris, tokyo):
        waiting = asyncio.ensure_future(anext(tokyo.changes()))
        await paris.put("k", 1)
        async with asyncio.timeout(PATIENCE):
            change = await waiting
        assert (change.key, change.value) == ("k", 1)


async def test_partition_and_heal_keep_siblings_and_merge_by_callback():
    """Concurrent writes meet in the resolver of their table, the same at both."""
    tables = {"drafts": KeepSiblings(), "carts": Callback(lambda carts: sorted(set().union(*carts)))}
    async with cluster("paris", "tokyo", tables=tables) as (paris, tokyo):
        paris.block("tokyo")
        for node, item in ((paris, "tea"), (tokyo, "rice")):
            await node.put("motto", item, table="drafts")
            await node.put("ada", [item], table="carts")
        paris.unblock()
        await connected(paris, tokyo)
        await converged(paris, tokyo)
        for node in (paris, tokyo):
            assert sorted(node.get("motto", table="drafts")) == ["rice", "tea"]
            assert node.get("ada", table="carts") == ["rice", "tea"]


async def test_a_node_that_was_away_catches_up(tmp_path):
    """It comes back under its own name and incarnation, with its file."""
    async with mmrepl.Node("paris", limits=QUICK) as paris:
        async with mmrepl.Node("tokyo", tmp_path / "t.db", limits=QUICK, peers=[paris.address]) as tokyo:
            await connected(paris, tokyo)
            await tokyo.put("before", 1, acks="all")
            identity = tokyo.core.local.store.node
        for i in range(100):
            await paris.put(f"k{i}", i)
        async with mmrepl.Node("tokyo", tmp_path / "t.db", limits=QUICK, peers=[paris.address]) as tokyo:
            await connected(paris, tokyo)
            assert tokyo.core.local.store.node == identity
            assert tokyo.doubt is None
            assert tokyo.get("k99") == 99


async def test_eight_nodes_in_one_process_converge():
    """All write at once. (How often an operation crosses depends on how late ticks are: tests/replication/test_push.py.)"""
    async with cluster(*"abcdefgh") as nodes:
        await asyncio.gather(*(node.put(f"{node.name}{i}", i) for i in range(25) for node in nodes))
        await converged(*nodes)
        assert {node.count() for node in nodes} == {200}


async def test_a_line_relays():
    """The ends hear of each other's writes through the middle, and acknowledge them the same way back."""
    async with cluster("a", "b", "c") as (a, b, c):
        a.block("c")
        c.block("a")
        await a.put("k", 1, acks="all", timeout=PATIENCE)
        assert c.get("k") == 1
        assert b.get("k") == 1


async def test_a_member_that_leaves_hands_over_first():
    """What it wrote stays with the others, and they wait for it no longer."""
    async with cluster("paris", "tokyo") as (paris, tokyo):
        for i in range(50):
            await tokyo.put(f"k{i}", i)
        await tokyo.leave()
        await until(paris, lambda: paris.count() == 50, "all has come")
        await until(paris, lambda: paris.core.members.names() == ["paris"], "it is gone")
        await paris.put("alone", 1, acks="all")


async def test_a_member_that_reaches_nobody_does_not_leave():
    """Its writes would be lost to the others."""
    async with cluster("paris", "tokyo") as (paris, tokyo):
        tokyo.block("paris")
        await tokyo.put("k", 1)
        with pytest.raises(WaitTimeout, match="another member"):
            await tokyo.leave(timeout=0.05)
        tokyo.unblock()
        await until(paris, lambda: paris.get("k") == 1, "the write has come")


async def test_where_others_are_told_to_reach_a_node_can_be_said():
    """For a listener behind a translated address: the peer is told *advertise*."""
    async with (
        mmrepl.Node("paris", limits=QUICK, advertise="localhost:1") as paris,
        mmrepl.Node("tokyo", limits=QUICK, peers=[paris.address]) as tokyo,
    ):
        await connected(paris, tokyo)
        assert tokyo.core.members.entries["paris"].address == "localhost:1"


async def test_a_node_whose_told_address_is_wrong_is_found_again_where_it_was(tmp_path):
    """The address that was configured is tried again, too."""
    async with mmrepl.Node("tokyo", limits=QUICK) as seed:
        seed_address = seed.address
    async with mmrepl.Node("paris", limits=QUICK, peers=[seed_address]) as paris:
        for _ in range(2):
            async with mmrepl.Node("tokyo", listen=seed_address, advertise="127.0.0.1:1", limits=QUICK) as tokyo:
                await connected(paris, tokyo)
            await until(paris, lambda: not list(paris.core.up()), "it is gone")


async def test_large_values_travel(tmp_path):
    """Of a megabyte each, as deltas and behind the cut as a snapshot."""
    log = mmrepl.LogPolicy(operations=5)
    value = "v" * (1024 * 1024 - 16)
    async with mmrepl.Node("paris", limits=QUICK, log=log) as paris:
        for i in range(40):
            await paris.put(f"k{i}", value)
        await until(paris, lambda: paris.core.local.store.log.start > 5, "the log was cut")
        async with mmrepl.Node("tokyo", limits=QUICK, peers=[paris.address]) as tokyo:
            await connected(paris, tokyo)
            await until(tokyo, lambda: tokyo.count() == 40, "all of them")
            assert tokyo.get("k7") == value
            await paris.put("late", value, acks="all", timeout=PATIENCE)


async def test_status_names_table_policies_that_differ():
    """At both, loudly; the data flow all the same."""
    async with (
        mmrepl.Node("paris", limits=QUICK, tables={"drafts": KeepSiblings()}) as paris,
        mmrepl.Node("tokyo", limits=QUICK, peers=[paris.address]) as tokyo,
    ):
        await connected(paris, tokyo)
        for node in (paris, tokyo):
            (text,) = node.status()["policy_differences"]
            assert "drafts" in text
            assert any("policies differ" in warning for warning in node.status()["warnings"])


async def test_reading_a_table_that_is_not_there_makes_none():
    """Else readers could use up the tables that there may be."""
    async with mmrepl.Node("paris") as paris:
        for i in range(100):
            assert paris.get("k", table=f"t{i}") is None
            assert not paris.read("k", table=f"t{i}").siblings
            assert paris.count(table=f"u{i}") == 0
        assert len(paris.core.local.store.log.table_names) < 10


async def test_stamps_of_one_node_rise_over_restarts(tmp_path):
    """Whatever the clock does in between."""
    stamps = []
    for _ in range(3):
        async with mmrepl.Node("paris", tmp_path / "p.db") as paris:
            await paris.put("k", 1)
            stamps.append(paris.read("k").siblings[0].timestamp)
    assert all(one < two for one, two in pairwise(stamps))
