"""
Three durable nodes of a single-master cluster over loopback TCP, each in a process of its own.

*quorum put*: writes that are answered when two of three have them on disk, with 1, 64 and 256 under way, from within
the process that leads, as an application does that embeds a node. **multi-master** is the same with ``mmrepl.Node`` and
``acks="majority"``. **etcd** is Debian's etcd-server, three members, driven over its HTTP gateway by as many keep-alive
connections as there are writes under way, from one Python process on asyncio; *client port* is ours driven in that same
way, by that many connections, so that the two stand beside each other as servers do. *uvloop* is the first of these
with all three nodes on that event loop. **PySyncObj** runs in three processes too, and writes nothing to disk.

Every side writes the same records.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import importlib.util
import json
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT, Measured, Row, Session, Target, row
from benchmarks.side import Reading, Unavailable
from benchmarks.workload import encode, records

NAMES = ("paris", "tokyo", "lima")
FLIGHTS = (1, 64, 256)
ELECTION_MS = (300, 600)
SECONDS_MAX = 60

AS_IT_IS = "PySyncObj writes nothing to disk; it answers in ticks of 50 ms, and with few under way that bounds its rate"


def free_addresses(count: int) -> list[str]:
    """Addresses of loopback where nobody listens."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]


async def in_flight(put: Callable[[str, Any], Awaitable[Any]], flight: int, count: int) -> Reading:
    """*count* writes, *flight* of them under way at any time: rate, and delays in microseconds."""
    delays: list[int] = []
    pairs = iter(list(records(count)))  # made before the clock runs

    async def writer() -> None:
        for name, value in pairs:
            began = time.perf_counter_ns()
            await put(name, value)
            delays.append(time.perf_counter_ns() - began)

    started, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(writer() for _ in range(flight)))
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    return {"ops": count / seconds, "cpu_us": cpu * 1e6 / count, **percentiles(delays)}


