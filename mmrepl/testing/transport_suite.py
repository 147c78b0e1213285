"""
What every transport must do: one suite, run over each.

A *kit* makes transports that can reach each other, and names an address where they may listen. Every case is an
async function of a kit, states one fact, and ends what it starts; `run` adds that nothing was left behind: no task,
no connection, no complaint to the event loop that the case did not expect.

For a transport of your own, under pytest:

    class TestMine(TransportSuite):
        def kit(self):
            return MyKit()

A kit that is made for a test and has a ``close`` coroutine is closed after it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pytest

from mmrepl.errors import ClosedError, UsageError
from mmrepl.ports import Connection
from mmrepl.testing.transport_kit import Accepting, Kit, Recorder, in_time, pair

Case: TypeAlias = Callable[[Kit], Awaitable[None]]

CASES: list[Case] = []
"""Every case; the name of each is the fact that it states."""

COMPLAINTS: dict[str, int] = {}
"""How many exceptions a case provokes that have to be reported to the event loop; none where it is not listed."""


def case(function: Case) -> Case:
    """List *function* among the cases."""
    CASES.append(function)
    return function


async def run(kit: Kit, function: Case) -> None:
    """One case, and that it leaves nothing: every transport of the kit is closed by the case."""
    loop = asyncio.get_running_loop()
    before = asyncio.all_tasks()
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: complaints.append(context))
    try:
        await function(kit)
    finally:
        loop.set_exception_handler(None)
    for _ in range(3):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() <= before, "tasks were left behind"
    expected = COMPLAINTS.get(getattr(function, "__name__", ""), 0)
    assert len(complaints) == expected, complaints


# -- streams


@case
async def bytes_arrive_in_order_both_ways(kit: Kit) -> None:
    """Megabytes in pieces of all sizes, both ways at once, arrive as sent."""
    ours, theirs, client, server = await pair(kit)
    rng = random.Random(3)  # noqa: S311
    pieces = [rng.randbytes(rng.choice([1, 10, 1000, 100_000])) for _ in range(60)]
    others = [rng.randbytes(rng.choice([1, 10, 1000, 100_000])) for _ in range(60)]
    for piece, other in zip(pieces, others, strict=True):
        ours.stream.send(piece)
        theirs.stream.send(other)
    forth, back = b"".join(pieces), b"".join(others)
    await theirs.until_bytes(len(forth))
    await ours.until_bytes(len(back))
    assert theirs.data == forth
    assert ours.data == back
    await client.close()
    await server.close()


@case
async def many_tiny_sends_arrive_in_order(kit: Kit) -> None:
    """Two thousand sends of a byte, some in one turn of the loop and some not, make one stream."""
    ours, theirs, client, server = await pair(kit)
    for i in range(2000):
        ours.stream.send(bytes([i % 251]))
        if i % 100 == 99:
            await asyncio.sleep(0)
    await theirs.until_bytes(2000)
    assert theirs.data == bytes(i % 251 for i in range(2000))
    await client.close()
    await server.close()


@case
async def handlers_may_send_while_they_are_called(kit: Kit) -> None:
    """send() from within made() and received() works; an echo comes back whole."""
    ours, _theirs, client, server = await pair(kit, echo=True, greeting=b"welcome ")
    ours.stream.send(b"x" * 100_000)
    await ours.until_bytes(8 + 100_000)
    assert ours.data == b"welcome " + b"x" * 100_000
    await client.close()
    await server.close()


@case
async def peers_are_named(kit: Kit) -> None:
    """Both sides can say, for people, who is at the other end."""
    ours, theirs, client, server = await pair(kit)
    assert isinstance(ours.stream.peer, str)
    assert ours.stream.peer
    assert isinstance(theirs.stream.peer, str)
    assert theirs.stream.peer
    await client.close()
    await server.close()


@case
async def buffered_bytes_rise_with_send_and_fall_to_zero(kit: Kit) -> None:
    """send() never blocks: it queues, buffered_bytes tells how much, and it all leaves."""
    ours, theirs, client, server = await pair(kit)
    assert ours.stream.buffered_bytes == 0
    for _ in range(8):
        ours.stream.send(bytes(1_000_000))
    assert ours.stream.buffered_bytes > 0
    assert ours.stream.buffered_bytes <= 8_000_000
    await theirs.until_bytes(8_000_000)
    assert ours.stream.buffered_bytes == 0
    await client.close()
    await server.close()


# -- the end of a stream


@case
async def close_lets_the_queue_leave_and_both_sides_hear_of_it(kit: Kit) -> None:
    """What was sent before close() arrives before lost(); lost() is called once on each side."""
    ours, theirs, client, server = await pair(kit)
    words = b"last words" * 1_000_000  # more than any network takes at once
    for begin in range(0, len(words), 100_000):
        ours.stream.send(words[begin : begin + 100_000])
    ours.stream.close()
    assert ours.reason is None, "lost() from within close()"
    await theirs.until_lost()
    await ours.until_lost()
    assert theirs.data == words
    await client.close()
    await server.close()


@case
async def after_close_nothing_is_sent_or_received(kit: Kit) -> None:
    """send() after close() or loss is ignored, close() again too, and no received() follows a close()."""
    ours, theirs, client, server = await pair(kit)
    theirs.stream.send(b"on its way")
    ours.stream.close()
    ours.stream.send(b"too late")
    ours.stream.close()
    await ours.until_lost()
    await theirs.until_lost()
    assert not ours.data
    assert not theirs.data
    for end in (ours, theirs):
        end.stream.send(b"after the end")
        end.stream.close()
        assert end.stream.buffered_bytes == 0
    await client.close()
    await server.close()


@case
async def both_sides_may_close_at_once(kit: Kit) -> None:
    """Crossing closes: one lost() each."""
    ours, theirs, client, server = await pair(kit)
    ours.stream.close()
    theirs.stream.close()
    await ours.until_lost()
    await theirs.until_lost()
    await client.close()
    await server.close()


@case
async def a_handler_may_close_from_within_its_calls(kit: Kit) -> None:
    """close() from made() or received() is as good as from anywhere else."""

    class ClosesAtOnce(Recorder):
        def made(self, connection: Connection) -> None:
            super().made(connection)
            connection.close()

    class ClosesOnData(Recorder):
        def received(self, data: bytes) -> None:
            super().received(data)
            self.stream.close()

    server, client = kit.transport(), kit.transport()
    accept = Accepting(ClosesOnData)
    listener = await server.listen(kit.address, accept)
    one, two = ClosesAtOnce(), Recorder()
    await client.connect(listener.address, one)
    await client.connect(listener.address, two)
    two.stream.send(b"hello")
    for handler in (one, two, await accept.nth(1)):
        await handler.until_lost()
    await client.close()
    await server.close()


@case
async def a_handler_that_raises_costs_only_its_own_connection(kit: Kit) -> None:
    """An exception from received() or made() is reported, closes that connection, and no other."""

    class RaisesOnData(Recorder):
        def received(self, data: bytes) -> None:
            super().received(data)
            if data.startswith(b"!"):
                raise RuntimeError("planted")

    class RaisesAtOnce(Recorder):
        def made(self, connection: Connection) -> None:
            super().made(connection)
            raise RuntimeError("planted")

    server, client = kit.transport(), kit.transport()
    accept = Accepting(RaisesOnData)
    listener = await server.listen(kit.address, accept)
    good, bad, worse = Recorder(), Recorder(), RaisesAtOnce()
    await client.connect(listener.address, good)
    await client.connect(listener.address, bad)
    bad.stream.send(b"!")
    await bad.until_lost()
    await (await accept.nth(1)).until_lost()
    await client.connect(listener.address, worse)
    await worse.until_lost()
    good.stream.send(b"still here")
    await (await accept.nth(0)).until_bytes(10)
    assert good.reason is None
    await client.close()
    await server.close()


COMPLAINTS["a_handler_that_raises_costs_only_its_own_connection"] = 2


@case
async def a_factory_that_raises_refuses_and_the_listener_lives(kit: Kit) -> None:
    """accept() raising loses that connection, or refuses it; the next one is served."""
    server, client = kit.transport(), kit.transport()
    accept, planted = Accepting(), [RuntimeError("planted")]

    def factory() -> Recorder:
        if planted:
            raise planted.pop()
        return accept()

    listener = await server.listen(kit.address, factory)
    refused = Recorder()
    try:
        await client.connect(listener.address, refused)
    except OSError:
        assert refused.connection is None or refused.reason is not None
    else:
        await refused.until_lost()
    served = Recorder()
    await client.connect(listener.address, served)
    await accept.nth()
    await client.close()
    await server.close()


COMPLAINTS["a_factory_that_raises_refuses_and_the_listener_lives"] = 1


# -- connecting and listening


@case
async def where_nobody_listens_connecting_is_an_oserror(kit: Kit) -> None:
    """The error names the address and comes before made(): the handler hears nothing."""
    server, client = kit.transport(), kit.transport()
    listener = await server.listen(kit.address, Accepting())
    await listener.close()
    handler = Recorder()
    with pytest.raises(OSError, match="cannot connect to") as caught:
        await client.connect(listener.address, handler)
    assert listener.address in str(caught.value)
    assert handler.connection is None
    await client.close()
    await server.close()


@case
async def an_address_can_be_had_once(kit: Kit) -> None:
    """A second listener there is an OSError that names it; two listeners on "any port" get two; closing frees one."""
    server, other = kit.transport(), kit.transport()
    one = await server.listen(kit.address, Accepting())
    two = await other.listen(kit.address, Accepting())
    assert one.address != two.address
    with pytest.raises(OSError, match="already in use") as caught:
        await other.listen(one.address, Accepting())
    assert one.address in str(caught.value)
    await one.close()
    await one.close()
    again = await other.listen(one.address, Accepting())
    assert again.address == one.address
    await server.close()
    await other.close()


@case
async def a_closed_listener_leaves_its_connections_alone(kit: Kit) -> None:
    """Listener.close() stops accepting; what was accepted lives on."""
    server, client = kit.transport(), kit.transport()
    accept = Accepting(lambda: Recorder(echo=True))
    listener = await server.listen(kit.address, accept)
    ours = Recorder()
    await client.connect(listener.address, ours)
    await accept.nth()
    await listener.close()
    ours.stream.send(b"still there?")
    await ours.until_bytes(12)
    with pytest.raises(OSError, match="refused"):
        await client.connect(listener.address, Recorder())
    await client.close()
    await server.close()


@case
async def fifty_connections_do_not_mix(kit: Kit) -> None:
    """Connections made at the same time keep their bytes apart."""
    server, client = kit.transport(), kit.transport()
    accept = Accepting(lambda: Recorder(echo=True))
    listener = await server.listen(kit.address, accept)
    handlers = [Recorder(greeting=f"I am {i:04}".encode()) for i in range(50)]
    await asyncio.gather(*(client.connect(listener.address, handler) for handler in handlers))
    for i, handler in enumerate(handlers):
        await handler.until_bytes(9)
        assert handler.data == f"I am {i:04}".encode()
    await client.close()
    await server.close()
    assert len(accept.handlers) == 50


# -- the end of a transport


@case
async def closing_a_transport_ends_all_that_it_started(kit: Kit) -> None:
    """Connections of both directions and listeners are gone when close() returns; again it does nothing."""
    one, two = kit.transport(), kit.transport()
    accept_one, accept_two = Accepting(), Accepting()
    at_one = await one.listen(kit.address, accept_one)
    at_two = await two.listen(kit.address, accept_two)
    forth, back = Recorder(), Recorder()
    await one.connect(at_two.address, forth)
    await two.connect(at_one.address, back)
    accepted_one, accepted_two = await accept_one.nth(), await accept_two.nth()
    async with in_time():
        await one.close()
    assert forth.reason is not None
    assert accepted_one.reason is not None
    await back.until_lost()
    await accepted_two.until_lost()
    with pytest.raises(OSError, match="refused"):
        await two.connect(at_one.address, Recorder())
    await one.close()
    await two.close()


@case
async def a_closed_transport_says_so(kit: Kit) -> None:
    """listen() and connect() after close() are the caller's error."""
    one, two = kit.transport(), kit.transport()
    listener = await two.listen(kit.address, Accepting())
    await one.close()
    with pytest.raises(ClosedError):
        await one.listen(kit.address, Accepting())
    with pytest.raises(ClosedError) as caught:
        await one.connect(listener.address, Recorder())
    assert isinstance(caught.value, UsageError)
    await two.close()


