"""Peers that lie, babble, fall silent or do not read: each costs its own connection, never the node or another peer."""

from __future__ import annotations

import asyncio
import socket

import msgspec
import pytest
from attrs import evolve

import mmrepl
from mmrepl.log.batch import Batch, differences
from mmrepl.replication import multi_master
from mmrepl.runtime import link as link_module
from mmrepl.wire.codec import encode
from mmrepl.wire.framing import encode_frame
from mmrepl.wire.greeting import prove
from mmrepl.wire.messages import Delta, Digest, Hello, MemberEntry, Members, Proof, Refuse, Snapshot
from tests.integration.nodes import PATIENCE, QUICK, Impostor, SkewedClock, cluster, connected, impostor, until

FAR = 2**47 - 2
YEAR_MS = 365 * 24 * 3600 * 1000


async def still_serves(*nodes):
    """The honest go on as if nothing had been."""
    await nodes[0].put("still", 1, acks=len(nodes), timeout=PATIENCE)
    for node in nodes:
        assert node.get("still") == 1
        node.core.check()


def complaint(node, word):
    return any(word in text for text in node.status()["complaints"])


# -- before the hello


GARBAGE = {
    "text": b"GET / HTTP/1.1\r\nHost: paris\r\n\r\n",
    "zeros": bytes(4096),
    "length of 4 GiB": b"mm\x01\x00\x01\xff\xff\xff\xff\x00\x00\x00\x00",
    "another version": b"mm\x63\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00",
    "an unknown type": encode_frame(99, b"\x90"),
    "a body that is none": encode_frame(1, b"\xc1"),
    "deep": encode_frame(1, b"\x91" * 100_000 + b"\x90"),
    "a delta first": encode_frame(*encode(Delta([], Batch([], [], [], [], [], [], [], [])))),
    "a checksum that is wrong": encode_frame(1, b"\x90")[:-1] + b"\x91",
}


@pytest.mark.parametrize("what", GARBAGE)
async def test_garbage_costs_its_connection(what):
    """At once, named in status, escaped."""
    async with cluster("paris", "tokyo") as (paris, tokyo):
        stranger = await Impostor.dial(paris)
        stranger.bytes(GARBAGE[what])
        await stranger.ended()
        await stranger.close()
        assert paris.status()["complaints"]
        assert all(text.isprintable() for text in paris.status()["complaints"])
        await still_serves(paris, tokyo)


async def test_a_frame_cut_anywhere_is_discarded_whole():
    """A connection that ends within a message has said nothing."""
    async with cluster("paris", "tokyo") as (paris, tokyo):
        stranger = await Impostor.dial(paris)
        body = encode(msgspec.structs.replace(stranger.hello, name="mallory", instance=7, members=[]))
        await stranger.close()
        frame = encode_frame(*body)
        for cut in range(1, len(frame), 7):
            stranger = await Impostor.dial(paris)
            stranger.bytes(frame[:cut])
            await stranger.close()
        assert paris.core.members.names() == ["paris", "tokyo"]
        await still_serves(paris, tokyo)


async def test_much_said_without_a_hello_is_cut_off(monkeypatch):
    """However it is divided into frames: a large one under way counts, too."""
    monkeypatch.setattr(link_module, "STRANGER_BYTES", 10_000)
    async with cluster("paris", "tokyo") as (paris, tokyo):
        stranger = await Impostor.dial(paris)
        stranger.bytes(encode_frame(1, bytes(1_000_000))[:50_000])
        await stranger.ended()
        await stranger.close()
        assert complaint(paris, "no hello")
        await still_serves(paris, tokyo)


async def test_a_hello_one_byte_at_a_time_meets_the_deadline(monkeypatch):
    """Slow-loris: what has not come through by then is closed."""
    monkeypatch.setattr(multi_master, "GREETING_MS", 100)
    async with cluster("paris", "tokyo") as (paris, tokyo):
        stranger = await Impostor.dial(paris)
        stranger.bytes(encode_frame(1, b"\x90" * 100)[:5])
        await stranger.ended()
        await stranger.close()
        await still_serves(paris, tokyo)


