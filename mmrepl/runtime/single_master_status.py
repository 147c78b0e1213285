"""
What a single-master node tells about itself: plain data, for people, monitors and programs.

Lag is counted in entries, and in seconds by the stamps of the entries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmrepl.clock.instants import utc_text
from mmrepl.single_master.branch import BranchInfo
from mmrepl.single_master.options import Failover
from mmrepl.single_master.status import MemberNow

if TYPE_CHECKING:
    from mmrepl.runtime.single_master_node import SingleMasterNode
    from mmrepl.single_master.core import SingleMaster


def single_master_members(node: SingleMasterNode) -> list[dict[str, Any]]:
    """One row a member or connected node, this node first, the others by name."""
    rows = [
        {
            "name": one.name,
            "node": str(one.node),
            "state": "self" if one.name == node.name else one.state.value,
            "role": _role(node, one),
            "address": node.address if one.name == node.name and node.address else one.address,
            "match": one.match,
            "behind": one.behind_entries,
            "ahead": None,
            "lag_seconds": _seconds(one.behind_ms),
            "last_contact_seconds": _seconds(one.heard_ms),
            "why": one.text,
        }
        for one in node.core.members_now(node._clock.monotonic_ms())
    ]
    return sorted(rows, key=lambda row: (row["name"] != node.name, str(row["name"])))


def _role(node: SingleMasterNode, one: MemberNow) -> str:
    if not one.is_member:
        return "no member"
    if one.name == node.core.leader:
        return "leader" if node.options.failover is Failover.AUTOMATIC else "primary"
    return "voter" if one.is_voter else "learner"


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000


def single_master_status(node: SingleMasterNode) -> dict[str, Any]:
    """Everything: see docs/reference/single-master-node.md for each entry."""
    core, driver = node.core, node._driver
    return {
        "name": node.name,
        "node": str(core.node),
        "mode": "single-master",
        "cluster": node.options.cluster,
        "address": node.address,
        "client_address": node.client_address,
        "role": core.role.value,
        "term": core.term,
        "leader": core.leader,
        "failover": node.options.failover.value,
        "ack": node.options.ack,
        "log": {
            "first": core.log.start + 1,
            "last": core.log.last,
            "committed": core.committed,
            "applied": core.applied,
            "durable": core.journal.durable,
        },
        "keys": sum(node.count(table=name) for name in core.tables()),
        "tables": {name: {"keys": node.count(table=name)} for name in core.tables()},
        "members": single_master_members(node),
        "branches": [branch_row(branch) for branch in core.branches()],
        "blocked": sorted(core.blocked),
        "doubt": core.doubt,
        "storage": {
            "path": None if node.path is None else str(node.path),
            "failure": None if driver is None or driver.failure is None else str(driver.failure),
            "full": None if driver is None or driver.full is None else str(driver.full),
        },
        "strangers": {
            "waiting": 0 if driver is None else len(driver.doorstep),
            "turned_away": 0 if driver is None else driver.doorstep.turned_away_count,
        },
        "warnings": _warnings(core),
        "complaints": list(core.complaints),
    }


def _warnings(core: SingleMaster) -> list[str]:
    """What somebody should do something about."""
    warnings = [
        f"branch {branch.id} holds {branch.writes} writes that the cluster has not: merge it or drop it"
        for branch in core.branches()
    ]
    if core.unkept is not None:
        first, last = core.unkept
        warnings.append(
            f"entries {first} to {last} were cut off the log for want of room (log_bytes) before a majority was seen to"
            " hold them: if another primary is promoted now, they will be in no branch. Let the replicas catch up first"
        )
    return warnings


def branch_row(branch: BranchInfo) -> dict[str, Any]:
    """A branch, as it is listed."""
    return {
        "branch": branch.id,
        "fork": branch.fork,
        "last": branch.last,
        "terms": list(branch.terms),
        "writes": branch.writes,
        "keys": branch.keys,
        "certain": branch.certain,
        "kept": utc_text(branch.kept_ms),
    }
