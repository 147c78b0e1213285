"""
The log of one node and what stands on it: entries, what is applied, members, branches, what of it is on disk.

Whoever leads appends here, whoever follows takes in and cuts off here, and a snapshot replaces it all. In every state
``applied <= committed <= last``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from itertools import accumulate
from typing import TYPE_CHECKING, Self

import msgspec

from mmrepl.single_master.branch import Branches
from mmrepl.single_master.configuration import Configuration, decode_configuration, encode_configuration, founding
from mmrepl.single_master.entry import MEMBERS, WRITE, Entry, decode_entries, encode_entry
from mmrepl.single_master.events import Applied, BranchDropped, BranchKept, Installed, MembersChanged
from mmrepl.single_master.feed import Feed
from mmrepl.single_master.following import included
from mmrepl.single_master.journal import Hard
from mmrepl.single_master.opening import Opened
from mmrepl.single_master.options import Failover, Options
from mmrepl.single_master.snapshot import Head, head_of
from mmrepl.single_master.state import SessionBounds, State
from mmrepl.types import Limits, NodeId
from mmrepl.wire.single_master import Runs

if TYPE_CHECKING:
    from mmrepl.single_master.acks import Acks
    from mmrepl.single_master.following import Following
    from mmrepl.single_master.merging import Merging
    from mmrepl.single_master.replication import Tenure


PATIENCE = 4
"""
So many times its bounds the log may grow while a member is sent a snapshot, and needs what follows on it. With manual
failover so many times its bytes, while it holds what would have to be kept as a branch if another one were promoted.
"""


class LogKeeper:
    """The part of a core that owns its log. Mutable."""

    acks: Acks
    merging: Merging
    following: Following
    tenure: Tenure | None

    def __init__(self, opened: Opened, options: Options, limits: Limits) -> None:
        self.options = options
        self.limits = limits
        self.node = opened.node
        self.log = opened.log
        self.journal = opened.journal
        self.state = opened.state
        self.history = opened.history
        self.pending: deque[Entry] = deque(opened.pending)  # the entries after `applied`, decoded
        self.committed = self.applied = opened.applied  # applied <= committed <= log.last
        self.feed = Feed(opened.applied)
        self.branches_kept = Branches(self.journal, limits, options.branches_max)
        for number, body in opened.branches:
            self.branches_kept.load(number, body)
        self.stamp = max([self.state.stamp, *(entry.stamp for entry in self.pending)])  # the highest in the log
        self.session_bounds = msgspec.msgpack.encode(SessionBounds(options.sessions_max, options.session_ms))
        self.events: list[object] = []
        self.unkept: tuple[int, int] | None = None  # see `_note_unkept`

    @property
    def last(self) -> int:
        """Index of the last entry."""
        return self.log.last

    @property
    def local(self) -> Self:
        """What it keeps; see `mmrepl.effects.Kept`."""
        return self

    @property
    def end(self) -> int:
        """The position behind the last entry."""
        return self.log.last + 1

    @property
    def durable(self) -> int:
        """Everything before this position is durable."""
        return self.journal.durable + 1

    @property
    def log_end(self) -> int:
        """Rises with everything new that is to be persisted; for hosts in memory."""
        return self.log.last

    @property
    def durable_end(self) -> int:
        """Up to which entry our own disk holds the log."""
        return self.journal.durable

    def notify(self, event: object) -> None:
        """Tell the host."""
        self.events.append(event)

    # -- appending

    def append(self, entry: Entry, body: bytes) -> int:
        """Put an entry after the last, in the present term; returns its index."""
        index = self.log.append_one(self.term, body)
        self.pending.append(entry)
        self.stamp = entry.stamp
        if entry.kind == MEMBERS:
            self._change_members(index, decode_configuration(entry.payload))
        return index

    term: int

    def append_all(self, entries: list[Entry], bodies: list[bytes]) -> int:
        """Put entries that another node has encoded after the last; returns the last index."""
        for entry, body in zip(entries, bodies, strict=True):
            self.append(entry, body)
        return self.log.last

    def take_in(self, runs: Runs, bodies: list[bytes], entries: list[Entry]) -> None:
        """Put entries of the leader's log after the last."""
        index, first = self.log.last, 0
        for term, count in runs:
            self.log.append(term, bodies[first : first + count])
            first += count
        self.pending.extend(entries)
        for entry in entries:
            index += 1
            if entry.kind == MEMBERS:
                self._change_members(index, decode_configuration(entry.payload))
        if entries:
            self.stamp = max(self.stamp, entries[-1].stamp)

    def found(self, founders: dict[NodeId, str], number: int, wall_ms: int) -> None:
        """The first entry of a cluster: who founds it."""
        payload = encode_configuration(founding(number, founders))
        entry = Entry(MEMBERS, max(wall_ms, self.stamp), payload=payload)
        self.append(entry, encode_entry(entry))

    def _change_members(self, index: int, members: Configuration) -> None:
        self.history.append(index, members)
        self._members_changed()

    def _members_changed(self) -> None:
        if self.tenure is not None:
            self.tenure.members_changed()
        current = self.history.current
        self.notify(MembersChanged(self.history.index, current.voters, current.learners))

    # -- applying

    def apply(self) -> list[int]:
        """Apply what is committed; returns where the members changed."""
        state, pending, changes = self.state, self.pending, []
        while self.applied < self.committed:
            entry = pending.popleft()
            index = self.applied = self.applied + 1
            outcome = state.apply(index, entry)
            if entry.session or entry.expect >= 0 or entry.kind:
                self.acks.applied(index, entry, outcome, state)
                if outcome:
                    self.feed.was_idle(index)
                if entry.expect >= 0:
                    self.merging.applied(index, held=not outcome)
                if entry.kind == MEMBERS:
                    changes.append(index)
        self.notify(Applied(self.applied))
        return changes

    # -- giving way

    def cut_off(self, index: int, wall_ms: int) -> None:
        """Our log after *index* gives way to the leader's, and is kept as a branch."""
        self._keep_branch(index, wall_ms, certain=True)
        for _ in range(self.log.last - max(index, self.applied)):
            self.pending.pop()
        self.log.truncate(index)
        self.journal.truncated(index)
        if self.history.truncate(index):
            self._members_changed()

    def _keep_branch(self, index: int, wall_ms: int, *, certain: bool) -> None:
        if index >= self.log.last:
            return
        cut = self.log.slice(index + 1, self.log.last)
        branch = self.branches_kept.keep(
            self.node, index, self.log.term_at(index), cut, wall_ms, certain=certain
        )  # fmt: skip
        if branch is not None:
            self.notify(BranchKept(branch.id, len(self.branches_kept.writes(branch))))
            for gone in self.branches_kept.surplus():
                self.notify(BranchDropped(gone.id, sum(e.kind == WRITE for e in self.branches_kept.writes(gone))))

    def install(self, head: Head, state: State, bodies: list[bytes], record_count: int, wall_ms: int) -> None:
        """
        Put a snapshot in place of the state and of the whole log.

        What our log had beyond what is known to be in the snapshot is kept as a branch, unless it is seen to be in it.
        """
        parted = self.following.parted
        if parted is not None:
            fork = max(parted, self.log.start)
        elif self.log.has(head.index, head.term):
            fork = max(head.index, self.log.start)  # log matching: up to there it is the cluster's
        else:
            # An elected cluster never goes back behind what was committed. Where people promote, our own disk may have
            # committed what the new primary never had, and nobody has shown us yet where the logs part.
            fork = self.log.start if self.options.failover is Failover.MANUAL else self.committed
        self.following.parted = None
        if fork < self.log.last:
            entries = decode_entries(self.log.slice(fork + 1, self.log.last).bodies, self.limits)
            if parted is not None or not included(entries, fork, state):
                self._keep_branch(fork, wall_ms, certain=parted is not None)
        self.state = state
        self.pending.clear()
        self.log.restart(head.index, head.term)
        self.unkept = None
        self.committed = self.applied = head.index
        self.feed.restart(head.index)
        self.stamp = max(self.stamp, state.stamp)
        self.history.replace(head.members_index, head.members)
        self.journal.install(head, bodies, record_count)
        self.notify(Installed(head.index))
        self._members_changed()

    # -- what is kept

    def note_hard(self, term: int, vote: str, *, leading: bool) -> None:
        """Term and vote go with the next commit."""
        self.journal.note_hard(Hard(term, vote, leading))

    def upkeep(self) -> None:
        """Write a checkpoint and cut the log, when it is longer or larger than wanted, or go on with that."""
        log, options = self.log, self.options
        if self.unkept is not None and self._lasting() >= self.unkept[1]:
            self.unkept = None
        if self.journal.is_rewriting:
            self.journal.go_on()
            self._after_cut()
            return
        if log.last - log.start <= options.log_entries and log.size_bytes <= options.log_bytes:
            return
        start = min(self.applied, max(log.start, log.last - options.log_margin))
        if log.size_bytes > options.log_bytes:
            start = max(start, min(self.applied, self._beyond_bytes(options.log_bytes // 2)))
        if self.tenure is not None and log.last - log.start <= PATIENCE * options.log_entries:
            floor = self.tenure.shipping.floor()
            start = start if floor is None or log.size_bytes > PATIENCE * options.log_bytes else min(start, floor)
        if options.failover is Failover.MANUAL and log.size_bytes <= PATIENCE * options.log_bytes:
            start = min(start, self._lasting())
        if start - log.start < max(1, (log.last - log.start) // 4):
            return
        self._note_unkept(start)
        members_index, members = self.history.at(self.applied)
        head = head_of(self.state, self.applied, log.term_at(self.applied), members_index, members)
        self.journal.save(self.state, head, start, self.limits)
        self._after_cut()

    def _after_cut(self) -> None:
        log = self.log
        self.history.compact(min(log.start, self.applied))
        self.state.forget_deletions(log.start)
        self.feed.cut(log.start)

    def _note_unkept(self, start: int) -> None:
        """
        The log is cut, up to *start*, for want of room: remember what might have become a branch, to say so in status.

        That is, first and last of the entries that are in no branch if another one is promoted before a majority was
        seen to hold them. Forgotten when it was, and with the process.
        """
        if self.options.failover is Failover.MANUAL and start > (lasting := self._lasting()):
            first = lasting + 1 if self.unkept is None else min(lasting + 1, self.unkept[0])
            self.unkept = (first, start)

    def _lasting(self) -> int:
        """
        Manual failover: what may still have to give way to another primary's log is not cut, but kept for a branch.

        Of a primary's log, what no majority holds; of a replica's, what was not seen to be the primary's.
        """
        return self.following.verified if self.tenure is None else self.tenure.held

    def _beyond_bytes(self, most: int) -> int:
        """The entry after which the log has at most so many bytes."""
        bodies = self.log.slice(self.log.start + 1, self.log.last).bodies
        sizes = list(accumulate(map(len, bodies)))
        return self.log.start + bisect_left(sizes, sizes[-1] - most) + 1

    def check_log(self) -> None:
        """Assert the invariants."""
        self.log.check()
        self.journal.check()
        self.state.check()
        self.feed.check(self.log.start, self.applied)
        assert self.log.start <= self.applied <= self.committed <= self.log.last
        assert len(self.pending) == self.log.last - self.applied
        assert self.history.index <= self.log.last