async def test_silent_connections_are_few_and_the_honest_still_come_in():
    """Of two hundred that say nothing a bounded number is kept; the oldest goes for the newest."""
    limits = evolve(QUICK, peers=16)
    async with mmrepl.Node("paris", limits=limits) as paris:
        host, port = paris.address.rsplit(":", 1)
        silent = [(await asyncio.open_connection(host, int(port)))[1] for _ in range(200)]
        try:
            await until(paris, lambda: paris.status()["strangers"]["turned_away"] >= 184, "most were turned away")
            assert len(paris._driver.doorstep) <= 16
            async with mmrepl.Node("tokyo", limits=limits, peers=[paris.address]) as tokyo:
                await connected(paris, tokyo)
                await still_serves(paris, tokyo)
        finally:
            for writer in silent:
                writer.close()
            await asyncio.gather(*(writer.wait_closed() for writer in silent), return_exceptions=True)


# -- the hello


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"cluster": "another"}, "cluster"),
        ({"protocol": 99}, "protocol"),
        ({"name": "paris"}, "name-in-use"),
        ({"name": "tokyo"}, "name-in-use"),
        ({"secured": True}, "secret"),
        ({"nonce": b""}, "protocol"),
        ({"vector": [("x", 1, FAR + 99)]}, "FrameError"),
    ],
)
async def test_a_hello_that_does_not_fit_is_told_why(changes, code):
    """The other side hears the reason, and people read it in status."""
    async with cluster("paris", "tokyo") as (paris, tokyo):
        stranger = await Impostor.dial(paris)
        stranger.introduce(**changes)
        refusal = await stranger.hear(Refuse)
        assert refusal.code == code
        await stranger.close()
        assert complaint(paris, code)
        await still_serves(paris, tokyo)


async def test_two_nodes_with_different_secrets_never_meet():
    """Both say why; nothing passes."""
    async with mmrepl.Node("paris", limits=QUICK, secret="one") as paris:
        await paris.put("k", 1)
        async with mmrepl.Node("tokyo", limits=QUICK, secret="two", peers=[paris.address]) as tokyo:
            await until(tokyo, lambda: complaint(tokyo, "secret"), "the refusal")
            await until(paris, lambda: complaint(paris, "secret"), "the refusal")
            assert tokyo.get("k") is None


async def test_nodes_of_two_clusters_never_meet():
    """The id of the cluster is compared first."""
    async with (
        mmrepl.Node("paris", limits=QUICK, cluster="blue") as paris,
        mmrepl.Node("tokyo", limits=QUICK, cluster="red", peers=[paris.address]) as tokyo,
    ):
        await until(tokyo, lambda: complaint(tokyo, "cluster"), "the refusal")
        assert tokyo.core.members.names() == ["tokyo"]


async def test_no_secret_no_word_beyond_the_hello():
    """Neither a false proof nor none, neither a replayed one nor our own reflected, opens anything."""
    async with mmrepl.Node("paris", limits=QUICK, secret="s3cret") as paris:
        await paris.put("k", 1)
        for proof in (b"", bytes(32), None):
            stranger = await Impostor.dial(paris)
            stranger.introduce(secured=True)
            stranger.say(Digest([], 0, 0, want=True) if proof is None else Proof(proof))
            assert await stranger.hear(Delta) is None
            await stranger.close()
        stranger = await Impostor.dial(paris)
        stranger.say(stranger.hello)
        assert (await stranger.hear(Refuse)).code == "self"
        await stranger.close()
        assert paris.core.members.names() == ["paris"]


async def test_the_right_secret_opens():
    """An impostor that knows it is a member: this is all that tells the two apart."""
    async with mmrepl.Node("paris", limits=QUICK, secret="s3cret") as paris:
        friend = await Impostor.dial(paris)
        friend.introduce("oslo", secured=True)
        theirs = msgspec.structs.replace(friend.hello)
        ours = next(link.theirs for link in [await _greeted(paris)])
        friend.say(Proof(prove(b"s3cret", ours, theirs)))
        await until(paris, lambda: paris.core.members.is_member("oslo"), "oslo is in")
        await friend.close()


