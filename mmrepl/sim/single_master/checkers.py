"""
Checkers of the single-master mode: outside the system, they read a history and know nothing else.

Election safety, log matching, leader completeness and state machine safety are the properties of figure 3 of the Raft
paper (Ongaro & Ousterhout, 2014); that what was acknowledged is not lost, and not thrown away in silence, are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from attrs import define, field

from mmrepl.sim.rules import Violation
from mmrepl.sim.single_master.history import (
    Acknowledged,
    Committed,
    Cut,
    Event,
    Forced,
    Installed,
    Kept,
    Led,
    Logged,
    LogHistory,
    Lost,
    Opened,
    Shown,
)
from mmrepl.sim.wing_gong import Call, Undecided
from mmrepl.sim.wing_gong import linearizability as find_order

LogChecker: TypeAlias = Callable[[LogHistory], list[Violation]]

Entry: TypeAlias = tuple[int, int]
"""A term, and the digest of a body."""


@define
class _Log:
    """A node's log, as the history tells of it. Entries up to *start* are not known."""

    start: int = 0
    start_term: int = 0
    entries: list[Entry] = field(factory=list)

    @property
    def last(self) -> int:
        return self.start + len(self.entries)

    def at(self, index: int) -> Entry | None:
        return self.entries[index - self.start - 1] if self.start < index <= self.last else None

    def term_at(self, index: int) -> int | None:
        if index == self.start:
            return self.start_term
        entry = self.at(index)
        return None if entry is None else entry[0]


def _replay(history: LogHistory) -> Iterator[tuple[Event, dict[str, _Log]]]:
    """Each event, with the logs of all nodes after it."""
    logs: dict[str, _Log] = {}
    for event in history.events:
        if isinstance(event, Opened):
            old = logs.get(event.node, _Log())
            kept = [entry for index in range(event.start + 1, event.last + 1) if (entry := old.at(index)) is not None]
            logs[event.node] = _Log(event.start, event.start_term, kept)
        elif isinstance(event, Logged):
            log = logs[event.node]
            del log.entries[event.first - log.start - 1 :]
            log.entries += event.entries
        elif isinstance(event, Cut):
            log = logs[event.node]
            del log.entries[max(0, event.last - log.start) :]
        elif isinstance(event, Installed):
            logs[event.node] = _Log(event.index, event.term)
        yield event, logs


def election_safety(history: LogHistory) -> list[Violation]:
    """At most one node leads in a term."""
    found: list[Violation] = []
    leaders: dict[int, str] = {}
    for event in history.events:
        if isinstance(event, Led):
            other = leaders.setdefault(event.term, event.node)
            if other != event.node:
                text = f"{other} and {event.node} both lead in term {event.term}"
                found.append(Violation("election_safety", text, event.at_ms, event.node))
    return found


def log_matching(history: LogHistory) -> list[Violation]:
    """
    Entries of one index and term are the same in every log, and so is what they stand on.

    What a node forgot in a crash before anybody else had it counts for nothing: it was told to nobody.
    """
    found: list[Violation] = []
    known: dict[tuple[int, int], _Known] = {}
    for event, logs in _replay(history):
        log = logs.get(event.node) if isinstance(event, Logged | Opened) else None
        if isinstance(event, Opened):
            for (index, term), other in list(known.items()):
                if index > event.last and event.node in other.holders:
                    other.holders.discard(event.node)
                    if not other.holders:
                        del known[index, term]
        elif isinstance(event, Logged) and log is not None:
            for index in range(event.first, event.first + len(event.entries)):
                term, digest = log.at(index) or (0, 0)
                before = log.term_at(index - 1)
                first = known.setdefault((index, term), _Known(digest, before))
                first.holders.add(event.node)
                if first.digest != digest or (None not in (before, first.before) and first.before != before):
                    others = ", ".join(sorted(first.holders - {event.node})) or "itself before"
                    text = f"entry {index} of term {term} is another at {event.node} than at {others}"
                    found.append(Violation("log_matching", text, event.at_ms, event.node))
    return found


