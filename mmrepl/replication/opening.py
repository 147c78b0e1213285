"""
Opening a store: from a storage to a core, and the question whether the memory can be trusted.

A new storage gets a new incarnation. So does one that is in doubt: copied, restored, its unsynced tail lost, or still
marked, because the process ended while it answered writes that were not yet on disk. By law L2 it must not mint another
dot under the old one. The old origin stays in its vector, its own old writes are just
writes of somebody known, and what it has forgotten of them its peers give back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mmrepl.errors import StoreForeign
from mmrepl.ports import Rng, Storage
from mmrepl.replication.continuity import CONTINUED, CONTINUED_MAX, continued, encoded
from mmrepl.replication.local import LocalCore, new_incarnation
from mmrepl.resolvers import Resolver
from mmrepl.store.journal import MARK, Journal, load, saved_node
from mmrepl.store.store import Store
from mmrepl.types import DEFAULT_LIMITS, Limits, NodeId

UNFINISHED: Final = (
    "its process ended while writes of level batch or none were answered before they were on disk: "
    "the latest may be lost"
)


def open_core(
    name: str,
    storage: Storage | None,
    rng: Rng,
    *,
    default: Resolver | None = None,
    tables: Mapping[str, Resolver] | None = None,
    limits: Limits = DEFAULT_LIMITS,
    retain: bool = False,
) -> tuple[LocalCore, Mapping[str, bytes], str | None]:
    """
    The core of node *name* over *storage*, what its meta map holds, and why it took a new incarnation, if it did.

    Raises:
        StoreForeign: the storage belongs to a node of another name.
        StoreCorrupt, StoreLocked and others: as the storage says.
    """
    if storage is None:
        fresh = Store(new_incarnation(name, rng), default=default, tables=tables, limits=limits, retain=retain)
        return LocalCore(fresh, rng=rng), {}, None
    loaded = storage.load()
    doubt = loaded.doubt
    node = saved_node(loaded.meta)
    if node is not None and node.name != name:
        raise StoreForeign(f"this store belongs to node {node.name!r}, not to {name!r}: give the right name or file")
    store = Store(
        new_incarnation(name, rng) if node is None else node,
        default=default,
        tables=tables,
        limits=limits,
        retain=retain,
    )
    continues: tuple[NodeId, ...] = ()
    if node is None:
        journal = Journal(store)
        journal.note_state()
    else:
        journal = load(store, loaded)
        if MARK in loaded.meta:
            doubt = doubt or UNFINISHED
            journal.note(MARK, None)
        continues = continued(loaded.meta)
        if doubt is not None:
            # What the process had not yet written nobody was told of. Of what the disk lost, nobody can say that.
            continues = (*continues, node)[-CONTINUED_MAX:] if loaded.doubt is None else ()
            journal.note(CONTINUED, encoded(continues))
            journal.become(new_incarnation(name, rng))
    core = LocalCore(store, journal, rng, continues)
    core.doubt = doubt if node is not None else None
    return core, loaded.meta, core.doubt
