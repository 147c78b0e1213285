"""
The rule by which states are judged, from the writes alone.

A write lives as long as no other write to its key has *seen* it: made later, with a context that covers its dot. So
what lives at a node follows from which writes it has applied. No log, no merge, no clock comes into it; this is the
dumb twin of everything.

A dot can stand for two writes only where a node had forgotten one that nobody else was told of: then others know the
one that they were told of, and the node itself the one that it made last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from attrs import frozen

from mmrepl.causality.dot import Dot
from mmrepl.causality.version_vector import VersionVector
from mmrepl.resolvers.sibling import value_text
from mmrepl.sim.history import Acknowledged, Applied, Became, Forgiven, History, Jumped, Place, Wrote
from mmrepl.types import NodeId

Siblings: TypeAlias = tuple[tuple[Dot, int, bytes | None], ...]
Content: TypeAlias = tuple[Place, int, bytes | None]


@frozen
class Violation:
    """What is wrong, where and when. *checker* is the name of who found it."""

    checker: str
    text: str
    at_ms: int = -1
    node: str = ""
    place: Place | None = None

    def __str__(self) -> str:
        where = f" at {self.node}" if self.node else ""
        when = f" after {self.at_ms} ms" if self.at_ms >= 0 else ""
        return f"{self.checker}{where}{when}: {self.text}"


class Rules:
    """What lives, and what must not be missing, computed from a history."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._by_place: dict[Place, list[tuple[int, Wrote]]] = {}
        self._minted: dict[Dot, list[tuple[int, Wrote]]] = {}
        told: dict[Dot, Content] = {}
        acknowledged: set[int] = set()
        forgiven: set[int] = set()
        for index, event in enumerate(history.events):
            if isinstance(event, Wrote):
                self._by_place.setdefault(event.place, []).append((index, event))
                self._minted.setdefault(event.dot, []).append((index, event))
            elif isinstance(event, Applied):
                for counter, place, stamp, payload in event.contents:
                    told.setdefault(Dot(event.origin, counter), (place, stamp, payload))
            elif isinstance(event, Acknowledged) and event.dot in self._minted:
                acknowledged.add(self._minted[event.dot][-1][0])
            elif isinstance(event, Forgiven):
                forgiven.update(place for dot in event.dots for place, _ in self._minted.get(dot, ()))
        self._must_last = acknowledged - forgiven
        self._told_of: dict[Dot, int] = {}  # of dots that were minted twice: the write that others were told of
        for dot, minted in self._minted.items():
            if len(minted) > 1:
                same = [index for index, write in minted if told.get(dot) == (write.place, write.stamp, write.payload)]
                self._told_of[dot] = same[-1] if same else minted[-1][0]
        self._left = _left(history)

    @property
    def places(self) -> list[Place]:
        """Every place that was written, in order."""
        return sorted(self._by_place)

    def live(self, place: Place, version: VersionVector, node: str = "", until: int | None = None) -> list[Wrote]:
        """
        The writes within *version* that no other one within it has seen, as *node* knows it.

        Only events before index *until* count.
        """
        applied = [
            (index, write) for index, write in self._by_place.get(place, ())
            if (until is None or index < until) and version.covers(write.dot) and self._is_it(index, write, node, until)
        ]  # fmt: skip
        if len(applied) < 2:
            return [write for _, write in applied]
        return [
            write for index, write in applied
            if not any(later > index and other.context.covers(write.dot) for later, other in applied)
        ]  # fmt: skip

    def _is_it(self, index: int, write: Wrote, node: str, until: int | None) -> bool:
        """Whether this is the write that its dot stands for."""
        if write.dot not in self._told_of:
            return True
        if node and node == write.node:
            made = [at for at, other in self._minted[write.dot] if other.node == node and (until is None or at < until)]
            return bool(made) and made[-1] == index
        return self._told_of[write.dot] == index

    def compare(self, place: Place, siblings: Siblings, expected: list[Wrote]) -> tuple[str, str] | None:
        """Which rule is broken by showing *siblings* where *expected* live, and how; None when none is."""
        wanted = {write.dot: write for write in expected}
        shown = {dot for dot, _, _ in siblings}
        for dot, stamp, payload in siblings:
            write = wanted.get(dot)
            if write is None:
                text = f"{place_text(place)} shows {dot} = {value_text(payload, 'deleted')}, which was overwritten"
                return "no_zombie", text
            if (write.stamp, write.payload) != (stamp, payload):
                told = value_text(payload, "deleted")
                text = f"{place_text(place)} shows {dot} = {told} at {stamp}, which was written as"
                return "no_lost_update", f"{text} {value_text(write.payload, 'deleted')} at {write.stamp}"
        selects = self._history.selects(place[0])
        latest = max(expected, key=lambda write: (write.stamp, write.dot), default=None)
        for write in expected:
            if write.dot in shown:
                continue
            # Tombstones may be forgotten, and losers. A tombstone that wins may only go with all that it beat.
            forgettable = write is not latest if selects else write.payload is None
            if selects and write.payload is None and any(w.session == 0 for w in expected if w.dot in shown):
                continue  # what a stranger makes again may come after everybody has forgotten this deletion
            if not forgettable and not (write.payload is None and not shown):
                return (
                    "no_lost_update",
                    f"{place_text(place)} lacks {write.dot} = {value_text(write.payload, 'deleted')}",
                )
        return None

    def gone(self, version: VersionVector) -> Iterable[Wrote]:
        """
        Acknowledged writes that are not within *version*, that were not made again, and that nobody overwrote.

        A node that starts over makes its unseen writes again: with another dot, the same stamp and the same bytes. Not
        those that had lost by policy before (among few, few have to know that), nor deletions of what is dead anyway.
        """
        for place in self.places:
            alive = self.live(place, version)
            writes = self._by_place[place]
            for index, write in writes:
                if index not in self._must_last or (version.covers(write.dot) and self._is_it(index, write, "", None)):
                    continue
                again = any(
                    other.session == 0
                    and later > index
                    and (other.stamp, other.payload) == (write.stamp, write.payload)
                    for later, other in writes
                )
                if again or any(later > index and other.context.covers(write.dot) for later, other in writes):
                    continue
                if write.payload is None and not any(write.context.covers(other.dot) for other in alive):
                    continue
                if not self._had_lost(write, version):
                    yield write

    def _had_lost(self, write: Wrote, version: VersionVector) -> bool:
        """
        Whether, under a resolver that selects, a write lost by policy where it was: at a node that started over.

        There it had lost to another one already, or it was set aside and would have lost as soon as it was made again.
        """
        if not self._history.selects(write.place[0]):
            return False
        left = {identity: vector for identity, vector in self._left.items() if vector.covers(write.dot)}
        if left and any(other.stamp > write.stamp and version.covers(other.dot)
                        for _, other in self._by_place[write.place]):  # fmt: skip
            return True
        return any(
            (rival.stamp, rival.dot) > (write.stamp, write.dot)
            for identity, vector in left.items()
            for rival in self.live(write.place, vector, identity.name)
        )


