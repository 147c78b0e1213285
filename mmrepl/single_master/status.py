"""
What is known of each member, as plain data for status.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from mmrepl.single_master.options import MemberState
from mmrepl.types import NodeId

if TYPE_CHECKING:
    from mmrepl.single_master.core import SingleMaster


@frozen
class MemberNow:
    """One member, or a connected node that is none yet, as this node sees it."""

    name: str
    node: NodeId
    address: str
    is_member: bool  # false for a node that would have to be added, or added again
    is_voter: bool
    state: MemberState
    match: int | None  # up to which entry its disk holds the log; known to the leader only
    behind_entries: int | None
    behind_ms: int | None  # since when it has lacked something; 0 when it lacks nothing
    heard_ms: int | None  # how long ago; None where there is no connection
    text: str  # why its last connection went


def members_now(core: SingleMaster, now_ms: int) -> list[MemberNow]:
    """Everybody who is a member or connected, ourselves included, in order of names."""
    current = core.history.current
    names = {member.name for member in current.members} | {peer.name for peer in core.reception.up()} | {core.node.name}
    return [_one(core, name, now_ms) for name in sorted(names)]


def _one(core: SingleMaster, name: str, now_ms: int) -> MemberNow:
    current, tenure = core.history.current, core.tenure
    member, peer = current.member(name), core.peers.get(name)
    if name == core.node.name:
        entries, age_ms = core.reads.behind(now_ms)
        state = MemberState.LIVE if core.leader else MemberState.CATCHING_UP
        return MemberNow(
            name, core.node, core.address, current.has(core.node), current.is_voter(name), state,
            core.journal.durable, entries, age_ms, 0, "",
        )  # fmt: skip
    node = peer.node if peer is not None else NodeId(name, member.incarnation if member is not None else 0)
    progress = tenure.progress.get(name) if tenure is not None else None
    match = behind = age = None
    if progress is not None:
        match = progress.match
        behind = max(0, core.journal.durable - match)
        age = 0 if progress.behind_since_ms is None or not behind else now_ms - progress.behind_since_ms
    silent_ms = None if peer is None or peer.link is None else now_ms - peer.heard_ms
    if silent_ms is None:
        dialling = any(link.theirs is None and link.dialled == (member.address if member else "") for link in
                       core.reception.links.values())  # fmt: skip
        state = MemberState.CONNECTING if dialling else MemberState.DISCONNECTED
    elif silent_ms > core.options.election_ms_min and (tenure is not None or name == core.leader):
        state = MemberState.FAILING
    elif progress is not None and not progress.live:
        state = MemberState.CATCHING_UP
    else:
        state = MemberState.LIVE
    return MemberNow(
        name,
        node,
        peer.hello.address if peer is not None else member.address if member is not None else "",
        current.has(node),
        current.has(node) and current.is_voter(name),
        state,
        match,
        behind,
        age,
        silent_ms,
        peer.text if peer is not None else "",
    )
