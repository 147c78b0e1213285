"""
Sessions over three real nodes while wires are cut, stopped and mended and replication is partitioned.

Every write has a key of its own, so that what a node shows tells which writes it has. The judge knows nothing of
vectors: a session's acknowledged writes must be there when it reads, what it saw once must be there again, a write that was
certainly not made must be nowhere in the end, and no node may have applied a write before those that its session had
written or read.
"""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest
from attrs import define, field

from mmrepl import errors
from mmrepl.client.client import Client
from mmrepl.client.sessions import SessionState
from tests.client.servers import wires
from tests.integration.nodes import cluster, converged

PATIENCE_OF_A_CALL = 0.1
STEPS = 30


@define(eq=False)
class Judge:
    """What happened, and what was wrong with it."""

    made: dict = field(factory=dict)  # key -> keys that its session had written or seen before
    refused: set = field(factory=set)  # keys of writes that were certainly not made
    doubtful: set = field(factory=set)
    wrong: list = field(factory=list)
    refusals: int = 0  # calls that a session gave up as NodeBehind
    done: int = 0

    @property
    def keys(self):
        return [*self.made, *self.doubtful]


class Weather:
    """Breaks one thing or mends one, by dice."""

    def __init__(self, rng, nodes, lines):
        self.rng, self.nodes, self.lines = rng, nodes, lines

    def change(self):
        line, (one, two) = self.rng.choice(self.lines), self.rng.sample(self.nodes, 2)
        match self.rng.randrange(7):
            case 0:
                line.cut()
            case 1:
                line.stop()
            case 2:
                one.block(two.name)
            case 3 | 4:
                line.mend()
            case _:
                one.unblock()

    def clear(self):
        for line in self.lines:
            line.mend()
        for node in self.nodes:
            node.unblock()


async def live(name, client, judge, weather, rng):
    """One user: writes, reads its own, reads others', and tells the judge."""
    session, number, mine, seen = client.session(reads="round-robin"), 0, set(), set()
    for _ in range(STEPS):
        weather.change()
        what = rng.randrange(3)
        try:
            if what == 0:
                number += 1
                key, before = f"{name}/{number}", mine | seen
                try:
                    await session.put(key, number, timeout=PATIENCE_OF_A_CALL)
                except errors.MmreplError as error:
                    (judge.refused if error.definite else judge.doubtful).add(key)
                    raise
                mine.add(key)
                judge.made[key] = before
            elif what == 1 and mine:
                key = rng.choice(sorted(mine))
                if not await session.contains(key, timeout=PATIENCE_OF_A_CALL):
                    judge.wrong.append(f"{name} wrote {key} and does not see it")
            elif what == 2 and judge.keys:
                key = rng.choice(judge.keys)
                if await session.contains(key, timeout=PATIENCE_OF_A_CALL):
                    seen.add(key)
                elif key in seen:
                    judge.wrong.append(f"{name} saw {key} and does not see it any more")
            judge.done += 1
            if rng.random() < 0.2:
                session = client.session(session.token, reads="round-robin")
        except errors.NodeBehind:
            judge.refusals += 1
        except errors.Unavailable:
            pass


async def order_at(node):
    """The keys in the order in which *node* applied them."""
    feed = node.changes()
    found = []
    count = len(node.core.local.store.table(""))
    async with contextlib.aclosing(feed):
        async for change in feed:
            found.append(change.key)
            if len(found) == count:
                return found
    return found


async def storm(seed):
    """Three users in a storm, then fair weather; gives the judge."""
    rng, judge = random.Random(seed), Judge()
    async with (
        cluster("paris", "tokyo", "lima", client="127.0.0.1:0") as nodes,
        wires(*(node.client_address for node in nodes)) as lines,
    ):
        weather = Weather(rng, nodes, lines)
        settings = {"health_interval": 0.02, "health_timeout": 0.05, "connect_timeout": 0.05, "rng": rng}
        async with contextlib.AsyncExitStack() as stack:
            addresses = [line.address for line in lines]
            clients = [await stack.enter_async_context(Client(addresses, **settings)) for _ in range(3)]
            await asyncio.gather(
                *(live(f"user{n}", clients[n], judge, weather, random.Random(f"{seed} {n}")) for n in range(3))
            )
            weather.clear()
        await converged(*nodes)
        for node in nodes:
            order = await order_at(node)
            place = {key: index for index, key in enumerate(order)}
            for key in judge.refused & place.keys():
                judge.wrong.append(f"{key} was certainly not written, and is at {node.name}")
            for key, before in judge.made.items():
                if key not in place:
                    judge.wrong.append(f"{key} was acknowledged, and is not at {node.name}")
                for earlier in before:
                    if place.get(earlier, 1 << 60) > place.get(key, 0):
                        judge.wrong.append(f"{node.name} applied {key} before {earlier}")
    return judge


@pytest.mark.parametrize("seed", [1, 2])
async def test_sessions_hold_in_a_storm(seed):
    """Nothing that was promised is broken, and enough was done for that to mean something."""
    judge = await storm(seed)
    assert judge.wrong == []
    assert judge.made


async def test_planted_a_client_without_sessions_is_caught(monkeypatch):
    """The same storm, and a client that does not ask the nodes what they have applied."""
    nothing = property(lambda _: SessionState().written)
    monkeypatch.setattr(SessionState, "before_read", nothing)
    monkeypatch.setattr(SessionState, "before_write", nothing)
    for seed in range(1, 41):  # about every second one shows it
        if (await storm(seed)).wrong:
            return
    pytest.fail("forty storms, and nobody noticed")
