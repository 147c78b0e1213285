"""
The leader's side of the log: who is sent what, how far each has it, how far it is committed.

A `Tenure` is one term of office; it ends with it, and nothing of it is persisted. Entries are sent when they are on
our own disk, so a member confirms nothing that we could forget.

Heartbeats are numbered in *rounds*, and a member echoes the number. When a quorum has echoed a round, we were the
leader when it was sent: that keeps us in office (check-quorum), serves reads, and carries the lease. An answer to a
round from before the present connection is none: it may have been said by who that member was, before it lost its disk,
and come again by a network that repeats what it once carried.

An entry is committed when a quorum holds it and it is of our own term; those before it are committed with it. An
entry of an older term is never committed by counting: it could still be overwritten (Raft §5.4.2, figure 8). With
manual failover nobody is elected, and our own disk commits.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from mmrepl.single_master import quorum
from mmrepl.single_master.events import MemberChanged
from mmrepl.single_master.options import Ack, MemberState
from mmrepl.single_master.progress import Progress, Way
from mmrepl.single_master.shipping import Shipping
from mmrepl.wire.single_master import Append, Appended, ChunkWanted, Runs

if TYPE_CHECKING:
    from mmrepl.single_master.office import Office
    from mmrepl.single_master.reception import Peer

ROUNDS = 1024
"""So many heartbeats are remembered by when they were sent. Older ones confirm nothing any more."""


class Tenure:
    """A term in which we lead. Mutable."""

    def __init__(self, core: Office, now_ms: int) -> None:
        self._core = core
        self.first = core.log.last + 1  # our first entry: reads and changes of the members wait until it is committed
        self.progress: dict[str, Progress] = {}
        self.round = 0
        self._sent_ms: deque[tuple[int, int]] = deque()  # when each round was sent
        self.confirmed_round = 0  # the latest that a quorum has echoed
        self.confirmed_ms = now_ms  # when that was sent; beginning of the tenure, before any was
        self.since_ms = now_ms
        self.beat_at_ms = now_ms
        self.by_force = False  # somebody has answered for what may be lost
        self.lease_is_given_up = False  # a successor was told to take over: see `promotion`
        self._told_round: dict[str, int] = {}
        self._heard = True  # whether something was confirmed since the last turn
        self._echoed = True  # whether a round was
        self._is_told_later = False  # whether more was committed in this turn: see `_has_news`
        self.shipping = Shipping(core)
        self.members_changed()

    def members_changed(self) -> None:
        """The configuration is another one."""
        members = {member.name: member.node for member in self._core.history.current.members}
        members.pop(self._core.node.name, None)
        for name, progress in list(self.progress.items()):
            if members.get(name) != progress.node:  # gone, or back without its memory: what its predecessor confirmed
                del self.progress[name]  # is on no disk any more
        for name in sorted(members.keys() - self.progress.keys()):
            self.progress[name] = Progress(members[name], self._core.log.last + 1, since_round=self.round + 1)
            self.beat_at_ms = 0
        self._heard = self._echoed = True

    # -- how far

    def match(self, name: str) -> int:
        """Up to which entry the disk of a member is known to hold our log."""
        if name == self._core.node.name:
            return self._core.journal.durable
        progress = self.progress.get(name)
        return 0 if progress is None else progress.match

    @property
    def held(self) -> int:
        """Up to which entry the disks of a quorum are known to hold our log."""
        return quorum.reached(self._core.history.current.sets, self.match)

    def _round_of(self, name: str) -> int:
        if name == self._core.node.name:
            return self.round
        progress = self.progress.get(name)
        return 0 if progress is None else progress.round

    def threshold(self, ack: Ack) -> int:
        """Up to which entry writes are acknowledged to the level *ack*."""
        core = self._core
        own, members = core.journal.durable, core.history.current
        if ack == 0:
            return own
        if ack == "quorum":
            return min(core.committed, self.held) if core.is_manual else core.committed
        if isinstance(ack, int):
            others = [name for name in members.voters if name != core.node.name]
            return min(own, quorum.reached_by(others, self.match, ack))
        # Who goes is one of all until a majority knows that it goes: till then it may win an election, or be promoted.
        return min(own, *map(self.match, members.electorate))

    def wanted(self, ack: Ack) -> int:
        """How many members have to hold an entry, this one included."""
        members = self._core.history.current
        if isinstance(ack, int):
            return ack + 1
        return len(members.electorate) if ack == "all" else quorum.majority(len(members.voters))

    def holders(self, index: int) -> int:
        """How many voters hold an entry."""
        return sum(self.match(name) >= index for name in self._core.history.current.electorate)

    def advance(self) -> None:
        """Commit what may be committed."""
        core = self._core
        if not self._heard:
            return
        self._heard = False
        if self._echoed:
            self._echoed = False
            self._confirm_rounds()
        if core.is_manual:
            core.committed = max(core.committed, core.journal.durable)
            return
        index = self.held
        if index > core.committed and core.log.term_at(index) == core.term:
            core.committed = index
            self._is_told_later = core.acks.count > 0

    def _confirm_rounds(self) -> None:
        reached = quorum.reached(self._core.history.current.sets, self._round_of)
        if reached <= self.confirmed_round:
            return
        self.confirmed_round = reached
        while self._sent_ms and self._sent_ms[0][0] <= reached:
            self.confirmed_ms = max(self.confirmed_ms, self._sent_ms.popleft()[1])

    def became_durable(self) -> None:
        """Our own disk has more."""
        self._heard = True

    @property
    def has_committed(self) -> bool:
        """Whether an entry of our own term is committed: only then do we know what is."""
        return self._core.committed >= self.first

    # -- what members answer

    def appended(self, peer: Peer, message: Appended, now_ms: int) -> bool:
        """
        A member confirms, or says where its log parts from ours. Who is no member confirms nothing.

        Returns whether anything may follow from it now. Nothing does when a member confirms what is committed already,
        as in every quorum somebody is the last.
        """
        core = self._core
        progress = self.progress.get(peer.name)
        if progress is None or not core.history.current.has(peer.node) or message.round < progress.since_round:
            return False
        if message.round > progress.round:
            progress.round = min(message.round, self.round)
            self._heard = self._echoed = True
        if message.reset:
            if progress.way is not Way.SNAPSHOT:
                progress.match = 0
                self.shipping.begin(progress, now_ms)
        elif message.ok:
            if progress.confirmed(min(message.match, core.log.last)):
                self._heard = True
            if progress.way is Way.REPLICATE:
                self._look_whether_live(progress)
                return self._matters(progress)
        elif progress.way is not Way.SNAPSHOT:
            hint = min(message.match, core.log.last)
            if hint < core.log.start:
                self.shipping.begin(progress, now_ms)
            else:
                progress.rejected(core.log.latest_at_most(hint, message.hint_term))
        return True

    def _matters(self, progress: Progress) -> bool:
        """Whether somebody may have waited for what a member has just confirmed."""
        core = self._core
        return (
            progress.match > core.committed
            or progress.next <= core.journal.durable
            or progress.commit_told < core.committed
            or core.is_manual
            or core.reads.count > 0
            or core.promotion.is_handing_over
            or core.acks.beyond_quorum
        )

    def _look_whether_live(self, progress: Progress) -> None:
        """It is live once it lacks nothing but what is under way, until it lacks more than a window for a while."""
        core = self._core
        behind = core.journal.durable - progress.match
        if not progress.live and behind <= core.options.append_entries:
            progress.live = True
            core.notify(MemberChanged(progress.name, MemberState.LIVE))
        elif progress.live and behind > 4 * core.options.append_entries:
            progress.live = False
            core.notify(MemberChanged(progress.name, MemberState.CATCHING_UP, f"{behind} entries behind"))

    def wanted_chunk(self, peer: Peer, message: ChunkWanted, now_ms: int) -> None:
        """A member asks for a piece of its snapshot."""
        progress = self.progress.get(peer.name)
        if progress is not None:
            self.shipping.wanted(peer, progress, message, self.round, now_ms)

    def met(self, name: str) -> None:
        """A member is connected: what was under way before may not have arrived."""
        progress = self.progress.get(name)
        if progress is not None:
            self._told_round.pop(name, None)
            progress.since_round = self.round + 1
            self.beat_at_ms = 0  # with the next message it is asked for that round
            progress.probe(max(progress.match + 1, min(progress.next, self._core.log.last + 1)))
            progress.snapshot = 0

    def lost(self, name: str) -> None:
        """A member's connection is gone."""
        progress = self.progress.get(name)
        if progress is not None:
            progress.live = False

    # -- what members are sent

    def beat(self, now_ms: int) -> int:
        """Begin a round now; returns its number."""
        self.round += 1
        self._sent_ms.append((self.round, now_ms))
        if len(self._sent_ms) > ROUNDS:
            self._sent_ms.popleft()
        self.beat_at_ms = now_ms + self._core.options.heartbeat_ms
        self._heard = self._echoed = True
        return self.round

    def send(self, now_ms: int) -> None:
        """Everything that may be sent now: entries, news of what is committed, heartbeats, pieces of snapshots."""
        core = self._core
        if now_ms >= self.beat_at_ms:
            self.beat(now_ms)
        made: dict[tuple[int, int], Append] = {}  # the same message for all who stand at the same entry
        for peer in core.reception.up():
            progress = self.progress.get(peer.name)
            if progress is None or not core.history.current.has(peer.node):
                continue
            due = self._told_round.get(peer.name) != self.round
            self._told_round[peer.name] = self.round
            if progress.way is Way.SNAPSHOT:
                self.shipping.ship(peer, progress, self.round, now_ms)
                if due:
                    self._heartbeat(peer, progress)
            elif progress.way is Way.PROBE:
                self._probe(peer, progress, now_ms, due=due)
            else:
                self._replicate(peer, progress, made, now_ms, due=due)
        self._is_told_later = False

    def _replicate(
        self, peer: Peer, progress: Progress, made: dict[tuple[int, int], Append], now_ms: int, *, due: bool
    ) -> None:
        core, options = self._core, self._core.options
        durable = core.journal.durable
        while (
            progress.next <= durable
            and not peer.congested
            and not progress.is_full(options.inflight_messages, options.inflight_bytes)
        ):
            if progress.next <= core.log.start:
                self.shipping.begin(progress, now_ms)
                self.shipping.ship(peer, progress, self.round, now_ms)
                return
            key = (progress.next, self.round)
            message = made.get(key)
            if message is None:
                message = made[key] = self._append(progress.next)
            size = sum(map(len, message.bodies))
            core.send(peer.link, message)
            progress.sent(message.prev_index + len(message.bodies), size)
            progress.commit_told = message.commit
            due = False
        if progress.next <= core.log.start:  # it needs a snapshot, and has to take first what is under way
            if due:
                self._heartbeat(peer, progress)
        elif due or (progress.commit_told < min(core.committed, progress.next - 1) and self._has_news()):
            key = (-progress.next, self.round)
            message = made.get(key)
            if message is None:
                message = made[key] = self._append(progress.next, empty=True)
            core.send(peer.link, message)
            progress.commit_told = core.committed

    def _has_news(self) -> bool:
        """
        Whether what is committed is worth a message of its own.

        Not in the turn that committed it, for that one answers the writers, and whoever writes one thing after the
        other is heard first in the next. Nor while entries are on their way to our disk: the news go with them.
        """
        if self._is_told_later:
            self._core.look_again()
            return False
        return self._core.log.last <= self._core.journal.durable

    def _probe(self, peer: Peer, progress: Progress, now_ms: int, *, due: bool) -> None:
        core = self._core
        if progress.next <= core.log.start:
            self.shipping.begin(progress, now_ms)
            self.shipping.ship(peer, progress, self.round, now_ms)
            if due:
                self._heartbeat(peer, progress)
            return
        if progress.waiting and now_ms < progress.probe_after_ms:
            if due:
                self._heartbeat(peer, progress)
            return
        progress.waiting = True
        progress.probe_after_ms = now_ms + 2 * core.options.heartbeat_ms
        core.send(peer.link, self._append(progress.next, empty=peer.congested))

    def _heartbeat(self, peer: Peer, progress: Progress) -> None:
        """Say that we are there, of a place in the log that is known to be common."""
        core = self._core
        at = progress.match if progress.match >= core.log.start else 0
        term = core.log.term_at(at) if at else 0
        core.send(peer.link, Append(core.term, self.round, at, term, min(core.committed, at), [], []))

    def _append(self, next: int, *, empty: bool = False) -> Append:
        core, options = self._core, self._core.options
        previous = next - 1
        runs: Runs = []
        bodies: list[bytes] = []
        if not empty and next <= core.journal.durable:
            runs, bodies, _ = core.log.slice(
                next, core.journal.durable, count_max=options.append_entries, bytes_max=core.limits.delta_bytes
            )
        return Append(
            core.term, self.round, previous, core.log.term_at(previous), core.committed, runs, bodies
        )  # fmt: skip

    # -- time

    def tick(self, now_ms: int) -> bool:
        """Notice who is silent. Returns whether we are still in office: not, when no quorum has answered for long."""
        core = self._core
        self.shipping.tick(now_ms)
        for progress in self.progress.values():
            if progress.match >= core.journal.durable:
                progress.behind_since_ms = None
            elif progress.behind_since_ms is None:
                progress.behind_since_ms = now_ms
        if core.is_manual:
            return True
        self._confirm_rounds()
        return now_ms - self.confirmed_ms <= core.options.election_ms_max

    def has_lease(self, now_ms: int) -> bool:
        """Whether nobody else can have been elected yet. HAZARD: see `mmrepl.single_master.reads`."""
        core = self._core
        if core.is_manual or self.lease_is_given_up or not self.has_committed:
            return False
        if not self.progress:
            return True
        return self.confirmed_round > 0 and now_ms < self.confirmed_ms + core.options.election_ms_min * 9 // 10

    def check(self) -> None:
        """Assert the invariants."""
        core = self._core
        members = {member.name for member in core.history.current.members} - {core.node.name}
        assert self.progress.keys() == members
        for progress in self.progress.values():
            progress.check()
            assert progress.match <= core.journal.durable
            assert progress.round <= self.round
        assert self.confirmed_round <= self.round