def _left(history: History) -> dict[NodeId, VersionVector]:
    """What each incarnation had applied when its node started over as another one."""
    left: dict[NodeId, VersionVector] = {}
    who: dict[str, NodeId] = {}
    now: dict[str, dict[NodeId, int]] = {}
    for event in history.among(Applied, Wrote, Became, Jumped):
        if isinstance(event, Became):
            if event.why == "started over" and event.node in who:
                left[who[event.node]] = VersionVector(now[event.node])
            who[event.node], now[event.node] = event.identity, dict(event.version)
        elif isinstance(event, Jumped):
            now[event.node] = dict(event.version)
        elif isinstance(event, Wrote):
            now.setdefault(event.node, {})[event.dot.origin] = event.dot.counter
        elif isinstance(event, Applied):
            now.setdefault(event.node, {})[event.origin] = event.last
    return left


def place_text(place: Place) -> str:
    """A key, with its table if that is not the default one."""
    return f"{place[0]}/{place[1]}" if place[0] else place[1]


def value_at(payloads: Mapping[Place, bytes | None], place: Place) -> str:
    """What is read of a key."""
    return value_text(payloads.get(place), "absent")


def siblings_text(siblings: Siblings) -> str:
    """Siblings, for people."""
    return "[" + ", ".join(f"{dot} = {value_text(payload, 'deleted')}" for dot, _, payload in siblings) + "]"


def content_text(content: tuple[Place, int, bytes | None]) -> str:
    """What a dot was seen to hold."""
    place, stamp, payload = content
    return f"{place_text(place)} = {value_text(payload, 'deleted')} at {stamp}"


def lacking_text(missing: Mapping[NodeId, tuple[int, int]]) -> str:
    """The newest of what is missing, of each origin."""
    return ", ".join(f"{origin}:{last}" for origin, (_, last) in sorted(missing.items()))
