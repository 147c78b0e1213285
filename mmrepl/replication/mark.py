"""
The mark of weak writes: the disk knows that more may have been answered than it holds.

A write of level ``batch`` or ``none`` is answered before it is on disk: a process that is killed would forget a dot
that its writer still holds, and mint it again (law L2). So before the first of them is answered there is a mark in the
store's meta map, synced. A store that is opened with the mark in it cannot prove that it remembers its counter, and
takes a new incarnation (`mmrepl.replication.opening`). A synced commit of all that there is takes the mark back: on
closing, and when no weak write was made for `CALM_MS`.

Here is only whether the mark is there, or on its way; `LocalCore` makes the commits that carry it.
"""

from __future__ import annotations

from mmrepl.store.journal import MARK, Journal

CALM_MS = 2_000
"""After so long without weak writes the mark is taken back. Sooner, and a slow writer would pay two syncs a write."""


class Mark:
    """One beside each journal. Mutable."""

    __slots__ = ("_is_restless", "_restless_ms", "is_noted", "is_on_disk")

    def __init__(self) -> None:
        self.is_on_disk = False  # and stays there for as long as this is true
        self.is_noted = False  # or on its way there
        self._is_restless = False  # whether a weak write was made since `is_stale` was last asked
        self._restless_ms = 0  # when it last found one

    def put(self, journal: Journal) -> bool:
        """A weak write was made; whether that put the mark into the next commit, which has to be synced then."""
        self._is_restless = True
        if self.is_noted:
            return False
        journal.note(MARK, b"1")
        self.is_noted = True
        return True

    def take_back(self, journal: Journal) -> bool:
        """
        Whether there was one; the next commit, which has to be synced and to hold all that there is, takes it away.

        Not to be called while a commit is under way: what is written meanwhile is not in that one.
        """
        if not self.is_noted:
            return False
        journal.note(MARK, None)
        self.is_on_disk = self.is_noted = self._is_restless = False
        return True

    def is_stale(self, now_ms: int) -> bool:
        """Whether it was there for nothing for a while. To be asked now and then, at monotonic *now_ms*."""
        if self._is_restless:
            self._is_restless, self._restless_ms = False, now_ms
            return False
        return self.is_noted and now_ms - self._restless_ms >= CALM_MS
