"""
A version-control history as events: who had seen what, who wrote what.

A commit is an event at a replica; its parents are the states that it had merged; the files that it changed are keys,
a file's content hash is the value, None a deletion. A merge writes only the files that differ from every parent: what
it took over from one of them it did not write. The time is the committer's clock, wrong clocks included.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from attrs import frozen


class Unreadable(Exception):
    """Neither a repository nor a trace; the message says why."""


@frozen
class Commit:
    """One event. Numbers run from 0, parents before children."""

    number: int
    name: str  # its hash, or its number in a trace
    parents: tuple[int, ...]
    time: int  # seconds since 1970, as the committer's clock had it
    writes: dict[str, str | None]

    @property
    def is_merge(self) -> bool:
        return len(self.parents) > 1


def read_history(place: str, limit: int | None = None) -> list[Commit]:
    """The commits of a local git repository, or of a trace (gzip, JSON lines); the first *limit* of them."""
    path = Path(place)
    commits = read_trace(path) if path.is_file() else read_git(path)
    return list(islice(commits, limit))


def read_trace(path: Path) -> Iterator[Commit]:
    """Lines such as ``{"id": 7, "parents": [6, 3], "time": 1435000000, "writes": {"a.erl": "9f86", "old": null}}``."""
    numbers: dict[object, int] = {}
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines):
                row = json.loads(line)
                parents = tuple(numbers[parent] for parent in row["parents"])
                numbers[row["id"]] = number
                yield Commit(number, str(row["id"]), parents, row["time"], row["writes"])
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise Unreadable(f"{path} is no trace (gzip, a JSON object a line, parents first): {error!r}") from error


GIT_LOG = [
    *("git", "--no-replace-objects", "log", "--all", "--topo-order", "--reverse"),
    *("--raw", "-c", "--no-renames", "--root", "-z", "--no-abbrev", "--format=tformat:%x01%H%x00%P%x00%ct"),
    *(
        "--no-ext-diff",
        "--no-color",
        "--no-show-signature",
        "--no-notes",
        "--ignore-submodules=none",
    ),
]


def read_git(path: Path) -> Iterator[Commit]:
    """Every commit that a branch, a tag or HEAD of a repository leads to. Nothing in the repository is changed."""
    if not path.is_dir():
        raise Unreadable(f"there is no repository and no trace at {path}")
    with tempfile.TemporaryFile() as complaints:
        try:
            git = subprocess.Popen(GIT_LOG, cwd=path, stdout=subprocess.PIPE, stderr=complaints)
        except FileNotFoundError:
            raise Unreadable("git is not installed, or not on the path") from None
        with git:
            output = git.stdout
            assert output is not None
            ended = False
            try:
                yield from parse_log(_split(iter(lambda: output.read(1 << 16), b"")))
                ended = True
            finally:
                if not ended:
                    git.kill()  # enough was read
        if git.returncode != 0:
            complaints.seek(0)
            raise Unreadable(f"git log in {path}: {complaints.read().decode(errors='replace').strip()}")


def _split(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """What stands between the NULs of a stream."""
    rest = b""
    for piece in pieces:
        *words, rest = (rest + piece).split(b"\0")
        yield from words
    if rest:
        yield rest


def parse_log(words: Iterable[bytes]) -> Iterator[Commit]:
    """
    Commits of the output of `GIT_LOG`.

    A commit is a byte 1 with its hash, its parents, its time; then for each file a line of modes and hashes, one more
    of both than it has parents, and the file's name. Names are bytes to git; what is no UTF-8 gets backslashes.
    """
    numbers: dict[bytes, int] = {}
    current: Commit | None = None
    stream = iter(words)
    for word in stream:
        if word.startswith(b"\x01"):
            if current is not None:
                yield current
            parents = tuple(numbers[parent] for parent in next(stream).split())
            number = numbers[word[1:]] = len(numbers)
            current = Commit(number, word[1:].decode(), parents, int(next(stream)), {})
        elif word.strip():
            raw = word.strip()
            count = len(raw) - len(raw.lstrip(b":"))
            fields = raw[count:].split()
            mode, value = fields[count], fields[2 * count + 1]
            assert current is not None
            key = next(stream).decode(errors="backslashreplace")
            current.writes[key] = None if mode == b"000000" else value.decode()
    if current is not None:
        yield current
