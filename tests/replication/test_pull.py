"""What comes too early, what is lacking, and whom to ask: one at a time, and no more often than it is worth."""

from __future__ import annotations

from attrs import evolve

from mmrepl.causality.version_vector import VersionVector
from mmrepl.log.batch import Batch
from mmrepl.replication.pull import HELD_COUNT
from mmrepl.types import DEFAULT_LIMITS, NodeId
from mmrepl.wire.messages import Delta, Digest, to_wire
from tests.replication.world import World

FAR = 2**47 - 2
YEAR_MS = 365 * 24 * 3600 * 1000


def wants(world, since=0, **ends):
    return sum(
        isinstance(message, Digest)
        and message.want
        and all(v == {"source": a, "target": b}[k] for k, v in ends.items())
        for a, b, message in world.said[since:]
    )


def meshed(*names, **options):
    world = World(*names, **options)
    world.mesh()
    world.run(1000)
    return world


def test_a_delta_that_comes_before_what_it_stands_on_is_held_and_then_applied():
    """Nobody is asked for anything when the missing operation arrives within a tick."""
    world = meshed("lima", "paris", "tokyo")
    mark = len(world.said)
    world.hold("paris", "lima")
    world["paris"].put("k", "first")
    world.run()
    world["tokyo"].put("k", "second")  # over the first
    world.run()
    lima = world["lima"].core
    assert len(lima.peers["tokyo"].held) == 1
    assert world["lima"].get("k") is None
    world.release("paris", "lima")
    world.run()
    assert world["lima"].values("k") == ["second"]
    assert not lima.peers["tokyo"].held
    assert not wants(world, mark)


def test_what_stays_away_for_a_tick_is_asked_for_of_whoever_has_it():
    """The held delta's sender has all that it stands on."""
    world = meshed("lima", "paris", "tokyo")
    world.cut("paris", "lima")
    mark = len(world.said)
    world["paris"].put("k", "first")
    world.run()
    world["tokyo"].put("k", "second")
    world.run()
    assert world["lima"].get("k") is None
    world.run(600)
    assert world["lima"].values("k") == ["second"]
    assert wants(world, mark, source="lima", target="tokyo") == 1


def test_one_is_asked_at_a_time():
    """A newcomer to a cluster is sent its history once, not by everybody."""
    world = meshed("lima", "paris", "tokyo")
    for i in range(50):
        world["paris"].put(f"k{i}", i)
    world.settle()
    world.add("oslo")
    mark = len(world.said)
    for name in ("lima", "paris", "tokyo"):
        world.connect("oslo", name)
    world.settle()
    assert set(world.crossings(mark).values()) == {1}
    assert wants(world, mark, source="oslo") == 1


def test_a_pull_that_stands_still_is_given_up_for_another_peer():
    """A sponsor that falls silent costs two seconds."""
    world = meshed("lima", "paris", "tokyo")
    world["paris"].put("k", 1)
    world.settle()
    world.add("oslo")
    for name in ("lima", "paris", "tokyo"):
        world.connect("oslo", name)
    world.run()  # hellos; the first is asked
    world.now += 1
    first = world["oslo"].core.puller.pull
    if first is not None:
        world.hold(first.peer.name, "oslo")
    world.run(4000)
    assert world["oslo"].get("k") == 1


def test_a_peer_that_claims_what_it_does_not_have_is_asked_more_and_more_rarely():
    """No storm: within a minute it is asked less than ten times, and the others' writes flow all the while."""
    world = meshed("lima", "paris", "tokyo")
    claims = to_wire(VersionVector({NodeId("nobody", 1): FAR, world["paris"].node: FAR}))
    view = world["paris"].core.members.view
    mark = len(world.said)
    for second in range(60):
        world.inject("tokyo", "lima", Digest(claims, view, world["lima"].wall_ms))
        world["paris"].put(f"k{second}", second)
        world.run(1000)
        assert world["lima"].get(f"k{second}") == second
    assert 1 <= wants(world, mark, source="lima", target="tokyo") < 10
    world.check()


def test_a_liar_does_not_keep_us_from_asking_others():
    """While it is being waited for in vain, what another has is still fetched within seconds."""
    world = meshed("lima", "oslo", "paris", "tokyo")
    for other in ("lima", "tokyo"):
        world.cut("oslo", other)
        world.cut("paris", other)
    world["oslo"].put("k", 1)
    claims = to_wire(VersionVector({NodeId("nobody", 1): FAR}))
    view = world["lima"].core.members.view
    world.inject("tokyo", "lima", Digest(claims, view, world["lima"].wall_ms))
    world.run(500)
    assert world["lima"].core.puller.pull is not None
    world.connect("paris", "lima")
    world.run(5000)
    assert world["lima"].get("k") == 1


def test_a_reconnect_brings_each_missing_operation_once():
    """The side that lacks something asks for it; it is not pushed as well."""
    world = meshed("paris", "tokyo")
    world.cut("paris", "tokyo")
    for i in range(50):
        world["paris"].put(f"p{i}", i)
        world["tokyo"].put(f"t{i}", i)
    world.run()
    mark = len(world.said)
    world.connect("paris", "tokyo")
    world.settle()
    assert set(world.crossings(mark).values()) == {1}
    world["paris"].put("k", 1)
    world.run()
    assert world["tokyo"].get("k") == 1, "and both are live again"


