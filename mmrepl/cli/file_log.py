"""
What stands in the file of a store that is not in use: its operations, and whether they can be trusted.

The rows are read by `mmrepl.storage.verify`, which takes no part in what they mean; here they are decoded, held
against one another, and at the end loaded as a node would load them, into memory, so that "sound" means: it opens.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from mmrepl.causality.dot import Dot
from mmrepl.causality.version_vector import VersionVector
from mmrepl.cli import output
from mmrepl.cli.changes import Enough, Teller
from mmrepl.cli.exits import Exit
from mmrepl.cli.file_entries import FoundEntries, count_entries, is_of_single_master, open_entries
from mmrepl.clock import hlc
from mmrepl.clock.instants import utc_text
from mmrepl.errors import MmreplError, UsageError
from mmrepl.log.batch import Batch, decode_batch, expand
from mmrepl.log.columns import VOID
from mmrepl.storage.loaded import LoadedStore
from mmrepl.storage.verify import Report, verify
from mmrepl.store.journal import load, saved_node
from mmrepl.store.store import Store
from mmrepl.types import NodeId, Value
from mmrepl.values import decode, first_invalid


@frozen
class FileOperation:
    """One operation as a file holds it."""

    dot: Dot
    table: str
    key: str
    timestamp: int
    payload: bytes | None
    context: VersionVector | None  # None: nothing but its own origin's past
    place: str  # which row: "batch 17", "segment 3"
    settled: bool  # from below the cut of the log

    @property
    def deleted(self) -> bool:
        """Whether it is a tombstone."""
        return self.payload is None

    @property
    def value(self) -> Value:
        """The value; None for a tombstone."""
        return None if self.payload is None else decode(self.payload)

    def plain(self) -> dict[str, Any]:
        """As JSON shows it."""
        context = None if self.context is None else {str(origin): n for origin, n in self.context.items()}
        return {
            "dot": str(self.dot),
            "time": utc_text(hlc.ms_of(self.timestamp)),
            "timestamp": hlc.to_json(self.timestamp),
            "table": self.table,
            "key": self.key,
            "deleted": self.deleted,
            "value": self.value,
            "context": context,
            "row": self.place,
            "settled": self.settled,
        }


def operations(batch: Batch, place: str, *, settled: bool) -> Iterator[FileOperation]:
    """The operations of a batch, in log order; voids and husks are passed over."""
    origins = batch.node_ids()
    stamps = batch.absolute_stamps()
    tables = [batch.tables[ref] for ref in expand(batch.iter_tables())] if batch.keys else []
    contexts = {entry[0]: entry[1:] for entry in batch.contexts}
    index = 0
    for ref, first, size, void in batch.iter_runs():
        if void:
            continue
        for counter in range(first, first + size):
            at, index = index, index + 1
            if batch.payloads[at] == VOID:
                continue
            entry = contexts.get(at)
            yield FileOperation(
                dot=Dot(origins[ref], counter),
                table=tables[at],
                key=batch.keys[at],
                timestamp=stamps[at],
                payload=batch.payloads[at],
                context=None if entry is None else _vector(origins, entry),
                place=place,
                settled=settled,
            )


def _vector(origins: list[NodeId], flat: list[int]) -> VersionVector:
    pairs = iter(flat)
    return VersionVector([(origins[ref], counter) for ref, counter in zip(pairs, pairs, strict=True)])


@define
class Inspector:
    """
    Told each sound row of a store by `verify`; answers what is wrong with it.

    With *thorough*, loads the whole at the end, as a node would. *teller* gets the operations as they come.
    """

    thorough: bool = True
    teller: Teller | None = None
    since: VersionVector = field(factory=VersionVector)
    operation_count: int = 0
    key_count: int | None = None  # once loaded
    node: NodeId | None = None
    version: VersionVector = field(factory=VersionVector)  # once loaded
    entry_count: int = 0  # of a single-master node
    entries: FoundEntries | None = None  # once loaded, of a single-master node
    _rows: dict[str, list[tuple[Any, bytes]]] = field(factory=lambda: {"segments": [], "batches": [], "meta": []})
    _found_damage: bool = False

    def __call__(self, table: str, key: int | str, body: bytes) -> str | None:
        """What is wrong with a row, None when nothing is; an empty *table* stands for the end."""
        if not table:
            return None if self._found_damage or not self.thorough else self._load()
        what = None
        if table != "meta":
            what = self._row(table, key, body)
        self._found_damage |= what is not None
        if self.thorough:
            self._rows[table].append((key, body))
        return what

    def _row(self, table: str, key: int | str, body: bytes) -> str | None:
        """Of whichever mode it is; that the rows are of one mode shows in the end, when the whole is loaded."""
        try:
            return self._batch(f"{'batch' if table == 'batches' else 'segment'} {key}", table, body)
        except MmreplError as error:
            what = str(error)
        try:
            self.entry_count += count_entries(table, key, body)
        except MmreplError as error:
            return str(error) if self.entry_count else what
        return None

    def _batch(self, place: str, table: str, body: bytes) -> str | None:
        batch = decode_batch(body)
        bad = first_invalid(None if payload == VOID else payload for payload in batch.payloads)
        if bad is not None:
            return f"the value of key {batch.keys[bad[0]]!r} cannot be read: {bad[1]}"
        self.operation_count += len(batch)
        if self.teller is not None:
            for op in operations(batch, place, settled=table == "segments"):
                if not self.since.covers(op.dot):
                    self.teller.tell(op)
        return None

    def _load(self) -> str | None:
        meta = dict(self._rows["meta"])
        try:
            if is_of_single_master(meta):
                if self.operation_count:
                    return "operations of the multi-master mode stand in the store of a single-master node"
                self.entries = open_entries(meta, self._rows)
                self.node = self.entries.node
                return None
            if self.entry_count:
                return "entries of the single-master mode stand in the store of a multi-master node"
            self.node = saved_node(meta)
            if self.node is None:
                return "nothing in it says whose store it is" if self.operation_count else None
            store = Store(self.node)
            segments, batches = self._rows["segments"], self._rows["batches"]
            load(store, LoadedStore(meta, None, lambda: iter(segments), lambda: iter(batches)))
            store.check()
        except MmreplError as error:
            return str(error)
        except AssertionError as error:
            return f"what it holds does not fit together: {error}"
        self.version = store.version
        self.key_count = sum(len(table) for table in store.keyspace.tables.values())
        return None


def examine(path: Path, *, thorough: bool) -> tuple[Report, Inspector]:
    """Everything that is wrong with a store's file, and what was found in it. Raises as `verify`."""
    inspector = Inspector(thorough)
    return verify(path, inspector), inspector


def tell_file(path: Path, since: VersionVector, teller: Teller) -> Exit:
    """Tell the operations in a file, and on standard error what is damaged."""
    inspector = Inspector(thorough=False, teller=teller, since=since)
    try:
        report = verify(path, inspector)
    except Enough:
        return Exit.OK
    if inspector.entry_count:
        raise UsageError(
            f"{path} is the store of a single-master node: it holds {inspector.entry_count} log entries and no "
            "operations; `mmrepl verify` looks into it"
        )
    teller.finish()
    for damage in report.damage:
        output.hint(f"damaged: {damage}")
    return Exit.OK if report.sound else Exit.STORAGE
