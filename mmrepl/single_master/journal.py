"""
What goes to the storage, and what comes back.

Three things are persisted: *hard state* (term, vote, whether we are the primary of that term), the entries of the log,
a row a commit, and now and then a *checkpoint*, the state after some applied entry, upon which the front of the log
may go. Every commit has a position; the host reports the position that is durable, and with that this journal knows
up to which entry the disk holds *our present log*: what was cut off and written anew meanwhile does not count.

A checkpoint is a base, all records in pieces, and deltas of what was written since, a checkpoint each; when the deltas
have become as large as the base, a new base is written. So each record is written about twice. A base is made in
slices, a few milliseconds a turn, and goes to the disk in one commit when it is whole: until then the checkpoint before
it holds, with the log behind it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Mapping
from typing import Final

import msgspec

from mmrepl.effects import Persist
from mmrepl.errors import StoreCorrupt, StoreForeign
from mmrepl.ports import CommitBuilder, Durability
from mmrepl.single_master.entry import WRITE, decode_entries, encode_run
from mmrepl.single_master.entry_log import EntryLog
from mmrepl.single_master.snapshot import Head, Rewriting, cut, encode_piece
from mmrepl.single_master.state import State
from mmrepl.types import Limits, NodeId

NODE: Final = "single/node"
HARD: Final = "single/hard"
HEAD: Final = "single/head"
"""The meta keys of who we are, of the hard state, and of the checkpoint."""

OTHER_MODE: Final = "state"
"""The meta key that a multi-master store has."""

BRANCHES: Final = 1 << 40
"""Segments from this number on are branches; those before are pieces of the checkpoint."""

END: Final = 1 << 62

ROW_ENTRIES: Final = 65_536


class Hard(msgspec.Struct, array_like=True, frozen=True):
    """What must never be forgotten."""

    term: int = 0
    vote: str = ""  # node id of whom we voted for in that term
    leading: bool = False  # manual: we are the primary of that term


class Saved(msgspec.Struct, array_like=True, frozen=True):
    """The checkpoint, beside its pieces."""

    head: Head
    start: int  # the log is held after this entry
    start_term: int


_encoder = msgspec.msgpack.Encoder()
_hard_decoder = msgspec.msgpack.Decoder(Hard)
_saved_decoder = msgspec.msgpack.Decoder(Saved)
_node_decoder = msgspec.msgpack.Decoder(tuple[str, int])


class Journal:
    """
    Turns what is new into commits. Mutable; one a node. Without a storage (*volatile*) all is durable at once.
    """

    def __init__(self, log: EntryLog, durability: Durability, *, volatile: bool) -> None:
        self.log = log
        self._durability = durability
        self.volatile = volatile
        self.position = 0  # of the last commit handed out
        self._durable_position = 0
        self._durable = log.last  # see `durable`
        self._written = log.last  # entries up to here were handed out; less, where a row has to be written again
        self._handed: deque[list[int]] = deque()  # (position, last entry of our present log in it) of commits under way
        self._rows: list[int] = []  # first entries of the rows on disk, or on their way
        self._new = CommitBuilder()
        self._pieces: list[int] = []  # numbers of the segments of the checkpoint
        self._base_size = self._delta_size = 0  # records in them
        self._next_piece = 0
        self.checkpoint = 0  # the state after this entry is on disk, or on its way
        self._rewriting: Rewriting | None = None  # a new base that is being made

    # -- what is durable

    @property
    def durable(self) -> int:
        """The highest entry up to which the disk holds our log as it is now."""
        return self.log.last if self.volatile else self._durable

    @property
    def pending(self) -> int:
        """The position at which everything that is known now will be durable."""
        if self.volatile:
            return 0
        return self.position + 1 if self.is_dirty() else self.position

    def is_durable(self, position: int) -> bool:
        """Whether the commit at *position* is on disk."""
        return position <= self._durable_position

    def is_dirty(self) -> bool:
        """Whether `take` would return something."""
        return self._written < self.log.last or bool(self._new)

    # -- what is new

    def note(self, key: str, value: bytes | None) -> None:
        """Put a meta entry into the next commit."""
        self._new.meta[key] = value

    def note_segment(self, number: int, body: bytes | None) -> None:
        """Put a segment into the next commit; None deletes it."""
        self._new.segments[number] = body

    def note_node(self, node: NodeId) -> None:
        """Who we are."""
        self.note(NODE, _encoder.encode((node.name, node.incarnation)))

    def note_hard(self, hard: Hard) -> None:
        """Term, vote and office."""
        self.note(HARD, _encoder.encode(hard))

    def truncated(self, index: int) -> None:
        """The log was cut off after *index*; called before anything is appended again."""
        self._durable = min(self._durable, index)
        for handed in self._handed:
            handed[1] = min(handed[1], index)
        if self._written <= index:
            return
        at = bisect_right(self._rows, index) - 1
        first = self._rows[at] if at >= 0 else self.log.start + 1
        if self._new.drop is not None:
            first = self.log.start + 1
            self._new.drop = (0, END)
            self._rows.clear()
        else:
            self._new.drop = (first, END)
            del self._rows[max(at, 0) :]
        self._written = max(first, self.log.start + 1) - 1

    def take(self) -> Persist | None:
        """Everything new as one commit, or None. Cost: proportional to what is new."""
        if self.volatile:
            self._new, self._written = CommitBuilder(), self.log.last
            return None
        if not self.is_dirty():
            return None
        log, new = self.log, self._new
        while self._written < log.last:
            first = self._written + 1
            row = log.slice(first, log.last, count_max=ROW_ENTRIES)
            new.batches[first] = encode_run(row.runs, row.bodies)
            self._rows.append(first)
            self._written += len(row.bodies)
        self._new = CommitBuilder()
        self.position += 1
        self._handed.append([self.position, self._written])
        return Persist(new.build(), self._durability, self.position)

    def persisted(self, position: int) -> None:
        """The commits up to *position* are durable."""
        while self._handed and self._handed[0][0] <= position:
            self._durable_position, self._durable = self._handed.popleft()

    # -- checkpoints

    @property
    def is_rewriting(self) -> bool:
        """Whether a base is being made: `go_on`."""
        return self._rewriting is not None

    def save(self, state: State, head: Head, start: int, limits: Limits) -> None:
        """
        Put the state after *head.index* into the next commit, and cut the log up to *start*: at once, or with `go_on`.

        Entries since the last checkpoint have to be in the log still. Cost: proportional to what was written since or,
        about every doubling, to the number of keys, as `Capture`.
        """
        assert self._rewriting is None
        if self.volatile:
            self._saved(head, start)
            return
        touched = self._touched(head.index, limits)
        count = sum(map(len, touched.values()))
        if not self._pieces or self._delta_size + count >= self._base_size:
            self._rewriting = Rewriting(head, state, start)
            self.go_on()
            return
        self._delta_size += count
        pieces = [
            (table, [(key, state.record(table, key) or (None, 0, 0)) for key in keys])
            for table, keys in touched.items()
        ]
        for piece in cut(pieces):
            self._add_piece(encode_piece(*piece))
        self._saved(head, start)

    def go_on(self) -> None:
        """Make a slice more of the base. When it is whole it goes into the next commit, and the log is cut."""
        rewriting = self._rewriting
        if rewriting is None or not rewriting.go_on():
            return
        self._rewriting = None
        self._forget_pieces()
        for body in rewriting.bodies:
            self._add_piece(body)
        self._base_size, self._delta_size = rewriting.record_count, 0
        self._saved(rewriting.head, rewriting.start)

    def _saved(self, head: Head, start: int) -> None:
        """The checkpoint after *head.index* is in the next commit, but for its head: cut the log."""
        log = self.log
        self.checkpoint = head.index
        if not self.volatile:
            start = min(start, self._written)  # what was committed without us may not have been handed out yet
        if self._new.drop is None and start > log.start:
            at = bisect_right(self._rows, start + 1) - 1
            if at > 0:
                self._new.drop = (0, self._rows[at])
                del self._rows[:at]
            log.compact(start)
        self.note(HEAD, _encoder.encode(Saved(head, log.start, log.start_term)))

    def _touched(self, until: int, limits: Limits) -> dict[str, dict[str, None]]:
        """Tables and keys of the writes since the last checkpoint."""
        touched: dict[str, dict[str, None]] = {}
        if until > self.checkpoint:
            bodies = self.log.slice(self.checkpoint + 1, until).bodies
            for entry in decode_entries(bodies, limits):
                if entry.kind == WRITE:
                    touched.setdefault(entry.table, {})[entry.key] = None
        return touched

    def install(self, capture_head: Head, pieces: list[bytes], record_count: int) -> None:
        """Put a snapshot that was received into the next commit, in place of the state and of the whole log."""
        self._rewriting = None
        self._forget_pieces()
        self._base_size, self._delta_size = record_count, 0
        for body in pieces:
            self._add_piece(body)
        self._new.drop, self._new.batches = (0, END), {}
        self._rows.clear()
        self._written = self.log.last
        self._durable = 0
        for handed in self._handed:
            handed[1] = 0  # nothing of what is under way is in our present log
        self.checkpoint = capture_head.index
        self.note(HEAD, _encoder.encode(Saved(capture_head, self.log.start, self.log.start_term)))

    def _forget_pieces(self) -> None:
        for number in self._pieces:
            self.note_segment(number, None)
        self._pieces = []

    def _add_piece(self, body: bytes) -> None:
        self.note_segment(self._next_piece, body)
        self._pieces.append(self._next_piece)
        self._next_piece += 1

    # -- opening

    def opened(self, rows: list[int], pieces: Mapping[int, int], checkpoint: int) -> None:
        """What the disk holds: first entries of the rows, records in each piece, entry of the checkpoint."""
        self._rows = rows
        self._pieces = sorted(pieces)
        self._next_piece = max(pieces, default=-1) + 1
        self._base_size = sum(pieces.values())
        self.checkpoint = checkpoint
        self._durable = self._written = self.log.last

    def check(self) -> None:
        """Assert the invariants."""
        assert max(self._durable, self._written) <= self.log.last, (self._durable, self._written, self.log.last)
        assert self.checkpoint >= self.log.start or self.volatile
        assert self._rows == sorted(self._rows)
        assert self._durable_position <= self.position


def saved_node(meta: Mapping[str, bytes], name: str) -> NodeId | None:
    """Who a stored state belongs to; None when it is new. Raises StoreForeign, StoreCorrupt."""
    if NODE not in meta:
        if OTHER_MODE in meta:
            raise StoreForeign("this is the store of a multi-master node: a single-master node needs one of its own")
        return None
    try:
        node = NodeId(*_node_decoder.decode(meta[NODE]))
    except (msgspec.MsgspecError, ValueError) as error:
        raise StoreCorrupt(f"the entry that says whose store this is cannot be read: {error}") from error
    if node.name != name:
        raise StoreForeign(f"this store belongs to node {node.name!r}, not to {name!r}: give the right name or file")
    return node


def saved_hard(meta: Mapping[str, bytes]) -> Hard:
    """Term and vote. Raises StoreCorrupt."""
    try:
        return _hard_decoder.decode(meta[HARD]) if HARD in meta else Hard()
    except (msgspec.MsgspecError, ValueError) as error:
        raise StoreCorrupt(f"term and vote of the store cannot be read: {error}") from error


def saved_checkpoint(meta: Mapping[str, bytes]) -> Saved | None:
    """The checkpoint, if there is one. Raises StoreCorrupt."""
    try:
        saved = _saved_decoder.decode(meta[HEAD]) if HEAD in meta else None
    except (msgspec.MsgspecError, ValueError) as error:
        raise StoreCorrupt(f"the head of the checkpoint cannot be read: {error}") from error
    return saved
