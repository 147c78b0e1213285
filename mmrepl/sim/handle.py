"""
A node as its clients see it: put, get, read, delete, tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from attrs import frozen

from mmrepl.causality.context import CausalContext
from mmrepl.causality.dot import Dot
from mmrepl.causality.version_vector import VersionVector
from mmrepl.ports import Durability
from mmrepl.store.read import Read, read_payload
from mmrepl.types import DEFAULT_TABLE, Value
from mmrepl.values import check_key, check_table, decode, encode

if TYPE_CHECKING:
    from mmrepl.sim.cluster import Cluster
    from mmrepl.sim.node import SimNode


SESSION = 1
"""Whoever holds a handle: one session at its node."""


@frozen
class Receipt:
    """The dot of a write, and the context that covers it and what it replaced."""

    dot: Dot
    context: CausalContext


class TableHandle:
    """One table of a simulated node. Verbs and errors are those of `mmrepl.Replica`."""

    def __init__(self, cluster: Cluster, node: SimNode, name: str) -> None:
        self._cluster = cluster
        self._node = node
        self._table = name

    def put(
        self,
        key: str,
        value: Value,
        *,
        context: CausalContext | None = None,
        durability: Durability | str = Durability.SYNC,
        acks: int | str = 1,
    ) -> Receipt:
        """Write. The acknowledgement, once it is due, stands in the history. No time passes."""
        check_key(key)
        return self._write(key, encode(value, self._cluster.settings.limits), context, durability, acks)

    def delete(
        self,
        key: str,
        *,
        context: CausalContext | None = None,
        durability: Durability | str = Durability.SYNC,
        acks: int | str = 1,
    ) -> Receipt:
        """Write a tombstone."""
        check_key(key)
        return self._write(key, None, context, durability, acks)

    def _write(
        self, key: str, payload: bytes | None, context: CausalContext | None, durability: Durability | str,
        acks: int | str,
    ) -> Receipt:  # fmt: skip
        node = self._node
        level = Durability.parse(durability)
        counter = node.write(self._table, key, payload, context=context, durability=level, acks=acks, session=SESSION)
        store = node.store_core.local.store
        receipt = Receipt(Dot(store.node, counter), store.context(store.table(self._table), key))
        self._cluster.world.run_until(self._cluster.world.now_ms)
        return receipt

    def read(self, key: str) -> Read:
        """Value, siblings, context, and who lost to whom."""
        return self._node.read(self._table, key, SESSION)

    def get(self, key: str, default: Value = None) -> Value:
        """The value, or *default* when the key is absent."""
        store = self._node.store_core.local.store
        payload = read_payload(store, store.table(self._table), key)
        return default if payload is None else decode(payload)

    def __getitem__(self, key: str) -> Value:
        store = self._node.store_core.local.store
        payload = read_payload(store, store.table(self._table), key)
        if payload is None:
            raise KeyError(key)
        return decode(payload)

    def __setitem__(self, key: str, value: Any) -> None:
        self.put(key, value)

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        self.delete(key)

    def __contains__(self, key: object) -> bool:
        store = self._node.store_core.local.store
        return key in store.table(self._table)

    def __iter__(self) -> Iterator[str]:
        store = self._node.store_core.local.store
        return iter(list(store.table(self._table).keys()))

    def __len__(self) -> int:
        store = self._node.store_core.local.store
        return len(store.table(self._table))


class NodeHandle(TableHandle):
    """A simulated node: a mapping of its default table, and the way to its others."""

    def __init__(self, cluster: Cluster, node: SimNode) -> None:
        super().__init__(cluster, node, DEFAULT_TABLE)

    @property
    def name(self) -> str:
        """Its name."""
        return self._node.name

    @property
    def is_up(self) -> bool:
        """Whether its process runs."""
        return self._node.is_up

    @property
    def version(self) -> VersionVector:
        """Everything that it has applied."""
        return self._node.store_core.local.store.version

    def table(self, name: str) -> TableHandle:
        """A table."""
        check_table(name)
        return TableHandle(self._cluster, self._node, name)

    def __repr__(self) -> str:
        return f"<{self.name} at {self._cluster.now_ms} ms{'' if self.is_up else ', down'}>"
