"""The plugins for pytest and Hypothesis: of use where they are used, and no weight where they are not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[2]


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine where mmrepl is installed: its entry points are found, as pyproject.toml has them."""
    points = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]["entry-points"]
    info = tmp_path / "site" / "mmrepl-0.0.0.dist-info"
    info.mkdir(parents=True)
    lines = [line for group, names in points.items() for line in
             (f"[{group}]", *(f"{name} = {target}" for name, target in names.items()))]  # fmt: skip
    (info / "entry_points.txt").write_text("\n".join(lines))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mmrepl\nVersion: 0.0.0\n")
    return os.environ | {"PYTHONPATH": f"{HERE}{os.pathsep}{tmp_path / 'site'}", "PYTHONDONTWRITEBYTECODE": "1"}


def run(environment: dict[str, str], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def pytest_run(environment: dict[str, str], folder: Path, source: str, *arguments: str) -> str:
    """What pytest prints about a test file."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_it.py").write_text(textwrap.dedent(source))
    return run(environment, folder, "-m", "pytest", "-p", "no:cacheprovider", *arguments).stdout


def test_a_plain_pytest_run_loads_nothing_of_the_toolkit(installed, tmp_path):
    """The plugin is there, and costs the import of one small file."""
    out = pytest_run(
        installed,
        tmp_path,
        """
        import sys

        def test_it(pytestconfig):
            assert pytestconfig.pluginmanager.hasplugin("mmrepl")
            ours = {name for name in sys.modules if name.startswith("mmrepl")}
            assert ours == {"mmrepl", "mmrepl.testing", "mmrepl.testing.pytest_plugin"}
            assert not {"hypothesis", "msgspec", "sortedcontainers", "attrs"} & set(sys.modules)
        """,
    )
    assert "1 passed" in out, out


def test_the_seed_reaches_the_cluster_and_the_checks(installed, tmp_path):
    """One option for all."""
    out = pytest_run(
        installed,
        tmp_path,
        """
        import pytest
        from mmrepl.testing.seeds import default_seed

        @pytest.mark.mmrepl(names=["a", "b"])
        def test_it(cluster, mmrepl_seed):
            assert cluster.seed == mmrepl_seed == default_seed() == 42
            assert [node.name for node in cluster] == ["a", "b"]
        """,
        "--mmrepl-seed=42",
    )
    assert "1 passed" in out, out


def test_a_failure_shows_its_diagram(installed, tmp_path):
    """Of a cluster, and of a refuted resolver; a test that passes shows none."""
    out = pytest_run(
        installed,
        tmp_path,
        """
        from mmrepl.testing import check_resolver

        def test_cluster(cluster):
            cluster["paris"].put("k", 1)
            assert cluster["paris"].get("k") == 2

        def test_resolver():
            check_resolver(lambda values: {1}, max_examples=5)

        def test_well(cluster):
            cluster["tokyo"].put("k", 1)
        """,
    )
    assert "2 failed, 1 passed" in out, out
    assert out.count("mmrepl: what happened") == 2, out
    assert "mmrepl: what happened (seed 0)" in out
    assert "answers what cannot be stored" in out


def test_hypothesis_draws_public_types_by_name(installed, tmp_path):
    """``st.from_type`` of what mmrepl hands out, whether mmrepl is imported first or last."""
    program = """
        import warnings
        warnings.simplefilter("ignore")
        import mmrepl
        from hypothesis import HealthCheck, given, settings, strategies as st
        @settings(max_examples=5, database=None, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.from_type(mmrepl.Dot), st.from_type(mmrepl.VersionVector), st.from_type(mmrepl.Read))
        def test(dot, vector, read):
            assert 1 <= dot.counter < 2**47
            assert read.context.key == read.key
        test()
        print("drawn")
    """
    lines = textwrap.dedent(program).strip().split("\n")
    swapped = [lines[0], lines[1], lines[3], lines[2], *lines[4:]]
    for source in (lines, swapped):
        done = run(installed, tmp_path, "-c", "\n".join(source))
        assert done.stdout.strip() == "drawn", done.stderr


def test_hypothesis_alone_loads_nothing_of_mmrepl(installed, tmp_path):
    """Whoever imports Hypothesis has not asked for a database."""
    program = "import json, sys, hypothesis; print(json.dumps([n for n in sys.modules if n.startswith('mmrepl')]))"
    done = run(installed, tmp_path, "-c", program)
    assert set(json.loads(done.stdout)) == {"mmrepl", "mmrepl.testing", "mmrepl.testing.hypothesis_plugin"}, done.stderr


def test_without_hypothesis_the_message_says_what_to_install(tmp_path):
    """One line, with the name of the extra."""
    program = """
        import sys
        sys.modules["hypothesis"] = None
        import mmrepl.testing
        try:
            mmrepl.testing.check_resolver
        except ModuleNotFoundError as error:
            print(error)
    """
    done = run(os.environ | {"PYTHONPATH": str(HERE)}, tmp_path, "-c", textwrap.dedent(program))
    assert 'pip install "mmrepl[testing]"' in done.stdout, done.stderr
