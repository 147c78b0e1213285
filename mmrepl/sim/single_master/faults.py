"""
Faults of a single-master world: those of the other mode, where this mode promises to survive them.

One writer at a time has to be trusted by a quorum. A cluster of which a quorum has lost its disks has lost what they
held, whatever the protocol: so a disk is only lost, set back or rotten while enough voters remember everything, and an
operator adds the node again under its new incarnation, as people would.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

from mmrepl.errors import MmreplError
from mmrepl.sim.faults import Faults
from mmrepl.sim.mix import Mix
from mmrepl.sim.single_master.cluster import SingleMasterCluster
from mmrepl.sim.single_master.history import Forced
from mmrepl.sim.single_master.node import WRITERS, LogNode
from mmrepl.single_master import events
from mmrepl.single_master.options import Failover
from mmrepl.single_master.quorum import majority

LOG_FAULTS: Mapping[str, tuple[str, float, int, int]] = {
    # name: (row of the catalogue, share of seeds that draw it, least and most times a run), as `mmrepl.sim.mix.FAULTS`
    "leader isolated": ("N5", 0.55, 1, 3),
    "leader dies": ("P1", 0.45, 1, 3),
    "leader stands still": ("P4", 0.45, 1, 3),
    "quorum lost": ("M7", 0.50, 1, 3),
    "transfer": ("M7", 0.45, 1, 4),
    "leaders fall": ("M7", 0.35, 1, 1),
    "leader removed": ("M2", 0.30, 1, 1),
    "voters changed": ("M4", 0.45, 1, 4),
}
"""Faults that mean something only where one node leads. What people do to a leader on purpose is here too."""

PATIENT = LOG_FAULTS.keys() | {"wiped", "restored", "rot", "loss of power", "removed"}
"""These wait for a moment at which they may happen."""

RETRY_MS = 150

STANDARD_MS = 6_000
"""How long a safety phase is to which the times above apply."""


def draw_log_faults(rng: Random, names: tuple[str, ...] | None, duration_ms: int) -> dict[str, int]:
    """How often each happens in a run; of those *names* only, and then surely, if any are given."""
    longer = max(1, duration_ms // STANDARD_MS)
    drawn = {}
    for name, (_, share, least, most) in LOG_FAULTS.items():
        chosen, times = rng.random() < share, rng.randint(least, most) * longer
        if chosen if names is None else name in names:
            drawn[name] = times
    return drawn


LOOK_MS = 250
"""How often the operator looks."""

PATIENCE_MS = 1_200
"""So long the operator waits for a primary to come back before promoting a replica (manual failover)."""

FORCES_AFTER = 4
"""So many refusals in a row, and the operator forces."""


class LogFaults(Faults[LogNode]):
    """Plans the faults of a mix, and the operator who repairs what the protocol may not repair by itself."""

    def __init__(
        self,
        cluster: SingleMasterCluster,
        mix: Mix,
        duration_ms: int,
        *,
        may_force: bool,
        gather: Callable[[str], None] = lambda _name: None,
    ) -> None:
        super().__init__(cluster, mix, duration_ms)
        self._gather = gather  # has clients come together at a node
        self.logs = cluster
        self.may_force = may_force
        self._without_primary_ms = 0
        self._refusals = 0
        self._promoting = False
        cluster.world.after(LOOK_MS, self._operate)

    def _fire(self, name: str) -> None:
        before = self.cluster.fired[name]
        super()._fire(name)
        if name in PATIENT and self.cluster.fired[name] == before and not self.over:
            self.cluster.world.after(RETRY_MS, self._fire, name)

    # -- what is only done while enough remember

    def _enough_remember(self) -> bool:
        """Whether every voter is up in the incarnation that has the vote, so that one of them may forget."""
        leader = self.logs.leader()
        if not leader:
            return False
        configuration = self.logs.core(leader).history.current
        if configuration.is_joint or len(configuration.voters) < 3:
            return False
        for name in configuration.voters:
            node = self.logs.nodes.get(name)
            if node is None or not node.is_up or not configuration.has(node.running.node):
                return False
            if node.running.applied < self.logs.core(leader).committed:
                return False
        return all(map(self._may_forget, self.logs.nodes.values()))

    def _members_may_change(self) -> bool:
        """Whether members may go and voters be exchanged."""
        return self._enough_remember()

    def _may_forget(self, node: LogNode) -> bool:
        """
        Whether a quorum would keep its votes without this node's, by what anybody knows of the members.

        With those who are to be given a vote: that may have been written down already. An end that is torn when power
        is lost leaves a memory in doubt: nothing that was promised is lost with it but the vote, until the node is
        added again.
        """
        for other in self.logs.nodes.values():
            members = other.members
            if members is None:
                continue
            soon = (*members.voters, *(member.name for member in members.members if member.candidate))
            for voters in (*members.sets, soon):
                there = [self.logs.nodes[name] for name in voters if name in self.logs.nodes]
                keep = [each for each in there if each.identity is not None and members.has(each.identity)]
                if len(keep) - (node in keep) < majority(len(voters)):
                    return False
        return True

    def _loss_of_power(self) -> bool:
        node = self._some()
        if node is None or not self._may_forget(node):
            return False
        self._lose_power(node)
        self._restart_later(node)
        return True

    def _lose_power(self, node: LogNode) -> None:
        """If anything is lost with it, the end may be torn, and who the node will be then nobody knows yet."""
        before = self.logs.fired["unsynced lost"]
        self.logs.crash(node.name, power=True)
        if self.logs.fired["unsynced lost"] > before:
            node.identity = None

    def _wiped(self) -> bool:
        return self._enough_remember() and super()._wiped()

    def _restored(self) -> bool:
        return self._enough_remember() and super()._restored()

    def _rot(self) -> bool:
        node = self._some()
        if node is None or not self._enough_remember():
            return False
        self.logs.crash(node.name)
        if node.disk.is_blank:
            return False  # its first record was under way
        self.logs.note(f"{node.disk.rot(self._rng)} of {node.name} rots")
        node.identity = None  # who it will be when it is opened nobody knows: nothing else may forget before
        self._restart_later(node)
        return True

    def _removed(self) -> bool:
        leader, node = self.logs.leader(), self._some()
        if not leader or node is None or not self._members_may_change():
            return False
        if node.name == leader and self.logs.settings.failover is Failover.MANUAL:
            return False  # it would go before anybody has heard of it: another one is promoted first
        try:
            self.logs.remove(node.name, at=leader)
        except MmreplError:
            return False  # it is none, or another change is under way
        return True

    def _removed_for_good(self) -> bool:
        leader, node = self.logs.leader(), self._some()
        if not leader or node is None or node.name == leader or not self._members_may_change():
            return False
        if len(self.logs.core(leader).history.current.voters) < 4 or node.name == self.logs.names[0]:
            return False
        self.gone.add(node.name)
        self.logs.crash(node.name)
        node.wiped()
        try:
            self.logs.remove(node.name, at=leader)
        except MmreplError:
            self.gone.discard(node.name)
            self._restart_later(node)
            return False
        return True

    def _join(self) -> bool:
        self._joined += 1
        self.logs.add(f"zoe{self._joined}")
        return True

    # -- what happens to who leads

    def _leading(self) -> LogNode | None:
        name = self.logs.leader()
        node = self.logs.nodes[name] if name else None
        return None if node is None or node.paused else node

    def _leader_isolated(self) -> bool:
        leader = self._leading()
        if leader is None:
            return False
        others = [name for name in self.logs.names if name != leader.name]
        self.logs.note(f"{leader.name}, which leads, is cut off")
        self._hold([(leader.name, other) for other in others] + [(other, leader.name) for other in others], 200, 3_000)
        self._gather(leader.name)
        return True

    def _leader_dies(self) -> bool:
        leader = self._leading()
        if leader is None:
            return False
        if self._rng.random() < 0.5:
            leader.die_after = self._rng.randrange(12)
            return True
        if self._rng.random() < 0.5 and self._may_forget(leader):
            self._lose_power(leader)
        else:
            self.logs.crash(leader.name)
        self._restart_later(leader)
        return True

    def _leader_stands_still(self) -> bool:
        leader = self._leading()
        if leader is None:
            return False
        self.logs.pause(leader.name)
        self._for_a_while(leader.resume, 100, 2_500)
        self._gather(leader.name)
        return True

    def _leaders_fall(self) -> bool:
        """Whoever leads soon dies or is cut off, again and again, and sometimes another one with it (figure 8)."""
        for beat in range(100):
            self.logs.world.after(beat * 25, self._fell)
        return True

    def _fell(self) -> None:
        leader, rng = self._leading(), self._dice["leaders fall"]
        if leader is None or self.over or leader.die_after is not None or rng.random() < 0.6:
            return
        self._rng = rng
        if rng.random() < 0.3:
            others = [name for name in self.logs.names if name != leader.name and rng.random() < 0.8]
            self._hold([(leader.name, other) for other in others] + [(other, leader.name) for other in others], 50, 800)
        else:
            leader.die_after = rng.randrange(1, 16)
        other = self._some()
        if other is not None and rng.random() < 0.4:
            other.die_after = rng.randrange(1, 10)

    def _quorum_lost(self) -> bool:
        """Even halves, or everybody alone: nobody has a quorum, and all campaign at once when it is back."""
        names = list(self.logs.names)
        self._rng.shuffle(names)
        half = len(names) // 2
        alone = self._rng.random() < 0.5
        pairs = [
            (one, other)
            for at, one in enumerate(names)
            for number, other in enumerate(names)
            if one != other
            and (alone or (at < half) != (number < half) or (len(names) % 2 and names[-1] in {one, other}))
        ]
        self.logs.note("nobody has a quorum")
        self._hold(pairs, 300, 2_000)
        return True

    def _transfer(self) -> bool:
        leader = self._leading()
        if leader is None:
            return False
        others = [name for name in leader.running.history.current.voters if name != leader.name]
        if not others:
            return False
        to = others[self._rng.randrange(len(others))]
        try:
            leader.ask(lambda core, token: core.transfer(to, leader.now()[0], token=token), self._transferred)
        except MmreplError:
            return False  # one is under way
        self.logs.note(f"{leader.name} hands over to {to}")
        if self._rng.random() < 0.7:  # and does not hear what comes of it
            paths = [(name, leader.name) for name in self.logs.names if name != leader.name]
            self.logs.world.after(self._rng.randrange(2), self._hold, paths, 100, 1_000)
        self._gather(leader.name)
        return True

    def _transferred(self, event: object) -> None:
        self.logs.fired["transferred"] += isinstance(event, events.Transferred)

    def _leader_removed(self) -> bool:
        leader = self._leading()
        if leader is None or self.logs.settings.failover is Failover.MANUAL or not self._members_may_change():
            return False  # a primary would go before anybody has heard of it: another one is promoted first
        try:
            self.logs.remove(leader.name, at=leader.name)
        except MmreplError:
            return False
        return True

    def _voters_changed(self) -> bool:
        """Some voters become learners, some learners voters, in one change: joint, where there are two or more."""
        leader = self._leading()
        if leader is None or not self._members_may_change():
            return False
        current, rng = leader.running.history.current, self._rng
        add = tuple(name for name in current.learners if rng.random() < 0.7)
        candidates = [name for name in current.voters if name != leader.name]
        spare = min(len(candidates), len(current.voters) + len(add) - 3)
        learners = tuple(rng.sample(candidates, rng.randint(0, spare))) if spare > 0 else ()
        if not add and not learners:
            return False
        monotonic, wall = leader.now()
        try:
            leader.ask(
                lambda core, token: core.change_members(monotonic, wall, token=token, add=add, learners=learners),
                lambda _event: None,
            )
        except MmreplError:
            return False
        self.logs.note(f"{leader.name} makes voters of {add}, learners of {learners}")
        if rng.random() < 0.5:  # those who would be enough afterwards are alone with it
            voters = [name for name in (*current.voters, *add) if name != leader.name and name not in learners]
            there = {leader.name, *rng.sample(voters, min(len(voters), (len(voters) + 1) // 2))}
            rest = [name for name in self.logs.names if name not in there]
            paths = [pair for one in sorted(there) for other in rest for pair in ((one, other), (other, one))]
            self.logs.world.after(rng.randrange(6), self._hold, paths, 500, 2_500)
            self._gather(leader.name)
        return True

    # -- the operator

    def _operate(self) -> None:
        """Empty who was removed, add who is no member; promote where there is no primary. For ever."""
        self.logs.world.after(LOOK_MS, self._operate)
        for removed in self.logs.up():
            if removed.running.removed is not None and not removed.paused and removed.name not in self.gone:
                self.logs.crash(removed.name)
                self.logs.wipe(removed.name)
                removed.start()
                return
        leader = self.logs.leader()
        if not leader:
            self._miss_the_primary()
            return
        self._without_primary_ms = 0
        node, core = self.logs.node(leader), self.logs.core(leader)
        if node.paused:
            return
        for other in self.logs.up():
            if other.name in self.gone or core.history.current.has(other.running.node):
                continue
            if all(peer.node != other.running.node for peer in core.reception.up()):
                continue  # it is still connected to who that was before
            monotonic, wall = node.now()
            try:
                node.ask(
                    lambda core, token: core.change_members(monotonic, wall, token=token, add=(other.name,)),  # noqa: B023 - called at once
                    lambda _event: None,
                )
            except MmreplError:
                continue  # not connected, or another change is under way: the next look will do
            self.logs.note(f"the operator adds {other.name} at {leader}")
            return

    def _miss_the_primary(self) -> None:
        self._without_primary_ms += LOOK_MS
        if self.logs.settings.failover is not Failover.MANUAL or self._without_primary_ms < PATIENCE_MS:
            return
        node = self._some() if not self.over else self._furthest()
        if node is None or self._promoting or node.running.role in WRITERS:
            return
        # By force an empty node would found a cluster of its own beside this one: nobody does that to a member.
        force = self.may_force and self._refusals >= FORCES_AFTER and self._has_vote(node)
        try:
            node.ask(lambda core, token: core.promote(node.now()[0], token=token, force=force), self._promoted)
        except MmreplError:
            return
        self._promoting = True
        self.logs.note(f"the operator promotes {node.name}{' by force' if force else ''}")
        if force:
            self.logs.fired["forced promotion"] += 1
            self.logs.history.add(Forced(self.logs.world.now_ms, node.name))

    def _has_vote(self, node: LogNode) -> bool:
        members = node.running.history.current
        return members.has(node.running.node) and members.is_voter(node.name)

    def _furthest(self) -> LogNode | None:
        """Of those that may be promoted at all: a memory in doubt may go further, and has no vote."""
        up = [
            node for node in self.logs.up()
            if node.name not in self.gone and (self._has_vote(node) or node.running.members.may_be_needed())
        ]  # fmt: skip
        return max(
            up, key=lambda node: (node.running.log.last_term, node.running.log.last, self._has_vote(node)), default=None
        )

    def _promoted(self, event: object) -> None:
        self._promoting = False
        if isinstance(event, events.Promoted):
            self._refusals = 0
            self.logs.fired["promotion"] += 1
        else:
            self._refusals += 1
            self.logs.fired["promotion refused"] += 1
