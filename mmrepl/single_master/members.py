"""
Changing who belongs to the cluster, one change at a time.

A change is an entry, and counts from the moment it is appended. The next one has to wait until it is committed, and a
new leader until it has committed an entry of its own: otherwise two changes, begun under two leaders, could make
quorums that do not meet (the flaw of single-server changes that Ongaro reported in 2015).

A new voter is a learner first, and is made a voter by the leader when it has caught up: before that it would only
keep others from committing. A leader that is not among the new members steps down when the change is committed; until
then it counts others and not itself.

A member whose store is in doubt when it is opened comes back as another incarnation, which nobody counts on. If it
brings the log of this cluster, the leader adds it again by itself; one with an empty store is for people to add.

With manual failover whoever connects to the primary, and was not removed, is added: replicas are set up by starting
them. A replica that lost its memory is replaced by what it is now. There a change is committed by the primary's own
disk; the next one, and the end of a joint one, have to wait all the same until a majority holds it. Else the primary
could go on alone, change by change, to members of whom a majority confirms its writes, while those who have not heard
of it are a majority of the old ones, and promote another. Only whoever is not connected can be removed at any time: it
is for people to know that such members are gone. And after a promotion by force whoever is back as another incarnation
is replaced by what it is now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmrepl.errors import MembersChanging, UsageError
from mmrepl.single_master.configuration import SLOTS, Configuration, encode_configuration
from mmrepl.single_master.entry import MEMBERS, Entry, encode_entry
from mmrepl.types import NodeId
from mmrepl.wire.greeting import Refusal

if TYPE_CHECKING:
    from mmrepl.single_master.office import Office


class Members:
    """Changes of the members that this node makes while it leads. Keeps nothing of its own."""

    def __init__(self, core: Office) -> None:
        self._core = core

    def change(self, wall_ms: int, add: tuple[str, ...], learners: tuple[str, ...], remove: tuple[str, ...]) -> int:
        """Append the change; returns its index. Raises NotPrimary, MembersChanging, UsageError."""
        core = self._core
        if core.tenure is None:
            raise core.not_primary("does not lead, and who leads changes the members")
        chosen = [*add, *learners, *remove]
        if not chosen or len(set(chosen)) < len(chosen):
            raise UsageError(f"a change of the members names each of them once, not {chosen}")
        if core.is_manual and not self._is_settled() and chosen == [*remove] and self._are_away(remove):
            changed = core.history.current.left().with_change([], [], remove)
            return self.append(changed.left(), wall_ms)
        current = self._settled()
        if core.is_manual and core.node.name in (*learners, *remove):
            # Its own disk would commit that at once, and nobody else need ever hear of it.
            raise UsageError(f"{core.node.name!r} is the primary: transfer the office to another first")
        fresh, voters = [], []
        for name in add:
            node, address = self._known(name)
            if core.is_manual or (current.is_voter(name) and current.has(node)):
                voters.append((node, address))
            else:
                fresh.append((node, address))
        changed = current.with_change(voters, [*fresh, *map(self._known, learners)], remove)
        return self.append(changed.with_candidates(node.name for node, _ in fresh), wall_ms)

    def _settled(self) -> Configuration:
        core, current = self._core, self._core.history.current
        assert core.tenure is not None
        if current.is_joint or not self._is_settled():
            raise MembersChanging("another change of the members is not committed yet: wait for it")
        if not core.tenure.has_committed:
            raise MembersChanging(f"{core.node.name!r} has not committed an entry of its own term yet: try again soon")
        return current

    def _is_settled(self) -> bool:
        """Whether the latest change is what every quorum from now on knows."""
        return self._core.history.index <= self._held()

    def _held(self) -> int:
        core = self._core
        return core.tenure.held if core.is_manual and core.tenure is not None else core.committed

    def has_parted_with(self, node: NodeId) -> bool:
        """
        Whether a node was removed for good, and may be told so: it would be emptied.

        A removal that is not committed may still be cut off, as may, where people promote, what a replica has of one.
        And a later change may have taken it back.
        """
        core = self._core
        if core.is_manual and core.tenure is None:
            return False
        return all(members.was_removed(node) for members in core.history.since(self._held()))

    def _are_away(self, names: tuple[str, ...]) -> bool:
        current = self._core.history.current
        there = {peer.name for peer in self._core.reception.up() if current.has(peer.node)}
        return self._core.node.name not in names and not there & set(names)

    def _known(self, name: str) -> tuple[NodeId, str]:
        core = self._core
        if name == core.node.name:
            return core.node, core.address
        peer = core.peers.get(name)
        if peer is None or peer.link is None:
            raise UsageError(f"{name!r} is not connected: start it, with the address of a member, before it is added")
        return peer.node, peer.hello.address

    def append(self, configuration: Configuration, wall_ms: int) -> int:
        """Put a configuration into the log; it counts at once."""
        core = self._core
        entry = Entry(MEMBERS, max(wall_ms, core.stamp), payload=encode_configuration(configuration))
        return core.append(entry, encode_entry(entry))

    def has_lost_its_place(self) -> bool:
        """Whether we are no member, and who we were had a vote by the log that we hold."""
        core, current = self._core, self._core.history.current
        return not current.has(core.node) and current.is_voter(core.node.name)

    def may_be_needed(self) -> bool:
        """
        Whether we had a vote until the latest change that our log holds, where people promote.

        Others may not have heard of that change, and need our vote, which they do not get, for our log goes further
        than theirs. Then it is us who has to tell them, as who was removed may have to (Raft thesis §4.2.2).
        """
        core = self._core
        current, before = core.history.current, core.history.before
        return (
            core.is_manual
            and before is not None
            and current.has(core.node)
            and before.has(core.node)
            and before.is_voter(core.node.name)
        )

    def take_own_place(self, wall_ms: int) -> None:
        """We were promoted by force, and are another incarnation than our log knows: take the place of who we were."""
        core, current = self._core, self._core.history.current
        left = current.left() if current.is_joint else current
        self.append(left.with_change([(core.node, core.address)], [], []), wall_ms)

    # -- what the leader does by itself

    def committed(self, index: int, wall_ms: int) -> None:
        """The configuration at *index* is committed, and this node leads: go on from there, if it is the latest."""
        if index == self._core.history.index and self._is_settled():
            self._go_on(wall_ms)

    def _go_on(self, wall_ms: int) -> None:
        """Leave a joint configuration; else part with those who were removed, and step down if that is ourselves."""
        core, current = self._core, self._core.history.current
        if current.is_joint:
            self.append(current.left(), wall_ms)
            return
        for peer in list(core.reception.up()):
            if current.was_removed(peer.node):
                core.reception.refuse_peer(peer, Refusal("removed", f"{peer.name!r} was removed from the cluster"))
        if not current.has(core.node) or not current.is_voter(core.node.name):
            core.step_down(core.term, "it is no voter any more")

    def tick(self, wall_ms: int) -> None:
        """
        Make voters of learners that have caught up, and let in who has come.

        First go on from where an earlier leader may have stopped, who has committed a change and died.
        """
        core = self._core
        tenure, current = core.tenure, core.history.current
        if tenure is None or not tenure.has_committed:
            return
        if not self._is_settled():
            if tenure.by_force and not current.is_joint:
                self._let_in(current, wall_ms, anybody=False)
            return
        self._go_on(wall_ms)
        if core.tenure is None or core.history.current is not current:
            return
        for member in current.members:
            progress = tenure.progress.get(member.name)
            # It has answered since it became a candidate: it may have looked live, and been gone.
            if member.candidate and progress is not None and progress.live and progress.match >= core.history.index:
                self.append(current.with_change([(member.node, "")], [], []), wall_ms)
                return
        self._let_in(current, wall_ms, anybody=core.is_manual)

    def _let_in(self, current: Configuration, wall_ms: int, *, anybody: bool) -> None:
        """
        Add who is connected and no member: a member that came back as another incarnation, or *anybody*.

        It gets a vote unless who it was had none; where leaders are elected, when it has caught up. There it is added
        again if it brings the log of this cluster, for its store was in doubt then; who brings nothing is for people
        to add. Where people promote, that is also done while the latest change is not settled, but only after they have
        used force: with many who have forgotten, no change would ever be settled. Without force it must not be: who it
        was may have voted for another primary, of whom we have not heard, and what it is now would make up a majority
        with us.
        """
        core = self._core
        for peer in core.reception.up() if current.slots < SLOTS else ():
            former = current.member(peer.name)
            if current.has(peer.node) or current.was_removed(peer.node) or (former is None and not anybody):
                continue
            come = [(peer.node, peer.hello.address)]
            has_vote = former is None or current.is_voter(peer.name)
            if core.is_manual:
                self.append(current.with_change(come if has_vote else [], [] if has_vote else come, []), wall_ms)
                return
            if peer.hello.founded == current.founded:
                changed = current.with_change([], come, [])
                self.append(changed.with_candidates([peer.name] if has_vote else []), wall_ms)
                return
