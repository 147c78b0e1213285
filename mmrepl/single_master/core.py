"""
The single-master core: the verbs, and nothing that would fit elsewhere.

The host drives it as it drives the multi-master core: it is told of connections, messages and the time, and asks with
``ready`` what is to be done. Verbs of clients return at once and are answered by `mmrepl.single_master.events`.

*Persist before say*: nothing is told to anybody about an entry, a term or a vote before it is on our own disk. What
depends on the disk waits in `say` for the commit that makes it true; the rest speaks of durable things only.

Who does what: `election` and `promotion` decide who leads; a leader's `Tenure` and a follower's `Following` move the
log; `acks`, `reads` and `merging` keep those who wait; `members` changes who belongs; `reception` is the door.
"""

from __future__ import annotations

from mmrepl.effects import Effects, Persist
from mmrepl.errors import (
    FrameError,
    PeerError,
)
from mmrepl.ports import Rng, Storage
from mmrepl.single_master.opening import Opened, open_store
from mmrepl.single_master.options import Options, Role
from mmrepl.single_master.reception import Link, Peer
from mmrepl.single_master.serving import Serving
from mmrepl.single_master.status import MemberNow, members_now
from mmrepl.types import DEFAULT_LIMITS, Limits
from mmrepl.wire.greeting import Refusal
from mmrepl.wire.messages import Hello, Message, Proof, Refuse
from mmrepl.wire.single_master import (
    SINGLE_MASTER_NUMBERS,
    Append,
    Appended,
    Campaign,
    Chunk,
    ChunkWanted,
    Elsewhere,
    ReadAnswer,
    ReadAsk,
    SingleMasterMessage,
    Submit,
    Submitted,
    TakeOver,
    Vote,
)


def open_single_master(
    name: str,
    storage: Storage | None,
    rng: Rng,
    options: Options,
    *,
    limits: Limits = DEFAULT_LIMITS,
    now_ms: int = 0,
) -> SingleMaster:
    """The core of node *name* over *storage*; in memory without one. Raises as `open_store`."""
    return SingleMaster(open_store(name, storage, rng, options, limits), rng, options, limits, now_ms)


