"""
The feed: the writes that were applied here, in order, for whoever follows the changes.

A place in it is a place in the log, so it is good at every node of the cluster. What changed nothing is left out: a
retry that was applied before, a condition that did not hold. Whether an entry was one of these is known only from
applying it, so the feed begins where this node has applied entries itself: behind the checkpoint that it was started
from, or the snapshot that it was sent, and as far back as the log still reaches.

Reading takes entries from the log and keeps nothing. So a reader may be as slow as it likes, and costs nobody
anything; one that is passed by the end at which the log is cut is told so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmrepl.errors import LogTruncated
from mmrepl.single_master.entry import WRITE, Entry, decode_entries
from mmrepl.wire.seen import LogPosition

if TYPE_CHECKING:
    from mmrepl.single_master.entry_log import EntryLog
    from mmrepl.types import Limits

LOOKED_AT = 4_096
"""So many entries at most are looked at in one call."""

START = LogPosition(0, 0)
"""Before the first entry."""


class Feed:
    """What of the log may be told. Mutable."""

    def __init__(self, applied: int) -> None:
        self.first = applied  # everything after it was applied by us
        self._idle: set[int] = set()  # writes in the log that changed nothing

    def was_idle(self, index: int) -> None:
        """The write at *index* has been applied, and changed nothing."""
        self._idle.add(index)

    def restart(self, index: int) -> None:
        """A snapshot has put the state after *index* in the place of ours."""
        self.first = index
        self._idle.clear()

    def cut(self, index: int) -> None:
        """The log is no longer held up to *index*."""
        if self._idle:
            self._idle = {idle for idle in self._idle if idle > index}

    def after(
        self, since: LogPosition, log: EntryLog, applied: int, count: int, limits: Limits
    ) -> tuple[list[tuple[LogPosition, Entry]], LogPosition]:
        """
        At most *count* writes behind *since* that were applied, and the place up to which was looked.

        Fewer, or none, say nothing about what follows, unless that place is the last entry applied. Of a place that
        this node has not reached yet it tells nothing, and gives it back. Cost: `LOOKED_AT` entries at most.

        Raises:
            LogTruncated: the entries behind *since* are not held, or *since* is no place in this log any more.
        """
        if since.index > applied and log.term_at(applied) <= since.term:
            return [], since
        if since.index < max(self.first, log.start):
            raise LogTruncated(
                f"the changes behind {since} are not held here any more, those behind entry"
                f" {max(self.first, log.start)} are: read the keys, and go on from the position that was applied then"
            )
        if since.index > applied or not log.has(since.index, since.term):
            raise LogTruncated(
                f"{since} is no entry of this log: it was cut off when another primary was promoted; read the keys,"
                " and go on from the position that was applied then"
            )
        last = min(applied, since.index + LOOKED_AT)
        if last == since.index:
            return [], since
        found: list[tuple[LogPosition, Entry]] = []
        runs, bodies, _ = log.slice(since.index + 1, last)
        entries = iter(decode_entries(bodies, limits))
        index = since.index
        for term, run_count in runs:
            for _ in range(run_count):
                index += 1
                entry = next(entries)
                if entry.kind == WRITE and index not in self._idle:
                    found.append((LogPosition(term, index), entry))
                    if len(found) == count:
                        return found, LogPosition(term, index)
        return found, LogPosition(runs[-1][0], index)

    def check(self, start: int, applied: int) -> None:
        """Assert the invariants."""
        assert self.first <= applied
        assert all(max(start, self.first) < index <= applied for index in self._idle)
