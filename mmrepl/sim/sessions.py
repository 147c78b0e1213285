"""
Session guarantees, checked for sessions that stay at a node.

Read your writes, monotonic reads, monotonic writes, writes follow reads: Terry, Demers et al., "Session Guarantees for
Weakly Consistent Replicated Data", 1994. A session ends with the life of its node: what was read there and had not
reached the disk may be gone afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable

from mmrepl.causality.dot import Dot
from mmrepl.causality.version_vector import EMPTY, VersionVector
from mmrepl.sim.history import Applied, Became, History, Jumped, Place, Shown, Stopped, Wrote
from mmrepl.sim.rules import Violation
from mmrepl.types import NodeId


def read_your_writes(history: History) -> list[Violation]:
    """A session's read at its node comes after all that the session has written there."""
    found: list[Violation] = []
    for written, shown in _sessions(history):
        for dot in written:
            if not shown.version.covers(dot):
                text = f"session {shown.session} wrote {dot}, and a later read of its had not seen it"
                found.append(Violation("read_your_writes", text, shown.at_ms, shown.node, shown.place))
                break
    return found


def _sessions(history: History) -> Iterable[tuple[list[Dot], Shown]]:
    """Each read with what its session had written before. A session ends with the life of its node."""
    written: dict[tuple[str, int], list[Dot]] = {}
    for event in history.among(Wrote, Shown, Stopped, Became):
        if isinstance(event, Stopped | Became):
            for key in [key for key in written if key[0] == event.node]:
                del written[key]
        elif isinstance(event, Wrote) and event.session:
            written.setdefault((event.node, event.session), []).append(event.dot)
        elif isinstance(event, Shown) and event.session:
            yield written.get((event.node, event.session), []), event


def monotonic_reads(history: History) -> list[Violation]:
    """What a session has seen at its node stays seen, and what it saw overwritten does not come back."""
    found: list[Violation] = []
    last: dict[tuple[str, int], VersionVector] = {}
    shown: dict[tuple[str, int, Place], tuple[set[Dot], set[Dot]]] = {}
    for event in history.among(Shown, Stopped, Became):
        if isinstance(event, Stopped | Became):
            for key in [key for key in last if key[0] == event.node]:
                del last[key]
            for place_key in [key for key in shown if key[0] == event.node]:
                del shown[place_key]
        elif isinstance(event, Shown) and event.session:
            key = (event.node, event.session)
            if not event.version.descends(last.get(key, EMPTY)):
                text = f"session {event.session} had seen {last[key]}, and then only {event.version}"
                found.append(Violation("monotonic_reads", text, event.at_ms, event.node, event.place))
            last[key] = event.version
            dots = {dot for dot, _, _ in event.siblings}
            before, gone = shown.get((*key, event.place), (set(), set()))
            gone = gone | (before - dots)
            if dots & gone:
                text = f"session {event.session} saw {min(dots & gone)} go, and come back"
                found.append(Violation("monotonic_reads", text, event.at_ms, event.node, event.place))
            shown[*key, event.place] = (dots, gone)
    return found


def monotonic_writes(history: History) -> list[Violation]:
    """What a session wrote at its node is applied everywhere in the order in which it was written."""
    return _follows(history, "monotonic_writes", reads=False)


def writes_follow_reads(history: History) -> list[Violation]:
    """What a session wrote is applied everywhere only after what it had read before."""
    return _follows(history, "writes_follow_reads", reads=True)


def _follows(history: History, name: str, *, reads: bool) -> list[Violation]:
    needs: dict[Dot, VersionVector] = {}
    seen: dict[tuple[str, int], VersionVector] = {}
    now: dict[str, dict[NodeId, int]] = {}
    found: list[Violation] = []
    for event in history.among(Applied, Wrote, Shown, Jumped, Became, Stopped):
        if isinstance(event, Applied):
            have = now.setdefault(event.node, {})
            for counter in range(event.first, event.last + 1):
                need = needs.get(Dot(event.origin, counter), EMPTY)
                if any(have.get(origin, 0) < needed for origin, needed in need.counters.items()):
                    text = (
                        f"applied {event.origin}:{counter}, and not yet all that its session had"
                        f" {'read' if reads else 'written'} before"
                    )
                    found.append(Violation(name, text, event.at_ms, event.node))
                include(now, event.node, event.origin, counter)
            continue
        if isinstance(event, Stopped | Became):
            for key in [key for key in seen if key[0] == event.node]:
                del seen[key]
        if isinstance(event, Became | Jumped):
            now[event.node] = dict(event.version.counters)
        elif isinstance(event, Shown) and event.session and reads:
            key = (event.node, event.session)
            seen[key] = seen.get(key, EMPTY).join(event.version)
        elif isinstance(event, Wrote):
            if event.session:
                key = (event.node, event.session)
                needs[event.dot] = seen.get(key, EMPTY)
                if not reads:
                    seen[key] = seen.get(key, EMPTY).including(event.dot)
            else:
                needs.pop(event.dot, None)  # the session's write under this dot was never told of, and is forgotten
            include(now, event.node, *event.dot)
    return found


def include(now: dict[str, dict[NodeId, int]], node: str, origin: NodeId, counter: int) -> None:
    """*node* has everything of *origin* up to *counter* from now on."""
    have = now.setdefault(node, {})
    if counter > have.get(origin, 0):
        have[origin] = counter
