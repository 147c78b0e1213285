"""
What happened in a single-master cluster, written down for those who judge.

Nodes note what became of their logs, who led when, what was committed and acknowledged. The checkers beside this file
read nothing else; a history from anywhere else, told in these words, can be judged as well.

Times are milliseconds since the run began.
"""

from __future__ import annotations

from typing import TypeAlias

from attrs import define, field, frozen

from mmrepl.sim.wing_gong import Call

Ack: TypeAlias = int | str


@frozen
class Opened:
    """A node opened its store: what it holds, and who it is."""

    at_ms: int
    node: str
    identity: str
    start: int  # its log begins after this entry
    start_term: int
    last: int


@frozen
class Logged:
    """Entries became part of a node's log, from *first* on: the term of each, and a digest of its body."""

    at_ms: int
    node: str
    first: int
    entries: tuple[tuple[int, int], ...]


@frozen
class Cut:
    """A node's log was cut off after *last*."""

    at_ms: int
    node: str
    last: int


@frozen
class Installed:
    """A snapshot replaced all that a node had: its log stands on this entry now, and stood on *before* until then."""

    at_ms: int
    node: str
    index: int
    term: int
    before: int = 0


@frozen
class Committed:
    """A node knows the log to be committed up to *index*."""

    at_ms: int
    node: str
    index: int


@frozen
class Led:
    """A node became leader or primary of *term*, its log ending at *last*."""

    at_ms: int
    node: str
    term: int
    last: int


@frozen
class Forced:
    """Somebody made a node the primary although that was refused: from here on writes may be lost."""

    at_ms: int
    node: str


@frozen
class Acknowledged:
    """The writer was told that entry (*index*, *term*) is acknowledged at level *ack*."""

    at_ms: int
    node: str
    index: int
    term: int
    ack: Ack


@frozen
class Shown:
    """A node shows *payload*, which was written once, as written by entry (*index*, *term*)."""

    at_ms: int
    node: str
    place: tuple[str, str]
    payload: bytes
    index: int
    term: int


@frozen
class Kept:
    """A node keeps what was cut off its log: entries *first* to *last* of these terms."""

    at_ms: int
    node: str
    first: int
    last: int
    terms: tuple[int, ...]


@frozen
class Lost:
    """A disk lost what was on it, and its node comes back as another."""

    at_ms: int
    node: str
    why: str


@frozen
class Did:
    """Something was done to the world."""

    at_ms: int
    text: str


@frozen
class Final:
    """What a node holds at the end: applied index, and the values of all keys."""

    node: str
    applied: int
    values: dict[tuple[str, str], bytes] = field(hash=False)


Event: TypeAlias = (
    Opened | Logged | Cut | Installed | Committed | Led | Forced | Acknowledged | Shown | Kept | Lost | Did | Final
)


@define
class LogHistory:
    """Events in the order in which they happened, and the calls that clients made."""

    elected: bool = True  # whether leaders are elected
    events: list[Event] = field(factory=list)
    calls: list[Call] = field(factory=list)  # of which linearizability was promised

    def add(self, event: Event) -> None:
        """Note what happened."""
        self.events.append(event)

    def finals(self) -> list[Final]:
        """What the nodes held at the end."""
        return [event for event in self.events if isinstance(event, Final)]
