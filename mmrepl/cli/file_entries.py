"""
What stands in the file of a single-master node: rows of log entries, pieces of a checkpoint, branches.

`mmrepl.cli.file_log` looks into the files of both modes; what is of this mode is here. A file is loaded as a node would
load it, so that "sound" means: it opens, no entry is missing, and what was applied can be applied again.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

import msgspec
from attrs import frozen

from mmrepl.errors import StoreCorrupt
from mmrepl.ports import Commit, Durability, Loaded
from mmrepl.single_master.branch import decode_branch
from mmrepl.single_master.core import open_single_master
from mmrepl.single_master.entry import WRITE, decode_entries, decode_run
from mmrepl.single_master.journal import BRANCHES, NODE
from mmrepl.single_master.options import Options
from mmrepl.single_master.snapshot import decode_piece
from mmrepl.storage.loaded import LoadedStore
from mmrepl.types import DEFAULT_LIMITS, NodeId
from mmrepl.values import first_invalid

Rows = Mapping[str, list[tuple[Any, bytes]]]


@frozen
class FoundEntries:
    """A store that opens: whose it is, and how far its log goes."""

    node: NodeId
    term: int
    first: int
    last: int
    branches: int


def is_of_single_master(meta: Mapping[str, bytes]) -> bool:
    """Whether a node of that mode has written this store."""
    return NODE in meta


def count_entries(table: str, key: int | str, body: bytes) -> int:
    """How many entries a row holds, each of which can be read. Raises MmreplError: it is no row of this mode."""
    if table == "batches":
        entries = decode_entries(decode_run(body).bodies, DEFAULT_LIMITS)
        bad = first_invalid(entry.payload if entry.kind == WRITE else None for entry in entries)
        if bad is not None:
            return _refuse(f"the value of key {entries[bad[0]].key!r} cannot be read: {bad[1]}")
        return len(entries)
    if isinstance(key, int) and key >= BRANCHES:
        return len(decode_entries(decode_branch(key, body).bodies, DEFAULT_LIMITS))
    decode_piece(body, DEFAULT_LIMITS)
    return 0


def _refuse(what: str) -> int:
    raise StoreCorrupt(what)


def open_entries(meta: Mapping[str, bytes], rows: Rows) -> FoundEntries:
    """Load a store as a node would, into memory. Raises MmreplError, AssertionError."""
    try:
        name, incarnation = msgspec.msgpack.decode(meta[NODE], type=tuple[str, int])
    except msgspec.MsgspecError as error:
        raise StoreCorrupt(f"the entry that says whose store this is cannot be read: {error}") from error
    loaded = LoadedStore(dict(meta), None, lambda: iter(rows["segments"]), lambda: iter(rows["batches"]))
    core = open_single_master(name, _Read(loaded), Random(0), Options(), limits=DEFAULT_LIMITS, now_ms=0)  # noqa: S311
    core.check()
    return FoundEntries(
        NodeId(name, incarnation), core.term, core.log.start + 1, core.log.last,
        len(core.branches()),
    )  # fmt: skip


class _Read:
    """A storage that was read already, and takes nothing."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded

    def load(self) -> Loaded:
        """What was read."""
        return self._loaded

    def commit(self, commit: Commit, durability: Durability) -> None:
        """Never: nobody asks a core for its effects here."""
        raise NotImplementedError

    def backup(self, target: str) -> None:
        """Never."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is open."""
