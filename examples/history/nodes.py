"""
A history replayed by nodes on a network: what is brought goes through sockets, between processes.

All nodes are members of one cluster, and all are kept apart (`Node.block`), as in a partition into single nodes. To
bring something, two of them are let together, until each has everything that the other has, and are parted again. So
each exchange is a connection over TCP with all that belongs to it: hello, digest, what is missing, membership.

One more node is a member and never meets anybody again. It stands for the colleague on a long journey: while a member
has heard of nothing, nothing may be forgotten anywhere, and so each deletion can be compared with the graph.

This is the side that commands; the processes with the nodes are history/node_process.py.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import mmrepl
from history.replicas import Live
from history.source import Commit

ANSWER_SECONDS = 60.0  # for any command; none takes a hundredth of it
AWAY = 1  # members that have gone


class Process:
    """A process that runs nodes, and the line to it: JSON both ways, answers in order of the questions."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        examples = Path(__file__).resolve().parents[1]
        roots = [str(examples), str(Path(mmrepl.__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
        with theirs:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "history.node_process", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, roots))},
            )
        ours.settimeout(ANSWER_SECONDS)
        self._socket, self._lines = ours, ours.makefile("rwb")

    def ask(self, do: str, **arguments: Any) -> None:
        """Send a command; `answer` has to be called for each."""
        self._lines.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        self._lines.flush()

    def answer(self) -> Any:
        """What a command came to. Raises RuntimeError with what went wrong there."""
        line = self._lines.readline()
        if not line:
            raise RuntimeError("a process with nodes has died")
        answer = json.loads(line)
        if "failed" in answer:
            raise RuntimeError(f"a node failed: {answer['failed']}")
        return answer["is"]

    def close(self) -> None:
        """End the process; it ends by itself when the line does."""
        self._lines.close()
        self._socket.close()
        try:
            self._child.wait(ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


class Nodes:
    """So many nodes in so many processes."""

    mutual = True  # bringing is an exchange

    def __init__(self, count: int, process_count: int) -> None:
        self.delta_bytes = 0  # not counted here
        self._processes: list[Process] = []
        try:
            self._processes += [Process() for _ in range(process_count)]
            address = ""
            for number in range(count + AWAY):
                answer = self._do(number, "start", peers=[address] if address else [])
                address = address or answer
            self._do_all([(number, "gather", {"count": count + AWAY}) for number in range(count + AWAY)])
            self._do_all([(number, "part", {"names": None}) for number in range(count + AWAY)])
        except BaseException:
            self.close()
            raise

    def _process(self, number: int) -> Process:
        """Neighbours live in different processes."""
        return self._processes[number % len(self._processes)]

    def _do(self, number: int, do: str, **arguments: Any) -> Any:
        return self._do_all([(number, do, arguments)])[0]

    def _do_all(self, commands: list[tuple[int, str, dict[str, Any]]]) -> list[Any]:
        """Send all commands, then take all answers: they run at the same time."""
        for number, do, arguments in commands:
            self._process(number).ask(do, number=number, **arguments)
        return [self._process(number).answer() for number, _, _ in commands]

    def bring(self, target: int, source: int) -> None:
        """Let the two meet until both have everything, and part them."""
        self._do_all([(target, "meet", {"other": source}), (source, "meet", {"other": target})])
        self._do_all([(target, "part", {"names": [source]}), (source, "part", {"names": [target]})])

    def write(self, number: int, commit: Commit) -> Mapping[str, mmrepl.Dot]:
        """Make a commit's writes at a node; returns the name of each."""
        dots = self._do(number, "write", seconds=commit.time, writes=commit.writes)
        return {key: mmrepl.Dot.parse(dot) for key, dot in dots.items()}

    def siblings(self, number: int, keys: Iterable[str]) -> Iterator[tuple[str, Live]]:
        """For each of *keys* the writes that live at a node."""
        found = self._do(number, "siblings", keys=list(keys))
        for key, live in found.items():
            yield key, {mmrepl.Dot.parse(dot): value for dot, value in live.items()}

    def close(self) -> None:
        for process in self._processes:
            process.close()
