"""
The world as it is: three processes of ``mmrepl serve`` on loopback, asked over their client ports.

Each node writes its file and its log into a folder that is gone afterwards. A thread for each node listens to its
changes, so that it is known when each node heard of what. The nodes are in sessions of their own: Ctrl-C reaches us,
and we end them. Should we be killed they end by themselves, for the pipes that are their standard input end with us.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, cast

import orjson

from mmrepl.causality.dot import Dot
from mmrepl.causality.version_vector import VersionVector
from mmrepl.cli.demo.resolvers import merge_carts
from mmrepl.cli.demo.world import NAMES, Heard, Place, View
from mmrepl.cli.options import Reach
from mmrepl.cli.remote import Remote
from mmrepl.clock import hlc
from mmrepl.errors import LogTruncated, MmreplError, Unavailable
from mmrepl.types import Value
from mmrepl.wire.seen import Seen

START_S: Final = 15.0
"""A node that has not told its ports by then does not start."""

STOP_S: Final = 5.0
"""A node that has not ended by then is killed."""

LISTEN_S: Final = 0.2
"""How long a listener waits at a time; it ends at the latest then."""

CALLBACK: Final = f"callback:{merge_carts.__module__}:{merge_carts.__qualname__}"


class Nodes:
    """Processes, their client ports, and how to end them; what both modes have in common."""

    def __init__(self, began_ms: int | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mmrepl-demo-")
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}
        self._remotes: dict[str, Remote] = {}
        self._listeners: list[_Listener] = []
        self.began_ms = _wall_ms() if began_ms is None else began_ms
        self.facts: dict[str, dict[str, Any]] = {}  # what each node told when it had started

    def _launch(self, name: str, address: str, more: Sequence[str]) -> None:
        words = [sys.executable, "-m", "mmrepl", "serve", name, "--json", "--until-eof", "--listen", address]
        words += ["--client", "127.0.0.1:0", "--path", str(Path(self._folder.name) / f"{name}.db")]
        words += ["--cluster", f"demo-{os.getpid()}", *more]
        with self._log(name).open("wb") as log, self._log(name, "err").open("wb") as errors:
            self._nodes[name] = subprocess.Popen(  # noqa: S603 — ourselves, with words of our own
                words, stdin=subprocess.PIPE, stdout=log, stderr=errors, start_new_session=True
            )

    def _log(self, name: str, suffix: str = "log") -> Path:
        return Path(self._folder.name) / f"{name}.{suffix}"

    def _started(self, name: str) -> dict[str, Any]:
        """The first line that a node tells: its ports."""
        deadline = time.monotonic() + START_S
        while True:
            line, newline, _ = self._log(name).read_bytes().partition(b"\n")
            if newline:
                self.facts[name] = orjson.loads(line)
                return self.facts[name]
            if self._nodes[name].poll() is not None:
                why = self._log(name, "err").read_text(encoding="utf-8", errors="replace").strip()
                raise Unavailable(f"node {name} did not start: {why.removeprefix('mmrepl: ') or 'it said nothing'}")
            if time.monotonic() > deadline:
                raise Unavailable(f"node {name} did not start within {START_S:g} s")
            time.sleep(0.01)

    def close(self) -> None:
        """End the nodes, first of all, then the listeners; then remove the folder."""
        for node in self._nodes.values():
            if node.poll() is None:
                node.terminate()
        for listener in self._listeners:
            listener.stop()
        for listener in self._listeners:
            listener.join()
        for remote in self._remotes.values():
            remote.close()
        deadline = time.monotonic() + STOP_S
        for node in self._nodes.values():
            try:
                node.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                node.kill()
                node.wait()
            if node.stdin is not None:
                node.stdin.close()
        self._folder.cleanup()

    def now_ms(self) -> int:
        """By the wall clock, which the nodes of one machine share."""
        return _wall_ms() - self.began_ms

    def cut(self, one: Sequence[str], other: Sequence[str]) -> None:
        """Both sides are told, so that neither dials the other in vain."""
        for name in one:
            for peer in other:
                self._remotes[name].partition(peer)
                self._remotes[peer].partition(name)

    def heal(self) -> None:
        """Every node lets everybody in."""
        for remote in self._remotes.values():
            remote.heal()

    def wait(self, condition: Callable[[], bool], seconds: float) -> int | None:
        """Looks again every few milliseconds."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > seconds:
                return None
            time.sleep(0.005)
        return round((time.monotonic() - began) * 1000)

    def sleep(self, seconds: float, meanwhile: Callable[[], None]) -> None:
        """Looks about ten times a second."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            meanwhile()
            time.sleep(min(0.1, left))


class Processes(Nodes):
    """See `mmrepl.cli.demo.world.World`."""

    kind = "processes"

    def begin(self) -> Sequence[str]:
        """Start paris, and the others with nothing but its address."""
        first, *others = NAMES
        self._start(first, ())
        address = self._started(first)["address"]
        for name in others:
            self._start(name, ("--peer", address))
        for name in others:
            self._started(name)
        for name in NAMES:
            reach = Reach(node=self.facts[name]["client"])
            self._remotes[name] = Remote(reach)
            self._listeners.append(_Listener(name, reach, self.began_ms))
        told = ", ".join(f"{name} (process {self.facts[name]['pid']}, clients at {self.facts[name]['client']})"
                         for name in NAMES)  # fmt: skip
        return (
            f"Three nodes run on this machine: {told}.",
            f"{' and '.join(others)} were told the address of {first}, {address}, and of nobody else.",
        )

    def _start(self, name: str, more: Sequence[str]) -> None:
        self._launch(name, "127.0.0.1:0", ("--table", "drafts=siblings", "--table", f"carts={CALLBACK}", *more))

    def put(self, node: str, place: Place, value: Value, context: str | None = None) -> Dot:
        """Through the node's client port."""
        remote = self._remotes[node]
        remote.use(place[0])
        return Dot.parse(remote.put(place[1], value, context=context).dot)

    def look(self, node: str, places: Sequence[Place]) -> View:
        """Through the node's client port."""
        remote = self._remotes[node]
        peers = {str(row["name"]): str(row["state"]) for row in remote.members() if row["name"] not in {None, node}}
        reads = {}
        for table, key in places:
            remote.use(table)
            reads[table, key] = remote.read(key)
        return View(node, peers, cast("VersionVector", remote.version()), reads)

    def heard(self) -> Sequence[Heard]:
        """What the listeners have heard so far."""
        events = [event for listener in self._listeners for event in listener.events]
        return sorted(events, key=lambda event: (event.at_ms, not event.own, NAMES.index(event.node), event.dot))


