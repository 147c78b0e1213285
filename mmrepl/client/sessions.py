"""
What a session has written and read, and what a node must have applied to serve it next.

The four guarantees are those of Terry et al., "Session guarantees for weakly consistent replicated data" (1994).
There they are kept with two vectors, the writes of the session and the writes that its reads have shown; so here, but
that either may be a place in a log (`mmrepl.wire.seen`). Each guarantee asks for one of the two before one kind of
operation:

    read your writes      written, before a read
    monotonic reads       read, before a read
    writes follow reads   read, before a write
    monotonic writes      written, before a write

For the last two it is enough that the node where the write is made has applied them: a write depends on all that its
node had applied, and arrives nowhere before it (law L4).
"""

from __future__ import annotations

from attrs import frozen

from mmrepl.causality.version_vector import EMPTY
from mmrepl.errors import UsageError
from mmrepl.wire.seen import Seen, join_seen, parse_seen_token, seen_token

_FORM = "s1"


@frozen(kw_only=True)
class Guarantees:
    """Which of the four a session keeps."""

    read_your_writes: bool = True
    monotonic_reads: bool = True
    monotonic_writes: bool = True
    writes_follow_reads: bool = True


class SessionState:
    """
    Both halves of what was seen, kept whatever the guarantees are, so that a token serves any of them.

    >>> state = SessionState.parse("s1:3.17:3.20")
    >>> str(state.before_read), str(state.before_write)
    ('3.20', '3.20')
    """

    __slots__ = ("_before_read", "_before_write", "guarantees", "read", "written")

    def __init__(self, guarantees: Guarantees | None = None, written: Seen = EMPTY, read: Seen = EMPTY) -> None:
        self.guarantees = guarantees or Guarantees()
        self.written = written
        self.read = read
        self._before_read: Seen = EMPTY
        self._before_write: Seen = EMPTY
        self._derive()

    @classmethod
    def parse(cls, token: str, guarantees: Guarantees | None = None) -> SessionState:
        """The inverse of `token`. Raises UsageError for anything else."""
        parts = token.split(":") if isinstance(token, str) else []
        if len(parts) != 3 or parts[0] != _FORM:
            raise UsageError(f"{token!r} is no session token: give back what .token said, unchanged")
        return cls(guarantees, parse_seen_token(parts[1]), parse_seen_token(parts[2]))

    @property
    def token(self) -> str:
        """A short text from which the session can go on, elsewhere and later."""
        return f"{_FORM}:{seen_token(self.written)}:{seen_token(self.read)}"

    @property
    def before_read(self) -> Seen:
        """What a node must have applied to serve a read."""
        return self._before_read

    @property
    def before_write(self) -> Seen:
        """What a node must have applied to take a write."""
        return self._before_write

    def wrote(self, seen: Seen) -> None:
        """A write was made. Raises UsageError when it was made in a cluster of another mode."""
        self.written = join_seen(self.written, seen)
        self._derive()

    def saw(self, seen: Seen) -> None:
        """A read has shown this. Raises UsageError as `wrote`."""
        self.read = join_seen(self.read, seen)
        self._derive()

    def _derive(self) -> None:
        keep = self.guarantees
        written, read = self.written, self.read
        self._before_read = join_seen(
            written if keep.read_your_writes else EMPTY, read if keep.monotonic_reads else EMPTY
        )
        self._before_write = join_seen(
            written if keep.monotonic_writes else EMPTY, read if keep.writes_follow_reads else EMPTY
        )
