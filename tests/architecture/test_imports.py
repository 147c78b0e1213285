"""
The house stands as it was drawn: imports point downhill, the middle is pure, nothing runs what it was sent.

Each rule is shown a small house in which it is broken first: a rule that cannot fail proves nothing.
"""

from __future__ import annotations

import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

from tests.architecture import house

HERE = Path(__file__).resolve().parents[2]
PACKAGE = HERE / "mmrepl"

# Files that may be longer than LINES_MAX, with the length that they may have and the reason. Better none.
LONG_FILES: dict[str, int] = {}


def name_of(path: Path) -> str:
    """The dotted name of a file of the package."""
    parts = path.relative_to(HERE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
PROGRAMS = [path for folder in ("mmrepl", "examples", "benchmarks") for path in (HERE / folder).rglob("*.py")]


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_every_part_of_the_package_has_its_level():
    """No folder or file stands beside the order."""
    assert {house.part_of(module) for module in MODULES} <= house.LEVEL_OF.keys()


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downhill(module):
    """No module imports what stands above it or beside it, not even for its types."""
    path = MODULES[module]
    assert house.uphill(module, read(path), is_package=path.name == "__init__.py") == []


@pytest.mark.parametrize("module", MODULES)
def test_the_middle_is_pure(module):
    """Below storage and transport nothing touches network, disk, clock, dice or threads (law L9)."""
    assert house.outside(module, read(MODULES[module])) == []


def test_nothing_runs_what_it_was_sent():
    """No pickle, eval, exec or their like, in the package, the examples and the benchmarks (fault S13)."""
    wrong = []
    for folder in ("mmrepl", "examples", "benchmarks"):
        for path in sorted((HERE / folder).rglob("*.py")):
            wrong += house.code_from_data(str(path.relative_to(HERE)), read(path))
    assert wrong == []


def test_one_idea_a_file():
    """No file has grown past what one idea needs. (Tests are lists, and may be longer.)"""
    files = {path.relative_to(HERE).as_posix(): read(path) for path in PROGRAMS}
    assert house.too_long(files, LONG_FILES) == []


def test_the_core_depends_on_four_packages():
    """Whoever embeds a replica installs these and nothing else."""
    project = tomllib.loads(read(HERE / "pyproject.toml"))["project"]
    names = {requirement.partition(">")[0].strip() for requirement in project["dependencies"]}
    assert names == {"attrs", "sortedcontainers", "msgspec", "orjson"}


def test_third_party_imports_of_the_core_are_those_four():
    """Only the extras' own parts import more: the command line and the test kit; the others are optional where they are."""
    allowed = {
        "cli": {"cyclopts", "rich", "uvloop"},
        "__main__": {"cyclopts", "rich"},
        "testing": {"hypothesis", "pytest"},
        "wire": {"zstandard"},
    }
    core = {"attrs", "attr", "sortedcontainers", "msgspec", "orjson", "mmrepl", "__future__"}
    wrong = []
    for module, path in MODULES.items():
        permitted = core | sys.stdlib_module_names | allowed.get(house.part_of(module), set())
        for line, target in house.imports_of(read(path), module, is_package=path.name == "__init__.py"):
            if target.split(".")[0] not in permitted:
                wrong.append(f"{module}:{line} imports {target}")
    assert wrong == []


# -- planted: houses in which each rule is broken


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("mmrepl.causality.dot", "from mmrepl.store import keyspace"),
        ("mmrepl.causality.dot", "import mmrepl.store.keyspace"),
        ("mmrepl.errors", "from mmrepl.types import NodeId"),
        ("mmrepl.store.keyspace", "from mmrepl.wire.codec import encode"),
        ("mmrepl.replication.peer", "from mmrepl.single_master import quorum"),
        ("mmrepl.single_master.raft", "from mmrepl.replication.peer import Peer"),
        ("mmrepl.runtime.node", "from mmrepl.sim.world import World"),
        ("mmrepl.sim.world", "from mmrepl.runtime.node import Node"),
        ("mmrepl.store.keyspace", "def f():\n    from mmrepl.storage.sqlite import Sqlite"),
        ("mmrepl.log.oplog", "if TYPE_CHECKING:\n    from mmrepl.effects import Effects"),
        ("mmrepl.log.oplog", "from ..effects import Effects"),
        ("mmrepl.log.oplog", "from .. import effects"),
        ("mmrepl.store.keyspace", "from mmrepl import Replica"),
        ("mmrepl.store.keyspace", "from mmrepl import replication"),
        ("mmrepl.store.keyspace", "import importlib\nimportlib.import_module('mmrepl.runtime')"),
        ("mmrepl.cellar.wine", "import mmrepl.errors"),
        ("mmrepl.runtime.replica", "from mmrepl import Node"),
    ],
)
def test_an_uphill_import_is_found(module, source):
    """Planted: wherever it hides and however it is written."""
    assert len(house.uphill(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("mmrepl.store.keyspace", "from mmrepl import errors, types\nfrom mmrepl.causality.dot import Dot"),
        ("mmrepl.store.keyspace", "from .snapshot import Snapshot\nfrom mmrepl.store.snapshot import Snapshot"),
        ("mmrepl.cli.demo", "from mmrepl import Node, __version__\nfrom mmrepl.testing import laws"),
        ("mmrepl.store.keyspace", "import msgspec\nimport enum"),
    ],
)
def test_a_downhill_import_is_let_be(module, source):
    """The rule does not cry wolf."""
    assert house.uphill(module, source) == []


