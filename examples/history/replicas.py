"""
A history replayed by embedded replicas: what is brought is a delta, bytes from one to another.

The wall clock of all replicas is the committer's, with everything that is wrong with it. A clock that ran ahead wrote
stamps from the future; the usual limit on them (``max_drift_ms``) is lifted, because we replay what happened and want
none of it held back. It makes no difference to what is checked here: time only orders siblings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import mmrepl
from history.source import Commit
from mmrepl.resolvers import KeepSiblings
from mmrepl.types import Value

PATH_BYTES = 4096  # the longest path that the usual systems allow
LIMITS = mmrepl.Limits(max_drift_ms=1 << 48, key_bytes=PATH_BYTES)

Live = dict[mmrepl.Dot, Value]
"""The siblings of a key: which writes, and what each wrote (None: it deleted)."""


class CommitterClock:
    """Shows what it was set to. Waiting is not its business here."""

    def __init__(self) -> None:
        self.seconds = 0

    def wall_ms(self) -> int:
        return self.seconds * 1000

    def monotonic_ms(self) -> int:
        return 0


class Replicas:
    """So many replicas, each by itself until it is brought something."""

    mutual = False  # bringing gives to one side only

    def __init__(self, count: int) -> None:
        self._clock = CommitterClock()
        self.replicas = [
            mmrepl.Replica(f"replica-{number}", default=KeepSiblings(), clock=self._clock, limits=LIMITS)
            for number in range(count)
        ]
        self.delta_bytes = 0

    def bring(self, target: int, source: int) -> None:
        """Give *target* what *source* has and it lacks."""
        delta = self.replicas[source].delta(since=self.replicas[target].version)
        self.delta_bytes += len(delta)
        self.replicas[target].merge(delta)

    def write(self, number: int, commit: Commit) -> Mapping[str, mmrepl.Dot]:
        """Make a commit's writes, over what the replica shows; returns the name of each."""
        self._clock.seconds = commit.time
        replica, dots = self.replicas[number], {}
        for key, value in commit.writes.items():
            dots[key] = (replica.delete(key) if value is None else replica.put(key, value)).dot
        return dots

    def siblings(self, number: int, keys: Iterable[str]) -> Iterator[tuple[str, Live]]:
        """For each of *keys* the writes that live at a replica. Tombstones are siblings too."""
        read = self.replicas[number].read
        for key in keys:
            yield key, {sibling.dot: sibling.value for sibling in read(key).siblings}

    def close(self) -> None:
        for replica in self.replicas:
            replica.close()
