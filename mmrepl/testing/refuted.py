"""
What a check finds out: that something is refuted, or what was tried without refuting it.

A refutation is told to somebody who has a failing test in front of them: what is wrong in one sentence, the smallest
history that shows it, both answers as bytes, a test to paste, and the mend that is usually needed. All of it is in the
message, and each part is an attribute.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define, field, frozen

from mmrepl.errors import MmreplError
from mmrepl.resolvers.sibling import value_text
from mmrepl.testing.history import Step


@define(kw_only=True)
class Fault:
    """What is wrong with a merge function, as far as a single play of a history tells."""

    kind: str  # one of `mmrepl.testing.mends.MENDS`
    sentence: str
    mend: str  # what is usually needed
    answers: tuple[tuple[str, bytes | None], ...] = ()  # who answered, and what
    given: tuple[str, ...] = ()  # what it was given, for people
    remark: str = ""  # what else helps to understand it


class Refuted(MmreplError, AssertionError):
    """
    Something does not keep what it must. The message tells the whole story; its parts are attributes.

    ``kind`` is a word for what is wrong, ``sentence`` says it, ``diagram`` shows the smallest history found,
    ``answers`` holds pairs of who answered and the bytes, ``regression`` is the source of a test, ``mend`` the
    usual remedy.
    """

    def __init__(self, fault: Fault, diagram: str, regression: str) -> None:
        self.kind = fault.kind
        self.sentence = fault.sentence
        self.mend = fault.mend
        self.answers = fault.answers
        self.given = fault.given
        self.diagram = diagram
        self.regression = regression
        super().__init__(_told(fault, diagram, regression))


class ResolverRefuted(Refuted):
    """A resolver does not keep what a resolver must. ``history`` holds the steps of the smallest history found."""

    def __init__(self, fault: Fault, diagram: str, regression: str, history: Sequence[Step]) -> None:
        super().__init__(fault, diagram, regression)
        self.history = tuple(history)


class MergeRefuted(Refuted):
    """A function of two values breaks a law of merging. ``values`` are the smallest values that show it."""

    def __init__(self, fault: Fault, diagram: str, regression: str, values: Sequence[object]) -> None:
        super().__init__(fault, diagram, regression)
        self.values = tuple(values)


@frozen
class Checked:
    """What was tried, without refuting it. Its ``str`` is a report for people."""

    name: str  # of what was checked
    plays: int  # histories, or groups of values
    questions: int  # how many different groups of values the function was asked about
    notes: tuple[str, ...] = field(default=())  # what was not checked, and why

    def __str__(self) -> str:
        lines = [f"{self.name}: {self.plays} histories, {self.questions} different groups of values, nothing found"]
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])


def _told(fault: Fault, diagram: str, regression: str) -> str:
    parts = [fault.sentence]
    if diagram:
        parts.append(_indented(diagram))
    if fault.answers:
        parts.append("\n".join(_answers(fault.answers)))
    elif fault.given:
        parts.append("it was given:\n" + _indented("\n".join(fault.given)))
    if fault.remark:
        parts.append(fault.remark)
    parts += ["What usually mends it: " + fault.mend, "A regression test to paste:\n\n" + _indented(regression)]
    return "\n\n".join(parts)


def _answers(answers: Sequence[tuple[str, bytes | None]]) -> list[str]:
    width = max(len(who) for who, _ in answers)
    lines = []
    for who, payload in answers:
        lines.append(f"  {who:<{width}}  {value_text(payload, 'absent')}")
        if payload is not None:
            shown = payload.hex(" ") if len(payload) <= 32 else f"{payload[:32].hex(' ')} … ({len(payload)} bytes)"
            lines.append(f"  {'':<{width}}  {shown}")
    return lines


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in text.split("\n"))
