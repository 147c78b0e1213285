"""
One call of a program, as the nodes are asked it; and what to make of an error that one of them gives. Pure.

Table, precondition and number travel with the command (MM.IN, MM.AFTER, MM.ONCE), because connections are shared.
"""

from __future__ import annotations

import enum

from attrs import field, frozen

from mmrepl import errors
from mmrepl.causality.version_vector import EMPTY
from mmrepl.types import DEFAULT_TABLE
from mmrepl.wire.resp import array, bulk
from mmrepl.wire.seen import Seen, seen_token


@frozen(kw_only=True)
class Request:
    """A command, and all that decides where it may be executed."""

    words: tuple[bytes, ...]
    key: str | None
    writes: bool
    repeatable: bool  # whether it may be sent again when nobody knows what became of it
    reads: str  # the preference, for what does not write
    table: str = DEFAULT_TABLE
    needs: Seen = field(default=EMPTY)  # what a node must have applied
    number: tuple[int, int] | None = None  # of a write: session of the log, and request

    @property
    def command(self) -> str:
        """Its name."""
        return self.words[0].decode()

    def encoded(self, wait_ms: int) -> bytes:
        """As sent to a node, which may take *wait_ms* to catch up with what the request needs."""
        words = self.words
        if self.table:
            words = (b"MM.IN", self.table.encode(), *words)
        if self.number is not None:
            words = (b"MM.ONCE", b"%d" % self.number[0], b"%d" % self.number[1], *words)
        if self.needs:
            words = (b"MM.AFTER", seen_token(self.needs).encode(), b"%d" % wait_ms, *words)
        return encoded(words)


def encoded(words: tuple[bytes, ...]) -> bytes:
    """A command as sent."""
    return array(bulk(word) for word in words)


class ConnectionBroken(errors.Unavailable):
    """A connection ended before its answer. ``definite`` when the command was never handed to the network."""

    def __init__(self, message: str, *, definite: bool) -> None:
        super().__init__(message)
        self.definite = definite


class Verdict(enum.Enum):
    """What to do after an error."""

    RAISE = "raise"  # it would be the same elsewhere, or nobody knows whether the write was made
    MOVE = "move"  # ask whom the node named
    WAIT = "wait"  # the node is behind what the session has seen: elsewhere, or later
    NEXT = "next"  # ask somebody else


def verdict(error: errors.MmreplError, request: Request) -> Verdict:
    """
    What to do about *error*, which a node gave for *request*.

    Only what is certainly not written, or may be repeated, is asked of somebody else.
    """
    if isinstance(error, errors.NotPrimary):
        return Verdict.MOVE
    if isinstance(error, errors.NodeBehind):
        return Verdict.WAIT
    if not error.definite and not request.repeatable:
        return Verdict.RAISE
    if isinstance(error, errors.Unavailable | errors.StorageError | errors.ClosedError | errors.FrameError):
        return Verdict.NEXT
    return Verdict.RAISE


def tell(error: errors.MmreplError, node: str, request: Request) -> errors.MmreplError:
    """The same error, with the call in its message and in ``call``. Once only."""
    if error.call is None:
        error.call = errors.Call(node, request.command, request.key)
        what = request.command if request.key is None else f"{request.command} {request.key!r}"
        if isinstance(error, KeyError):
            error.args = (f"{node or 'no node'}: {what}: {error.args[0]}",)
        else:
            error.args = (f"{node or 'no node'}: {what}: {error}", *error.args[1:])
    return error
