"""
The story: calm, a partition, writes on both sides under three resolvers, a heal, a decision.

Only the writes are decided beforehand. Every sentence about what came of them is made of what the nodes answered when
they were asked, and where they answer otherwise than mmrepl promises, the story says so and ends badly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from attrs import define, field

from mmrepl.causality.dot import Dot
from mmrepl.cli.demo.resolvers import merge_carts
from mmrepl.cli.demo.world import NAMES, Place, Stage, View, World
from mmrepl.cli.remote import Found, KeyRead
from mmrepl.cli.values import as_text
from mmrepl.clock import hlc
from mmrepl.clock.instants import duration_text
from mmrepl.types import Value

GREETING: Final[Place] = ("", "greeting")
LETTER: Final[Place] = ("drafts", "letter")
CART: Final[Place] = ("carts", "ada")
PLACES: Final = (GREETING, LETTER, CART)

ALONE: Final = ("paris",)
TOGETHER: Final = ("tokyo", "lima")

MEETING_S: Final = 10.0
"""Nodes that have not met, or do not agree, by then, are a failure."""


PACE: Final = 0.85
"""How much time the pauses get; with it the whole takes some seventeen seconds, the other mode included."""


@define
class Story:
    """Tells itself in a world, on a stage. *pace* stretches the pauses; 0 leaves them out."""

    world: World
    stage: Stage
    pace: float = 1.0
    chapters: list[dict[str, Any]] = field(init=False, factory=list)  # titles and sentences, for programs
    unexpected: list[str] = field(init=False, factory=list)
    marks: list[tuple[int, str]] = field(init=False, factory=list)  # what was done to the network, and when

    def tell(self) -> bool:
        """All of it; whether everything was as promised."""
        self._meet()
        self._calm()
        self._cut()
        self._both_sides()
        self._heal()
        self._decide()
        self._end()
        return not self.unexpected

    # -- chapters

    def _meet(self) -> None:
        self._chapter("Three nodes")
        self._say("Three nodes begin, one after the other.")
        for sentence in self.world.begin():
            self._say(sentence)
        took = self.world.wait(lambda: self._see_each_other(NAMES), MEETING_S)
        if took is None:
            self._wrong(f"after {MEETING_S:g} s they have not all met: {self._sights()}")
        else:
            self._say(f"{_took(took, 'At once')} each of the three sees the two others.")
        self._pause(1.2)

    def _calm(self) -> None:
        self._chapter("Calm")
        dot = self._put("paris", GREETING, "bonjour")
        self._spread("paris", dot, NAMES)
        self._put("tokyo", LETTER, "dinner?")
        dot = self._put("lima", CART, ["tea"])
        self._spread("lima", dot, NAMES)
        self._await_agreement(NAMES)
        self._pause(1.2)

    def _cut(self) -> None:
        self._chapter("The network is cut")
        self.world.cut(ALONE, TOGETHER)
        self._mark(f"cut: {_and(ALONE)} | {_and(TOGETHER)}")
        self._say(f"{_and(ALONE)} can no longer hear {_and(TOGETHER)}, nor they {_and(ALONE)}.")
        took = self.world.wait(lambda: not self._sees_any(ALONE, TOGETHER), MEETING_S)
        if took is None:
            self._wrong(f"after {MEETING_S:g} s somebody still sees the other side: {self._sights()}")
        else:
            self._say(f"{_took(took, 'At once')} both sides know that they are alone: {self._sights()}.")
        self._pause(1.2)

    def _both_sides(self) -> None:
        self._chapter("Both sides go on writing")
        self._say(f"In the default table the policy is {self._policy(GREETING)}:")
        self._put("paris", GREETING, "salut")
        self._rest(0.4)
        dot = self._put("lima", GREETING, "hola")
        self._spread("lima", dot, TOGETHER)
        self._apart(GREETING)
        self._pause(0.8)
        self._say(f"In the table {LETTER[0]} it is {self._policy(LETTER)}:")
        self._put("paris", LETTER, "dinner at noon")
        dot = self._put("tokyo", LETTER, "dinner at eight")
        self._spread("tokyo", dot, TOGETHER)
        self._apart(LETTER)
        self._pause(0.8)
        self._say(f"In the table {CART[0]} it is {self._policy(CART)}, a function of the application:")
        self._put("paris", CART, ["cake", "tea"])
        dot = self._put("lima", CART, ["milk", "tea"])
        self._spread("lima", dot, TOGETHER)
        self._apart(CART)
        self._pause(1.2)

    def _heal(self) -> None:
        self._chapter("The network heals")
        self._mark("healed")
        self.world.heal()
        self._await_agreement(NAMES, "after the heal ")
        self._pause(0.6)
        for place, tell in ((GREETING, self._tell_greeting), (LETTER, self._tell_letter), (CART, self._tell_cart)):
            reads = self._looked(place)
            if _same(reads.values()):
                tell(reads["paris"])
            else:
                self._wrong(f"{_name(place)} should be the same everywhere, but {_spread_text(reads)}")
            self._pause(0.9)

    def _decide(self) -> None:
        self._chapter("Somebody decides")
        found = self._looked(LETTER)["lima"]
        values = [sibling.value for sibling in found.siblings if not sibling.deleted]
        self._say(f"At lima somebody reads {_name(LETTER)}, {as_text(found.value)}, and writes over exactly that:")
        text = " or ".join([str(values[0]), *(str(value).rpartition(" ")[2] for value in values[1:])]) if values else ""
        self._put("lima", LETTER, text, context=found.context)
        self._await_agreement(NAMES)
        after = self._looked(LETTER)
        counts = {name: len(read.siblings) for name, read in after.items()}
        if set(counts.values()) == {1} and _same(after.values()):
            self._say(f"Its siblings are one again, everywhere: {_spread_text(after)}.")
        else:
            told = ", ".join(f"{name} has {count}" for name, count in counts.items())
            self._wrong(f"its siblings should be one again, but {told}, and {_spread_text(after)}")
        self._pause(0.8)

    def _end(self) -> None:
        self._chapter("In the end")
        views = self._views()
        versions = {view.version for view in views}
        differing = [place for place in PLACES if _differs([view.reads[place] for view in views])]
        operations = views[0].operations
        if len(versions) == 1 and not differing:
            self._say(
                f"{_and(NAMES)} have applied the same {operations} operations, and hold the same siblings of all "
                f"{len(PLACES)} keys."
            )
        else:
            where = ", ".join(_name(place) for place in differing) or "no key"
            self._wrong(f"they do not agree: versions {[str(v) for v in versions]}, {where} differs")
        for text in self.unexpected:
            self.stage.say(f"Remember: {text}", good=False)

    # -- what came of it

    def _tell_greeting(self, found: KeyRead) -> None:
        winner, losers = _shown(found), [sibling for sibling in found.siblings if not sibling.shown]
        if winner is None or len(losers) != 1:
            self._wrong(f"{_name(GREETING)} should have a winner and a loser, but has {_siblings_text(found)}")
            return
        (loser,) = losers
        later = hlc.ms_of(winner.timestamp) - hlc.ms_of(loser.timestamp)
        why = "in the same millisecond" if later == 0 else f"{duration_text(later)} later"
        self._say(
            f"{_name(GREETING)} reads {as_text(winner.value)} everywhere: {_origin(winner)} wrote it {why}. The loser, "
            f"{as_text(loser.value)} of {_origin(loser)}, can still be read, until somebody writes over it."
        )
        if (winner.timestamp, Dot.parse(winner.dot)) < (loser.timestamp, Dot.parse(loser.dot)):
            self._wrong(f"{_name(GREETING)} reads what was written first")

    def _tell_letter(self, found: KeyRead) -> None:
        values = [sibling.value for sibling in found.siblings if not sibling.deleted]
        if len(values) < 2 or found.value != values:
            siblings = _siblings_text(found)
            self._wrong(f"{_name(LETTER)} should read as several siblings; it has {siblings}, and reads {_said(found)}")
            return
        self._say(f"{_name(LETTER)} reads as both, everywhere, for somebody to decide: {as_text(found.value)}.")

    def _tell_cart(self, found: KeyRead) -> None:
        carts: list[Any] = [sibling.value for sibling in found.siblings if not sibling.deleted]
        merged = merge_carts(carts)
        if len(carts) < 2 or found.value != merged:
            self._wrong(f"{_name(CART)} should read {as_text(merged)}, not {as_text(found.value)}")
            return
        of = " and ".join(as_text(cart) for cart in carts)
        self._say(f"{_name(CART)} reads {as_text(found.value)} everywhere: made of {of}; nothing was lost.")

    def _apart(self, place: Place) -> None:
        """What both sides show, which has to differ now."""
        reads = self._looked(place)
        text = _spread_text(reads)
        if _same(reads.values()):
            self._wrong(f"the two sides should differ in {_name(place)}, but {text}")
        else:
            self._say(f"So {text}.")

    def _await_agreement(self, names: Iterable[str], since: str = "") -> None:
        names = list(names)

        def agreed() -> bool:
            views = self._views()
            return len({view.version for view in views}) == 1 and self._see_each_other(names)

        took = self.world.wait(agreed, MEETING_S)
        views = self._views()
        if took is None:
            counts = ", ".join(f"{view.name} {view.operations}" for view in views)
            self._wrong(f"after {MEETING_S:g} s not all have the same operations: {counts}")
        elif since:
            self._say(f"{duration_text(took)} {since}all three have the same {views[0].operations} operations.")

    def _spread(self, writer: str, dot: Dot, names: Iterable[str]) -> None:
        """Wait until *names* have heard of a write, and say when each did."""
        others = [name for name in names if name != writer]

        def times() -> dict[str, int]:
            return {event.node: event.at_ms for event in self.world.heard() if event.dot == dot}

        self.world.wait(lambda: times().keys() >= {writer, *others}, MEETING_S)
        known = times()
        missing = [name for name in others if name not in known]
        if missing or writer not in known:
            self._wrong(f"{_and(missing or [writer])} did not hear of {dot} within {MEETING_S:g} s")
            return
        told = [f"{max(0, known[name] - known[writer])} ms later {name} has it" for name in others]
        self._say(f"{', '.join(told)}.", aside=True)

    # -- means

    def _chapter(self, title: str) -> None:
        self.chapters.append({"title": title, "at_ms": self.world.now_ms(), "sentences": []})
        self.stage.chapter(title)

    def _say(self, sentence: str, *, aside: bool = False) -> None:
        self.chapters[-1]["sentences"].append(sentence)
        self.stage.say(f"  {sentence}" if aside else sentence)

    def _wrong(self, sentence: str) -> None:
        text = f"Unexpected: {sentence}."
        self.unexpected.append(sentence)
        self.chapters[-1]["sentences"].append(text)
        self.stage.say(text, good=False)

    def _mark(self, text: str) -> None:
        self.marks.append((self.world.now_ms(), text))

    def _put(self, node: str, place: Place, value: Value, context: str | None = None) -> Dot:
        dot = self.world.put(node, place, value, context)
        self._say(f"{node} writes {_name(place)} = {as_text(value)}.")
        return dot

    def _views(self) -> list[View]:
        return [self.world.look(name, PLACES) for name in NAMES]

    def _looked(self, place: Place) -> dict[str, KeyRead]:
        return {name: self.world.look(name, (place,)).reads[place] for name in NAMES}

    def _policy(self, place: Place) -> str:
        """The policy that the nodes name."""
        return _and(sorted({found.resolver for found in self._looked(place).values()}))

    def _see_each_other(self, names: Iterable[str]) -> bool:
        names = set(names)
        views = [self.world.look(name, ()) for name in sorted(names)]
        return all(view.peers.get(peer) == "live" for view in views for peer in names - {view.name})

    def _sees_any(self, one: Iterable[str], other: Iterable[str]) -> bool:
        one, other = set(one), set(other)
        views = [self.world.look(name, ()) for name in sorted(one | other)]
        return any(view.peers.get(peer) == "live" for view in views for peer in (other if view.name in one else one))

    def _sights(self) -> str:
        told = []
        for view in (self.world.look(name, ()) for name in NAMES):
            seen = [name for name, state in sorted(view.peers.items()) if state == "live"]
            told.append(f"{view.name} sees {_and(seen) if seen else 'nobody'}")
        return ", ".join(told)

    def _rest(self, seconds: float) -> None:
        """A moment that belongs to the story: two writes that are not made at once. Left out when in a hurry."""
        self.world.sleep(seconds * self.pace * PACE, lambda: self.stage.show(self._views()))

    def _pause(self, seconds: float) -> None:
        """A moment for the reader."""
        self.stage.show(self._views())
        if self.pace:
            self._rest(seconds)


# -- words


def _name(place: Place) -> str:
    table, key = place
    return f"{table}/{key}" if table else key


def _and(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _took(ms: int, at_once: str) -> str:
    return at_once if ms == 0 else f"After {duration_text(ms)}"


def _origin(sibling: Found) -> str:
    return Dot.parse(sibling.dot).origin.name


def _shown(found: KeyRead) -> Found | None:
    shown = [sibling for sibling in found.siblings if sibling.shown]
    return shown[0] if len(shown) == 1 else None


def _siblings_text(found: KeyRead) -> str:
    return ", ".join(f"{as_text(sibling.value)} of {_origin(sibling)}" for sibling in found.siblings) or "none"


def _said(found: KeyRead) -> str:
    return as_text(found.value) if found.present else "nothing"


def _spread_text(reads: Mapping[str, KeyRead]) -> str:
    """Who reads what: "paris reads 1, tokyo and lima read 2"."""
    by_text: dict[str, list[str]] = {}
    for name, found in reads.items():
        by_text.setdefault(_said(found), []).append(name)
    return ", ".join(
        f"{_and(names)} {'reads' if len(names) == 1 else 'read'} {text}" for text, names in by_text.items()
    )


def _same(reads: Iterable[KeyRead]) -> bool:
    return not _differs(list(reads))


def _differs(reads: Sequence[KeyRead]) -> bool:
    """Whether they are not the same in value and siblings."""
    key: Callable[[KeyRead], Any] = lambda read: (read.present, read.value, read.siblings)  # noqa: E731
    return any(key(read) != key(reads[0]) for read in reads)
