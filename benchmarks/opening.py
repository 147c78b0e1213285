"""
Opening a store of a million keys: seconds until the first get is answered, and memory a key.

Beside it stands the least that any store on SQLite has to do to have its keys in memory: read a million rows of the
same records into a dict. What our file holds is made by a process of its own, closed cleanly, before each opening;
``killed`` makes it without closing, so that the opening replays the tail of the log too.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import Row, Session, Target, row
from benchmarks.side import Reading, resident_bytes
from benchmarks.workload import encode, key, records


def fill_ours(path: str, count: int, killed: bool) -> Reading:
    """Write *count* keys; then close, or end the process as ``kill -9`` would."""
    import mmrepl

    started = time.perf_counter()
    replica = mmrepl.Replica("bench", path=path, durability="none")
    for name, value in records(count):
        replica[name] = value
    if killed:
        replica.flush()  # what nobody was promised is not to be missed
    else:
        replica.close()
    elapsed = time.perf_counter() - started
    size = sum(each.stat().st_size for each in Path(path).parent.glob(Path(path).name + "*"))
    reading = {"fill_s": elapsed, "file_bytes_per_key": size / count}
    if killed:
        import json
        import sys

        sys.stdout.write("\n" + json.dumps(reading) + "\n")
        sys.stdout.flush()
        os._exit(0)
    return reading


def open_ours(path: str, count: int) -> Reading:
    """Open, get one. The memory counted is what came with opening, not the interpreter."""
    import mmrepl

    warm = mmrepl.Replica("warm")
    warm["warm"] = 0
    before = resident_bytes()
    started = time.perf_counter()
    replica = mmrepl.Replica("bench", path=path)
    replica[key(count - 1)]
    seconds = time.perf_counter() - started
    taken = resident_bytes() - before
    assert len(replica) == count, len(replica)
    replica.close()
    return {"seconds": seconds, "bytes": taken / count}


def fill_sqlite(path: str, count: int) -> Reading:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE records (key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID")
    rows = ((name, encode(value)) for name, value in records(count))
    connection.executemany("INSERT INTO records VALUES (?, ?)", rows)
    connection.commit()
    connection.close()
    return {"file_bytes_per_key": Path(path).stat().st_size / count}


def open_sqlite(path: str, count: int) -> Reading:
    before = resident_bytes()
    started = time.perf_counter()
    connection = sqlite3.connect(path)
    found = dict(connection.execute("SELECT key, value FROM records"))
    seconds = time.perf_counter() - started
    taken = resident_bytes() - before
    assert len(found) == count
    connection.close()
    return {"seconds": seconds, "bytes": taken / count}


def million_keys(session: Session) -> Iterator[Row]:
    """opening a store of a million keys"""
    count = session.scaled(1_000_000)
    closed, killed, bare = (str(session.directory / name) for name in ("closed.db", "killed.db", "bare.db"))
    prepared = session.alternate(
        "filling",
        {
            "ours": session.side("opening:fill_ours", path=closed, count=count, killed=False),
            "killed": session.side("opening:fill_ours", path=killed, count=count, killed=True),
            "bare SQLite": session.side("opening:fill_sqlite", path=bare, count=count),
        },
        rounds=1,
    )
    first = session.alternate(
        "opening after a kill",
        {
            "ours": session.side("opening:open_ours", path=killed, count=count),
            "bare SQLite": session.side("opening:open_sqlite", path=bare, count=count),
        },
        rounds=1,  # the first opening settles the tail: a second one would find less to do
    )
    measured = session.alternate(
        "opening",
        {
            "ours": session.side("opening:open_ours", path=closed, count=count),
            "bare SQLite": session.side("opening:open_sqlite", path=bare, count=count),
        },
        rounds=min(session.rounds, 3),
    )
    five = Target(5, at_most=True, of="ours")
    yield row(f"opening {count:,} keys", measured, "seconds", "s", "bare SQLite", five)
    yield row(f"opening {count:,} keys after a kill", first, "seconds", "s", "bare SQLite", five)
    yield row("memory of a key after opening", measured, "bytes", "bytes", "bare SQLite")
    yield row("file of a key", prepared, "file_bytes_per_key", "bytes", "bare SQLite")


BENCHMARKS = {"opening": million_keys}
