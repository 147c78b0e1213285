"""
How much of the log is kept for those who are behind.

What is causally stable may be cut in any case. A policy cuts earlier: by number of operations, by bytes, by age. A
peer from before the cut is given a snapshot instead of a delta; nothing is lost by it but the history.
"""

from __future__ import annotations

from attrs import Attribute, evolve, field, frozen

from mmrepl.clock.hlc import pack
from mmrepl.log.oplog import OpLog
from mmrepl.types import DEFAULT_LIMITS

_LARGEST_BYTES = DEFAULT_LIMITS.value_bytes + DEFAULT_LIMITS.key_bytes


def _at_least_one(_policy: object, attribute: Attribute[int], value: int | None) -> None:
    if value is not None and value < 1:
        raise ValueError(f"{attribute.name} must be at least 1, or None for no bound, not {value}")


@frozen(kw_only=True)
class LogPolicy:
    """
    Bounds of the log; None is no bound. The log may pass a bound by a quarter before it is cut.

    Operations that are not on disk yet stay, whatever the bounds; so does what came within a gossip tick of a node.
    """

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
        """After how many operations to look again; with a bound on bytes, should all of them be of the largest."""
        slack = min(4096, (self.operations or 16_384) // 4)
        if self.bytes is not None:
            slack = min(slack, self.bytes // 4 // _LARGEST_BYTES)
        return max(1, slack)

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
            held += zip(columns.positions, _sizes(columns.keys, columns.payloads), strict=True)
        total = 0
        for position, size in sorted(held, reverse=True):
            total += size
            if total > most:
                return position + 1
        return log.start


class LogGauge:
    """
    A policy beside its log: as `LogPolicy.position`, at a cost that is proportional to what is new in the log.

    It sums up the bytes as they come, never those that go; only where that sum has passed the bound by a quarter is all
    of it counted. Mutable.
    """

    def __init__(self, policy: LogPolicy) -> None:
        self.policy = policy
        self._cheap = evolve(policy, bytes=None)
        self._log: OpLog | None = None
        self._summed = 0  # position before which everything is summed up
        self._held_bytes = 0  # at least what the log holds before that

    def slack(self) -> int:
        """After how many operations it is worth while to look again."""
        return self.policy.slack()

    def position(self, log: OpLog, wall_ms: int) -> int:
        """The position before which the log may be cut now."""
        position = self._cheap.position(log, wall_ms)
        most = self.policy.bytes
        if most is None:
            return position
        if log is not self._log:  # the node has started over
            self._log, self._summed, self._held_bytes = log, log.start, 0
        for columns, first, last in log.range(self._summed, log.end):
            low, high = first - columns.base, last - columns.base + 1
            self._held_bytes += sum(_sizes(columns.keys[low:high], columns.payloads[low:high]))
        self._summed = log.end
        if self._held_bytes <= most + most // 4:
            return position
        self._held_bytes = most  # about; or there is little of it, and the next sum is only made sooner
        return max(position, self.policy.position(log, wall_ms))


def _sizes(keys: list[str], payloads: list[bytes | None]) -> list[int]:
    return [len(key) + len(payload or b"") for key, payload in zip(keys, payloads, strict=True)]


DEFAULT_LOG = LogPolicy()
"""The last million operations."""
