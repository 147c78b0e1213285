"""
The store on disk: what a durable put costs beside doing by hand what it has to do.

- One writer at ``sync``: each put is on the disk before it returns. By hand: encode, append to a file, fdatasync.
- 64 writers at ``sync``, which share syncs. By hand: the same records, appended and synced in the same batches that
  our run had just made (they are recorded where our storage commits, so this side runs second in every round).
- Bare SQLite: one row a commit, WAL, ``synchronous=FULL``, one connection: the same file format as ours.
- One writer at ``batch``: the put returns at once, and is synced within a few milliseconds.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.harness import Row, Session, Target, row
from benchmarks.side import Reading, Unavailable, settle
from benchmarks.workload import encode, records

Pairs = list[tuple[str, dict[str, Any]]]


@contextmanager
def scratch(directory: str, name: str) -> Iterator[str]:
    """A path in a directory of its own, gone afterwards."""
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        yield str(Path(folder, name))


@contextmanager
def recorded_commits() -> Iterator[list[int]]:
    """The number of operations of each durable commit that our storage makes meanwhile."""
    from mmrepl.storage import sqlite

    storages = [
        each
        for _, each in inspect.getmembers(sqlite, inspect.isclass)
        if each.__module__ == sqlite.__name__ and {"commit", "load", "backup"} <= set(vars(each))
    ]
    if not storages:
        raise Unavailable("no storage class found in mmrepl.storage.sqlite")
    positions: list[int] = []
    storage: Any = storages[0]
    commit = storage.commit

    def recording(self: Any, what: Any, *more: Any, **named: Any) -> Any:
        if what.batches:
            positions.append(min(what.batches))
        return commit(self, what, *more, **named)

    with patch.object(storage, "commit", recording):
        yield positions


def sizes(positions: list[int], count: int) -> list[int]:
    """Operations of each batch, from where each begins; together they are *count*."""
    ends = [*positions[1:], positions[0] + count]
    return [end - start for start, end in zip(positions, ends, strict=True) if end > start]


# -- sides, one writer


def one_ours(directory: str, count: int) -> Reading:
    import mmrepl

    pairs = list(records(count))
    with scratch(directory, "one.db") as path:
        replica = mmrepl.Replica("bench", path=path, durability="sync")
        replica["warm"] = 0
        settle()
        started = time.perf_counter()
        _fill(replica, pairs)
        seconds = time.perf_counter() - started
        replica.close()
    return {"puts": count / seconds}


def _fill(store: Any, pairs: Pairs) -> None:
    for name, value in pairs:
        store[name] = value


def one_by_hand(directory: str, count: int) -> Reading:
    return by_hand(directory, [1] * count)


def joined(pairs: Iterable[tuple[str, dict[str, Any]]]) -> bytes:
    """What has to be written of these records: keys, encoded values."""
    return b"".join([name.encode() + encode(value) for name, value in pairs])


def by_hand(directory: str, batches: list[int]) -> Reading:
    """Encode, append, fdatasync: *batches* says how many records each time."""
    pairs = iter(list(records(sum(batches))))
    with scratch(directory, "plain") as path:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(file, b"warm")
        os.fdatasync(file)
        settle()
        started = time.perf_counter()
        for size in batches:
            os.write(file, joined(islice(pairs, size)))
            os.fdatasync(file)
        seconds = time.perf_counter() - started
        os.close(file)
    return {"puts": sum(batches) / seconds, "syncs": len(batches) / seconds}


def one_sqlite(directory: str, count: int) -> Reading:
    return by_sqlite(directory, [1] * count)


def by_sqlite(directory: str, batches: list[int]) -> Reading:
    pairs = iter(list(records(sum(batches))))
    with scratch(directory, "bare.db") as path:
        connection = sqlite3.connect(path, isolation_level=None)
        for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("CREATE TABLE batches (position INTEGER PRIMARY KEY, body BLOB)")
        settle()
        started = time.perf_counter()
        for number, size in enumerate(batches):
            connection.execute("INSERT INTO batches VALUES (?, ?)", (number, joined(islice(pairs, size))))
        seconds = time.perf_counter() - started
        connection.close()
    return {"puts": sum(batches) / seconds, "syncs": len(batches) / seconds}


# -- sides, many writers


def many_ours(directory: str, count: int, writers: int) -> Reading:
    """Tasks of one event loop, each waiting for its own put before it makes the next."""
    import mmrepl

    pairs = list(records(count))

    async def run(path: str) -> tuple[float, list[int]]:
        async with mmrepl.Node("bench", path=path, listen="127.0.0.1:0") as node:
            await node.put("warm", 0, durability="sync")

            async def writer(mine: Pairs) -> None:
                for name, value in mine:
                    await node.put(name, value, durability="sync")

            settle()
            with recorded_commits() as positions:
                started = time.perf_counter()
                await asyncio.gather(*(writer(pairs[each::writers]) for each in range(writers)))
                seconds = time.perf_counter() - started
            return seconds, sizes(positions, count)

    with scratch(directory, "many.db") as path:
        seconds, batches = asyncio.run(run(path))
    return _many(count, seconds, batches)


def many_ours_threads(directory: str, count: int, writers: int) -> Reading:
    """Threads of one process over one embedded replica."""
    import mmrepl

    pairs = list(records(count))
    with scratch(directory, "many.db") as path:
        replica = mmrepl.Replica("bench", path=path, durability="sync")
        replica["warm"] = 0
        threads = [threading.Thread(target=_fill, args=(replica, pairs[each::writers])) for each in range(writers)]
        settle()
        with recorded_commits() as positions:
            started = time.perf_counter()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            seconds = time.perf_counter() - started
        replica.close()
    return _many(count, seconds, sizes(positions, count))


def _many(count: int, seconds: float, batches: list[int]) -> Reading:
    return {"puts": count / seconds, "batch": count / len(batches), "batches": batches}


# -- sides, batch


def batch_ours(directory: str, count: int, durability: str) -> Reading:
    """Puts at *durability*; ``memory`` is a replica without a file."""
    import mmrepl

    pairs = list(records(count))
    with scratch(directory, "batch.db") as path:
        if durability == "memory":
            replica = mmrepl.Replica("bench")
        else:
            replica = mmrepl.Replica("bench", path=path, durability=durability)
        replica["warm"] = 0
        settle()
        started = time.perf_counter()
        _fill(replica, pairs)
        answered = time.perf_counter()
        replica.close()
        closed = time.perf_counter()
    return {"puts": count / (answered - started), "puts_closed": count / (closed - started)}


# -- the benchmarks


def one_writer(session: Session) -> Iterator[Row]:
    """sync, one writer"""
    count = session.scaled(2_000)
    where = str(session.directory)
    measured = session.alternate(
        "sync, one writer",
        {
            "ours": session.side("durable:one_ours", directory=where, count=count),
            "write+fdatasync": session.side("durable:one_by_hand", directory=where, count=count),
            "bare SQLite": session.side("durable:one_sqlite", directory=where, count=count),
        },
    )
    yield row("put, sync, one writer", measured, "puts", "puts/s", "write+fdatasync", Target(0.8))
    yield row("put, sync, one writer", measured, "puts", "puts/s", "bare SQLite")
    yield row("(bare SQLite, a row a commit)", measured, "puts", "puts/s", "write+fdatasync", ours="bare SQLite")


def many_writers(session: Session) -> Iterator[Row]:
    """sync, 64 writers"""
    count = session.scaled(32_000, 6_400)
    where = str(session.directory)
    measured = session.alternate(
        "sync, 64 writers",
        {
            "ours": session.side("durable:many_ours", directory=where, count=count, writers=64),
            "by hand": session.side("durable:by_hand", directory=where, batches=lambda it: it["ours"]["batches"]),
            "SQLite by hand": session.side(
                "durable:by_sqlite", directory=where, batches=lambda it: it["ours"]["batches"]
            ),
            "threads": session.side("durable:many_ours_threads", directory=where, count=count // 4, writers=64),
            # what the machine gives to batches of 64, whatever ours were
            "by hand, 64": session.side("durable:by_hand", directory=where, batches=[64] * (count // 64)),
        },
    )
    batch = measured["ours"].median("batch")
    note = f"ours made batches of {batch:.0f} on average; by hand made the same" if batch else ""
    yield row("put, sync, 64 writers (tasks)", measured, "puts", "puts/s", "by hand", Target(0.6), note=note)
    yield row("put, sync, 64 writers (tasks)", measured, "puts", "puts/s", "SQLite by hand")
    yield row("put, sync, 64 writers (tasks)", measured, "puts", "puts/s", "by hand, 64")
    yield row("put, sync, 64 writers (threads)", measured, "puts", "puts/s", "by hand, 64", ours="threads")


def batch_level(session: Session) -> Iterator[Row]:
    """batch, one writer"""
    count = session.scaled(200_000, 20_000)
    where = str(session.directory)
    measured = session.alternate(
        "batch",
        {
            "ours": session.side("durable:batch_ours", directory=where, count=count, durability="batch"),
            "in memory": session.side("durable:batch_ours", directory=where, count=count, durability="memory"),
            "none": session.side("durable:batch_ours", directory=where, count=count, durability="none"),
        },
    )
    yield row("put, batch", measured, "puts", "puts/s", "in memory", Target(0.5))
    yield row("put, batch, until closed", measured, "puts_closed", "puts/s", "in memory")
    yield row("put, none", measured, "puts", "puts/s", "in memory", ours="none")


BENCHMARKS = {"sync-one": one_writer, "sync-many": many_writers, "batch": batch_level}
