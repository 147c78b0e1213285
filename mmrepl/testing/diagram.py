"""
A history as people draw it on a whiteboard: a lane for each replica, time downwards, messages across.

The lanes are as wide as what is written in them; long values are cut in the middle, their bytes stand below anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from attrs import frozen

TEXT_MAX = 34


@frozen
class Note:
    """Something that happens at one replica."""

    at: str
    text: str


@frozen
class Message:
    """Something that goes from one replica to another."""

    source: str
    target: str
    text: str = ""
    lost: bool = False


@frozen
class Remark:
    """Something about all of them."""

    text: str


Event: TypeAlias = Note | Message | Remark


def shortened(text: str, length_max: int = TEXT_MAX) -> str:
    """
    *text*, its middle left out when it is long.

    >>> shortened("abcdefghij", 7)
    'abc…hij'
    """
    if len(text) <= length_max:
        return text
    left = length_max // 2
    return f"{text[:left]}…{text[left - length_max + 1 :]}"


def diagram(names: Sequence[str], events: Sequence[Event]) -> str:
    """
    The drawing, without a newline at its end.

    >>> print(diagram(["paris", "tokyo"], [Note("paris", "puts 1"), Message("paris", "tokyo")]))
     paris   tokyo
       │       │
    puts 1     │
       ├──────>│
    """
    width = [len(name) for name in names]
    lane = {name: index for index, name in enumerate(names)}
    events = [Note(event.at, shortened(event.text)) if isinstance(event, Note) else event for event in events]
    for event in events:
        if isinstance(event, Note):
            width[lane[event.at]] = max(width[lane[event.at]], len(event.text))
        elif isinstance(event, Message) and event.text:
            first = min(lane[event.source], lane[event.target])
            width[first] = max(width[first], len(event.text) + 2)
    centre, edge = [], 0
    for columns in width:
        centre.append(edge + columns // 2)
        edge += columns + 3
    lines = [_placed(edge, zip(centre, names, strict=True)), _lanes(edge, centre)]
    for event in events:
        if isinstance(event, Remark):
            lines.append("  " + event.text)
        elif isinstance(event, Note):
            lines.append(_written(_lanes(edge, centre), centre[lane[event.at]], event.text))
        else:
            lines.append(_arrow(_lanes(edge, centre), centre[lane[event.source]], centre[lane[event.target]], event))
    return "\n".join(line.rstrip() for line in lines)


def _placed(width: int, texts: object) -> str:
    line = " " * width
    for centre, text in texts:  # type: ignore[attr-defined]
        line = _written(line, centre, text)
    return line


def _lanes(width: int, centres: Sequence[int]) -> str:
    line = [" "] * width
    for centre in centres:
        line[centre] = "│"
    return "".join(line)


def _written(line: str, centre: int, text: str) -> str:
    start = max(0, centre - len(text) // 2)
    return line[:start] + text + line[start + len(text) :]


def _arrow(line: str, source: int, target: int, message: Message) -> str:
    left, right = min(source, target), max(source, target)
    shaft = list(("╌" if message.lost else "─") * (right - left - 1))
    if message.text:
        start = max(0, (len(shaft) - len(message.text)) // 2)
        shaft[start : start + len(message.text)] = message.text
    if source < target:
        shaft[-1] = "✕" if message.lost else ">"
        return line[:left] + "├" + "".join(shaft) + line[right:]
    shaft[0] = "✕" if message.lost else "<"
    return line[: left + 1] + "".join(shaft) + "┤" + line[right + 1 :]
