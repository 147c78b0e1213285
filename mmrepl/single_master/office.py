"""
Who leads: the term, the vote, the role, and what has to be ended and begun when they change.

Also what all the parts of a core share: sending, telling the host, remembering complaints.
"""

from __future__ import annotations

from collections import deque

from mmrepl.effects import Envelope
from mmrepl.errors import NotPrimary, RemovedMember
from mmrepl.ports import Rng
from mmrepl.single_master.acks import Acks
from mmrepl.single_master.changing import LogKeeper
from mmrepl.single_master.election import Election
from mmrepl.single_master.entry import NOOP, Entry, encode_entry
from mmrepl.single_master.events import RoleChanged
from mmrepl.single_master.following import Following
from mmrepl.single_master.members import Members
from mmrepl.single_master.merging import Merging
from mmrepl.single_master.opening import Opened
from mmrepl.single_master.options import Failover, Options, Role
from mmrepl.single_master.promotion import Promotion
from mmrepl.single_master.reads import Reads
from mmrepl.single_master.reception import Peer, Reception
from mmrepl.single_master.replication import Tenure
from mmrepl.types import Limits, NodeId
from mmrepl.wire.messages import Message

COMPLAINTS = 32
"""So many of the latest complaints about peers are kept for status."""

WAITING_MAX = 4096
"""So many messages wait for the disk."""


