"""
The command line.

It is an extra: the core must not ask for libraries that only a terminal needs. So this file imports nothing but the
standard library, and says in one line what to install when they are not there.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

NEEDS: Final = frozenset({"cyclopts", "rich"})
"""What the extra brings."""


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run one command line, by default this process' own, and return its exit code. Never raises for a command's error.

    The codes are those of `mmrepl.cli.exits`; 2 when the extra is not installed.
    """
    try:
        from mmrepl.cli.app import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in NEEDS:
            raise
        print(
            f'mmrepl: the command line needs {error.name}, which is not installed: pip install "mmrepl[cli]"',
            file=sys.stderr,
        )
        return 2
    return run(sys.argv[1:] if arguments is None else list(arguments))