def percentiles(delays_ns: list[int]) -> Reading:
    """Median and 99 %, in microseconds."""
    ordered = sorted(delays_ns)
    return {"p50": statistics.median(ordered) / 1e3, "p99": ordered[len(ordered) * 99 // 100] / 1e3}


# -- processes that are told what to do


class Remote:
    """A process of `elected_process` at the other end of two pipes."""

    def __init__(self, kind: str, *, loop: str = "asyncio", **options: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.elected_process", loop, kind, json.dumps(options)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, verb: str, *arguments: Any) -> Any:
        """The answer to a command. Raises RuntimeError when it failed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([verb, *arguments]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        reply = json.loads(line) if line else {"failed": "the process ended"}
        if isinstance(reply, dict) and "failed" in reply:
            raise RuntimeError(reply["failed"])
        return reply

    def end(self) -> None:
        """At once: what it wrote is of no use to anybody."""
        self.process.kill()
        self.process.wait()


def end_all(remotes: Mapping[str, Remote]) -> None:
    """Whoever they are by now."""
    for remote in remotes.values():
        remote.end()


@contextmanager
def cluster(kind: str, directory: str, **options: Any) -> Iterator[dict[str, Remote]]:
    """Three processes that know each other, ended whatever happens."""
    folder = tempfile.mkdtemp(dir=directory)
    addresses = dict(zip(NAMES, free_addresses(3), strict=True))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        remotes = {}
        for name in NAMES:
            remotes[name] = Remote(kind, name=name, folder=folder, addresses=addresses, **options)
            stack.callback(remotes[name].end)
        for remote in remotes.values():
            remote.ask("start")
        yield remotes


def leader_of(remotes: Mapping[str, Remote]) -> Remote:
    """The one that takes writes, as soon as there is one."""
    deadline = time.monotonic() + SECONDS_MAX
    while time.monotonic() < deadline:
        for remote in remotes.values():
            if remote.ask("leads"):
                return remote
        time.sleep(0.05)
    raise TimeoutError("no leader")


# -- sides


def puts(kind: str, directory: str, counts: Mapping[str, int], **options: Any) -> Reading:
    """Writes made within the process that takes them."""
    if kind == "pysyncobj" and importlib.util.find_spec("pysyncobj") is None:
        raise Unavailable("pysyncobj is not installed (pip install pysyncobj)")
    if options.get("loop") == "uvloop" and importlib.util.find_spec("uvloop") is None:
        raise Unavailable("uvloop is not installed (pip install uvloop)")
    with cluster(kind, directory, **options) as remotes:
        writer = leader_of(remotes)
        writer.ask("puts", 64, 200)  # warm
        reading: Reading = {}
        for flight in FLIGHTS:
            found = writer.ask("puts", flight, counts[str(flight)])
            reading |= {f"{metric}_{flight}": value for metric, value in found.items()}
        return reading


def over_the_port(directory: str, counts: Mapping[str, int]) -> Reading:
    """Writes by connections to the leader's client port."""
    with cluster("ours", directory) as remotes:
        address = leader_of(remotes).ask("client")
        return asyncio.run(_driven(_resp(address), counts))


def etcd(directory: str, counts: Mapping[str, int]) -> Reading:
    """Writes by connections to the HTTP gateway of etcd's leader."""
    program = shutil.which("etcd")
    if program is None:
        raise Unavailable("etcd is not installed (Debian: etcd-server)")
    folder = Path(tempfile.mkdtemp(dir=directory))
    peers, clients = free_addresses(3), free_addresses(3)
    members = ",".join(f"{name}=http://{peer}" for name, peer in zip(NAMES, peers, strict=True))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        for name, peer, client in zip(NAMES, peers, clients, strict=True):
            process = subprocess.Popen(
                [
                    program, "--name", name, "--data-dir", str(folder / name), "--log-level", "error",
                    "--listen-peer-urls", f"http://{peer}", "--initial-advertise-peer-urls", f"http://{peer}",
                    "--listen-client-urls", f"http://{client}", "--advertise-client-urls", f"http://{client}",
                    "--initial-cluster", members, "--initial-cluster-state", "new",
                ],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            stack.callback(process.wait)
            stack.callback(process.kill)
        return asyncio.run(_driven(_gateway(_leader_of_etcd(clients)), counts))


def _leader_of_etcd(clients: list[str]) -> str:
    deadline = time.monotonic() + SECONDS_MAX
    while time.monotonic() < deadline:
        for client in clients:
            with contextlib.suppress(OSError, KeyError, ValueError):
                asked = urllib.request.Request(f"http://{client}/v3/maintenance/status", data=b"{}")
                with urllib.request.urlopen(asked, timeout=2) as answer:
                    said = json.load(answer)
                if said["leader"] == said["header"]["member_id"] != "0":
                    return client
        time.sleep(0.1)
    raise TimeoutError("etcd has no leader")


class Line(asyncio.Protocol):
    """One connection, one question at a time; *whole* says whether an answer is complete."""

    def __init__(self, whole: Callable[[bytearray], bool]) -> None:
        self._whole = whole
        self._got = bytearray()
        self._answer: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._got += data
        if self._answer is not None and self._whole(self._got):
            answer, self._answer = self._answer, None
            answer.set_result(bytes(self._got))
            self._got.clear()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("closed"))

    async def ask(self, data: bytes) -> bytes:
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        return await self._answer


Way = tuple[str, Callable[[bytearray], bool], Callable[[str, bytes], bytes], bytes]
"""An address, when an answer is whole, how a write is asked for, and how the answer to one that was made begins."""


def _resp(address: str) -> Way:
    def asked(name: str, value: bytes) -> bytes:
        return b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(name), name.encode(), len(value), value)

    return address, lambda got: got.endswith(b"\r\n"), asked, b"+OK"


def _gateway(address: str) -> Way:
    def asked(name: str, value: bytes) -> bytes:
        text = base64.b64encode
        body = b'{"key":"%s","value":"%s"}' % (text(name.encode()), text(value))
        return b"POST /v3/kv/put HTTP/1.1\r\nHost: e\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    def whole(got: bytearray) -> bool:
        head = got.find(b"\r\n\r\n")
        if head < 0:
            return False
        at = got.find(b"Content-Length: ", 0, head)
        return len(got) >= head + 4 + int(got[at + 16 : got.find(b"\r", at)])

    return address, whole, asked, b"HTTP/1.1 200"


async def _driven(way: Way, counts: Mapping[str, int]) -> Reading:
    address, whole, asked, good = way
    host, port = address.rsplit(":", 1)
    loop = asyncio.get_running_loop()
    free = [
        (await loop.create_connection(lambda: Line(whole), host, int(port)))[1] for _ in range(max(FLIGHTS))
    ]  # fmt: skip

    async def put(name: str, value: Any) -> None:
        line = free.pop()
        answer = await line.ask(asked(name, encode(value)))
        free.append(line)
        if not answer.startswith(good):
            raise RuntimeError(answer.decode(errors="replace")[:200])

    await in_flight(put, 64, 200)
    reading: Reading = {}
    for flight in FLIGHTS:
        found = await in_flight(put, flight, counts[str(flight)])
        reading |= {f"{metric}_{flight}": value for metric, value in found.items()}
    return reading


def following(directory: str, count: int) -> Reading:
    """What a replica adds: reads a second beside the primary's, lag, catching up, and what being followed costs."""
    with cluster("ours", directory, ack="async") as remotes:
        primary = leader_of(remotes)
        replica = next(remote for remote in remotes.values() if remote is not primary)
        reading: Reading = {}
        primary.ask("puts", 64, 2_000)  # warm
        alone = primary.ask("alone", count)
        reading["put_alone"], reading["put_followed"] = alone["ops"], primary.ask("puts", 64, count)["ops"]
        replica.ask("caught_up", primary.ask("position"))
        reading["reads_primary"], reading["reads_replica"] = primary.ask("reads", count), replica.ask("reads", count)
        replica.ask("watch")
        primary.ask("paced", count // 4, 2_000)
        reading |= {f"lag_{metric}": value for metric, value in replica.ask("lags").items()}
        return reading


def catch_up(directory: str, count: int) -> Reading:
    """Entries a second that a replica takes which was away."""
    with cluster("ours", directory) as remotes:
        primary = leader_of(remotes)
        replica = next(remote for remote in remotes.values() if remote is not primary)
        replica.ask("stop")
        primary.ask("puts", 256, count)
        position = primary.ask("position")
        began = time.monotonic()
        replica.ask("start")
        replica.ask("caught_up", position)
        return {"ops": count / (time.monotonic() - began)}


def failover(directory: str, times: int) -> Reading:
    """Milliseconds from kill -9 of the leader until another one has acknowledged a write, *times* times."""
    folder = tempfile.mkdtemp(dir=directory)
    addresses = dict(zip(NAMES, free_addresses(3), strict=True))
    options: dict[str, Any] = {"folder": folder, "addresses": addresses}
    delays: list[int] = []
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        remotes = {name: Remote("ours", name=name, **options) for name in NAMES}
        stack.callback(lambda: end_all(remotes))
        for remote in remotes.values():
            remote.ask("start")
        for _ in range(times):
            leader = leader_of(remotes)
            leader.ask("puts", 16, 200)
            [name] = [name for name, remote in remotes.items() if remote is leader]
            for remote in remotes.values():
                if remote is not leader:
                    remote.ask("connected")
            leader.process.kill()
            began = time.monotonic_ns()
            others = [remote for remote in remotes.values() if remote is not leader]
            while not any(remote.ask("accepts") for remote in others):
                time.sleep(0.002)
            delays.append(time.monotonic_ns() - began)
            leader.end()
            remotes[name] = Remote("ours", name=name, **options)
            remotes[name].ask("start")
    found = percentiles(delays)
    return {"p50": found["p50"] / 1e3, "p99": max(delays) / 1e6}


# -- groups


def quorum_put(session: Session) -> Iterator[Row]:
    """Writes acknowledged by a quorum of three durable nodes: ours, multi-master, etcd, PySyncObj."""
    counts = {"1": session.scaled(1_000, 200), "64": session.scaled(20_000), "256": session.scaled(40_000)}
    few = {"1": 50, "64": session.scaled(5_000), "256": session.scaled(20_000)}  # for who answers in ticks of 50 ms
    where: dict[str, Any] = {"directory": str(session.directory), "counts": counts}
    sides = {
        "ours": session.side("elected:puts", kind="ours", **where),
        "client port": session.side("elected:over_the_port", **where),
        "uvloop": session.side("elected:puts", kind="ours", loop="uvloop", **where),
        "etcd": session.side("elected:etcd", **where),
        "multi-master": session.side("elected:puts", kind="multi", **where),
        "PySyncObj": session.side("elected:puts", kind="pysyncobj", **(where | {"counts": few})),
    }
    found = session.alternate("quorum put", sides)
    for flight in FLIGHTS:
        name, metric = f"quorum put, {flight} in flight", f"ops_{flight}"
        target = {1: Target(1.5), 64: None, 256: Target(4)}[flight]
        note = _delays(found, flight)
        yield row(name, found, metric, "puts/s", "etcd", target, note=note)
        yield row(f"{name}, on uvloop", found, metric, "puts/s", "etcd", target, ours="uvloop")
        yield row(f"{name}, client port", found, metric, "puts/s", "etcd", ours="client port")
        yield row(name, found, metric, "puts/s", "multi-master")
        yield row(name, found, metric, "puts/s", "PySyncObj", note=AS_IT_IS)


def _delays(found: Mapping[str, Measured], flight: int) -> str:
    def of(label: str) -> str:
        p50, p99 = found[label].median(f"p50_{flight}"), found[label].median(f"p99_{flight}")
        return "" if p50 is None or p99 is None else f"{label} {p50 / 1000:.2f} / {p99 / 1000:.2f}"

    said = "; ".join(filter(None, map(of, found)))
    cpu = found["ours"].median(f"cpu_us_{flight}") or 0
    return f"p50 / p99 in ms: {said}. Processor time of our leader: {cpu:.0f} us a put"


def replicas(session: Session) -> Iterator[Row]:
    """What being followed costs a primary, what a replica serves, how far it is behind, how fast it comes back."""
    where = {"directory": str(session.directory)}
    found = session.alternate(
        "replicas",
        {
            "ours": session.side("elected:following", count=session.scaled(20_000), **where),
            "catch-up": session.side("elected:catch_up", count=session.scaled(100_000), **where),
        },
    )
    ours = found["ours"]
    alone, primary = Measured(), Measured()
    alone.readings = [{"put_followed": reading["put_alone"]} for reading in ours.readings]
    primary.readings = [{"reads_replica": reading["reads_primary"]} for reading in ours.readings]
    beside = {**found, "one node, put": alone, "primary's": primary}
    yield row("put async, followed by two", beside, "put_followed", "puts/s", "one node, put")
    yield row("local reads, replica", beside, "reads_replica", "gets/s", "primary's")
    yield row("lag at 2,000 puts/s, p50", found, "lag_p50", "us")
    yield row("lag at 2,000 puts/s, p99", found, "lag_p99", "us")
    yield row("catch-up of a replica", found, "ops", "entries/s", ours="catch-up")


def failovers(session: Session) -> Iterator[Row]:
    """From kill -9 of the leader until a write is acknowledged."""
    side = session.side("elected:failover", directory=str(session.directory), times=session.scaled(10, 3))
    found = session.alternate("failover", {"ours": side})
    bound = 3 * ELECTION_MS[1]
    note = f"elections after {ELECTION_MS[0]} to {ELECTION_MS[1]} ms; the median of the rounds"
    yield row("failover, p50", found, "p50", "ms", note=note)
    yield row("failover, longest of ten", found, "p99", "ms", target=Target(bound, at_most=True, of="ours"), note=note)


BENCHMARKS = {"quorum-put": quorum_put, "replicas": replicas, "failover": failovers}
