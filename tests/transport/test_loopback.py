"""The network in memory, and its misfortunes: partitions, holds, cuts, delays; the same seed gives the same run."""

from __future__ import annotations

import asyncio

import pytest

from mmrepl.errors import UsageError
from mmrepl.testing.transport_kit import Accepting, Recorder, eventually
from mmrepl.transport.loopback import LoopbackNetwork


class World:
    """Places on a network, each listening at its name and echoing nothing."""

    def __init__(self, *names, **options):
        self.network = LoopbackNetwork(**options)
        self.names = names
        self.transports, self.accepts = {}, {}

    async def __aenter__(self):
        for name in self.names:
            self.transports[name] = self.network.transport(name)
            self.accepts[name] = Accepting()
            await self.transports[name].listen(name, self.accepts[name])
        return self

    async def __aexit__(self, *_):
        for transport in self.transports.values():
            await transport.close()
        await quiet()
        assert not self.network._streams, "streams outlived their transports"

    async def connect(self, source, target):
        """Both ends of a new stream."""
        ours = Recorder()
        await self.transports[source].connect(target, ours)
        return ours, await self.accepts[target].nth(len(self.accepts[target].handlers) - 1)


async def quiet(turns=50):
    """Turn the loop until nothing that could happen has not happened."""
    for _ in range(turns):
        await asyncio.sleep(0)


# -- partitions


async def test_a_partition_is_silent_and_its_streams_are_lost_when_it_heals():
    """Bytes across it do not arrive, nobody is told; at the heal both ends are lost; new streams then work."""
    async with World("paris", "tokyo") as world:
        ours, theirs = await world.connect("paris", "tokyo")
        world.network.partition({"paris"}, {"tokyo"})
        ours.connection.send(b"hello?")
        await quiet()
        assert not theirs.data
        assert ours.reason is theirs.reason is None
        assert ours.connection.buffered_bytes == 6
        world.network.heal()
        await quiet()
        assert ours.reason == theirs.reason == "connection timed out"
        assert not theirs.data
        ours, theirs = await world.connect("paris", "tokyo")
        ours.connection.send(b"again")
        await theirs.until_bytes(5)


async def test_an_idle_stream_survives_a_partition():
    """Who said nothing meanwhile does not know that anything happened, as with TCP."""
    async with World("paris", "tokyo") as world:
        ours, theirs = await world.connect("paris", "tokyo")
        world.network.partition({"paris"}, {"tokyo"})
        await quiet()
        world.network.heal()
        ours.connection.send(b"good morning")
        await theirs.until_bytes(12)


async def test_connecting_across_a_partition_times_out_at_once():
    """TimeoutError, an OSError, without waiting; the handlers hear nothing; either direction."""
    async with World("paris", "tokyo", "lima") as world:
        world.network.partition({"paris"}, {"tokyo", "lima"})
        for source, target in (("paris", "tokyo"), ("lima", "paris")):
            handler = Recorder()
            with pytest.raises(TimeoutError, match=f"cannot connect to {target}: Connection timed out"):
                await world.transports[source].connect(target, handler)
            assert handler.connection is None
            assert not world.accepts[target].handlers
        await world.connect("tokyo", "lima")


async def test_only_what_is_across_the_partition_suffers():
    """Streams within a side, and with places in no group, go on through it and its heal."""
    async with World("paris", "tokyo", "lima", "oslo") as world:
        within = await world.connect("tokyo", "lima")
        beside = await world.connect("oslo", "paris")
        world.network.partition({"paris"}, {"tokyo", "lima"})
        for ours, theirs in (within, beside):
            ours.connection.send(b"fine")
            await theirs.until_bytes(4)
        world.network.heal()
        await quiet()
        assert within[0].reason is beside[0].reason is None


async def test_partitions_add_up_and_one_heal_ends_them():
    """Two partitions one after the other separate everybody that either does."""
    async with World("paris", "tokyo", "lima") as world:
        world.network.partition({"paris"}, {"tokyo"})
        world.network.partition({"tokyo"}, {"lima"})
        for source, target in (("paris", "tokyo"), ("tokyo", "lima")):
            with pytest.raises(TimeoutError):
                await world.transports[source].connect(target, Recorder())
        await world.connect("paris", "lima")
        world.network.heal()
        await world.connect("paris", "tokyo")


async def test_a_close_across_a_partition_is_heard_after_it():
    """The end that closes is lost at once, the other stays half-open until the heal."""
    async with World("paris", "tokyo") as world:
        ours, theirs = await world.connect("paris", "tokyo")
        world.network.partition({"paris"}, {"tokyo"})
        ours.connection.close()
        await ours.until_lost()
        await quiet()
        assert theirs.reason is None
        world.network.heal()
        await theirs.until_lost()


async def test_a_place_in_two_groups_is_refused():
    """The caller's error, and nothing is separated."""
    async with World("paris", "tokyo") as world:
        with pytest.raises(UsageError, match="two groups"):
            world.network.partition({"paris"}, {"tokyo", "paris"})
        await world.connect("paris", "tokyo")


# -- holds and cuts