@case
async def closing_while_connecting_leaves_nothing(kit: Kit) -> None:
    """close() under way with connect(), at every turn: ClosedError or a connection that is lost; never a left-over."""
    for turns in range(6):
        server, client = kit.transport(), kit.transport()
        listener = await server.listen(kit.address, Accepting())
        handler = Recorder()
        attempt = asyncio.ensure_future(client.connect(listener.address, handler))
        for _ in range(turns):
            await asyncio.sleep(0)
        async with in_time():
            await client.close()
        try:
            await attempt
        except (ClosedError, OSError):
            assert handler.connection is None or handler.reason is not None
        else:
            await handler.until_lost()
        await server.close()


@case
async def cancelling_connect_leaves_nothing(kit: Kit) -> None:
    """A cancelled connect(), at every turn, leaves no connection: a handler that heard of one hears that it is lost."""
    for turns in range(6):
        server, client = kit.transport(), kit.transport()
        listener = await server.listen(kit.address, Accepting())
        handler = Recorder()
        attempt = asyncio.ensure_future(client.connect(listener.address, handler))
        for _ in range(turns):
            await asyncio.sleep(0)
        if attempt.cancel():
            with pytest.raises(asyncio.CancelledError):
                await attempt
            if handler.connection is not None:
                await handler.until_lost()
        await client.close()
        await server.close()


@case
async def unread_bytes_do_not_hold_up_close(kit: Kit) -> None:
    """close() of a transport with megabytes queued returns in a short moment, and all is lost exactly once."""
    ours, theirs, client, server = await pair(kit)
    for _ in range(32):
        ours.stream.send(bytes(1_000_000))
    async with in_time():
        await client.close()
        await server.close()
    assert ours.reason is not None
    assert theirs.reason is not None


# -- for pytest


class TransportSuite:
    """Subclass it under a name that pytest collects, and define `kit`."""

    def kit(self) -> Kit:
        """A new kit for one test."""
        raise NotImplementedError

    @pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
    def test_transport(self, case: Case) -> None:
        """The transport keeps this fact."""

        async def whole() -> None:
            kit = self.kit()
            try:
                await run(kit, case)
            finally:
                close = getattr(kit, "close", None)
                if close is not None:
                    await close()

        asyncio.run(whole())
