"""
Messages to bytes and back.

Each message has a number, which the frame header carries. Decoding is one typed call; whatever a peer may have sent
instead of a message ends in a `FrameError` that says what was wrong with it. Payloads are checked for depth here,
once, in bulk: decoding deep input can bring the process down where the host has raised the recursion limit.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from mmrepl.errors import FrameError
from mmrepl.log.batch import Batch
from mmrepl.types import DEFAULT_LIMITS, Limits
from mmrepl.values import too_deep
from mmrepl.wire.messages import (
    Acks,
    Ask,
    Delta,
    Digest,
    Hello,
    Leave,
    Members,
    Message,
    Proof,
    Prune,
    Refuse,
    Snapshot,
    Vector,
)
from mmrepl.wire.single_master import SINGLE_MASTER_NUMBERS, check_message

NUMBERS: Final[dict[type[Message], int]] = {
    Hello: 1,
    Proof: 2,
    Refuse: 3,
    Delta: 4,
    Digest: 5,
    Ask: 6,
    Snapshot: 7,
    Prune: 8,
    Members: 9,
    Acks: 10,
    Leave: 11,
}
"""The number of each message on the wire; part of the protocol."""

NUMBERS.update(SINGLE_MASTER_NUMBERS)

_encoder = msgspec.msgpack.Encoder()
_decoders: dict[int, msgspec.msgpack.Decoder[Any]] = {
    number: msgspec.msgpack.Decoder(message) for message, number in NUMBERS.items()
}

_SINGLE_MASTER = frozenset(SINGLE_MASTER_NUMBERS.values())


def encode(message: Message) -> tuple[int, bytes]:
    """The number and the body of a message."""
    return NUMBERS[type(message)], _encoder.encode(message)


def decode(number: int, body: bytes | memoryview, limits: Limits = DEFAULT_LIMITS) -> Message:
    """
    The message of a frame, checked against the limits.

    Raises:
        FrameError: no message of ours, or past a limit.
    """
    decoder = _decoders.get(number)
    if decoder is None:
        raise FrameError(f"a message of unknown type {number}")
    try:
        message: Message = decoder.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FrameError(f"a message of type {number} that cannot be read: {error}") from error
    if number in _SINGLE_MASTER:
        check_message(message, limits)  # type: ignore[arg-type]
    elif isinstance(message, Delta):
        _check_vector(message.assumes, limits)
        _check_batch(message.batch, limits)
    elif isinstance(message, Snapshot):
        _check_vector(message.clock, limits)
        _check_batch(message.batch, limits)
    elif isinstance(message, Hello):
        _check_vector(message.vector, limits)
        if max(len(message.members), len(message.known)) > limits.vector_entries:
            raise FrameError(f"a hello with more members than {limits.vector_entries}")
    elif isinstance(message, Digest):
        _check_vector(message.vector, limits)
    elif isinstance(message, Members) and len(message.entries) > limits.vector_entries:
        raise FrameError(f"{len(message.entries)} members, removed ones included: at most {limits.vector_entries}")
    elif isinstance(message, Acks):
        if len(message.entries) > limits.peers:
            raise FrameError(f"acknowledgements of {len(message.entries)} members: at most {limits.peers}")
        for _, vector, _ in message.entries:
            _check_vector(vector, limits)
    return message


def _check_vector(vector: Vector, limits: Limits) -> None:
    if len(vector) > limits.vector_entries:
        raise FrameError(
            f"a version vector of {len(vector)} entries: at most {limits.vector_entries} (limits.vector_entries)"
        )


def _check_batch(batch: Batch, limits: Limits) -> None:
    batch.check(limits)
    index = too_deep(batch.payloads, limits.depth)
    if index is not None:
        raise FrameError(f"the value of key {batch.keys[index][:80]!r} is nested deeper than {limits.depth}")
