"""A subscriber that kept up was told that the log no longer reached back to it."""

import asyncio

from mmrepl.runtime.node import Node


class Gatherer:
    """A connection that keeps what is sent."""

    peer = "nobody"
    buffered_bytes = 0

    def __init__(self) -> None:
        self.sent = b""

    def send(self, data: bytes) -> None:
        self.sent += data


class Clock:
    """Time that jumps."""

    def __init__(self) -> None:
        self.now_ms = 1_700_000_000_000

    def wall_ms(self) -> int:
        return self.now_ms

    def monotonic_ms(self) -> int:
        return self.now_ms


async def test_what_comes_in_one_read_is_told_before_it_is_cut():
    """
    A process that stood still reads thousands of operations, and the digest that makes them stable, in one go. They
    were cut in the same turn, before the subscribers had a chance to run.
    """
    clock = Clock()
    async with Node("tokyo", clock=clock) as tokyo, Node("paris", peers=[tokyo.address], clock=clock) as paris:
        await paris.wait_connected("tokyo")
        await tokyo.put("first", 1, acks=2)
        told = []

        async def subscribe(since=paris.version):
            async for change in paris.changes(since=since):
                told.append(change.key)  # noqa: PERF401 - it never ends

        subscriber = asyncio.create_task(subscribe())
        await asyncio.sleep(0)
        (theirs,), (ours,) = tokyo._driver._links.values(), paris._driver._links.values()
        honest, theirs.connection = theirs.connection, Gatherer()
        for number in range(20):
            await tokyo.put_many({f"{number}.{key}": 1 for key in range(300)})
            tokyo._driver._take_turn()
        clock.now_ms += 250
        tokyo._driver._take_turn()  # a tick: its digest
        theirs.connection, sent = honest, theirs.connection.sent
        ours.received(sent)
        paris._driver._take_turn()  # a tick here, too
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(told) == 6000
        subscriber.cancel()
