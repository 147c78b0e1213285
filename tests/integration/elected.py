"""
A single-master cluster as processes of ``mmrepl serve``, ended and stopped at random while clients write.

What it finds out: whether a write that was acknowledged by a quorum is ever gone, and how long it takes from the death
of a leader until another one is accepted by a quorum and takes a write. It is a test's in its short form; run by
itself, ``python -m tests.integration.elected --minutes 5``, it goes on for as long as wanted and says what it saw.

The time of an election is taken by the nodes: from the signal that ends or stops the leader to the moment at which
another one, by its own word, leads a later term; that is when a quorum has voted for it. Without a quorum nobody can be
elected, so while one is missing (a node that was killed is still starting, another stands still) the time does not
begin to run. How late the harness itself was meanwhile is told beside it: it is a measure of how busy the machine was.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import mmrepl
from mmrepl.errors import MmreplError
from tests.integration.served import Member, News, call, fields, free_addresses, insist

ELECTION_MS = (300, 600)
CLIENTS = 8
PATIENCE = 30.0
LOOK_S = 0.02
"""How often it is looked how late the harness is."""


class Elected:
    """The cluster, its clients, and what was seen. An asynchronous context manager. Times: seconds since 1970."""

    def __init__(self, size, folder, seed, election_ms=ELECTION_MS, ack="quorum", clients=CLIENTS):
        names = [f"n{number}" for number in range(1, size + 1)]
        addresses, ports = free_addresses(size), free_addresses(size)
        self.news = News()
        self.members = {
            name: Member(
                name, folder, addresses[at], ports[at], [each for each in addresses if each != addresses[at]],
                election_ms, ack, self.news,
            )
            for at, name in enumerate(names)
        }  # fmt: skip
        self.majority = size // 2 + 1
        self.rng = random.Random(seed)
        self.acknowledged = {}  # key: value of writes, each of its own key
        self.refused_count = 0
        self.elections = []  # (seconds, what was done to whom, how late the harness was meanwhile)
        self.failovers = []  # seconds from the loss of a leader until another one has acknowledged a write
        self.faults = {"kill": 0, "stop": 0}
        self._client_count = clients
        self._client = None
        self._tasks = []
        self._writing = True
        self._late = []  # (when, seconds)

    async def __aenter__(self):
        await asyncio.gather(*(member.start() for member in self.members.values()))
        try:
            addresses = [member.client for member in self.members.values()]
            self._client = await mmrepl.Client(addresses, timeout=5.0).start()
            await self.first_write()
            self._tasks = [asyncio.ensure_future(self._write(number)) for number in range(self._client_count)]
            self._tasks.append(asyncio.ensure_future(self._look_at_the_clock()))
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
            self.acknowledged[key] = str(at)
            self.news.stir()

    async def _look_at_the_clock(self):
        while self._writing:
            before = time.time()
            await asyncio.sleep(LOOK_S)
            self._late.append((before, time.time() - before - LOOK_S))

    def late_since(self, moment):
        """How late the harness was at most, since then."""
        return max((late for at, late in self._late if at >= moment - LOOK_S), default=0.0)

    # -- who leads

    def leader(self):
        """(name, term) of who takes writes, of the highest term, as the members that are up told; None if none does."""
        led = [(member.role[1], name) for name, member in self.members.items() if member.role[0] == "leader"]
        return max(led)[::-1] if led else None

    def elected(self, term):
        """(when, name, term) of who was elected first in a later term than *term*; None as long as nobody was."""
        found = [
            (event["at"], name, event["term"])
            for name, member in self.members.items()
            for event in member.told
            if event["event"] == "role" and event["role"] == "leader" and event["term"] > term
        ]
        return min(found, default=None)

    def whole_since(self, moment):
        """Since when, from *moment* on, enough members have been running; None while they are not."""
        running = sorted(member.running_since for member in self.members.values() if member.running_since is not None)
        return max(moment, running[self.majority - 1]) if len(running) >= self.majority else None

    async def another_leader(self, term, lost_at, what=""):
        """Return when somebody leads a later term and has acknowledged a write; notes how long both took."""
        at, name, _ = await self.news.until(lambda: self.elected(term), PATIENCE)
        whole_at = await self.news.until(lambda: self.whole_since(lost_at), PATIENCE)
        if at >= lost_at:  # else it was no leader any more when it was ended
            self.elections.append((max(0.0, at - whole_at), what, self.late_since(lost_at)))
        async with asyncio.timeout(PATIENCE):
            while True:
                name = (self.leader() or (name,))[0]
                with contextlib.suppress(OSError, ValueError, EOFError, TimeoutError):
                    await call(self.members[name].client, "SET", "first", str(term))
                    break
                await asyncio.sleep(0.01)
        if at >= lost_at:
            self.failovers.append(time.time() - max(whole_at, lost_at))

    # -- faults

    async def some_writes(self, count):
        """Return when so many more were acknowledged: somebody takes them."""
        wanted = len(self.acknowledged) + count
        await self.news.until(lambda: len(self.acknowledged) >= wanted, PATIENCE)

    async def disturb(self, *, of_the_leader=False):
        """One fault, mostly of the leader, surely if so wanted; returns when it is over and writes are taken."""
        if of_the_leader:
            await self.news.until(self.leader, PATIENCE)
        leader, term = self.leader() or (None, 0)
        names = sorted(self.members)
        name = leader if leader and (of_the_leader or self.rng.random() < 0.7) else self.rng.choice(names)
        member, kind = self.members[name], self.rng.choice(["kill", "stop"])
        self.faults[kind] += 1
        lost_at = time.time()
        await member.kill() if kind == "kill" else member.stop()
        if name == leader:
            await self.another_leader(term, lost_at, f"{kind} {name} of term {term}")
        await self.some_writes(self.rng.randrange(20, 200))
        if kind == "kill":
            await member.start()
        else:
            member.go_on()
        await self.some_writes(self.rng.randrange(20, 200))

    # -- what is left

    async def lost(self):
        """
        Ends the writing; keys that were acknowledged and have not their value, by the member that lacks them.

        Each member answers a linearizable read first: whatever is read there afterwards is as new, at least.
        """
        self._writing = False
        await asyncio.gather(*self._tasks)
        found = {}
        for name, member in self.members.items():
            missing = await self._missing_at(member)
            if missing:
                found[name] = missing
        return found

    async def _missing_at(self, member):
        await insist(PATIENCE, member.client, "MM.AT", "linearizable", "GET", "first")
        keys, missing = list(self.acknowledged), []
        for first in range(0, len(keys), 500):
            some = keys[first : first + 500]
            values = await call(member.client, "GET", *some, each=True)
            missing += [key for key, value in zip(some, values, strict=True) if value != self.acknowledged[key]]
        return missing

    def strangers(self):
        """Members that came back as another incarnation, with no vote until somebody adds them: none of them should."""
        lives = {
            name: {event["node"] for event in member.told if event["event"] == "started"}
            for name, member in self.members.items()
        }
        return sorted(name for name, nodes in lives.items() if len(nodes) > 1)

    async def twice(self):
        """
        Keys of clients that took effect more than once, by the changes that any member tells from the beginning on.

        Each is written once: a second time is a retry that was applied again.
        """
        member, token, counts = next(iter(self.members.values())), "-", Counter()
        while True:
            page = fields(await insist(PATIENCE, member.client, "MM.CHANGES", "SINCE", token, "COUNT", "1000"))
            if page["token"] == token:
                return sorted(key for key, count in counts.items() if count > 1 and key != "first")
            counts.update(fields(change)["key"] for change in page["changes"])
            token = page["token"]


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
                print(f"strangers, who have no vote: {cluster.strangers() or 'none'}")
                raise
            lost = await cluster.lost()
            _tell(cluster, f"{size} nodes, {minutes:g} min, seed {seed}", 3 * election_ms[1] / 1000)
            twice = await cluster.twice()
            strangers = cluster.strangers()
            print(f"lost: {lost or 'nothing'}; written twice: {twice or 'nothing'}; strangers: {strangers or 'none'}")
            return not lost and not twice and not strangers


def _tell(cluster, what, bound):
    times, elections = cluster.failovers, [seconds for seconds, _, _ in cluster.elections]
    late = [seconds for _, seconds in cluster._late]
    print(
        f"{what}: {len(cluster.acknowledged)} writes acknowledged, {cluster.refused_count} not;"
        f" {cluster.faults['kill']} kills, {cluster.faults['stop']} stops; {len(times)} failovers;"
        f" a new leader after p50 {at_share(elections, 0.5):.2f} s, p99 {at_share(elections, 0.99):.2f} s,"
        f" {sum(each <= bound for each in elections)} of them within {bound:g} s; a write acknowledged after"
        f" p50 {at_share(times, 0.5):.2f} s, p99 {at_share(times, 0.99):.2f} s;"
        f" the harness itself was late by p50 {at_share(late, 0.5):.3f} s, p99 {at_share(late, 0.99):.3f} s"
    )
    for seconds, done, lateness in cluster.elections:
        if seconds > bound:
            print(f"{done}: {seconds:.2f} s; the harness was late by {lateness:.2f} s meanwhile")


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
