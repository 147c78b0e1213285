"""
What the story asks of the world that it plays in: real processes, or nodes in virtual time.

The story knows nothing but this, so both tell the same; and whatever it says, it has asked here first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from attrs import field, frozen

from mmrepl.causality.dot import Dot
from mmrepl.causality.version_vector import VersionVector
from mmrepl.cli.remote import KeyRead
from mmrepl.types import Value

NAMES = ("paris", "tokyo", "lima")
"""The nodes, in the order in which they are shown."""

Place = tuple[str, str]
"""A table and a key."""


@frozen
class View:
    """One node at one moment."""

    name: str
    peers: Mapping[str, str]  # the others, by name, to the state in which this node sees them
    version: VersionVector
    reads: Mapping[Place, KeyRead]
    role: str = ""  # of a node of the single-master mode, as are the following
    term: int = 0
    leader: str = ""
    entries: int = 0  # that it has applied

    @property
    def operations(self) -> int:
        """How many operations it has applied."""
        return sum(self.version.values())


@frozen
class Heard:
    """A node applied an operation, its own or another's."""

    at_ms: int  # since the world began
    node: str
    dot: Dot
    table: str
    key: str
    deleted: bool
    value: Value = field(eq=False)

    @property
    def own(self) -> bool:
        """Whether the node wrote it itself."""
        return self.dot.origin.name == self.node


class World(Protocol):
    """Three nodes and the network between them."""

    @property
    def kind(self) -> str:
        """What it is, for programs: ``processes`` or ``simulated``."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """How it was made, for programs: what each process told when it started, or the seed."""

    def begin(self) -> Sequence[str]:
        """Start the nodes; returns sentences that say how."""

    def close(self) -> None:
        """End everything that was started. Idempotent."""

    def now_ms(self) -> int:
        """Milliseconds since the world began."""

    def put(self, node: str, place: Place, value: Value, context: str | None = None) -> Dot:
        """Write at a node, over what it shows or over what a context token covers."""

    def look(self, node: str, places: Sequence[Place]) -> View:
        """A node as it is now."""

    def cut(self, one: Sequence[str], other: Sequence[str]) -> None:
        """Let nodes of the two sides no longer hear each other."""

    def heal(self) -> None:
        """Let all hear each other again."""

    def wait(self, condition: Callable[[], bool], seconds: float) -> int | None:
        """Let time pass until *condition* holds; how many milliseconds that took, None if it never did."""

    def sleep(self, seconds: float, meanwhile: Callable[[], None]) -> None:
        """Let time pass for the one who watches, and call *meanwhile* now and then."""

    def heard(self) -> Sequence[Heard]:
        """Every operation that a node was seen to apply, in order of time."""


class Stage(Protocol):
    """Where the story is told."""

    def chapter(self, title: str) -> None:
        """A new part begins."""

    def say(self, sentence: str, *, good: bool = True) -> None:
        """One sentence; *good* is false where something is not as it should be."""

    def show(self, views: Sequence[View]) -> None:
        """The nodes, as they are now."""
