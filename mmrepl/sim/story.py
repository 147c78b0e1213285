"""
The story of a failing seed: the line that reproduces it, what was violated, and the little that matters of the rest.

Of hundreds of operations and thousands of messages few have to do with a violation: the writes to its key, what the
node that shows it heard of them and from whom, what it read, what was done to it and to the network before. These are
picked out of the history, and drawn.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import evolve, frozen
from msgspec.structs import replace

from mmrepl.causality.dot import Dot
from mmrepl.sim.diagram import Diagram
from mmrepl.sim.history import Applied, Became, Did, Event, Forgiven, Jumped, Shown, Stopped, Wrote
from mmrepl.sim.mix import Options
from mmrepl.sim.rules import Violation
from mmrepl.sim.run import Run

EVENTS_MAX = 40
"""Of what matters, the last so many events before the violation are told."""

NO_KEY_MS = 1_500
"""Where no key is named, what the node did in so many milliseconds before matters."""

MESSAGES_MAX = 8

IN_ORDER = frozenset({
    "stamps_rise", "causal_order", "contiguous_logs", "vectors_grow", "acknowledged_truly", "monotonic_writes",
    "writes_follow_reads", "read_your_writes",
})  # fmt: skip
"""Checkers of the order in which a node does things: to which key it does them does not matter."""


@frozen
class Story:
    """What is told of one run. ``str`` is all of it."""

    command: str
    violations: tuple[Violation, ...]
    diagram: Diagram | None
    messages: tuple[str, ...] = ()  # lines of the trace: the last messages that the node had before

    def __str__(self) -> str:
        lines = [self.command]
        lines += [f"  {violation}" for violation in self.violations]
        if self.diagram is not None:
            lines += ["", str(self.diagram)]
        if self.messages:
            lines += ["", "the messages before it:", *self.messages]
        return "\n".join(lines)


def tell(seed: int, options: Options | None = None) -> Story:
    """Run a seed once more, and tell what came of it: of the first violation, or, if there is none, of everything."""
    run = Run(seed, options)
    outcome = run.go(guarded=True)
    principal = outcome.principal
    if principal is None:
        return Story(outcome.command, (), run.cluster.diagram())
    return Story(outcome.command, outcome.violations, _drawn(run, principal), _messages(run, principal))


def _drawn(run: Run, violation: Violation) -> Diagram:
    history = evolve(run.cluster.history, events=list(matters(run.cluster.history.events, violation)))
    return Diagram.of(run.cluster.names, history, width=120)


def matters(events: list[Event], violation: Violation) -> Iterator[Event]:
    """The events of a history that have to do with a violation: the last of them, in their order."""
    subject = _Subject(events, violation)
    chosen = [part for event in events if subject.is_in_time(event) for part in subject.parts(event)]
    # First those of the dots that are named, then other writes and reads of the key, then the latest of the rest.
    ranked = sorted(
        enumerate(chosen),
        key=lambda one: (_dot(one[1]) not in subject.named, not isinstance(one[1], Wrote | Shown), -one[0]),
    )
    yield from (event for _, event in sorted(ranked[:EVENTS_MAX], key=lambda one: one[0]))


class _Subject:
    """What a violation is about: a key, if it is one of those that are; the dots that it names; its node."""

    def __init__(self, events: list[Event], violation: Violation) -> None:
        writes = [event for event in events if isinstance(event, Wrote)]
        self.node = violation.node
        self.place = violation.place if violation.checker not in IN_ORDER else None
        self.named = {event.dot for event in writes if _names(violation, event.dot)}
        self.dots = {event.dot for event in writes if event.place == self.place} | self.named
        self.until = _until(events, violation)
        self.since = self.until - NO_KEY_MS
        if self.dots:
            self.since = min(self.since, *(event.at_ms for event in writes if event.dot in self.dots))

    def is_in_time(self, event: Event) -> bool:
        """Whether it happened early enough to have led to it, and not too early to matter."""
        return self.since <= _at(event) <= self.until

    def parts(self, event: Event) -> Iterator[Event]:
        """The event, if it matters; of many operations that were applied at once, those that do."""
        here = not self.node or getattr(event, "node", self.node) == self.node
        late = _at(event) >= self.until - NO_KEY_MS
        if isinstance(event, Applied):
            dots = {Dot(event.origin, counter) for counter in range(event.first, event.last + 1)}
            if self.place is None and here and late:
                yield event
            else:
                yield from (replace(event, first=dot.counter, last=dot.counter) for dot in sorted(dots & self.dots))
        elif isinstance(event, Wrote):
            if event.dot in self.dots or (self.place is None and here and late):
                yield event
        elif isinstance(event, Shown):
            if here and event.place == self.place:
                yield event
        elif isinstance(event, Jumped | Became | Stopped | Forgiven):
            if here:
                yield event
        elif isinstance(event, Did):
            yield event


def _dot(event: Event) -> Dot | None:
    if isinstance(event, Wrote):
        return event.dot
    return Dot(event.origin, event.first) if isinstance(event, Applied) else None


def _names(violation: Violation, dot: Dot) -> bool:
    """Whether the text of a violation names that dot."""
    at = violation.text.find(str(dot))
    return at >= 0 and not violation.text[at + len(str(dot)) : at + len(str(dot)) + 1].isdigit()


def _messages(run: Run, violation: Violation) -> tuple[str, ...]:
    """What came to the node that shows it, last of all."""
    events = run.cluster.history.events
    until = run.cluster.now_ms if violation.checker == "quiet" else _until(events, violation)
    told: list[str] = []
    for line in reversed(run.cluster.trace.lines):
        if len(told) == MESSAGES_MAX:
            break
        told_to = line.node == violation.node or not violation.node
        if line.at_ms <= until and told_to and line.what == "got" and line.rest[1] != "Digest":
            told.append(f"{line.at_ms:>7}  {line.node} got a {' '.join(map(str, line.rest[1:]))} from {line.rest[0]}")
    return tuple(reversed(told))


def _until(events: list[Event], violation: Violation) -> int:
    """When it had happened; of what was only seen in the end: when something last did."""
    happened = (event.at_ms for event in events if isinstance(event, Wrote | Applied | Jumped | Stopped | Became | Did))
    last = max(happened, default=0)
    return (
        min(violation.at_ms, last) if violation.at_ms >= 0 and not violation.node else max(violation.at_ms, 0) or last
    )


def _at(event: Event) -> int:
    return getattr(event, "at_ms", -1)
