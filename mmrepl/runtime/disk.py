"""
The disk of a node on an event loop: a thread of its own, and no thread where that would only cost time.

A commit that is handed to the thread leaves the loop free while the disk works, and what comes meanwhile gathers for
the next one. But handing it over and hearing of its end are two hand-overs between threads and one more turn of the
loop: a hundred microseconds, as much as a good disk takes to sync one page. Whoever writes one thing after the other
pays that with every write, at the leader and at each follower, and has nothing to put into the time that is won. So a
*small* commit is made on the loop itself while the disk is known to be *quick*.

Small is what a hundred writers put at once, or fewer. More make larger commits, and work for the next one meanwhile.
Quick is a disk of which two commits in three take less than `QUICK_SECONDS`, wherever they are made: each slow one
raises a doubt that it takes some quick ones to settle. (A machine whose processors are all busy looks like a disk that
is slow now and then.) A commit that stalls, for `STALL_SECONDS` or longer, raises one that takes the more to settle the
longer it was: after a tenth of a second more than six hundred quick commits.

HAZARD: a disk that was quick until now may stall, and then the loop stands still for the length of that one commit: no
heartbeat leaves, no read is answered. On a disk that does so again and again that is one commit in sixty at most, or
in six hundred where it lasts for a tenth of a second. Who leads and stalls for longer than an election finds another
leader when it comes back, as after any other pause of the process; nothing is lost by it. ``at_once=False`` rules it
out.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from mmrepl.effects import Persist
from mmrepl.errors import UsageError
from mmrepl.ports import Commit, Storage

QUICK_SECONDS: Final = 0.001
"""A commit that takes longer is slow: what a hand-over would cost is little beside it."""

STALL_SECONDS: Final = 0.01
"""One that takes so long is felt by everybody on the loop."""

DOUBT_MAX: Final = 16
DOUBT_OF_A_SLOW_ONE: Final = 2
DOUBT_OF_A_STALL: Final = 64
"""A quick commit takes one away; at half of the first or less, commits are made on the loop. Long stalls weigh more."""

SMALL_BYTES: Final = 16 * 1024
"""Commits of more than this go to the thread."""


def is_small(commit: Commit) -> bool:
    """Whether it is a row of the log and no more, and not a long one."""
    if len(commit.batches) != 1 or commit.segments or commit.meta or commit.drop_batches:
        return False
    [body] = commit.batches.values()
    return len(body) <= SMALL_BYTES


class Disk:
    """Makes the commits of one node, one at a time and in order. Made on an event loop, which all verbs are for."""

    def __init__(
        self, storage: Storage | None, *, at_once: bool = True, seconds: Callable[[], float] = time.perf_counter
    ) -> None:
        self._storage = storage
        self._at_once = at_once
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="mmrepl-disk")
        self._there_count = 0  # what is with the thread: the storage is used from one thread at a time
        self._doubt = DOUBT_MAX  # whether the disk is quick; see `_note`

    @property
    def is_quick(self) -> bool:
        """Whether a small commit had better be made on the loop, by `commit_here`, if there is one now."""
        return self._at_once and self._doubt <= DOUBT_MAX // 2 and self._there_count == 0

    def commit_here(self, persist: Persist) -> Exception | None:
        """Make a commit now, on the loop; returns what kept it from being made."""
        error, seconds = self._make(persist)
        self._note(seconds)
        return error

    def commit_there(self, persist: Persist, done: Callable[[Persist, Exception | None], None]) -> None:
        """
        Give a commit to the thread. *done* is called on the loop, with what kept it from being made.

        No task and no future: writers wait for these hand-overs.
        """
        self._there_count += 1
        self._executor.submit(self._on_thread, persist, done)

    def _on_thread(self, persist: Persist, done: Callable[[Persist, Exception | None], None]) -> None:
        error, seconds = self._make(persist)
        with contextlib.suppress(RuntimeError):  # the loop was closed under us: nobody is left to be told
            self._loop.call_soon_threadsafe(self._made_there, persist, error, seconds, done)

    def _made_there(
        self, persist: Persist, error: Exception | None, seconds: float,
        done: Callable[[Persist, Exception | None], None],
    ) -> None:  # fmt: skip
        self._there_count -= 1
        self._note(seconds)
        done(persist, error)

    def _make(self, persist: Persist) -> tuple[Exception | None, float]:
        assert self._storage is not None
        began = self._seconds()
        try:
            self._storage.commit(persist.commit, persist.durability)
        except Exception as error:  # noqa: BLE001 - whatever it is, there would be a hole before the next commit
            return error, 1.0
        return None, self._seconds() - began

    def _note(self, seconds: float) -> None:
        if seconds < QUICK_SECONDS:
            if self._doubt:
                self._doubt -= 1
        elif seconds < STALL_SECONDS:
            self._doubt = max(self._doubt, min(self._doubt + DOUBT_OF_A_SLOW_ONE, DOUBT_MAX))
        else:
            self._doubt = max(self._doubt, int(DOUBT_OF_A_STALL * seconds / STALL_SECONDS))

    async def backup(self, target: str) -> None:
        """A copy of what was committed, made on the thread, between commits. Raises UsageError, StorageError."""
        if self._storage is None:
            raise UsageError("this node is in memory: there is no file to back up")
        self._there_count += 1
        copying = self._executor.submit(self._storage.backup, target)
        copying.add_done_callback(self._copied)  # not here below: who asked may be gone before the thread is done
        await asyncio.wrap_future(copying)

    def _copied(self, _copying: object) -> None:
        """Called in the thread."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._left)

    def _left(self) -> None:
        self._there_count -= 1

    async def close(self) -> None:
        """Close the storage, end the thread. What it raises is raised when all that is done."""
        try:
            if self._storage is not None:
                await self._loop.run_in_executor(self._executor, self._storage.close)
        finally:
            self._executor.shutdown(wait=True)
