"""
Commands about operations as they come: watch, which waits for the next, and log, which ends.

Both tell operations in the order in which one node applied them, its own and those of others. A place in that order is
a token, which holds at every node; an operation that was overwritten before it could be told may be left out. In
single-master mode the order is that of the one log, the same at every node, and nothing that took effect is left out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Protocol

from attrs import define, field
from cyclopts import Parameter
from rich.console import Console
from rich.text import Text

from mmrepl.causality.dot import Dot
from mmrepl.causality.version_vector import VersionVector
from mmrepl.cli import output
from mmrepl.cli.exits import Exit
from mmrepl.cli.options import ANSWER, REACH, Answer, Flag, Reach
from mmrepl.cli.remote import Remote
from mmrepl.cli.values import as_text
from mmrepl.clock import hlc
from mmrepl.clock.instants import utc_text
from mmrepl.errors import UsageError
from mmrepl.runtime.resp.glob import matcher
from mmrepl.types import Value
from mmrepl.wire.seen import LogPosition, parse_seen_token, seen_token
from mmrepl.wire.seen import Seen as Place

BLOCK_S = 60.0
"""How long one question for what is next waits; it is asked again."""

Since = Annotated[
    str | None, Parameter(allow_leading_hyphen=True, help="A token, as the command tells it: what that has not seen.")
]
OnlyTable = Annotated[str | None, Parameter(help="Only this table; an empty name is the default table.")]
OnlyKeys = Annotated[str | None, Parameter(help="Only keys like this: `user:*`, `?`, `[a-c]`.")]
Limit = Annotated[int | None, Parameter(help="End after so many.")]


class Told(Protocol):
    """An operation, wherever it comes from."""

    @property
    def dot(self) -> Dot | LogPosition: ...
    @property
    def table(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def deleted(self) -> bool: ...
    @property
    def value(self) -> Value: ...
    @property
    def settled(self) -> bool: ...

    def plain(self) -> dict[str, Any]:
        """As JSON shows it."""


class Enough(Exception):
    """So many operations were asked for, and told."""


@define
class Teller:
    """Tells those operations that were asked for, or keeps the last of them."""

    json: bool
    table: str | None = None
    keys: str | None = None
    limit: int | None = None
    last: int | None = None
    count: int = 0
    _kept: deque[Told] = field(init=False, factory=deque)
    _matches: Callable[[str], object] | None = field(init=False, default=None)
    _console: Console = field(init=False, factory=output.console)

    def __attrs_post_init__(self) -> None:
        for name, number in (("--limit", self.limit), ("--last", self.last)):
            if number is not None and number < 1:
                raise UsageError(f"{name} must be at least 1, not {number}")
        self._kept = deque(maxlen=self.last)
        if self.keys is not None:
            self._matches = matcher(self.keys)[0]

    def tell(self, op: Told) -> None:
        """One more. Raises Enough once the limit is reached."""
        if self.table is not None and op.table != self.table:
            return
        if self._matches is not None and not self._matches(op.key):
            return
        self.count += 1
        if self.last is not None:
            self._kept.append(op)
        else:
            self._print(op)
        if self.count == self.limit:
            raise Enough

    def finish(self) -> None:
        """Tell what was kept."""
        for op in self._kept:
            self._print(op)
        self._kept.clear()

    def _print(self, op: Told) -> None:
        if self.json:
            output.line_of_json(op.plain())
        else:
            self._console.print(as_line(op), soft_wrap=True)


def as_line(op: Told) -> Text:
    """An operation as a line for people: when, who, what."""
    line = Text()
    line.append(utc_text(hlc.ms_of(op.timestamp)), style="dim")
    line.append(f"  {output.safe(str(op.dot))}  ", style="cyan")
    if op.table:
        line.append(f"{output.safe(op.table)}/", style="dim")
    line.append(output.safe(op.key), style="bold")
    if op.deleted:
        line.append("  deleted", style="red")
    else:
        line.append(f"  {as_text(op.value)}")
    if op.settled:
        line.append("  settled", style="dim")
    return line


def watch(
    *,
    since: Since = None,
    start: Annotated[Flag, Parameter(help="From the beginning of the log, not from now on.")] = False,
    table: OnlyTable = None,
    key: OnlyKeys = None,
    limit: Limit = None,
    idle: Annotated[float | None, Parameter(help="End when nothing has come for so many seconds.")] = None,
    reach: Reach = REACH,
    answer: Answer = ANSWER,
) -> None:
    """
    Tell each operation as the node applies it, its own and those of others, until interrupted.

    In JSON, a line for each, with the token from which to go on behind it.
    """
    if since is not None and start:
        raise UsageError("--since and --start exclude each other")
    if idle is not None and not idle > 0:
        raise UsageError(f"--idle must be more than 0 seconds, not {idle:g}")
    teller = Teller(answer.json, table, key, limit)
    place: Place | None = None if since is None else _place(since)
    with Remote(reach) as remote:
        place = VersionVector() if start else remote.version() if place is None else place
        try:
            while True:
                before = place
                for op in remote.changes(place, wait_s=idle or BLOCK_S):
                    place = op.token
                    teller.tell(op)
                if idle is not None and place == before:
                    return
        except Enough:
            return
        finally:
            if not answer.json:
                output.hint(f"to go on from here: mmrepl watch --since {seen_token(place)}")


def log(
    *,
    path: Annotated[
        Path | None, Parameter(help="The log of a store that is not in use, read from its file; changes nothing.")
    ] = None,
    since: Since = None,
    table: OnlyTable = None,
    key: OnlyKeys = None,
    last: Annotated[int | None, Parameter(help="Only the last so many.")] = None,
    limit: Limit = None,
    reach: Reach = REACH,
    answer: Answer = ANSWER,
) -> Exit | None:
    """
    The operation log of a node, or of a file, in the order in which the node applied it. In JSON, a line for each.

    Of what was cut from the log, a file still holds what is live: that comes first, marked as settled. Ends with 5
    when the log of a node was cut above the place asked for, and with 4 when a file is damaged; what is sound is told.
    """
    teller = Teller(answer.json, table, key, limit, last)
    place: Place = VersionVector() if since is None else _place(since)
    if path is not None:
        from mmrepl.cli.file_log import tell_file

        if isinstance(place, LogPosition):
            raise UsageError(f"{place} is a place in a single-master log, which is read at a node: give no --path")
        return tell_file(path, place, teller)
    with Remote(reach) as remote:
        try:
            for op in remote.changes(place):
                teller.tell(op)
        except Enough:
            pass
    teller.finish()
    return None


def _place(token: str) -> Place:
    try:
        return parse_seen_token(token.encode("utf-8", "surrogateescape"))
    except UsageError:
        raise UsageError(
            f"{token!r} is no token: give back what `watch` or `log --json` told; - is the start"
        ) from None
