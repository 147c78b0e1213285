"""
Histories: what replicas did and what they heard, as a list of steps.

A history is about one key of one table. Its replicas are those that it names; each begins empty. Steps are small
values whose repr is how one would write them, so that a history can be pasted into a test as it is printed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from attrs import frozen

from mmrepl.errors import UsageError
from mmrepl.types import Value

NAMES = ("paris", "tokyo", "lima", "oslo")
"""Replicas in histories that are made up."""


class _Step:
    """A repr that is short, and can be evaluated."""

    __slots__ = ()

    def __repr__(self) -> str:
        shown = []
        for attribute in self.__attrs_attrs__:  # type: ignore[attr-defined]
            value = getattr(self, attribute.name)
            if not attribute.kw_only:
                shown.append(literal(value))
            elif value != attribute.default:
                shown.append(f"{attribute.name}={literal(value)}")
        return f"{type(self).__name__}({', '.join(shown)})"


def _kw(default: Any) -> Any:
    from attrs import field

    return field(default=default, kw_only=True)


@frozen(repr=False)
class Put(_Step):
    """*at* writes *value* over what it shows; with *blind*, as a sibling of whatever is there."""

    at: str
    value: Value
    blind: bool = _kw(default=False)


@frozen(repr=False)
class Delete(_Step):
    """*at* deletes what it shows."""

    at: str


@frozen(repr=False)
class WriteBack(_Step):
    """*at* reads, and puts what it read with the context of that read. Nothing happens where the key is absent."""

    at: str


@frozen(repr=False)
class Deliver(_Step):
    """*target* is told by *source* all that it lacks."""

    source: str
    target: str


@frozen(repr=False)
class Send(_Step):
    """*source* sends *target* what that lacks; it is under way until `Arrive`, and lost if there is none."""

    source: str
    target: str


@frozen(repr=False)
class Arrive(_Step):
    """What *source* sent to *target* first, of what is under way, arrives."""

    source: str
    target: str


@frozen(repr=False)
class Repeat(_Step):
    """What arrived from *source* at *target* last arrives again."""

    source: str
    target: str


@frozen(repr=False)
class Restart(_Step):
    """The process of *at* dies and is started again, on the same disk."""

    at: str


@frozen(repr=False)
class Exchange(_Step):
    """Everybody tells everybody, until all have the same. Then all must read the same bytes."""


@frozen(repr=False)
class Settle(_Step):
    """
    Everybody writes back what it reads, then all exchange; again and again, *rounds* times at most.

    What is read must come to rest.
    """

    rounds: int = _kw(default=16)


Step: TypeAlias = Put | Delete | WriteBack | Deliver | Send | Arrive | Repeat | Restart | Exchange | Settle
STEPS = (Put, Delete, WriteBack, Deliver, Send, Arrive, Repeat, Restart, Exchange, Settle)


def checked_history(steps: Sequence[Step]) -> tuple[Step, ...]:
    """*steps* as a history. Raises UsageError for what is no step."""
    history = tuple(steps)
    for position, step in enumerate(history):
        if not isinstance(step, STEPS):
            raise UsageError(
                f"step {position} of the history is a {type(step).__name__}: expected Put(...) or the like"
            )
    return history


def literal(value: Any) -> str:
    """*value* as Python source, NaN and infinities included."""
    if type(value) is float and (value != value or value in {float("inf"), float("-inf")}):  # noqa: PLR0124
        return f"float('{value}')"
    if type(value) is list:
        return f"[{', '.join(map(literal, value))}]"
    if type(value) is dict:
        return "{" + ", ".join(f"{key!r}: {literal(element)}" for key, element in value.items()) + "}"
    return repr(value)