@define
class _Known:
    """An entry, as it was seen first: digest of its body, term of the entry before; and who has had it since."""

    digest: int
    before: int | None
    holders: set[str] = field(factory=set)


def state_machine_safety(history: LogHistory) -> list[Violation]:
    """
    What is committed at an index never changes: no node ever commits anything else there.

    With elections. Where people promote, a primary commits by its own disk, and may be left behind with that.
    """
    if not history.elected:
        return []
    found: list[Violation] = []
    committed: dict[int, tuple[Entry, str]] = {}
    reached: dict[str, int] = {}
    for event, logs in _replay(history):
        if isinstance(event, Opened):
            reached[event.node] = min(reached.get(event.node, 0), event.start)
        elif isinstance(event, Committed):
            log = logs[event.node]
            for index in range(max(reached.get(event.node, 0), log.start) + 1, event.index + 1):
                entry = log.at(index)
                if entry is None:
                    continue
                other = committed.setdefault(index, (entry, event.node))
                if other[0] != entry:
                    text = f"entry {index}: {event.node} commits term {entry[0]}, {other[1]} has term {other[0][0]}"
                    found.append(Violation("state_machine_safety", text, event.at_ms, event.node))
            reached[event.node] = max(reached.get(event.node, 0), event.index)
    return found


def leader_completeness(history: LogHistory) -> list[Violation]:
    """
    A leader's log holds every entry that was committed in an earlier term, by anybody.

    In which term, the last entry that was committed with it tells. A leader of an old term that wins late, and does
    not know that there is a newer one, may lack what that one has committed.
    """
    if not history.elected:
        return []
    found: list[Violation] = []
    committed: dict[int, tuple[Entry, int]] = {}
    for event, logs in _replay(history):
        if isinstance(event, Committed):
            log = logs[event.node]
            index = event.index
            in_term = log.term_at(index) or 0
            while index > log.start and index not in committed:
                entry = log.at(index)
                if entry is not None:
                    committed[index] = entry, in_term
                index -= 1
        elif isinstance(event, Led):
            log = logs[event.node]
            lacking = [
                index
                for index, (entry, in_term) in committed.items()
                if index > log.start and in_term < event.term and log.at(index) != entry
            ]
            if lacking:
                text = f"{event.node} leads in term {event.term} without committed entry {min(lacking)}"
                found.append(Violation("leader_completeness", text, event.at_ms, event.node))
    return found


def acknowledged_survive(history: LogHistory) -> list[Violation]:
    """
    What a quorum or all had acknowledged is in the log at the end.

    Whatever else was acknowledged is in the log, or kept as a branch by the node that cut it off: nothing is thrown
    away in silence, unless the disk that had it was lost. Who promotes by force against a majority loses what that
    majority held; of this only what was still in a log is kept.
    """
    final = _final_log(history)
    if final is None:
        return []
    kept = [event for event in history.events if isinstance(event, Kept)]
    installed = [event for event in history.events if isinstance(event, Installed)]
    lost_at = {event.node for event in history.events if isinstance(event, Lost)}
    forced = _was_forced(history)
    found: list[Violation] = []
    for event in history.events:
        if not isinstance(event, Acknowledged) or event.index <= final.start:
            continue
        if event.index <= final.last and final.term_at(event.index) == event.term:
            continue
        name = f"entry {event.index} of term {event.term}, acknowledged by {event.ack!r} at {event.node},"
        if event.ack in {"quorum", "all"} and not forced:
            text = f"{name} is not in the log at the end"
            found.append(Violation("acknowledged_survive", text, event.at_ms, event.node))
        elif not _is_kept(event, kept) and event.node not in lost_at and not (forced and _was_cut(event, installed)):
            text = f"{name} is neither in the log at the end nor kept as a branch"
            found.append(Violation("acknowledged_survive", text, event.at_ms, event.node))
    return found


