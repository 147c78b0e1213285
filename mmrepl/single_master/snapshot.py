"""
The state in pieces: for a follower that was away longer than the log, and for our own disk.

The first piece is the *head*: after which entry, which members, which client sessions. The others hold records. A
checkpoint on disk has the same pieces as a snapshot on the wire, so that what was received is stored as it came.

A capture copies references, not bytes, and encodes a piece when it is asked for. Cost of taking one: proportional to
the number of keys, some 50 ms for a million.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from mmrepl.errors import FrameError
from mmrepl.single_master.configuration import Configuration
from mmrepl.single_master.state import Record, Session, SessionBounds, State
from mmrepl.types import Limits
from mmrepl.values import too_deep

CHUNK_BYTES: Final = 256 * 1024
"""About how large a piece is."""

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
    """The state at one moment, to be encoded piece by piece. Immutable, though what it was taken of goes on."""

    def __init__(self, head: Head, state: State, id: int) -> None:
        self.head = head
        self.id = id
        self._pieces = cut(
            (table, [(key, record) for key, record in held.items() if record[0] is not None])
            for table, held in state.tables.items()
        )

    @property
    def record_count(self) -> int:
        """How many records."""
        return sum(len(items) for _, items in self._pieces)

    @property
    def count(self) -> int:
        """How many pieces, the head included."""
        return 1 + len(self._pieces)

    def body(self, number: int) -> bytes:
        """One piece. Cost: that of encoding it."""
        return encode_head(self.head) if number == 0 else encode_piece(*self._pieces[number - 1])


def cut(tables: Iterable[tuple[str, list[tuple[str, Record]]]]) -> list[tuple[str, list[tuple[str, Record]]]]:
    """Tables in pieces of about `CHUNK_BYTES`."""
    pieces = []
    for table, items in tables:
        first = size = 0
        for position, (key, (payload, _, _)) in enumerate(items):
            size += len(key) + len(payload or b"") + _RECORD_BYTES
            if size >= CHUNK_BYTES:
                pieces.append((table, items[first : position + 1]))
                first, size = position + 1, 0
        if first < len(items):
            pieces.append((table, items[first:]))
    return pieces


def encode_piece(table: str, items: list[tuple[str, Record]]) -> bytes:
    """Records of one table."""
    keys = [key for key, _ in items]
    payloads = [record[0] for _, record in items]
    return _encoder.encode(Piece(table, keys, payloads, [r[1] for _, r in items], [r[2] for _, r in items]))
