"""
Space-time diagrams: a lane for each node, time goes down, arrows for what was heard.

Drawn from a history: who wrote, who heard of it and how long it was under way, who won when siblings met. As text for
a terminal, and as SVG for people who look (`mmrepl.sim.picture`; ``_repr_svg_`` shows it in a notebook by itself).
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from attrs import evolve, field, frozen

from mmrepl.causality.dot import Dot
from mmrepl.resolvers.sibling import value_text
from mmrepl.sim.history import Applied, Became, Did, Forgiven, History, Jumped, Place, Shown, Stopped, Wrote
from mmrepl.sim.picture import Row, picture

LINES_MAX = 3
"""Text that does not fit into its lane goes on below, on so many lines."""

MARKS = {"wrote": "●", "heard": "○", "jumped": "○", "up": "○", "born": "○", "read": "◇"}

HEARD_MAX = 6
"""Of what comes in one delta from one origin so many operations are told one by one."""


@frozen(repr=False)
class Diagram:
    """What happened, drawn. ``str`` gives text, `svg` a picture."""

    names: tuple[str, ...]
    rows: tuple[Row, ...] = field(repr=False)
    width: int = 100

    @classmethod
    def of(cls, names: Sequence[str], history: History, *, width: int = 100) -> Diagram:
        """The diagram of a history."""
        told = _Teller(list(names))
        for event in history.events:
            told.tell(event)
        return cls(tuple(names), tuple(told.rows), width)

    def about(self, at_ms: int, before_ms: int = 3_000, after_ms: int = 1_000) -> Diagram:
        """The part around one moment."""
        return self.between(at_ms - before_ms, at_ms + after_ms)

    def between(self, first_ms: int, last_ms: int) -> Diagram:
        """The part from one moment to another, both included."""
        return evolve(self, rows=tuple(row for row in self.rows if first_ms <= row.at_ms <= last_ms))

    # -- text

    def __str__(self) -> str:
        lane = max(12, (self.width - 9) // max(1, len(self.names)))
        head = " " * 9 + "".join(f"{name:<{lane}}" for name in self.names)
        lines = [head.rstrip()]
        last = None
        for row in self.rows:
            at = f"{row.at_ms:>7}  " if row.at_ms != last else " " * 9
            last = row.at_ms
            if row.lane < 0:
                text = f"── {row.text} "
                lines.append(at + text + "─" * max(3, lane * len(self.names) - len(text)))
                continue
            lines += _lines(row, at, lane, len(self.names))
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    # -- SVG

    def svg(self) -> str:
        """The same as a picture; a whole SVG document."""
        return picture(self.names, self.rows)

    def _repr_svg_(self) -> str:
        return self.svg()


def _lines(row: Row, at: str, lane: int, lanes: int) -> Iterator[str]:
    """A row as text: its first line, with the arrow, and what does not fit."""
    mark = MARKS.get(row.kind, "×")
    start = f"{mark}◁ " if row.source > row.lane else f"{mark} "
    room = lane - 1 if row.lane < lanes - 1 else max(lane, 40)
    text = row.text + (f" ({row.note})" if row.note else "")
    parts = textwrap.wrap(text, room - len(start), max_lines=LINES_MAX, placeholder=" …") or [""]
    for number, part in enumerate(parts):
        cells = ["│".ljust(lane)] * lanes
        body = (start if number == 0 else "│" + " " * (len(start) - 1)) + part
        if number == 0 and row.source >= 0:
            _draw_arrow(cells, row, lane)
        cells[row.lane] = body if row.lane == lanes - 1 else body.ljust(lane)
        yield ((at if number == 0 else " " * 9) + "".join(cells)).rstrip()


def _draw_arrow(cells: list[str], row: Row, lane: int) -> None:
    near, far = sorted((row.lane, row.source))
    arrow = "─" * (lane - 1)
    for index in range(near + 1, far):
        cells[index] = "┼" + arrow
    if row.source > row.lane:
        cells[row.source] = "┤".ljust(lane)
    elif far - near > 1:
        cells[row.source] = "├" + arrow
        cells[far - 1] = "┼" + arrow[:-1] + "▷"
    else:
        cells[row.source] = "├" + arrow[:-1] + "▷"


class _Teller:
    """Makes rows of events, and remembers who lives."""

    def __init__(self, names: list[str]) -> None:
        self._lanes = {name: index for index, name in enumerate(names)}
        self._live: dict[tuple[str, Place], dict[Dot, Wrote]] = {}
        self._writes: dict[Dot, Wrote] = {}
        self._known: set[str] = set()  # nodes that have been up
        self.rows: list[Row] = []

    def tell(self, event: object) -> None:
        if isinstance(event, Wrote):
            self._writes[event.dot] = event
            note = self._apply(event.node, event)
            what = "delete " if event.payload is None else "put "
            self._row(event.at_ms, event.node, what + _text(event.place, event.payload), "wrote", note=note)
        elif isinstance(event, Applied):
            self._applied(event)
        elif isinstance(event, Did):
            self.rows.append(Row(event.at_ms, -1, event.text, "mark"))
        elif isinstance(event, Jumped):
            self._row(event.at_ms, event.node, "joined a snapshot", "jumped")
        elif isinstance(event, Shown):
            self._row(
                event.at_ms, event.node, f"read {event.place[1]}: {value_text(event.payload, 'absent', 20)}", "read"
            )
        elif isinstance(event, Became):
            if event.why == "opened":
                self._opened(event)
            else:
                self._row(event.at_ms, event.node, f"is {event.identity} now: {event.why}", "became")
        elif isinstance(event, Stopped):
            self._row(event.at_ms, event.node, event.why, "down")
        elif isinstance(event, Forgiven) and event.dots:
            self._row(event.at_ms, event.node, f"{len(event.dots)} writes are gone with it", "mark")

    def _opened(self, event: Became) -> None:
        if event.node in self._known:
            self._row(event.at_ms, event.node, "is up again", "up")
        elif event.at_ms > 0:
            self._row(event.at_ms, event.node, "begins", "born")
        self._known.add(event.node)

    def _applied(self, event: Applied) -> None:
        """A row for each key of which something was heard; what came of it follows from the plain rule."""
        source = self._lanes.get(event.via, -1)
        told = 0
        contents = {counter: (place, payload) for counter, place, _, payload in event.contents}
        for counter in range(event.first, event.last + 1):
            write = self._writes.get(Dot(event.origin, counter))
            place, payload = contents.get(counter, (None, None)) if write is None else (write.place, write.payload)
            if place is None:
                continue
            note = "" if write is None else self._apply(event.node, write)
            told += 1
            if told <= HEARD_MAX:
                what = "delete " if payload is None else ""
                self._row(event.at_ms, event.node, what + _text(place, payload), "heard", source, event.sent_ms, note)
        more = event.last - event.first + 1 - min(told, HEARD_MAX)
        if more:
            self._row(event.at_ms, event.node, f"{more} operations more" if told else f"{more} operations", "heard",
                      source, event.sent_ms)  # fmt: skip

    def _row(
        self, at_ms: int, node: str, text: str, kind: str, source: int = -1, sent_ms: int = 0, note: str = ""
    ) -> None:
        if node in self._lanes:
            self.rows.append(Row(at_ms, self._lanes[node], text, kind, source, sent_ms, note))

    def _apply(self, node: str, write: Wrote) -> str:
        """The effect of a write at a node, by the plain rule; who is latest where it meets a sibling."""
        live = self._live.setdefault((node, write.place), {})
        for dot in [dot for dot in live if write.context.covers(dot)]:
            del live[dot]
        live[write.dot] = write
        if len(live) == 1:
            return ""
        latest = max(live.values(), key=lambda other: (other.stamp, other.dot))
        return f"{len(live)} siblings, latest {value_text(latest.payload, 'deleted', 16)}"


def _text(place: Place, payload: bytes | None) -> str:
    table, key = place
    name = f"{table}/{key}" if table else key
    return name if payload is None else f"{name}={value_text(payload, '', 24)}"
