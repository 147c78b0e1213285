"""
Nodes over loopback TCP, each in a process of its own (`node_process`).

Sustained: one node puts as fast as it can, until the other has everything. Lag: puts at a steady rate, singly or in
bursts of a millisecond; each value says when it was put, and the other side's subscription how long that was ago.
Catch-up: a node that has nothing connects to one that has everything. What crosses the wire is counted in the
processes' own socket writes, acknowledgements and digests included.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from benchmarks.harness import ROOT, Measured, Row, Session, Target, row
from benchmarks.side import Reading
from benchmarks.workload import payload_bytes

SECONDS_MAX = 100


class Remote:
    """A node process at the other end of two pipes."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.node_process"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.address = self.client = ""

    def tell(self, verb: str, **arguments: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": verb, **arguments}) + "\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        reply: dict[str, Any] = json.loads(line) if line else {"failed": "the node's process ended"}
        if "failed" in reply:
            raise RuntimeError(reply["failed"])
        return reply

    def ask(self, verb: str, **arguments: Any) -> dict[str, Any]:
        self.tell(verb, **arguments)
        return self.hear()

    def start(self, kind: str, name: str, peers: list[str], **options: Any) -> None:
        reply = self.ask("start", kind=kind, name=name, peers=peers, **options)
        self.address, self.client = reply["address"], reply["client"]

    def end(self) -> None:
        """End it, kindly first."""
        try:
            self.tell("stop")
            self.process.wait(5)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()


@contextmanager
def remotes(count: int) -> Iterator[list[Remote]]:
    """That many processes, ended whatever happens."""
    with ExitStack() as stack:
        started = []
        for _ in range(count):
            remote = Remote()
            stack.callback(remote.end)
            started.append(remote)
        yield started


def pair(kind: str, writer: Remote, reader: Remote, **options: Any) -> None:
    """Two nodes that know each other, and have said hello when this returns: one operation has gone across."""
    writer.start(kind, "writer", [], **options)
    reader.start(kind, "reader", [writer.address], **options)
    time.sleep(0.3)
    writer.ask("prepare", count=1, first=9_000_000)
    writer.ask("write")
    reader.ask("wait", count=1, seconds=20)


# -- sides


def sustained(kind: str, count: int, verb: str = "write") -> Reading:
    """
    Operations a second from the first put until the other node has the last; processor microseconds of each.

    The figures by the processor's clock are of the two processes alone: on a machine that others share, the rates by
    the wall's clock say as much of the others.
    """
    with remotes(2) as (writer, reader):
        pair(kind, writer, reader)
        writer.ask("prepare", count=count)
        before = reader.ask("counters")["cpu"], writer.ask("counters")["cpu"]
        written = writer.ask(verb)
        arrived = reader.ask("wait", count=count + 1, seconds=SECONDS_MAX)
        after = reader.ask("counters")["cpu"], writer.ask("counters")["cpu"]
        seconds = (arrived["at"] - written["started"]) / 1e9
        return {
            "ops": count / seconds,
            "put_ops": count * 1e9 / (written["ended"] - written["started"]),
            "reader_us": (after[0] - before[0]) * 1e6 / count,
            "writer_us": (after[1] - before[1]) * 1e6 / count,
        }


def lag(kind: str, count: int, rate: int, burst: int) -> Reading:
    """Microseconds from put to the other node's subscriber, at *rate* a second."""
    with remotes(2) as (writer, reader):
        pair(kind, writer, reader)
        writer.ask("prepare", count=count)
        reader.ask("watch")
        achieved = writer.ask("pace", rate=rate, burst=burst)["rate"]
        return {"achieved": achieved, **reader.ask("lags_of", count=count, seconds=20)}


def catch_up(kind: str, count: int) -> Reading:
    """Operations a second from connecting until the node that had nothing has everything."""
    with remotes(2) as (writer, reader):
        writer.start(kind, "writer", [])
        writer.ask("prepare", count=count)
        writer.ask("write", turn=20_000)
        reader.ask("warm_up", kind=kind)
        time.sleep(0.2)
        before = reader.ask("counters")["cpu"], writer.ask("counters")["cpu"]
        started = time.monotonic_ns()
        reader.start(kind, "reader", [writer.address])
        arrived = reader.ask("wait", count=count, seconds=SECONDS_MAX)
        after = reader.ask("counters"), writer.ask("counters")
        return {
            "ops": count * 1e9 / (arrived["at"] - started),
            "reader_us": (after[0]["cpu"] - before[0]) * 1e6 / count,
            "writer_us": (after[1]["cpu"] - before[1]) * 1e6 / count,
            "reader_rss_mb": after[0]["rss"] / 1e6,
        }


def wire(kind: str, count: int, rate: int) -> Reading:
    """Bytes written to sockets a payload byte, both directions together: as fast as it goes, or at a rate."""
    with remotes(2) as (writer, reader):
        pair(kind, writer, reader, count_wire=True)
        writer.ask("prepare", count=count)
        before = [each.ask("counters")["wire_bytes"] for each in (writer, reader)]
        if rate:
            writer.ask("pace", rate=rate, burst=1)
        else:
            writer.ask("write")
        reader.ask("wait", count=count + 1, seconds=SECONDS_MAX)
        after = [each.ask("counters")["wire_bytes"] for each in (writer, reader)]
        stamps = len(b"\xa4sent\xcf\0\0\0\0\0\0\0\0") * count if rate else 0
        sent = [b - a for a, b in zip(before, after, strict=True)]
        return {
            "bytes": sum(sent) / (payload_bytes(count) + stamps),
            "back": sent[1] / (payload_bytes(count) + stamps),
        }


def mesh(kind: str, nodes: int, count: int, rate: int) -> Reading:
    """
    A full mesh, all nodes writing *count* each at once, until all have all.

    ``crossings``: how often a value went over some wire, for each node that had to receive it.
    """
    with remotes(nodes) as members:
        addresses: list[str] = []
        started = time.monotonic()
        for number, member in enumerate(members):
            member.start(kind, f"node{number:02d}", list(addresses), count_wire=True)
            addresses.append(member.address)
        up = time.monotonic() - started
        # A first write of each, known to all: from here on every link is up and has caught up.
        _all_write(members, 1, 5_000_000, rate)
        time.sleep(1.0)
        before = [member.ask("counters") for member in members]
        first, last = _all_write(members, count, 0, rate)
        time.sleep(0.5)  # what is repeated needlessly is to be counted too
        after = [member.ask("counters") for member in members]
        crossings = sum(b["markers"] - a["markers"] for a, b in zip(before, after, strict=True))
        total = nodes * count
        return {
            "crossings": crossings / (total * (nodes - 1)),
            "ops": total * 1e9 / (last - first),
            "rss_mb": sum(each["rss"] for each in after) / nodes / 1e6,
            "seconds_up": up,
        }


def _all_write(members: list[Remote], count: int, first: int, rate: int) -> tuple[int, int]:
    """Everybody writes *count* of their own, at *rate* a second each; when the first began, when the last had all."""
    had = [member.ask("counters")["seen"] for member in members]
    for number, member in enumerate(members):
        member.ask("prepare", count=count, first=first + number * count, marked=True)
    started = time.monotonic_ns()
    for member in members:
        member.tell("pace", rate=rate, burst=10)
    for member in members:
        member.hear()
    for member in members:
        member.tell("wait", count=max(had) + count * len(members), seconds=60)
    return started, max(member.hear()["at"] for member in members)


# -- the benchmarks

BOTH = ("ours", "pycrdt", "bare")


def sustained_rate(session: Session) -> Iterator[Row]:
    """two processes, as fast as it goes"""
    count = session.scaled(600_000, 60_000)
    counts = {"ours": count, "pycrdt": count // 6, "bare": count // 3}
    sides = {kind: session.side("network:sustained", kind=kind, count=counts[kind]) for kind in BOTH}
    sides["at once"] = session.side("network:sustained", kind="ours", count=count, verb="write_many")
    measured = session.alternate("sustained", sides, rounds=min(session.rounds, 3))
    target = Target(300_000, of="ours")
    for ours, name in (("ours", "two processes, sustained"), ("at once", "two processes, sustained, 256 a call")):
        note = _processors(measured, ours)
        yield row(name, measured, "ops", "ops/s", "pycrdt", target, ours, note)
        yield row(name, measured, "ops", "ops/s", "bare", ours=ours)


def _processors(measured: Mapping[str, Measured], ours: str) -> str:
    """What the rates would be were the slower process alone on its processor."""
    said = []
    for label in (ours, *(label for label in ("pycrdt", "bare") if label in measured)):
        writer, reader = measured[label].median("writer_us"), measured[label].median("reader_us")
        if writer is not None and reader is not None:
            said.append(f"{label} {writer:.2f} + {reader:.2f}, so {1e6 / max(writer, reader):,.0f}/s")
    return f"processor microseconds of writer + reader, and the rate that they allow: {'; '.join(said)}"


def lags(session: Session) -> Iterator[Row]:
    """two processes, delay at 20,000 operations a second"""
    rate = 20_000
    count = session.scaled(60_000, 20_000)
    for burst, how in ((1, "evenly"), (20, "20 each ms")):
        measured = session.alternate(
            f"lag, {how}",
            {
                kind: session.side("network:lag", kind=kind, count=count, rate=rate, burst=burst)
                for kind in ("ours", "pycrdt", "bare")
            },
            rounds=min(session.rounds, 3),
        )
        achieved = ", ".join(f"{kind} {measured[kind].median('achieved') or 0:,.0f}/s" for kind in measured)
        yield row(
            f"lag p50 at {rate:,}/s, {how}",
            measured,
            "p50",
            "us",
            "pycrdt",
            Target(300, at_most=True, of="ours"),
            note=f"rates achieved: {achieved}",
        )
        yield row(f"lag p50 at {rate:,}/s, {how}", measured, "p50", "us", "bare")
        yield row(
            f"lag p99 at {rate:,}/s, {how}", measured, "p99", "us", "pycrdt", Target(5_000, at_most=True, of="ours")
        )
        yield row(f"lag p99 at {rate:,}/s, {how}", measured, "p99", "us", "bare")


def catching_up(session: Session) -> Iterator[Row]:
    """two processes, one far behind"""
    count = session.scaled(1_000_000)
    measured = session.alternate(
        "catch-up",
        {
            "ours": session.side("network:catch_up", kind="ours", count=count),
            "pycrdt": session.side("network:catch_up", kind="pycrdt", count=count // 5),
        },
        rounds=min(session.rounds, 3),
    )
    note = f"pycrdt: of {count // 5:,}; {_processors(measured, 'ours')}"
    yield row(f"catch-up of {count:,}", measured, "ops", "ops/s", "pycrdt", Target(500_000, of="ours"), note=note)


def wire_bytes(session: Session) -> Iterator[Row]:
    """what crosses the wire"""
    for rate, how in ((0, "sustained"), (20_000, "at 20,000/s")):
        count = session.scaled(100_000 if not rate else 40_000, 20_000)
        measured = session.alternate(
            f"wire, {how}",
            {kind: session.side("network:wire", kind=kind, count=count, rate=rate) for kind in BOTH},
            rounds=1,
        )
        name = f"wire bytes a payload byte, {how}"
        target = Target(1.15, at_most=True, of="ours")
        yield row(name, measured, "bytes", "bytes", "pycrdt", target if not rate else None)
        yield row(name, measured, "bytes", "bytes", "bare")


def meshes(session: Session) -> Iterator[Row]:
    """8 nodes, 16 nodes, everybody connected to everybody"""
    eight = session.alternate(
        "mesh of 8",
        {
            kind: session.side("network:mesh", kind=kind, nodes=8, count=session.scaled(2_000, 500), rate=500)
            for kind in ("ours", "bare")
        },
        rounds=1,
    )
    target = Target(1.1, at_most=True, of="ours")
    yield row("mesh of 8, crossings a receiver", eight, "crossings", "times", "bare", target)
    sixteen = session.alternate(
        "mesh of 16",
        {
            kind: session.side("network:mesh", kind=kind, nodes=16, count=session.scaled(500, 100), rate=100)
            for kind in ("ours", "bare")
        },
        rounds=1,
    )
    rss = sixteen["ours"].median("rss_mb")
    note = f"{rss:.0f} MB a node; 16 processes, each asked to put 100 a second" if rss else ""
    yield row("mesh of 16, crossings a receiver", sixteen, "crossings", "times", "bare", target, note=note)
    yield row("mesh of 16, puts a second that reach all", sixteen, "ops", "ops/s", "bare")


BENCHMARKS = {
    "sustained": sustained_rate,
    "lag": lags,
    "catch-up": catching_up,
    "wire": wire_bytes,
    "mesh": meshes,
}