def test_a_package_reads_its_relative_imports_from_itself():
    """``from . import x`` in a package's own file means a module inside it, in a plain module one beside it."""
    assert house.imports_of("from . import x", "mmrepl.store", is_package=True) == [(1, "mmrepl.store.x")]
    assert house.imports_of("from . import x", "mmrepl.store.keyspace") == [(1, "mmrepl.store.x")]
    assert house.imports_of("from ..log import x", "mmrepl.store.keyspace") == [(1, "mmrepl.log.x")]


@pytest.mark.parametrize(
    "source",
    [
        *(
            f"import {name}"
            for name in ["asyncio", "socket", "os", "time", "threading", "random", "logging", "sqlite3", "subprocess"]
        ),
        "import os.path",
        "import io",
        "from io import open",
        "from time import monotonic",
        "def f():\n    import random",
        "print('x')",
        "order = sorted(keys, key=lambda key: hash(key))",
        "handle = open('x')",
    ],
)
def test_a_touch_of_the_outside_is_found_in_the_middle_only(source):
    """Planted: in the middle it is a fault, in a host it is the host's work."""
    assert len(house.outside("mmrepl.store.keyspace", source)) == 1
    assert house.outside("mmrepl.runtime.node", source) == []


def test_a_buffer_in_memory_is_pure():
    """``io.BytesIO`` touches nothing."""
    assert house.outside("mmrepl.wire.framing", "from io import BytesIO") == []


def test_a_hash_method_may_hash():
    """``__hash__`` orders nothing."""
    source = """
        class Context:
            def __hash__(self):
                return hash(self.entries)
    """
    assert house.outside("mmrepl.causality.context", textwrap.dedent(source)) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from marshal import loads",
        "import shelve as s",
        "from multiprocessing import Pipe",
        "def f():\n    import yaml",
        "eval('1')",
        "exec('x = 1')",
        "__import__('os')",
        "compile('1', '', 'eval')",
    ],
)
def test_code_from_data_is_found(source):
    """Planted: each way to run what was sent."""
    assert len(house.code_from_data("x.py", source)) == 1
    assert house.code_from_data("x.py", "pattern = re.compile('x')\nliteral_eval('1')") == []


def test_the_ratchet_turns_one_way():
    """A long file is found; so is an exception that is larger than needed, or for a file that is gone."""
    long = "\n" * (house.LINES_MAX + 10)
    assert len(house.too_long({"a.py": long}, {})) == 1
    assert house.too_long({"a.py": long}, {"a.py": house.LINES_MAX + 10}) == []
    assert len(house.too_long({"a.py": long}, {"a.py": house.LINES_MAX + 11})) == 1
    assert len(house.too_long({}, {"a.py": house.LINES_MAX + 10})) == 1
    assert house.too_long({"a.py": "\n" * house.LINES_MAX}, {}) == []
