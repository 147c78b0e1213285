"""
A single-master cluster as processes of ``mmrepl serve``, ended and stopped at random while clients write.

What it finds out: whether a write that was acknowledged by a quorum is ever gone, and how long it takes from the death
of a leader until another one is accepted by a quorum and takes a write. It is a test's in its short form; run by
itself, ``python -m tests.integration.elected --minutes 5``, it goes on for as long as wanted and says what it saw.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

import mmrepl
from mmrepl.errors import MmreplError

ROOT = Path(__file__).parents[2]
ELECTION_MS = (300, 600)
CLIENTS = 8
PATIENCE = 30.0


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


class Member:
    """One node, over its lives."""

    def __init__(self, name, folder, address, client, peers, election_ms, ack):
        self.name = name
        self.client = client
        self._folder = folder
        self._words = [
            sys.executable, "-m", "mmrepl", "serve", name, "--json", "--until-eof", "--listen", address,
            "--client", client, "--path", str(folder / f"{name}.db"), "--mode", "single-master",
            "--failover", "automatic", "--ack", ack, "--election-ms", *map(str, election_ms),
        ]  # fmt: skip
        for peer in peers:
            self._words += ["--peer", peer]
        self.process = None
        self.is_stopped = False

    async def start(self):
        with (self._folder / f"{self.name}.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self._words, cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=log, stderr=log
            )

    @property
    def is_up(self):
        return self.process is not None and self.process.returncode is None and not self.is_stopped

    async def kill(self):
        """kill -9."""
        self.process.kill()
        await self.process.wait()
        self.is_stopped = False

    def stop(self):
        """It stands still, its connections open: to the others it is a partition, to itself no time passes."""
        self.process.send_signal(signal.SIGSTOP)
        self.is_stopped = True

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)
        self.is_stopped = False

    def said(self, lines):
        """The end of what it said."""
        text = (self._folder / f"{self.name}.log").read_text()
        return "\n".join(f"{self.name}: {line}" for line in text.splitlines()[-lines:])

    async def end(self):
        if self.process is not None and self.process.returncode is None:
            if self.is_stopped:
                self.go_on()
            self.process.kill()
            await self.process.wait()


class Elected:
    """The cluster, its clients, and what was seen. An asynchronous context manager."""

    def __init__(self, size, folder, seed, election_ms=ELECTION_MS, ack="quorum"):
        names = [f"n{number}" for number in range(1, size + 1)]
        addresses, clients = free_addresses(size), free_addresses(size)
        self.election_ms = election_ms
        self.members = {
            name: Member(
                name, folder, addresses[at], clients[at], [each for each in addresses if each != addresses[at]],
                election_ms, ack,
            )
            for at, name in enumerate(names)
        }  # fmt: skip
        self.rng = random.Random(seed)
        self.acknowledged = []  # keys of writes, each of its own
        self.refused_count = 0
        self.elections = []  # seconds from the loss of a leader until another one says that it leads
        self.failovers = []  # and until that one has acknowledged a write
        self.faults = {"kill": 0, "stop": 0}
        self._client = None
        self._tasks = []
        self._writing = True
        self._accepted = asyncio.Condition()

    async def __aenter__(self):
        await asyncio.gather(*(member.start() for member in self.members.values()))
        try:
            addresses = [member.client for member in self.members.values()]
            self._client = await mmrepl.Client(addresses, timeout=5.0).start()
            await self.first_write()
            self._tasks = [asyncio.ensure_future(self._write(number)) for number in range(CLIENTS)]
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_):
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.close()
        await asyncio.gather(*(member.end() for member in self.members.values()))

    async def first_write(self):
        async with asyncio.timeout(PATIENCE):
            while True:
                with contextlib.suppress(MmreplError):
                    await self._client.put("first", 0)
                    return

    async def _write(self, number):
        """Writes one key after the other, and never gives up."""
        at = 0
        while self._writing:
            at += 1
            key = f"{number}/{at}"
            try:
                await self._client.put(key, at)
            except MmreplError:
                self.refused_count += 1
                continue
            self.acknowledged.append(key)
            async with self._accepted:
                self._accepted.notify_all()

    async def leader(self):
        """(name, term) of who takes writes, of the highest term, as the members that are up say; None if none does."""
        asked = [member for member in self.members.values() if member.is_up]
        said = await asyncio.gather(*(ask_role(member.client) for member in asked))
        led = [(term, member.name) for member, (role, term) in zip(asked, said, strict=True) if role == "primary"]
        return max(led)[::-1] if led else None

    async def another_leader(self, term):
        """Return when somebody leads a later term and has acknowledged a write; notes how long both took."""
        began = time.monotonic()
        async with asyncio.timeout(PATIENCE):
            while (found := await self.leader()) is None or found[1] <= term:  # noqa: ASYNC110 - another process decides
                await asyncio.sleep(0.01)
            self.elections.append(time.monotonic() - began)
            while True:
                found = await self.leader() or found
                with contextlib.suppress(OSError, ValueError, EOFError, TimeoutError):
                    await _call(self.members[found[0]].client, "SET", "first", str(term))
                    break
        self.failovers.append(time.monotonic() - began)

    async def some_writes(self, count):
        """Return when so many more were acknowledged: somebody takes them."""
        wanted = len(self.acknowledged) + count
        async with asyncio.timeout(PATIENCE), self._accepted:
            await self._accepted.wait_for(lambda: len(self.acknowledged) >= wanted)

    async def disturb(self, *, of_the_leader=False):
        """One fault, mostly of the leader, surely if so wanted; returns when it is over and writes are taken."""
        leader, term = await self.leader() or (None, 0)
        names = sorted(self.members)
        name = leader if leader and (of_the_leader or self.rng.random() < 0.7) else self.rng.choice(names)
        member, kind = self.members[name], self.rng.choice(["kill", "stop"])
        self.faults[kind] += 1
        await member.kill() if kind == "kill" else member.stop()
        if name == leader:
            await self.another_leader(term)
        await self.some_writes(self.rng.randrange(20, 200))
        if kind == "kill":
            await member.start()
        else:
            member.go_on()
        await self.some_writes(self.rng.randrange(20, 200))

    async def lost(self):
        """Ends the writing; keys that were acknowledged and are missing, by the member that lacks them."""
        self._writing = False
        await asyncio.gather(*self._tasks)
        found = {}
        for name, member in self.members.items():
            missing = await self._missing_at(member)
            if missing:
                found[name] = missing
        return found

    async def _missing_at(self, member):
        async with asyncio.timeout(PATIENCE):
            while True:  # a linearizable read: afterwards the member has applied all that was acknowledged
                with contextlib.suppress(OSError, ValueError, EOFError, TimeoutError):
                    await _call(member.client, "MM.AT", "linearizable", "GET", "first")
                    break
                await asyncio.sleep(0.05)
        there = []
        for first in range(0, len(self.acknowledged), 500):
            there += await _call(member.client, "EXISTS", *self.acknowledged[first : first + 500], each=True)
        return [key for key, is_there in zip(self.acknowledged, there, strict=True) if not is_there]


async def _call(address, *words, each=False):
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


async def ask_role(address):
    """(role, term) of the member there; (None, 0) when it does not answer."""
    try:
        said = await _call(address, "MM.ROLE")
    except (OSError, ValueError, EOFError):
        return None, 0
    told = dict(zip(said[::2], said[1::2], strict=True))
    return told["role"], told["term"]


def at_share(figures, share):
    """The figure below which that share of them is."""
    ordered = sorted(figures)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


async def soak(size, minutes, seed, election_ms):
    """Disturb a cluster for minutes, and say what was seen."""
    with tempfile.TemporaryDirectory() as folder:
        async with Elected(size, Path(folder), seed, election_ms) as cluster:
            ends = time.monotonic() + 60 * minutes
            try:
                while time.monotonic() < ends:
                    await cluster.disturb()
            except TimeoutError:
                for member in cluster.members.values():
                    print(member.said(25))
                raise
            lost = await cluster.lost()
            times = cluster.failovers
            bound = 3 * election_ms[1] / 1000
            print(
                f"{size} nodes, {minutes:g} min, seed {seed}: {len(cluster.acknowledged)} writes acknowledged,"
                f" {cluster.refused_count} not; {cluster.faults['kill']} kills, {cluster.faults['stop']} stops;"
                f" {len(times)} failovers; a new leader after p50 {at_share(cluster.elections, 0.5):.2f} s, p99"
                f" {at_share(cluster.elections, 0.99):.2f} s, {sum(each <= bound for each in cluster.elections)} of them"
                f" within {bound:g} s; a write acknowledged after p50 {at_share(times, 0.5):.2f} s,"
                f" p99 {at_share(times, 0.99):.2f} s; lost: {lost or 'nothing'}"
            )
            return not lost


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=os.getpid())
    parser.add_argument("--election-ms", type=int, nargs=2, default=ELECTION_MS)
    options = parser.parse_args()
    return 0 if asyncio.run(soak(options.nodes, options.minutes, options.seed, tuple(options.election_ms))) else 1


if __name__ == "__main__":
    sys.exit(main())
