"""
What a reader has seen of one key, to be handed back with the write that follows.

A context is bound to its table and key by type. It has to be: counters run over all keys of a node, so the context
of another key would cover writes of this one that nobody read, and they would be lost without a trace (law L3).
It may come from another replica, even one that has seen more: whatever it covers that is not here yet stays covered
when it arrives.
"""

from __future__ import annotations

from typing import Final

import msgspec
from attrs import frozen

from mmrepl.causality.dot import COUNTER_MAX
from mmrepl.causality.version_vector import EMPTY, VersionVector
from mmrepl.errors import WrongContext
from mmrepl.types import NodeId


@frozen
class CausalContext:
    """
    Opaque to applications: get it from a read, give it to a put or a delete of the same key.

    As bytes or text it can travel through a browser or another process and come back at any replica.
    """

    table: str
    key: str
    vector: VersionVector

    def to_bytes(self) -> bytes:
        """A compact token; `from_bytes` is the inverse."""
        entries = [(origin.name, origin.incarnation, counter) for origin, counter in self.vector.items()]
        return msgspec.msgpack.encode((self.table, self.key, entries))

    @classmethod
    def from_bytes(cls, token: bytes) -> CausalContext:
        """Raises WrongContext for bytes that are no context."""
        try:
            table, key, entries = _token.decode(token)
            vector = VersionVector({NodeId(name, incarnation): counter for name, incarnation, counter in entries})
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise WrongContext(f"these {len(token)} bytes are no causal context: {error}") from error
        if any(counter > COUNTER_MAX for counter in vector.values()):
            raise WrongContext("these bytes are no causal context: a counter out of range")
        return cls(table, key, vector)

    def check_for(self, table: str, key: str) -> None:
        """Raises WrongContext unless this context was read from *key* of *table*. An empty one fits every key."""
        if self.vector and (self.table, self.key) != (table, key):
            raise WrongContext(
                f"the context was read from key {self.key!r} of table {self.table!r} and cannot be used to write"
                f" key {key!r} of table {table!r}: read that key, and put with the context of that read"
            )

    def __str__(self) -> str:
        return f"{self.table}/{self.key}@{self.vector}" if self.table else f"{self.key}@{self.vector}"


_token = msgspec.msgpack.Decoder(tuple[str, str, list[tuple[str, int, int]]])

BLIND: Final = CausalContext("", "", EMPTY)
"""The empty context: a write that has seen nothing, and so becomes a sibling of whatever is there."""
