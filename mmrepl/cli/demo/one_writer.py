"""
The other mode's chapters: the same partition under one writer at a time, and what it costs.

As in `mmrepl.cli.demo.story`, only the deeds are decided beforehand; what came of them is what the nodes answered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from attrs import define, field

from mmrepl.cli.demo.world import NAMES, Stage, View
from mmrepl.cli.values import as_text
from mmrepl.clock.instants import duration_text
from mmrepl.errors import MmreplError
from mmrepl.types import Value

KEY = "greeting"

MEETING_S = 10.0
"""What has not happened by then is a failure."""


class OneWriterWorld(Protocol):
    """Three nodes of a single-master cluster, elected leader, and the network between them."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """How it was made, for programs."""

    def begin(self) -> Sequence[str]:
        """Start the nodes; returns sentences that say how."""

    def close(self) -> None:
        """End everything that was started. Idempotent."""

    def now_ms(self) -> int:
        """Milliseconds since the demo began."""

    def put(self, node: str, key: str, value: Value, *, alone: bool) -> None:
        """Write, and wait for a quorum, or *alone* only for the node itself. Errors are the node's."""

    def look(self, node: str, key: str) -> View:
        """A node as it is now, and what it has applied for a key."""

    def cut(self, one: Sequence[str], other: Sequence[str]) -> None:
        """Let nodes of the two sides no longer hear each other."""

    def heal(self) -> None:
        """Let all hear each other again."""

    def wait(self, condition: Callable[[], bool], seconds: float) -> int | None:
        """Let time pass until *condition* holds; how many milliseconds that took, None if it never did."""

    def sleep(self, seconds: float, meanwhile: Callable[[], None]) -> None:
        """Let time pass for the one who watches."""

    def branches(self, node: str) -> Sequence[Mapping[str, Any]]:
        """What was cut off the node's log: rows with ``branch``, ``writes`` and ``keys``."""

    def merge(self, node: str, branch: str) -> Mapping[str, Any]:
        """Merge a branch, both values of a key as siblings; rows ``written`` and ``skipped``."""


