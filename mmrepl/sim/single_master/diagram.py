"""
Space-time diagrams of a single-master history: who led, what entered each log, was committed, acknowledged, cut off.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmrepl.sim.diagram import Diagram
from mmrepl.sim.picture import Row
from mmrepl.sim.single_master.history import (
    Acknowledged,
    Committed,
    Cut,
    Did,
    Event,
    Forced,
    Installed,
    Kept,
    Led,
    Logged,
    LogHistory,
    Lost,
    Opened,
)


def log_diagram(names: Sequence[str], history: LogHistory, *, width: int = 120) -> Diagram:
    """The diagram of a history: a lane for each node, time downwards. Entries are told as index and term."""
    lanes = {name: index for index, name in enumerate(names)}
    rows = []
    for event in history.events:
        told = _told(event)
        if told is not None:
            at_ms, node, text, kind = told
            lane = lanes.get(node, -1) if node else -1
            rows.append(Row(at_ms, lane, text if lane >= 0 or not node else f"{node}: {text}", kind))
    return Diagram(tuple(names), tuple(rows), width)


def _told(event: Event) -> tuple[int, str, str, str] | None:
    """When, at which node, what, and how it is drawn; None for what is not."""
    match event:
        case Opened(at_ms, node, _, start, _, last):
            text = f"is up, its log goes from {start} to {last}" if last else "is up, its log is empty"
            return at_ms, node, text, "up"
        case Led(at_ms, node, term, last):
            return at_ms, node, f"LEADS in term {term}, log to {last}", "became"
        case Logged(at_ms, node, first, entries):
            last = first + len(entries) - 1
            which = f"entry {first}" if first == last else f"entries {first} to {last}"
            return at_ms, node, f"logs {which} of term {_terms(entries)}", "wrote"
        case Cut(at_ms, node, last):
            return at_ms, node, f"cuts its log off after {last}", "became"
        case Kept(at_ms, node, first, last):
            return at_ms, node, f"keeps {first} to {last} as a branch", "mark"
        case Installed(at_ms, node, index):
            return at_ms, node, f"installs a snapshot, to {index}", "jumped"
        case Committed(at_ms, node, index):
            return at_ms, node, f"knows {index} committed", "heard"
        case Acknowledged(at_ms, node, index, term, ack):
            return at_ms, node, f"acknowledges {index} of term {term} ({ack})", "read"
        case Forced(at_ms, node):
            return at_ms, node, "is promoted by force", "mark"
        case Lost(at_ms, node, why):
            return at_ms, node, f"loses its disk: {why}", "down"
        case Did(at_ms, text):
            return at_ms, "", text, "mark"
    return None


def _terms(entries: tuple[tuple[int, int], ...]) -> str:
    return ", ".join(dict.fromkeys(str(term) for term, _ in entries))
