"""What a client hands out: the receipt of a write, a whole read; and how they are told from the port's answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from attrs import frozen

from mmrepl.causality.context import BLIND, CausalContext
from mmrepl.causality.dot import Dot
from mmrepl.errors import FrameError
from mmrepl.types import Value
from mmrepl.values import decode
from mmrepl.wire.resp import Reply
from mmrepl.wire.seen import Seen, parse_seen_token
from mmrepl.wire.tokens import parse_context_token

T = TypeVar("T")
Parse: TypeAlias = Callable[[Reply, str], T]
"""From an answer, and the node that gave it, to what the caller gets. Raises FrameError."""


@frozen
class ClientWritten:
    """The receipt of a write: its dot, a context that covers it and what it replaced, and where it was made."""

    dot: Dot
    context: CausalContext
    node: str  # the address
    seen: Seen  # whoever has applied this has applied the write


@frozen
class ClientSibling:
    """One sibling of a key."""

    dot: Dot
    timestamp: int  # hybrid logical timestamp, packed
    value: Value  # None for a tombstone
    is_tombstone: bool
    shown: bool  # it is, or is part of, what the key reads as


@frozen
class ClientRead:
    """All that a node knows of a key."""

    present: bool
    value: Value  # resolved; None when absent
    siblings: tuple[ClientSibling, ...]  # in canonical order
    context: CausalContext  # for the write that replaces just this
    resolver: str  # the policy of the table
    node: str  # the address
    seen: Seen  # whoever has applied this shows the key no older than here


def written(answer: Reply, node: str) -> ClientWritten:
    """Of MM.PUT, MM.BLIND and MM.DEL. Raises FrameError for what is no such answer, as all of these."""
    try:
        facts = _facts(answer)
        return ClientWritten(Dot.parse(_text(facts["dot"])), _context(facts), node, parse_seen_token(facts["seen"]))
    except Exception as error:
        raise _strange(answer, node) from error


def whole_read(answer: Reply, node: str) -> ClientRead:
    """Of MM.READ with PACKED."""
    try:
        facts = _facts(answer)
        present = bool(facts["present"])
        return ClientRead(
            present=present,
            value=decode(facts["value"]) if present else None,
            siblings=tuple(_sibling(_facts(item)) for item in facts["siblings"]),
            context=_context(facts),
            resolver=_text(facts["resolver"]),
            node=node,
            seen=parse_seen_token(facts["seen"]),
        )
    except Exception as error:
        raise _strange(answer, node) from error


def deleted(answer: Reply, node: str) -> ClientWritten | None:
    """Of MM.DEL, which answers nothing when there was nothing."""
    return None if answer is None else written(answer, node)


def as_it_came(answer: Reply, _node: str) -> Reply:
    """Of anything."""
    return answer


def whole_number(answer: Reply, node: str) -> int:
    """Of MM.OPEN."""
    if type(answer) is not int:
        raise _strange(answer, node)
    return answer


def packed_value(answer: Reply, node: str, default: Value) -> Value:
    """Of MM.GET."""
    try:
        return default if answer is None else decode(answer)
    except Exception as error:
        raise _strange(answer, node) from error


def seen_value(answer: Reply, node: str, default: Value) -> tuple[Value, Seen]:
    """Of MM.GET with SEEN."""
    try:
        packed, seen = answer
        return (default if packed is None else decode(packed)), parse_seen_token(seen)
    except Exception as error:
        raise _strange(answer, node) from error


def page(answer: Reply, node: str) -> tuple[list[str], Seen]:
    """Of MM.KEYS with SEEN."""
    try:
        words, seen = answer
        return [_text(word) for word in words], parse_seen_token(seen)
    except Exception as error:
        raise _strange(answer, node) from error


def _sibling(facts: dict[str, Any]) -> ClientSibling:
    deleted = bool(facts["deleted"])
    return ClientSibling(
        dot=Dot.parse(_text(facts["dot"])),
        timestamp=int(facts["timestamp"]),
        value=None if deleted else decode(facts["value"]),
        is_tombstone=deleted,
        shown=bool(facts["shown"]),
    )


def _context(facts: dict[str, Any]) -> CausalContext:
    data = parse_context_token(facts["context"])
    return CausalContext.from_bytes(data) if data else BLIND


def _facts(answer: Any) -> dict[str, Any]:
    return {_text(name): item for name, item in answer.items()}


def _text(word: Any) -> str:
    found = word.decode() if isinstance(word, bytes) else word
    assert isinstance(found, str)
    return found


def _strange(answer: object, node: str) -> FrameError:
    error = FrameError(f"{node} gave an answer that is none of this command: {repr(answer)[:200]}")
    error.definite = False
    return error