@define
class OneWriter:
    """Tells itself in a world, on a stage; *pace* as of the story, 0 leaves the pauses out."""

    world: OneWriterWorld
    stage: Stage
    pace: float = 1.0
    chapters: list[dict[str, Any]] = field(init=False, factory=list)
    unexpected: list[str] = field(init=False, factory=list)
    _old: str = field(init=False, default="")
    _new: str = field(init=False, default="")
    _cut_ms: int = field(init=False, default=0)
    _refused: int = field(init=False, default=0)
    _headless_ms: int = field(init=False, default=0)
    _lost: int = field(init=False, default=0)
    _went_on: bool = field(init=False, default=False)  # whether the old leader took a write while it was alone

    def tell(self) -> bool:
        """All of it; whether everything was as promised."""
        try:
            self._meet()
            self._cut()
            self._heal()
        except MmreplError as error:
            self._wrong(f"it could not go on: {error}")
        return not self.unexpected

    # -- chapters

    def _meet(self) -> None:
        self._chapter("The other mode: one writer at a time")
        for sentence in self.world.begin():
            self._say(sentence)
        took = self._await(lambda: self._leader() != "" and self._all_follow(self._leader()))
        self._old = self._leader()
        if took is None or not self._old:
            self._wrong(f"after {MEETING_S:g} s there is no leader that all follow: {self._roles()}")
            return
        self._say(f"They elect {self._old}, in term {self._look(self._old).term}: it alone takes writes.")
        self._put(self._old, "bonjour")
        self._await(lambda: len({self._read(name) for name in NAMES}) == 1)
        self._say(f"{self._spread()}.", aside=True)
        self._try(self._other(), "hello")
        self._pause(0.7)

    def _cut(self) -> None:
        if not self._old:
            return
        self._chapter("The same cut, and what it costs")
        others = [name for name in NAMES if name != self._old]
        self.world.cut([self._old], others)
        self._cut_ms = self.world.now_ms()
        self._say(f"{self._old} can no longer hear {' and '.join(others)}.")
        self._went_on = self._try(self._old, "salut", alone=True)
        if self._went_on:
            self._say(
                f"{self._old} has not noticed yet, and its writer did not want to wait for the others.", aside=True
            )
        self._try(others[0], "hola")
        took = self._await(lambda: self._leader(others) != "")
        if took is None:
            self._wrong(f"after {MEETING_S:g} s the others have no leader: {self._roles()}")
            return
        self._new = self._leader(others)
        self._headless_ms = self.world.now_ms() - self._cut_ms
        term = self._look(self._new).term
        self._say(
            f"{duration_text(self._headless_ms)} after the cut the others have elected {self._new}, in term {term}."
        )
        self._put(self._new, "hola")
        took = self._await(lambda: self._look(self._old).role != "leader")
        if took is None:
            self._wrong(f"{self._old} still believes that it leads")
        self._say(f"{self._old}, which no quorum answers, has left its office.")
        self._try(self._old, "coucou", alone=True)
        self._say(f"Now {self._spread()}.")
        self._pause(0.7)

    def _heal(self) -> None:
        if not self._new:
            return
        self._chapter("The same heal")
        self.world.heal()
        healed = self.world.now_ms()
        took = self._await(lambda: self._all_follow(self._leader()) and len({self._read(n) for n in NAMES}) == 1)
        if took is None:
            self._wrong(f"after {MEETING_S:g} s they do not agree: {self._spread()}")
            return
        self._say(f"{duration_text(self.world.now_ms() - healed)} after the heal {self._spread()}.")
        kept = list(self.world.branches(self._old))
        self._lost = sum(int(row["writes"]) for row in kept)
        if self._went_on and not kept:
            self._wrong(f"{self._old} had taken a write that nobody else has, and keeps no branch")
            return
        for row in kept:
            self._say(
                f"What {self._old} had taken alone was cut off its log, and is kept there as branch {row['branch']}: "
                f"{_count(int(row['writes']), 'write')}."
            )
            merged = self.world.merge(self._old, str(row["branch"]))
            self._say(f"Somebody merges it, as siblings: {_count(int(merged['written']), 'key')} written.")
        self._await(lambda: len({self._read(name) for name in NAMES}) == 1)
        if left := self.world.branches(self._old):
            self._wrong(f"{_count(len(left), 'branch')} left, though it was merged")
        if kept:
            self._say(f"Now {self._spread()}.")
        self._say(
            f"The price of one writer: for {duration_text(self._headless_ms)} nobody on the larger side could write, "
            f"{_count(self._refused, 'write')} {_was(self._refused)} refused, and "
            f"{_count(self._lost, 'acknowledged write')} {_was(self._lost)} cut off until somebody merged."
        )
        self._pause(0.7)

    # -- means

    def _chapter(self, title: str) -> None:
        self.chapters.append({"title": title, "at_ms": self.world.now_ms(), "sentences": []})
        self.stage.chapter(title)

    def _say(self, sentence: str, *, aside: bool = False) -> None:
        self.chapters[-1]["sentences"].append(sentence)
        self.stage.say(f"  {sentence}" if aside else sentence)

    def _wrong(self, sentence: str) -> None:
        self.unexpected.append(sentence)
        self.chapters[-1]["sentences"].append(f"Unexpected: {sentence}.")
        self.stage.say(f"Unexpected: {sentence}.", good=False)

    def _put(self, node: str, value: str) -> None:
        """A write that has to be taken: errors end the tale."""
        self.world.put(node, KEY, value, alone=False)
        self._say(f"{node} writes {KEY} = {as_text(value)}, and a quorum has it.")

    def _try(self, node: str, value: str, *, alone: bool = False) -> bool:
        """A write that may be refused: whether it was taken. What comes of it is told."""
        try:
            self.world.put(node, KEY, value, alone=alone)
        except MmreplError as error:
            self._refused += 1
            self._say(f"{node} refuses {KEY} = {as_text(value)}: {str(error).rstrip('.')}.")
            return False
        self._say(f"{node} takes {KEY} = {as_text(value)}{', alone' if alone else ''}.")
        return True

    def _look(self, name: str) -> View:
        return self.world.look(name, KEY)

    def _leader(self, names: Sequence[str] = NAMES) -> str:
        """Who leads in the highest term, of these."""
        views = [view for view in map(self._look, names) if view.role == "leader"]
        return max(views, key=lambda view: view.term).name if views else ""

    def _all_follow(self, leader: str) -> bool:
        views = [self._look(name) for name in NAMES]
        return leader != "" and len({view.term for view in views}) == 1 and all(view.leader == leader for view in views)

    def _other(self) -> str:
        return next(name for name in NAMES if name != self._old)

    def _read(self, name: str) -> str:
        read = self._look(name).reads["", KEY]
        return as_text(read.value) if read.present else "nothing"

    def _spread(self) -> str:
        """Who reads what."""
        by_text: dict[str, list[str]] = {}
        for name in NAMES:
            by_text.setdefault(self._read(name), []).append(name)
        return ", ".join(
            f"{' and '.join(names) if len(names) < len(NAMES) else 'each of the three'} "
            f"{'read' if 1 < len(names) < len(NAMES) else 'reads'} {text}"
            for text, names in by_text.items()
        )

    def _roles(self) -> str:
        return ", ".join(f"{view.name} is {view.role} in term {view.term}" for view in map(self._look, NAMES))

    def _await(self, condition: Callable[[], bool]) -> int | None:
        return self.world.wait(condition, MEETING_S)

    def _pause(self, seconds: float) -> None:
        views = [self._look(name) for name in NAMES]
        self.stage.show(views)
        if self.pace:
            self.world.sleep(seconds * self.pace, lambda: self.stage.show([self._look(name) for name in NAMES]))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _was(number: int) -> str:
    return "was" if number == 1 else "were"
