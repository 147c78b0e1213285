"""
The state of a key: its live siblings, and one context that sums up everything ever seen of it.

A *dotted causal container*. Siblings stand under their dots; the joint context is a version vector. A dot that the
context covers and that is not among the siblings was overwritten, and will not come back: absence carries meaning,
which is why neither a timestamp nor a tombstone is needed to decide what overwrites what. (Almeida, Preguiça, Baquero
et al., "Scalable and Accurate Causality Tracking for Eventually Consistent Stores", 2014: dotted version vector sets.)

Nothing here knows of resolvers. Merging keeps every sibling, and a resolver is shown them on reading, in canonical
order: timestamp, then origin, then counter.

This is the *reference*: plain immutable values, obviously right, and slow. The store keeps its keys in columns and is
compared with this one.

What it assumes of its callers:

- The context of an operation was read from the same key (law L3). Counters run over all keys of a node, so the context
  of another key covers writes that nobody has read.
- Operations of one origin are applied in their order, without a gap (law L4). The container's own context takes each
  dot *with everything below it*; a lower one that comes later counts as overwritten.
- Dots are minted once (law L2).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, Literal, NamedTuple, TypeVar, final

from attrs import field, frozen

from mmrepl.causality.dot import Dot
from mmrepl.causality.version_vector import EMPTY, VersionVector
from mmrepl.types import NodeId

PayloadT = TypeVar("PayloadT")


class LiveWrite(NamedTuple, Generic[PayloadT]):
    """A write that nothing known has overwritten: a sibling, as the container keeps it."""

    dot: Dot
    timestamp: int  # hybrid logical; orders siblings and decides nothing else
    payload: PayloadT | None  # None is a tombstone

    @property
    def rank(self) -> tuple[int, NodeId, int]:
        """Its place in the canonical order, which is total, as dots differ."""
        return (self.timestamp, self.dot.origin, self.dot.counter)

    @property
    def is_tombstone(self) -> bool:
        """Whether it deletes."""
        return self.payload is None


def _canonical(siblings: Iterable[LiveWrite[PayloadT]]) -> tuple[LiveWrite[PayloadT], ...]:
    return tuple(sorted(siblings, key=lambda sibling: sibling.rank))


@final
@frozen
class CausalContainer(Generic[PayloadT]):
    """
    An immutable value; equal when siblings and contexts are. Every method gives a new one and leaves this as it was.

    >>> from mmrepl.types import NodeId
    >>> paris, tokyo = NodeId("paris", 1), NodeId("tokyo", 1)
    >>> start: CausalContainer[bytes] = CausalContainer()
    >>> ours = start.apply(Dot(paris, 1), EMPTY, 10, b"bonjour")
    >>> both = ours.apply(Dot(tokyo, 1), EMPTY, 11, b"konnichiwa")
    >>> [sibling.payload for sibling in both.siblings]
    [b'bonjour', b'konnichiwa']
    >>> [sibling.payload for sibling in both.apply(Dot(paris, 2), ours.context, 12, b"salut").siblings]
    [b'konnichiwa', b'salut']
    """

    siblings: tuple[LiveWrite[PayloadT], ...] = field(default=(), converter=_canonical)
    """In canonical order. Each dot is covered by the context."""

    context: VersionVector = EMPTY
    """Everything seen of this key: what a reader hands back when it writes over what it read."""

    # -- reading

    @property
    def is_absent(self) -> bool:
        """Whether there is nothing to read: no sibling, or tombstones alone."""
        return all(sibling.payload is None for sibling in self.siblings)

    @property
    def values(self) -> tuple[PayloadT, ...]:
        """Payloads of the siblings that are no tombstones, in canonical order."""
        return tuple(sibling.payload for sibling in self.siblings if sibling.payload is not None)

    # -- merging

    def apply(
        self, dot: Dot, context: VersionVector, timestamp: int, payload: PayloadT | None
    ) -> CausalContainer[PayloadT]:
        """
        After one operation, local or remote: what its writer had seen is gone, itself is here unless already covered.

        Applying it again changes nothing. An operation that comes when its dot is already covered is not added, and
        still drops what it overwrote.

        Raises:
            ValueError: *context* covers *dot*. No writer has seen what it is about to write.
        """
        if context.covers(dot):
            raise ValueError(f"the context {context} of write {dot} covers the write itself")
        siblings = [sibling for sibling in self.siblings if not context.covers(sibling.dot)]
        if not self.context.covers(dot):
            siblings.append(LiveWrite(dot, timestamp, payload))
        return CausalContainer(siblings, self.context.join(context).including(dot))

    def join(self, other: CausalContainer[PayloadT]) -> CausalContainer[PayloadT]:
        """
        What the two know together: a sibling stays if both have it, or if one has it and the other has never seen it.

        Commutative, associative and idempotent. While nothing has been forgotten, joining equals applying
        the operations of both. For the states of two *stores*, either of which may have forgotten, see `filled`.
        """
        ours = {sibling.dot: sibling for sibling in self.siblings}
        theirs = {sibling.dot: sibling for sibling in other.siblings}
        siblings = [
            *(sibling for dot, sibling in ours.items() if dot in theirs or not other.context.covers(dot)),
            *(sibling for dot, sibling in theirs.items() if dot not in ours and not self.context.covers(dot)),
        ]
        return CausalContainer(siblings, self.context.join(other.context))

    def filled(self, clock: VersionVector) -> CausalContainer[PayloadT]:
        """
        The same siblings, in a context that says all that the node clock *clock* says (law L8).

        *clock* is the version vector of the store that holds this container, taken not later than the container itself.
        Whatever of this key it covers was applied there, and is dead if it is not among the siblings, even when the
        context that said so has been forgotten, and even when the store holds nothing under this key any more. So two
        stores are joined key by key, over the keys of both, as::

            ours.filled(our_clock).join(theirs.filled(their_clock))

        Do not simplify this to a plain join. A node is away; the others overwrite a value, all of them know it, they
        forget the tombstone and its context. The node comes back with the value. In a plain join the value meets a
        state that has never seen it, and lives again everywhere.
        """
        return CausalContainer(self.siblings, self.context.join(clock))

    # -- forgetting

    def forget(
        self, stable: VersionVector, *, shown: Literal["all", "values", "latest"] = "all"
    ) -> CausalContainer[PayloadT]:
        """
        The least that has to be remembered once every member has applied everything below *stable* (law L7).

        Nothing is forgotten until *stable* descends the **whole** context. Then every member has applied every write
        that this container has ever heard of, and so has dropped what we have dropped; nothing that the context covers
        can arrive again, anywhere. What goes then:

        - All siblings and the context, if they are tombstones alone.
        - Beside values, what the resolver of the key does not look at, as *shown* tells. "latest": only the last
          sibling in canonical order is ever shown; all others go. "values": only values are; tombstones go. "all": it
          may be either, so only a tombstone that a later value outranks goes. One that outranks every value stays
          then: under last-writer-wins the deleted value would be shown without it.
        - Of the context, everything but the dots of the siblings that stay, which a reader must go on covering.

        Forgetting one entry of a context by itself would not be exact. Let write *w* have overwritten *v*, *v* be
        stable and *w* not; a reader takes the context without *v*'s entry to a third node and writes *n* over it. Where
        *v* is known, *w* not yet, and *n* arrives, *v* would be shown beside *n*, whose writer had seen it overwritten.

        Members forget at different times, and meanwhile hold different siblings: one still has the tombstone *t*, one
        has not, and a write *n* made at the second does not cover *t*. They agree again because *n* outranks *t*: with
        a watermark from `AckMatrix`, every write that we have not applied yet was made by a member that had applied *t*
        before, and whose hybrid logical clock had therefore passed it.

        HAZARD: that holds among members. A write that a node made before it joined, or while it was removed, may be
        concurrent with a tombstone that some have forgotten and others have not, and be outranked by it; under
        last-writer-wins these would differ until the key is written again. Whoever lets such a node in lets it write
        anew, over a filled context, what it alone has written. And a context that was read among members after they
        had forgotten is too small for a node that is none: used there, it leaves standing what the reader had seen
        overwritten, until the node is back and has joined a snapshot.
        """
        if not stable.descends(self.context):
            return self
        kept = [sibling for sibling in self.siblings if sibling.payload is not None]
        if shown == "latest":
            kept = [sibling for sibling in kept if sibling is self.siblings[-1]]
        elif shown == "all" and kept:
            latest = kept[-1]
            kept += [sibling for sibling in self.siblings if sibling.payload is None and sibling.rank > latest.rank]
        context = EMPTY
        for sibling in kept:
            context = context.including(sibling.dot)
        return CausalContainer(kept, context)

    # -- invariants

    def check(self) -> None:
        """Assert the invariants: canonical order, each dot once and covered by the context."""
        ranks = [sibling.rank for sibling in self.siblings]
        assert ranks == sorted(ranks), ranks
        dots = [sibling.dot for sibling in self.siblings]
        assert len(set(dots)) == len(dots), dots
        for sibling in self.siblings:
            assert self.context.covers(sibling.dot), (sibling.dot, self.context)
            assert sibling.timestamp >= 0, sibling
