"""Peers' clocks: when our own is ahead of what most of them accept."""

from __future__ import annotations

from mmrepl.clock import hlc
from mmrepl.clock.drift import PeerClocks

DRIFT_MS = 300_000
HOUR_MS = 3_600_000


def peers(*walls_ms: int) -> PeerClocks[int]:
    clocks: PeerClocks[int] = PeerClocks()
    for peer, wall_ms in enumerate(walls_ms):
        clocks.heard(peer, wall_ms, 0)
    return clocks


def test_a_node_that_hears_nobody_writes_on():
    """Without peers there is no ceiling."""
    assert peers().wall_ms(0) is None
    assert peers().ceiling(0, DRIFT_MS) == hlc.STAMP_MAX


def test_the_ceiling_follows_the_only_peer_and_our_monotonic_clock():
    """The peer's clock is carried on while nothing new is heard."""
    clocks = peers(1_000)
    assert clocks.wall_ms(500) == 1_500
    assert clocks.ceiling(500, DRIFT_MS) == hlc.pack(1_500 + DRIFT_MS, hlc.COUNTER_MAX)


def test_one_peer_that_is_far_behind_refuses_us_nothing():
    """More than half of the peers must be unwilling; the doubt of an even number is ours."""
    now = 100 * HOUR_MS
    assert peers(0, now).wall_ms(0) == now
    assert peers(0, now, now).wall_ms(0) == now
    assert peers(0, 0, now).wall_ms(0) == 0
    assert peers(0, now, now, 0).wall_ms(0) == now


def test_a_lying_peer_moves_the_ceiling_no_further_than_its_neighbours():
    """Years ahead or behind, the median stays among the honest ones."""
    assert peers(-(2**62), 1_000, 1_001, 1_002).wall_ms(0) == 1_001
    assert peers(2**62, 1_000, 1_001).wall_ms(0) == 1_001


def test_old_news_does_not_count():
    """A peer that was last heard long ago may have had its clock set since: cut off, a node writes on."""
    clocks = peers(0)
    assert clocks.wall_ms(10_000) == 10_000
    assert clocks.wall_ms(10_001) is None


def test_a_peer_that_is_gone_is_forgotten():
    """What is kept is bounded by the peers there are."""
    clocks = peers(0, 5_000)
    clocks.forget(1)
    clocks.forget(7)
    assert clocks.wall_ms(0) == 0
