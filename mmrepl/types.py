"""
Small values that everybody shares: who a node is, what a value may be, where the limits are.

A node is known by its *name*, which people choose, and by its *incarnation*, which the node draws whenever it
cannot prove that it remembers every dot it ever minted. Both together are the origin of its writes: `NodeId`.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from attrs import field, frozen, validators

Value: TypeAlias = "None | bool | int | float | str | bytes | list[Value] | dict[str, Value]"

DEFAULT_TABLE = ""
"""The table that a replica itself is a mapping of."""

DEPTH_MAX = 256
"""Deeper values than this are never decoded, whatever the limits say: the decoder recurses on the C stack."""


class NodeId(NamedTuple):
    """
    The origin of writes: a name and an incarnation. Ordered by name, then incarnation.

    >>> str(NodeId("paris", 0x1f))
    'paris~1f'
    >>> NodeId.parse("paris~1f")
    NodeId(name='paris', incarnation=31)
    """

    name: str
    incarnation: int  # 0 <= incarnation < 2**63; drawn at random, so that a node that forgot it draws another

    def __str__(self) -> str:
        return f"{self.name}~{self.incarnation:x}"

    @classmethod
    def parse(cls, text: str) -> NodeId:
        """The inverse of ``str``. Raises ValueError for anything else."""
        name, tilde, incarnation = text.rpartition("~")
        if not tilde:
            raise ValueError(f"{text!r} is no node id: expected name~incarnation in hexadecimal")
        return cls(name, int(incarnation, 16))


@frozen(kw_only=True)
class Limits:
    """
    Every bound of the store and of the protocol, in one place. Each is met by an error that names it.

    Bytes are bytes, times are milliseconds unless the name says otherwise.
    """

    frame_bytes: int = field(default=16 * 1024 * 1024, validator=validators.ge(1024))
    delta_bytes: int = field(default=1024 * 1024, validator=validators.ge(1024))  # where a frame is considered full
    frame_operations: int = field(default=4 * 1024 * 1024, validator=validators.ge(1))  # overwritten ones included
    depth: int = field(default=64, validator=validators.and_(validators.ge(1), validators.le(DEPTH_MAX)))
    key_bytes: int = field(default=1024, validator=validators.ge(1))
    value_bytes: int = field(default=1024 * 1024, validator=validators.ge(1))
    vector_entries: int = field(default=4096, validator=validators.ge(1))
    siblings_warn: int = field(default=25, validator=validators.ge(2))
    siblings_max: int = field(default=256, validator=validators.ge(2))
    peers: int = field(default=256, validator=validators.ge(1))
    tables: int = field(default=4096, validator=validators.and_(validators.ge(1), validators.le(65_535)))
    max_drift_ms: int = field(default=5 * 60 * 1000, validator=validators.ge(0))
    gossip_tick_ms: int = field(default=200, validator=validators.ge(1))
    heartbeat_ms: int = field(default=1000, validator=validators.ge(1))
    outbound_bytes: int = field(default=8 * 1024 * 1024, validator=validators.ge(1024))
    held_bytes: int = field(default=8 * 1024 * 1024, validator=validators.ge(1024))  # early deltas of one peer
    reconnect_ms_min: int = field(default=100, validator=validators.ge(1))
    reconnect_ms_max: int = field(default=30_000, validator=validators.ge(1))


DEFAULT_LIMITS = Limits()
