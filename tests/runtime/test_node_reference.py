"""The reference page of the nodes tells all that there is."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from mmrepl import BlockingNode, Node

PAGE = (Path(__file__).resolve().parents[2] / "docs/reference/node.md").read_text(encoding="utf-8")


def test_every_entry_of_status_is_explained():
    """Each key of the status, of its parts and of the rows of members stands in the page, in code type."""
    told = set(re.findall(r"`(\w+)`", PAGE))
    with BlockingNode("paris") as paris, BlockingNode("tokyo", peers=[paris.address, "127.0.0.1:1"]) as tokyo:
        tokyo.wait_connected("paris")
        status = tokyo.status()
    parts = [status, *status["members"], *(part for part in status.values() if isinstance(part, dict))]
    found = {name for part in parts for name in part if name.isidentifier()} - {"", "name"}
    assert len(status["members"]) == 3
    assert found <= told | {"name"}, "not explained in docs/reference/node.md"


def test_every_public_method_has_a_docstring():
    """What the page takes from the code is there."""
    silent = [
        f"{kind.__name__}.{name}"
        for kind in (Node, BlockingNode)
        for name, member in inspect.getmembers(kind)
        if not name.startswith("_") and not inspect.getdoc(member)
    ]
    assert silent == []
