"""Nodes of both modes on another event loop than asyncio's own."""

from __future__ import annotations

import asyncio
import contextlib
import gc

import pytest
import uvloop

from mmrepl import Node, SingleMasterNode

NAMES = ("paris", "tokyo", "lima")


@pytest.fixture
def on_uvloop():
    """Runs a coroutine on uvloop; a socket that it forgot is an error."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield runner.run
    gc.collect()


async def started(make, stack):
    """Three nodes, each given the addresses of those before it."""
    nodes = []
    for name in NAMES:
        nodes.append(await stack.enter_async_context(make(name, [node.address for node in nodes])))
    return nodes


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - of what no event tells
            await asyncio.sleep(0.01)


def test_many_writers(on_uvloop, tmp_path):
    """Three nodes find each other; what one writes for a majority, all have."""

    async def life():
        async with contextlib.AsyncExitStack() as stack:
            nodes = await started(lambda name, peers: Node(name, tmp_path / f"{name}.db", peers=peers), stack)
            await until(lambda: all(len(node.members()) == len(NAMES) for node in nodes))
            await asyncio.gather(*(nodes[0].put(f"k{i}", i, acks="majority") for i in range(100)))
            await until(lambda: all(node.get("k99") == 99 for node in nodes))

    on_uvloop(life())


def test_one_writer(on_uvloop, tmp_path):
    """A primary and two replicas; a write is answered by all of them, and the primary ends while they go on."""

    def make(name, peers):
        return SingleMasterNode(
            name, tmp_path / f"{name}.db", peers=peers, failover="manual", primary=name == "paris", ack="all"
        )

    async def life():
        async with contextlib.AsyncExitStack() as stack:
            nodes = paris, tokyo, lima = await started(make, stack)
            await until(lambda: all(len(node.core.history.current.voters) == len(NAMES) for node in nodes))
            await asyncio.gather(*(paris.put(f"k{i}", i) for i in range(100)))
            await until(lambda: tokyo.get("k99") == lima.get("k99") == 99)
            await paris.close()
            await tokyo.promote()
            await tokyo.put("k99", 100, ack="one")

    on_uvloop(life())
