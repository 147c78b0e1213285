"""
Merges of branches under way.

What has to be written is worked out here, from what is applied here, and proposed at the primary, be that this node
or another. Each write holds only if its key is still as it was looked at. When they are applied, those that did not
hold are looked at again, a few times; then the branch is dropped. Broken off anywhere, it can be begun anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from attrs import define, field

from mmrepl.errors import LeadershipLost, MmreplError, QuorumLost, UsageError
from mmrepl.resolvers import Resolver
from mmrepl.single_master.branch import Branch, Ours, merge, outcomes
from mmrepl.single_master.entry import WRITE, Entry, decode_entries, encode_entry
from mmrepl.single_master.events import Failed, Merged
from mmrepl.wire.single_master import Submit, Submitted

if TYPE_CHECKING:
    from mmrepl.single_master.office import Office
    from mmrepl.single_master.reception import Peer

ATTEMPTS = 16
"""So often the keys that others wrote meanwhile are looked at again."""

BATCH = 1024
"""So many keys are proposed at once."""


@define(eq=False)
class _Merge:
    token: object
    branch: Branch
    resolver_of: Callable[[str], Resolver]
    ours: dict[tuple[str, str], Ours]
    left: list[tuple[str, str]]  # places not yet dealt with
    deadline_ms: int
    id: int = 0
    under_way: dict[int, tuple[str, str]] = field(factory=dict)  # index of each write that was proposed
    proposed: list[tuple[str, str]] = field(factory=list)
    last: int = 0  # the last of them; 0 while the primary has not said
    term: int = 0
    written: int = 0
    skipped: int = 0
    attempts: int = 0


class Merging:
    """The merges of one node, one at a time. Mutable."""

    def __init__(self, core: Office) -> None:
        self._core = core
        self._merge: _Merge | None = None
        self._id = 0
        self._unmet: set[int] = set()  # of what is under way: writes whose key was another one by then

    def begin(self, branch: Branch, resolver_of: Callable[[str], Resolver], now_ms: int, token: object) -> None:
        """Begin. Raises UsageError."""
        core = self._core
        if self._merge is not None:
            raise UsageError(f"branch {self._merge.branch.id!r} is being merged: one at a time")
        if core.applied < branch.fork:
            raise UsageError(f"this node has applied {core.applied} entries, the branch left the log at {branch.fork}")
        ours = outcomes(branch, core.state, core.limits)
        deadline_ms = now_ms + core.options.ack_timeout_ms
        self._merge = _Merge(token, branch, resolver_of, ours, list(ours), deadline_ms)

    def look(self, now_ms: int, wall_ms: int) -> None:
        """Propose what is next, or see what became of what was proposed."""
        core, merging = self._core, self._merge
        if merging is None:
            return
        if merging.proposed:
            if not merging.last or core.applied < merging.last:
                return
            if merging.last > core.log.start and core.log.term_at(merging.last) != merging.term:
                self._end(LeadershipLost("what merges the branch was cut off with a deposed primary: merge it again"))
                return
            self._settle(merging, now_ms)
        if not merging.left:
            core.branches_kept.drop(merging.branch.id)
            self._merge = None
            core.notify(Merged(merging.token, merging.branch.id, merging.written, merging.skipped))
            return
        try:
            self._propose(merging, wall_ms)
        except MmreplError as error:
            self._end(error)

    def _settle(self, merging: _Merge, now_ms: int) -> None:
        first = merging.last - len(merging.proposed) + 1
        again = [place for index, place in enumerate(merging.proposed, first) if index in self._unmet]
        merging.written += len(merging.proposed) - len(again)
        merging.left += again
        merging.attempts += bool(again)
        merging.proposed, merging.last = [], 0
        merging.deadline_ms = now_ms + self._core.options.ack_timeout_ms
        self._unmet = set()

    def _propose(self, merging: _Merge, wall_ms: int) -> None:
        core = self._core
        if merging.attempts >= ATTEMPTS:
            raise QuorumLost(f"keys of branch {merging.branch.id!r} are written faster than they are merged: try later")
        places, merging.left = merging.left[:BATCH], merging.left[BATCH:]
        wanted = merge(merging.branch, merging.ours, places, core.state, merging.resolver_of)
        merging.skipped += len(places) - len(wanted)
        if not wanted:
            return
        merging.proposed = [(write.table, write.key) for write in wanted]
        stamp = max(wall_ms, core.stamp)
        entries = [Entry(WRITE, stamp, w.table, w.key, w.payload, 0, 0, w.expect) for w in wanted]
        bodies = [encode_entry(entry) for entry in entries]
        decode_entries(bodies, core.limits)
        if core.tenure is not None:
            merging.last, merging.term = core.append_all(entries, bodies), core.term
            return
        leader = core.peers.get(core.leader)
        if leader is None or leader.link is None:
            raise core.not_primary("does not lead, and nobody is known who does, to merge the branch there")
        self._id += 1
        merging.id = self._id
        core.send(leader.link, Submit(core.term, merging.id, bodies))

    def applied(self, index: int, *, held: bool) -> None:
        """A write with a condition was applied, or its condition did not hold."""
        if self._merge is not None and not held:
            self._unmet.add(index)

    def _end(self, error: MmreplError) -> None:
        merging, self._merge = self._merge, None
        self._unmet = set()
        if merging is not None:
            self._core.notify(Failed(merging.token, error))

    # -- messages

    def submit(self, peer: Peer, message: Submit) -> None:
        """Another node merges a branch, and we lead. Raises FrameError."""
        core = self._core
        refusal = ""
        if core.tenure is None or core.promotion.is_handing_over:
            refusal = f"{core.node.name!r} takes no writes now"
        elif core.log.last - core.applied + len(message.bodies) > core.options.pending_max:
            refusal = f"too much waits at {core.node.name!r} already (pending_max)"
        elif not core.history.current.has(peer.node):
            refusal = f"{peer.name!r} is no member"
        entries = decode_entries(message.bodies, core.limits)
        if any(entry.kind != WRITE or entry.expect < 0 for entry in entries):
            refusal = "only writes with a condition are taken"
        last = core.append_all(entries, message.bodies) if not refusal and entries else 0
        core.send(peer.link, Submitted(core.term, message.id, last, refusal))

    def submitted(self, message: Submitted) -> None:
        """Where they stand."""
        merging = self._merge
        if merging is None or merging.id != message.id or not merging.proposed or merging.last:
            return
        if message.refusal:
            self._end(QuorumLost(f"the branch was not merged: {message.refusal}"))
        else:
            merging.last, merging.term = message.last, message.term

    def tick(self, now_ms: int) -> None:
        """Give up what takes too long."""
        if self._merge is not None and now_ms >= self._merge.deadline_ms:
            self._end(LeadershipLost(
                "what merges the branch was not applied in time; some of it may be: the branch is kept, merge it again"
            ))  # fmt: skip
