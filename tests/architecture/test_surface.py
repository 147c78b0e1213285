"""What a stranger meets: a package that is light to import, documented names, and no trace of the machine it was made on."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mmrepl
from tests.architecture import house
from tests.architecture.test_imports import HERE, MODULES

PUBLIC = ("mmrepl", "mmrepl.resolvers", "mmrepl.testing", "mmrepl.sim", "mmrepl.compare")


def modules_after(program: str) -> set[str]:
    """Names in ``sys.modules`` once *program* has run in a fresh interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", f"import json, sys\n{program}\nprint(json.dumps(sorted(sys.modules)))"],
        env=os.environ | {"PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_importing_mmrepl_is_light():
    """``import mmrepl`` loads no extra, no event loop, no database and none of the package's hosts: names come when used."""
    loaded = modules_after("import mmrepl")
    heavy = {"hypothesis", "pytest", "rich", "cyclopts", "asyncio", "sqlite3", "socket", "ssl", "zstandard", "uvloop"}
    assert not loaded & heavy
    assert not {name for name in loaded if name.startswith(("mmrepl.runtime", "mmrepl.storage", "mmrepl.transport"))}


def test_a_resolver_is_used_with_nothing_else():
    """Whoever only wants a resolver loads the resolvers and the small values below them."""
    loaded = modules_after("import mmrepl.resolvers")
    parts = {house.part_of(name) for name in loaded if name.split(".")[0] == "mmrepl"}
    assert parts <= {"mmrepl", "errors", "types", "values", "causality", "clock", "resolvers"}
    assert not loaded & {"asyncio", "sqlite3", "socket"}


def test_the_middle_loads_no_host():
    """What the syntax tree cannot see, a fresh interpreter can: all pure modules together load no event loop or database."""
    pure = [module for module in MODULES if house.part_of(module) in house.PURE_PARTS]
    loaded = modules_after("\n".join(f"import {module}" for module in pure))
    assert not loaded & {"asyncio", "sqlite3", "socket", "ssl", "subprocess"}


def public_names() -> list[str]:
    """Every name that is listed as public, with its module."""
    names = []
    for module in PUBLIC:
        if importlib.util.find_spec(module) is not None:
            listed = getattr(importlib.import_module(module), "__all__", ())
            names += [f"{module}.{name}" for name in listed if not name.startswith("__")]
    return names


@pytest.mark.parametrize("name", public_names())
def test_public_names_exist(name):
    """What is listed can be had."""
    module, _, attribute = name.rpartition(".")
    assert getattr(importlib.import_module(module), attribute) is not None


def test_the_three_lists_of_public_names_agree():
    """What is listed, what is loaded on use and what type checkers are told are the same names from the same places."""
    source = (HERE / "mmrepl/__init__.py").read_text(encoding="utf-8")
    told = {
        found.target.rpartition(".")[2]: found.target.rpartition(".")[0]
        for found in house.imports_of(source, "mmrepl", is_package=True)
        if found.target.startswith("mmrepl.")
    }
    assert told == mmrepl._HOMES
    assert sorted(mmrepl.__all__) == mmrepl.__all__ == sorted(told)


def test_public_names_are_documented():
    """Every public name stands in the reference, in code type."""
    reference = "\n".join(path.read_text(encoding="utf-8") for path in sorted((HERE / "docs/reference").rglob("*.md")))
    missing = [
        name
        for name in public_names()
        if not re.search(rf"(?:`|[:.]{{2}} |\.|\s){re.escape(name.rpartition('.')[2])}\b", reference)
    ]
    assert missing == [], "not in docs/reference"


def tracked_files() -> list[Path]:
    """What git tracks; outside of a clone, all that is there and is text of ours."""
    git = shutil.which("git")
    if git and (HERE / ".git").exists():
        listing = subprocess.run([git, "ls-files", "-z"], cwd=HERE, capture_output=True, timeout=60, check=False)
        if listing.returncode == 0:
            return [HERE / name for name in listing.stdout.decode().split("\0") if name]
    return [path for path in HERE.rglob("*") if path.suffix in {".py", ".md", ".toml"} and ".venv" not in path.parts]


def test_no_trace_of_a_machine():
    """No tracked file names a folder or a package host of the machine on which it was written."""
    wrong = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue
        wrong += house.of_a_machine(path.relative_to(HERE).as_posix(), text)
    assert wrong == []


def test_no_lock_file_is_tracked():
    """A lock file of uv records the package host of whoever made it."""
    assert "uv.lock" not in {path.name for path in tracked_files()}


def test_a_trace_of_a_machine_is_found():
    """Planted: folders and hosts; ordinary paths and addresses are let be."""
    for text in (
        "cd /" + "work/main",
        "'/" + "root/.cache'",
        "pip --" + "index-url x",
        "https://host.example:3141/" + "simple",
    ):
        assert house.of_a_machine("x", text), text
    for text in ("docs/how-to/", "framework/core", "/var/lib/mmrepl", "https://example.org/simplest", "~/work/x"):
        assert house.of_a_machine("x", text) == [], text
