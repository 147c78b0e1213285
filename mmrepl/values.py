"""
What may be stored, and the bytes that it becomes.

A value is None, a bool, an int of 64 bits, a float, a str, bytes, a list of values, or a dict from str to values:
what MessagePack has in common with Python. *Exactly* these types: a tuple would come back as a list, a Decimal as a
str, and a subclass without what made it one, so all of them are refused where the writer can still do something
about it, with the path to the element (``value['tags'][3]``).

A value is encoded once, where it was written, and travels, rests and is compared as those bytes (law L6). So two
values are *the same* when their bytes are, which settles what ``==`` leaves muddled: ``0``, ``0.0`` and ``False`` are
three values, ``0.0`` and ``-0.0`` two, dicts in different order two. NaN and the infinities are ordinary floats: each
NaN keeps its 64 bits, and is the same value as itself.

What `encode` makes, `decode` reads. Bytes from a peer are not trusted to be anything: `decode` refuses all that
`encode` would not have made *of the domain* (extension types, timestamps, keys that are no str, ints above
``2**63 - 1``), but not other spellings of what is in it (a longer int, a float of 32 bits, a key given twice, of
which the last counts): all nodes read those alike, and that is what matters.

HAZARD: msgspec recurses on the C stack and stops at Python's recursion limit. Where a host has raised that limit, deep
input would end the process. The decoder used here is typed and knows only `_LEVELS` levels: it refuses before it goes
deeper. What it refuses is measured without recursion (`is_too_deep`) before a decoder without types sees it. Keep
this order.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeAlias, Union

import msgspec

from mmrepl.errors import InvalidKey, InvalidValue
from mmrepl.types import DEFAULT_LIMITS, DEPTH_MAX, Limits, Value

Items: TypeAlias = Mapping[str, Value] | Iterable[tuple[str, Value]]
"""Keys and their values: a mapping, or pairs."""

INT_MIN, INT_MAX = -(2**63), 2**63 - 1

_SCALARS = frozenset({type(None), bool, int, float, str, bytes})
_DOMAIN = _SCALARS | {list, dict}
_UINT64 = 0xCF  # the only header under which an int above INT_MAX can hide
_seems_too_large = re.compile(rb"\xcf[\x80-\xff]").search  # perhaps a uint64 with its highest bit, perhaps other bytes

_pack: Callable[[object], bytes] = msgspec.msgpack.Encoder().encode


# -- encoding


def encode(value: Any, limits: Limits = DEFAULT_LIMITS) -> bytes:
    r"""
    The bytes of *value*. The same value gives the same bytes, in every process.

    >>> encode({"tags": ["a", 1, None]})
    b'\x81\xa4tags\x93\xa1a\x01\xc0'

    Raises:
        InvalidValue: the value is outside the domain, nested deeper than ``limits.depth``, or longer than
            ``limits.value_bytes`` when encoded. A container that contains itself is too deep.

    Cost: some 0.5 µs for a small flat dict; the encoding itself, and a look at each element's type.
    """
    try:
        if type(value) is dict and limits.depth > 1:  # the commonest first: a record of scalars, or lists of them
            left = limits.value_bytes
            for key in value:
                if type(key) is not str:
                    raise _refusal(value, limits)
            for element in value.values():
                if type(element) in _SCALARS:
                    continue
                if type(element) is list and (left := left - len(element)) >= 0:
                    for inner in element:
                        if type(inner) not in _SCALARS:
                            break
                    else:
                        continue
                if _admit(value, limits.depth, limits.value_bytes) < 0:
                    raise _refusal(value, limits)
                break
        elif type(value) not in _SCALARS and _admit(value, limits.depth, limits.value_bytes) < 0:
            raise _refusal(value, limits)
        payload = _pack(value)
    except (TypeError, OverflowError, UnicodeEncodeError, RecursionError) as error:
        raise _refusal(value, limits, error) from None
    if len(payload) > limits.value_bytes:
        size, most = len(payload), limits.value_bytes
        raise InvalidValue(f"value takes {size:,} bytes encoded; the limit value_bytes is {most:,}")
    if _UINT64 in payload and _seems_too_large(payload) and not _is_readable(payload):
        fault = _fault(value, limits.depth, limits.value_bytes)
        if fault is not None:
            raise fault
    return payload


def _is_readable(payload: bytes) -> bool:
    """Whether the typed decoder takes it: then no int is too large, and nothing has to be looked for in Python."""
    try:
        _unpack_typed(payload)
    except _UNREADABLE:
        return False
    return True


def _admit(container: Any, depth: int, left: int) -> int:
    """
    How many elements are *left* after those in *container*, which may be *depth* levels deep; negative: it is none, or
    holds something that is not of the domain. Ranges and text are not looked at.

    Elements are counted because a few lists that contain each other twice hold 2**depth elements. Recursion is bounded
    by *depth*; it does not happen for a list of scalars. These are plain loops on purpose, and the commonest type comes
    first: the interpreter specialises them to half of what ``issuperset(map(type, ...))`` takes.
    """
    if depth <= 0:
        return -1
    kind = type(container)
    if kind is dict:
        for key in container:
            if type(key) is not str:
                return -1
        elements: Iterable[Any] = container.values()
    elif kind is list:
        elements = container
    else:
        return -1
    for element in elements:
        if type(element) in _SCALARS:
            continue
        kind = type(element)
        if kind is not list and kind is not dict:
            return -1
        left -= len(element)
        if left < 0:
            return -1
        if kind is list and depth > 1:
            for inner in element:
                if type(inner) is not str and type(inner) not in _SCALARS:
                    break
            else:
                continue
        left = _admit(element, depth - 1, left)
        if left < 0:
            return -1
    return left


def _refusal(value: object, limits: Limits, cause: Exception | None = None) -> InvalidValue:
    """The error for a value that was refused: what the precise walk finds, or else what the encoder said."""
    return _fault(value, limits.depth, limits.value_bytes) or InvalidValue(f"value cannot be encoded: {cause}")


# -- decoding


def _typed(levels: int) -> Any:
    """
    The domain as a type, with at most *levels* containers inside each other, for msgspec to check while decoding.

    It has no recursive types outside of structs, and no union of str and bytes; hence values with bytes in them, and
    deep ones, go the longer way.
    """
    scalar = Union[None, bool, Annotated[int, msgspec.Meta(le=INT_MAX)], float, str]  # noqa: UP007 - built at run time
    domain: Any = scalar
    for _ in range(levels):
        domain = Union[scalar, list[domain], dict[str, domain]]  # noqa: UP007 - built at run time
    return domain


_LEVELS = 6  # the decoder's size and the time to build it double with each; six take a millisecond
_unpack_typed: Callable[[bytes], Value] = msgspec.msgpack.Decoder(_typed(_LEVELS)).decode
_unpack: Callable[[bytes], Any] = msgspec.msgpack.Decoder().decode
_BINARY = frozenset({0xC4, 0xC5, 0xC6})  # the headers of bytes
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError, OverflowError, IndexError)

_VIEW_DEPTH = DEPTH_MAX + 1  # the siblings of a key, read as a list, are one level deeper than a value may be


def decode(payload: bytes) -> Value:
    r"""
    A fresh value from its bytes; safe on bytes from anybody.

    >>> decode(b"\x81\xa4tags\x93\xa1a\x01\xc0")
    {'tags': ['a', 1, None]}

    Raises:
        InvalidValue: the bytes are cut, malformed, too deep, or hold something outside the domain.

    Cost: one decoding; some microseconds more if bytes are among the elements, or more than six levels.
    """
    try:
        if payload[0] in _BINARY:
            return _unpack(payload)  # type: ignore[no-any-return]
        return _unpack_typed(payload)
    except _UNREADABLE:
        return _decode_carefully(payload)


def _decode_carefully(payload: bytes) -> Value:
    """What the typed decoder could not read: values with bytes in them, deep ones, and all that is to be refused."""
    if is_too_deep(payload, _VIEW_DEPTH):
        raise InvalidValue(f"payload of {len(payload):,} bytes is nested deeper than {_VIEW_DEPTH} levels")
    try:
        value = _unpack(payload)
    except _UNREADABLE as error:
        raise InvalidValue(f"payload of {len(payload):,} bytes is no value: {error}") from None
    if _UINT64 in payload or (type(value) not in _SCALARS and _admit(value, _VIEW_DEPTH, len(payload)) < 0):
        fault = _fault(value, _VIEW_DEPTH, len(payload))
        if fault is not None:
            raise InvalidValue(f"payload of {len(payload):,} bytes is no value: {fault}", fault.path)
    return value  # type: ignore[no-any-return]


def first_invalid(payloads: Iterable[bytes | None], depth: int = DEPTH_MAX) -> tuple[int, InvalidValue] | None:
    """
    The index of the first payload that is no value, and why; None when all are values. For what a peer sent, in bulk.

    A payload of None is a tombstone, and fine. Size is not looked at: the frame had a limit, and a node with a smaller
    ``value_bytes`` than its peers must not cut itself off from them.

    Cost: one decoding each, all of it in C as long as nothing is found.
    """
    held = payloads if isinstance(payloads, Sequence) else list(payloads)
    if depth >= _LEVELS:
        try:
            deque(map(_unpack_typed, [payload for payload in held if payload is not None]), maxlen=0)
        except _UNREADABLE:
            pass
        else:
            return None
    for index, payload in enumerate(held):
        if payload is None:
            continue
        if is_too_deep(payload, depth):
            return index, InvalidValue(f"payload of {len(payload):,} bytes is nested deeper than {depth} levels")
        try:
            decode(payload)
        except InvalidValue as error:
            return index, error
    return None


# -- depth, measured without recursion

_OTHERS = bytes(byte for byte in range(256) if not (0x80 <= byte <= 0x9F or 0xDC <= byte <= 0xDF))
"""All bytes but the headers of containers: without these a payload is still at least as long as it is deep."""


_TOGETHER = 10


def too_deep(payloads: Sequence[bytes | None], depth: int) -> int | None:
    """
    Index of the first payload with more than *depth* containers inside each other; None when there is none.

    For what a peer sent, before anything recursive looks at it. None stands for a tombstone.

    Cost: about 0.1 µs a payload; a scan in Python of those few that hold more than *depth* bytes which could be
    headers of containers. Most hold a few, so several are counted together.
    """
    if len(payloads) == 1:
        return 0 if payloads[0] and is_too_deep(payloads[0], depth) else None
    for low in range(0, len(payloads), _TOGETHER):
        group = payloads[low : low + _TOGETHER]
        if len(b"".join(filter(None, group)).translate(None, _OTHERS)) > depth:
            for index, payload in enumerate(group, low):
                if payload and is_too_deep(payload, depth):
                    return index
    return None


def is_too_deep(payload: bytes, depth: int) -> bool:
    """
    Whether *payload* has more than *depth* containers inside each other.

    Of malformed bytes only the part before the damage counts, as that is all that a decoder would descend into.
    """
    return len(payload.translate(None, _OTHERS)) > depth and _depth_exceeds(payload, depth)


_FIXED_BYTES = {  # header -> bytes that follow it
    0xCA: 4, 0xCB: 8,  # float
    0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8,  # int
    0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17,  # extension of 1, 2, 4, 8, 16 bytes, and its type
}  # fmt: skip
_COUNTED_BYTES = {  # header -> bytes of the count that follows, bytes that follow beside those counted
    0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0),  # bytes
    0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1),  # extension and its type
    0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0),  # str
}  # fmt: skip
_COUNTED_ELEMENTS = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}  # header -> (bytes of count, per count)


def _depth_exceeds(payload: bytes, depth: int) -> bool:
    """One pass over the headers, with the number of elements that each open container still expects."""
    end = len(payload)
    at = 0
    expected: list[int] = []  # of each open container, outermost first; at most depth of them
    while at < end:
        header = payload[at]
        at += 1
        elements = None  # a number, if the header opens a container
        if header < 0x80 or header >= 0xE0:
            pass
        elif header < 0x90:
            elements = (header & 0x0F) * 2
        elif header < 0xA0:
            elements = header & 0x0F
        elif header < 0xC0:
            at += header & 0x1F
        elif header in _FIXED_BYTES:
            at += _FIXED_BYTES[header]
        elif header in _COUNTED_BYTES:
            width, more = _COUNTED_BYTES[header]
            at += width + int.from_bytes(payload[at : at + width], "big") + more
        elif header in _COUNTED_ELEMENTS:
            width, times = _COUNTED_ELEMENTS[header]
            elements = int.from_bytes(payload[at : at + width], "big") * times
            at += width
        if expected:
            expected[-1] -= 1
        if elements is not None:
            if len(expected) == depth:
                return True
            expected.append(elements)
        while expected and not expected[-1]:
            expected.pop()
        if not expected:
            return False  # what comes now is no part of the value
    return False


# -- keys and tables


def check_key(key: str, limits: Limits = DEFAULT_LIMITS) -> None:
    """
    Refuse what is no key. A key is a str of 1 to ``limits.key_bytes`` bytes in UTF-8: any text, NUL included.

    Raises:
        InvalidKey: it is empty, too long, has a lone surrogate, or is no str (nor is a member of a StrEnum one).
    """
    if type(key) is str and key.isascii() and 0 < len(key) <= limits.key_bytes:
        return
    if type(key) is str and not key:
        raise InvalidKey("key is empty; a key has at least one character")
    _check_text("key", key, limits)


def columns_of(items: Items, limits: Limits = DEFAULT_LIMITS) -> tuple[list[str], list[bytes | None]]:
    """The keys of many writes, and their values encoded. Raises InvalidKey, InvalidValue; TypeError for no pairs."""
    keys: list[str] = []
    payloads: list[bytes | None] = []
    for key, value in items.items() if isinstance(items, Mapping) else items:
        if type(key) is not str or not key.isascii() or not 0 < len(key) <= limits.key_bytes:
            check_key(key, limits)
        keys.append(key)
        payloads.append(encode(value, limits))
    return keys, payloads


def check_table(name: str, limits: Limits = DEFAULT_LIMITS) -> None:
    """
    Refuse what is no table name. As for a key, except that it may be empty: that is the table of the replica itself.

    Raises:
        InvalidKey: as `check_key`.
    """
    if type(name) is str and name.isascii() and len(name) <= limits.key_bytes:
        return
    _check_text("table name", name, limits)


def _check_text(what: str, text: object, limits: Limits) -> None:
    if type(text) is not str:
        hint = ": store under str(...) of it, or its .value" if isinstance(text, str) else ""
        raise InvalidKey(f"{what} must be a str, not {_type_name(text)}{hint}")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        message = f"{what} {_brief(text)} has a lone surrogate at index {error.start}: no valid Unicode"
        raise InvalidKey(message) from None
    if size > limits.key_bytes:
        raise InvalidKey(f"{what} {_brief(text)} takes {size:,} bytes; the limit key_bytes is {limits.key_bytes:,}")


# -- the precise walk, which finds what is wrong and where


_Open: TypeAlias = tuple[str, object, Iterator[tuple[str, object]]]
"""A container that the walk is in: its path, itself, and the elements that are left with their paths."""


def _fault(value: object, depth: int, elements_max: int) -> InvalidValue | None:
    """
    The first thing in *value*, in order of reading, that keeps it out of the domain; None when there is nothing.

    No recursion: an iterator for each open container. Slow, for it builds the path of every element.
    """
    left = elements_max
    elements: Iterator[tuple[str, object]] = iter([("value", value)])
    open_: list[_Open] = [("", None, elements)]
    while open_:
        for path, element in open_[-1][2]:
            left -= 1
            if left < 0:
                return InvalidValue(f"value has more elements than the limit value_bytes allows: {elements_max:,}")
            fault = _scalar_fault(element, path)
            if fault is not None:
                return fault
            if type(element) in _SCALARS:
                continue
            if len(open_) > depth:
                return _depth_fault([*open_, (path, element, elements)], depth)
            open_.append((path, element, _elements(element, path)))
            break
        else:
            open_.pop()
    return None


def _elements(container: Any, path: str) -> Iterator[tuple[str, object]]:
    """The elements of a list or dict, each with its path."""
    if type(container) is list:
        return ((f"{path}[{index}]", element) for index, element in enumerate(container))
    return ((f"{path}[{_brief(key)}]", element) for key, element in container.items())


def _depth_fault(open_: list[_Open], depth: int) -> InvalidValue:
    """The error for containers of which the last is too deep. A cycle is told as such, with the shortest path."""
    paths: dict[int, str] = {}  # id of container -> where it stands
    for path, container, _ in open_:
        if id(container) in paths:
            kind = type(container).__name__
            return InvalidValue(f"{path} is the {kind} that {paths[id(container)]} is: it contains itself", path)
        paths[id(container)] = path
    path = open_[-1][0]
    shown = path if len(path) <= 80 else f"{path[:80]}..."
    return InvalidValue(f"{shown} is nested deeper than {depth} levels, the limit depth", path)


def _scalar_fault(element: object, path: str) -> InvalidValue | None:
    """What is wrong with *element* itself, and with its keys if it is a dict."""
    kind = type(element)
    if kind is int:
        if not INT_MIN <= element <= INT_MAX:  # type: ignore[operator]
            return InvalidValue(f"{path} is an int of more than 64 bits: store it as a str or as bytes", path)
    elif kind is str:
        return _text_fault(element, path, path)  # type: ignore[arg-type]
    elif kind is dict:
        for key in element:  # type: ignore[attr-defined]
            if type(key) is not str:
                message = f"{path} has the key {_brief(key)}, of type {_type_name(key)}: the keys of a dict must be str"
                return InvalidValue(message, path)
            fault = _text_fault(key, f"{path} has the key {_brief(key)}, which", path)
            if fault is not None:
                return fault
    elif kind not in _DOMAIN:
        return InvalidValue(f"{path} is of type {_type_name(element)}{_advice(element)}", path)
    return None


def _text_fault(text: str, subject: str, path: str) -> InvalidValue | None:
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return InvalidValue(f"{subject} has a lone surrogate at index {error.start}: no valid Unicode", path)
    return None


_ADVICE = {
    "tuple": "make it a list",
    "set": "make it a sorted list",
    "frozenset": "make it a sorted list",
    "bytearray": "make it bytes",
    "memoryview": "make it bytes",
    "datetime.datetime": "store its isoformat(), or a number",
    "datetime.date": "store its isoformat()",
    "datetime.time": "store its isoformat()",
    "datetime.timedelta": "store its total_seconds()",
    "decimal.Decimal": "store it as a str",
    "fractions.Fraction": "store it as a str",
    "uuid.UUID": "store it as a str",
    "coroutine": "await it first",
}


def _advice(element: object) -> str:
    """What to do about a type that is outside the domain."""
    advice = _ADVICE.get(_type_name(element))
    if advice is None:
        for base in (bool, int, float, str, bytes, list, dict):
            if isinstance(element, base):
                return f", a subclass of {base.__name__}: its type would be lost, so store the plain {base.__name__}"
        advice = "a value is None, bool, int, float, str, bytes, list, or dict with str keys"
    return f", which cannot be stored: {advice}"


def _type_name(thing: object) -> str:
    kind = type(thing)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _brief(thing: object) -> str:
    """A repr that fits into a message. Of foreign types only the name: their ``__repr__`` may do anything."""
    if type(thing) not in _SCALARS:
        return f"<{_type_name(thing)}>"
    if isinstance(thing, (str, bytes)) and len(thing) > 40:
        return f"{thing[:40]!r}..."
    if type(thing) is int and thing.bit_length() > 64:
        return f"<int of {thing.bit_length()} bits>"
    return repr(thing)
