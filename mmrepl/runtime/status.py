"""
What a node tells about itself: plain data, for people, monitors and programs.

Lag is counted in operations: what this node has and the member has not said to have (``behind``), and what the member
has and this node lacks (``ahead``). In seconds it is how long ago the oldest operation was written that the member
lacks, by the stamps of the operations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmrepl.causality.version_vector import VersionVector
from mmrepl.clock.hlc import ms_of
from mmrepl.replication.peer import Peer, PeerState
from mmrepl.replication.pull import FRUITLESS
from mmrepl.store.keyspace import Record

if TYPE_CHECKING:
    from mmrepl.runtime.node import Node


def member_rows(node: Node) -> list[dict[str, Any]]:
    """One row a member, this node first, the others by name; then expected addresses that never answered."""
    core = node.core
    own = core.members.name
    rows = [{"name": own, "node": str(core.local.store.node), "state": "self", "address": node.address,
             "behind": 0, "ahead": 0, "lag_seconds": 0.0, "last_contact_seconds": 0.0}]  # fmt: skip
    for entry in core.members.active():
        if entry.name == own:
            continue
        peer = core.peers.get(entry.name)
        if peer is None:
            rows.append({"name": entry.name, "node": f"{entry.name}~{entry.incarnation:x}", "state": "connecting",
                         "address": entry.address, "behind": None, "ahead": None, "lag_seconds": None,
                         "last_contact_seconds": None})  # fmt: skip
        else:
            rows.append(_row(node, peer, entry.address))
    rows += [
        {"name": None, "node": None, "state": PeerState.CONNECTING.value, "address": address, "behind": None,
         "ahead": None, "lag_seconds": None, "last_contact_seconds": None}
        for address in sorted(core.members.expected)
    ]  # fmt: skip
    return rows


def _row(node: Node, peer: Peer, address: str) -> dict[str, Any]:
    core, now_ms = node.core, node._clock.monotonic_ms()
    vector, heartbeat_ms = core.local.durable_vector, node.limits.heartbeat_ms
    known = core.hearsay.known(peer.name)
    return {
        "name": peer.name,
        "node": f"{peer.name}~{core.members.entries[peer.name].incarnation:x}",
        "state": peer.state(now_ms, heartbeat_ms).value,
        "address": address,
        "behind": _distance(known, vector),
        "ahead": _distance(core.local.store.version, known),
        "lag_seconds": _lag_seconds(node, known, vector),
        "last_contact_seconds": peer.detector.silent_ms(now_ms) / 1000,
        "suspicion": round(peer.detector.phi(now_ms, heartbeat_ms), 2),
        "held": len(peer.held),
        "sent": peer.sent_count,
        "received": peer.received_count,
        "duplicates": peer.duplicate_count,
    }


def _distance(less: VersionVector, more: VersionVector) -> int:
    return sum(last - first + 1 for first, last in less.lacks(more).values())


def _lag_seconds(node: Node, known: VersionVector, vector: VersionVector) -> float:
    oldest: int | None = None
    for origin, (first, _) in known.lacks(vector).items():
        columns = node.core.local.store.log.origin(origin)
        if columns.base <= first <= columns.head and columns.stamps[first - columns.base]:
            stamp = columns.stamps[first - columns.base]
            oldest = stamp if oldest is None else min(oldest, stamp)
    return 0.0 if oldest is None else max(0.0, (node._clock.wall_ms() - ms_of(oldest)) / 1000)


def node_status(node: Node) -> dict[str, Any]:
    """Everything: see docs/reference/node.md for each entry."""
    core = node.core
    store = core.local.store
    keyspace, log = store.keyspace, store.log
    driver = node._driver
    siblings = _siblings(node)
    return {
        "name": node.name,
        "node": str(store.node),
        "cluster": core.options.cluster,
        "address": node.address,
        "client_address": node.client_address,
        "version": {str(origin): counter for origin, counter in store.version.items()},
        "members": member_rows(node),
        "tables": {
            name: {"keys": len(store.table(name)), "policy": store.table(name).resolver.policy}
            for name in store.table_names()
        },
        "keys": sum(len(table) for table in keyspace.tables.values()),
        "siblings": siblings,
        "lost": keyspace.lost_count,
        "log": {
            "operations": log.end - log.start,
            "segments": sum(len(columns.segments) for columns in log.columns),
            "durable_lag": log.end - core.local.durable if core.local.journal is not None else 0,
        },
        "stable": {str(origin): counter for origin, counter in core.watermark.items()},
        "waiting_for": sorted(core.members.expected),
        "holding_back": list(core.acks.holding_back()),
        "held_origins": list(core.holds()),
        "policy_differences": sorted(text for peer in core.up() for text in peer.differences),
        "blocked": sorted(core.blocked),
        "removed": core.members.entries[core.members.name].removed,
        "snapshots": {"sent": core.transfers.sent_count, "installed": core.transfers.installed_count},
        "storage": {
            "path": None if node.path is None else str(node.path),
            "failure": None if driver is None or driver.failure is None else str(driver.failure),
            "full": None if driver is None or driver.full is None else str(driver.full),
        },
        "doubt": core.local.doubt,
        "strangers": {
            "waiting": 0 if driver is None else len(driver.doorstep),
            "turned_away": 0 if driver is None else driver.doorstep.turned_away_count,
        },
        "complaints": list(core.complaints),
        "warnings": _warnings(node, siblings["most"]),
    }


def _siblings(node: Node) -> dict[str, int]:
    keys = most = 0
    for table in node.core.local.store.keyspace.tables.values():
        for key in table.unsettled:
            state = table.states[key]
            if isinstance(state, Record) and len(state.dots) > 1:
                keys, most = keys + 1, max(most, len(state.dots))
    return {"keys": keys, "most": most}


def _warnings(node: Node, most_siblings: int) -> list[str]:
    core = node.core
    warnings = [f"table policies differ: {text}" for peer in core.up() for text in peer.differences]
    warnings += [
        f"{peer.name!r} says that it has operations which it does not send when asked"
        for peer in core.up()
        if peer.fruitless >= FRUITLESS
    ]
    warnings += [f"stamps too far ahead are held: {held}" for held in core.holds()]
    if most_siblings >= node.limits.siblings_warn:
        warnings.append(f"a key has {most_siblings} siblings: read it and write it back with its context")
    if core.members.expected:
        warnings.append(
            f"nothing is forgotten before {', '.join(sorted(core.members.expected))} has been met;"
            " remove the address if nobody is there"
        )
    return warnings
