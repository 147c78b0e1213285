"""How the documentation is built: ``sphinx-build -W docs docs/_build/html``."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

_project = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = _project["name"]
author = "the maintainers of mmrepl"
release = version = _project["version"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}
default_role = "code"  # our docstrings set names in single backquotes

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
autodoc_type_aliases = {"Value": "Value"}
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_google_docstring = True

html_theme = "furo"
html_title = f"mmrepl {version}"

_SECTION = re.compile(r"^(Args|Arguments|Raises|Returns|Yields|Note|Example|Examples|Attributes):$")


def _drawings_as_they_stand(_app, what, _name, _object, _options, lines: list[str]) -> None:
    """
    Our docstrings are prose with drawings and programs, set in by four spaces; reStructuredText wants ``::`` before.

    Sections that napoleon knows, lists and doctests are left alone.
    """
    result: list[str] = []
    depth = 0  # indentation of the last line of prose
    for line in lines:
        text = line.strip()
        indent = len(line) - len(line.lstrip())
        prose = next((earlier.strip() for earlier in reversed(result) if earlier.strip()), "")
        opens = bool(text) and indent > depth and bool(result) and not result[-1].strip()
        if opens and not prose.endswith("::") and not _SECTION.match(prose) and not _is_item(prose):
            result += [" " * depth + "::", ""]
        if text and not (indent > depth and result and "::" in "".join(result[-3:])):
            depth = indent if not opens else depth
        result.append(line)
    if what in {"attribute", "data", "property"}:
        result.insert(0, "")  # or napoleon takes what stands before a colon for a type
    lines[:] = result


def _is_item(prose: str) -> bool:
    return prose.startswith(("- ", "* ", ">>>")) or re.match(r"\d+\. ", prose) is not None


def setup(app) -> None:
    """Drawings are marked before napoleon (priority 500) reads the sections."""
    app.connect("autodoc-process-docstring", _drawings_as_they_stand, priority=400)
