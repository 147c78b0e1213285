"""
Virtual time: a heap of things to do, each at its millisecond.

Nothing here waits. Time is an integer that jumps to the next thing to do; things of one millisecond are done in the
order in which they were planned. Everything that happens in the simulator happens in here, so a run is a function of
its seed.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from random import Random
from typing import Any

from mmrepl.sim.chance import dice

EPOCH_MS = 1_700_000_000_000
"""What a true wall clock shows at the beginning of a run: in November 2023."""


class World:
    """Time and what is planned."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now_ms = 0  # since the run began; never goes back
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._serial = 0

    def dice(self, *names: str) -> Random:
        """Dice of that name; each call makes them anew, from their beginning."""
        return dice(self.seed, *names)

    def at(self, time_ms: int, action: Callable[..., None], *arguments: Any) -> None:
        """Do something at that time; if it has passed, as soon as what is planned for now is done."""
        self._serial += 1
        if time_ms < self.now_ms:  # noqa: PLR1730 - the call of `max` costs more
            time_ms = self.now_ms
        heappush(self._heap, (time_ms, self._serial, action, arguments))

    def after(self, delay_ms: int, action: Callable[..., None], *arguments: Any) -> None:
        """Do something when *delay_ms* have passed, which is not negative."""
        self._serial += 1
        heappush(self._heap, (self.now_ms + delay_ms, self._serial, action, arguments))

    def run_until(self, time_ms: int) -> None:
        """Do everything that is planned up to *time_ms*, that included, in order; the time is *time_ms* then."""
        heap = self._heap
        while heap and heap[0][0] <= time_ms:
            self.now_ms, _, action, arguments = heappop(heap)
            action(*arguments)
        self.now_ms = max(self.now_ms, time_ms)