def test_repeated_deltas_do_not_keep_a_pull_alive():
    """Only what is new counts as progress."""
    world = meshed("lima", "paris", "tokyo")
    world["tokyo"].put("k", 1)
    world.settle()
    old = next(message for a, b, message in world.said if isinstance(message, Delta) and (a, b) == ("tokyo", "lima"))
    claims = to_wire(VersionVector({NodeId("nobody", 1): FAR}))
    world.inject("tokyo", "lima", Digest(claims, 0, world["lima"].wall_ms))
    world.run(500)
    assert world["lima"].core.puller.pull.peer.name == "tokyo"
    for _ in range(40):
        world.inject("tokyo", "lima", old)
        world.run(100)
    assert world["lima"].core.puller.pull is None


def test_held_deltas_are_bounded_in_bytes_and_in_number():
    """At the bound those that came first stay; the rest is fetched when they have been applied."""
    limits = evolve(DEFAULT_LIMITS, held_bytes=4096)
    world = meshed("lima", "paris", "tokyo", limits=limits)
    world.hold("paris", "lima")
    world["paris"].put("first", 1)
    world.run()
    for i in range(100):
        world["tokyo"].put(f"k{i}", "x" * 100)
        world.run()
    peer = world["lima"].core.peers["tokyo"]
    assert 0 < peer.held_bytes <= 4096
    assert len(peer.held) < 100
    world.check()
    world.release("paris", "lima")
    world.settle()
    assert world["lima"].get("k99") == "x" * 100


def test_held_deltas_of_a_hostile_peer_are_bounded_in_number():
    """Empty deltas that stand on nothing known cost their sender more than us."""
    world = meshed("lima", "tokyo")
    nothing = Delta([("nobody", 1, 5)], Batch([], [], [], [], [], [], [], []))
    for _ in range(HELD_COUNT + 100):
        world.inject("tokyo", "lima", nothing)
    world.run()
    assert len(world["lima"].core.peers["tokyo"].held) <= HELD_COUNT
    world["tokyo"].put("k", 1)
    world.settle()


def test_a_bad_delta_that_was_held_costs_its_own_sender_the_connection():
    """Not the peer whose honest delta made it applicable."""
    world = meshed("lima", "paris", "tokyo")
    lima = world["lima"].core
    bad = Delta(  # in the name of lima itself, standing on the next write of paris
        [("paris", world["paris"].node.incarnation, 1)],
        Batch([tuple(world["lima"].node)], [""], [0, 1, 1], [], ["k"], [1], [b"\x01"], []),
    )
    world.inject("tokyo", "lima", bad)
    world.run()
    assert len(lima.peers["tokyo"].held) == 1
    world["paris"].put("k", 1)
    world.run()
    assert world["lima"].get("k") == 1
    assert {peer.name for peer in lima.up()} == {"paris"}
    assert any("ourselves" in text for text in lima.complaints)


# -- stamps too far ahead


def test_stamps_years_ahead_are_held_and_named_and_flow_when_their_time_comes():
    """The stream of that origin stands; nothing is skipped, nothing else waits, our own clock is not dragged."""
    world = World("lima", "paris", "tokyo")
    world["tokyo"].skew_ms = YEAR_MS
    world["tokyo"].put("k", "from the future")
    world.mesh()
    world["paris"].put("p", 1)
    world.run(5000)
    for name in ("lima", "paris"):
        assert world[name].get("k") is None
        assert world[name].get("p") == 1
        (held,) = world[name].core.holds()
        assert held.startswith(str(world["tokyo"].node))
        assert world[name].core.local.store.hlc.last >> 16 < world[name].wall_ms + 1000
    world["lima"].skew_ms = world["paris"].skew_ms = YEAR_MS - 1000
    world.settle()
    assert world["lima"].get("k") == "from the future"
    assert not list(world["lima"].core.holds())


def test_what_is_held_for_its_stamps_is_not_asked_for_again_and_again():
    """Not even when it is more than may be held."""
    limits = evolve(DEFAULT_LIMITS, held_bytes=4096, delta_bytes=1024)
    world = World("paris", "tokyo", limits=limits)
    world["tokyo"].skew_ms = YEAR_MS
    for i in range(100):
        world["tokyo"].put(f"k{i}", "x" * 100)
    world.mesh()
    world.run(2000)
    mark = len(world.said)
    world.run(20_000)
    assert world.said_count(Delta, mark) == 0
    world["paris"].skew_ms = YEAR_MS
    world.settle()


def test_what_is_held_and_comes_by_another_way_is_let_go():
    """A snapshot brought it, dead already: nothing is waited for, and nothing is said of it when its time has come."""
    world = World("paris", "tokyo")
    world["tokyo"].skew_ms = YEAR_MS
    world["tokyo"].put("k", "from the future")
    world.connect("paris", "tokyo")
    world.run(2000)
    paris = world["paris"].core
    assert paris.peers["tokyo"].held
    paris.local.install(VersionVector({world["tokyo"].node: 1}), [])
    world.run(1000)
    assert not paris.peers["tokyo"].held
    mark = len(world.said)
    world["paris"].skew_ms = YEAR_MS
    world.run(3000)
    assert {type(message).__name__ for _, _, message in world.said[mark:]} == {"Digest"}


def test_what_does_not_stand_on_a_held_write_flows_through_others():
    """Lima hears tokyo, whose clock is right, although tokyo has tasted nothing of oslo's future."""
    world = World("lima", "oslo", "tokyo")
    world["oslo"].skew_ms = YEAR_MS
    world["oslo"].put("k", 1)
    world.mesh()
    world.run(1000)
    for i in range(20):
        world["tokyo"].put(f"t{i}", i)
        world["lima"].put(f"l{i}", i)
        world.run(100)
    assert world["lima"].get("t19") == 19
    assert world["tokyo"].get("l19") == 19
    assert world["oslo"].get("l19") == 19, "what is behind is always let in"
