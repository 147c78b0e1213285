"""Silence as a number; and what a core does about it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mmrepl.replication.failure_detector import FailureDetector
from mmrepl.replication.multi_master import SILENCE_MS
from mmrepl.replication.peer import SUSPICION, PeerState
from tests.replication.world import World

HEARTBEAT_MS = 1000


@given(st.lists(st.integers(0, 5000), max_size=30), st.integers(0, 10_000), st.integers(0, 10_000))
def test_suspicion_only_grows_while_nothing_is_heard(intervals, one, two):
    """And is zero at the moment something is."""
    now, detector = 0, FailureDetector(0, HEARTBEAT_MS)
    for interval in intervals:
        now += interval
        detector.heard(now)
        assert detector.phi(now, HEARTBEAT_MS) == 0
    less, more = sorted((one, two))
    assert detector.phi(now + less, HEARTBEAT_MS) <= detector.phi(now + more, HEARTBEAT_MS)
    assert detector.silent_ms(now + more) == more


def test_a_peer_that_spoke_often_is_not_suspected_for_a_pause():
    """It owes a sign only once a heartbeat, however much it said before."""
    detector = FailureDetector(0, HEARTBEAT_MS)
    for now in range(0, 10_000, 5):
        detector.heard(now)
    assert detector.phi(12_000, HEARTBEAT_MS) < SUSPICION
    assert detector.phi(10_000 + 30_000, HEARTBEAT_MS) > SUSPICION


def test_a_slow_peer_is_given_more_time():
    """Who has always spoken rarely is suspected later."""
    slow, quick = FailureDetector(0, HEARTBEAT_MS), FailureDetector(0, HEARTBEAT_MS)
    for step in range(1, 50):
        slow.heard(step * 5000)
        quick.heard(step * 5000 - 4000)
        quick.heard(step * 5000)
    silence = 49 * 5000 + 20_000
    assert slow.phi(silence, HEARTBEAT_MS) < quick.phi(silence, HEARTBEAT_MS)


# -- through cores


def pair(**options):
    world = World("paris", "tokyo", **options)
    world.mesh()
    world.run(3000)
    assert world.is_live("paris", "tokyo")
    return world


def test_a_silent_connection_is_closed_after_ten_seconds():
    """Half-open: what we say leaves, nothing comes. Its address is dialled again."""
    world = pair()
    world.hold("tokyo", "paris")
    world.run(SILENCE_MS - 2000)
    assert world.between("paris", "tokyo")
    world.run(4000)
    assert world.states("paris")["tokyo"] is PeerState.GONE
    assert world["paris"].core.missing_addresses() == ["tokyo:1"]
    assert any(text.startswith("silent") for text in world["paris"].core.complaints)


def test_a_slow_line_is_not_silence():
    """Bytes of a message that is not whole yet keep the connection."""
    world = pair()
    world.hold("tokyo", "paris")
    (wire,) = world.wires
    for _ in range(30):
        world.run(1000)
        world["paris"].core.heard(wire.ends["paris"], world.now)
    assert world["paris"].core.is_up(wire.ends["paris"])
    world["paris"].core.heard(99, world.now)  # somebody unknown: nothing happens


def test_suspicion_is_no_verdict():
    """A suspect is a member still: it is pushed to, counted, and live again when it speaks."""
    world = pair()
    world.hold("tokyo", "paris")
    (wire,) = world.wires
    detector = world["paris"].core.peers["tokyo"].detector
    for _ in range(9):
        world.run(1000)
    assert detector.phi(world.now, HEARTBEAT_MS) > 1
    world["paris"].put("k", 1)
    world.run()
    assert world["tokyo"].get("k") == 1
    assert world["paris"].core.members.is_member("tokyo")
    world.release("tokyo", "paris")
    world.run()
    assert world.is_live("paris", "tokyo")
    assert world["paris"].core.is_up(wire.ends["paris"])


def test_after_a_pause_of_the_whole_process_peers_are_met_again():
    """Stopped for a minute: connections end, and everything flows after the next ones."""
    world = pair()
    world.now += 60_000
    world["tokyo"].put("k", 1)
    world.run(1000)
    if not world.between("paris", "tokyo"):
        world.connect("paris", "tokyo")
    world.settle()
    assert world["paris"].get("k") == 1
