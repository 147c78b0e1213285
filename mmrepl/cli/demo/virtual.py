"""Time in the simulated worlds of the demo: it passes when somebody waits, and really, if somebody watches."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from mmrepl.sim.stage import Stage

STEP_MS = 5
"""Between two looks at what is waited for."""


class Virtual(ABC):
    """What the simulated worlds of both modes have in common."""

    def __init__(self, *, real_time: bool) -> None:
        self._real_time = real_time

    @property
    @abstractmethod
    def cluster(self) -> Stage[Any]:
        """The nodes, once they have begun."""

    def heal(self) -> None:
        """What waited arrives."""
        self.cluster.heal()

    def wait(self, condition: Callable[[], bool], seconds: float) -> int | None:
        """Virtual time passes, a few milliseconds at a time."""
        began_ms = self.cluster.now_ms
        while not condition():
            if self.cluster.now_ms - began_ms > seconds * 1000:
                return None
            self.cluster.run(STEP_MS)
        return self.cluster.now_ms - began_ms

    def sleep(self, seconds: float, meanwhile: Callable[[], None]) -> None:
        """Virtual time passes, and real time with it if somebody watches."""
        left_ms = round(seconds * 1000)
        while left_ms > 0:
            meanwhile()
            step_ms = min(100, left_ms)
            self.cluster.run(step_ms)
            left_ms -= step_ms
            if self._real_time:
                time.sleep(step_ms / 1000)
