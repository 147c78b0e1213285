"""
What somebody has seen, in one small value.

A version vector maps each origin to the highest counter known *with everything below it*. Vectors are compared,
joined (pointwise maximum) and met (pointwise minimum); an origin that is missing counts as zero. They form a
lattice, and all of replication is the climbing of it. (Parker et al., 1983. We track versions of data, not events
of processes: hence not "vector clock".)
"""

from __future__ import annotations

import enum
from collections.abc import ItemsView, Iterable, Iterator, Mapping
from typing import Any, final

from mmrepl.causality.dot import COUNTER_MAX, Dot
from mmrepl.types import NodeId


class Ordering(enum.Enum):
    """How two version vectors stand to each other."""

    EQUAL = "equal"
    BEFORE = "before"
    AFTER = "after"
    CONCURRENT = "concurrent"


@final
class VersionVector(Mapping[NodeId, int]):
    """
    Immutable and hashable; missing origins count as zero, and entries of zero are not kept.

    >>> a, b = NodeId("a", 1), NodeId("b", 1)
    >>> ours, theirs = VersionVector({a: 3}), VersionVector({a: 1, b: 2})
    >>> ours.compare(theirs)
    <Ordering.CONCURRENT: 'concurrent'>
    >>> print(ours.join(theirs))
    {a~1: 3, b~1: 2}
    """

    __slots__ = ("_counters",)
    _counters: dict[NodeId, int]

    def __init__(self, counters: Mapping[NodeId, int] | Iterable[tuple[NodeId, int]] = ()) -> None:
        pairs: dict[NodeId, int] = dict(counters)
        if pairs and not (min(pairs.values()) > 0 and max(pairs.values()) <= COUNTER_MAX):  # rare; else at C speed
            for origin, counter in pairs.items():
                if not 0 <= counter <= COUNTER_MAX:
                    raise ValueError(f"counter of {origin} must be in 0 … 2**47 - 1, not {counter}")
            pairs = {origin: counter for origin, counter in pairs.items() if counter}
        self._counters = pairs

    @classmethod
    def unchecked(cls, counters: dict[NodeId, int]) -> VersionVector:
        """A vector that owns *counters*, made from valid vectors: each in range, none zero. Nothing is checked."""
        vector = cls.__new__(cls)
        vector._counters = counters
        return vector

    # -- mapping

    def __getitem__(self, origin: NodeId) -> int:
        return self._counters[origin]

    def __iter__(self) -> Iterator[NodeId]:
        """Origins in order."""
        return iter(sorted(self._counters))

    def __len__(self) -> int:
        return len(self._counters)

    def items(self) -> ItemsView[NodeId, int]:
        """Origins in order, with their counters."""
        return dict(sorted(self._counters.items())).items()

    def get(self, origin: object, default: Any = None) -> Any:
        """As of any mapping; the one that is inherited takes a detour over KeyError."""
        return self._counters.get(origin, default)  # type: ignore[call-overload]

    @property
    def counters(self) -> Mapping[NodeId, int]:
        """The entries as they lie, in no order that means anything: for loops in which a call costs too much."""
        return self._counters

    def counter(self, origin: NodeId) -> int:
        """Highest counter of *origin*; zero when it is unknown."""
        return self._counters.get(origin, 0)

    # -- order

    def covers(self, dot: Dot) -> bool:
        """Whether the write *dot* is among what this vector has seen."""
        return self._counters.get(dot.origin, 0) >= dot.counter

    def descends(self, other: VersionVector) -> bool:
        """Whether this vector has seen all that *other* has (equality included)."""
        if self._counters == other._counters:  # by far the usual case in a quiet cluster, at C speed
            return True
        ours = self._counters.get
        for origin, counter in other._counters.items():  # noqa: SIM110 - a generator costs twice as much
            if ours(origin, 0) < counter:
                return False
        return True

    def compare(self, other: VersionVector) -> Ordering:
        """The causal order of the two."""
        forth, back = self.descends(other), other.descends(self)
        if forth:
            return Ordering.EQUAL if back else Ordering.AFTER
        return Ordering.BEFORE if back else Ordering.CONCURRENT

    # -- lattice

    def join(self, other: VersionVector) -> VersionVector:
        """Pointwise maximum: what the two have seen together."""
        ours, theirs = self._counters, other._counters
        if ours == theirs:
            return self
        if other.descends(self):
            return other
        joined: dict[NodeId, int] | None = None
        for origin, counter in theirs.items():
            if counter > ours.get(origin, 0):
                if joined is None:
                    joined = ours.copy()
                joined[origin] = counter
        return self if joined is None else VersionVector.unchecked(joined)

    def meet(self, other: VersionVector) -> VersionVector:
        """Pointwise minimum: what both have seen."""
        theirs = other._counters
        if self._counters == theirs:
            return self
        return VersionVector.unchecked(
            {origin: min(counter, theirs[origin]) for origin, counter in self._counters.items() if origin in theirs}
        )

    def including(self, dot: Dot) -> VersionVector:
        """This vector, and *dot* with everything below it."""
        if self._counters.get(dot.origin, 0) >= dot.counter:
            return self
        return VersionVector.unchecked({**self._counters, dot.origin: dot.counter})

    def lacks(self, other: VersionVector) -> dict[NodeId, tuple[int, int]]:
        """
        What *other* has seen and this has not: origin to (first, last) counter missing, origins in order.

        >>> VersionVector().lacks(VersionVector({NodeId("a", 1): 2}))
        {NodeId(name='a', incarnation=1): (1, 2)}
        """
        ours = self._counters.get
        return {
            origin: (ours(origin, 0) + 1, counter)
            for origin, counter in sorted(other._counters.items())
            if counter > ours(origin, 0)
        }

    # -- value

    def __eq__(self, other: object) -> bool:
        return self._counters == other._counters if isinstance(other, VersionVector) else NotImplemented

    def __hash__(self) -> int:
        return hash(frozenset(self._counters.items()))

    def __str__(self) -> str:
        return "{" + ", ".join(f"{origin}: {self._counters[origin]}" for origin in self) + "}"

    def __repr__(self) -> str:
        return f"VersionVector({{{', '.join(f'{origin!r}: {self._counters[origin]}' for origin in self)}}})"


EMPTY = VersionVector()
