"""
What a plain ``pytest`` gets from mmrepl when the extra ``testing`` is installed.

- ``--mmrepl-seed N``: the seed of every cluster and every check that is not given one.
- The fixture ``cluster``: a `mmrepl.sim.Cluster` of three nodes; the marker ``mmrepl`` changes its arguments:
  ``@pytest.mark.mmrepl(names=["a", "b"], topology="line")``. ``mmrepl_seed`` is the seed.
- A failure that has a space-time diagram (a refuted resolver, a test that used ``cluster``) shows it in a section of
  its own.

This module is loaded in every pytest run, whether or not it has to do with mmrepl; so it imports nothing of mmrepl
before one of its fixtures is used.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from mmrepl.sim.cluster import Cluster

VARIABLE: Final = "MMREPL_SEED"  # as in mmrepl.testing.seeds
NAMES: Final = ("paris", "tokyo", "lima")
SECTION: Final = "mmrepl: what happened"

_clusters = pytest.StashKey[list[Any]]()
_seed_before = pytest.StashKey[str | None]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--mmrepl-seed``."""
    group = parser.getgroup("mmrepl")
    group.addoption("--mmrepl-seed", type=int, default=None, help="seed of mmrepl's clusters and checks (default: 0)")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, and hand the seed to where checks look for it: in worker processes, too."""
    config.addinivalue_line("markers", "mmrepl(**arguments): arguments of the `cluster` fixture, as for Cluster")
    seed = config.getoption("mmrepl_seed")
    if seed is not None:
        config.stash[_seed_before] = os.environ.get(VARIABLE)
        os.environ[VARIABLE] = str(seed)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave the environment as it was."""
    if _seed_before in config.stash:
        before = config.stash[_seed_before]
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before


@pytest.fixture
def mmrepl_seed() -> int:
    """The seed of this run: ``--mmrepl-seed``, or 0."""
    from mmrepl.testing.seeds import default_seed

    return default_seed()


@pytest.fixture
def cluster(request: pytest.FixtureRequest, mmrepl_seed: int) -> Iterator[Cluster]:
    """A simulated cluster of three nodes, on virtual time; its diagram is shown when the test fails."""
    from mmrepl.sim.cluster import Cluster

    arguments: dict[str, Any] = {"names": NAMES, "seed": mmrepl_seed}
    for marker in reversed(list(request.node.iter_markers("mmrepl"))):
        arguments |= marker.kwargs
    made = Cluster(arguments.pop("names"), **arguments)
    request.node.stash.setdefault(_clusters, []).append(made)
    yield made
    request.node.stash[_clusters].remove(made)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the diagram to the report of a failure."""
    report = yield
    if call.excinfo is not None and getattr(report, "failed", False):
        diagram = getattr(call.excinfo.value, "diagram", None)
        if isinstance(diagram, str) and type(call.excinfo.value).__module__.startswith("mmrepl."):
            report.sections.append((SECTION, diagram))
        for made in item.stash.get(_clusters, []):
            report.sections.append((f"{SECTION} (seed {made.seed})", str(made.diagram())))
    return report
