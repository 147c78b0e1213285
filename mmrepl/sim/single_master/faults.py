"""
Faults of a single-master world: those of the other mode, where this mode promises to survive them.

One writer at a time has to be trusted by a quorum. A cluster of which a quorum has lost its disks has lost what they
held, whatever the protocol: so a disk is only lost, set back or rotten while enough voters remember everything, and an
operator adds the node again under its new incarnation, as people would.
"""

from __future__ import annotations

from mmrepl.errors import MmreplError
from mmrepl.sim.faults import Faults
from mmrepl.sim.mix import Mix
from mmrepl.sim.single_master.cluster import SingleMasterCluster
from mmrepl.sim.single_master.history import Forced
from mmrepl.sim.single_master.node import WRITERS, LogNode
from mmrepl.single_master import events
from mmrepl.single_master.options import Failover

LOOK_MS = 250
"""How often the operator looks."""

PATIENCE_MS = 1_200
"""So long the operator waits for a primary to come back before promoting a replica (manual failover)."""

FORCES_AFTER = 4
"""So many refusals in a row, and the operator forces."""


class LogFaults(Faults[LogNode]):
    """Plans the faults of a mix, and the operator who repairs what the protocol may not repair by itself."""

    def __init__(self, cluster: SingleMasterCluster, mix: Mix, duration_ms: int, *, may_force: bool) -> None:
        super().__init__(cluster, mix, duration_ms)
        self.logs = cluster
        self.may_force = may_force
        self._without_primary_ms = 0
        self._refusals = 0
        self._promoting = False
        cluster.world.after(LOOK_MS, self._operate)

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
        return True

    def _wiped(self) -> bool:
        return self._enough_remember() and super()._wiped()

    def _restored(self) -> bool:
        return self._enough_remember() and super()._restored()

    def _rot(self) -> bool:
        return self._enough_remember() and super()._rot()

    def _removed(self) -> bool:
        leader, node = self.logs.leader(), self._some()
        if not leader or node is None or not self._enough_remember():
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
        if not leader or node is None or node.name == leader or not self._enough_remember():
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
        force = self.may_force and self._refusals >= FORCES_AFTER
        try:
            node.ask(lambda core, token: core.promote(node.now()[0], token=token, force=force), self._promoted)
        except MmreplError:
            return
        self._promoting = True
        self.logs.note(f"the operator promotes {node.name}{' by force' if force else ''}")
        if force:
            self.logs.fired["forced promotion"] += 1
            self.logs.history.add(Forced(self.logs.world.now_ms, node.name))

    def _furthest(self) -> LogNode | None:
        up = [node for node in self.logs.up() if not node.paused and node.name not in self.gone]
        return max(up, key=lambda node: (node.running.log.last_term, node.running.log.last), default=None)

    def _promoted(self, event: object) -> None:
        self._promoting = False
        if isinstance(event, events.Promoted):
            self._refusals = 0
            self.logs.fired["promotion"] += 1
        else:
            self._refusals += 1
            self.logs.fired["promotion refused"] += 1
