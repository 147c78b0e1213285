"""
What a resolver is: a policy over siblings, applied on reading.

A resolver is a pure, deterministic function of the siblings of a key in canonical order. It need not be associative
or commutative: merging keeps all siblings and knows nothing of resolvers, so that all nodes come to hand theirs the
same ones (law L1). Reading never writes; what a resolver answers becomes a write only when somebody puts it.

`Resolver.resolve` holds what is common to all of them: it sorts, so that the order of arrival cannot matter, and
decides the plain cases. Those subclasses decide the rest, in `Resolver.decide`:

- All siblings are tombstones, or there are none: the key is absent.
- One value, and tombstones concurrent with it: the update survives, and is read as it is.

Nothing here needs a store. An application with one of its own makes `Sibling`s of what it has and asks:

    >>> from mmrepl.resolvers import LastWriterWins, Sibling
    >>> LastWriterWins().resolve([Sibling.of("salut", timestamp=2, origin="paris"),
    ...                           Sibling.of("hello", timestamp=1, origin="london")])
    Resolution('salut', winner=paris~0:1, losers=london~0:1)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

from attrs import frozen

from mmrepl.causality.dot import Dot
from mmrepl.errors import ResolverError
from mmrepl.resolvers.sibling import Sibling, canonical, stamp_text, value_text
from mmrepl.types import DEPTH_MAX, Limits, Value
from mmrepl.values import decode, encode

VIEW_LIMITS = Limits(depth=DEPTH_MAX, value_bytes=64 * 1024 * 1024)
"""What a resolver makes of siblings is looked at, not stored, so it may be larger than a value: put checks it again."""


@frozen(repr=False)
class Resolution:
    """
    What became of the siblings of a key: the value that is read, and who lost to whom.

    Equal when siblings and answer are, byte by byte. Made by the class methods.
    """

    siblings: tuple[Sibling, ...]  # all of them, in canonical order
    payload: bytes | None  # bytes of the value that is read; None when the key is absent
    winner: Dot | None = None  # the sibling whose payload that is; None when it was made of several, or of none
    losers: tuple[Sibling, ...] = ()  # in canonical order; what they hold is not part of the answer
    by_rank: bool = False  # whether the winner won by its place in the canonical order

    @classmethod
    def select(cls, winner: Sibling, siblings: tuple[Sibling, ...], *, by_rank: bool = False) -> Resolution:
        """One sibling is the answer, the others lost. Selecting a tombstone makes the key absent."""
        losers = tuple(sibling for sibling in siblings if sibling.dot != winner.dot)
        return cls(siblings, winner.payload, winner.dot, losers, by_rank)

    @classmethod
    def merge(cls, value: Any, siblings: tuple[Sibling, ...]) -> Resolution:
        """
        *value* was made of all that are no tombstones; the tombstones lost.

        Raises InvalidValue when *value* is outside the domain.
        """
        return cls.merge_payload(encode(value, VIEW_LIMITS), siblings)

    @classmethod
    def merge_payload(cls, payload: bytes, siblings: tuple[Sibling, ...]) -> Resolution:
        """As `merge`, for a value that is encoded already."""
        return cls(siblings, payload, None, tuple(sibling for sibling in siblings if sibling.payload is None))

    @classmethod
    def absent(cls, siblings: tuple[Sibling, ...]) -> Resolution:
        """The key is deleted: its siblings agree in that, and none of them lost."""
        return cls(siblings, None)

    @property
    def present(self) -> bool:
        """Whether there is a value. It may be None: that is a value like another."""
        return self.payload is not None

    @property
    def value(self) -> Value:
        """The value, decoded afresh at each access; None when the key is absent."""
        return None if self.payload is None else decode(self.payload)

    def explain(self) -> tuple[str, ...]:
        """
        Who lost to whom and why, a sentence for each loser; empty when nobody lost.

        >>> from mmrepl.resolvers import LastWriterWins
        >>> tea = Sibling.of("tea", timestamp=7, origin="paris")
        >>> print(*LastWriterWins().resolve([tea, Sibling.tombstone(timestamp=7, origin="lima")]).explain())
        the deletion lima~0:1 lost to 'tea' (paris~0:1): same timestamp, and its origin sorts first
        """
        return tuple(self._why(loser) for loser in self.losers)

    def _why(self, loser: Sibling) -> str:
        winner = next((sibling for sibling in self.siblings if sibling.dot == self.winner), None)
        if winner is None:
            if loser.payload is None:
                return f"{_told(loser)} gave way to concurrent updates"
            return f"{_told(loser)} is not part of the answer"
        if self.by_rank:
            reason = _outranked(loser, winner)
        elif loser.payload is None:
            reason = "an update survives a concurrent deletion"
        else:
            reason = "the resolver chose so"
        return f"{_told(loser)} lost to {_told(winner)}: {reason}"

    def __repr__(self) -> str:
        parts = [value_text(self.payload, "absent")]
        if self.winner is not None:
            parts.append(f"winner={self.winner}")
        if self.losers:
            parts.append("losers=" + " ".join(str(loser.dot) for loser in self.losers))
        return f"Resolution({', '.join(parts)})"


def _told(sibling: Sibling) -> str:
    if sibling.payload is None:
        return f"the deletion {sibling.dot}"
    return f"{value_text(sibling.payload, '')} ({sibling.dot})"


def _outranked(loser: Sibling, winner: Sibling) -> str:
    if loser.timestamp != winner.timestamp:
        return f"it is earlier, {stamp_text(loser.timestamp)} before {stamp_text(winner.timestamp)}"
    if loser.dot.origin != winner.dot.origin:
        return "same timestamp, and its origin sorts first"
    return "same timestamp and origin, and its counter is lower"


class Resolver(ABC):
    """
    A policy over siblings. Subclass it, define `decide`, and give instances no state that changes.

    >>> class Longest(Resolver):
    ...     '''The longest text; of several, the last.'''
    ...     def decide(self, siblings):
    ...         values = [sibling for sibling in siblings if not sibling.is_tombstone]
    ...         return Resolution.select(max(reversed(values), key=lambda sibling: len(sibling.value)), siblings)
    >>> Longest().resolve([Sibling.of("tea", timestamp=1, origin="a"), Sibling.of("coffee", timestamp=0, origin="b")])
    Resolution('coffee', winner=b~0:1, losers=a~0:1)
    """

    __slots__ = ()

    selects: ClassVar[bool] = False
    """
    Whether the answer is always the last sibling in canonical order. The store then forgets the losers once all
    siblings are stable, and knows without asking whether a key is present. Only for last-writer-wins; it is checked.
    """

    wraps: ClassVar[bool] = False
    """Whether even one value alone is read as something else than itself. If not, `decide` is not asked about one."""

    @property
    def policy(self) -> str:
        """
        The identity of this policy, which nodes compare when they meet. Alike only where the answers are.

        By default the class's module and name. A resolver with parameters should say them here as well.
        """
        return f"{type(self).__module__}:{type(self).__qualname__}"

    @abstractmethod
    def decide(self, siblings: tuple[Sibling, ...]) -> Resolution:
        """
        What *siblings* mean: in canonical order, tombstones included, two or more with a value (one, if `wraps`).

        A resolver that `selects` is also asked about tombstones alone, and about one value among them.

        Pure and deterministic. Whatever it raises, `resolve` raises as a `ResolverError`.
        """

    def resolve(self, siblings: Iterable[Sibling]) -> Resolution:
        """
        What is read where *siblings* are live. Their order does not matter.

        Raises:
            ResolverError: the resolver failed on them. Nothing was changed.
            Equivocation: two different siblings have one dot.
        """
        ordered = canonical(siblings)
        if not ordered:
            return Resolution.absent(ordered)
        if not self.selects:
            values = [sibling for sibling in ordered if sibling.payload is not None]
            if not values:
                return Resolution.absent(ordered)
            if len(values) == 1 and not self.wraps:
                return Resolution.select(values[0], ordered)
        try:
            resolution = self.decide(ordered)
        except ResolverError:
            raise
        except Exception as error:
            raise self.failure(f"raised {type(error).__name__}: {error}", ordered) from error
        if not isinstance(resolution, Resolution):
            raise self.failure(f"answered a {type(resolution).__name__}, not a Resolution", ordered)
        if self.selects and resolution.winner != ordered[-1].dot:
            raise self.failure("says that it selects, but its winner is not the last in canonical order", ordered)
        return resolution

    def failure(self, what: str, siblings: tuple[Sibling, ...]) -> ResolverError:
        """The error that says that this resolver did *what* when it was given *siblings*."""
        shown = ", ".join(map(str, siblings[:5])) + (f" and {len(siblings) - 5} more" if len(siblings) > 5 else "")
        return ResolverError(f"{self.policy} {what}; given {shown}", policy=self.policy, siblings=siblings)
