"""
The store on disk: what a durable put costs beside doing by hand what it has to do.

- One writer at ``sync``: each put is on the disk before it returns. By hand: encode, append to a file, fdatasync.
- 64 writers at ``sync``, which share syncs. By hand: the same records, appended and synced in the same batches that
  ours had just made (they are seen where our storage commits).
- Bare SQLite: one row a commit, WAL, ``synchronous=FULL``, one connection: what our file is made of.
- One writer at ``batch``: the put returns at once, and is synced within a few milliseconds.

A disk that others use too is slow for seconds at a time, so here the sides take turns within one process, some ten
milliseconds each, over files of their own; every turn counts as a round. A new file grows, and growing costs the file
system a journal entry with every sync; after its first checkpoint SQLite writes over what its log already has. So the
first turns are kept apart, and have a row of their own.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.harness import Measured, Row, Session, Target, row
from benchmarks.side import Reading, Unavailable, settle
from benchmarks.workload import encode, records

Pairs = list[tuple[str, dict[str, Any]]]
Commit = Callable[[bytes], object]


def seconds(work: Callable[[], object]) -> float:
    """What *work* takes by the wall's clock, whatever other benchmarks are timed by."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


# -- by hand


@contextmanager
def plain_file(path: str) -> Iterator[Commit]:
    """Append and fdatasync."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def commit(body: bytes) -> None:
        os.write(file, body)
        os.fdatasync(file)

    yield commit
    os.close(file)


@contextmanager
def bare_sqlite(path: str) -> Iterator[Commit]:
    """One row a commit."""
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("CREATE TABLE batches (position INTEGER PRIMARY KEY, body BLOB)")
    yield lambda body: connection.execute("INSERT INTO batches (body) VALUES (?)", (body,))
    connection.close()


def by_hand(commit: Commit, pairs: Pairs, batches: Iterable[int]) -> None:
    """Encode and commit *pairs*, as many at a time as *batches* says."""
    rest = iter(pairs)
    for size in batches:
        commit(b"".join([name.encode() + encode(value) for name, value in islice(rest, size)]))


# -- one writer


def fill(store: Any, pairs: Pairs) -> None:
    for name, value in pairs:
        store[name] = value


@contextmanager
def replica_at(path: str | None, durability: str = "sync") -> Iterator[Any]:
    import mmrepl

    replica = mmrepl.Replica("bench", path=path, durability=durability) if path else mmrepl.Replica("bench")
    yield replica
    replica.close()


def one_writer_turns(directory: str, turns: int, warm: int, size: int) -> Reading:
    """Each side's puts a second in each of *turns* turns of *size* puts; the *warm* turns before are kept apart."""
    rates: dict[str, list[float]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=directory)))
        plain = stack.enter_context(plain_file(str(folder / "plain")))
        bare = stack.enter_context(bare_sqlite(str(folder / "bare.db")))
        sides: dict[str, Callable[[Pairs], None]] = {
            "write+fdatasync": lambda pairs: by_hand(plain, pairs, [1] * len(pairs)),
            "bare SQLite": lambda pairs: by_hand(bare, pairs, [1] * len(pairs)),
        }
        try:
            replica = stack.enter_context(replica_at(str(folder / "ours.db")))
            sides["ours"] = lambda pairs: fill(replica, pairs)
        except (ImportError, AttributeError):
            pass  # the others are still worth knowing
        settle()
        for turn in range(warm + turns):
            pairs = list(records(size, turn * size))
            for label, write in sides.items():
                taken = seconds(lambda: write(pairs))  # noqa: B023 — called at once
                rates.setdefault(label, []).append(size / taken)
    return {"rates": rates}


# -- many writers


