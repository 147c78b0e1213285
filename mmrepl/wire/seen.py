"""
What a session has seen, as a value and as text: the same idea in both modes, two ways to count.

With many writers it is a version vector; with one it is a place in the log, written ``term.index``. Either can be
joined with its like, and given to any node of the cluster, which knows whether it has applied all of it. The empty
one, ``-``, is of both kinds.
"""

from __future__ import annotations

import re
from typing import TypeAlias

from attrs import frozen

from mmrepl.causality.version_vector import EMPTY, VersionVector
from mmrepl.errors import UsageError
from mmrepl.wire.tokens import parse_version_token, version_token

_POSITION = re.compile(r"(0|[1-9][0-9]{0,18})\.([1-9][0-9]{0,18})")


@frozen(order=True)
class LogPosition:
    """
    An entry of the one log, with everything before it. Ordered by term, then index.

    In one log the two orders agree. Where they do not, one of the entries was cut off by a later primary, and the later
    term is what the session has seen last.
    """

    term: int
    index: int

    def __str__(self) -> str:
        return f"{self.term}.{self.index}"

    @classmethod
    def parse(cls, text: str) -> LogPosition | None:
        """The inverse of ``str``; None for anything else."""
        found = _POSITION.fullmatch(text)
        return None if found is None else cls(int(found[1]), int(found[2]))


Seen: TypeAlias = VersionVector | LogPosition


def join_seen(ours: Seen, theirs: Seen) -> Seen:
    """
    What both have seen together. Raises UsageError for a vector and a position: they are of different clusters.

    >>> print(join_seen(LogPosition(2, 9), LogPosition(3, 7)))
    3.7
    """
    if not ours:
        return theirs
    if not theirs:
        return ours
    if isinstance(ours, LogPosition) and isinstance(theirs, LogPosition):
        return max(ours, theirs)
    if isinstance(ours, VersionVector) and isinstance(theirs, VersionVector):
        return ours.join(theirs)
    raise UsageError(f"{ours} and {theirs} were seen in clusters of different modes: a session belongs to one cluster")


def seen_token(seen: Seen) -> str:
    """As text without blanks; ``-`` for nothing."""
    if isinstance(seen, LogPosition):
        return str(seen)
    return version_token(seen) if seen else "-"


def parse_seen_token(token: str | bytes) -> Seen:
    """The inverse. Raises UsageError for anything else."""
    try:
        text = token.decode("ascii") if isinstance(token, bytes) else token
    except UnicodeDecodeError:
        text = ""
    if text == "-":
        return EMPTY
    return LogPosition.parse(text) or parse_version_token(text.encode("utf-8", "replace"))
