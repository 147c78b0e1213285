"""Rules for every test: what it starts, it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

GRACE_S = 5.0  # for a thread or a process that was told to end and is on its way out

_known: set[str] = set()  # children seen so far: one look may miss some, for the system lists them while they move


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    """Fails a test that leaves a thread or a child process behind. (Fixtures of wider scope start theirs before.)"""
    threads = set(threading.enumerate())
    _known.update(_children())
    yield
    deadline = time.monotonic() + GRACE_S
    for thread in threading.enumerate():
        # asyncio's default executor lives as long as its loop, which may be that of a module
        if thread not in threads and not thread.name.startswith("asyncio_"):
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive(), f"the test left the thread {thread.name!r} running"
    left = _children() - _known
    _known.update(left)
    if left:
        pytest.fail(f"the test left child processes, running or not waited for: {sorted(left)}")


def _children() -> frozenset[str]:
    """Our child processes as ``pid command``, where the system tells."""
    found = set()
    for listing in Path("/proc/self/task").glob("*/children"):
        try:
            pids = listing.read_text().split()
        except OSError:  # the thread ended while we looked
            continue
        for pid in pids:
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            found.add(f"{pid} {command.strip()}")
    return frozenset(found)
