"""
The state in pieces: for a follower that was away longer than the log, and for our own disk.

The first piece is the *head*: after which entry, which members, which client sessions. The others hold records. A
checkpoint on disk has the same pieces as a snapshot on the wire, so that what was received is stored as it came.

A capture copies references, not bytes. Taking one copies the dictionaries, which is all that has to be done in one
turn: some 15 ms for a million keys, and up to 70 where the memory is touched for the first time. It is cut into pieces
in slices, between which the node does other things, and a piece is encoded when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

import msgspec

from mmrepl.errors import FrameError
from mmrepl.single_master.configuration import Configuration
from mmrepl.single_master.state import Record, Session, SessionBounds, State
from mmrepl.types import Limits
from mmrepl.values import too_deep

CHUNK_BYTES: Final = 256 * 1024
"""About how large a piece is."""

SLICE_PIECES: Final = 2
"""So many pieces are cut in one turn."""

_RECORD_BYTES: Final = 24  # what a record has beside key and payload, about


class Head(msgspec.Struct, array_like=True, frozen=True):
    """What a snapshot is of."""

    index: int
    term: int
    members_index: int
    members: Configuration
    stamp: int
    bounds: SessionBounds
    sessions: list[tuple[int, Session]]  # the least recently used first


class Piece(msgspec.Struct, array_like=True, frozen=True):
    """Records of one table."""

    table: str
    keys: list[str]
    payloads: list[bytes | None]  # None: deleted since the piece before; only on disk
    indexes: list[int]
    stamps: list[int]


_encoder = msgspec.msgpack.Encoder()
_head_decoder = msgspec.msgpack.Decoder(Head)
_piece_decoder = msgspec.msgpack.Decoder(Piece)


def head_of(state: State, index: int, term: int, members_index: int, members: Configuration) -> Head:
    """The head of what *state* is now, after applying the entry (*index*, *term*)."""
    sessions = [(number, Session(*_fields(session))) for number, session in state.sessions.items()]
    return Head(index, term, members_index, members, state.stamp, state.bounds, sessions)


def _fields(session: Session) -> tuple[int, int, bool, int]:
    return session.request, session.index, session.applied, session.stamp


def encode_head(head: Head) -> bytes:
    """For the wire, and the disk."""
    return _encoder.encode(head)


def decode_head(body: bytes) -> Head:
    """Raises FrameError."""
    try:
        head = _head_decoder.decode(body)
        head.members.check()
    except (msgspec.MsgspecError, ValueError, AssertionError) as error:
        raise FrameError(f"the head of a snapshot that cannot be read: {error}") from error
    return head


def decode_piece(body: bytes, limits: Limits) -> Piece:
    """Raises FrameError."""
    try:
        piece = _piece_decoder.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FrameError(f"a piece of a snapshot that cannot be read: {error}") from error
    if not len(piece.keys) == len(piece.payloads) == len(piece.indexes) == len(piece.stamps):
        raise FrameError("a piece of a snapshot whose columns are not of one length")
    index = too_deep(piece.payloads, limits.depth)
    if index is not None:
        raise FrameError(f"the value of key {piece.keys[index][:80]!r} is nested deeper than {limits.depth}")
    return piece


def fill(state: State, piece: Piece) -> None:
    """Put the records of a piece into *state*."""
    state.fill(piece.table, piece.keys, zip(piece.payloads, piece.indexes, piece.stamps, strict=True))


def begin(head: Head) -> State:
    """A state without records."""
    state = State()
    state.stamp, state.bounds = head.stamp, head.bounds
    state.sessions = {number: Session(*_fields(session)) for number, session in head.sessions}
    return state


class Capture:
    """
    The state at one moment, to be cut and encoded piece by piece, while what it was taken of goes on. Mutable.

    Call `go_on` until it *is_whole*; before that nobody knows how many pieces there will be.
    """

    def __init__(self, head: Head, state: State, id: int) -> None:
        self.head = head
        self.id = id
        self.is_whole = False
        self.record_count = 0
        self._pieces: list[tuple[str, list[tuple[str, Record]]]] = []
        self._cutting = _copied(state)

    def go_on(self) -> bool:
        """Cut a slice more, which takes some 5 ms; whether that was all."""
        if not self.is_whole:
            more = list(islice(self._cutting, SLICE_PIECES))
            self._pieces += more
            self.record_count += sum(len(items) for _, items in more)
            if len(more) < SLICE_PIECES:
                self.is_whole, self._cutting = True, iter(())
        return self.is_whole

    @property
    def count(self) -> int:
        """How many pieces, the head included. Of a whole capture."""
        assert self.is_whole
        return 1 + len(self._pieces)

    def body(self, number: int) -> bytes:
        """One piece. Cost: that of encoding it."""
        return encode_head(self.head) if number == 0 else encode_piece(*self._pieces[number - 1])


class Rewriting:
    """A whole state on its way to the disk, in place of a checkpoint and its deltas. Mutable; `go_on` until true."""

    def __init__(self, head: Head, state: State, start: int) -> None:
        self.head = head
        self.start = start  # up to where the log may go, when it is there
        self.record_count = 0
        self.bodies: list[bytes] = []
        self._cutting = _copied(state)

    def go_on(self) -> bool:
        """Cut and encode a slice more; whether that was all."""
        more = list(islice(self._cutting, SLICE_PIECES))
        self.record_count += sum(len(items) for _, items in more)
        self.bodies += [encode_piece(*piece) for piece in more]
        return len(more) < SLICE_PIECES


def _copied(state: State) -> Iterator[tuple[str, list[tuple[str, Record]]]]:
    """The pieces of the state as it is now."""
    return cut([(table, _live(dict(held))) for table, held in state.tables.items()])


def _live(held: dict[str, Record]) -> Iterable[tuple[str, Record]]:
    return (item for item in held.items() if item[1][0] is not None)


def cut(tables: Iterable[tuple[str, Iterable[tuple[str, Record]]]]) -> Iterator[tuple[str, list[tuple[str, Record]]]]:
    """Tables in pieces of about `CHUNK_BYTES`, as they are asked for."""
    for table, items in tables:
        piece: list[tuple[str, Record]] = []
        size = 0
        for item in items:
            piece.append(item)
            size += len(item[0]) + len(item[1][0] or b"") + _RECORD_BYTES
            if size >= CHUNK_BYTES:
                yield table, piece
                piece, size = [], 0
        if piece:
            yield table, piece


def encode_piece(table: str, items: list[tuple[str, Record]]) -> bytes:
    """Records of one table."""
    keys = [key for key, _ in items]
    payloads = [record[0] for _, record in items]
    return _encoder.encode(Piece(table, keys, payloads, [r[1] for _, r in items], [r[2] for _, r in items]))
