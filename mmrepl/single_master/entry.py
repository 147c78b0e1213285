"""
Entries: what the log is made of.

An entry is encoded once, by the node that appends it first, and travels, rests and is compared as those bytes, its
*body*. Index and term are not part of it: they follow from where it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from mmrepl.errors import FrameError
from mmrepl.types import Limits
from mmrepl.values import too_deep

WRITE: Final = 0  # a key is written or deleted
NOOP: Final = 1  # a leader's first entry: what it commits, it commits of its own term
MEMBERS: Final = 2  # the payload is a Configuration
SESSION: Final = 3  # a client session opens; its number is the index. The payload says how many are kept, how long


class Entry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One entry."""

    kind: int
    stamp: int  # wall clock of who appended it, milliseconds, not before that of the entry before: it ages sessions
    table: str = ""
    key: str = ""
    payload: bytes | None = None  # None deletes
    session: int = 0
    request: int = 0
    expect: int = -1  # applied only where the key was last written at this index; 0: where it is absent


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)

encode_entry = _encoder.encode


def decode_entries(bodies: Sequence[bytes], limits: Limits) -> list[Entry]:
    """
    What a peer, or the disk, gave as bodies of entries, checked. Cost: half a microsecond each.

    Raises:
        FrameError: one of them is no entry, or beyond the limits. Nothing of them is to be used.
    """
    decode = _decoder.decode
    try:
        entries = [decode(body) for body in bodies]
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FrameError(f"an entry that cannot be read: {error}") from error
    key_characters, value_bytes = limits.key_bytes // 4, limits.value_bytes
    for entry in entries:
        if not 0 <= entry.kind <= SESSION or not 0 <= entry.stamp < 1 << 62:
            raise FrameError(f"an entry of kind {entry.kind}, stamped {entry.stamp}")
        if entry.session < 0 or entry.request < 0:
            raise FrameError(f"request {entry.request} of session {entry.session}")
        if len(entry.key) > key_characters and len(entry.key.encode()) > limits.key_bytes:
            raise FrameError(f"a key is longer than {limits.key_bytes} bytes (limits.key_bytes)")
        if len(entry.table) > key_characters and len(entry.table.encode()) > limits.key_bytes:
            raise FrameError(f"a table's name is longer than {limits.key_bytes} bytes (limits.key_bytes)")
        if entry.payload is not None and len(entry.payload) > value_bytes:
            raise FrameError(f"a value of {len(entry.payload)} bytes: at most {value_bytes} (limits.value_bytes)")
    deep = too_deep([entry.payload if entry.kind == WRITE else None for entry in entries], limits.depth)
    if deep is not None:
        raise FrameError(f"the value of key {entries[deep].key[:80]!r} is nested deeper than {limits.depth}")
    return entries


class Run(msgspec.Struct, array_like=True, frozen=True):
    """A row of entries as it rests on disk."""

    runs: list[tuple[int, int]]
    bodies: list[bytes]


_run_decoder = msgspec.msgpack.Decoder(Run)


def encode_run(runs: list[tuple[int, int]], bodies: list[bytes]) -> bytes:
    """A row of entries for the disk."""
    return _encoder.encode(Run(runs, bodies))


def decode_run(row: bytes) -> Run:
    """The inverse. Raises FrameError."""
    try:
        run = _run_decoder.decode(row)
    except (msgspec.MsgspecError, ValueError) as error:
        raise FrameError(f"a row of entries that cannot be read: {error}") from error
    if sum(count for _, count in run.runs) != len(run.bodies):
        raise FrameError("a row of entries whose terms are of another number of entries")
    return run
