"""A test that leaves something running fails: shown to tests that do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

LEAKY = """
import os, signal, subprocess, sys, threading
import pytest

stop = threading.Event()

def test_leaves_a_thread():
    threading.Thread(target=stop.wait, args=(30,), name="forgotten").start()

def test_leaves_a_process():
    global child
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)

def test_ends_what_it_starts():
    thread = threading.Thread(target=threading.Event().wait, args=(0.01,))
    thread.start()
    subprocess.run([sys.executable, "-c", ""], check=True)

def test_the_end():
    stop.set()
    child.communicate()
"""


def test_what_outlives_its_test_fails_it(tmp_path):
    """Planted: a thread and a child process that are left behind are found, each by the test that left it."""
    rules = (
        (Path(__file__).parent / "conftest.py").read_text(encoding="utf-8").replace("GRACE_S = 5.0", "GRACE_S = 0.2")
    )
    (tmp_path / "conftest.py").write_text(rules, encoding="utf-8")
    (tmp_path / "test_leaky.py").write_text(LEAKY, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "4 passed" in done.stdout, done.stdout + done.stderr
    assert "'forgotten'" in done.stdout
    assert "ERROR test_leaky.py::test_leaves_a_thread" in done.stdout
    if Path("/proc/self/task").exists():  # elsewhere nobody tells us about our children
        assert "ERROR test_leaky.py::test_leaves_a_process" in done.stdout
        assert "2 errors" in done.stdout