class _Listener(threading.Thread):
    """Follows one node's changes over a connection of its own, and notes when each came."""

    def __init__(self, name: str, reach: Reach, began_ms: int) -> None:
        super().__init__(name=f"demo-{name}", daemon=True)
        self.events: list[Heard] = []
        self._node = name
        self._reach = reach
        self._began_ms = began_ms
        self._stopping = threading.Event()
        self.start()

    def stop(self) -> None:
        """End soon; `join` waits for it."""
        self._stopping.set()

    def run(self) -> None:
        """Until told to stop, or until the node has gone."""
        place: Seen = VersionVector()
        with contextlib.suppress(MmreplError), Remote(self._reach) as remote:
            while not self._stopping.is_set():
                try:
                    for op in remote.changes(place, wait_s=LISTEN_S):
                        place = op.token
                        assert isinstance(op.dot, Dot), "the nodes of the demo are of multi-master mode"
                        # The nodes share our clock: what they write is stamped with the time at which it was written.
                        at = hlc.ms_of(op.timestamp) if op.dot.origin.name == self._node else _wall_ms()
                        self.events.append(
                            Heard(at - self._began_ms, self._node, op.dot, op.table, op.key, op.deleted, op.value)
                        )
                        if self._stopping.is_set():
                            return
                except LogTruncated:  # it was cut while we looked away: go on from here
                    place = remote.version()


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
