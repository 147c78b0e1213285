"""
Checkers: outside the system, they read a history and know nothing else.

Each is a function from a `History` to the violations that it finds. The rules by which they judge are few and plain:

- A write is *overwritten* by a write to the same key whose context covers its dot, and by nothing else. So what lives
  at a node is a function of the writes that it has applied: all that none of the others has seen.
- Tombstones, and losers under a resolver that only selects, may be forgotten once everybody has them. So less than
  that may be shown; never another value, and never more.
- What was acknowledged must be there or overwritten, unless a disk lost it that nobody else had a copy of. What was
  not acknowledged may be there or not.

`check_all` runs all of them. Cost: proportional to the history; times the writes of a key where states are computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from mmrepl.causality.dot import Dot
from mmrepl.causality.version_vector import EMPTY, VersionVector
from mmrepl.resolvers.sibling import value_text
from mmrepl.sim.history import (
    Acknowledged,
    Answered,
    Applied,
    Became,
    Final,
    Forgiven,
    History,
    Jumped,
    Persisted,
    Place,
    Queues,
    Quiet,
    Shown,
    Wrote,
)
from mmrepl.sim.rules import (
    Content,
    Rules,
    Siblings,
    Violation,
    content_text,
    lacking_text,
    place_text,
    siblings_text,
    value_at,
)
from mmrepl.sim.sessions import (
    include,
    monotonic_reads,
    monotonic_writes,
    read_your_writes,
    writes_follow_reads,
)
from mmrepl.types import NodeId

Checker: TypeAlias = Callable[[History], list[Violation]]


def convergence(history: History) -> list[Violation]:
    """In the end all nodes have applied the same, and show the same: live dots, stamps, bytes, and what is read."""
    finals = history.finals()
    found: list[Violation] = []
    for other in finals[1:]:
        first = finals[0]
        if first.version != other.version:
            text = f"{other.node} has applied {other.version}, {first.node} {first.version}"
            found.append(Violation("convergence", text, node=other.node))
        for place in sorted(first.siblings.keys() | other.siblings.keys()):
            if first.payloads.get(place) != other.payloads.get(place):
                text = (
                    f"{place_text(place)} reads {value_at(other.payloads, place)} at {other.node}"
                    f" and {value_at(first.payloads, place)} at {first.node}"
                )
                found.append(Violation("convergence", text, node=other.node, place=place))
            elif _values(history, first, place) != _values(history, other, place):
                text = (
                    f"{place_text(place)} has {siblings_text(other.siblings.get(place, ()))} at {other.node}"
                    f" and {siblings_text(first.siblings.get(place, ()))} at {first.node}"
                )
                found.append(Violation("convergence", text, node=other.node, place=place))
    return found


def no_lost_update(history: History) -> list[Violation]:
    """Every acknowledged write is live in the end, was overwritten by one that had seen it, or lost to it by policy."""
    return [violation for violation in history.once(_judge_finals) if violation.checker == "no_lost_update"]


def no_zombie(history: History) -> list[Violation]:
    """What was overwritten or deleted by a write that had seen it stays dead, everywhere."""
    return [violation for violation in history.once(_judge_finals) if violation.checker == "no_zombie"]


def exact_reads(history: History) -> list[Violation]:
    """Every single read shows what follows from the writes that its node had applied: neither more nor less."""
    rules = history.once(Rules)
    found: list[Violation] = []
    for index, event in enumerate(history.events):
        if isinstance(event, Shown):
            expected = rules.live(event.place, event.version, event.node, index)
            problem = rules.compare(event.place, event.siblings, expected)
            if problem is not None:
                found.append(Violation("exact_reads", problem[1], event.at_ms, event.node, event.place))
    return found


def one_content(history: History) -> list[Violation]:
    """
    No dot has two contents among those who were told of it, nor one that nobody wrote.

    A dot that was minted, never sent, and forgotten with its process may be minted again.
    """
    told: dict[Dot, Content] = {}
    written: dict[Dot, set[Content]] = {}
    found: list[Violation] = []
    for event in history.among(Wrote, Applied):
        if isinstance(event, Wrote):
            written.setdefault(event.dot, set()).add((event.place, event.stamp, event.payload))
        elif isinstance(event, Applied):
            for counter, place, stamp, payload in event.contents:
                dot, content = Dot(event.origin, counter), (place, stamp, payload)
                before = told.setdefault(dot, content)
                if before != content:
                    text = f"{dot} is {content_text(before)} and {content_text(content)}"
                    found.append(Violation("one_content", text, event.at_ms, event.node, place))
                elif content not in written.get(dot, ()):
                    text = f"{dot} is {content_text(content)}, which nobody wrote"
                    found.append(Violation("one_content", text, event.at_ms, event.node, place))
    return found


def minted_once(history: History) -> list[Violation]:
    """A dot that somebody was told of, who may give its context back, is never minted again."""
    answered: set[Dot] = set()
    found: list[Violation] = []
    for event in history.among(Answered, Acknowledged, Wrote):
        if isinstance(event, Answered | Acknowledged):
            answered.add(event.dot)
        elif isinstance(event, Wrote) and event.dot in answered:
            text = f"{event.dot} was minted again, and the writer of the first one holds its context"
            found.append(Violation("minted_once", text, event.at_ms, event.node, event.place))
    return found


def contiguous_logs(history: History) -> list[Violation]:
    """A node applies the operations of an origin one after the other, without a gap and none twice."""
    found: list[Violation] = []
    heads: dict[str, dict[NodeId, int]] = {}
    for event in history.among(Applied, Wrote, Became, Jumped):
        if isinstance(event, Applied):
            origin, first, last = event.origin, event.first, event.last
        elif isinstance(event, Wrote):
            origin, first = event.dot
            last = first
        else:
            if isinstance(event, Became | Jumped):
                heads[event.node] = dict(event.version.counters)
            continue
        ours = heads.setdefault(event.node, {})
        head = ours.get(origin, 0)
        if first != head + 1:
            text = f"applied {origin}:{first} after {origin}:{head}"
            found.append(Violation("contiguous_logs", text, event.at_ms, event.node))
        ours[origin] = last
    return found


def vectors_grow(history: History) -> list[Violation]:
    """What a node has never shrinks: over a snapshot not at all, over a restart by no more than was not yet durable."""
    found: list[Violation] = []
    now: dict[str, dict[NodeId, int]] = {}
    durable: dict[str, VersionVector] = {}
    excused: set[str] = set()
    for event in history.events:
        if isinstance(event, Persisted):
            durable[event.node] = event.version
        elif isinstance(event, Applied):
            include(now, event.node, event.origin, event.last)
        elif isinstance(event, Wrote):
            include(now, event.node, *event.dot)
        elif isinstance(event, Forgiven):
            excused.add(event.node)
        elif isinstance(event, Jumped):
            before = VersionVector(now.get(event.node, {}))
            if not event.version.descends(before):
                text = f"a snapshot took it from {before} back to {event.version}"
                found.append(Violation("vectors_grow", text, event.at_ms, event.node))
            now[event.node] = dict(event.version.counters)
        elif isinstance(event, Became):
            floor = durable.get(event.node, EMPTY)
            if event.why != "started over" and event.node not in excused and not event.version.descends(floor):
                text = f"had {floor} on disk and came back with {event.version}"
                found.append(Violation("vectors_grow", text, event.at_ms, event.node))
            excused.discard(event.node)
            durable[event.node] = event.version
            now[event.node] = dict(event.version.counters)
    return found


def causal_order(history: History) -> list[Violation]:
    """A node applies a write only after all that its writer had applied before writing it."""
    found: list[Violation] = []
    before: dict[Dot, VersionVector] = {}
    now: dict[str, dict[NodeId, int]] = {}
    for event in history.among(Applied, Wrote, Became, Jumped):
        if isinstance(event, Applied):
            vector = now.setdefault(event.node, {})
            for counter in range(event.first, event.last + 1):
                needs = before.get(Dot(event.origin, counter), EMPTY).counters
                missing = {o: (vector.get(o, 0) + 1, n) for o, n in needs.items() if n > vector.get(o, 0)}
                missing.pop(event.origin, None)
                if missing:
                    text = f"applied {event.origin}:{counter} without {lacking_text(missing)}"
                    found.append(Violation("causal_order", text, event.at_ms, event.node))
                vector[event.origin] = counter
        elif isinstance(event, Wrote):
            before[event.dot] = event.before
            now.setdefault(event.node, {})[event.dot.origin] = event.dot.counter
        elif isinstance(event, Became):
            now[event.node] = dict(event.version.counters)
        elif isinstance(event, Jumped):
            now[event.node] = dict(event.version.counters)
            for origin, last in event.version.items():
                lacking = event.version.lacks(before.get(Dot(origin, last), EMPTY))
                if lacking:
                    text = f"a snapshot brought {origin}:{last} without {lacking_text(lacking)}"
                    found.append(Violation("causal_order", text, event.at_ms, event.node))
    return found


def stamps_rise(history: History) -> list[Violation]:
    """
    What a node writes is stamped later than all that it has written before, and than what this run of it has applied.

    Not what it makes again. Over a restart the stamps of what was dead when it came may be forgotten.
    """
    found: list[Violation] = []
    stamps: dict[Dot, int] = {}
    highest: dict[str, int] = {}
    for event in history.among(Became, Applied, Wrote):
        if isinstance(event, Became):
            own = [s for dot, s in stamps.items() if dot.origin.name == event.node and event.version.covers(dot)]
            highest[event.node] = max(own, default=0)
        elif isinstance(event, Applied):
            newest = max((stamp for _, _, stamp, _ in event.contents), default=0)
            highest[event.node] = max(highest.get(event.node, 0), newest)
        elif isinstance(event, Wrote):
            stamps[event.dot] = event.stamp
            if event.session and event.stamp <= highest.get(event.node, 0):
                text = f"{event.dot} is stamped {event.stamp}, and the node had seen {highest[event.node]}"
                found.append(Violation("stamps_rise", text, event.at_ms, event.node, event.place))
            highest[event.node] = max(highest.get(event.node, 0), event.stamp)
    return found


def no_far_future(history: History) -> list[Violation]:
    """No node applies an operation whose stamp is further ahead of its own clock than is allowed."""
    found: list[Violation] = []
    for event in history.events:
        if isinstance(event, Applied) and event.wall_ms is not None:
            for counter, _, stamp, _ in event.contents:
                ahead = (stamp >> 16) - max(0, event.wall_ms)
                if ahead > history.max_drift_ms:
                    text = f"applied {event.origin}:{counter}, stamped {ahead} ms ahead of its clock"
                    found.append(Violation("no_far_future", text, event.at_ms, event.node))
    return found


def acknowledged_truly(history: History) -> list[Violation]:
    """Nobody is told that a write is durable at more members than it is."""
    return [
        Violation("acknowledged_truly", f"{event.dot} was acknowledged by {event.wanted}, and is on the disks of"
                  f" {event.holders}", event.at_ms, event.node)
        for event in history.events
        if isinstance(event, Acknowledged) and event.holders < event.wanted
    ]  # fmt: skip


def bounded_queues(history: History) -> list[Violation]:
    """What waits stays within its limits, and one message on top: that it does not fit is seen when it is there."""
    found: list[Violation] = []
    for event in history.events:
        if isinstance(event, Queues):
            if event.held_bytes > event.held_limit:
                text = f"held {event.held_bytes} bytes of early deltas, {event.held_limit} are allowed"
                found.append(Violation("bounded_queues", text, node=event.node))
            if event.outbound_bytes > event.outbound_limit:
                text = f"{event.outbound_bytes} bytes were sent and had not arrived, {event.outbound_limit} are allowed"
                found.append(Violation("bounded_queues", text, node=event.node))
    return found


def quiet(history: History) -> list[Violation]:
    """When nothing is new, nothing is sent but heartbeats."""
    found: list[Violation] = []
    for event in history.events:
        if isinstance(event, Quiet):
            beats = 2 * event.link_count * (event.during_ms // event.heartbeat_ms + 2)
            chatter = {name: count for name, count in sorted(event.messages.items()) if name != "Digest"}
            if chatter:
                text = f"{chatter} in {event.during_ms} ms in which nothing was new"
                found.append(Violation("quiet", text))
            if event.messages.get("Digest", 0) > beats:
                text = f"{event.messages['Digest']} digests in {event.during_ms} ms; {beats} heartbeats were due"
                found.append(Violation("quiet", text))
    return found


CHECKERS: Mapping[str, Checker] = {
    checker.__name__: checker
    for checker in (
        convergence, no_lost_update, no_zombie, exact_reads, one_content, minted_once, contiguous_logs, vectors_grow,
        causal_order, stamps_rise,
        no_far_future,
        acknowledged_truly, read_your_writes, monotonic_reads, monotonic_writes, writes_follow_reads, bounded_queues,
        quiet,
    )
}  # fmt: skip
"""All checkers, by name."""


def check_all(history: History, only: Iterable[str] | None = None) -> list[Violation]:
    """What the checkers find (all of them, or those of these names), at most five violations each."""
    found: list[Violation] = []
    for name, checker in CHECKERS.items():
        if only is None or name in only:
            found += checker(history)[:5]
    return found


# -- the end state


def _judge_finals(history: History) -> list[Violation]:
    rules = history.once(Rules)
    found: list[Violation] = []
    finals = history.finals()
    alive: dict[VersionVector, dict[Place, list[Wrote]]] = {}  # once for all that have the same
    right: list[Final] = []  # whoever shows the same is as right
    for final in finals:
        if any((other.version, other.siblings) == (final.version, final.siblings) for other in right):
            continue
        expected, count = alive.setdefault(final.version, {}), len(found)
        for place in sorted(set(rules.places) | final.siblings.keys()):
            if place not in expected:
                expected[place] = rules.live(place, final.version)
            problem = rules.compare(place, final.siblings.get(place, ()), expected[place])
            if problem is not None:
                found.append(Violation(problem[0], problem[1], node=final.node, place=place))
        if len(found) == count:
            right.append(final)
    for write in rules.gone(finals[0].version) if finals else ():
        name, value = place_text(write.place), value_text(write.payload, "deleted")
        text = f"{write.dot} = {value} of {name} was acknowledged and is gone"
        found.append(Violation("no_lost_update", text, write.at_ms, write.node, write.place))
    return found


def _values(history: History, final: Final, place: Place) -> Siblings:
    """The siblings of a key that cannot have been forgotten: its values, where the resolver does not select."""
    if history.selects(place[0]):
        return ()
    return tuple(entry for entry in final.siblings.get(place, ()) if entry[2] is not None)
