"""
How a stored value looks to a client that knows only strings.

The store keeps None, booleans, numbers, strings, bytes, lists and dicts; a Redis client gets bytes. What was written
as bytes comes back as it is, a string as UTF-8, anything else as JSON for people. JSON knows neither bytes nor NaN:
bytes within a list or dict appear as text when they are valid UTF-8 and as ``{"base64": "…"}`` when not, and the
numbers that are none as the strings ``"NaN"``, ``"Infinity"``, ``"-Infinity"``. This is one way only: what people
see is not what is compared or sent to peers (those are the bytes that were made once, when the value was written).
"""

from __future__ import annotations

import math
from base64 import b64encode
from typing import Any

import msgspec
import orjson

from mmrepl.types import Value

_pack = msgspec.msgpack.Encoder().encode


def shown(value: Value) -> bytes:
    r"""
    The answer of GET for *value*.

    >>> shown("né"), shown(b"\xff"), shown(1), shown(None), shown({"a": [True, b"x"]})
    (b'n\xc3\xa9', b'\xff', b'1', b'null', b'{"a":[true,"x"]}')
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    return json_text(value)


def json_text(value: Any) -> bytes:
    """JSON text of *value*, a stored value or a report of ours."""
    return orjson.dumps(_plain(value))


def packed(value: Value) -> bytes:
    r"""
    MessagePack of *value*, exact: what another program can make the same value of. Not checked, not bounded.

    >>> packed([1, b"x", None])
    b'\x93\x01\xc4\x01x\xc0'
    """
    return _pack(value)


def kind(value: Value) -> str:
    """The name of the type of *value*: null, bool, int, float, str, bytes, list or dict."""
    return "null" if value is None else type(value).__name__


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else "NaN" if value != value else f"{'-' if value < 0 else ''}Infinity"  # noqa: PLR0124
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return {"base64": b64encode(value).decode()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    return value
