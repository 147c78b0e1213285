"""Nodes for the commands to talk to, and a way to run a command and see what it did."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from mmrepl.cli import main
from mmrepl.resolvers import Callback, KeepSiblings
from mmrepl.runtime.node import Node

HERE = Path(__file__).resolve().parents[2]


@frozen
class Ran:
    """What a command did."""

    code: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        return self.raw.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.raw.splitlines()]


@pytest.fixture
def run(capsysbinary, monkeypatch):
    """Run a command line in this process."""
    monkeypatch.delenv("MMREPL_NODE", raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*words: str, stdin: bytes | None = None) -> Ran:
        with monkeypatch.context() as patch, io.TextIOWrapper(io.BytesIO(stdin or b"")) as typed:
            patch.setattr(sys, "stdin", typed)
            code = main(words)
        out, err = capsysbinary.readouterr()
        return Ran(code, out, err.decode())

    return call


def merge_lists(lists: list[list[str]]) -> list[str]:
    return sorted(set().union(*lists))


def quarrel(_values: list[Any]) -> Any:
    raise RuntimeError("no agreement")


TABLES = {
    "drafts": KeepSiblings(),
    "carts": Callback(merge_lists),
    "quarrels": Callback(quarrel),
}


class Hosted:
    """Nodes on an event loop in a thread of their own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="nodes")
        self.thread.start()
        self.nodes: list[Node] = []

    def call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)

    def start(self, name: str, **options: Any) -> Node:
        async def start() -> Node:
            return await Node(name, listen="127.0.0.1:0", client="127.0.0.1:0", tables=TABLES, **options).start()

        node: Node = self.call(start())
        self.nodes.append(node)
        return node

    def close(self) -> None:
        for node in self.nodes:
            self.call(node.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture(scope="module")
def hosted():
    """A loop for nodes."""
    host = Hosted()
    yield host
    host.close()


@pytest.fixture(scope="module")
def paris(hosted):
    """A node in memory."""
    return hosted.start("paris")


@pytest.fixture(scope="module")
def tokyo(hosted, paris):
    """Another one, which has met paris."""
    node = hosted.start("tokyo", peers=[paris.address])
    hosted.call(node.wait_connected("paris"))
    hosted.call(paris.wait_connected("tokyo"))
    return node


@pytest.fixture
def at(run, paris):
    """Run a command against paris."""
    return lambda *words, stdin=None: run(*words, "--node", paris.client_address, stdin=stdin)


class Process:
    """A command in a process of its own, which ends with the test."""

    def __init__(self, *words: str, cwd: Path, env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mmrepl", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=os.environ | {"PYTHONPATH": str(HERE), "PYTHONUTF8": "1"} | (env or {}),
        )

    def line(self) -> Any:
        """The next line of JSON."""
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def end(self, signal: int | None = None) -> Ran:
        """Send a signal, if any, and wait until it has ended."""
        if signal is not None:
            self.process.send_signal(signal)
        out, err = self.process.communicate(timeout=20)
        return Ran(self.process.returncode, out, err.decode())


@pytest.fixture
def process(tmp_path):
    """Start a command as a process."""
    started: list[Process] = []

    def start(*words: str, **more: Any) -> Process:
        started.append(Process(*words, cwd=tmp_path, **more))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()
