"""
A table: keys with one policy for their siblings.

Keys are held in a dict, in order of arrival, for that is what reading and writing want. Iteration in key order wants
a sorted index; it is built when somebody first iterates, and brought up to date with what came since whenever
somebody iterates again, so that a put does not pay for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

from sortedcontainers import SortedList

from mmrepl.resolvers.base import Resolver

if TYPE_CHECKING:
    from mmrepl.store.keyspace import State

PAGE_KEYS: Final = 512


class Table:
    """State of the keys of one table. Written by the `Keyspace` alone."""

    __slots__ = ("_index", "absent", "name", "number", "resolver", "states", "unsettled", "unsorted")

    def __init__(self, name: str, number: int, resolver: Resolver) -> None:
        self.name = name
        self.number = number  # our number; index into OpLog.table_names
        self.resolver = resolver
        self.states: dict[str, State] = {}  # key -> packed dot, or Record
        self.absent: set[str] = set()  # keys whose read shows nothing; a subset of unsettled
        self.unsettled: set[str] = set()  # keys of which something may be forgotten one day
        self.unsorted: list[str] | None = None  # keys that the index has not taken in; None while there is no index
        self._index: SortedList[str] | None = None

    def __len__(self) -> int:
        """Number of keys whose read shows something."""
        return len(self.states) - len(self.absent)

    def __contains__(self, key: object) -> bool:
        return key in self.states and key not in self.absent

    def keys(self, first: str | None = None, end: str | None = None, *, reverse: bool = False) -> Iterator[str]:
        """
        Present keys in order (of code points), from *first* on, up to before *end*.

        Tolerates changes while it is read: a key that comes or goes meanwhile may or may not be seen. Cost:
        logarithmic to start, after sorting what came since the last time.
        """
        low, high, bounds = first, end, (True, False)
        while True:
            page = list(islice(self._sorted().irange(low, high, inclusive=bounds, reverse=reverse), PAGE_KEYS))
            yield from (key for key in page if key in self)
            if len(page) < PAGE_KEYS:
                return
            low, high, bounds = (low, page[-1], (True, False)) if reverse else (page[-1], high, (False, False))

    def _sorted(self) -> SortedList[str]:
        if self._index is None:
            self._index = SortedList(self.states)
            self.unsorted = []
        elif self.unsorted:
            self._index.update(self.unsorted)
            self.unsorted = []
        return self._index

    def remove(self, key: str) -> None:
        """Take a key out altogether."""
        del self.states[key]
        self.absent.discard(key)
        self.unsettled.discard(key)
        if self._index is not None:
            self._sorted().discard(key)

    def check(self) -> None:
        """Assert that the index and the states hold the same keys."""
        if self._index is not None:
            assert list(self._sorted()) == sorted(self.states)
