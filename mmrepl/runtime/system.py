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


class _SystemRng(random.SystemRandom):
    """Bits from the operating system; delays, which nobody has to guess, without asking it each time."""

    def __init__(self) -> None:
        super().__init__()
        self.random = random.Random().random  # type: ignore[method-assign]  # noqa: S311 - seeded by the system


def system_rng() -> Rng:
    """Dice of the operating system: incarnations and nonces must not repeat."""
    return _SystemRng()