def many_writers_turns(directory: str, turns: int, warm: int, writers: int, each: int) -> Reading:
    """
    As `one_writer_turns`, with *writers* tasks of one event loop, each making *each* puts, one after another, a turn.

    ``batch`` is the average of the batches that came of it.
    """
    import mmrepl

    rates: dict[str, list[float]] = {label: [] for label in ("ours", "by hand", "SQLite, by hand", "by hand, full")}
    size = writers * each
    made: list[int] = []

    async def writer(node: Any, mine: Pairs) -> None:
        for name, value in mine:
            await node.put(name, value, durability="sync")

    async def run(folder: Path, plain: Commit, bare: Commit) -> None:
        async with mmrepl.Node("bench", path=str(folder / "ours.db"), listen="127.0.0.1:0") as node:
            settle()
            for turn in range(warm + turns):
                pairs = list(records(size, turn * size))
                with seen_batches(size) as batches:
                    started = time.perf_counter()
                    await asyncio.gather(*(writer(node, pairs[number::writers]) for number in range(writers)))
                    taken = [time.perf_counter() - started]
                made.extend(batches)
                full = [writers] * each
                for commit, how in ((plain, batches), (bare, batches), (plain, full)):
                    taken.append(seconds(lambda: by_hand(commit, pairs, how)))  # noqa: B023 — called at once
                for label, spent in zip(rates, taken, strict=True):
                    rates[label].append(size / spent)

    with (
        tempfile.TemporaryDirectory(dir=directory) as folder,
        plain_file(f"{folder}/plain") as plain,
        bare_sqlite(f"{folder}/bare.db") as bare,
    ):
        asyncio.run(run(Path(folder), plain, bare))
    return {"rates": rates, "batch": sum(made) / len(made)}