class SingleMaster(Serving):
    """One node of a cluster. Mutable, not thread-safe; *now_ms* is monotonic, *wall_ms* since 1970."""

    def __init__(self, opened: Opened, rng: Rng, options: Options, limits: Limits, now_ms: int) -> None:
        super().__init__(opened, rng, options, limits, now_ms)
        self._can_wait = False  # whether the message at hand asks for nothing before the next turn
        self._tick_ms = max(1, min(options.heartbeat_ms // 2, limits.gossip_tick_ms))
        if opened.hard.leading and self.is_manual and opened.doubt is None and self.history.current.has(self.node):
            self._take_office(now_ms)
            self._begin_term()

    # -- verbs of the host: connections

    def connected(self, link: int, dialled: str, now_ms: int, wall_ms: int) -> None:
        """A connection is open; *dialled* is the address if it was us who dialled."""
        self.reception.connected(link, dialled, now_ms, wall_ms)

    def disconnected(self, link: int, reason: str, now_ms: int) -> None:
        """A connection is gone."""
        del now_ms
        self.reception.disconnected(link, reason)

    def heard(self, link: int, now_ms: int) -> None:
        """Something of a message came on a connection: it is not silent, only slow."""
        found = self.reception.links.get(link)
        if found is not None and found.peer is not None:
            found.peer.heard_ms = now_ms
            if found.peer.name == self.leader:
                self.election.heard(now_ms)

    def congested(self, link: int, congested: bool) -> None:
        """The connection's outbound buffer is full, or has drained."""
        found = self.reception.links.get(link)
        if found is not None and found.peer is not None:
            found.peer.congested = congested

    def receive(self, link: int, message: Message, now_ms: int, wall_ms: int) -> bool:
        """
        A message came. Whatever is wrong with it costs that connection, nothing else.

        Returns whether there may be something to do now; what need not be done before the next turn says False.
        """
        self._wall_ms = wall_ms
        found = self.reception.links.get(link)
        if found is None:
            return False  # closed already; the host may still deliver what was under way
        self._can_wait = False
        try:
            self._dispatch(found, message, now_ms, wall_ms)
        except PeerError as error:
            self.reception.refuse(found, Refusal(type(error).__name__, str(error)))
        return not self._can_wait

    def _dispatch(self, link: Link, message: Message, now_ms: int, wall_ms: int) -> None:
        peer = link.peer
        if type(message) in SINGLE_MASTER_NUMBERS and peer is not None and peer.link == link.number:
            peer.heard_ms = now_ms
            self._obey(peer, message, now_ms, wall_ms)  # type: ignore[arg-type]
        elif isinstance(message, Hello):
            self.reception.hello(link, message, now_ms)
        elif isinstance(message, Refuse):
            self.reception.refused(link, message)
        elif isinstance(message, Proof):
            self.reception.proof(link, message, now_ms)
        elif peer is None or peer.link != link.number:
            raise FrameError(f"a {type(message).__name__} before the hello was done")
        else:
            raise FrameError(f"a {type(message).__name__}, which belongs to the other mode")

    def _obey(self, peer: Peer, message: SingleMasterMessage, now_ms: int, wall_ms: int) -> None:
        """The rules about terms, which are the same for all messages; then the message itself."""
        self.election.check_leap(peer, message.term)
        if isinstance(message, Campaign):
            self.election.asked(peer, message, now_ms)
            return
        if message.term > self.term:
            if isinstance(message, Vote) and message.survey and self.election.is_surveying:
                self.set_term(message.term)  # the others may still answer
            else:
                self.step_down(message.term, f"{peer.name!r} is in term {message.term}")
        if isinstance(message, (Append, Chunk)):
            if message.term < self.term:
                self.say(peer.link, Appended(self.term, message.round, ok=False, match=0))
                return
            self._hear_leader(peer, now_ms)
            if isinstance(message, Append):
                self.following.append(peer, message, now_ms, wall_ms)
            else:
                self.following.chunk(peer, message, wall_ms)
        elif isinstance(message, Appended):
            if self.tenure is not None and message.term >= self.term:
                self._can_wait = not self.tenure.appended(peer, message, now_ms) and not self.events
        elif isinstance(message, Vote):
            self.election.vote(peer, message)
        elif isinstance(message, ReadAsk):
            self.reads.asked(peer, message, now_ms)
        elif isinstance(message, ReadAnswer):
            self.reads.answered(message)
        elif isinstance(message, Submit):
            self.merging.submit(peer, message)
        elif isinstance(message, Submitted):
            self.merging.submitted(message)
        elif isinstance(message, Elsewhere):
            self.reception.elsewhere(message)
        elif message.term < self.term:
            return
        elif isinstance(message, TakeOver):
            self.promotion.take_over(peer, message)
        elif self.tenure is not None and isinstance(message, ChunkWanted):
            self.tenure.wanted_chunk(peer, message, now_ms)

    def _hear_leader(self, peer: Peer, now_ms: int) -> None:
        if self.tenure is not None:
            raise FrameError(f"{peer.name!r} leads term {self.term} as {self.node.name!r} does: one of them must not")
        self.election.heard(now_ms)
        if self.election.is_campaigning:
            # Its votes are of the members as they were: a smaller cluster must not find that they are enough.
            self.election.stop()
            self.promotion.lost_vote(f"{peer.name!r} leads term {self.term}")
        elif self.election.is_surveying and not self.promotion.is_asking:
            self.election.stop()
        if self.leader != peer.name or self.role is Role.CANDIDATE:
            self.follow(peer.name)

    # -- time and turns

    def tick(self, now_ms: int, wall_ms: int) -> None:
        """Time has passed. Sooner or later does no harm."""
        if now_ms < self._tick_at_ms:
            return
        self._tick_at_ms, self._wall_ms = now_ms + self._tick_ms, wall_ms
        self.reception.tick(now_ms)
        if self.tenure is not None and not self.tenure.tick(now_ms):
            self.step_down(self.term, f"no quorum has answered for {self.options.election_ms_max} ms")
        self.election.tick(now_ms)
        self.promotion.tick(now_ms)
        self.reads.tick(now_ms)
        self.merging.tick(now_ms)
        if self.tenure is not None:
            self.members.tick(wall_ms)
        if self.tenure is not None:
            self.acks.expire(now_ms, self.tenure.holders, self.tenure.wanted)
        elif self.is_manual and self.options.primary and not self.history.current.founded:
            self._found_as_primary(now_ms)

    def _found_as_primary(self, now_ms: int) -> None:
        if self.election.may_campaign() and not self.promotion.is_busy:
            self.promote(now_ms, token=None)

    def persisted(self, position: int) -> None:
        """Everything handed out up to *position* is durable."""
        self.journal.persisted(position)
        if self.tenure is not None:
            self.tenure.became_durable()

    def ready(self, now_ms: int, wall_ms: int, *, may_persist: bool = True) -> Effects:
        """What is to be done. With *may_persist* false (a commit is under way) it holds no commit."""
        self._wall_ms = wall_ms
        self._again = False
        self.election.look()
        if self.tenure is not None:
            self.reads.begin_round(now_ms)
            if self.journal.volatile:
                self.tenure.became_durable()
            self.tenure.advance()
        last = self.log.last
        self._apply(wall_ms)
        self.reads.look()
        self.merging.look(now_ms, wall_ms)
        self._again = self._again or (self.journal.volatile and self.log.last > last)
        self.upkeep()
        self._again = self._again or self.journal.is_rewriting
        persist = self.journal.take() if may_persist or self.journal.volatile else None
        if self.tenure is not None:
            self.promotion.send()
            self.tenure.send(now_ms)
        else:
            self.following.confirm()
        while self._waiting and self.journal.is_durable(self._waiting[0][0]):
            self.envelopes.append(self._waiting.popleft()[1])
        wake_at = self._tick_at_ms if self.tenure is None else min(self._tick_at_ms, self.tenure.beat_at_ms)
        if self._again:
            wake_at = now_ms
        effects = Effects(persist, tuple(self.envelopes), tuple(self.closing), tuple(self.events), wake_at)
        self.envelopes, self.closing = [], []
        self.events.clear()
        return effects

    def _apply(self, wall_ms: int) -> None:
        changes = self.apply() if self.applied < self.committed else ()
        tenure = self.tenure
        if tenure is None:
            return
        if self.acks.count:
            self.acks.answer(tenure.threshold, self.applied)
        for index in changes:
            if self.tenure is not None:
                self.members.committed(index, wall_ms)

    # -- for the host

    def take_persist(self) -> Persist | None:
        """What is still to be committed, when the host closes."""
        return self.journal.take()

    def missing_addresses(self) -> list[str]:
        """Where members are that nobody is connected to: to be dialled."""
        return self.reception.missing_addresses()

    def wanted_addresses(self) -> list[str]:
        """Where nodes are that this one should be connected to."""
        return self.reception.wanted_addresses()

    def bound(self, address: str) -> None:
        """We listen, and peers reach us at *address*."""
        self.address = address

    def block(self, name: str) -> None:
        """Cut the connection with a peer and keep it cut, both ways, as a partition would."""
        self.blocked.add(name)
        peer = self.peers.get(name)
        if peer is not None:
            self.reception.refuse_peer(peer, Refusal("blocked", f"{self.node.name!r} is told to stay apart"))

    def up(self) -> list[Peer]:
        """Peers with a connection, in order of their names; each has ``name``, ``link``, ``hello``."""
        return self.reception.up()

    def is_up(self, link: int) -> bool:
        """Whether the connection is through its hello, and the one to its peer."""
        found = self.reception.links.get(link)
        return found is not None and found.peer is not None

    def members_now(self, now_ms: int) -> list[MemberNow]:
        """What is known of every member, this one included, in order of names."""
        return members_now(self, now_ms)

    def check(self) -> None:
        """Assert the invariants."""
        self.check_log()
        self.reception.check()
        self.acks.check()
        self.election.check()
        if self.tenure is not None:
            self.tenure.check()
            assert self.leader == self.node.name
            assert self.role in {Role.LEADER, Role.PRIMARY}
        else:
            assert self.role not in {Role.LEADER, Role.PRIMARY}
            assert not self.acks.count
