"""
Terms and votes: who leads.

Raft's, with pre-vote (thesis §9.6), check-quorum, and the rule that who hears of a leader votes for nobody else
(§4.2.3). A *survey* asks whether a campaign would be won, and binds nobody: so a node that was cut off comes back
without raising the term, and a node whose log is behind raises none either. Then the term is raised, our own vote is
put on disk, and only then are others asked.

Votes count by name and incarnation: who came back without its memory may have voted already, and does not know.

A cluster is *founded* once, by all its first members together: until then a campaign needs every one of them, of the
same set. A node that lost its disk is like one that never was in the cluster; that it takes all is what keeps two such
nodes from founding a second cluster over the first. With manual failover it is the operator who campaigns
(`mmrepl.single_master.promotion`); what it takes to win is the same.

HAZARD: a vote is refused for ``election_ms_min`` after the leader was heard, and after a start, by monotonic clocks.
Leases rest on that; elections do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmrepl.errors import FrameError
from mmrepl.single_master.options import Role
from mmrepl.single_master.quorum import Outcome, outcome
from mmrepl.types import NodeId
from mmrepl.wire.greeting import shown
from mmrepl.wire.single_master import Campaign, Vote

if TYPE_CHECKING:
    from mmrepl.single_master.configuration import Configuration
    from mmrepl.single_master.office import Office
    from mmrepl.single_master.reception import Peer

TERM_LEAP = 1 << 32
"""A term further in the future than this is a defect, or malice: it would leave no room above it."""


class Election:
    """The campaigns of one node, and its votes for others. Mutable."""

    def __init__(self, core: Office, now_ms: int) -> None:
        self._core = core
        self.deadline_ms = 0  # when it campaigns, if it hears of no leader
        self.heard_ms = now_ms  # when a leader was heard last; at the start, one may have been heard just before
        self.answers: dict[str, Vote] = {}  # of the present survey or campaign
        self.is_surveying = False
        self.is_campaigning = False
        self._id = 0
        self._transfer = False
        self._founding: dict[NodeId, str] = {}
        self._vote_position = 0  # at which our own vote is durable
        self._now_ms = now_ms
        self.reset(now_ms)

    # -- time

    def reset(self, now_ms: int) -> None:
        """Begin to wait anew, for a random time."""
        options = self._core.options
        spread = options.election_ms_max - options.election_ms_min
        self.deadline_ms = now_ms + options.election_ms_min + int(self._core.rng.random() * (spread + 1))

    def heard(self, now_ms: int) -> None:
        """A leader was heard."""
        self.heard_ms = now_ms
        self.reset(now_ms)

    def stop(self) -> None:
        """No campaign any more."""
        self.is_surveying = self.is_campaigning = False
        self.answers = {}

    def tick(self, now_ms: int) -> None:
        """Campaign when no leader was heard for long."""
        core = self._core
        self._now_ms = now_ms
        if core.tenure is not None or now_ms < self.deadline_ms or core.is_manual:
            return
        self.reset(now_ms)
        if self.may_campaign():
            self.survey(core.next_term(), transfer=False)
        elif self.is_surveying or self.is_campaigning:
            self.stop()
            core.follow("")

    def may_campaign(self) -> bool:
        """Whether this node may be elected at all."""
        core = self._core
        members = core.history.current
        if core.removed is not None:
            return False
        if not members.founded:
            return core.log.last == 0 and core.reception.founding() is not None
        return _has_vote(members, core.node) or self._is_leaving()

    def _is_leaving(self) -> bool:
        """
        Whether we hold a change that takes our vote away, and that others may never hear of unless we lead.

        We would be elected by the others alone, commit the change, and be gone (Ongaro's thesis, §4.2.2).
        """
        history = self._core.history
        before = history.before
        return before is not None and history.index > self._core.committed and _has_vote(before, self._core.node)

    # -- campaigning

    def survey(self, term: int, *, transfer: bool) -> None:
        """Ask whether we would be elected."""
        self._begin(transfer=transfer, surveying=True)
        self._core.become_candidate()
        self.answers[self._core.node.name] = self._own(term)
        self._ask_all(term)
        self._count()

    def campaign(self, *, transfer: bool) -> None:
        """Raise the term and ask for votes; others are asked when our own is on disk."""
        core = self._core
        self._begin(transfer=transfer, surveying=False)
        core.set_term(core.next_term(), vote=str(core.node))
        core.become_candidate()
        self._vote_position = core.journal.pending
        self._ask_all(core.term)

    def _begin(self, *, transfer: bool, surveying: bool) -> None:
        core = self._core
        self.answers = {}
        self._id += 1
        self._transfer = transfer
        self.is_surveying, self.is_campaigning = surveying, not surveying
        if not core.history.current.founded:
            self._founding = core.reception.founding() or self._founding
            if core.options.failover.value == "manual" and not self._founding:
                self._founding = {core.node: core.address}

    def found_with(self, nodes: dict[NodeId, str]) -> None:
        """The first members, where not all that were expected are there (a promotion by force)."""
        self._founding = nodes

    @property
    def founding(self) -> dict[NodeId, str]:
        """The nodes with which a cluster would be founded now."""
        return self._founding

    def _own(self, term: int) -> Vote:
        log = self._core.log
        return Vote(term, self.is_surveying, granted=True, last_index=log.last, last_term=log.last_term, reason="")

    def voters(self) -> dict[str, NodeId]:
        """Whose votes count, in which incarnation."""
        members = self._core.history.current
        if not members.founded:
            return {node.name: node for node in self._founding}
        return {member.name: member.node for member in members.members if members.is_voter(member.name)}

    def _sets(self) -> tuple[tuple[str, ...], ...]:
        members = self._core.history.current
        if not members.founded:
            return tuple((node.name,) for node in sorted(self._founding))
        return members.sets

    def _ask_all(self, term: int) -> None:
        for peer in self._core.reception.up():
            self._ask(peer, term)

    def _ask(self, peer: Peer, term: int) -> None:
        core = self._core
        if self.voters().get(peer.name) != peer.node:
            return
        founding = [] if core.history.current.founded else [(n.name, n.incarnation) for n in sorted(self._founding)]
        core.say(
            peer.link,
            Campaign(
                term,
                core.log.last,
                core.log.last_term,
                survey=self.is_surveying,
                transfer=self._transfer,
                founding=founding,
                id=self._id,
            ),
        )

    def met(self, peer: Peer) -> None:
        """A connection came up: ask there too, if we are asking."""
        if self.is_surveying:
            self._ask(peer, self._core.next_term())
        elif self.is_campaigning:
            self._ask(peer, self._core.term)

    def vote(self, peer: Peer, message: Vote) -> None:
        """An answer came."""
        asking = self.is_surveying if message.survey else self.is_campaigning
        if not asking or message.id != self._id or self.voters().get(peer.name) != peer.node:
            return
        if not message.survey and message.granted and message.term != self._core.term:
            return
        self.answers[peer.name] = message
        self._count()

    def look(self) -> None:
        """Count our own vote once it is on disk."""
        core = self._core
        if self.is_campaigning and core.node.name not in self.answers and core.journal.is_durable(self._vote_position):
            self.answers[core.node.name] = self._own(core.term)
            if core.promotion.wins_by_force:
                self.win()
            else:
                self._count()

    def _count(self) -> None:
        core = self._core
        if self.is_surveying and core.promotion.is_asking:
            core.promotion.look(self._now_ms)
            return
        found = outcome(self._sets(), {name: vote.granted for name, vote in self.answers.items()})
        if found is Outcome.OPEN:
            return
        if found is Outcome.LOST:
            why = self.answers_text()
            if not core.history.current.founded:
                core.complain(f"founding: the cluster is not founded yet: {why}")
            self.stop()
            core.follow("")
            core.promotion.lost_vote(why)
        elif self.is_surveying:
            self.campaign(transfer=self._transfer)
        else:
            self.win()

    def win(self) -> None:
        """Lead."""
        core, founding = self._core, self._founding
        self.stop()
        core.lead(founding if not core.history.current.founded else None)

    def answers_text(self) -> str:
        """Who refused, and why."""
        refused = [f"{shown(name)}: {shown(vote.reason, 200)[1:-1]}" for name, vote in sorted(self.answers.items())
                   if not vote.granted]  # fmt: skip
        return "; ".join(refused) or "nobody answered"

    # -- voting

    def asked(self, peer: Peer, message: Campaign, now_ms: int) -> None:
        """Somebody would lead."""
        core = self._core
        why = self._why_not(peer, message, now_ms)
        if not message.survey and why is None and message.term > core.term:
            core.step_down(message.term, f"{peer.name!r} campaigns in term {message.term}")
        if why is None and not message.survey:
            if message.term < core.term:
                why = f"term {message.term} is over, this is term {core.term}"
            elif core.vote not in {"", str(peer.node)} or core.tenure is not None:
                why = f"{core.node.name!r} has voted for {core.vote} in term {core.term}"
        if why is None and not core.log.up_to_date(message.last_index, message.last_term):
            why = f"its log ends at {message.last_index}, term {message.last_term}; that of {core.node.name!r} goes on"
        if why is None and not message.survey:
            core.set_term(core.term, vote=str(peer.node))
            self.reset(now_ms)
        log = core.log
        core.say(peer.link, Vote(
            core.term, message.survey, granted=why is None, last_index=log.last, last_term=log.last_term,
            reason=why or "", id=message.id,
        ))  # fmt: skip

    def _why_not(self, peer: Peer, message: Campaign, now_ms: int) -> str | None:
        """Why a candidate is not even considered; its term is not taken over then."""
        core = self._core
        members = core.history.current
        if core.is_manual:  # a removal that a majority holds is in every log that goes on in a later term
            is_gone = members.was_removed(peer.node) and message.last_term <= core.log.last_term
        else:
            is_gone = core.members.has_parted_with(peer.node)
        if is_gone:
            return f"{peer.name!r} was removed from the cluster"
        if message.founding:
            if members.founded or core.log.last:
                return "it belongs to a cluster already: join that"
            if tuple(core.node) not in message.founding:
                return "it is not among those who would found the cluster"
            ours = core.reception.founding()
            if not core.is_manual and (ours is None or [tuple(node) for node in sorted(ours)] != message.founding):
                return "it expects others, or has not met them all yet"
        if message.survey and message.term <= core.term:
            return f"term {message.term} is over, this is term {core.term}"
        if message.transfer or core.is_manual:
            return None
        options = core.options
        if core.tenure is not None:
            alive = now_ms - core.tenure.confirmed_ms < options.election_ms_min
        else:
            alive = now_ms - self.heard_ms < options.election_ms_min and core.has_belonged
        return "it hears of a leader" if alive else None

    def check_leap(self, peer: Peer, term: int) -> None:
        """Refuse a term that no honest node can have reached. Raises FrameError."""
        if term > self._core.term + TERM_LEAP:
            raise FrameError(
                f"{peer.name!r} speaks of term {term}, far in the future of term {self._core.term} of"
                f" {self._core.node.name!r}: not believed"
            )

    def check(self) -> None:
        """Assert the invariants."""
        core = self._core
        assert not (self.is_surveying and self.is_campaigning)
        assert core.tenure is None or not (self.is_surveying or self.is_campaigning)
        assert core.role is not Role.CANDIDATE or self.is_surveying or self.is_campaigning


def _has_vote(members: Configuration, node: NodeId) -> bool:
    return members.has(node) and members.is_voter(node.name)
