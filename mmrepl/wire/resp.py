"""
What clients get: the answer half of the Redis protocol, in its versions 2 and 3.

`encode` turns plain Python values into an answer; where version 2 has no type for a value it uses the one that Redis
itself uses there (a map becomes the flat list of its pairs, a boolean 0 or 1, a double its text). The small functions
before it are for answers that are given a hundred thousand times a second.

`ReplyReader` is the way back: for our own command line, and so that each answer can be read back in a test. It is
incremental and bounded, since the other side of a connection is never to be trusted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from attrs import define, field, frozen

from mmrepl.errors import FrameError

# -- writing

OK = b"+OK\r\n"
NULL_2 = b"$-1\r\n"
NULL_3 = b"_\r\n"


@frozen
class Simple:
    """A short answer of one line, as ``OK``."""

    text: str


@frozen
class Failure:
    """An error answer: a code in capitals, then a sentence."""

    code: str
    text: str


@frozen
class Encoded:
    """An answer that is encoded already, within one that is not."""

    data: bytes


Reply: TypeAlias = Any
"""None, bool, int, float, str, bytes, Simple, Failure, Encoded, a list or tuple of them, or a mapping."""


def integer(number: int) -> bytes:
    """An integer of 64 bits."""
    return b":%d\r\n" % number


def bulk(data: bytes) -> bytes:
    """A string of any bytes."""
    return b"$%d\r\n%b\r\n" % (len(data), data)


def array(encoded: Iterable[bytes]) -> bytes:
    """An array of answers that are encoded already."""
    parts = list(encoded)
    return b"*%d\r\n%b" % (len(parts), b"".join(parts))


def failure(code: str, text: str) -> bytes:
    """An error, on one line whatever *text* holds."""
    line = f"{code} {text}" if len(text) <= 2000 else f"{code} {text[:2000]}…"
    return b"-%b\r\n" % " ".join(line.split()).encode("utf-8", "replace")


def encode(value: Reply, protocol: int) -> bytes:
    """Any answer, for a client that speaks version *protocol*. Raises TypeError for what is no answer."""
    if isinstance(value, bytes):
        return bulk(value)
    if isinstance(value, str):
        return bulk(value.encode("utf-8", "surrogatepass"))
    if value is None:
        return NULL_3 if protocol == 3 else NULL_2
    if isinstance(value, bool):
        return (b"#t\r\n" if value else b"#f\r\n") if protocol == 3 else integer(value)
    if isinstance(value, int):
        if -(1 << 63) <= value < 1 << 63:
            return integer(value)
        return b"(%d\r\n" % value if protocol == 3 else bulk(b"%d" % value)
    if isinstance(value, float):
        text = repr(value).encode()
        return b",%b\r\n" % text if protocol == 3 else bulk(text)
    if isinstance(value, Simple):
        return b"+%b\r\n" % " ".join(value.text.split()).encode()
    if isinstance(value, Failure):
        return failure(value.code, value.text)
    if isinstance(value, Mapping):
        pairs = b"".join([encode(part, protocol) for pair in value.items() for part in pair])
        return b"%%%d\r\n%b" % (len(value), pairs) if protocol == 3 else b"*%d\r\n%b" % (2 * len(value), pairs)
    if isinstance(value, list | tuple):
        return array(encode(item, protocol) for item in value)
    if isinstance(value, Encoded):
        return value.data
    raise TypeError(f"no answer can be made of {type(value).__name__}")


# -- reading

_DEPTH_MAX = 32
_ITEMS_MAX = 1 << 24
_LINE_MAX = 64 * 1024
_WORDS = {b"#t": True, b"#f": False, b"_": None}
_FOLDED = {0x2A: 1, 0x7E: 1, 0x3E: 1, 0x25: 2, 0x7C: 2}  # * ~ > % | -> elements per count


@define
class _Open:
    """An array or map that is not complete."""

    kind: int
    left: int
    items: list[Reply] = field(factory=list)


class ReplyReader:
    r"""
    Bytes in, answers out: simple strings as `Simple`, errors as `Failure`, bulk and verbatim strings as bytes, maps as
    dicts (their keys made hashable), sets and pushes as lists.

    >>> ReplyReader().feed(b"*2\r\n$1\r\na\r\n:7\r\n+OK\r\n")
    [[b'a', 7], Simple(text='OK')]
    """

    def __init__(self, bulk_bytes: int = 512 * 1024 * 1024) -> None:
        self._bulk_bytes = bulk_bytes
        self._tail = bytearray()
        self._need = 0
        self._open: list[_Open] = []

    def feed(self, data: bytes) -> list[Reply]:
        """The answers that *data* completes, in order. Raises FrameError for what is no answer; then give up."""
        self._tail += data
        if len(self._tail) < self._need:
            return []
        data = bytes(self._tail)
        done: list[Reply] = []
        at = 0
        self._need = 0
        while at < len(data):
            after = self._one(data, at, done)
            if after is None:
                break
            at = after
        self._tail = bytearray(memoryview(data)[at:])
        return done

    def _one(self, data: bytes, at: int, done: list[Reply]) -> int | None:
        """Read one element; returns the place behind it, None when it is not complete."""
        stop = data.find(b"\r\n", at, at + _LINE_MAX)
        if stop < 0:
            if len(data) - at >= _LINE_MAX:
                raise FrameError("an answer with a line of more than 64 KiB")
            return None
        kind, line, after = data[at], data[at + 1 : stop], stop + 2
        if kind in b"$=!":
            length = _integer(line)
            if length < 0:
                self._close(None, done)
                return after
            if length > self._bulk_bytes:
                raise FrameError(f"an answer of {length} bytes is longer than allowed ({self._bulk_bytes})")
            if after + length + 2 > len(data):
                self._need = after - at + length + 2
                return None
            text = data[after : after + length]
            if kind == 0x3D:  # = verbatim, as txt:…
                text = text[4:]
            self._close(_failure(text) if kind == 0x21 else text, done)
            return after + length + 2
        if kind in _FOLDED:
            count = _integer(line) * _FOLDED[kind]
            if count > _ITEMS_MAX or len(self._open) >= _DEPTH_MAX:
                raise FrameError("an answer that is too large or too deep")
            if count > 0:
                self._open.append(_Open(kind, count))
            else:
                self._close(None if count < 0 else {} if kind == 0x25 else [], done)
            return after
        self._close(_scalar(kind, line), done)
        return after

    def _close(self, value: Reply, done: list[Reply]) -> None:
        """Put a complete *value* where it belongs, and whatever that completes."""
        while self._open:
            top = self._open[-1]
            top.items.append(value)
            top.left -= 1
            if top.left:
                return
            self._open.pop()
            if top.kind == 0x7C:  # attributes precede the answer that they describe; nobody reads them
                return
            pairs = iter(top.items)
            value = (
                {_hashable(key): item for key, item in zip(pairs, pairs, strict=True)}
                if top.kind == 0x25
                else top.items
            )
        done.append(value)


def _scalar(kind: int, line: bytes) -> Reply:
    try:
        if kind == 0x2B:  # +
            return Simple(line.decode())
        if kind == 0x2D:  # -
            return _failure(line)
        if kind in b":(":
            return _integer(line)
        if kind == 0x2C:  # ,
            return float(line)
        return _WORDS[bytes([kind]) + line]
    except (ValueError, KeyError):
        raise FrameError(f"bytes that are no answer: {bytes([kind]) + line[:40]!r}") from None


def _failure(line: bytes) -> Failure:
    code, _, text = line.decode("utf-8", "replace").partition(" ")
    return Failure(code, text)


def _integer(line: bytes) -> int:
    if len(line) > 4000 or not line.removeprefix(b"-").removeprefix(b"+").isdigit():
        raise FrameError(f"an answer with a malformed number: {line[:40]!r}")
    return int(line)


def _hashable(key: Reply) -> Reply:
    if isinstance(key, list):
        return tuple(_hashable(item) for item in key)
    if isinstance(key, dict):
        return tuple((_hashable(name), _hashable(item)) for name, item in key.items())
    return key
