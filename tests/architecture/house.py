"""
The house of mmrepl as rules that a machine can check: who may import whom, what is banned where.

The checkers are pure functions from sources to sentences about what is wrong, so that the tests can also show them
small houses in which each rule is broken. Imports are read from the syntax tree, and all of them count: those inside
functions and those under TYPE_CHECKING too, because a cycle of types is a cycle of ideas.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

ROOT = "mmrepl"

# Downhill: a part may import what stands on a higher line of this table, and its own insides. Parts on one line are
# neighbours that never meet. ROOT is mmrepl/__init__.py, which lends its names to the outside. Why clock and ports
# stand as high as they do: docs/design/0003-order-of-the-house.md.
LEVELS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("types",),
    ("values",),
    ("clock",),
    ("causality",),
    ("log", "resolvers"),
    ("ports",),
    ("store", "wire"),
    ("effects",),
    ("replication", "single_master"),
    ("storage", "transport", "loop_thread"),
    ("runtime", "sim", "client"),
    (ROOT,),
    ("testing", "compare"),
    ("cli",),
    ("__main__",),
)
LEVEL_OF = {part: level for level, parts in enumerate(LEVELS) for part in parts}
PURE_PARTS = frozenset(part for part, level in LEVEL_OF.items() if level < LEVEL_OF["storage"])

# Modules by which a program touches the outside: network, disk, clocks, dice, threads, processes, the terminal.
OUTSIDE = frozenset(
    [
        "asyncio",
        "concurrent",
        "contextvars",
        "fcntl",
        "fileinput",
        "getpass",
        "glob",
        "http",
        "locale",
        "logging",
        "mmap",
        "multiprocessing",
        "os",
        "pathlib",
        "platform",
        "queue",
        "random",
        "secrets",
        "select",
        "selectors",
        "shutil",
        "signal",
        "socket",
        "socketserver",
        "sqlite3",
        "ssl",
        "subprocess",
        "sys",
        "tempfile",
        "threading",
        "time",
        "urllib",
        "uuid",
    ]
)
IN_MEMORY = frozenset({"io.BytesIO", "io.StringIO"})  # buffers; the rest of io is files
# Builtins by which it does the same without an import. `hash` differs from process to process (law L12).
OUTSIDE_BUILTINS = frozenset({"breakpoint", "hash", "input", "open", "print"})

# What turns bytes into code. (The pipes and pools of multiprocessing carry pickles.)
CODE_FROM_BYTES = frozenset(
    {"cloudpickle", "dill", "jsonpickle", "marshal", "multiprocessing", "pickle", "shelve", "yaml"}
)
CODE_FROM_TEXT = frozenset({"__import__", "compile", "eval", "exec"})

LINES_MAX = 520


class Import(NamedTuple):
    """One name that a file imports, absolute and as exact as the syntax tells."""

    line: int
    target: str


class Call(NamedTuple):
    """A call of a plain name, and the function in which it stands."""

    line: int
    name: str
    inside: str


def imports_of(source: str, module: str, *, is_package: bool = False) -> list[Import]:
    """
    Every import in *source*, which is the text of *module*; relative ones are made absolute.

    ``from a import b`` gives ``a.b``: whether b is a module or a name does not matter to the rules.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [Import(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                here = module.split(".")
                here = here[: len(here) - node.level + is_package]
                base = ".".join([*here, base] if base else here)
            found += [Import(node.lineno, f"{base}.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.Call) and _name_of(node.func) in {"import_module", "importlib.import_module"}:
            argument = node.args[0] if node.args else None
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                found.append(Import(node.lineno, argument.value))
    return sorted(found)


def calls_of(source: str) -> list[Call]:
    """Every call of a plain name in *source*."""

    def visit(node: ast.AST, inside: str) -> Iterator[Call]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inside = node.name
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield Call(node.lineno, node.func.id, inside)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside)

    return sorted(visit(ast.parse(source), ""))


def _name_of(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_name_of(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def part_of(module: str) -> str:
    """The part of the house that *module* stands in: ``mmrepl.store.keyspace`` stands in ``store``."""
    names = module.split(".")
    if names[0] != ROOT:
        raise ValueError(f"{module} is not in the house")
    return names[1] if len(names) > 1 else ROOT


def _part_of_import(target: str) -> str | None:
    names = target.split(".")
    if names[0] != ROOT:
        return None
    return names[1] if len(names) > 1 and names[1] in LEVEL_OF else ROOT


def uphill(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """Imports of *source* that do not point downhill."""
    ours = part_of(module)
    if ours not in LEVEL_OF:
        return [f"{module}: the part {ours!r} has no level in the house; give it one in LEVELS"]
    wrong = []
    for line, target in imports_of(source, module, is_package=is_package):
        theirs = _part_of_import(target)
        if theirs is None or theirs == ours or LEVEL_OF[theirs] < LEVEL_OF[ours]:
            continue
        why = "its neighbour" if LEVEL_OF[theirs] == LEVEL_OF[ours] else "above it"
        wrong.append(f"{module}:{line} imports {target}, which is {why}")
    return wrong


def outside(module: str, source: str) -> list[str]:
    """Ways by which *source*, if it stands in the pure middle, touches the outside (law L9)."""
    if part_of(module) not in PURE_PARTS:
        return []
    wrong = [
        f"{module}:{line} imports {target}, and the middle is pure"
        for line, target in imports_of(source, module)
        if target.split(".")[0] in OUTSIDE or (target.split(".")[0] == "io" and target not in IN_MEMORY)
    ]
    wrong += [
        f"{module}:{line} calls {name}(), and the middle is pure"
        for line, name, inside in calls_of(source)
        if name in OUTSIDE_BUILTINS and not (name == "hash" and inside == "__hash__")
    ]
    return wrong


def code_from_data(name: str, source: str) -> list[str]:
    """Ways by which *source* could run code that it was sent or read."""
    wrong = [
        f"{name}:{line} imports {target}, which makes code of bytes"
        for line, target in imports_of(source, name)
        if target.split(".")[0] in CODE_FROM_BYTES
    ]
    wrong += [
        f"{name}:{line} calls {called}(), which makes code of text"
        for line, called, _ in calls_of(source)
        if called in CODE_FROM_TEXT
    ]
    return wrong


def too_long(files: Mapping[str, str], known: Mapping[str, int]) -> list[str]:
    """
    Files of more than `LINES_MAX` lines.

    *known* lists the exceptions with the length that each may have. It is a ratchet: an exception that is no longer
    needed, or no longer needed at that length, has to go too.
    """
    wrong = []
    for name, source in sorted(files.items()):
        lines = source.count("\n")
        allowed = known.get(name, LINES_MAX)
        if lines > allowed:
            wrong.append(f"{name} has {lines} lines (at most {allowed}): find the second idea in it")
        elif name in known and lines < allowed:
            wrong.append(f"{name} has {lines} lines and may have {allowed}: turn the ratchet")
    wrong += [f"{name} is an exception and does not exist" for name in sorted(known) if name not in files]
    return wrong


# Written so that this file does not match itself.
_PLACES = "work|root|farm|home/[a-z]+|Users/[A-Za-z]+"
_SETTINGS = "|".join(("index" + "-url", "index" + "_url", "find" + "-links", "trusted" + "-host"))
OF_A_MACHINE = re.compile(rf"(?<![\w.~/-])/(?:{_PLACES})/|--?(?:extra-)?(?:{_SETTINGS})\b|https?://[^\s/]+/simple\b")


def of_a_machine(name: str, text: str) -> list[str]:
    """Places and package hosts of one machine, which mean nothing on another."""
    return [
        f"{name}:{number} {found.group()!r} belongs to one machine"
        for number, line in enumerate(text.splitlines(), 1)
        if (found := OF_A_MACHINE.search(line))
    ]
