"""
The changes of a single-master cluster, for a program that follows them at one of its nodes.

A change is told as soon as this node has applied it: a quorum holds it then, where leaders are elected. Its token is
its place in the log, and good at every node.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from attrs import field, frozen

from mmrepl.clock import hlc
from mmrepl.errors import UsageError
from mmrepl.runtime.single_master_asking import Asking
from mmrepl.single_master.entry import Entry
from mmrepl.single_master.feed import START
from mmrepl.types import Value
from mmrepl.values import decode
from mmrepl.wire.seen import LogPosition

CHANGES_PAGE = 1_000
"""So many changes are taken from the log at a time: what is slow to read them holds no more than that."""


@frozen
class LogChange:
    """
    One write of a single-master cluster that took effect, in the order of its log.

    ``token`` is its place there: give it back to go on behind it, at any node. ``payload`` is the encoded value, None
    for a delete.
    """

    token: LogPosition
    _entry: Entry = field(repr=False)

    @property
    def index(self) -> int:
        """Of the entry in the log: what `SingleMasterNode.put` has returned for it."""
        return self.token.index

    @property
    def table(self) -> str:
        """Name of the table; empty for the default one."""
        return self._entry.table

    @property
    def key(self) -> str:
        """What was written."""
        return self._entry.key

    @property
    def timestamp(self) -> int:
        """When, by the clock of the node that took it, packed as that of a `Change` is."""
        return hlc.pack(self._entry.stamp)

    @property
    def payload(self) -> bytes | None:
        """The encoded value; None for a delete."""
        return self._entry.payload

    @property
    def is_tombstone(self) -> bool:
        """Whether this is a delete."""
        return self._entry.payload is None

    @property
    def value(self) -> Value:
        """The value that was written; None for a delete."""
        return None if self._entry.payload is None else decode(self._entry.payload)


def as_position(since: LogPosition | None) -> LogPosition:
    """A place in the log out of what a caller gave for one. Raises UsageError."""
    if since is None:
        return START
    if not isinstance(since, LogPosition):
        raise UsageError(f"since must be a LogPosition (the .token of a change), not {type(since).__name__}")
    return since


class Feeding(Asking):
    """The part of a node that tells changes."""

    async def changes(self, since: LogPosition | None = None) -> AsyncIterator[LogChange]:
        """
        Every write that takes effect, behind *since*, for ever, in the order of the log.

        Each change carries the ``token`` from which to go on, here or at another node. None begins with the first
        entry of the log. What changed nothing (a retry, a condition that did not hold) is left out.

        Raises LogTruncated: what follows *since* is not held here any more, because the log was cut, this node was sent
        a snapshot, or it was started again and has a checkpoint of it. Note `position`, read the keys, and go on from
        there.
        """
        place = as_position(since)
        while True:
            for change in await self.next_changes(place):
                yield change
                place = change.token

    async def next_changes(
        self, since: LogPosition | None = None, timeout: float | None = None, count: int = CHANGES_PAGE
    ) -> list[LogChange]:
        """The next changes after *since*, at most *count*: as soon as there is one; none after *timeout* seconds."""
        place = as_position(since)
        try:
            async with asyncio.timeout(timeout) as waiting:
                while True:
                    found, onward = self.core.changes(place, count)
                    if found:
                        return [LogChange(at, entry) for at, entry in found]
                    if onward == place:
                        await self.news()
                    else:  # what was looked at was nobody's write: the log may be long, and others have their turn
                        place = onward
                        await asyncio.sleep(0)
        except TimeoutError:
            if not waiting.expired():
                raise
            return []
