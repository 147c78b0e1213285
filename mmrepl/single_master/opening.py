"""
Opening a store: from a storage to what a core begins with, and whether the memory can be trusted.

A store whose memory is in doubt (copied, restored, its unsynced tail lost) may have forgotten votes and entries that
its node has confirmed. It becomes a new incarnation, which nobody counts on until it is added again; what it holds
stays, so that what nobody else has can still be found there as a branch.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import define, field

from mmrepl.errors import FrameError, StoreCorrupt
from mmrepl.ports import Loaded, Rng, Storage
from mmrepl.single_master import snapshot
from mmrepl.single_master.configuration import History, decode_configuration
from mmrepl.single_master.entry import MEMBERS, Entry, decode_entries, decode_run
from mmrepl.single_master.entry_log import EntryLog
from mmrepl.single_master.journal import BRANCHES, Hard, Journal, saved_checkpoint, saved_hard, saved_node
from mmrepl.single_master.options import Options
from mmrepl.single_master.state import State
from mmrepl.types import Limits, NodeId


@define
class Opened:
    """What a core begins with."""

    node: NodeId
    log: EntryLog
    journal: Journal
    state: State = field(factory=State)
    history: History = field(factory=History)
    hard: Hard = field(factory=Hard)
    applied: int = 0
    pending: list[Entry] = field(factory=list)
    branches: list[tuple[int, bytes]] = field(factory=list)
    doubt: str | None = None


def open_store(name: str, storage: Storage | None, rng: Rng, options: Options, limits: Limits) -> Opened:
    """
    What node *name* begins with over *storage*; in memory without one.

    Raises:
        StoreForeign: the storage belongs to another node, or to the other mode.
        StoreCorrupt, StoreLocked and others: as the storage says.
    """
    fresh = NodeId(name, rng.getrandbits(63))
    log = EntryLog()
    if storage is None:
        return Opened(fresh, log, Journal(log, options.durability, volatile=True))
    loaded = storage.load()
    node = saved_node(loaded.meta, name)
    if node is None:
        journal = Journal(log, options.durability, volatile=False)
        journal.note_node(fresh)
        return Opened(fresh, log, journal)
    try:
        opened = _load(node, loaded, options, limits)
    except FrameError as error:
        raise StoreCorrupt(f"the store of {node} cannot be read: {error}") from error
    if loaded.doubt is not None:
        opened.node, opened.doubt = fresh, loaded.doubt
        opened.journal.note_node(fresh)
    return opened


def _load(node: NodeId, loaded: Loaded, options: Options, limits: Limits) -> Opened:
    saved = saved_checkpoint(loaded.meta)
    log = EntryLog() if saved is None else EntryLog(saved.start, saved.start_term)
    history = History() if saved is None else History(saved.head.members_index, saved.head.members)
    state = State() if saved is None else snapshot.begin(saved.head)
    applied = 0 if saved is None else saved.head.index
    pieces: dict[int, int] = {}
    branches: list[tuple[int, bytes]] = []
    for number, body in loaded.segments():
        if number >= BRANCHES:
            branches.append((number, body))
        else:
            piece = snapshot.decode_piece(body, limits)
            snapshot.fill(state, piece)
            pieces[number] = len(piece.keys)
    rows, pending = _load_rows(loaded.batches(), log, applied, limits)
    if log.last < applied:
        # The checkpoint is ahead of the log: it holds all that the entries before it had said.
        assert saved is not None
        log.restart(applied, saved.head.term)
        rows, pending = [], []
    for index, entry in enumerate(pending, applied + 1):
        if entry.kind == MEMBERS:
            history.append(index, decode_configuration(entry.payload))
    journal = Journal(log, options.durability, volatile=False)
    journal.opened(rows, pieces, applied)
    return Opened(node, log, journal, state, history, saved_hard(loaded.meta), applied, pending, branches)


def _load_rows(
    batches: Iterator[tuple[int, bytes]], log: EntryLog, applied: int, limits: Limits
) -> tuple[list[int], list[Entry]]:
    """Fill the log; returns the first entry of each row, and the entries that are not applied yet, decoded."""
    rows: list[int] = []
    pending: list[Entry] = []
    for first, body in batches:
        run = decode_run(body)
        end = first + len(run.bodies) - 1
        if end <= log.start:
            continue
        if first > log.last + 1:
            raise StoreCorrupt(f"entries {log.last + 1} to {first - 1} of the log are missing")
        rows.append(first)
        at = first
        for term, count in run.runs:
            skip = max(0, log.last + 1 - at)
            taken = run.bodies[at - first + skip : at - first + count]
            log.append(term, taken)
            at += count
        left = max(first, applied + 1)
        if left <= end:
            pending += decode_entries(run.bodies[left - first :], limits)
    return rows, pending
