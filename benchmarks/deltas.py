"""
Deltas: what one replica lacks of another, as bytes, exported and merged.

Every peer does the same three steps: what has the receiver (a version, a state vector), what does it lack (bytes), take
it in. The bytes of a delta are set beside its payload: the keys and the encoded values themselves, nothing else.
Automerge has no deltas in bytes but those of its sync protocol; its messages go back and forth until both are silent.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from benchmarks.harness import Row, Session, Target, row
from benchmarks.side import Reading, clock, settle, timed
from benchmarks.workload import decode, encode, key, payload_bytes, records


class Side(Protocol):
    """A store that can tell another of its kind what that one lacks."""

    def put(self, name: str, value: dict[str, Any]) -> object: ...

    def get(self, name: str) -> Any: ...

    def version(self) -> Any: ...

    def delta(self, since: Any) -> bytes: ...

    def merge(self, delta: bytes) -> object: ...


class Ours:
    compression: str | None = None

    def __init__(self, name: str) -> None:
        import mmrepl

        self.replica = mmrepl.Replica(name)
        self.put = self.replica.__setitem__
        self.get = self.replica.__getitem__
        self.merge = self.replica.merge

    def version(self) -> Any:
        return self.replica.version

    def delta(self, since: Any) -> bytes:
        return self.replica.delta(since=since, compression=self.compression)


class OursZstd(Ours):
    compression = "zstd"


class OursZlib(Ours):
    compression = "zlib"


class Pycrdt:
    def __init__(self, name: str) -> None:
        from pycrdt import Doc, Map

        self.doc: Any = Doc()
        self.map = self.doc.get("records", type=Map)
        self.put = self.map.__setitem__
        self.get = self.map.__getitem__
        self.version = self.doc.get_state
        self.delta = self.doc.get_update
        self.merge = self.doc.apply_update


class PycrdtEncoded(Pycrdt):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        setitem, getitem = self.map.__setitem__, self.map.__getitem__
        self.put = lambda name, value: setitem(name, encode(value))
        self.get = lambda name: decode(getitem(name))


class Loro:
    def __init__(self, name: str) -> None:
        from loro import ExportMode, LoroDoc

        self.doc: Any = LoroDoc()  # type: ignore[no-untyped-call]
        self.map = self.doc.get_map("records")
        self.mode = ExportMode.Updates
        self.merge = self.doc.import_

    def put(self, name: str, value: dict[str, Any]) -> None:
        self.map.insert(name, value)
        self.doc.commit()

    def get(self, name: str) -> Any:
        found: Any = self.map.get(name)
        return found.value

    def version(self) -> Any:
        return self.doc.oplog_vv

    def delta(self, since: Any) -> bytes:
        delta: bytes = self.doc.export(self.mode(since))
        return delta


SIDES: dict[str, Callable[[str], Side]] = {
    "ours": Ours,
    "ours, zstd": OursZstd,
    "ours, zlib": OursZlib,
    "pycrdt": Pycrdt,
    "pycrdt, encoded": PycrdtEncoded,
    "loro": Loro,
}


def fill(side: Side, count: int, first: int = 0, seed: int = 7) -> None:
    for name, value in records(count, first, seed):
        side.put(name, value)


def ship(sender: Side, receiver: Side) -> int:
    """Bring *receiver* up to date; the bytes that it took."""
    delta = sender.delta(receiver.version())
    receiver.merge(delta)
    return len(delta)


def _warm_up(store: str, count: int) -> None:
    """Once, unmeasured: the allocator has asked the system for its memory afterwards."""
    sender, receiver = SIDES[store]("paris"), SIDES[store]("tokyo")
    fill(sender, count)
    ship(sender, receiver)
    del sender, receiver
    gc.collect()


# -- sides


def whole(store: str, count: int) -> Reading:
    """Everything to a receiver that has nothing."""
    _warm_up(store, count)
    sender, receiver = SIDES[store]("paris"), SIDES[store]("tokyo")
    fill(sender, count)
    settle()
    started = clock()
    delta = sender.delta(receiver.version())
    exported = clock()
    receiver.merge(delta)
    merged = clock()
    assert receiver.get(key(count - 1)) == sender.get(key(count - 1))
    return {
        "ops": count / (merged - started),
        "export_s": exported - started,
        "merge_s": merged - exported,
        "bytes_per_payload_byte": len(delta) / payload_bytes(count),
        "bytes_per_op": len(delta) / count,
    }


def conflicting(store: str, count: int) -> Reading:
    """Both wrote the same keys, neither knows of the other's writes: one direction timed, then both agree."""
    _warm_up(store, count)
    sender, receiver = SIDES[store]("paris"), SIDES[store]("tokyo")
    fill(sender, count)
    fill(receiver, count, seed=8)
    settle()
    seconds = timed(lambda: ship(sender, receiver))
    ship(receiver, sender)
    assert all(receiver.get(key(each)) == sender.get(key(each)) for each in range(0, count, count // 100))
    return {"ops": count / seconds}


def few_missing(store: str, count: int, missing: int, times: int) -> Reading:
    """*missing* operations to a receiver that has the *count* before them; the median of *times*."""
    sender, receiver = SIDES[store]("paris"), SIDES[store]("tokyo")
    fill(sender, count)
    ship(sender, receiver)
    settle()
    taken = []
    for each in range(times):
        fill(sender, missing, first=count + each * missing)
        taken.append(timed(lambda: ship(sender, receiver)))
    assert receiver.get(key(count + times * missing - 1)) is not None
    return {"us": statistics.median(taken) * 1e6}


def one_at_a_time(store: str, count: int) -> Reading:
    """Put one, ship it, apply it, *count* times."""
    sender, receiver = SIDES[store]("paris"), SIDES[store]("tokyo")
    pairs = list(records(count))
    settle()

    def work() -> None:
        for name, value in pairs:
            sender.put(name, value)
            receiver.merge(sender.delta(receiver.version()))

    seconds = timed(work)
    assert receiver.get(key(count - 1)) == sender.get(key(count - 1))
    return {"ops": count / seconds}


def one_at_a_time_pycrdt_events(count: int) -> Reading:
    """The same by pycrdt's other way: the update that the event of each transaction carries, applied at once."""
    sender, receiver = Pycrdt("paris"), Pycrdt("tokyo")
    updates: list[bytes] = []
    subscription = sender.doc.observe(lambda event: updates.append(event.update))
    pairs = list(records(count))
    settle()

    def work() -> None:
        for name, value in pairs:
            sender.put(name, value)
            receiver.merge(updates.pop())

    seconds = timed(work)
    assert receiver.get(key(count - 1)) == sender.get(key(count - 1))
    del subscription
    return {"ops": count / seconds}


def whole_automerge(count: int) -> Reading:
    """Sync messages, to and fro, until both are silent. Values are encoded bytes, one transaction each."""
    from automerge.core import ROOT, Document, Message, ScalarType, SyncState

    sender: Any = Document()
    receiver: Any = Document()
    for name, value in records(count):
        with sender.transaction() as transaction:
            transaction.put(ROOT, name, ScalarType.Bytes, encode(value))
    settle()
    there, back = SyncState(), SyncState()
    sent = 0
    started = clock()
    while True:
        question = receiver.generate_sync_message(back)
        if question is not None:
            sender.receive_sync_message(there, Message.decode(question.encode()))
        response = sender.generate_sync_message(there)
        if response is not None:
            body = response.encode()
            sent += len(body)
            receiver.receive_sync_message(back, Message.decode(body))
        if question is None and response is None:
            break
    seconds = clock() - started
    assert receiver.get_heads() == sender.get_heads()
    return {"ops": count / seconds, "bytes_per_payload_byte": sent / payload_bytes(count), "bytes_per_op": sent / count}


# -- the benchmarks


def whole_deltas(session: Session) -> Iterator[Row]:
    """delta of everything"""
    count = session.scaled(100_000, 20_000)
    measured = session.alternate(
        "delta of everything",
        {
            **{store: session.side("deltas:whole", store=store, count=count) for store in SIDES},
            "automerge": session.side("deltas:whole_automerge", count=count // 5),
        },
        once=frozenset({"automerge"}),
    )
    parts = measured["ours"]
    note = f"{parts.median('export_s') or 0:.3f} s to export, {parts.median('merge_s') or 0:.3f} s to merge"
    name = f"delta of {count:,}, export and merge"
    yield row(name, measured, "ops", "ops/s", "pycrdt", Target(2), note=note if parts.readings else "")
    for peer in ("pycrdt, encoded", "loro", "automerge"):
        yield row(name, measured, "ops", "ops/s", peer)
    for small in ("ours, zstd", "ours, zlib"):
        yield row(f"{name} ({small[6:]})", measured, "ops", "ops/s", "pycrdt", ours=small)
    name, size = "bytes of it a payload byte", "bytes_per_payload_byte"
    yield row(f"{name}, plain", measured, size, "bytes", "pycrdt", Target(1.05, at_most=True, of="ours"))
    yield row(f"{name}, plain", measured, size, "bytes", "pycrdt, encoded")
    yield row(f"{name}, plain", measured, size, "bytes", "automerge")
    quarter = Target(0.25, at_most=True, of="ours")
    yield row(f"{name}, zstd", measured, size, "bytes", "loro", quarter, ours="ours, zstd")
    yield row(f"{name}, zlib", measured, size, "bytes", "loro", ours="ours, zlib")


def conflicting_deltas(session: Session) -> Iterator[Row]:
    """delta over concurrent writes of the same keys"""
    count = session.scaled(50_000, 10_000)
    measured = session.alternate(
        "conflicting delta",
        {
            store: session.side("deltas:conflicting", store=store, count=count)
            for store in ("ours", "pycrdt", "pycrdt, encoded", "loro")
        },
    )
    name = f"delta of {count:,} conflicting"
    yield row(name, measured, "ops", "ops/s", "pycrdt", Target(1))
    yield row(name, measured, "ops", "ops/s", "pycrdt, encoded")
    yield row(name, measured, "ops", "ops/s", "loro")


def small_deltas(session: Session) -> Iterator[Row]:
    """a few missing of many"""
    count, times = session.scaled(100_000, 20_000), session.scaled(50, 20)
    stores = ("ours", "pycrdt", "loro")
    measured = session.alternate(
        "few missing",
        {
            **{
                store: session.side("deltas:few_missing", store=store, count=count, missing=100, times=times)
                for store in stores
            },
            "ours, small store": session.side("deltas:few_missing", store="ours", count=100, missing=100, times=times),
        },
    )
    name = f"delta of 100 missing of {count:,}"
    yield row(name, measured, "us", "us", "ours, small store", Target(1.5, at_most=True))
    yield row(name, measured, "us", "us", "pycrdt")
    yield row(name, measured, "us", "us", "loro")


def single_operations(session: Session) -> Iterator[Row]:
    """one operation put, shipped and applied at a time"""
    count = session.scaled(20_000, 5_000)
    measured = session.alternate(
        "one at a time",
        {
            **{
                store: session.side("deltas:one_at_a_time", store=store, count=count)
                for store in ("ours", "pycrdt", "loro")
            },
            "pycrdt, events": session.side("deltas:one_at_a_time_pycrdt_events", count=count),
        },
    )
    name = "one put, shipped and applied at a time"
    yield row(name, measured, "ops", "ops/s", "pycrdt", Target(1))
    yield row(name, measured, "ops", "ops/s", "pycrdt, events", Target(1))
    yield row(name, measured, "ops", "ops/s", "loro")


BENCHMARKS = {
    "delta": whole_deltas,
    "conflicting": conflicting_deltas,
    "few-missing": small_deltas,
    "one-at-a-time": single_operations,
}
