"""
The client port beside redis-server, both asked by ``redis-benchmark`` (Debian: redis-server, redis-tools).

Both are in memory and write nothing to disk. 50 connections, random keys of 100,000, values of 90 bytes; -P 1 asks one
thing at a time on each connection, -P 16 sends sixteen before it waits.
"""

from __future__ import annotations

import csv
import io
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.harness import Row, Session, Target, row
from benchmarks.network import remotes
from benchmarks.side import Reading, Unavailable


def needed(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise Unavailable(f"{program} is not installed")
    return path


def ask(port: int, pipeline: int, count: int) -> Reading:
    """What redis-benchmark says of the server at *port*, requests a second."""
    command = [needed("redis-benchmark"), "-h", "127.0.0.1", "-p", str(port), "-t", "set,get", "-P", str(pipeline)]
    command += ["-n", str(count), "-c", "50", "-r", "100000", "-d", "90", "--csv"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = {line[0].lower(): line for line in csv.reader(io.StringIO(done.stdout)) if len(line) > 1}
    if not {"set", "get"} <= set(found):
        raise RuntimeError(f"redis-benchmark said: {done.stdout} {done.stderr}"[:300])
    reading: Reading = {}
    for test in ("set", "get"):
        reading[test] = float(found[test][1])
        if len(found[test]) > 6:  # newer versions tell delays: average, least, p50, p95, p99, most
            reading[f"{test}_p50_ms"], reading[f"{test}_p99_ms"] = float(found[test][4]), float(found[test][6])
    return reading


@contextmanager
def redis_server() -> Iterator[int]:
    """A redis-server of our own on loopback, without persistence."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder]
        server = subprocess.Popen([needed("redis-server"), *options], stdout=subprocess.DEVNULL)
        try:
            for _ in range(100):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            yield port
        finally:
            server.terminate()
            server.wait(10)


# -- sides


def theirs(pipeline: int, count: int) -> Reading:
    with redis_server() as port:
        ask(port, pipeline, count // 10)
        return ask(port, pipeline, count)


def ours(pipeline: int, count: int) -> Reading:
    with remotes(1) as (node,):
        node.start("ours", "bench", [], client="127.0.0.1:0")
        port = int(node.client.rpartition(":")[2])
        ask(port, pipeline, count // 10)
        return ask(port, pipeline, count)


# -- the benchmark


def redis_benchmark(session: Session) -> Iterator[Row]:
    """redis-benchmark, ours and redis-server"""
    for pipeline, bound, full in ((1, 0.4, 100_000), (16, 0.15, 300_000)):
        count = session.scaled(full)
        measured = session.alternate(
            f"client port, -P {pipeline}",
            {
                "ours": session.side("client_port:ours", pipeline=pipeline, count=count),
                "redis": session.side("client_port:theirs", pipeline=pipeline, count=count),
            },
        )
        for test in ("set", "get"):
            delay = measured["ours"].median(f"{test}_p50_ms")
            note = f"p50 {delay:.2f} ms" if delay is not None else ""
            name = f"redis-benchmark {test.upper()} -P {pipeline}"
            yield row(name, measured, test, "requests/s", "redis", Target(bound), note=note)


BENCHMARKS = {"client-port": redis_benchmark}
