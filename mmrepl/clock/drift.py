"""
What the others' clocks say about ours.

A stamp too far in the future is held by whoever receives it, and the writer would learn of it only by watching its
stream stand still. So each peer tells its wall time now and then (hello, heartbeat), and from that a node can see
*before* it makes a write that the others would hold it: `PeerClocks.ceiling` goes into `HybridClock.ceiling`.

Nobody can tell whose clock is right. We refuse ourselves only when more than half of the peers heard lately would hold
the write; one peer with a clock that is years behind, or that lies, refuses us nothing unless it is the only one. A
node that hears nobody writes on, as it must.

An estimate is late by the time that its message was under way, a little against us; beside a drift of minutes that is
nothing. It is worth nothing when old, as the peer's clock may have been set meanwhile: hence `fresh_ms`.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar, final

from mmrepl.clock.hlc import COUNTER_MAX, STAMP_MAX, HybridTimestamp, pack

PeerT = TypeVar("PeerT", bound=Hashable)


@final
class PeerClocks(Generic[PeerT]):
    """
    The last wall time heard of each peer, carried on by our own monotonic clock.

    The ceiling ages with its making: make it anew on every tick, and once more before `ClockAhead` is believed (the
    process may have been stopped for minutes). Bounded by the peers: `forget` those that are gone.
    """

    __slots__ = ("_fresh_ms", "_heard")

    _fresh_ms: int
    _heard: dict[PeerT, tuple[int, int]]  # their wall ms minus our monotonic ms, and when we heard it (monotonic ms)

    def __init__(self, fresh_ms: int = 10_000) -> None:
        self._fresh_ms = fresh_ms
        self._heard = {}

    def heard(self, peer: PeerT, wall_ms: int, monotonic_ms: int) -> None:
        """*peer* said that its wall clock shows *wall_ms*; we heard it at *monotonic_ms* of ours."""
        self._heard[peer] = (wall_ms - monotonic_ms, monotonic_ms)

    def forget(self, peer: PeerT) -> None:
        """*peer* is gone. Does nothing when it is unknown."""
        self._heard.pop(peer, None)

    def wall_ms(self, monotonic_ms: int) -> int | None:
        """
        What the peers' clocks show now: the upper median of those heard lately; None when there are none.

        Cost: proportional to the peers, times the logarithm.
        """
        offsets = sorted(offset for offset, at_ms in self._heard.values() if monotonic_ms - at_ms <= self._fresh_ms)
        return offsets[len(offsets) // 2] + monotonic_ms if offsets else None

    def ceiling(self, monotonic_ms: int, max_drift_ms: int) -> HybridTimestamp:
        """The greatest stamp that at least half of the peers heard lately would let in."""
        wall_ms = self.wall_ms(monotonic_ms)
        return STAMP_MAX if wall_ms is None else pack(wall_ms + max_drift_ms, COUNTER_MAX)
