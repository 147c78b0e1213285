"""
The same values with other hashes, within one process.

Python draws the hashes of str and bytes anew for each process, and with them the order of sets. Here values are
rebuilt of subclasses of str and bytes whose hash is a checksum under a *salt*: what a function answers under one salt
and under another may only differ if it depends on hashes. (Compare salted answers among each other only. A literal in
the function's own code has its usual hash, and would not be found among salted keys: under every salt alike.)
"""

from __future__ import annotations

import zlib
from typing import Any


class SaltedText(str):
    """A str with another hash."""

    __slots__ = ()
    salt = b""

    def __hash__(self) -> int:
        return zlib.crc32(self.salt + self.encode())

    __eq__ = str.__eq__


class SaltedBytes(bytes):
    """Bytes with another hash."""

    __slots__ = ()
    salt = b""

    def __hash__(self) -> int:
        return zlib.crc32(self.salt + self)

    __eq__ = bytes.__eq__


def _classes(salt: bytes) -> tuple[type[SaltedText], type[SaltedBytes]]:
    text = type("str", (SaltedText,), {"__slots__": (), "salt": salt, "__hash__": SaltedText.__hash__})
    data = type("bytes", (SaltedBytes,), {"__slots__": (), "salt": salt, "__hash__": SaltedBytes.__hash__})
    return text, data


_CLASSES = tuple(_classes(b"%d" % salt) for salt in range(4))
SALTS = range(len(_CLASSES))


def salted(value: Any, salt: int) -> Any:
    """A copy of *value* with other hashes. For *salt* see `SALTS`."""
    text, data = _CLASSES[salt]

    def copy(part: Any) -> Any:
        if type(part) is str:
            return text(part)
        if type(part) is bytes:
            return data(part)
        if type(part) is list:
            return [copy(element) for element in part]
        if type(part) is dict:
            return {copy(key): copy(element) for key, element in part.items()}
        return part

    return copy(value)


def unsalted(value: Any) -> Any:
    """A copy of *value* with the usual hashes. What is no value is left as it is."""
    if isinstance(value, SaltedText):
        return "".join(value)
    if isinstance(value, SaltedBytes):
        return bytes(bytearray(value))
    if type(value) is list:
        return [unsalted(element) for element in value]
    if type(value) is dict:
        return {unsalted(key): unsalted(element) for key, element in value.items()}
    return value
