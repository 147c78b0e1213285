"""
Remembering in memory: nothing at all, or a disk that a test can pull the plug on.

`MemoryStorage` by itself accepts every commit and keeps none: the replica that lives above it has it all anyway, and
when the process ends there is nothing left, as promised. Opened anew it is empty, so its node draws a new
incarnation, as every node without a memory does (law L2).

Given a `MemoryDisk` it keeps what it was told, as a file would. `MemoryDisk.crash` is the death of the process,
`MemoryDisk.lose_power` that of the machine: commits that were not synced are gone then, all or the latest of them,
and whoever opens the disk next is told so.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import TypeVar

from attrs import define, field
from sortedcontainers import SortedDict

from mmrepl.errors import ClosedError, StoreLocked, UsageError
from mmrepl.ports import Commit, Durability
from mmrepl.storage.loaded import LoadedStore

Key = TypeVar("Key", int, str)


class MemoryStorage:
    """A storage that ends with the process; with a *disk*, one that can be opened again, crashed and cut short."""

    def __init__(self, disk: MemoryDisk | None = None) -> None:
        self._disk = disk
        self._session = 0
        self._closed = False

    def load(self) -> LoadedStore:
        """Nothing, or what the disk holds. Raises StoreLocked when another storage has the disk open."""
        if self._closed or self._session:
            raise ClosedError("this storage was loaded or closed before: make a new one to open the store again")
        if self._disk is None:
            self._session = -1
            return LoadedStore({})
        self._session = self._disk.open()
        return self._disk.loaded()

    def commit(self, commit: Commit, durability: Durability) -> None:
        """Keep *commit* if there is a disk to keep it on."""
        self._check_open()
        if self._disk is not None:
            self._disk.commit(commit, durability)

    def backup(self, target: str) -> None:
        """Not possible: there is no file. Raises UsageError."""
        self._check_open()
        raise UsageError(f"a replica in memory cannot be backed up to {target}: give it a path, or ship it a delta")

    def close(self) -> None:
        """Sync and release the disk. Idempotent."""
        self._closed = True
        if self._disk is not None and self._session:
            self._disk.close(self._session)

    def _check_open(self) -> None:
        if self._closed or not self._session:
            raise ClosedError("the storage is closed" if self._closed else "the storage was not loaded yet")
        if self._disk is not None and not self._disk.is_open(self._session):
            raise ClosedError("the disk of this storage has crashed: open it again with a new storage")


@define
class Contents:
    """The state that a sequence of commits leads to: the dumb twin of every other storage."""

    batches: SortedDict[int, bytes] = field(factory=SortedDict)
    segments: SortedDict[int, bytes] = field(factory=SortedDict)
    meta: dict[str, bytes] = field(factory=dict)

    def apply(self, commit: Commit) -> None:
        """Deletions, then additions. Repeating a commit changes nothing."""
        if commit.drop_batches is not None:
            first, end = commit.drop_batches
            for position in list(self.batches.irange(first, end, inclusive=(True, False))):
                del self.batches[position]
        self.batches.update(commit.batches)
        _change(self.segments, commit.segments)
        _change(self.meta, commit.meta)

    def copy(self) -> Contents:
        """The same, to be changed independently."""
        return Contents(self.batches.copy(), self.segments.copy(), dict(self.meta))


class MemoryDisk:
    """
    What a `MemoryStorage` remembers on: outlives the storage, and can be crashed.

    >>> disk = MemoryDisk()
    >>> storage = MemoryStorage(disk)
    >>> loaded = storage.load()
    >>> storage.commit(Commit(meta={"a": b"1"}), Durability.SYNC)
    >>> storage.commit(Commit(meta={"a": b"2"}), Durability.NONE)
    >>> disk.lose_power()
    >>> after = MemoryStorage(disk).load()
    >>> after.meta["a"], after.doubt
    (b'1', 'the machine lost power with 1 commit not yet synced')
    """

    def __init__(self) -> None:
        self._synced = Contents()
        self._unsynced: list[Commit] = []  # committed in this order since the last sync
        self._doubt: str | None = None
        self._opened_count = 0
        self._holder = 0  # session that has the disk open, 0 for none

    def crash(self) -> None:
        """The process dies: nothing that was committed is lost, and nobody has the disk open any more."""
        self._holder = 0

    def lose_power(self, *, keep_count: int = 0) -> None:
        """The machine dies: of the commits that were not synced only the first *keep_count* are there afterwards."""
        lost_count = max(0, len(self._unsynced) - keep_count)
        if self._unsynced:
            # Doubt even when all were kept: nobody could tell from the disk.
            self._doubt = f"the machine lost power with {lost_count} commit{'s' * (lost_count != 1)} not yet synced"
        del self._unsynced[keep_count:]
        self._sync()
        self._holder = 0

    # -- for the storage

    def open(self) -> int:
        """A session; what was committed is synced. Raises StoreLocked while another one is open."""
        if self._holder:
            raise StoreLocked("the memory disk is open in another storage: close that one first")
        self._sync()
        self._opened_count += 1
        self._holder = self._opened_count
        return self._holder

    def is_open(self, session: int) -> bool:
        """Whether *session* is still the one."""
        return self._holder == session

    def loaded(self) -> LoadedStore:
        """What was committed, and not lost."""
        now = self._synced.copy()
        for commit in self._unsynced:
            now.apply(commit)
        return LoadedStore(now.meta, self._doubt, lambda: iter(now.segments.items()), lambda: iter(now.batches.items()))

    def commit(self, commit: Commit, durability: Durability) -> None:
        """Apply; a strong commit syncs the weak ones before it too. The first one settles the doubt."""
        self._unsynced.append(commit)
        self._doubt = None
        if durability is not Durability.NONE:
            self._sync()

    def close(self, session: int) -> None:
        """Sync and release, if *session* still is the one."""
        if self.is_open(session):
            self._sync()
            self._holder = 0

    def _sync(self) -> None:
        for commit in self._unsynced:
            self._synced.apply(commit)
        self._unsynced.clear()


def _change(held: MutableMapping[Key, bytes], change: Mapping[Key, bytes | None]) -> None:
    for key, body in change.items():
        if body is None:
            held.pop(key, None)
        else:
            held[key] = body
