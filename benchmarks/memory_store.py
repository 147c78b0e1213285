"""
The store in memory: put, get, and bytes a live key.

Our peers are documents that merge: pycrdt (Yjs), loro and Automerge, each a map at the root of a document. "pycrdt"
is ``map[key] = value`` with the value as the Python dict that our own put is given, one transaction a put; "pycrdt,
encoded" is given the bytes of the value, encoded in the same loop and decoded in the get, which is the faster way to
use it for who does without seeing inside values. loro commits after each insert; Automerge takes encoded bytes too,
its map values being documents of their own.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.harness import Row, Session, Target, row
from benchmarks.side import Reading, resident_bytes, settle, timed
from benchmarks.workload import decode, encode, key, records

Put = Callable[[str, dict[str, Any]], object]
Get = Callable[[str], object]


def open_ours() -> tuple[Put, Get, object]:
    import mmrepl

    replica = mmrepl.Replica("bench")
    return replica.__setitem__, replica.__getitem__, replica


def open_pycrdt() -> tuple[Put, Get, object]:
    from pycrdt import Doc, Map

    doc: Any = Doc()
    records_map = doc.get("records", type=Map)
    return records_map.__setitem__, records_map.__getitem__, doc


def open_pycrdt_encoded() -> tuple[Put, Get, object]:
    from pycrdt import Doc, Map

    doc: Any = Doc()
    records_map = doc.get("records", type=Map)

    def put(name: str, value: dict[str, Any]) -> None:
        records_map[name] = encode(value)

    return put, lambda name: decode(records_map[name]), doc


def open_loro() -> tuple[Put, Get, object]:
    from loro import LoroDoc

    doc: Any = LoroDoc()  # type: ignore[no-untyped-call]
    records_map = doc.get_map("records")

    def put(name: str, value: dict[str, Any]) -> None:
        records_map.insert(name, value)
        doc.commit()

    return put, lambda name: records_map.get(name).value, doc


def open_automerge() -> tuple[Put, Get, object]:
    from automerge.core import ROOT, Document, ScalarType

    doc = Document()

    def put(name: str, value: dict[str, Any]) -> None:
        with doc.transaction() as transaction:
            transaction.put(ROOT, name, ScalarType.Bytes, encode(value))

    def get(name: str) -> object:
        found: Any = doc.get(ROOT, name)
        return decode(bytes(found[0][1]))

    return put, get, doc


def open_dict() -> tuple[Put, Get, object]:
    """No peer: what encoding and a dict alone take, the floor of any store in Python."""
    kept: dict[str, bytes] = {}

    def put(name: str, value: dict[str, Any]) -> None:
        kept[name] = encode(value)

    return put, lambda name: decode(kept[name]), kept


OPENERS = {
    "ours": open_ours,
    "pycrdt": open_pycrdt,
    "pycrdt, encoded": open_pycrdt_encoded,
    "loro": open_loro,
    "automerge": open_automerge,
    "dict of bytes": open_dict,
}

# -- sides


def speed(store: str, count: int) -> Reading:
    """
    Puts of new keys, gets in random order, puts over what is there: each a second.

    A first store, filled and thrown away, has the allocator ask the system for memory: how fast a machine hands out
    pages is not what is compared. What that first filling took is kept as ``puts_cold``.
    """
    first = list(records(count))
    second = list(records(count, seed=8))
    wanted = [name for name, _ in first]
    random.Random(1).shuffle(wanted)
    settle()

    def fill(pairs: list[tuple[str, dict[str, Any]]]) -> None:
        for name, value in pairs:
            put(name, value)

    def read() -> None:
        for name in wanted:
            get(name)

    put, _, keep = OPENERS[store]()
    cold = timed(lambda: fill(first))
    del put, _, keep
    gc.collect()
    put, get, keep = OPENERS[store]()
    filling, reading = timed(lambda: fill(first)), timed(read)
    seen: Any = get(key(count // 2))
    assert seen["id"] == count // 2, seen
    again = timed(lambda: fill(second))
    del keep
    return {"puts": count / filling, "gets": count / reading, "overwrites": count / again, "puts_cold": count / cold}


def memory(store: str, count: int) -> Reading:
    """Resident bytes that a live key takes, value included, in a process that does nothing else."""
    warm_put, warm_get, _warm = OPENERS[store]()
    warm_put("warm", {"id": 0})
    warm_get("warm")
    put, _get, keep = OPENERS[store]()
    gc.collect()
    before = resident_bytes()
    for name, value in records(count):
        put(name, value)
    gc.collect()
    taken = resident_bytes() - before
    del keep
    return {"bytes": taken / count}


# -- the benchmarks


def puts_and_gets(session: Session) -> Iterator[Row]:
    """put, get, overwrite"""
    count = session.scaled(100_000, 20_000)
    measured = session.alternate(
        "puts and gets",
        {store: session.side("memory_store:speed", store=store, count=count) for store in OPENERS},
        once=frozenset({"automerge", "loro"}),
    )
    yield row("put in memory, new key", measured, "puts", "puts/s", "pycrdt", Target(2))
    for peer in ("pycrdt, encoded", "loro", "automerge", "dict of bytes"):
        yield row("put in memory, new key", measured, "puts", "puts/s", peer)
    yield row("put in memory, over a value", measured, "overwrites", "puts/s", "pycrdt")
    yield row("get", measured, "gets", "gets/s", "pycrdt", Target(2))
    for peer in ("pycrdt, encoded", "loro", "automerge", "dict of bytes"):
        yield row("get", measured, "gets", "gets/s", peer)


def bytes_per_key(session: Session) -> Iterator[Row]:
    """memory of a live key"""
    count = session.scaled(100_000, 50_000)
    measured = session.alternate(
        "memory",
        {store: session.side("memory_store:memory", store=store, count=count) for store in OPENERS},
        rounds=min(session.rounds, 3),
        once=frozenset({"automerge", "loro"}),
    )
    yield row("memory of a live key", measured, "bytes", "bytes", "pycrdt", Target(450, at_most=True, of="ours"))
    for peer in ("loro", "automerge", "dict of bytes"):
        yield row("memory of a live key", measured, "bytes", "bytes", peer)


BENCHMARKS = {"put": puts_and_gets, "memory": bytes_per_key}
