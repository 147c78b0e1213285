"""
Instants and durations as people read them.

Time is two plain integers everywhere in mmrepl, wall milliseconds for stamps and monotonic milliseconds for waiting
(`mmrepl.ports.Clock`), and the name of a variable says which of the two it is. There is deliberately no class that
pairs them: the hot path would pay for an object, and most callers want only one of the two.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS_MS = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000))


def utc_text(wall_ms: int) -> str:
    """
    An instant in ISO 8601, UTC, to the millisecond; outside of the years 1 to 9999 the plain number.

    >>> utc_text(1_700_000_000_123)
    '2023-11-14T22:13:20.123Z'
    """
    try:
        moment = _EPOCH + timedelta(milliseconds=wall_ms)
    except OverflowError:
        return f"{wall_ms} ms"
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def duration_text(duration_ms: int) -> str:
    """
    A duration, to the two largest units that say something.

    >>> [duration_text(ms) for ms in (7, 1_250, 192_000, 90_000_000, -42)]
    ['7 ms', '1.25 s', '3 min 12 s', '1 d 1 h', '-42 ms']
    """
    if duration_ms < 0:
        return "-" + duration_text(-duration_ms)
    if duration_ms < 1_000:
        return f"{duration_ms} ms"
    if duration_ms < 60_000:
        return f"{duration_ms / 1_000:.10g} s"
    parts: list[tuple[int, str]] = []
    for unit, size_ms in _UNITS_MS:
        count, duration_ms = divmod(duration_ms, size_ms)
        if count or parts:
            parts.append((count, unit))
    parts.append((duration_ms // 1_000, "s"))
    return " ".join(f"{count} {unit}" for count, unit in parts[:2] if count)
