"""
The space-time diagram of the demo: a lane for each node, time goes down, arrows for what was heard.

A filled circle is a write, an empty one is a node that hears of it; the arrow comes from whoever wrote it, though
another node may have brought it. Writes are lettered, so that an arrow need not repeat what they say.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from string import ascii_lowercase

from attrs import frozen

from mmrepl.causality.dot import Dot
from mmrepl.cli.demo.world import Heard
from mmrepl.cli.values import as_text

MARGIN = 11
"""Columns for the time."""


@frozen
class _Row:
    """What stands in one line of the lanes."""

    at_ms: int
    lane: int
    text: str
    source: int | None = None  # the lane that was heard


def draw(names: Sequence[str], heard: Iterable[Heard], marks: Iterable[tuple[int, str]], width: int = 100) -> str:
    """
    The diagram, *width* columns or a little less.

    *heard* in order of time, each write before those who heard of it; *marks* stand across all lanes.
    """
    lanes = {name: index for index, name in enumerate(names)}
    lane_width = max(16, (width - MARGIN) // max(1, len(lanes)))
    letters: dict[Dot, str] = {}
    rows: list[_Row | tuple[int, str]] = list(marks)
    for event in heard:
        source = lanes.get(event.dot.origin.name)
        lane = lanes[event.node]
        if event.own:
            letters[event.dot] = letter(len(letters))
            rows.append(_Row(event.at_ms, lane, f"● {letters[event.dot]}  {_written(event)}"))
            continue
        name = letters.get(event.dot, "?")
        last = rows[-1] if rows else None
        if isinstance(last, _Row) and (last.lane, last.source) == (lane, source) and last.text.startswith("○"):
            rows[-1] = _Row(last.at_ms, lane, f"{last.text}, {name}", source)
        else:
            rows.append(_Row(event.at_ms, lane, f"○ {name}", source))
    rows.sort(key=lambda row: row.at_ms if isinstance(row, _Row) else row[0])
    head = " " * MARGIN + "".join(f"{name:<{lane_width}}" for name in names)
    lines = [head.rstrip()]
    for row in rows:
        if isinstance(row, _Row):
            lines.append(f"{row.at_ms / 1000:>8.3f}   {_lanes(row, len(lanes), lane_width)}".rstrip())
        else:
            at_ms, text = row
            line = f"══ {text} "
            lines.append(f"{at_ms / 1000:>8.3f}   {line}{'═' * max(3, lane_width * len(lanes) - len(line) - 2)}")
    lines.append("")
    lines.append("● writes    ○ hears of it    seconds since the first node began to start")
    return "\n".join(lines)


def letter(number: int) -> str:
    """
    A short name for a write.

    >>> [letter(number) for number in (0, 25, 26, 52)]
    ['a', 'z', 'a1', 'a2']
    """
    turn, place = divmod(number, len(ascii_lowercase))
    return ascii_lowercase[place] + (str(turn) if turn else "")


def _written(event: Heard) -> str:
    name = f"{event.table}/{event.key}" if event.table else event.key
    return f"{name} deleted" if event.deleted else f"{name} = {as_text(event.value)}"


def _lanes(row: _Row, count: int, width: int) -> str:
    """One line: the event in its lane, an arrow from where it comes from, and a thread in every other lane."""
    line = list(" " * (count * width))
    for lane in range(count):
        line[lane * width] = "│"
    here = row.lane * width
    if row.source is not None and row.source != row.lane:
        there = row.source * width
        low, high = sorted((here, there))
        for column in range(low + 1, high):
            line[column] = "┼" if line[column] == "│" else "─"
        line[there] = "├" if there < here else "┤"
        line[here - 1 if there < here else here + 1] = "▶" if there < here else "◀"
    text = row.text
    if row.source is not None and row.source > row.lane:
        # The arrow comes from the right: the names go behind the circle's arrow head.
        circle, _, names = text.partition(" ")
        line[here] = circle
        _write(line, here + 2, f" {names} ")
    else:
        _write(line, here, text)
    return "".join(line)


def _write(line: list[str], at: int, text: str) -> None:
    """Put *text* into a line; what is too long runs over the threads to its right, up to the end, and is cut there."""
    room = len(line) - at
    shown = text if len(text) <= room else text[: room - 1] + "…"
    line[at : at + len(shown)] = shown
