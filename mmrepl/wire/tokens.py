"""
What clients keep for a node: contexts and versions as text without blanks, that can be typed, stored and sent back.

A context token stands for what was read of one key; a version token for what a whole replica had applied. They hold at
every node and do not expire. ``-`` is the empty one of either kind. Whatever is not as we made it is refused, so that a
token which was cut or retyped never passes for another one.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode

import orjson

from mmrepl.causality.version_vector import VersionVector
from mmrepl.errors import UsageError, WrongContext
from mmrepl.types import NodeId


def context_token(context: bytes) -> str:
    """A context as clients see it. The empty one is ``-``."""
    return urlsafe_b64encode(context).decode().rstrip("=") or "-"


def parse_context_token(token: bytes) -> bytes:
    """The inverse. Raises WrongContext for anything else."""
    try:
        return _decode(token)
    except ValueError:
        raise WrongContext("not a context token: give back what MM.READ or MM.CONTEXT answered, unchanged") from None


def version_token(version: VersionVector) -> str:
    """A version vector as a place to go on from."""
    return urlsafe_b64encode(orjson.dumps([[str(origin), version[origin]] for origin in version])).decode().rstrip("=")


def parse_version_token(token: bytes) -> VersionVector:
    """The inverse; ``-`` is the empty vector, the beginning. Raises UsageError for anything else."""
    try:
        pairs = orjson.loads(_decode(token) or b"[]")
        entries = [(NodeId.parse(origin), counter) for origin, counter in pairs]
        if all(type(counter) is int for _origin, counter in entries):
            return VersionVector(entries)
    except (ValueError, TypeError, AttributeError):
        pass
    raise UsageError("not a version token: give back what MM.CHANGES or MM.VERSION answered, unchanged; - is the start")


def _decode(token: bytes) -> bytes:
    if token == b"-":
        return b""
    text = token + b"=" * (-len(token) % 4)
    if not token or urlsafe_b64encode(data := urlsafe_b64decode(text)) != text:
        raise binascii.Error("not what we made")
    return data
