"""
Majorities, plain and joint.

While members change by joint consensus there are two sets of voters, and everything needs a majority of each (Raft
thesis §4.3). One set alone is the usual case.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence


class Outcome(enum.Enum):
    """Of a vote."""

    WON = "won"
    LOST = "lost"
    OPEN = "open"


Sets = Sequence[Sequence[str]]
"""One set of voters, or the two of a joint configuration; each without repetition."""


def majority(count: int) -> int:
    """How many of *count* are more than half."""
    return count // 2 + 1


def reached(sets: Sets, value: Callable[[str], int]) -> int:
    """
    The highest number that a majority of each set has reached. Of no voters at all: 0.

    With *value* the index up to which a voter's disk holds the log, this is how far the log is committed.
    """
    found: int | None = None
    for voters in sets:
        if not voters:
            continue
        values = sorted(map(value, voters), reverse=True)
        here = values[len(values) // 2]
        found = here if found is None else min(found, here)
    return found or 0


def reached_by(voters: Sequence[str], value: Callable[[str], int], count: int) -> int:
    """The highest number that *count* of the voters have reached; -1 where there are not so many voters."""
    if count <= 0:
        raise ValueError("nobody has reached anything")
    if count > len(voters):
        return -1
    return sorted(map(value, voters), reverse=True)[count - 1]


def outcome(sets: Sets, votes: Mapping[str, bool]) -> Outcome:
    """
    Whether a vote is decided. Who is no voter does not count; without voters nothing is ever won.
    """
    won = any(sets)
    for voters in sets:
        if not voters:
            continue
        needed = majority(len(voters))
        granted = sum(votes.get(name) is True for name in voters)
        refused = sum(votes.get(name) is False for name in voters)
        if len(voters) - refused < needed:
            return Outcome.LOST
        won = won and granted >= needed
    return Outcome.WON if won else Outcome.OPEN
