"""
A node as a process of ``mmrepl serve``: started, killed, stopped and followed by what it tells, and its client port.

What it tells (``--json``: a line an event, with the time at which it happened *there*) is read as it comes. So a
harness that gets little of the machine may be late to hear of something, and knows all the same when it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import orjson

ROOT = Path(__file__).parents[2]


def free_addresses(count):
    """Addresses of loopback that nobody listens at."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    finally:
        for each in sockets:
            each.close()


class News:
    """Whoever waits for something looks again when any of several nodes has told something."""

    def __init__(self):
        self._event = asyncio.Event()

    def stir(self):
        self._event.set()
        self._event = asyncio.Event()

    async def until(self, found, patience):
        """What *found* gives as soon as it gives something. Raises TimeoutError."""
        async with asyncio.timeout(patience):
            while not (result := found()):
                await self._event.wait()
            return result


class Member:
    """One node of a single-master cluster, over its lives. Times are seconds since 1970, as the node's own are."""

    def __init__(self, name, folder, address, client, peers, election_ms, ack, news):
        self.name = name
        self.client = client
        self.file = folder / f"{name}.db"
        self._log = folder / f"{name}.log"
        self._news = news
        self._words = [
            sys.executable, "-m", "mmrepl", "serve", name, "--json", "--until-eof", "--listen", address,
            "--client", client, "--path", str(self.file), "--mode", "single-master",
            "--failover", "automatic", "--ack", ack, "--election-ms", *map(str, election_ms),
        ]  # fmt: skip
        for peer in peers:
            self._words += ["--peer", peer]
        self.process = None
        self.is_stopped = False
        self.running_since = None  # since when it has been able to vote; None while it is not
        self.told = []  # events of all its lives
        self._reading = None

    async def start(self):
        with self._log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self._words, cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log
            )
        self._reading = asyncio.ensure_future(self._read(self.process.stdout))

    async def _read(self, lines):
        async for line in lines:
            with self._log.open("ab") as log:
                log.write(line)
            with contextlib.suppress(orjson.JSONDecodeError):  # killed in the middle of a line
                event = orjson.loads(line)
                event["at"] = datetime.fromisoformat(event["time"]).replace(tzinfo=UTC).timestamp()
                if event["event"] == "started":
                    self.running_since = event["at"]
                self.told.append(event)
                self._news.stir()

    @property
    def is_up(self):
        return self.process is not None and self.process.returncode is None and not self.is_stopped

    @property
    def role(self):
        """(role, term) as it told last; (None, 0) when it is not up, or has told nothing in this life."""
        if self.is_up:
            for event in reversed(self.told):
                if event["event"] == "role":
                    return event["role"], event["term"]
                if event["event"] == "started":
                    break
        return None, 0

    async def kill(self):
        """kill -9, whether it runs or stands still; returns when it is gone and all that it told has been read."""
        self.running_since = None  # from now on
        self.process.kill()
        await self._gone()

    def terminate(self):
        """SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    async def gone(self, patience):
        """Its exit code, when it has ended by itself and all that it told has been read. Raises TimeoutError."""
        async with asyncio.timeout(patience):
            await self._gone()
        return self.process.returncode

    def when(self, kind):
        """When it told such an event last; None when it has not."""
        return next((event["at"] for event in reversed(self.told) if event["event"] == kind), None)

    async def _gone(self):
        await self.process.wait()
        await self._reading
        self.is_stopped, self.running_since = False, None

    def stop(self):
        """It stands still, its connections open: to the others it is a partition, to itself no time passes."""
        self.running_since = None
        self.process.send_signal(signal.SIGSTOP)
        self.is_stopped = True

    async def stand_still(self):
        """As `stop`; returns when all its threads do, so that nothing which is done from now on is ever seen by it."""
        self.stop()
        await asyncio.to_thread(os.waitid, os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)
        self.is_stopped = False
        self.running_since = time.time()

    def said(self, lines):
        """The end of what it said."""
        return "\n".join(f"{self.name}: {line}" for line in self._log.read_text().splitlines()[-lines:])

    async def end(self):
        if self.process is not None and self.process.returncode is None:
            await self.kill()


async def call(address, *words, each=False):
    """One command of the client port; with *each*, one for each word after the first, and a list of their answers."""
    host, port = address.rsplit(":", 1)
    async with asyncio.timeout(1.0):  # of whom stood still the backlog may be full, and then nobody answers for long
        reader, writer = await asyncio.open_connection(host, int(port))
    try:
        commands = [(words[0], word) for word in words[1:]] if each else [words]
        for command in commands:
            encoded = [word.encode() for word in command]
            writer.write(b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in encoded))
        async with asyncio.timeout(5.0):
            answers = [await _reply(reader) for _ in commands]
        return answers if each else answers[0]
    finally:
        writer.close()


async def _reply(reader):
    line = (await reader.readuntil(b"\r\n"))[:-2]
    kind, rest = line[:1], line[1:]
    if kind == b"-":
        raise ValueError(rest.decode())
    if kind == b"$":
        return None if rest == b"-1" else (await reader.readexactly(int(rest) + 2))[:-2].decode()
    if kind in {b"*", b"%"}:
        return [await _reply(reader) for _ in range(int(rest) * (2 if kind == b"%" else 1))]
    return int(rest) if kind == b":" else rest.decode()


def fields(answer):
    """A map, which version 2 of the protocol lays out as a list."""
    return dict(zip(answer[::2], answer[1::2], strict=True))


async def insist(patience, address, *words):
    """As `call`, again and again until it is answered with no error. Raises TimeoutError."""
    async with asyncio.timeout(patience):
        while True:
            with contextlib.suppress(OSError, ValueError, EOFError, TimeoutError):
                return await call(address, *words)
            await asyncio.sleep(0.01)
