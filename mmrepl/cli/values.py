"""
Values as people type them and as they see them.

What is typed is JSON if it parses as JSON, and text otherwise: ``17`` is a number, ``bonjour`` a string, ``"17"`` a
string again. What JSON cannot say without loss is refused, not bent: numbers beyond 64 bits, numbers too large for a
float, one name twice in an object.
"""

from __future__ import annotations

import json
import math
import os
import sys
from typing import Any, Literal, NoReturn, TypeAlias

import orjson

from mmrepl.errors import InvalidValue
from mmrepl.types import Value
from mmrepl.values import encode

As: TypeAlias = Literal["auto", "json", "string", "bytes"]
"""How a typed value is understood."""

STDIN_BYTES_MAX = 16 * 1024 * 1024
"""More is never read from standard input; the store's own limit is lower."""


def typed(text: str, how: As) -> Value:
    """
    The value that somebody typed; ``-`` is read from standard input.

    A newline at the end of standard input is not part of the value, unless it is taken as bytes.

    >>> typed("17", "auto"), typed("tea", "auto"), typed("17", "string"), typed('["tea"]', "auto")
    (17, 'tea', '17', ['tea'])

    Raises:
        InvalidValue: it is not what *how* says, or cannot be stored.
    """
    data = _standard_input() if text == "-" else os.fsencode(text)
    if how == "bytes":
        value: Value = data
    else:
        if text == "-" and data.endswith(b"\n"):
            data = data[:-1].removesuffix(b"\r")
        value = _understood(_text(data), how)
    encode(value)
    return value


def _standard_input() -> bytes:
    data = sys.stdin.buffer.read(STDIN_BYTES_MAX + 1)
    if len(data) > STDIN_BYTES_MAX:
        raise InvalidValue(f"standard input holds more than {STDIN_BYTES_MAX} bytes: no value is as large")
    return data


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidValue(f"the value is not UTF-8 ({error}): write it with --as bytes") from None


def _understood(text: str, how: As) -> Value:
    if how == "string":
        return text
    try:
        value: Value = json.loads(text, parse_constant=_no_number, parse_float=_float, object_pairs_hook=_object)
        return value
    except InvalidValue:  # of one of the three, and a ValueError too
        raise
    except json.JSONDecodeError as error:
        if how == "json":
            raise InvalidValue(f"the value is not JSON: {error}") from None
        return text
    except RecursionError:
        raise InvalidValue("the value is nested too deeply") from None
    except ValueError as error:  # an integer of thousands of digits
        raise InvalidValue(f"the value cannot be read as JSON: {error}") from None


def _no_number(name: str) -> NoReturn:
    raise json.JSONDecodeError(f"{name} is no JSON", name, 0)


def _float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise InvalidValue(f"{digits} is too large for a number; as text: --as string")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidValue(f"the name {twice!r} stands twice in an object: one of the values would be lost")
    return found


def wire_form(value: Value) -> tuple[bytes, tuple[str, ...]]:
    """The words with which MM.PUT is told *value*: its bytes, and JSON unless it is bytes."""
    if isinstance(value, bytes):
        return value, ()
    return orjson.dumps(value), ("JSON",)


def from_shown(kind: str | None, shown: bytes | None) -> Value:
    """What a node showed, as a value again; *kind* is the type that it named with it."""
    if kind is None or shown is None:
        return None
    if kind == "bytes":
        return shown
    if kind == "str":
        return shown.decode()
    value: Value = orjson.loads(shown)
    return value


def as_text(value: Any) -> str:
    """
    A value on one line, in a sentence or a table: as JSON, what is not printable escaped; bytes as Python writes them.

    >>> as_text("tea"), as_text([1, None]), as_text(b"x")
    ('"tea"', '[1,null]', "b'x'")
    """
    if isinstance(value, bytes):
        return repr(value)
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text if text.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)