async def _greeted(node):
    """The one connection on which a hello has come."""
    await until(node, lambda: any(link.theirs for link in node.core._links.values()), "a hello")
    return next(link for link in node.core._links.values() if link.theirs)


async def test_who_has_not_let_us_in_is_not_connected_yet():
    """Its hello may have crossed ours: we count it as a peer, and of us it knows nothing."""
    async with mmrepl.Node("paris", limits=QUICK) as paris, impostor(paris, name="oslo") as oslo:
        waiting = asyncio.create_task(paris.wait_connected("oslo", timeout=PATIENCE))
        await asyncio.sleep(0)
        assert not waiting.done()
        oslo.say(Members([]))
        await waiting


async def test_a_stranger_cannot_have_a_node_start_over():
    """Neither one that dials nor one that is dialled, whatever it claims and whatever it refuses."""
    async with mmrepl.Node("paris", limits=QUICK, secret="s3cret") as paris:
        await paris.put("k", 1)
        node = paris.core.local.store.node
        for code in ("rejoin", "equivocation", "removed"):
            stranger = await Impostor.dial(paris)
            stranger.introduce(secured=True, vector=[(node.name, node.incarnation, FAR)])
            stranger.say(Refuse(code, "start over", stranger.hello.nonce))
            await stranger.ended()
            await stranger.close()
        assert paris.core.local.store.node == node
        assert paris.get("k") == 1


async def test_names_and_reasons_of_strangers_reach_people_escaped_and_cut():
    """No control characters, no page-long texts in status."""
    async with mmrepl.Node("paris", limits=QUICK) as paris:
        for say in (
            lambda s: s.introduce("\x1b[31m\u202e", cluster="\n" * 9000),
            lambda s: (s.introduce("x\ny"), s.say(Refuse("\x07", "\x1b[2J" * 5000))),
        ):
            stranger = await Impostor.dial(paris)
            say(stranger)
            await stranger.ended()
            await stranger.close()
        assert paris.status()["complaints"]
        assert all(text.isprintable() and len(text) < 1500 for text in paris.status()["complaints"])


# -- after the hello


async def test_claims_of_more_than_there_is_are_no_storm():
    """A peer that says to have 2**47 operations of others is asked now and then, and named."""
    async with cluster("paris", "tokyo") as (paris, tokyo), impostor(paris) as liar:
        claims = [("nobody", 1, FAR), ("tokyo", tokyo.core.local.store.node.incarnation, FAR)]
        liar.say(Digest(claims, 0, 0))
        await until(
            paris, lambda: any("does not send" in text for text in paris.status()["warnings"]), "the liar is named"
        )
        wants = 0
        while not liar.reader.at_eof() and wants < 3 and await liar.hear(Digest):
            wants += 1
        for i in range(20):
            await tokyo.put(f"k{i}", i)
        await until(paris, lambda: paris.get("k19") == 19, "the honest flow")
        paris.core.check()


async def test_a_claim_of_more_of_our_own_counter_loses_nothing():
    """It may be true, so it costs an incarnation; the write is there, and the others have it."""
    async with cluster("paris", "tokyo") as (paris, tokyo):
        await paris.put("k", 1, acks="all")
        before = paris.core.local.store.node
        async with impostor(paris) as liar:
            liar.say(Digest([(before.name, before.incarnation, FAR)], 0, 0))
            await until(paris, lambda: paris.core.local.store.node != before, "a new incarnation")
        assert "old copy" in paris.doubt
        await until(paris, lambda: not paris.core.rejoin.carried and paris.get("k") == 1, "what it had")
        await connected(paris, tokyo)
        await paris.put("l", 2, acks=2, timeout=PATIENCE)
        assert tokyo.get("k") == 1