def many_threads_turns(directory: str, turns: int, warm: int, writers: int, each: int) -> Reading:
    """The same with threads over one embedded replica."""
    rates: dict[str, list[float]] = {label: [] for label in ("ours", "by hand", "by hand, full")}
    size = writers * each
    made: list[int] = []

    def all_fill(replica: Any, pairs: Pairs) -> None:
        threads = [threading.Thread(target=fill, args=(replica, pairs[number::writers])) for number in range(writers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    with (
        tempfile.TemporaryDirectory(dir=directory) as folder,
        plain_file(f"{folder}/plain") as plain,
        replica_at(f"{folder}/ours.db") as replica,
    ):
        settle()
        for turn in range(warm + turns):
            pairs = list(records(size, turn * size))
            with seen_batches(size) as batches:
                taken = [seconds(lambda: all_fill(replica, pairs))]  # noqa: B023 — called at once
            made.extend(batches)
            taken.append(seconds(lambda: by_hand(plain, pairs, batches)))  # noqa: B023
            taken.append(seconds(lambda: by_hand(plain, pairs, [writers] * each)))  # noqa: B023
            for label, spent in zip(rates, taken, strict=True):
                rates[label].append(size / spent)
    return {"rates": rates, "batch": sum(made) / len(made)}


@contextmanager
def seen_batches(count: int) -> Iterator[list[int]]:
    """Filled, at the end, with the operations of each commit that our storage made meanwhile; *count* together."""
    from mmrepl.storage import sqlite

    found: list[Any] = [
        kind
        for _, kind in inspect.getmembers(sqlite, inspect.isclass)
        if kind.__module__ == sqlite.__name__ and {"commit", "load", "backup"} <= set(vars(kind))
    ]
    if not found:
        raise Unavailable("no storage class found in mmrepl.storage.sqlite")
    positions: list[int] = []
    commit = found[0].commit

    def seeing(self: Any, what: Any, *more: Any, **named: Any) -> Any:
        if what.batches:
            positions.append(min(what.batches))
        return commit(self, what, *more, **named)

    batches: list[int] = []
    with patch.object(found[0], "commit", seeing):
        yield batches
    ends = [*positions[1:], positions[0] + count]
    batches += [end - start for start, end in zip(positions, ends, strict=True) if end > start]


# -- other levels


def level(directory: str, count: int, durability: str) -> Reading:
    """Puts at *durability*; ``memory`` is a replica without a file."""
    pairs = list(records(count))
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        path = None if durability == "memory" else f"{folder}/level.db"
        with replica_at(path, durability) as replica:
            replica["warm"] = 0
            settle()
            started = time.perf_counter()
            fill(replica, pairs)
            answered = time.perf_counter()
        closed = time.perf_counter()
    return {"puts": count / (answered - started), "puts_closed": count / (closed - started)}


# -- the benchmarks


def by_turn(whole: Measured, warm: int) -> dict[str, Measured]:
    """The sides that took turns in one process, each turn a round."""
    sides: dict[str, Measured] = {"ours": Measured(unavailable=whole.unavailable or "mmrepl.Replica is not there")}
    for reading in whole.readings:
        for label, rates in reading["rates"].items():
            side = sides.setdefault(label, Measured())
            side.unavailable = ""
            side.readings += [{"puts_new": rate} for rate in rates[:warm]] + [{"puts": rate} for rate in rates[warm:]]
    return sides


def one_writer(session: Session) -> Iterator[Row]:
    """sync, one writer"""
    turns, warm = session.scaled(100, 20), session.scaled(50, 20)
    side = session.side("durable:one_writer_turns", directory=str(session.directory), turns=turns, warm=warm, size=50)
    sides = by_turn(session.alternate("sync, one writer", {"all": side})["all"], warm)
    name = "put, sync, one writer"
    plain, bare = "write+fdatasync", "bare SQLite"
    for label in (plain, bare):
        sides.setdefault(label, Measured())
    yield row(name, sides, "puts", "puts/s", plain, Target(0.8))
    yield row(name, sides, "puts", "puts/s", bare)
    yield row("(bare SQLite, a row a commit)", sides, "puts", "puts/s", plain, ours=bare)
    yield row(f"{name}, first of a file", sides, "puts_new", "puts/s", plain)
    yield row(f"{name}, first of a file", sides, "puts_new", "puts/s", bare)


def many_writers(session: Session) -> Iterator[Row]:
    """sync, 64 writers"""
    turns, warm = session.scaled(30, 10), session.scaled(20, 10)
    given: dict[str, Any] = {"directory": str(session.directory), "turns": turns, "warm": warm, "writers": 64}
    for how, function in (("tasks", "many_writers_turns"), ("threads", "many_threads_turns")):
        side = session.side(f"durable:{function}", each=20, **given)
        whole = session.alternate(f"sync, 64 {how}", {"all": side}, rounds=min(session.rounds, 3))["all"]
        sides = by_turn(whole, warm)
        for label in ("by hand", "SQLite, by hand", "by hand, full"):
            sides.setdefault(label, Measured())
        batch = whole.median("batch")
        note = f"ours made batches of {batch:.1f} on average; 'by hand' made the same, 'full' of 64" if batch else ""
        name = f"put, sync, 64 writers ({how})"
        yield row(name, sides, "puts", "puts/s", "by hand", Target(0.6), note=note)
        if how == "tasks":
            yield row(name, sides, "puts", "puts/s", "SQLite, by hand")
        yield row(name, sides, "puts", "puts/s", "by hand, full")


def batch_level(session: Session) -> Iterator[Row]:
    """batch, one writer"""
    count = session.scaled(200_000, 20_000)
    measured = session.alternate(
        "batch",
        {
            label: session.side("durable:level", directory=str(session.directory), count=count, durability=durability)
            for label, durability in (("ours", "batch"), ("in memory", "memory"), ("none", "none"))
        },
    )
    yield row("put, batch", measured, "puts", "puts/s", "in memory", Target(0.5))
    yield row("put, batch, until closed", measured, "puts_closed", "puts/s", "in memory")
    yield row("put, none", measured, "puts", "puts/s", "in memory", ours="none")


BENCHMARKS = {"sync-one": one_writer, "sync-many": many_writers, "batch": batch_level}