class Office(LogKeeper):
    """A node's term, vote and role, over its log. Mutable."""

    def __init__(self, opened: Opened, rng: Rng, options: Options, limits: Limits, now_ms: int) -> None:
        super().__init__(opened, options, limits)
        self.rng = rng
        self.instance = rng.getrandbits(63)
        self.address = options.address
        self.doubt = opened.doubt  # why this node is a new incarnation
        self.is_manual = options.failover is Failover.MANUAL
        self.term, self.vote = opened.hard.term, opened.hard.vote
        self.term_position = 0  # of the journal, at which term and vote are durable
        self.role = Role.REPLICA if self.is_manual else Role.FOLLOWER
        self.leader = ""  # who takes writes, as far as we know
        self.peers: dict[str, Peer] = {}
        self.blocked: set[str] = set()  # names kept away, for drills
        self.removed: str | None = None  # we were told that we do not belong to the cluster any more
        self.complaints: deque[str] = deque(maxlen=COMPLAINTS)  # why connections were refused or lost, latest last
        self.envelopes: list[Envelope] = []
        self.closing: list[tuple[int, str]] = []
        # Messages that a commit has to make true first. Of too many the oldest is dropped, as a network might have.
        self._waiting: deque[tuple[int, Envelope]] = deque(maxlen=WAITING_MAX)
        self._tick_at_ms = now_ms
        self._again = False  # whether another turn is wanted at once
        self._wall_ms = 0
        self.tenure: Tenure | None = None
        self.reception = Reception(self)
        self.acks = Acks(self.notify)
        self.reads = Reads(self)
        self.following = Following(self)
        self.promotion = Promotion(self)
        self.election = Election(self, now_ms)
        self.members = Members(self)
        self.merging = Merging(self)
        self.has_belonged = bool(self.term)  # so that we may have heard of a leader just before we started

    # -- who leads

    def set_term(self, term: int, vote: str = "", *, leading: bool = False) -> None:
        """Put term and vote into the next commit; what is said from now on waits for it."""
        assert self.tenure is None, "an office is of one term"
        self.term, self.vote = term, vote
        self.has_belonged = True
        self.note_hard(term, vote, leading=leading)
        self.term_position = self.journal.pending

    def next_term(self) -> int:
        """The next term that this node may draw."""
        return self.promotion.next_term()

    def become_candidate(self) -> None:
        """We campaign, or ask whether we should."""
        if self.is_manual and self.election.is_surveying:
            return
        self._be(Role.CANDIDATE, "")

    def follow(self, leader: str) -> None:
        """Follow *leader*; nobody, when empty."""
        if leader != self.leader:
            self.following.begin()
        self._be(Role.REPLICA if self.is_manual else Role.FOLLOWER, leader)

    def step_down(self, term: int, why: str) -> None:
        """Lead no more, and campaign no more; enter *term* if it is a later one."""
        was_leading = self.tenure is not None
        self.tenure = None
        self.election.stop()
        if term > self.term or was_leading:
            self.set_term(max(term, self.term), self.vote if term <= self.term else "")
        if was_leading:
            self.acks.depose(f"{self.node.name!r} was deposed, {why}")
            self.election.reset(self._tick_at_ms)
        self.following.begin()
        self.promotion.lost_vote(why)
        self._be(Role.REPLICA if self.is_manual else Role.FOLLOWER, "", why)

    def lead(self, founders: dict[NodeId, str] | None) -> None:
        """We were elected, or promoted. With *founders* this founds the cluster."""
        if self.is_manual:
            self.set_term(self.term, self.vote, leading=True)
        self._take_office(self._tick_at_ms)
        assert self.tenure is not None
        self.tenure.by_force = self.promotion.wins_by_force
        if founders is not None:
            self.found(founders, self.rng.getrandbits(62) | 1, self._wall_ms)
        self._begin_term()
        if self.is_manual and self.members.has_lost_its_place():
            self.members.take_own_place(self._wall_ms)
        self.promotion.led()

    def _begin_term(self) -> None:
        """An entry of our own: when it is committed, we know what is."""
        entry = Entry(NOOP, max(self._wall_ms, self.stamp))
        self.append(entry, encode_entry(entry))

    def _take_office(self, now_ms: int) -> None:
        self.tenure = Tenure(self, now_ms)
        self._be(Role.PRIMARY if self.is_manual else Role.LEADER, self.node.name)

    def _be(self, role: Role, leader: str, text: str = "") -> None:
        if (role, leader) == (self.role, self.leader):
            return
        self.role, self.leader = role, leader
        self.notify(RoleChanged(role, self.term, leader, text))
        self.reads.leader_changed()
        self.promotion.leader_is(leader)

    def was_removed(self, text: str) -> None:
        """A member has told us that we do not belong to the cluster any more."""
        self.removed = text
        self.step_down(self.term, "it was removed from the cluster")

    def not_primary(self, what: str) -> NotPrimary | RemovedMember:
        """The error for what only the leader does; it says who that is."""
        if self.removed is not None:
            return RemovedMember(f"{self.node} does not belong to the cluster any more: {self.removed}")
        peer = self.peers.get(self.leader)
        member = self.history.current.member(self.leader)
        address = peer.hello.address if peer is not None else member.address if member is not None else ""
        client = peer.hello.client if peer is not None else ""
        who = f"{self.leader!r} is the primary" if self.leader and self.tenure is None else "nobody is known who does"
        if self.promotion.is_handing_over:
            who = "it is handing over"
        return NotPrimary(f"{self.node.name!r} {what}: {who}", primary=client, name=self.leader, address=address)

    # -- for the parts

    def met(self, peer: Peer, now_ms: int) -> None:
        """A peer's hello was good."""
        del now_ms
        if self.tenure is not None:
            self.tenure.met(peer.name)
        elif self.leader == peer.name:
            self.reads.leader_changed()
        self.election.met(peer)

    def send(self, link: int | None, message: Message) -> None:
        """Send what is true already."""
        if link is not None:
            self.envelopes.append(Envelope(link, message))

    def say(self, link: int | None, message: Message) -> None:
        """Send as soon as all that is known now is on disk."""
        if link is not None:
            self._waiting.append((self.journal.pending, Envelope(link, message)))

    def look_again(self) -> None:
        """There is something left for another turn, at once."""
        self._again = True

    def complain(self, text: str) -> None:
        """Remember for status what was wrong with a connection."""
        if text in self.complaints:
            self.complaints.remove(text)
        self.complaints.append(text)
