"""
What one replica tells another by hand: messages as bytes that a program carries over, and back.

The frames of the wire, one after another. They say for themselves where each ends, that it came whole, and whether it
was compressed; so the bytes can lie in a file or a queue, and who takes them in need not be told how they were made.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from mmrepl.errors import FrameError, UsageError
from mmrepl.types import Limits
from mmrepl.wire.codec import decode, encode
from mmrepl.wire.compression import available_compressions
from mmrepl.wire.framing import decode_frames, encode_frame
from mmrepl.wire.messages import Delta, Snapshot

_BYTES: Final = (bytes, bytearray, memoryview)


def check_compression(compression: str | None) -> None:
    """Raises UsageError for a compression that this installation does not have."""
    if compression is not None and compression not in available_compressions():
        raise UsageError(f"compression must be one of {', '.join(available_compressions())}, not {compression!r}")


def to_bytes(messages: Iterable[Delta | Snapshot], compression: str | None, limits: Limits) -> bytes:
    """The messages as bytes, each compressed if that makes it smaller; empty if there is none."""
    frames = [encode_frame(*encode(message), compression=compression, limits=limits) for message in messages]
    return frames[0] if len(frames) == 1 else b"".join(frames)


def from_bytes(data: bytes | bytearray | memoryview, limits: Limits) -> list[Delta | Snapshot]:
    """The messages that `to_bytes` was given. Raises FrameError for other bytes, UsageError for what is none."""
    if not isinstance(data, _BYTES):
        raise UsageError(f"merge takes the bytes of another replica's delta, not {type(data).__name__}")
    messages: list[Delta | Snapshot] = []
    for number, body in decode_frames(bytes(data), limits):
        message = decode(number, body, limits)
        if not isinstance(message, (Delta, Snapshot)):
            raise FrameError(f"a {type(message).__name__} is no part of a delta")
        messages.append(message)
    return messages
