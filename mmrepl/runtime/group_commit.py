"""
Group commit between threads: one commits for all that wait, and hands over to one of those who came meanwhile.

Left to a lock alone, the thread that frees it takes it again before anybody who slept on it is awake, and each of
those, once it has the lock, finds its own write done and little else to do: batches of two or three writes. Here the
thread that commits, the *leader*, wakes just those whose writes it made durable, each on a lock of its own, and then
the next leader: one wake-up a write, and a commit holds what came during the one before it.

Nothing rests on this but speed. Whoever has waited longer than `PATIENCE_SECONDS`, because a leader was interrupted
(Ctrl-C) or the disk is slow, goes and commits by itself; the lock that orders the commits is the host's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

PATIENCE_SECONDS: Final = 1.0


class _Waiter:
    """A thread that waits for its write to become durable."""

    __slots__ = ("is_told", "leads", "position", "turn")

    def __init__(self, position: int) -> None:
        self.position = position
        self.turn = threading.Lock()  # held until there is something to tell
        self.turn.acquire()
        self.is_told = False  # taken out of those who wait
        self.leads = False  # told to commit for the others


class GroupCommit:
    """
    Who commits, and who waits for it. Safe from any thread.

    *commit* makes everything before a position of the log durable, in whatever thread it is called, and raises what
    the disk says; *durable* answers with the position that has been reached.
    """

    def __init__(self, commit: Callable[[int], None], durable: Callable[[], int]) -> None:
        self._commit = commit
        self._durable = durable
        self._guard = threading.Lock()  # of the two below; nothing is waited for while it is held
        self._is_led = False  # whether somebody commits, or was told to
        self._waiting: list[_Waiter] = []  # in the order in which they came

    def commit(self, position: int) -> None:
        """Return when everything before *position* is durable. Raises what the commit in this thread raises."""
        waiter = None
        with self._guard:
            if self._is_led:
                waiter = _Waiter(position)
                self._waiting.append(waiter)
            self._is_led = True
        try:
            if waiter is not None:
                waiter.turn.acquire(timeout=PATIENCE_SECONDS)
                if self._durable() >= position:
                    return
            self._commit(position)
        finally:
            if waiter is None or not waiter.is_told or waiter.leads:
                self._leave(waiter)

    def _leave(self, waiter: _Waiter | None) -> None:
        """Tell those whose write is durable, and the first of the others to lead, if whoever leaves was leading."""
        with self._guard:
            if waiter is not None and not waiter.is_told:  # out of patience, or interrupted
                self._waiting.remove(waiter)
                return
            durable = self._durable()
            told = [each for each in self._waiting if each.position <= durable]
            self._waiting = [each for each in self._waiting if each.position > durable]
            self._is_led = bool(self._waiting)
            if self._waiting:
                successor = self._waiting.pop(0)
                successor.leads = True
                told.append(successor)  # last: what the others write next may then be in its commit
            for each in told:
                each.is_told = True
        for each in told:
            each.turn.release()
