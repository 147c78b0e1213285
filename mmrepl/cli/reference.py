"""
The reference page's part about the commands, made of the commands themselves.

Options that many commands share are told once; each command's own are told with it. A test holds the page against
this, so that the page cannot say what the program does not do.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args, get_origin

from cyclopts import App, Argument

from mmrepl.cli.app import GROUPS, build
from mmrepl.cli.exits import table
from mmrepl.cli.options import Answer, Reach

SHARED = (Reach, Answer)


def reference() -> str:
    """All of it, in Markdown."""
    app = build()
    shared = _shared(app)
    helps = {argument.name: argument.parameter.help for argument in shared}
    parts = []
    for title, functions in GROUPS:
        parts.append(f"### {title}")
        for function in functions:
            parts += list(_command(app, function.__name__, helps))
    parts += ["### Options of many commands", _options(shared), "### Exit codes", table()]
    return "\n\n".join(parts)


def _command(app: App, name: str, shared: dict[str, str | None]) -> Iterable[str]:
    command = app[name]
    text = inspect.cleandoc(command.help)
    arguments = [argument for argument in command.assemble_argument_collection() if argument.show]
    places = [argument for argument in arguments if not argument.name.startswith("-")]
    own = [argument for argument in arguments if argument.name.startswith("-") and not _is_shared(argument, shared)]
    takes_node = any(argument.name == "--node" for argument in arguments)
    words = [_place(argument) for argument in places]
    yield f"#### {name}"
    yield f"`{' '.join(['mmrepl', name, *words])}`"
    yield text
    listed = [argument for argument in places if argument.parameter.help] + own
    if listed:
        yield _options(listed)
    if takes_node:
        yield "And the options that reach a node, below."


def _shared(app: App) -> list[Argument]:
    found = {argument.name: argument for argument in app["get"].assemble_argument_collection()}
    return [found[name] for name in _SHARED_NAMES]


_SHARED_NAMES = [f"--{field.name.replace('_', '-')}" for shared in SHARED for field in shared.__attrs_attrs__]


def _is_shared(argument: Argument, shared: dict[str, str | None]) -> bool:
    """An option of many commands, and not one of the same name that means something else."""
    return argument.name in shared and shared[argument.name] == argument.parameter.help


def _place(argument: Argument) -> str:
    name = argument.name
    if argument.field_info.kind is inspect.Parameter.VAR_POSITIONAL:
        return f"[{name} …]"
    return name if argument.required else f"[{name}]"


def _options(arguments: Iterable[Argument]) -> str:
    lines = ["| | |", "|---|---|"]
    for argument in arguments:
        text = (argument.parameter.help or "").replace("|", "\\|")
        default = argument.field_info.default
        if isinstance(default, tuple):
            default = " ".join(map(str, default))
        if default not in {inspect.Parameter.empty, None, False, ""} and isinstance(default, str | int | float | Path):
            text += f" Default: `{default}`."
        if argument.parameter.env_var:
            text += f" Or in the environment: `{next(iter(argument.parameter.env_var))}`."
        lines.append(f"| `{argument.name}{_form(argument)}` | {text} |")
    return "\n".join(lines)


def _form(argument: Argument) -> str:
    """What follows an option: nothing for a switch, its choices, or a word in capitals."""
    if not argument.name.startswith("-"):
        return ""
    if argument.name == "--minutes":
        return " MINUTES"
    hint: Any = argument.hint
    kinds = [kind for kind in get_args(hint) if kind is not type(None)] if _is_union(hint) else [hint]
    kind = kinds[0]
    if kind is bool:
        return ""
    if get_origin(kind) is list:
        kind = get_args(kind)[0]
    if get_origin(kind) is tuple:
        return "".join(map(_word, get_args(kind)))
    choices = get_args(kind)
    if choices:
        return " " + "\\|".join(map(str, choices))
    return _word(kind)


def _word(kind: Any) -> str:
    return {int: " NUMBER", float: " SECONDS", Path: " FILE"}.get(kind, " TEXT")


def _is_union(hint: Any) -> bool:
    return type(None) in get_args(hint)
