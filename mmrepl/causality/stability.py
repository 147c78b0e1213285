"""
Causal stability: knowing that everyone knows.

Now and then each member tells the version vector of what it has applied. The pointwise minimum over the current
members is the *watermark*: no operation at or below it can arrive anywhere again. Below it the log may be cut, and
tombstones whose whole context lies below it may be forgotten. (The idea of matrix clocks: Wuu & Bernstein, 1984.
Causal stability: Baquero, Almeida & Shoker, 2014.)

An acknowledgement is *usable* only when

(a) it was made under the same view of the membership as ours, and
(b) our own applied vector descends it.

Do not simplify this. Without (b): paris deletes a key, tombstone *t*. Tokyo, before it hears of *t*, writes *n* to that
key; *n* is slow. Then tokyo applies *t* and acknowledges {paris: 1, tokyo: 1}. Paris takes that at once: everybody has
*t*, it is forgotten. Now *n* arrives in paris and meets nothing; in tokyo it stands beside *t*. Under last-writer-wins
paris shows *n* and tokyo nothing, for ever. With (b) paris waits until it has tokyo's first write, that is *n*:
whatever a usable acknowledgement of tokyo leaves unseen by us was written *after* tokyo had applied what it
acknowledges.

Without (a): tokyo admits lima and hands it its state; paris has not heard of that. Paris deletes a key, tokyo applies
and acknowledges. Paris takes the minimum over paris and tokyo, and forgets, while lima, which has never heard of the
tombstone, is writing to the key. With (a) the acknowledgement says that it was made among three, and paris waits until
it knows them. View ids are compared for equality only: make them from the member list, or agree on them.

An acknowledgement that is not usable yet is kept until it is. Of each member at most two are kept, the oldest that may
still become usable and the newest. The newest alone would never do: under constant load it is always ahead of us. The
oldest alone would do only while acknowledgements go on coming, and in a quiet cluster they stop.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Generic, TypeVar

from attrs import define, field, frozen

from mmrepl.causality.version_vector import EMPTY, VersionVector

MemberT = TypeVar("MemberT", bound=Hashable)
ViewT = TypeVar("ViewT", bound=Hashable)


@frozen
class _Ack(Generic[ViewT]):
    """One member's word: all of *vector* is applied here, and this was my *view* when I said so."""

    vector: VersionVector
    view: ViewT


@define
class _Row(Generic[ViewT]):
    """What we have of one other member."""

    usable: VersionVector | None = None  # everything acknowledged under the current view that our applied descends
    waiting: _Ack[ViewT] | None = None  # the oldest that may still become usable
    newest: _Ack[ViewT] | None = None  # the last one that came while `waiting` was taken; None if `waiting` is


