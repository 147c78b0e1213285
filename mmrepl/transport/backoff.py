"""
How long to wait before trying again: longer each time, never for ever, never in step with others.

Exponential back-off with *equal jitter*: the step doubles from ``ms_min`` to ``ms_max``, and the wait is drawn
between half of the step and all of it. Half is kept so that a peer which is down is not hammered; half is drawn
so that a hundred nodes which lost one peer at the same moment do not all return at the same moment. There is no
last attempt: partitions that outlast every timeout must heal too.

Pure: the dice are an argument, and waiting is the host's business.
"""

from __future__ import annotations

from mmrepl.errors import UsageError
from mmrepl.ports import Rng


class Backoff:
    """
    Waiting times for one peer, in milliseconds.

    >>> import random
    >>> backoff = Backoff(100, 30_000, random.Random(7))
    >>> [backoff.next_ms() for _ in range(4)]
    [66, 115, 330, 429]
    """

    __slots__ = ("_attempts", "_ms_max", "_ms_min", "_rng", "_step_ms")

    def __init__(self, ms_min: int, ms_max: int, rng: Rng) -> None:
        if not 1 <= ms_min <= ms_max:
            raise UsageError(f"back-off needs 1 <= ms_min <= ms_max, not {ms_min} and {ms_max}")
        self._ms_min, self._ms_max, self._rng = ms_min, ms_max, rng
        self._step_ms = ms_min  # ms_min <= step <= ms_max
        self._attempts = 0

    @property
    def attempts(self) -> int:
        """Waits handed out since the start or the last `reset`."""
        return self._attempts

    def next_ms(self) -> int:
        """The wait before the next attempt: at least half a step, at most a whole one."""
        step = self._step_ms
        self._step_ms = min(2 * step, self._ms_max)
        self._attempts += 1
        half = (step + 1) // 2
        return half + int(self._rng.random() * (step - half + 1))

    def reset(self) -> None:
        """The peer answered: begin again at ``ms_min``. Call it when the hello was accepted, not when TCP connected."""
        self._step_ms, self._attempts = self._ms_min, 0
