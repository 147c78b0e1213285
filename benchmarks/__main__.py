"""
All benchmarks, or some, and a table: ``python -m benchmarks [--only NAME] [--quick] [--json FILE]``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from importlib import import_module, metadata
from pathlib import Path

import attrs

from benchmarks.harness import Group, Row, Session, table

GROUPS = ("memory_store", "durable", "deltas", "opening", "network", "client_port", "elected", "simulator")
PEERS = ("pycrdt", "loro", "automerge", "msgspec", "zstandard")


def catalogue() -> dict[str, Group]:
    """Every benchmark, by name, in the order in which they run."""
    found: dict[str, Group] = {}
    for group in GROUPS:
        found |= import_module(f"benchmarks.{group}").BENCHMARKS
    return found


def machine(directory: Path) -> dict[str, str]:
    """Where this ran: figures of two machines are not to be compared."""
    about = {"cores": str(os.cpu_count()), "python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        about["cpu"] = next(line for line in lines if line.startswith("model name")).split(":")[1].strip()
    except (OSError, StopIteration):
        about["cpu"] = platform.machine()
    disk = subprocess.run(["df", "--output=fstype", directory], capture_output=True, text=True, check=False)
    about["disk"] = (disk.stdout.split() or ["?"])[-1]
    about["load"] = f"{os.getloadavg()[0]:.1f}"
    for package in PEERS:
        try:
            about[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            about[package] = "-"
    return about


def main() -> int:
    """Run, show, and answer 0: a missed target is a finding, not a failure of the run."""
    benchmarks = catalogue()
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="mmrepl beside its peers.")
    parser.add_argument("--only", action="append", metavar="NAME", help=f"one of: {', '.join(benchmarks)}; repeatable")
    parser.add_argument("--quick", action="store_true", help="fewer rounds of less: does it run, not how fast")
    parser.add_argument("--rounds", type=int, help="rounds of each comparison (default 5; quick 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every reading of every round there")
    parser.add_argument("--markdown", action="store_true", help="the table as Markdown")
    parser.add_argument("--directory", type=Path, help="where stores are written: choose a real disk")
    parser.add_argument("--cpu", action="store_true", help="time what only computes by processor time")
    parser.add_argument("--profile", action="store_true", help="profile each side on stderr; times are then no use")
    parser.add_argument("--verbose", action="store_true", help="show what the sides say on stderr")
    options = parser.parse_args()
    chosen = options.only or list(benchmarks)
    if unknown := [name for name in chosen if name not in benchmarks]:
        parser.error(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(benchmarks)}")
    directory = Path(tempfile.mkdtemp(prefix="mmrepl-bench-", dir=options.directory))
    session = Session(
        directory=directory,
        rounds=options.rounds or (1 if options.quick or options.profile else 5),
        quick=options.quick,
        profile=options.profile,
        verbose=options.verbose,
        cpu=options.cpu,
    )
    about = machine(directory) | {"computing timed by": "processor time" if options.cpu else "the wall's clock"}
    rows: list[Row] = []
    try:
        for name in chosen:
            session.say(f"{name}: {benchmarks[name].__doc__}")
            rows += benchmarks[name](session)
    except KeyboardInterrupt:
        session.say("interrupted: what was measured until now")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print("\n" + ", ".join(f"{what} {value}" for what, value in about.items()) + "\n")
    print(table(rows, markdown=options.markdown))
    if options.json:
        readings = {
            name: {label: attrs.asdict(side) for label, side in sides.items()} for name, sides in session.log.items()
        }
        found = {"machine": about, "rows": [attrs.asdict(each) for each in rows], "readings": readings}
        options.json.write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
