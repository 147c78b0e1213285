"""
What an operator does with the office: promote, and transfer.

*promote* makes this node the primary where nobody is elected. It asks every member how far its log goes. When one is
further, or too few answer to know, it is refused, and says what would be lost; ``force`` goes on all the same. Without
force it then takes the votes of a majority, as an election would: whoever gives its vote obeys the old primary no
longer, so what a majority had acknowledged before cannot be lost, not even by what the old one does meanwhile.

Two promotions at two places, that cannot see each other, must not draw the same term. So each member has a slot of
its own, and a term is the next number above all that were seen which leaves that slot as the remainder.

A primary that starts anew goes on in its *own* term, without asking: nobody else ever had that term, and what it sent
in it was on its disk before. A higher number would be wrong: it could put the old primary above one that was promoted
while it was away.

*transfer* hands over in good order: no new writes are taken, the successor is brought up to date, and told to
campaign at once. From then on there is no lease any more in this term, for nobody would refuse the successor a vote.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define

from mmrepl.errors import PromotionRefused, QuorumLost, RemovedMember, UsageError
from mmrepl.single_master.configuration import SLOTS
from mmrepl.single_master.events import Failed, Promoted, Transferred
from mmrepl.single_master.quorum import Outcome, outcome
from mmrepl.wire.single_master import TakeOver, Vote

if TYPE_CHECKING:
    from mmrepl.single_master.office import Office
    from mmrepl.single_master.reception import Peer


@define
class _Asking:
    token: object
    force: bool
    deadline_ms: int
    lost: dict[str, int]


@define
class _Handing:
    token: object
    to: str
    deadline_ms: int
    told: bool = False


class Promotion:
    """Promotions and transfers under way at one node: one of each at the most. Mutable."""

    def __init__(self, core: Office) -> None:
        self._core = core
        self._asking: _Asking | None = None
        self._voting: _Asking | None = None
        self._handing: _Handing | None = None

    @property
    def is_asking(self) -> bool:
        """Whether the survey under way is an operator's."""
        return self._asking is not None

    @property
    def is_busy(self) -> bool:
        """Whether a promotion is under way."""
        return self._asking is not None or self._voting is not None

    @property
    def is_handing_over(self) -> bool:
        """Whether a successor is being brought up to date, so that no writes are taken."""
        return self._handing is not None and self._core.tenure is not None

    def next_term(self) -> int:
        """The next term that this node may draw."""
        core = self._core
        if not core.is_manual:
            return core.term + 1
        member = core.history.current.member(core.node.name)
        slot = member.slot if member is not None else sorted(core.election.founding or {core.node: ""}).index(core.node)
        term = core.term - core.term % SLOTS + slot
        return term if term > core.term else term + SLOTS

    # -- promote

    def promote(self, now_ms: int, token: object, *, force: bool) -> None:
        """Begin. Raises UsageError, RemovedMember."""
        core = self._core
        members = core.history.current
        if force and not core.is_manual:
            raise UsageError("an election cannot be forced: what a quorum has committed would be lost")
        if self.is_busy:
            raise UsageError("a promotion of this node is under way already")
        may_lead = not members.founded or core.election.may_campaign() or core.members.may_be_needed()
        may_lead = may_lead or (force and core.members.has_lost_its_place())
        if core.removed is not None or not may_lead:
            raise RemovedMember(f"{core.node} has no vote in the cluster: it has to be added first")
        asking = _Asking(token, force, now_ms + core.options.read_timeout_ms, {})
        if core.tenure is not None:
            core.tenure.by_force = core.tenure.by_force or force
            core.notify(Promoted(token, core.term, {}))
            return
        if not members.founded:
            nodes = core.reception.founding()
            if nodes is None and not force:
                raise PromotionRefused(
                    "the cluster is not founded yet, and not all nodes that were expected are there:"
                    f" {', '.join(core.reception.missing_addresses())}",
                    silent=tuple(core.reception.missing_addresses()),
                )
            there = {peer.node: peer.hello.address for peer in core.reception.up() if not peer.hello.founded}
            core.election.found_with(nodes or {core.node: core.address, **there})
        self._asking = asking
        core.election.survey(self.next_term(), transfer=core.is_manual)

    def look(self, now_ms: int) -> None:
        """An answer came, or time has passed: decide when everybody who can has answered."""
        asking, core = self._asking, self._core
        if asking is None:
            return
        voters, answers = core.election.voters(), core.election.answers
        connected = {peer.name for peer in core.reception.up() if voters.get(peer.name) == peer.node}
        if connected - answers.keys() and now_ms < asking.deadline_ms:
            return
        self._asking = None
        ahead = {name: self._lost_by(vote) for name, vote in sorted(answers.items()) if self._is_ahead(vote)}
        silent = tuple(sorted(voters.keys() - answers.keys()))
        # Where leaders are elected a living one has a lease, which only the leader itself can give up, by `transfer`.
        willing = {name: vote.granted or core.is_manual for name, vote in answers.items()}
        enough = outcome(core.election._sets(), willing) is Outcome.WON
        if not asking.force and (ahead or not enough):
            why = "" if core.is_manual else core.election.answers_text()
            core.election.stop()
            core.follow(core.leader)
            refusal = PromotionRefused(_refusal(core.node.name, ahead, silent, why), ahead=ahead, silent=silent)
            core.notify(Failed(asking.token, refusal))
            return
        asking.lost = ahead
        asking.deadline_ms = now_ms + core.options.read_timeout_ms
        self._voting = asking
        core.election.campaign(transfer=core.is_manual)

    def _is_ahead(self, vote: Vote) -> bool:
        return not (self._core.log.last_term, self._core.log.last) >= (vote.last_term, vote.last_index)

    def _lost_by(self, vote: Vote) -> int:
        """How many entries of a member would be cut off, as far as can be told: one at least."""
        log = self._core.log
        return max(1, vote.last_index - log.latest_at_most(vote.last_index, vote.last_term))

    def lost_vote(self, text: str) -> None:
        """The votes of a promotion were refused."""
        voting, self._voting = self._voting, None
        if voting is not None:
            self._core.notify(Failed(voting.token, PromotionRefused(
                f"{self._core.node.name!r} was refused the votes that it needs; nobody may be primary now: {text}"
            )))  # fmt: skip

    @property
    def wins_by_force(self) -> bool:
        """Whether our own vote is enough."""
        return self._voting is not None and self._voting.force

    def led(self) -> None:
        """We lead now."""
        for asking in (self._asking, self._voting):
            if asking is not None:
                self._core.notify(Promoted(asking.token, self._core.term, asking.lost))
        self._asking = self._voting = None

    # -- transfer

    def transfer(self, to: str, now_ms: int, token: object, within_ms: int | None = None) -> None:
        """Begin; given up after *within_ms*, or ``read_timeout_ms``. Raises NotPrimary, UsageError."""
        core = self._core
        members = core.history.current
        if core.tenure is None:
            raise core.not_primary("is not the one who could hand over")
        if to == core.node.name or not members.is_voter(to):
            raise UsageError(f"{to!r} is no other voter: {', '.join(members.voters)} are")
        if self._handing is not None:
            raise UsageError(f"the office is being handed to {self._handing.to!r} already")
        self._handing = _Handing(token, to, now_ms + (core.options.read_timeout_ms if within_ms is None else within_ms))

    def successor(self, now_ms: int) -> str | None:
        """The voter that is furthest, of those heard lately; None where nobody could be elected."""
        core, tenure = self._core, self._core.tenure
        if tenure is None or self._handing is not None:
            return None
        voters = core.election.voters()
        heard = {
            peer.name: True
            for peer in core.reception.up()
            if voters.get(peer.name) == peer.node and now_ms - peer.heard_ms <= core.options.election_ms_max
        }
        if outcome(core.history.current.sets, heard | {core.node.name: True}) is not Outcome.WON:
            return None
        return max(sorted(heard), key=tenure.match, default=None)

    def send(self) -> None:
        """Tell the successor to take over, once it has everything."""
        handing, core = self._handing, self._core
        if handing is None or core.tenure is None or handing.told:
            return
        peer = core.peers.get(handing.to)
        if core.tenure.match(handing.to) < core.log.last or peer is None or peer.link is None:
            return
        handing.told = True
        core.tenure.lease_is_given_up = True
        core.send(peer.link, TakeOver(core.term))

    def take_over(self, peer: Peer, message: TakeOver) -> None:
        """The leader tells us to campaign. Nobody else does in its term, so we need not have heard of it before."""
        core = self._core
        if message.term == core.term and core.leader in {"", peer.name} and core.election.may_campaign():
            core.election.campaign(transfer=True)

    def leader_is(self, name: str) -> None:
        """Somebody leads: perhaps our successor."""
        handing = self._handing
        if handing is not None and name and name != self._core.node.name:
            self._handing = None
            if name == handing.to:
                self._core.notify(Transferred(handing.token, name, self._core.term))
            else:
                self._core.notify(Failed(handing.token, QuorumLost(
                    f"{name!r} leads, not {handing.to!r}, to whom the office was to be handed"
                )))  # fmt: skip

    # -- time

    def tick(self, now_ms: int) -> None:
        """Give up what takes too long."""
        core = self._core
        if self._asking is not None and now_ms >= self._asking.deadline_ms:
            self.look(now_ms)
        if self._voting is not None and now_ms >= self._voting.deadline_ms:
            core.election.stop()
            core.follow("")
            self.lost_vote("not enough of them answered in time")
        handing = self._handing
        if handing is not None and now_ms >= handing.deadline_ms:
            self._handing = None
            core.notify(Failed(handing.token, QuorumLost(
                f"{handing.to!r} did not take over in time; " + (
                    f"{core.node.name!r} goes on" if core.tenure is not None else "nobody is known to lead")
            )))  # fmt: skip


def _refusal(name: str, ahead: dict[str, int], silent: tuple[str, ...], why: str) -> str:
    if why:
        return f"{name!r} would not be elected now: {why}; where there is a leader, have it transfer its office"
    parts = []
    if ahead:
        told = ", ".join(f"{count} of {who!r}" for who, count in ahead.items())
        parts.append(f"entries would be lost: {told}; promote {next(iter(ahead))!r} instead")
    if silent:
        parts.append(f"{', '.join(map(repr, silent))} did not answer, and may have more")
    way_out = "or use force: what is cut off is kept as branches, as far as logs hold it"
    return f"{name!r} was not promoted: {'; '.join(parts)}; {way_out}"
