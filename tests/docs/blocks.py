"""
Python blocks of Markdown documents as tests.

The blocks of a document run in order, in one namespace and one scratch folder, as a reader would type them. A block
may ``await`` at its top level: the document has one event loop, so what one block starts the next can use. Functions
named ``test_…`` that a block defines are called. Blocks that open with ``>>>`` are doctests. What is not meant to run
is not called ``python``: use ``text`` or ``console``.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import FunctionType
from typing import Any
from unittest import SkipTest

from sybil import Document, Example, Region
from sybil.evaluators.doctest import DocTestEvaluator
from sybil.parsers.abstract.doctest import DocTestStringParser
from sybil.parsers.markdown import CodeBlockParser

import mmrepl

SCRATCH = "__scratch__"


class Scratch:
    """A folder and an event loop for one document; both are gone afterwards, and the old folder is current again."""

    def __init__(self) -> None:
        self.home = Path.cwd()
        self.folder = tempfile.TemporaryDirectory(prefix="mmrepl-docs-")
        self.runner = asyncio.Runner()
        os.chdir(self.folder.name)

    def close(self) -> None:
        os.chdir(self.home)
        self.runner.close()
        self.folder.cleanup()


def enter_scratch_folder(namespace: dict[str, Any]) -> None:
    """Called before the first block of a document."""
    namespace[SCRATCH] = Scratch()
    namespace["__name__"] = "__main__"  # as for whoever types it into a file


def leave_scratch_folder(namespace: dict[str, Any]) -> None:
    """Called after the last block of a document."""
    namespace.pop(SCRATCH).close()


def run_block(example: Example) -> None:
    """Run one block, awaiting what it awaits, then the test functions that it defined."""
    namespace = example.namespace
    if "mmrepl.Node(" in example.parsed and not hasattr(mmrepl, "Node"):
        raise SkipTest("mmrepl.Node does not exist yet")  # to go with the commit that brings it
    above = "\n" * (example.line + example.parsed.line_offset)  # so that tracebacks show the document's own lines
    code = compile(above + str(example.parsed), example.path, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    before = dict(namespace)
    _run(FunctionType(code, namespace), namespace)
    for name, value in list(namespace.items()):
        if name.startswith("test_") and inspect.isfunction(value) and before.get(name) is not value:
            _run(value, namespace)


def _run(function: FunctionType, namespace: dict[str, Any]) -> None:
    outcome = function()
    if inspect.iscoroutine(outcome):
        namespace[SCRATCH].runner.run(outcome)


class PythonBlocks:
    """The parser: every fenced block called python or pycon."""

    def __init__(self) -> None:
        self._fences = [CodeBlockParser(language, run_block) for language in ("python", "pycon")]
        self._doctests = DocTestStringParser(DocTestEvaluator())

    def __call__(self, document: Document) -> Iterable[Region]:
        for fence in self._fences:
            for region in fence(document):
                source = region.parsed
                if not source.startswith(">>>"):
                    yield region
                    continue
                for part in self._doctests(source, document.path):
                    part.adjust(region, source)
                    yield part
