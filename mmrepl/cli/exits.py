"""
Exit codes: what a script may rely on.

One table, for the commands, the reference page and the tests. A code answers the question that a script asks next:
did I ask wrongly, is nobody there, is a file damaged? Whether a write may have happened all the same is said in the
message (see `mmrepl.errors`).
"""

from __future__ import annotations

import enum
import errno
from typing import Final

from mmrepl.errors import (
    LogTruncated,
    MmreplError,
    PeerError,
    ResolverError,
    StorageError,
    Unavailable,
    UsageError,
)


class Exit(enum.IntEnum):
    """The exit code of a command."""

    OK = 0
    NO = 1
    USAGE = 2
    UNAVAILABLE = 3
    STORAGE = 4
    CANNOT = 5
    DEFECT = 70
    INTERRUPTED = 130
    PIPE = 141


MEANING: Final[dict[Exit, str]] = {
    Exit.OK: "done; of a question: yes",
    Exit.NO: "no: the key is absent, nothing was there to delete, the nodes of the demo did not agree, `sim` or `check`"
    " found something",
    Exit.USAGE: "asked wrongly: an unknown option, a value or key that cannot be stored, a wrong context or password",
    Exit.UNAVAILABLE: "nobody answers there, the address is taken, fewer members than asked for confirmed in time",
    Exit.STORAGE: "the file: damaged, in use by another process, of another program, no space, no permission",
    Exit.CANNOT: "not possible as things are: a resolver failed, the log no longer reaches back so far",
    Exit.DEFECT: "a defect of mmrepl; please report it, with what `--debug` shows",
    Exit.INTERRUPTED: "interrupted with Ctrl-C (`serve` stops cleanly instead, and ends with 0)",
    Exit.PIPE: "whoever read the output has gone, as after `| head`",
}
"""What each code says, for the reference page."""

_FAMILIES: Final[tuple[tuple[type[BaseException], Exit], ...]] = (
    (UsageError, Exit.USAGE),
    (Unavailable, Exit.UNAVAILABLE),
    (StorageError, Exit.STORAGE),
    (LogTruncated, Exit.CANNOT),
    (ResolverError, Exit.CANNOT),
    (PeerError, Exit.CANNOT),
    (MmreplError, Exit.CANNOT),
    (BrokenPipeError, Exit.PIPE),
    (KeyboardInterrupt, Exit.INTERRUPTED),
)

_NETWORK: Final = frozenset({errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.ECONNREFUSED, errno.ETIMEDOUT})


def code_of(error: BaseException) -> Exit:
    """The exit code that an error leads to; ``DEFECT`` for whatever nobody meant to raise."""
    for family, code in _FAMILIES:
        if isinstance(error, family):
            return code
    if isinstance(error, OSError):
        if error.errno in _NETWORK or isinstance(error, ConnectionError | TimeoutError):
            return Exit.UNAVAILABLE
        return Exit.STORAGE if error.filename is not None else Exit.UNAVAILABLE
    return Exit.DEFECT


def table() -> str:
    """The codes as a table in Markdown."""
    lines = ["| Code | Meaning |", "|---|---|"]
    lines += [f"| {code.value} | {meaning.replace('|', chr(92) + '|')} |" for code, meaning in MEANING.items()]
    return "\n".join(lines)
