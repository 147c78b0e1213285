"""Connections: few, shared, in order; and nothing of a client outlives it."""

from __future__ import annotations

import asyncio
import gc

import pytest

from mmrepl import errors
from mmrepl.client.client import Client
from mmrepl.client.connection import connect
from mmrepl.client.pool import Pool
from mmrepl.client.requests import ConnectionBroken, encoded
from mmrepl.wire.seen import LogPosition
from tests.client.servers import PATIENCE, QUICK, ScriptedNode, scripted, until

GET = encoded((b"MM.GET", b"k"))


def nothing():
    """Nobody wants to know when it is sent."""


class Gate(ScriptedNode):
    """Answers MM.GET only when it is open, in the order of asking, and counts what waits."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.open = asyncio.Event()
        self.waiting = self.waited_most = 0

    async def _answer(self, words):
        if words[0] == b"MM.GET":
            self.waiting += 1
            self.waited_most = max(self.waited_most, self.waiting)
            await self.open.wait()
            self.waiting -= 1
        return await super()._answer(words)


@pytest.fixture
async def gate():
    async with scripted("primary") as (node,):
        found = await Gate("g", node.log, "primary").start()
        yield found
        found.open.set()
        await found.stop()


def pool_of(node, **changes):
    settings = {"password": None, "connections": 3, "pipeline": 4, "timeout": 1.0, "lost": lambda _: None}
    return Pool(node.address, **settings | changes)


async def test_no_more_connections_than_allowed_and_no_more_calls_on_each(gate):
    """A hundred calls at once: three sockets, four calls on each, the rest wait their turn and are all answered."""
    pool = pool_of(gate)
    calls = [asyncio.ensure_future(pool.ask(GET, nothing)) for _ in range(100)]
    await until(lambda: pool.under_way == 12 and gate.waiting == 3)
    pool.check()
    assert (gate.most, gate.waited_most) == (3, 3)
    gate.open.set()
    while not all(call.done() for call in calls):
        pool.check()
        await asyncio.sleep(0)
    assert [call.result() for call in calls] == [None] * 100
    assert pool.opened_count == gate.most == 3
    pool.end()


async def test_one_connection_is_enough_when_nothing_waits(gate):
    """Calls one after another open nothing new."""
    gate.open.set()
    pool = pool_of(gate)
    for _ in range(20):
        await pool.ask(GET, nothing)
    assert pool.opened_count == 1
    pool.end()


async def test_answers_find_their_callers():
    """Pipelined on one socket, each gets its own, errors among them."""
    async with scripted("primary") as (a,), Client(a.address, connections=1, **QUICK) as client:
        await asyncio.gather(*(client.put(f"k{n}", n) for n in range(50)))
        got = await asyncio.gather(*(client.get(f"k{n}") for n in range(50)))
        assert got == list(range(50))
        mixed = await asyncio.gather(
            client.get("k1"), client.command("NOPE", writes=False), client.get("k2"), return_exceptions=True
        )
        assert (mixed[0], mixed[2]) == (1, 2)
        assert isinstance(mixed[1], errors.UsageError)
        assert a.most <= 2  # one for calls, one for the check


async def test_a_call_that_waits_for_a_node_holds_up_nobody():
    """Waiting for a replica to catch up has a connection to itself; other calls pass it by."""
    async with scripted("replica") as (a,), Client(a.address, connections=2, **QUICK) as client:
        a.log.entries.append((1, b"k", b"\x01"))
        session = client.session(f"s1:{LogPosition(1, 1)}:-")
        waiting = asyncio.ensure_future(session.get("k"))
        await until(lambda: any(connection.barred for connection in client._dispatcher.endpoints[a.address].pool._open))
        for _ in range(5):
            assert await asyncio.wait_for(client.get("k"), PATIENCE) is None
        assert not waiting.done()
        a.catch_up()
        assert await waiting == 1


async def test_a_call_that_is_called_off_at_once_is_never_sent(gate):
    """Within the same turn of the loop it has not left; afterwards its answer is dropped, for those behind it."""
    gate.open.set()
    connection = await connect(gate.address, None, 1.0, 10, lambda _: None)
    for future in [connection.ask(GET) for _ in range(3)]:
        future.cancel()
    kept = connection.ask(encoded((b"PING",)))
    assert (await kept).text == "PONG"
    assert gate.asked == []
    sent, behind = connection.ask(GET), connection.ask(encoded((b"PING",)))
    await asyncio.sleep(0)
    sent.cancel()
    assert (await behind).text == "PONG"
    assert len(gate.asked) == 1
    connection.abort("done")


async def test_who_waits_for_a_connection_is_told_that_there_is_none():
    """A node that is not there: certainly nothing was sent, to each its own error."""
    async with scripted("primary") as (a,):
        await a.stop()
        lost = []
        pool = pool_of(a, lost=lost.append)
        outcomes = await asyncio.gather(*(pool.ask(GET, nothing) for _ in range(5)), return_exceptions=True)
        assert all(isinstance(error, errors.Unavailable) and error.definite for error in outcomes)
        assert len({id(error) for error in outcomes}) == 5
        assert lost
        pool.end()


async def test_what_was_sent_and_what_was_not(gate):
    """When a connection is cut, the first are in doubt; those still waiting for their turn are not."""
    pool = pool_of(gate, connections=1, pipeline=2)
    calls = [asyncio.ensure_future(pool.ask(GET, nothing)) for _ in range(4)]
    await until(lambda: gate.waiting == 1 and pool.under_way == 2)
    await asyncio.sleep(0)
    pool.cut("because")
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [error.definite for error in outcomes] == [False, False, True, True]
    assert [isinstance(error, ConnectionBroken) for error in outcomes] == [True, True, False, False]
    pool.end()


async def test_a_turn_that_is_not_taken_goes_to_the_next(gate):
    """Calls that are called off while they wait for room do not take it with them."""
    pool = pool_of(gate, connections=1, pipeline=1)
    first = asyncio.ensure_future(pool.ask(GET, nothing))
    await until(lambda: gate.waiting == 1)
    rest = [asyncio.ensure_future(pool.ask(GET, nothing)) for _ in range(5)]
    await until(lambda: len(pool._waiting) == 5)
    gate.open.set()
    await first
    rest[0].cancel()
    rest[2].cancel()
    outcomes = await asyncio.wait_for(asyncio.gather(*rest, return_exceptions=True), PATIENCE)
    assert sum(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes) == 2
    assert outcomes.count(None) == 3
    pool.end()


async def test_nothing_outlives_a_client():
    """Tasks, sockets, calls under way: all end, and calls say what became of them."""
    async with scripted("primary", "replica") as (a, b):
        a.trouble["MM.PUT"] = ["hang"]
        before = asyncio.all_tasks()
        client = await Client([a.address, b.address], **QUICK).start()
        writing = asyncio.ensure_future(client.put("k", 1))
        await until(lambda: any(row["under_way"] for row in client.status()))
        await asyncio.sleep(0)
        await client.close()
        await client.close()
        with pytest.raises(errors.MmreplError) as caught:
            await writing
        assert not caught.value.definite
        with pytest.raises(errors.ClosedError):
            await client.get("k")
        assert "not running" in repr(client)
        a.let_go.set()
        await until(lambda: not a.connections and not b.connections)
        ours = {task for task in asyncio.all_tasks() - before if "mmrepl-client" in task.get_name()}
        assert not ours
        gc.collect()  # a transport that was not closed would warn


async def test_whoever_is_called_off_leaves_a_client_that_works():
    """Cancelling a call costs it, and at most its connection."""
    async with scripted("primary") as (a,), Client(a.address, **QUICK) as client:
        a.trouble["MM.GET"] = ["hang"]
        reading = asyncio.ensure_future(client.get("k"))
        await until(lambda: any(row["under_way"] for row in client.status()))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert (await client.put("k", 1)).node == a.address


async def test_starting_with_nobody_there():
    """The client starts, calls say who does not answer, and it finds the node when it comes."""
    async with scripted("primary") as (a,):
        await a.stop()
        async with Client(a.address, **QUICK) as client:
            assert "0 of 1 nodes up" in repr(client)
            with pytest.raises(errors.WaitTimeout, match="nobody answers at"):
                await client.get("k", timeout=0.03)
            await a.start(int(a.address.rpartition(":")[2]))
            assert await client.get("k") is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"addresses": []},
        {"addresses": "nowhere"},
        {"addresses": "127.0.0.1:1", "timeout": 0},
        {"addresses": "127.0.0.1:1", "connections": 0},
        {"addresses": "127.0.0.1:1", "reads": "best"},
        {"addresses": "127.0.0.1:1", "weights": {"127.0.0.1:1": -1}},
    ],
)
def test_what_cannot_be_is_refused_at_once(wrong):
    """Before anything is opened."""
    with pytest.raises(errors.UsageError):
        Client(**wrong)


async def test_a_client_has_to_be_started_once():
    """Not before, not twice."""
    client = Client("127.0.0.1:1", **QUICK)
    with pytest.raises(errors.ClosedError, match="start it"):
        await client.get("k")
    await client.close()
    async with scripted("primary") as (a,), Client(a.address, **QUICK) as started:
        with pytest.raises(errors.UsageError, match="once"):
            await started.start()
