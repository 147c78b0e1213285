"""
Silence as a number.

φ-accrual (Hayashibara, Défago, Yared & Katayama, 2004): from the intervals at which something was heard of a peer so
far, how unlikely is it that it is alive and has been silent for so long? φ of 1 means one mistake in ten, 8 one in a
hundred million. We take the exponential form (as Cassandra does), which needs only the mean interval.

HAZARD: this is a guess about time. Safety never rests on it: a suspect still is a member, still gets its operations,
still counts for stability and acknowledgements. It decides only when a silent connection is given up.
"""

from __future__ import annotations

import math

LOG10_E = math.log10(math.e)


class FailureDetector:
    """Of one peer. Times are monotonic milliseconds."""

    __slots__ = ("_heard_ms", "_mean_ms")

    def __init__(self, now_ms: int, interval_ms: int) -> None:
        self._heard_ms = now_ms
        self._mean_ms = float(interval_ms)

    def heard(self, now_ms: int) -> None:
        """Something came. Short intervals are smoothed away, so that a burst does not make us impatient."""
        interval = now_ms - self._heard_ms
        self._heard_ms = now_ms
        self._mean_ms = max(self._mean_ms * 0.9 + interval * 0.1, 50.0)

    def silent_ms(self, now_ms: int) -> int:
        """How long nothing has come."""
        return now_ms - self._heard_ms

    def phi(self, now_ms: int, heartbeat_ms: int) -> float:
        """Suspicion. A peer owes us a sign only once a heartbeat, however often it spoke before."""
        return LOG10_E * self.silent_ms(now_ms) / max(self._mean_ms, heartbeat_ms)