async def test_writes_in_our_own_name_are_refused():
    """A delta with operations of ours that we never made costs its connection."""
    async with cluster("paris", "tokyo") as (paris, tokyo), impostor(paris) as forger:
        node = paris.core.local.store.node
        forged = Batch([tuple(node)], [""], [0, 1, 1], [], ["k"], [1], [b"\x01"], [])
        forger.say(Delta([], forged))
        await forger.ended()
        assert paris.get("k") is None
        await still_serves(paris, tokyo)


async def test_a_victim_of_forgery_recovers():
    """Operations are not signed: a write in tokyo's name is taken by paris. Tokyo becomes somebody else and goes on."""
    async with cluster("paris", "tokyo") as (paris, tokyo):
        await tokyo.put("mine", 1, acks=2)
        victim = tokyo.core.local.store.node
        async with impostor(paris) as forger:
            stamp = paris.read("mine").siblings[0].timestamp + 1
            batch = Batch([tuple(victim)], [""], [0, 2, 1], [], ["forged"], [stamp], [b"\x07"], [])
            forger.say(Delta([(*victim, 1)], batch))
            await until(paris, lambda: paris.get("forged") == 7, "the forgery is taken")
            await until(tokyo, lambda: tokyo.core.local.store.node != victim, "tokyo is somebody else")
        paris.remove("mallory")
        await connected(paris, tokyo)
        await tokyo.put("mine", 2, acks=2, timeout=PATIENCE)
        await tokyo.put("forged", "set right", acks=2, timeout=PATIENCE)
        for node in (paris, tokyo):
            assert (node.get("mine"), node.get("forged")) == (2, "set right")
            node.core.check()


@pytest.mark.parametrize("same_stamp", [False, True])
async def test_another_content_for_a_known_dot_is_noticed(same_stamp):
    """One dot, two stamps, or one stamp and two values: the second is refused, by name."""
    async with cluster("paris", "tokyo") as (paris, tokyo):
        await tokyo.put("k", "true", acks="all")
        node = tokyo.core.local.store.node
        async with impostor(paris) as forger:
            stamp = paris.read("k").siblings[0].timestamp if same_stamp else 1
            forger.say(Delta([], Batch([tuple(node)], [""], [0, 1, 1], [], ["k"], [stamp], [b"\xa5false"], [])))
            await forger.ended()
        assert complaint(paris, "Equivocation")
        assert paris.get("k") == "true"
        await still_serves(paris, tokyo)


async def test_stamps_years_ahead_are_held_and_named_and_others_flow():
    """Our own clock is not dragged along: what is written here stays orderly."""
    async with cluster("paris", "tokyo") as (paris, tokyo), impostor(paris) as future:
        stamp = (future.hello.wall_ms + 10 * YEAR_MS) << 16
        batch = Batch(
            [("mallory", 1)], [""], [0, 1, 2], [], ["x", "y"], differences([stamp, stamp + 1]), [b"\x01"] * 2, []
        )
        future.say(Delta([], batch))
        await until(paris, lambda: paris.status()["held_origins"], "the origin is named")
        assert paris.status()["held_origins"][0].startswith("mallory~1")
        assert any("too far ahead" in text for text in paris.status()["warnings"])
        for i in range(20):
            await tokyo.put(f"k{i}", i)
        await until(paris, lambda: paris.get("k19") == 19, "others flow")
        assert paris.get("x") is None
        await paris.put("k", 1)
        assert paris.read("k").siblings[0].timestamp < stamp


async def test_our_own_clock_years_ahead_is_told_at_put():
    """Once peers are known, before the write exists; a clock that is set right writes again."""
    clock = SkewedClock()
    async with (
        mmrepl.Node("paris", limits=QUICK, clock=clock) as paris,
        mmrepl.Node("tokyo", limits=QUICK, peers=[paris.address]) as tokyo,
        mmrepl.Node("lima", limits=QUICK, peers=[paris.address]) as lima,
    ):
        await connected(paris, tokyo, lima)
        clock.skew[0] = YEAR_MS
        with pytest.raises(mmrepl.errors.ClockAhead) as caught:
            await paris.put("k", 1)
        assert caught.value.definite
        assert paris.get("k") is None
        clock.skew[0] = 0
        await paris.put("k", 2, acks="all", timeout=PATIENCE)
        assert tokyo.get("k") == lima.get("k") == 2


