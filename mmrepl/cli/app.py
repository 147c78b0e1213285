"""
The application: which commands there are, and what happens to their errors.

A command is a plain function in the file of its group; its signature is its syntax, its docstring its help. It answers
with an exit code, or None for 0, and lets errors fly: here each becomes one line on standard error and the exit code
that belongs to it (`mmrepl.cli.exits`).
"""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from cyclopts import App, CycloptsError, Group

from mmrepl import __version__
from mmrepl.cli import changes, check, cluster, compare, files, keys, operator, output, serve, sim
from mmrepl.cli.config import from_file
from mmrepl.cli.demo.command import demo
from mmrepl.cli.exits import Exit, code_of
from mmrepl.cli.options import Answer

GROUPS: tuple[tuple[str, tuple[Callable[..., Any], ...]], ...] = (
    ("See it", (demo,)),
    ("Run a node", (serve.serve,)),
    ("Keys", (keys.put, keys.get, keys.read, keys.delete, keys.scan)),
    ("Operations", (changes.watch, changes.log)),
    ("The cluster", (cluster.status, cluster.members, cluster.partition, cluster.heal, cluster.remove)),
    ("One writer at a time", (operator.promote, operator.transfer, operator.add, operator.branches)),
    ("Files", (files.verify, files.backup)),
    ("Prove it", (check.check, sim.sim, compare.compare)),
)
"""The commands, by the heading under which help lists them. A function's name is the command's."""


def build() -> App:
    """The application, fresh."""
    app = App(
        name="mmrepl",
        help="A multi-master replicated key-value store: run nodes, ask them, cut them apart and heal them.",
        version=__version__,
        help_format="markdown",
        config=from_file,
        console=output.console(),
    )
    for order, (title, functions) in enumerate(GROUPS):
        group = Group(title, sort_key=order)
        for function in functions:
            app.command(function, group=group)
    app.register_install_completion_command(help="Install completion for this shell, and tell where.")
    return app


def run(arguments: Sequence[str]) -> int:
    """Run one command line; returns its exit code. Errors have been told on standard error."""
    debug = False
    try:
        command, bound, _ = build().parse_args(list(arguments), exit_on_error=False, print_error=False)
        debug = any(isinstance(value, Answer) and value.debug for value in bound.arguments.values())
        code = command(*bound.args, **bound.kwargs)
        if inspect.iscoroutine(code):
            code = asyncio.run(code)
        sys.stdout.flush()
    except CycloptsError as error:
        return _refused(error, arguments)
    except BrokenPipeError:
        # Nobody reads any more. Do not meet it again when the interpreter flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.PIPE
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except Exception as error:  # noqa: BLE001 — one line for whatever it was; --debug shows all of it
        if debug:
            traceback.print_exc()
        return _failed(error)
    return Exit.OK if code is None else int(code)


def _refused(error: CycloptsError, arguments: Sequence[str]) -> Exit:
    words = [word for word in arguments if not word.startswith("-")][:1]
    topic = " ".join(["mmrepl", *words, "--help"]) if words and words[0] in _names() else "mmrepl --help"
    error.verbose = False
    output.hint(f"{' '.join(str(error).split())} See `{topic}`.")
    return Exit.USAGE


def _failed(error: Exception) -> Exit:
    code = code_of(error)
    if code is Exit.DEFECT:
        output.hint(f"a defect of mmrepl: {type(error).__name__}: {output.safe(str(error))}; --debug shows where")
    elif isinstance(error, OSError) and error.filename is not None:
        output.hint(f"{error.filename}: {error.strerror}")
    else:
        output.hint(" ".join(str(error).split()) or type(error).__name__)
    return code


def _names() -> set[str]:
    return {function.__name__ for _, functions in GROUPS for function in functions}
