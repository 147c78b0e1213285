"""
Reading a key: its siblings meet their resolver.

Reading never writes (law L1). What comes out tells everything: the value that the resolver made, the siblings it was
made of, who lost to whom, and the context with which a write replaces just what was read.
"""

from __future__ import annotations

from attrs import frozen

from mmrepl.causality.context import CausalContext
from mmrepl.causality.dot import COUNTER_BITS, COUNTER_MAX
from mmrepl.errors import ResolverError
from mmrepl.resolvers import Resolution, Sibling
from mmrepl.store.store import Store
from mmrepl.store.table import Table
from mmrepl.types import Value


@frozen
class Read:
    """The outcome of reading one key at one replica."""

    table: str
    key: str
    resolution: Resolution
    siblings: tuple[Sibling, ...]  # live writes in canonical order, tombstones included
    context: CausalContext  # what this replica has seen of the key

    @property
    def present(self) -> bool:
        """Whether there is a value."""
        return self.resolution.present

    @property
    def value(self) -> Value:
        """The value, or None when the key is absent."""
        return self.resolution.value

    @property
    def payload(self) -> bytes | None:
        """The value's bytes, None when the key is absent."""
        return self.resolution.payload

    @property
    def losers(self) -> tuple[Sibling, ...]:
        """Live siblings that the resolver did not choose; empty unless it chooses."""
        return self.resolution.losers


def resolve(store: Store, table: Table, key: str) -> tuple[Resolution, tuple[Sibling, ...]]:
    """
    The siblings of a key and what its table's resolver makes of them.

    Raises:
        ResolverError: the resolver failed; names table and key. The siblings stay as they are.
    """
    siblings = tuple(store.siblings(table, key))
    try:
        return table.resolver.resolve(siblings), siblings
    except ResolverError as error:
        where = f"key {key!r} of table {table.name!r}" if table.name else f"key {key!r}"
        raise error.at(where) from error


def read(store: Store, table: Table, key: str) -> Read:
    """Everything about one key. Raises ResolverError as `resolve` does."""
    resolution, siblings = resolve(store, table, key)
    return Read(table.name, key, resolution, siblings, store.context(table, key))


def read_payload(store: Store, table: Table, key: str) -> bytes | None:
    """
    The value's bytes, None when the key is absent. The plain case touches no object but the bytes.

    Raises ResolverError as `resolve` does.
    """
    state = table.states.get(key)
    if state is None:
        return None
    if state.__class__ is int and not table.resolver.wraps:
        return store.log.columns[state >> COUNTER_BITS].payload(state & COUNTER_MAX)
    return resolve(store, table, key)[0].payload
