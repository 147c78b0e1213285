"""
The trace: one line for everything that happened, equal to the byte in every run of one seed (law L12).

Lines are made into text only when somebody looks.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, NamedTuple


class Line(NamedTuple):
    """One thing that happened. *what* is one word; the rest says more."""

    at_ms: int
    node: str
    what: str
    rest: tuple[Any, ...]

    def __str__(self) -> str:
        # Each run is hashed as text, and this is a quarter faster than an f-string.
        text = "%8d %-8s %-10s %s" % (self.at_ms, self.node, self.what, " ".join(map(str, self.rest)))  # noqa: UP031
        return text.rstrip()


class Trace:
    """All lines, in order."""

    def __init__(self) -> None:
        self.lines: list[Line] = []

    def add(self, at_ms: int, node: str, what: str, *rest: Any) -> None:
        """Note a line. What is in *rest* must not change any more, and look the same in every process."""
        self.lines.append(Line(at_ms, node, what, rest))

    def __iter__(self) -> Iterator[Line]:
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self.lines)

    def __str__(self) -> str:
        return "\n".join(map(str, self.lines))

    def digest(self) -> str:
        """A hash of the whole text."""
        return blake2b(str(self).encode(), digest_size=16).hexdigest()
