"""
Every example runs alone and prints something worth reading.

An example may say in comments how it is run: each ``# run: ARGUMENTS`` line is one run (none: one run without
arguments), ``{root}`` standing for the project's folder and ``{scratch}`` for an empty one; ``# needs: PROGRAM`` names
a program without which it is left out; ``# seconds: N`` allows more than the usual time.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((HERE / "examples").glob("*.py"))
SECONDS = 60


def told(source: str, what: str) -> list[str]:
    """The values of the comments ``# what: value`` of an example."""
    return re.findall(rf"^#[ ]{what}:[ ]*(.*?)[ ]*$", source, re.MULTILINE)


def runs() -> list[object]:
    """One parameter set for each run of each example."""
    return [
        pytest.param(path, arguments, id=f"{path.stem} {arguments}".strip())
        for path in EXAMPLES
        for arguments in told(path.read_text(encoding="utf-8"), "run") or [""]
    ]


def run(path: Path, arguments: str, scratch: Path) -> subprocess.CompletedProcess[str]:
    """Run an example as a stranger would: in a folder of its own, nothing on its input."""
    source = path.read_text(encoding="utf-8")
    seconds = int((told(source, "seconds") or [str(SECONDS)])[0])
    places = {"{root}": str(HERE), "{scratch}": str(scratch)}
    words = [re.sub(r"\{\w+\}", lambda found: places.get(found[0], found[0]), word) for word in shlex.split(arguments)]
    return subprocess.run(
        [sys.executable, "-W", "error", str(path), *words],
        cwd=scratch,
        env=os.environ | {"PYTHONPATH": str(HERE), "PYTHONUTF8": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


@pytest.mark.parametrize(("path", "arguments"), runs())
def test_the_example_runs(path, arguments, tmp_path):
    """It ends by itself with exit code 0, in time, and has said something."""
    for program in told(path.read_text(encoding="utf-8"), "needs"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}")
    done = run(path, arguments, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip(), "an example that prints nothing shows nothing"
    assert "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("source", "code", "heard"),
    [
        ("# run: --name 'a b' {root}\nimport sys; print(len(sys.argv))", 0, "4"),
        ("print('x'); raise SystemExit(3)", 3, "x"),
        ("import sys; print(sys.stdin.read() == '')", 0, "True"),
    ],
)
def test_a_run_is_what_it_says(source, code, heard, tmp_path):
    """Arguments arrive, failures are seen, nobody is asked for input."""
    path = tmp_path / "example.py"
    path.write_text(source)
    done = run(path, (told(source, "run") or [""])[0], tmp_path)
    assert (done.returncode, done.stdout.strip()) == (code, heard)
