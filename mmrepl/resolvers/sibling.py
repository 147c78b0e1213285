"""
A sibling: a write that no other known write has overwritten, as a resolver sees it.

Siblings stand in *canonical order*: timestamp, then origin, then counter. The order is total, as no dot is minted
twice, and it is the same at every node, whatever the order in which the writes arrived there. That is all that makes
a resolver converge: a function of the same things in the same order gives the same answer (law L1).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import frozen

from mmrepl.causality.dot import COUNTER_MAX, Dot
from mmrepl.clock import hlc
from mmrepl.errors import Equivocation, InvalidValue, UsageError
from mmrepl.types import NodeId, Value
from mmrepl.values import INT_MAX, INT_MIN, decode, encode


@frozen(repr=False)
class Sibling:
    """
    One live write. The store makes them of what it holds, unchecked; by hand, `of` and `tombstone` are pleasanter.

    >>> Sibling.of({"tea": 2}, timestamp=5, origin="paris")
    Sibling(paris~0:1, 5, {'tea': 2})
    >>> Sibling.tombstone(timestamp=6, origin="tokyo", counter=3)
    Sibling(tokyo~0:3, 6, deleted)
    """

    dot: Dot
    timestamp: int  # packed hybrid timestamp (mmrepl.clock.hlc.pack); any int of 64 bits orders as well
    payload: bytes | None  # None is a tombstone

    @classmethod
    def of(
        cls,
        value: Any,
        *,
        timestamp: int,
        origin: NodeId | str | None = None,
        counter: int = 1,
        dot: Dot | None = None,
    ) -> Sibling:
        """
        A sibling that holds *value*, for an application with a store of its own.

        Say which write it is by *origin* (a name will do) and *counter* (the so-many-th write of that origin), or by
        *dot*. Two writes must never share a dot.

        Raises:
            InvalidValue: *value* is outside the domain.
            UsageError: neither origin nor dot, or a number out of range.
        """
        return cls(_dot(origin, counter, dot), _timestamp(timestamp), encode(value))

    @classmethod
    def tombstone(
        cls, *, timestamp: int, origin: NodeId | str | None = None, counter: int = 1, dot: Dot | None = None
    ) -> Sibling:
        """A sibling that deletes. Arguments and errors as for `of`."""
        return cls(_dot(origin, counter, dot), _timestamp(timestamp), None)

    @property
    def value(self) -> Value:
        """
        The value, decoded afresh at each access, so that nobody can change it for others; None for a tombstone.

        Raises:
            InvalidValue: the payload, from a broken peer, is no value.
        """
        return None if self.payload is None else decode(self.payload)

    @property
    def is_tombstone(self) -> bool:
        """Whether the write deletes."""
        return self.payload is None

    @property
    def rank(self) -> tuple[int, Dot]:
        """Its place in the canonical order: timestamp, then origin, then counter."""
        return (self.timestamp, self.dot)

    def __repr__(self) -> str:
        return f"Sibling({self.dot}, {stamp_text(self.timestamp)}, {value_text(self.payload, 'deleted')})"


def canonical(siblings: Iterable[Sibling]) -> tuple[Sibling, ...]:
    """
    *siblings* in canonical order. One that is given twice counts once.

    Raises:
        Equivocation: two different writes under one dot.
    """
    ordered = sorted(siblings, key=_rank)
    if len(ordered) > 1 and len({sibling.dot for sibling in ordered}) < len(ordered):
        by_dot: dict[Dot, Sibling] = {}
        for sibling in ordered:
            first = by_dot.setdefault(sibling.dot, sibling)
            if first != sibling:
                raise Equivocation(f"two different writes under one dot: {first} and {sibling}")
        ordered = list(by_dot.values())
    return tuple(ordered)


def _rank(sibling: Sibling) -> tuple[int, Dot]:
    return (sibling.timestamp, sibling.dot)


def _dot(origin: NodeId | str | None, counter: int, dot: Dot | None) -> Dot:
    if dot is not None:
        if origin is not None:
            raise UsageError("a sibling is named by its origin and counter, or by its dot, not by both")
        return dot
    if origin is None:
        raise UsageError("a sibling needs an origin (a name will do), or a dot: no two may have the same")
    if not (type(counter) is int and 1 <= counter <= COUNTER_MAX):
        raise UsageError(f"counter must be an int from 1 to {COUNTER_MAX}, not {counter!r}")
    return Dot(NodeId(origin, 0) if isinstance(origin, str) else origin, counter)


def _timestamp(timestamp: int) -> int:
    if not (type(timestamp) is int and INT_MIN <= timestamp <= INT_MAX):
        raise UsageError(f"timestamp must be an int of 64 bits, not {timestamp!r}")
    return timestamp


# -- as people read them

_FIRST_TIME = hlc.pack(1_000_000_000_000)  # September 2001; a lower stamp was made up by hand


def stamp_text(timestamp: int) -> str:
    """A stamp as a time; one that can hardly be meant as a time as the number that it is."""
    return hlc.describe(timestamp) if timestamp >= _FIRST_TIME else str(timestamp)


def value_text(payload: bytes | None, absent: str, length_max: int = 60) -> str:
    """A short repr of what *payload* holds; *absent* for none. Never raises: it stands in messages."""
    if payload is None:
        return absent
    if len(payload) > 4_096:
        return f"<{len(payload):,} bytes>"
    try:
        text = repr(decode(payload))
    except InvalidValue:
        return f"<no value, {len(payload):,} bytes>"
    return text if len(text) <= length_max else f"{text[: length_max - 3]}..."
