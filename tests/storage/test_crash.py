"""Real processes on one file: killed in the middle of commits, refused as seconds, ended without a word."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mmrepl.errors import MmreplError, StoreLocked
from mmrepl.ports import Commit, Durability
from mmrepl.storage import SqliteStorage, verify
from tests.storage.killed_child import body

ROOT = Path(__file__).parents[2]


@contextmanager
def child(path: Path, *levels: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.storage.killed_child", str(path), *levels],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process:
        try:
            yield process
        finally:
            process.kill()


def test_kill_9_in_the_middle_of_commits_loses_nothing_acknowledged(tmp_path: Path):
    """After each of several kills every acknowledged commit of every level is there, whole, without a gap."""
    path, acknowledged = tmp_path / "paris.db", -1
    for round_number, levels in enumerate([["sync"], ["none"], ["sync", "none", "batch"], ["sync"], ["none", "sync"]]):
        with child(path, *levels) as process:
            doubt = process.stdout.readline().strip()
            # A kill between the two writes of one frame leaves a torn log, which we do not tell from a rotten one.
            assert doubt == "doubt None" or "write-ahead log" in doubt
            for _ in range(120 + 37 * round_number):
                acknowledged = int(process.stdout.readline())
            with pytest.raises(StoreLocked):
                SqliteStorage(path).load()
            with pytest.raises(StoreLocked):
                verify(path)
            process.kill()
            acknowledged = max([acknowledged, *(int(line) for line in process.stdout if line.endswith("\n"))])
            assert process.wait() == -signal.SIGKILL
        assert verify(path).sound or verify(path).doubt
        storage = SqliteStorage(path)
        loaded = storage.load()
        batches = dict(loaded.batches())
        assert list(batches) == list(range(len(batches)))
        assert len(batches) - 1 in {acknowledged, acknowledged + 1}
        assert all(held == body(position) for position, held in batches.items())
        assert int(loaded.meta["end"]) == (len(batches) - 1) // 5 * 5
        storage.close()
        acknowledged = len(batches) - 1


def test_a_kill_in_the_middle_of_a_checkpoint_is_survived(tmp_path: Path):
    """Page 1 is written back first: it speaks of more pages than the file has yet. The others are in the log."""
    path = tmp_path / "paris.db"
    with child(path, "sync") as process:
        process.stdout.readline()
        for _ in range(100):
            acknowledged = int(process.stdout.readline())
    log = Path(f"{path}-wal").read_bytes()
    page_bytes, salts = int.from_bytes(log[8:12], "big"), log[16:24]
    first = b""
    for at in range(32, len(log) - 24 - page_bytes, 24 + page_bytes):
        if log[at : at + 4] == b"\0\0\0\1" and log[at + 8 : at + 16] == salts:
            first = log[at + 24 : at + 24 + page_bytes]
    assert int.from_bytes(first[28:32], "big") * page_bytes > path.stat().st_size
    with path.open("r+b") as file:
        file.write(first)
    assert verify(path).sound or verify(path).doubt
    storage = SqliteStorage(path)
    assert len(dict(storage.load().batches())) > acknowledged
    storage.close()


def test_nothing_that_is_refused_in_this_process_opens_the_store_to_another(tmp_path: Path):
    """POSIX drops the locks of a process with any descriptor of the file that it closes; so none is opened besides."""
    path = tmp_path / "paris.db"
    storage, other = SqliteStorage(path), SqliteStorage(tmp_path / "other.db")
    storage.load()
    other.load()
    for refused in (SqliteStorage(path).load, lambda: verify(path), lambda: other.backup(str(path))):
        with pytest.raises(MmreplError):
            refused()
    storage.backup(str(tmp_path / "backup.db"))
    program = f"from mmrepl.storage import SqliteStorage; SqliteStorage({str(path)!r}).load()"
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False, capture_output=True, text=True)
    assert "StoreLocked" in ended.stderr
    storage.close()
    other.close()


@pytest.mark.parametrize("ending", ["", "del storage", "raise KeyboardInterrupt"])
def test_a_program_that_forgets_to_close_is_not_doubted(tmp_path: Path, ending: str):
    """However it ends, short of being killed: its last weak commits are there, and its node is who it was."""
    path = tmp_path / "paris.db"
    program = f"""
from mmrepl.ports import Commit, Durability
from mmrepl.storage import SqliteStorage
storage = SqliteStorage({str(path)!r})
storage.load()
storage.commit(Commit(batches={{1: b"x"}}), Durability.NONE)
{ending}
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False, stderr=subprocess.DEVNULL)
    assert not Path(f"{path}-wal").exists()
    storage = SqliteStorage(path, boot_id=lambda: "another boot")
    loaded = storage.load()
    assert loaded.doubt is None
    assert list(loaded.batches()) == [(1, b"x")]
    storage.close()


def test_commits_come_from_any_thread(tmp_path: Path):
    """One at a time, as an executor makes them."""
    from concurrent.futures import ThreadPoolExecutor

    storage = SqliteStorage(tmp_path / "paris.db")
    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:
        first.submit(storage.load).result()
        for position in range(6):
            commit = Commit(batches={position: b"x"})
            (first, second)[position % 2].submit(storage.commit, commit, Durability.SYNC).result()
        second.submit(storage.close).result()
    assert verify(tmp_path / "paris.db").counts["batches"] == 6