async def test_a_snapshot_that_was_not_asked_for_and_does_not_fit_costs_its_connection():
    """And the store is what it was."""
    async with cluster("paris", "tokyo") as (paris, tokyo), impostor(paris) as forger:
        await paris.put("k", 1)
        forger.say(Snapshot("x", 0, 1, [], Batch([("y", 1)], [""], [0, 1, 1], [], ["k"], [1], [b"\x01"], [])))
        await forger.ended()
        assert paris.get("k") == 1
        await still_serves(paris, tokyo)


async def test_a_map_of_members_that_no_node_makes_costs_its_connection():
    """Edit numbers at the end of the range would make the next map impossible to send."""
    async with cluster("paris", "tokyo") as (paris, tokyo), impostor(paris) as forger:
        forger.say(Members([MemberEntry("tokyo", 1, "evil:1", 2**64 - 1, removed=False)]))
        await forger.ended()
        assert paris.core.members.names() == ["mallory", "paris", "tokyo"]
        paris.remove("mallory")
        await still_serves(paris, tokyo)


async def test_a_second_hello_costs_its_connection():
    """Who it is, is said once."""
    async with cluster("paris", "tokyo") as (paris, _tokyo), impostor(paris) as odd:
        odd.introduce("somebody else")
        await odd.ended()
        assert not any(peer.name == "mallory" for peer in paris.core.up())


async def test_a_reader_that_does_not_read_holds_nobody_up():
    """What waits for it is bounded; the others get everything meanwhile; when it reads again it is served."""
    limits = evolve(QUICK, outbound_bytes=64 * 1024, delta_bytes=16 * 1024)
    async with cluster("paris", "tokyo", limits=limits) as (paris, tokyo):
        stranger = await Impostor.dial(paris)
        stranger.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stranger.reader._transport.pause_reading()
        stranger.introduce("slow")
        await until(paris, lambda: any(peer.name == "slow" for peer in paris.core.up()), "slow is up")
        waiting = 0
        for i in range(600):
            await paris.put(f"k{i}", "v" * 15_000, acks=2 if i % 50 == 49 else None, timeout=PATIENCE)
            slow = paris.core.peers["slow"]
            handler = paris._driver._links.get(slow.link)
            if handler is not None:
                waiting = max(waiting, handler.connection.buffered_bytes)
        assert paris.core.peers["slow"].congested
        assert waiting < limits.outbound_bytes + 5 * 4 * 16 * 1024
        await until(tokyo, lambda: tokyo.count() == 600, "tokyo has everything")
        await stranger.close()


async def test_a_handler_of_events_that_raises_harms_nobody():
    """The node goes on; the loop is told."""
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context["message"]))
    async with cluster("paris", "tokyo") as (paris, tokyo):

        def broken(_event):
            raise RuntimeError("a listener's own defect")

        paris.on_peer(broken)
        paris.on_durable(broken)
        paris.block("tokyo")
        paris.unblock()
        await connected(paris, tokyo)
        paris.on_siblings(broken)
        await still_serves(paris, tokyo)
    assert told


async def test_hellos_tell_what_a_node_is():
    """What anybody who can connect reads, before any proof: names and counters, never values or the secret."""
    async with mmrepl.Node("paris", limits=QUICK, secret="s3cret") as paris:
        await paris.put("key", "value")
        stranger = await Impostor.dial(paris)
        body = encode(stranger.hello)[1]
        assert isinstance(stranger.hello, Hello)
        assert b"s3cret" not in body
        assert b"value" not in body
        await stranger.close()
        assert "s3cret" not in repr(paris)
        assert "s3cret" not in str(paris.status())
