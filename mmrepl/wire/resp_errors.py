"""
Errors as the client port says them, and back: a code in capitals, a sentence, and the truth about the write's fate.

One table for both directions. What a node raises becomes the code of the most special class that fits; what a client
reads becomes an error of that class again, with ``definite`` as the node said it. Two answers have the form that Redis
gives them, because its clients act on it: ``MOVED 0 host:port`` and ``READONLY …``, of a node that takes no writes.
"""

from __future__ import annotations

from mmrepl import errors
from mmrepl.wire.resp import Failure

CODES: tuple[tuple[type[errors.MmreplError], str], ...] = (
    (errors.InvalidKey, "INVALID"),
    (errors.InvalidValue, "INVALID"),
    (errors.WrongContext, "WRONGCONTEXT"),
    (errors.TooManySiblings, "SIBLINGS"),
    (errors.UnknownTable, "NOTABLE"),
    (errors.SessionExpired, "EXPIRED"),
    (errors.StaleRequest, "STALE"),
    (errors.ClosedError, "CLOSED"),
    (errors.ClockAhead, "CLOCKAHEAD"),
    (errors.NodeBehind, "BEHIND"),
    (errors.Unavailable, "UNAVAILABLE"),
    (errors.StorageError, "STORE"),
    (errors.LogTruncated, "TRUNCATED"),
    (errors.ResolverError, "RESOLVER"),
)
"""Codes of error answers, the more special first. Keys and values share one."""

KINDS: dict[str, type[errors.MmreplError]] = {code: kind for kind, code in CODES}
"""The class that a code stands for; for a code of several, the last of them."""

READONLY = "You can't write against a read only replica."
"""Redis' own sentence; its clients look for the code."""

MAYBE = "(may have been written: do not repeat it blindly)"
CERTAINLY_NOT = "(certainly not written)"


def code_of(error: Exception) -> str:
    """The code for *error*; ``ERR`` for what has none."""
    return next((code for kind, code in CODES if isinstance(error, kind)), "ERR")


def redirection(error: errors.NotPrimary) -> Failure:
    """Where to write, as Redis says it."""
    return Failure("MOVED", f"0 {error.primary}") if error.primary else Failure("READONLY", READONLY)


def error_of(answer: Failure) -> errors.MmreplError:
    """
    The error that an error answer tells of; UsageError for refusals of the port itself.

    >>> error_of(Failure("MOVED", "0 127.0.0.1:6401")).primary
    '127.0.0.1:6401'
    """
    if answer.code == "MOVED":
        return errors.NotPrimary(
            f"this node takes no writes: its primary is at {answer.text[2:]}, ask there",
            primary=answer.text.rpartition(" ")[2],
        )
    if answer.code == "READONLY":
        return errors.NotPrimary(answer.text)
    error = KINDS.get(answer.code, errors.UsageError)(answer.text)
    error.definite = "may have" not in answer.text
    return error