async def test_a_hold_keeps_one_direction_and_loses_nothing():
    """Bytes one way wait in order while the other way goes on; release() delivers them, and the news of a close."""
    async with World("paris", "tokyo") as world:
        ours, theirs = await world.connect("paris", "tokyo")
        world.network.hold("paris", "tokyo")
        for piece in (b"one ", b"two ", b"three"):
            ours.connection.send(piece)
        theirs.connection.send(b"back")
        await ours.until_bytes(4)
        await quiet()
        assert not theirs.data
        assert ours.connection.buffered_bytes == 13
        ours.connection.close()
        await ours.until_lost()
        world.network.release("paris", "tokyo")
        await theirs.until_lost()
        assert theirs.data == b"one two three"
        assert theirs.reason == "closed by peer"


async def test_heal_also_ends_holds():
    """What was held flows; held streams are not lost."""
    async with World("paris", "tokyo") as world:
        ours, theirs = await world.connect("paris", "tokyo")
        world.network.hold("paris", "tokyo")
        with pytest.raises(TimeoutError):
            await world.transports["tokyo"].connect("paris", Recorder())
        ours.connection.send(b"late")
        await quiet()
        world.network.heal()
        await theirs.until_bytes(4)
        assert ours.reason is None


async def test_a_cut_loses_both_ends_and_what_was_under_way():
    """Like a reset: bytes sent in the same turn never arrive; others are untouched; one can connect at once."""
    async with World("paris", "tokyo", "lima") as world:
        ours, theirs = await world.connect("paris", "tokyo")
        other, _ = await world.connect("lima", "tokyo")
        ours.connection.send(b"never seen")
        world.network.cut("tokyo", "paris")
        assert ours.reason is None, "lost() from within cut()"
        await ours.until_lost()
        await theirs.until_lost()
        assert ours.reason == theirs.reason == "connection reset"
        assert not theirs.data
        assert other.reason is None
        await world.connect("paris", "tokyo")


async def test_a_closed_transport_gives_its_name_back():
    """A node that went down can come back under its name; a name that is taken is refused."""
    async with World("paris", "tokyo") as world:
        with pytest.raises(UsageError, match="'tokyo'"):
            world.network.transport("tokyo")
        await world.transports["tokyo"].close()
        world.transports["tokyo"] = world.network.transport("tokyo")
        await world.transports["tokyo"].listen("tokyo", world.accepts["tokyo"])
        await world.connect("paris", "tokyo")


async def test_a_hold_at_the_end_does_not_hold_up_close():
    """Transports close although bytes and news of the end are stuck; after release nothing is left."""
    network = LoopbackNetwork()
    one, two = network.transport("one"), network.transport("two")
    accept = Accepting()
    await two.listen("two", accept)
    ours = Recorder()
    await one.connect("two", ours)
    theirs = await accept.nth()
    network.hold("one", "two")
    network.hold("two", "one")
    ours.connection.send(b"stuck")
    theirs.connection.send(b"stuck")
    await one.close()
    await two.close()
    assert ours.reason == theirs.reason == "closed here"
    network.heal()
    await quiet()
    assert not network._streams


# -- chance


async def story(seed):
    """What arrives when, in a run with delays and cuts: (turn, who, bytes)."""
    arrivals, turn = [], 0

    class Watching(Recorder):
        def received(self, data):
            super().received(data)
            arrivals.append((turn, self.connection.peer, data))

    network = LoopbackNetwork(seed, delay_turns_max=4, piece_bytes_max=7)
    server = network.transport("server")
    clients = [network.transport(f"client {i}") for i in range(3)]
    await server.listen("server", Watching)
    handlers = [Recorder() for _ in clients]
    for client, handler in zip(clients, handlers, strict=True):
        await client.connect("server", handler)
    for round_ in range(5):
        for i, handler in enumerate(handlers):
            handler.connection.send(bytes([round_ * 16 + i]) * 20)
    while sum(len(data) for _, _, data in arrivals) < 300:
        turn += 1
        assert turn < 10_000
        await asyncio.sleep(0)
    for each in (*clients, server):
        await each.close()
    return arrivals


async def test_the_same_seed_gives_the_same_run():
    """Every piece, its length and its turn repeat; another seed gives another run, and the same streams."""
    first, again, other = await story(1), await story(1), await story(2)
    assert first == again
    assert first != other
    assert {len(data) for _, _, data in first} == set(range(1, 8))

    def streams(arrivals):
        joined = {}
        for _, who, data in arrivals:
            joined[who] = joined.get(who, b"") + data
        return joined

    assert streams(first) == streams(other)


async def test_cutting_a_long_stream_into_tiny_pieces_is_linear():
    """A megabyte by the byte or two arrives without each piece copying the rest."""
    async with World("paris", "tokyo", piece_bytes_max=64) as world:
        ours, theirs = await world.connect("paris", "tokyo")
        ours.connection.send(bytes(2**20))
        await eventually(lambda: len(theirs.data) == 2**20)
        assert theirs.pieces > 2**20 / 64


@pytest.mark.parametrize("options", [{"delay_turns_max": -1}, {"piece_bytes_max": 0}])
def test_nonsense_options_are_refused(options):
    """The caller's error, when the network is made."""
    with pytest.raises(UsageError, match="at least"):
        LoopbackNetwork(**options)


# -- planted bugs


async def test_planted_leaking_partition(monkeypatch):
    """A partition that lets bytes through is found."""
    monkeypatch.setattr(LoopbackNetwork, "_is_stuck", lambda self, source, target: (source, target) in self._held)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        await test_a_partition_is_silent_and_its_streams_are_lost_when_it_heals()
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        await test_connecting_across_a_partition_times_out_at_once()
