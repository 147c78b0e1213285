"""
The log: entries by index, each with the term in which it was appended.

Two columns and no objects: the bodies, and the terms as runs (a leader appends thousands of entries in one term). The
front is cut off when a checkpoint holds what it said; what remains of it is the index and term of the last entry cut,
on which the first one that is left stands.

*Log matching*: when two logs have the same term at an index, they are equal up to there (Raft §5.3). So to compare
them is to compare terms.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate, pairwise
from typing import NamedTuple

from mmrepl.wire.single_master import Runs


class Slice(NamedTuple):
    """Some entries in a row, and how many bytes their bodies have."""

    runs: Runs
    bodies: list[bytes]
    size: int


class EntryLog:
    """
    Entries after *start*, the last index that was cut off. Mutable; one a node. Index 0 stands before everything.
    """

    def __init__(self, start: int = 0, start_term: int = 0) -> None:
        self.start = start  # entries up to here are not held
        self.last = start  # start <= last
        self.size_bytes = 0  # of the bodies held
        self._bodies: list[bytes] = []
        self._firsts = [start]  # where each run of one term begins; the first run begins with `start` itself
        self._terms = [start_term]

    @property
    def start_term(self) -> int:
        """Term of the last entry that was cut off."""
        return self._terms[0]

    @property
    def last_term(self) -> int:
        """Term of the last entry."""
        return self._terms[-1]

    def term_at(self, index: int) -> int:
        """The term of the entry at *index*, start <= index <= last. Cost: logarithmic in the number of terms."""
        assert self.start <= index <= self.last, (self.start, index, self.last)
        return self._terms[-1] if index >= self._firsts[-1] else self._terms[bisect_right(self._firsts, index) - 1]

    def has(self, index: int, term: int) -> bool:
        """Whether the entry at *index* is held, or the last one cut, and has *term*."""
        return self.start <= index <= self.last and self.term_at(index) == term

    def up_to_date(self, index: int, term: int) -> bool:
        """Whether a log that ends with (*index*, *term*) is at least as far as this one (Raft §5.4.1)."""
        return (term, index) >= (self._terms[-1], self.last)

    def body(self, index: int) -> bytes:
        """The entry at *index*, start < index <= last."""
        return self._bodies[index - self.start - 1]

    def slice(self, first: int, last: int, *, count_max: int | None = None, bytes_max: int | None = None) -> Slice:
        """
        The entries from *first* to *last*, or the first of them within the bounds; one at least, if there is one.

        Cost: proportional to the answer.
        """
        assert self.start < first, (self.start, first)
        if first == self.last and last >= first:  # one entry at the end: who writes one after the other
            body = self._bodies[-1]
            return Slice([(self._terms[-1], 1)], [body], len(body))
        last = min(last, self.last)
        if count_max is not None:
            last = min(last, first + count_max - 1)
        bodies = self._bodies[first - self.start - 1 : last - self.start]
        if not bodies:
            return Slice([], [], 0)
        size = sum(map(len, bodies))
        if bytes_max is not None and size > bytes_max:
            ends = list(accumulate(map(len, bodies)))
            count = max(1, bisect_right(ends, bytes_max))
            del bodies[count:]
            last, size = first + count - 1, ends[count - 1]
        return Slice(self.runs(first, last), bodies, size)

    def runs(self, first: int, last: int) -> Runs:
        """The terms of the entries from *first* to *last*."""
        found: Runs = []
        at = bisect_right(self._firsts, first) - 1
        while first <= last:
            end = self._firsts[at + 1] - 1 if at + 1 < len(self._firsts) else last
            upto = min(end, last)
            found.append((self._terms[at], upto - first + 1))
            first, at = upto + 1, at + 1
        return found

    # -- changing

    def append(self, term: int, bodies: list[bytes]) -> None:
        """Put entries of one term after the last. Terms never fall."""
        if not bodies:
            return
        if term != self._terms[-1]:
            assert term > self._terms[-1], (term, self._terms[-1])
            self._firsts.append(self.last + 1)
            self._terms.append(term)
        self._bodies += bodies
        self.last += len(bodies)
        self.size_bytes += sum(map(len, bodies))

    def append_one(self, term: int, body: bytes) -> int:
        """As `append`, for the path that every write takes; returns its index."""
        if term != self._terms[-1]:
            self.append(term, [body])
            return self.last
        self._bodies.append(body)
        self.size_bytes += len(body)
        self.last += 1
        return self.last

    def truncate(self, index: int) -> None:
        """Cut off everything after *index*."""
        assert self.start <= index, (self.start, index)
        if index >= self.last:
            return
        at = index - self.start
        self.size_bytes -= sum(map(len, self._bodies[at:]))
        del self._bodies[at:]
        self.last = index
        while self._firsts[-1] > index:
            self._firsts.pop()
            self._terms.pop()

    def compact(self, index: int) -> None:
        """Forget everything up to *index*. Cost: proportional to what is held."""
        if index <= self.start:
            return
        term = self.term_at(index)
        count = index - self.start
        self.size_bytes -= sum(map(len, self._bodies[:count]))
        del self._bodies[:count]
        at = bisect_right(self._firsts, index) - 1
        self._firsts, self._terms = self._firsts[at:], self._terms[at:]
        self._firsts[0], self._terms[0] = index, term
        self.start = index

    def restart(self, index: int, term: int) -> None:
        """Hold nothing, and stand on (*index*, *term*): a snapshot was installed."""
        self.start = self.last = index
        self.size_bytes = 0
        self._bodies, self._firsts, self._terms = [], [index], [term]

    # -- comparing

    def agree_until(self, first: int, runs: Runs) -> int:
        """
        Of entries that begin at *first* with these terms: the last index up to which ours are the same.

        ``first - 1`` when the very first is another, or not here.
        """
        if first > self.last:
            return first - 1
        index = first
        for term, count in runs:
            end = index + count - 1
            while index <= min(end, self.last):
                at = bisect_right(self._firsts, index) - 1
                if self._terms[at] != term:
                    return index - 1
                run_end = self._firsts[at + 1] - 1 if at + 1 < len(self._firsts) else self.last
                index = min(end, run_end) + 1
            if index <= end:
                break
        return index - 1

    def latest_at_most(self, index: int, term: int) -> int:
        """
        The highest index up to *index* whose term is not above *term*; `start` at the least.

        Where two logs part before that, they part in a term that one of them has more of: whole terms are stepped
        over, and finding where they part takes a message a term instead of one an entry.
        """
        index = min(index, self.last)
        at = bisect_right(self._firsts, index) - 1
        while at > 0 and self._terms[at] > term:
            index = self._firsts[at] - 1
            at -= 1
        return max(index, self.start)

    def check(self) -> None:
        """Assert the invariants."""
        assert self.last == self.start + len(self._bodies)
        assert self.size_bytes == sum(map(len, self._bodies))
        assert len(self._firsts) == len(self._terms)
        assert self._firsts[0] == self.start
        assert self._firsts[-1] <= self.last
        assert all(one < other for one, other in pairwise(self._firsts))
        assert all(one < other for one, other in pairwise(self._terms))
