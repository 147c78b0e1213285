"""The system's clock and dice, for hosts that live in real time."""

from __future__ import annotations

import random
import time

from attrs import frozen

from mmrepl.ports import Clock, Rng


@frozen
class SystemClock:
    """Wall clock for stamps, monotonic clock for waiting."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970."""
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        """Milliseconds since some start; never goes back."""
        return time.monotonic_ns() // 1_000_000


SYSTEM_CLOCK: Clock = SystemClock()


def system_rng() -> Rng:
    """Dice seeded by the operating system: incarnations and nonces must not repeat."""
    return random.SystemRandom()
