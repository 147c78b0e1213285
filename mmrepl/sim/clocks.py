"""
Clocks that are wrong.

A node has two (`mmrepl.ports.Clock`): one for stamps, which may be set wrong, jump either way, run fast or slow, or
stand still; and one for waiting, which only goes forward, at a rate of its own.
"""

from __future__ import annotations

from mmrepl.sim.world import EPOCH_MS, World

MILLION = 1_000_000


class SimClock:
    """The clocks of one node. Offsets in milliseconds, drift in millionths."""

    def __init__(self, world: World, *, started_at_ms: int = 0) -> None:
        self._world = world
        self.offset_ms = 0
        self.drift_ppm = 0
        self._frozen_at: int | None = None
        self._base_ms = 1_000 + started_at_ms  # the monotonic clock of a machine begins anywhere

    def wall_ms(self) -> int:
        """What this node takes for the time."""
        if self._frozen_at is not None:
            return self._frozen_at
        now = self._world.now_ms
        return EPOCH_MS + now + self.offset_ms + now * self.drift_ppm // MILLION

    def monotonic_ms(self) -> int:
        """For waiting."""
        now = self._world.now_ms
        return self._base_ms + now + now * self.drift_ppm // MILLION

    def world_ms(self, monotonic_ms: int) -> int:
        """The time of the world at which `monotonic_ms` will have reached that."""
        return -((self._base_ms - monotonic_ms) * MILLION // (MILLION + self.drift_ppm))

    def jump(self, by_ms: int) -> None:
        """The wall clock is set."""
        self.offset_ms += by_ms
        if self._frozen_at is not None:
            self._frozen_at += by_ms

    def drift(self, ppm: int) -> None:
        """From now on both clocks are fast by *ppm* millionths, or slow; what they show now stays."""
        before, waited = self.wall_ms(), self.monotonic_ms()
        self.drift_ppm = ppm
        self.offset_ms += before - self.wall_ms()
        self._base_ms += waited - self.monotonic_ms()

    def freeze(self) -> None:
        """The wall clock stands still."""
        self._frozen_at = self.wall_ms()

    def thaw(self) -> None:
        """The wall clock goes on from where it stood."""
        if self._frozen_at is not None:
            stood, self._frozen_at = self._frozen_at, None
            self.offset_ms += stood - self.wall_ms()

    def set_right(self, within_ms: int = 0) -> None:
        """Both run true again; the wall clock is *within_ms* of the time."""
        self._frozen_at = None
        self.drift(0)
        self.offset_ms = max(-within_ms, min(within_ms, self.offset_ms))
