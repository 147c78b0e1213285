"""
How much of the log is kept for those who are behind.

What is causally stable may be cut in any case. A policy cuts earlier: by number of operations, by bytes, by age. A
peer from before the cut is given a snapshot instead of a delta; nothing is lost by it but the history.
"""

from __future__ import annotations

from attrs import Attribute, field, frozen

from mmrepl.clock.hlc import pack
from mmrepl.log.oplog import OpLog


def _at_least_one(_policy: object, attribute: Attribute[int], value: int | None) -> None:
    if value is not None and value < 1:
        raise ValueError(f"{attribute.name} must be at least 1, or None for no bound, not {value}")


@frozen(kw_only=True)
class LogPolicy:
    """Bounds of the log; None is no bound. The log may pass a bound by a quarter before it is cut."""

    operations: int | None = field(default=1_000_000, validator=_at_least_one)
    bytes: int | None = field(default=None, validator=_at_least_one)  # keys and payloads, as held in memory
    age_ms: int | None = field(default=None, validator=_at_least_one)  # by the stamps of the operations

    def position(self, log: OpLog, wall_ms: int) -> int:
        """
        The position before which the log may be cut now.

        Cost: logarithmic; proportional to the log where there is a bound on bytes.
        """
        position = log.start
        if self.operations is not None:
            position = max(position, log.end - self.operations)
        if self.age_ms is not None:
            position = max(position, self._older_than(log, pack(max(0, wall_ms - self.age_ms))))
        if self.bytes is not None:
            position = max(position, self._beyond_bytes(log, self.bytes))
        return position

    def slack(self) -> int:
        """After how many operations it is worth while to look again."""
        return max(1, min(4096, (self.operations or 16_384) // 4))

    def _older_than(self, log: OpLog, stamp: int) -> int:
        """
        The first position whose operation is not older. Voids have no stamp, so the stamps cannot be bisected.

        Cost: proportional to what is older, and so will be cut.
        """
        first = log.end
        for columns in log.columns:
            stamped = zip(columns.positions, columns.stamps, strict=True)
            first = min(first, next((position for position, made in stamped if made >= stamp), first))
        return first

    def _beyond_bytes(self, log: OpLog, most: int) -> int:
        """The first position from which on the log holds at most so many bytes."""
        held: list[tuple[int, int]] = []
        for columns in log.columns:
            sizes = [
                len(key) + len(payload or b"") for key, payload in zip(columns.keys, columns.payloads, strict=True)
            ]
            held += zip(columns.positions, sizes, strict=True)
        total = 0
        for position, size in sorted(held, reverse=True):
            total += size
            if total > most:
                return position + 1
        return log.start


DEFAULT_LOG = LogPolicy()
"""The last million operations."""
