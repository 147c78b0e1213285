"""
Hybrid logical timestamps: wall time that never runs backwards past anything we have seen.

A stamp is one integer, `(milliseconds << 16) | counter`. The milliseconds are those of the wall clock where possible;
the counter tells apart what falls into one millisecond, and carries into the milliseconds when it is full. So stamps
of one node strictly rise, a stamp minted after another was observed is greater than it, and both remain readable as
a time. (Kulkarni, Demirbas et al., "Logical Physical Clocks", 2014. Ours differs in that receiving only *raises* the
clock, without making a stamp: received operations keep the stamp of their writer.)

Milliseconds have 47 bits, so that a stamp is a non-negative signed 64-bit integer (until the year 6429). A wall clock
before 1970 counts as 1970, one beyond the range as its end: no exception, no wrap.

Stamps only order siblings; what overwrites what is never decided by them. A stamp that is too far in the future is not
let in (`acceptable`): its origin's stream is held, and our own clock is not dragged along. When it is *our* clock that
is ahead we want to hear of it at `put`, before the write exists: a core that knows its peers' clocks (`drift`) sets
`HybridClock.ceiling`, and `HybridClock.tick` refuses to pass it.

HAZARD: our own clock may jump far ahead, be observed in a stamp, and jump back. Stamps then go on rising from the last
one, and stay ahead of the wall until it has caught up: never two stamps alike, never one that falls. The owner has to
remember `last` with its log, snapshots included, for this to hold over a restart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias, final

from mmrepl.clock.instants import duration_text, utc_text
from mmrepl.errors import ClockAhead

HybridTimestamp: TypeAlias = int
"""A stamp. A plain integer, because it lives in arrays and on the hot path; in JSON it is a string (`to_json`)."""

COUNTER_BITS: Final = 16
MS_BITS: Final = 47
COUNTER_MAX: Final = (1 << COUNTER_BITS) - 1
MS_MAX: Final = (1 << MS_BITS) - 1
STAMP_MAX: Final = (1 << (MS_BITS + COUNTER_BITS)) - 1


def clamp_ms(wall_ms: int) -> int:
    """The nearest wall time that a stamp can hold."""
    return min(max(wall_ms, 0), MS_MAX)


def pack(ms: int, counter: int = 0) -> HybridTimestamp:
    """
    The stamp of a time and a counter.

    Raises:
        ValueError: *counter* is not in 0 … 65,535. The time is clamped instead: it comes from a clock.

    >>> pack(1, 2)
    65538
    """
    if not 0 <= counter <= COUNTER_MAX:
        raise ValueError(f"counter of a stamp must be in 0 … {COUNTER_MAX}, not {counter}")
    return clamp_ms(ms) << COUNTER_BITS | counter


def ms_of(stamp: HybridTimestamp) -> int:
    """Milliseconds since 1970."""
    return stamp >> COUNTER_BITS


def counter_of(stamp: HybridTimestamp) -> int:
    """What tells it from other stamps of the same millisecond."""
    return stamp & COUNTER_MAX


def describe(stamp: HybridTimestamp) -> str:
    """
    For people: the time in UTC, and the counter.

    >>> describe(pack(1_700_000_000_123, 7))
    '2023-11-14T22:13:20.123Z+7'
    """
    return f"{utc_text(ms_of(stamp))}+{counter_of(stamp)}"


def to_json(stamp: HybridTimestamp) -> str:
    """As JSON may carry it: a string of digits, because many readers lose what is beyond 2**53."""
    return str(stamp)


def from_json(text: str) -> HybridTimestamp:
    """The inverse of `to_json`. Raises ValueError for anything else."""
    if not (text.isascii() and text.isdigit() and len(text) <= 19) or str(int(text)) != text or int(text) > STAMP_MAX:
        raise ValueError(f"{text[:40]!r} is no stamp: expected the digits of a non-negative 63-bit integer")
    return int(text)


def ahead_ms(stamp: HybridTimestamp, wall_ms: int) -> int:
    """How far *stamp* lies ahead of the wall clock; negative when it lies behind."""
    return (stamp >> COUNTER_BITS) - clamp_ms(wall_ms)


def acceptable(stamp: HybridTimestamp, wall_ms: int, max_drift_ms: int) -> bool:
    """Whether *stamp* may be let in: at most *max_drift_ms* ahead of our wall clock. Nothing is too far behind."""
    return ahead_ms(stamp, wall_ms) <= max_drift_ms


def hold_ms(stamp: HybridTimestamp, wall_ms: int, max_drift_ms: int) -> int:
    """How long to hold the stream that carries *stamp* until it is acceptable, if no clock jumps; zero if it is now."""
    return max(0, ahead_ms(stamp, wall_ms) - max_drift_ms)


@final
class HybridClock:
    """
    The owner of the last stamp.

    >>> clock = HybridClock()
    >>> [describe(clock.tick(wall_ms)) for wall_ms in (5, 5, 3)]
    ['1970-01-01T00:00:00.005Z+0', '1970-01-01T00:00:00.005Z+1', '1970-01-01T00:00:00.005Z+2']
    """

    __slots__ = ("ceiling", "last")

    last: int  # greatest stamp minted or observed; never falls; 0 <= last <= STAMP_MAX
    ceiling: int  # `tick` mints nothing above this; STAMP_MAX while nothing is known about the others' clocks

    def __init__(self, last: HybridTimestamp = 0) -> None:
        if not 0 <= last <= STAMP_MAX:
            raise ValueError(f"{last} is no stamp")
        self.last = last
        self.ceiling = STAMP_MAX

    def tick(self, wall_ms: int) -> HybridTimestamp:
        """
        A stamp for a write of ours: strictly greater than all minted and all observed before.

        At the very end of the range the greatest stamp repeats: siblings are then told apart by their dots.

        Raises:
            ClockAhead: the stamp would lie above `ceiling`. Nothing was changed, nothing may be minted.
        """
        stamp = wall_ms << COUNTER_BITS
        if stamp <= self.last:  # also when the wall clock is before 1970
            stamp = self.last + 1  # a full counter carries into the milliseconds
        if stamp > self.ceiling:
            stamp = self._above(stamp, wall_ms)
        self.last = stamp
        return stamp

    def ticks(self, walls_ms: Sequence[int]) -> Sequence[HybridTimestamp]:
        """
        A stamp for each of some writes, as so many calls of `tick` with these times. There must be one.

        Raises ClockAhead as `tick` does; then none of the writes may be made.
        """
        first_ms, count = walls_ms[0], len(walls_ms)
        if walls_ms.count(first_ms) < count or max(self.last, first_ms << COUNTER_BITS) + count > self.ceiling:
            return [self.tick(wall_ms) for wall_ms in walls_ms]
        first = self.tick(first_ms)  # the others, of the same millisecond, follow
        self.last = first + count - 1
        return range(first, first + count)

    def observe(self, stamp: HybridTimestamp) -> None:
        """Let all further stamps be greater than *stamp*. The caller has seen that it is `acceptable`."""
        if stamp > self.last:  # noqa: PLR1730 - the call of `max` would cost more than the rest
            self.last = stamp

    def check(self) -> None:
        """Assert the invariants."""
        assert 0 <= self.last <= STAMP_MAX, self.last
        assert 0 <= self.ceiling <= STAMP_MAX, self.ceiling

    def _above(self, stamp: int, wall_ms: int) -> HybridTimestamp:
        """The rare half of `tick`: beyond the ceiling, or beyond the range."""
        if stamp > STAMP_MAX:
            stamp = min(max(self.last + 1, MS_MAX << COUNTER_BITS), STAMP_MAX)
        if stamp <= self.ceiling:
            return stamp
        excess = duration_text(ms_of(stamp) - ms_of(self.ceiling))
        cause = "an earlier stamp of ours is" if ms_of(stamp) > clamp_ms(wall_ms) else "our wall clock is"
        raise ClockAhead(
            f"{cause} ahead of the clocks of most peers by {excess} more than they accept ({describe(stamp)}); "
            f"the write was not made: set this machine's clock, or raise max_drift everywhere"
        )

    def __repr__(self) -> str:
        return f"HybridClock(last={self.last})"
