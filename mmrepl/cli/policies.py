"""
Table policies as people write them: ``lww``, ``siblings``, ``callback:MODULE:FUNCTION``.

A callback is imported from the folder in which the command runs, or from wherever Python finds modules. Nodes compare
policies by name, so the function must have the same module and name on all of them.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from mmrepl.errors import UsageError
from mmrepl.resolvers import Callback, KeepSiblings, LastWriterWins, Resolver

FORMS = "lww, siblings or callback:MODULE:FUNCTION"


def parse_policy(text: str) -> Resolver:
    """The resolver that *text* names. Raises UsageError."""
    kind, _, rest = text.partition(":")
    if kind == "lww" and not rest:
        return LastWriterWins()
    if kind == "siblings" and not rest:
        return KeepSiblings()
    if kind == "callback":
        module, _, function = rest.partition(":")
        if module and function:
            return Callback(_imported(module, function))
    raise UsageError(f"{text!r} is no policy: expected {FORMS}")


def parse_tables(texts: list[str]) -> dict[str, Resolver]:
    """Tables by name, of ``name=policy``. Raises UsageError, also for a table that is named twice."""
    tables: dict[str, Resolver] = {}
    for text in texts:
        name, equals, policy = text.rpartition("=")
        if not equals or not name:
            raise UsageError(f"--table takes NAME=POLICY, with a policy of {FORMS}, not {text!r}")
        if name in tables:
            raise UsageError(f"table {name!r} is given two policies")
        tables[name] = parse_policy(policy)
    return tables


def _imported(module: str, function: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:  # `python -m mmrepl` has it already, the installed command has not
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:
        raise UsageError(
            f"the callback's module {module!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    try:
        for name in function.split("."):
            found = getattr(found, name)
    except AttributeError:
        raise UsageError(f"there is no {function!r} in module {module!r} ({getattr(found, '__file__', '')})") from None
    return found
