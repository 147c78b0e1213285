"""
The picture of a diagram: SVG, to be looked at.

A row of the picture is one moment: what happened at several nodes in one millisecond stands side by side, what happened
at one node stands in a stack. Gaps in time show as gaps, the longer the wider, but not in proportion: milliseconds and
minutes stand in one picture. An arrow begins when the message was sent. A lane is dotted while its node is down. Labels
lie above all lines; one that is cut says all of it when pointed at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from math import log2

from attrs import define, field, frozen


@frozen
class Row:
    """One thing that happened at a node, or to all (lane -1)."""

    at_ms: int
    lane: int
    text: str
    kind: str  # wrote, heard, read, jumped, born, became, down, up, mark
    source: int = -1  # the lane that it was heard from
    sent_ms: int = 0
    note: str = ""  # what came of it


LEFT, TOP, LINE, PAD = 76, 58, 23, 16
LANE_MIN, LANE_MAX = 150, 360
CHAR = 6.7  # the mean width of a character
NOTE = 5.9

INK, FAINT, PAPER = "#1f2933", "#9aa5b1", "#ffffff"
COLOURS = ("#2563a8", "#b4551d", "#2f7d4f", "#7a4aa8", "#a8324a", "#0e7c86", "#8a6d00", "#545c66")
ALARM = "#b42318"
BADGE = "#92600a"
FONT = "ui-sans-serif, system-ui, Segoe UI, DejaVu Sans, sans-serif"


def picture(names: Sequence[str], rows: Sequence[Row]) -> str:
    """A whole SVG document."""
    page = _Page(names, rows)
    width, height = page.width, page.height
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
            f' font-family="{FONT}" font-size="12" fill="{INK}">'
        ),
        "<defs>",
        *(_tip(index) for index in range(min(len(names), len(COLOURS)))),
        "</defs>",
        f'<rect width="{width}" height="{height}" rx="8" fill="{PAPER}"/>',
        *page.lanes(),
        *page.bands(),
        *page.arrows(),
        *page.events(),
        *page.heads(),
        "</svg>",
    ]
    return "\n".join(parts)


def colour(lane: int) -> str:
    """The colour of a node."""
    return COLOURS[lane % len(COLOURS)]


def _tip(index: int) -> str:
    return (
        f'<marker id="tip{index}" viewBox="0 0 8 8" refX="9" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0,0.6 L8,4 L0,7.4 z" fill="{COLOURS[index]}"/></marker>'
    )


@define
class _Moment:
    """All rows of one millisecond: what was done to all, and a stack for each lane."""

    at_ms: int
    y: float = 0.0  # of its first line
    marks: list[str] = field(factory=list)
    stacks: dict[int, list[Row]] = field(factory=dict)

    @property
    def lines(self) -> int:
        """How many lines high it is."""
        return len(self.marks) + max(map(len, self.stacks.values()), default=0)


class _Page:
    """Where everything stands."""

    def __init__(self, names: Sequence[str], rows: Sequence[Row]) -> None:
        self.names = names
        self.moments = _moments(rows)
        longest = max((_wide(row) for row in rows if row.lane >= 0), default=0.0)
        self.lane_width = min(LANE_MAX, max(LANE_MIN, longest + 30))
        y, last = float(TOP), None
        for moment in self.moments:
            if last is not None:
                y += min(26.0, 2.0 * log2(1 + moment.at_ms - last))  # a gap in time
            moment.y, last = y, moment.at_ms
            y += max(1, moment.lines) * LINE
        self.bottom = y
        self.width = round(LEFT + self.lane_width * len(names) + PAD)
        self.height = round(self.bottom + PAD)

    def x(self, lane: int) -> float:
        """Where a lane is."""
        return LEFT + 14 + self.lane_width * lane

    def y_of(self, at_ms: int) -> float:
        """Where a moment is, or would be if something had happened in it."""
        before = None
        for moment in self.moments:
            here = moment.y + len(moment.marks) * LINE
            if moment.at_ms == at_ms:
                return here
            if moment.at_ms > at_ms:
                if before is None:
                    return moment.y
                share = (at_ms - before.at_ms) / (moment.at_ms - before.at_ms)
                low = before.y + len(before.marks) * LINE
                return low + share * (here - low)
            before = moment
        return self.bottom

    def _sent(self, row: Row) -> float:
        """Where the arrow to a row begins: at the write itself, if it was sent at once."""
        for moment in self.moments:
            if moment.at_ms == row.sent_ms:
                for number, other in enumerate(moment.stacks.get(row.source, ())):
                    if other.kind == "wrote" and other.text in {row.text, f"put {row.text}"}:
                        return moment.y + (len(moment.marks) + number) * LINE
        return self.y_of(row.sent_ms)

    def lanes(self) -> Iterator[str]:
        """The lines of the nodes; dotted while down."""
        for lane in range(len(self.names)):
            begun, up = float(TOP - 16), not self._is_born_later(lane)
            for moment in self.moments:
                for number, row in enumerate(moment.stacks.get(lane, ())):
                    if row.kind in {"down", "up", "became", "born"}:
                        y = moment.y + (len(moment.marks) + number) * LINE
                        if row.kind == "down" or not up:
                            yield self._lane(lane, begun, y, up=up)
                            begun, up = y, row.kind != "down"
            yield self._lane(lane, begun, self.bottom, up=up)

    def _is_born_later(self, lane: int) -> bool:
        return any(row.kind == "born" for moment in self.moments for row in moment.stacks.get(lane, ()))

    def _lane(self, lane: int, first: float, last: float, *, up: bool) -> str:
        style = f'stroke="{colour(lane)}" stroke-width="2" stroke-opacity="0.45"'
        if not up:
            style = f'stroke="{FAINT}" stroke-width="1.5" stroke-dasharray="1.5 5" stroke-linecap="round"'
        return f'<line x1="{self.x(lane):g}" y1="{first:g}" x2="{self.x(lane):g}" y2="{last:g}" {style}/>'

    def bands(self) -> Iterator[str]:
        """The times, and what was done to the world."""
        right = self.width - PAD / 2
        for moment in self.moments:
            if moment.lines:
                yield (
                    f'<text x="{LEFT - 18}" y="{moment.y + 4:g}" text-anchor="end" font-size="11" fill="{FAINT}">'
                    f"{moment.at_ms:,} ms</text>"
                )
            for number, text in enumerate(moment.marks):
                y = moment.y + number * LINE
                cut = _cut(text, (right - LEFT - 30) / CHAR)
                yield (
                    f'<line x1="{LEFT - 10}" y1="{y:g}" x2="{right:g}" y2="{y:g}" stroke="{ALARM}" stroke-opacity="0.5"'
                    f' stroke-dasharray="6 4"/><rect x="{LEFT + 24}" y="{y - 10:g}" width="{len(cut) * 6.3 + 18:.0f}"'
                    f' height="20" rx="10" fill="#fef3f2" stroke="{ALARM}" stroke-opacity="0.35"/>'
                    f'<text x="{LEFT + 33}" y="{y + 4:g}" fill="{ALARM}">{_titled(text, cut)}</text>'
                )

    def arrows(self) -> Iterator[str]:
        """Who heard from whom; one arrow for what was sent together."""
        for moment in self.moments:
            for lane, stack in sorted(moment.stacks.items()):
                drawn = set()
                for number, row in enumerate(stack):
                    y = moment.y + (len(moment.marks) + number) * LINE
                    y_from = min(self._sent(row), y)
                    key = (row.source, y_from)
                    if row.source < 0 or row.source == lane or key in drawn:
                        continue
                    drawn.add(key)
                    x_from, x = self.x(row.source), self.x(lane)
                    yield (
                        f'<line x1="{x_from:g}" y1="{y_from:g}" x2="{x:g}" y2="{y:g}" stroke="{colour(row.source)}"'
                        f' stroke-width="1.4" stroke-opacity="0.8" marker-end="url(#tip{row.source % len(COLOURS)})"/>'
                    )

    def events(self) -> Iterator[str]:
        """The points on the lanes, with their labels."""
        for moment in self.moments:
            for lane, stack in sorted(moment.stacks.items()):
                for number, row in enumerate(stack):
                    y = moment.y + (len(moment.marks) + number) * LINE
                    yield from self._event(row, self.x(lane), y)

    def _event(self, row: Row, x: float, y: float) -> Iterator[str]:
        shade = colour(row.lane)
        if row.kind == "wrote":
            yield f'<circle cx="{x:g}" cy="{y:g}" r="5.5" fill="{shade}"/>'
        elif row.kind == "read":
            yield f'<path d="M{x:g},{y - 6:g} l6,6 l-6,6 l-6,-6 z" fill="{PAPER}" stroke="{shade}" stroke-width="2"/>'
        elif row.kind in {"heard", "jumped", "up", "born"}:
            yield f'<circle cx="{x:g}" cy="{y:g}" r="4.5" fill="{PAPER}" stroke="{shade}" stroke-width="2"/>'
        else:
            turn = f"M{x - 4:g},{y - 4:g} l8,8 m0,-8 l-8,8"
            yield f'<path d="{turn}" stroke="{ALARM}" stroke-width="2.2" stroke-linecap="round"/>'
        room = self.lane_width - 34
        cut = _cut(row.text, room / CHAR)
        note = _cut(row.note, (room - len(cut) * CHAR - 14) / NOTE)
        wide = len(cut) * CHAR + (len(note) * NOTE + 12 if note else 0)
        yield (
            f'<rect x="{x + 10:g}" y="{y - 9:g}" width="{wide + 6:.0f}" height="18" rx="4" fill="{PAPER}"'
            ' opacity="0.88"/>'
        )
        plain = ALARM if row.kind in {"down", "became"} else INK
        weight = ' font-weight="600"' if row.kind == "wrote" else ""
        badge = (
            f'<tspan dx="7" font-size="10.5" font-weight="400" fill="{BADGE}">{escape(note)}</tspan>' if note else ""
        )
        whole = row.text + (f" ({row.note})" if row.note else "")
        shown = cut + (f" ({note})" if note else "")
        yield (
            f'<text x="{x + 13:g}" y="{y + 4:g}" fill="{plain}"{weight}>'
            f"{_title(whole) if shown != whole else ''}{escape(cut)}{badge}</text>"
        )

    def heads(self) -> Iterator[str]:
        """The names."""
        for lane, name in enumerate(self.names):
            shown = _cut(name, (self.lane_width - 40) / 8)
            wide = len(shown) * 8 + 22
            yield (
                f'<rect x="{self.x(lane) - 12:g}" y="14" width="{wide}" height="24" rx="12" fill="{colour(lane)}"/>'
                f'<text x="{self.x(lane) - 1:g}" y="30.5" font-size="13" font-weight="700" fill="{PAPER}">'
                f"{escape(shown)}</text>"
            )


def _moments(rows: Sequence[Row]) -> list[_Moment]:
    """
    Rows by millisecond, in order.

    A mark that comes after something in its millisecond begins a moment of its own, so that order is kept.
    """
    moments: list[_Moment] = []
    for row in rows:
        if not moments or moments[-1].at_ms != row.at_ms or (row.lane < 0 and moments[-1].stacks):
            moments.append(_Moment(row.at_ms))
        if row.lane < 0:
            moments[-1].marks.append(row.text)
        else:
            moments[-1].stacks.setdefault(row.lane, []).append(row)
    return moments


def _wide(row: Row) -> float:
    return len(row.text) * CHAR + (len(row.note) * NOTE + 14 if row.note else 0)


def _cut(text: str, length: float) -> str:
    most = max(0, int(length))
    return text if len(text) <= most else text[: most - 1] + "…" if most > 3 else ""


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>"


def _titled(text: str, cut: str) -> str:
    return escape(cut) if text == cut else _title(text) + escape(cut)