@define
class AckMatrix(Generic[MemberT, ViewT]):
    """
    Who has applied what, and the watermark that follows from it.

    A member is a node in its current incarnation. A node that lost its memory is another member, in another view: were
    it known by its name alone, what it acknowledged before would go on counting for a node that has forgotten it.
    What is acknowledged has been made durable where it was applied; so has what is passed to `applied`.
    """

    own: MemberT
    view: ViewT
    _own_vector: VersionVector = EMPTY
    _rows: dict[MemberT, _Row[ViewT]] = field(factory=dict, init=False)  # the current members other than ourselves
    _stable: VersionVector | None = field(default=None, init=False)  # remembered until something changes
    _told: bool = field(default=False, init=False)  # whether we know who the members are; until then nothing is stable

    # -- what is told

    def set_view(self, view: ViewT, members: Iterable[MemberT]) -> None:
        """
        From now on *members* count, in a view of this id. We ourselves count whether named or not.

        What was acknowledged under another view counts no longer, so the watermark falls until everybody has
        acknowledged anew: nothing has become unstable, it is only not proven for these members. The same view again
        changes nothing.
        """
        others = [member for member in members if member != self.own]
        if self._told and view == self.view and set(others) == set(self._rows):
            return
        unknown: _Row[ViewT] = _Row()
        kept = {member: self._rows.get(member, unknown) for member in others}
        self.view, self._rows, self._stable, self._told = view, {}, None, True
        for member, row in kept.items():
            self._rows[member] = _Row()
            for ack in (row.waiting, row.newest):
                if ack is not None:
                    self._keep(self._rows[member], ack)

    def acknowledge(self, member: MemberT, vector: VersionVector, view: ViewT) -> None:
        """
        *member* has applied all of *vector*, and said so when its view was *view*.

        Late and repeated acknowledgements do no harm. Those of strangers, and of ourselves, are ignored.
        """
        row = self._rows.get(member)
        if row is not None:
            self._keep(row, _Ack(vector, view))

    def applied(self, own_vector: VersionVector) -> None:
        """
        We have applied all of *own_vector*, and it is durable here. It never goes back.

        Cost: members times entries; meant for every turn or tick, not for every operation.
        """
        if own_vector == self._own_vector:
            return
        assert own_vector.descends(self._own_vector), (own_vector, self._own_vector)
        self._own_vector, self._stable = own_vector, None
        for row in self._rows.values():
            self._settle(row)

    # -- what follows

    def stable(self) -> VersionVector:
        """
        The watermark: every current member has applied all of this, and we have seen all that it had seen then.

        Empty while the word of any member is missing, and until `set_view` has said for the first time who the members
        are. Alone, it is what we have applied.
        """
        if self._stable is None:
            stable = self._own_vector if self._told else EMPTY
            for row in self._rows.values():
                stable = stable.meet(row.usable or EMPTY)
            self._stable = stable
        return self._stable

    @property
    def members(self) -> tuple[MemberT, ...]:
        """The current members, ourselves first, the others in the order in which they were given."""
        return (self.own, *self._rows)

    def holding_back(self) -> tuple[MemberT, ...]:
        """Members without any usable acknowledgement: because of them nothing is stable. For status and for people."""
        return tuple(member for member, row in self._rows.items() if row.usable is None)

    def check(self) -> None:
        """Assert the invariants."""
        assert self.own not in self._rows
        stable = self.stable()
        assert self._own_vector.descends(stable)
        for member, row in self._rows.items():
            assert (row.usable or EMPTY).descends(stable), member
            assert self._own_vector.descends(row.usable or EMPTY), member
            assert row.waiting is not None or row.newest is None, member
            assert row.waiting is None or not self._is_usable(row.waiting), member

    # -- one member's row

    def _is_usable(self, ack: _Ack[ViewT]) -> bool:
        return ack.view == self.view and self._own_vector.descends(ack.vector)

    def _keep(self, row: _Row[ViewT], ack: _Ack[ViewT]) -> None:
        """Use *ack*, or put it where it waits."""
        waiting = row.waiting
        if self._is_usable(ack):
            self._use(row, ack)
        elif waiting is None or self._supersedes(ack, waiting):
            row.waiting, row.newest = ack, None
        else:
            row.newest = ack

    def _supersedes(self, ack: _Ack[ViewT], waiting: _Ack[ViewT]) -> bool:
        """
        Whether *ack* shows that waiting for *waiting* is in vain: its member has moved on to another view, and not
        from ours, or its vector no longer has something that it had (an origin that was pruned).
        """
        if ack.view != waiting.view:
            return waiting.view != self.view
        return not ack.vector.descends(waiting.vector)

    def _use(self, row: _Row[ViewT], ack: _Ack[ViewT]) -> None:
        # Both this and what was acknowledged before are true of one member, so what they say together is, too:
        # no need to know which of the two was said first.
        joined = ack.vector if row.usable is None else row.usable.join(ack.vector)
        if joined is not row.usable:  # else it has only said so once more
            row.usable, self._stable = joined, None

    def _settle(self, row: _Row[ViewT]) -> None:
        """Use what waits and has become usable."""
        while row.waiting is not None and self._is_usable(row.waiting):
            self._use(row, row.waiting)
            row.waiting, row.newest = row.newest, None
