"""
One write, as people and tests see it.

Inside, the log keeps columns; an operation becomes an object only at the edges. It carries its dot, what it wrote
where, when its writer believed it to be, and its causal context: what the writer had seen *of that key* (law L3).
"""

from __future__ import annotations

from attrs import frozen

from mmrepl.causality.dot import Dot
from mmrepl.causality.version_vector import VersionVector


@frozen
class Operation:
    """A put, or a delete when the payload is None (a tombstone)."""

    dot: Dot
    table: str
    key: str
    timestamp: int  # hybrid logical timestamp, packed: milliseconds << 16 | counter
    payload: bytes | None  # the encoded value, as it was made at the writer; None is a tombstone
    context: VersionVector  # what the writer had seen of this key

    @property
    def is_tombstone(self) -> bool:
        """Whether this is a delete."""
        return self.payload is None

    def __repr__(self) -> str:
        what = "tombstone" if self.payload is None else f"{len(self.payload)} bytes"
        where = f"{self.table}/{self.key}" if self.table else self.key
        return f"<Operation {self.dot} on {where!r}: {what}, context {self.context}>"
