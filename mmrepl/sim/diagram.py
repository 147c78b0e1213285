"""
Space-time diagrams: a lane for each node, time goes down, arrows for what was heard.

Drawn from a history: who wrote, who heard of it and how long it was under way, who won when siblings met. As text for
a terminal, and as SVG for people who look (``_repr_svg_`` shows it in a notebook by itself).
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from attrs import field, frozen

from mmrepl.causality.dot import Dot
from mmrepl.resolvers.sibling import value_text
from mmrepl.sim.history import Applied, Became, Did, Forgiven, History, Jumped, Place, Shown, Stopped, Wrote


@frozen
class Row:
    """One moment at one node, or for all (lane -1)."""

    at_ms: int
    lane: int
    text: str
    kind: str  # wrote, heard, read, mark
    source: int = -1  # the lane that it was heard from
    sent_ms: int = 0


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
        rows = [row for row in self.rows if at_ms - before_ms <= row.at_ms <= at_ms + after_ms]
        return Diagram(self.names, tuple(rows), self.width)

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
            cells = ["│".ljust(lane)] * len(self.names)
            mark = {"wrote": "●", "heard": "○", "read": "◇"}.get(row.kind, "×")
            body = f"{mark} {row.text}"
            if row.source >= 0:
                near, far = sorted((row.lane, row.source))
                arrow = "─" * (lane - 1)
                for index in range(near + 1, far):
                    cells[index] = "┼" + arrow
                if row.source < row.lane:
                    cells[row.source] = "├" + arrow[:-1] + "▷"
                    if far - near > 1:
                        cells[row.source] = "├" + arrow
                        cells[far - 1] = "┼" + arrow[:-1] + "▷"
                else:
                    cells[row.source] = "┤".ljust(lane)
                    body = f"{mark}◁ {row.text}"
            cells[row.lane] = body if row.lane == len(self.names) - 1 else _fit(body, lane)
            lines.append((at + "".join(cells)).rstrip())
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    # -- SVG

    def svg(self) -> str:
        """The same as a picture; a whole SVG document."""
        lane, row_height, left, top = 190, 24, 70, 46
        height = top + row_height * (len(self.rows) + 1)
        width = left + lane * len(self.names)
        out = [
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
                f' viewBox="0 0 {width} {height}"'
                ' font-family="sans-serif" font-size="12">'
            ),
            (
                '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7"'
                ' orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="#4a6fa5"/></marker></defs>'
            ),
            f'<rect width="{width}" height="{height}" fill="white"/>',
        ]
        for index, name in enumerate(self.names):
            x = left + lane * index + 12
            out.append(f'<text x="{x}" y="24" text-anchor="middle" font-weight="bold">{escape(name)}</text>')
            out.append(f'<line x1="{x}" y1="34" x2="{x}" y2="{height - 10}" stroke="#999"/>')
        for number, row in enumerate(self.rows):
            y = top + row_height * number + 8
            out.append(f'<text x="4" y="{y + 4}" fill="#777">{row.at_ms} ms</text>')
            if row.lane < 0:
                out.append(f'<line x1="{left}" y1="{y}" x2="{width}" y2="{y}" stroke="#c33" stroke-dasharray="5 4"/>')
                out.append(f'<text x="{left + 24}" y="{y - 3}" fill="#c33">{escape(row.text)}</text>')
                continue
            x = left + lane * row.lane + 12
            if row.source >= 0:
                x_from = left + lane * row.source + 12
                y_from = top + row_height * self._row_at(row.sent_ms, number) + 8
                out.append(
                    f'<line x1="{x_from}" y1="{y_from}" x2="{x}" y2="{y}" stroke="#4a6fa5" marker-end="url(#tip)"/>'
                )
            colour = {"wrote": "#2a7d4f", "heard": "#4a6fa5", "read": "#b8860b"}.get(row.kind, "#c33")
            out.append(f'<circle cx="{x}" cy="{y}" r="4" fill="{colour}"/>')
            out.append(f'<text x="{x + 9}" y="{y + 4}">{escape(row.text)}</text>')
        out.append("</svg>")
        return "\n".join(out)

    def _repr_svg_(self) -> str:
        return self.svg()

    def _row_at(self, at_ms: int, until: int) -> int:
        for number in range(until, -1, -1):
            if self.rows[number].at_ms <= at_ms:
                return number
        return 0


def _fit(text: str, width: int) -> str:
    return (text if len(text) < width else text[: width - 2] + "…").ljust(width)


class _Teller:
    """Makes rows of events, and remembers who lives."""

    def __init__(self, names: list[str]) -> None:
        self._lanes = {name: index for index, name in enumerate(names)}
        self._live: dict[tuple[str, Place], dict[Dot, Wrote]] = {}
        self._writes: dict[Dot, Wrote] = {}
        self.rows: list[Row] = []

    def tell(self, event: object) -> None:
        if isinstance(event, Wrote):
            self._writes[event.dot] = event
            siblings = self._apply(event.node, event)
            what = "delete " if event.payload is None else "put "
            self._row(event.at_ms, event.node, f"{what}{_text(event)}{siblings}", "wrote")
        elif isinstance(event, Applied):
            texts = []
            for counter in range(event.first, event.last + 1):
                write = self._writes.get(Dot(event.origin, counter))
                if write is not None:
                    texts.append(_text(write) + self._apply(event.node, write))
            text = ", ".join(texts[:3]) + (f" and {len(texts) - 3} more" if len(texts) > 3 else "")
            source = self._lanes.get(event.via, -1)
            self._row(event.at_ms, event.node, text, "heard", source, event.sent_ms)
        elif isinstance(event, Did):
            self.rows.append(Row(event.at_ms, -1, event.text, "mark"))
        elif isinstance(event, Jumped):
            self._row(event.at_ms, event.node, "joined a snapshot", "heard")
        elif isinstance(event, Shown):
            self._row(
                event.at_ms, event.node, f"read {event.place[1]}: {value_text(event.payload, 'absent', 20)}", "read"
            )
        elif isinstance(event, Became):
            if event.why != "opened":
                self._row(event.at_ms, event.node, f"is {event.identity} now: {event.why}", "mark")
        elif isinstance(event, Stopped):
            self._row(event.at_ms, event.node, event.why, "mark")
        elif isinstance(event, Forgiven) and event.dots:
            self._row(event.at_ms, event.node, f"{len(event.dots)} writes are gone with it", "mark")

    def _row(self, at_ms: int, node: str, text: str, kind: str, source: int = -1, sent_ms: int = 0) -> None:
        if node in self._lanes:
            self.rows.append(Row(at_ms, self._lanes[node], text, kind, source, sent_ms))

    def _apply(self, node: str, write: Wrote) -> str:
        """The effect of a write at a node, by the plain rule; who won where it met a sibling."""
        live = self._live.setdefault((node, write.place), {})
        for dot in [dot for dot in live if write.context.covers(dot)]:
            del live[dot]
        live[write.dot] = write
        if len(live) == 1:
            return ""
        latest = max(live.values(), key=lambda other: (other.stamp, other.dot))
        return f" ({len(live)} siblings, latest {value_text(latest.payload, 'deleted', 12)})"


def _text(write: Wrote) -> str:
    table, key = write.place
    name = f"{table}/{key}" if table else key
    return name if write.payload is None else f"{name}={value_text(write.payload, '', 14)}"
