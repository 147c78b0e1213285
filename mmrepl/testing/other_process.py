"""
Asking the same question in another process, from this side.

The process is started when a check begins and lives until it ends. Whatever goes wrong with *it* (the module cannot
be imported there, say) is no fault of the resolver: it becomes a note of what was not checked.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

import msgspec

from mmrepl.resolvers import Sibling
from mmrepl.testing.address import Address
from mmrepl.testing.worker import VARIABLE, pack_group, write

Told: TypeAlias = tuple[bool, bytes | str | None]
"""True and the bytes of an answer, or False and what was raised."""

START_SECONDS: Final = 30.0
"""How long the process may take to import the resolver's module; and beyond the resolver's own time, to answer."""

HASH_SEEDS: Final = ("20011", "20023")
"""One of these is the process' hash seed: not the one that ours has, if that was said."""


class OtherProcess:
    """A context manager; inside, `ask` asks until `trouble` says why it cannot."""

    def __init__(self, address: Address | None, seconds: float, why_not: str = "") -> None:
        self.trouble: str = why_not
        self.hash_seed = next(seed for seed in HASH_SEEDS if seed != os.environ.get("PYTHONHASHSEED"))
        self._address = address
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False

    def __enter__(self) -> Self:
        if self._address is None:
            self.trouble = self.trouble or "it has no name by which another process could import it"
            return self
        here = str(Path(__file__).resolve().parents[2])
        paths = [path or "." for path in sys.path]
        program = f"import sys; sys.path[:] = {[*paths, here]!r}; from mmrepl.testing.worker import main; main()"
        environment = os.environ | {"PYTHONHASHSEED": self.hash_seed, VARIABLE: "1", "TZ": "Pacific/Chatham"}
        environment["LC_ALL"] = "tr_TR.UTF-8" if environment.get("LC_ALL") != "tr_TR.UTF-8" else "C"
        try:
            self._process = subprocess.Popen(  # noqa: S603 - ourselves
                [sys.executable, "-c", program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
            assert self._process.stdin is not None
            write(self._process.stdin, self._address.plain())  # type: ignore[arg-type]
        except OSError as error:
            self.trouble = f"another process cannot be started: {error}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.kill()
            with self._process:  # closes the pipes and waits
                pass

    def ask(self, groups: Sequence[tuple[Sibling, ...]]) -> list[Told] | None:
        """
        What the resolver answers there to *groups*, one after the other, in a fresh copy of the process.

        Each answer is (True, bytes), or (False, what was raised). None when the process cannot be asked.
        """
        if self.trouble or self._process is None:
            return None
        if not self._ready:
            refusal = self._read(START_SECONDS)
            if refusal != "":
                self.trouble = self.trouble or f"another process cannot import it: {refusal}"
                return None
            self._ready = True
        assert self._process.stdin is not None
        try:
            write(self._process.stdin, [pack_group(group) for group in groups])  # type: ignore[arg-type]
        except OSError as error:
            self.trouble = f"the other process ended: {error}"
            return None
        answers = self._read(START_SECONDS + self._seconds * len(groups))
        if answers is None:
            self.trouble = self.trouble or "the other process did not answer in time"
            return None
        return [(bool(fine), answer) for fine, answer in answers]

    def _read(self, seconds: float) -> Any:
        assert self._process is not None
        assert self._process.stdout is not None
        head = self._exactly(4, seconds)
        body = None if head is None else self._exactly(int.from_bytes(head, "big"), seconds)
        return None if body is None else msgspec.msgpack.decode(body)

    def _exactly(self, count: int, seconds: float) -> bytes | None:
        assert self._process is not None
        assert self._process.stdout is not None
        file, data = self._process.stdout.fileno(), b""
        while len(data) < count:
            if not _readable(file, seconds):
                return None
            piece = os.read(file, count - len(data))
            if not piece:
                self.trouble = "the other process ended"
                return None
            data += piece
        return data


def _readable(file: int, seconds: float) -> bool:
    """Whether there is something to read, or an end, within *seconds*. Where pipes cannot be asked, reading waits."""
    if not hasattr(select, "poll"):
        return True
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