def _is_kept(event: Acknowledged, kept: list[Kept]) -> bool:
    return any(one.first <= event.index <= one.last and event.term in one.terms for one in kept)


def _was_cut(event: Acknowledged, installed: list[Installed]) -> bool:
    """Whether its node's log began later when it gave way to another one: it had been cut, of what a majority held."""
    return any(one.node == event.node and one.at_ms >= event.at_ms and one.before >= event.index for one in installed)


def _final_log(history: LogHistory) -> _Log | None:
    """The longest log of those that ended with the highest applied index."""
    finals = history.finals()
    logs: dict[str, _Log] = {}
    for _, logs in _replay(history):  # noqa: B007 - the last one counts
        pass
    best = max(finals, key=lambda final: final.applied, default=None)
    return None if best is None else logs.get(best.node)


def applied_once(history: LogHistory) -> list[Violation]:
    """
    A write that was repeated is applied once: nowhere does it stand at two entries of one log.

    With manual failover it may stand elsewhere in the log of a primary that was deposed.
    """
    found: list[Violation] = []
    seen: dict[tuple[tuple[str, str], bytes], list[tuple[int, int]]] = {}
    for event, logs in _replay(history):
        if not isinstance(event, Shown):
            continue
        entries = seen.setdefault((event.place, event.payload), [])
        entry = (event.index, event.term)
        log = logs[event.node]
        for index, term in entries:
            if (index, term) != entry and (history.elected or log.term_at(index) == term):
                text = f"the write of {event.payload!r} is applied at {index} and again at {event.index}"
                found.append(Violation("applied_once", text, event.at_ms, event.node, event.place))
        if entry not in entries:
            entries.append(entry)
    return found


def agreement(history: LogHistory) -> list[Violation]:
    """In the end all nodes have applied the same, and hold the same values."""
    found: list[Violation] = []
    finals = history.finals()
    for other in finals[1:]:
        first = finals[0]
        if first.applied != other.applied:
            text = f"{other.node} has applied {other.applied} entries, {first.node} {first.applied}"
            found.append(Violation("agreement", text, node=other.node))
        elif first.values != other.values:
            place = min(
                place
                for place in first.values.keys() | other.values.keys()
                if first.values.get(place) != other.values.get(place)
            )
            here, there = (final.values.get(place) for final in (first, other))
            text = f"{place} holds {there!r} at {other.node}, {here!r} at {first.node}"
            found.append(Violation("agreement", text, node=other.node, place=place))
    return found


def linearizability(history: LogHistory) -> list[Violation]:
    """
    The calls of which that was promised could have been answered by a single copy.

    A primary that people chose shows what is on its own disk: a read may show a write that a quorum does not hold yet,
    and that is lost to a promotion before it is acknowledged. Nothing is concluded from such a read.
    """
    if _was_forced(history):
        return []
    calls = history.calls if history.elected else _without_early_reads(history.calls)
    try:
        return find_order(calls, states_max=200_000)
    except Undecided:
        return []


def _without_early_reads(calls: list[Call]) -> list[Call]:
    """Without the reads that show a write before it was acknowledged."""
    answered = {(call.place, call.payload): call.answered for call in calls if call.is_write}

    def is_early(call: Call) -> bool:
        if call.is_write or (call.place, call.payload) not in answered:
            return False
        since = answered[call.place, call.payload]
        return since is None or call.answered is None or call.answered <= since

    return [call for call in calls if not is_early(call)]


def _was_forced(history: LogHistory) -> bool:
    return any(isinstance(event, Forced) for event in history.events)


LOG_CHECKERS: tuple[LogChecker, ...] = (
    election_safety,
    log_matching,
    leader_completeness,
    state_machine_safety,
    acknowledged_survive,
    applied_once,
    agreement,
    linearizability,
)
"""All of them."""


def check_log_history(history: LogHistory) -> list[Violation]:
    """Everything that is wrong with a history of a single-master cluster, by all checkers."""
    return [violation for checker in LOG_CHECKERS for violation in checker(history)]
