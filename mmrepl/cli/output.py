"""
What commands print: a document of JSON, lines of JSON, or text for people.

Answers go to standard output, everything else (errors, hints) to standard error, so that a pipe carries answers only.
Text that came from a store is shown as it is where it is the answer, and with control characters escaped where it is
part of a sentence or a table: a key must not move the cursor of whoever lists it.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from rich.console import Console
from rich.text import Text

from mmrepl.runtime.resp.shown import json_text

PLAIN_WIDTH = 120
"""Columns when nobody looks: a table in a file is not cut at 80."""


def document(value: Any) -> None:
    """One JSON document, in a line."""
    raw(json_text(value) + b"\n")


line_of_json = document


def raw(data: bytes) -> None:
    """Exactly these bytes, at once."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def say(text: str) -> None:
    """A line of the answer."""
    print(text, flush=True)


def hint(text: str) -> None:
    """A line beside the answer."""
    print(f"mmrepl: {text}", file=sys.stderr, flush=True)


class Screen(Console):
    """A console that leaves it to the application what a reader who has gone means."""

    def on_broken_pipe(self) -> None:
        """Rich would end the process."""
        raise BrokenPipeError


def console() -> Console:
    """Standard output: as wide as the terminal, or wide enough."""
    width = None if sys.stdout.isatty() or os.environ.get("COLUMNS") else PLAIN_WIDTH
    return Screen(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)


def safe(text: str) -> str:
    r"""
    *text* on one line, whatever it holds: what is not printable is escaped, a backslash too.

    >>> safe("tea\n\x1b[2J")
    'tea\\n\\x1b[2J'
    """
    return "".join(c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode() for c in text)


def brief(text: str, columns: int = 60) -> str:
    """*text* on one line, cut to *columns* with an ellipsis."""
    line = safe(text)
    return line if len(line) <= columns else line[: columns - 1] + "…"


def cell(text: str, style: str = "") -> Text:
    """A cell of a table: *text* as it is, never taken for markup."""
    return Text(safe(text), style=style)
