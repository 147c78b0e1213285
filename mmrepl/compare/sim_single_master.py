"""
The single-master mode in virtual time, as the clients of a comparison meet it.

A client asks its own node who takes writes, and goes there over the same network as the nodes do: a call takes the way
there and back, and is lost where the way is cut. ``local`` and ``bounded`` reads stay at the own node, those
of the leader go to it; a linearizable one asks the own node, which asks the leader.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen

from mmrepl.compare.clients import Answer
from mmrepl.compare.record import RunRecord
from mmrepl.compare.sim_multi_master import shown
from mmrepl.compare.sim_world import TimedWorld
from mmrepl.compare.virtual import Later
from mmrepl.errors import MmreplError, PromotionRefused, WaitTimeout
from mmrepl.sim.network import Weather
from mmrepl.sim.single_master.cluster import LogSettings, SingleMasterCluster
from mmrepl.sim.single_master.node import LogNode
from mmrepl.single_master import events
from mmrepl.single_master.options import Ack, Failover, ReadLevel
from mmrepl.types import DEFAULT_TABLE
from mmrepl.values import decode, encode
from mmrepl.wire.seen import LogPosition

TIMEOUT_MS = 2_000
"""So long a client waits for an answer."""

BOUND_ENTRIES = 20
"""A bounded read may be so many entries behind."""


@frozen(kw_only=True)
class Knobs:
    """One setting of the three knobs."""

    failover: Failover
    ack: Ack
    read: ReadLevel


class SingleMasterWorld(TimedWorld[SingleMasterCluster]):
    """See `mmrepl.compare.play.SimWorld`."""

    def __init__(self, mode: str, names: tuple[str, ...], seed: int, knobs: Knobs, weather: Weather) -> None:
        cluster = SingleMasterCluster(
            names, seed=seed, weather=weather,
            settings=LogSettings(
                failover=knobs.failover, ack=knobs.ack, disk_ms=1, election_ms=(1_000, 2_000), heartbeat_ms=100,
                rest={"ack_timeout_ms": TIMEOUT_MS, "read_timeout_ms": TIMEOUT_MS // 2},
            ),
        )  # fmt: skip
        self._primary = cluster.run_until_led()
        cluster.run_until_equal()
        super().__init__(RunRecord(mode, names, seed, single_writer=True), cluster)
        self.knobs = knobs
        self._rng = cluster.world.dice("compare", "ways")
        self._crashed = ""
        self._wanted: LogPosition | None = None

    def go(self, until_ms: int) -> None:
        """Let it happen, and note who leads on the way."""
        leading = ""
        while self.now_ms() < until_ms:
            self.cluster.run(min(20, until_ms - self.now_ms()))
            now_leading = self.cluster.leader()
            if now_leading and now_leading != leading:
                self.note("primary", now_leading, f"{now_leading} takes writes")
                leading = now_leading

    # -- calls

    async def _way(self, source: str, target: str) -> bool:
        """Whether a message gets from one node to another; takes as long as it does."""
        if source == target:
            return True
        path = self.cluster.network.path(source, target)
        if path.holds or path.down:
            return False
        await self.pause(path.weather.delay_ms(self._rng))
        return not (path.holds or path.down)

    async def _call(self, home: str, target: str, ask: Any) -> Answer:
        """Ask something of a node, and bring back the answer; the fate is unknown where one of the ways is cut."""
        done: Later[Answer] = Later()
        self.cluster.world.after(TIMEOUT_MS, done.settle, Answer("unknown", "no answer", target))
        if not await self._way(home, target):
            return await done
        node = self.cluster.nodes[target]
        if not node.is_up:
            return Answer("refused", "NotConnected", target)
        ask(node, done)
        answer = await done
        return answer if await self._way(target, home) else Answer("unknown", "no answer", target)

    async def read(self, home: str, key: str) -> Answer:
        """A read of the level that this mode is about."""
        own = self.cluster.nodes[home]
        if not own.is_up:
            return Answer("refused", "NotConnected", home)
        level = self.knobs.read
        target = home
        if level is ReadLevel.LEADER:
            target = own.running.leader
            if not target:
                return Answer("refused", "NotPrimary", home)

        def ask(node: LogNode, done: Later[Answer]) -> None:
            def answered(event: object) -> None:
                if isinstance(event, events.ReadReady):
                    done.settle(self._found(node, key))
                elif isinstance(event, events.Failed):
                    done.settle(Answer("refused", type(event.error).__name__, node.name))

            bounds = {"max_entries": BOUND_ENTRIES} if level is ReadLevel.BOUNDED else {}
            try:
                node.ask(lambda core, token: core.read(level, node.now()[0], token=token, **bounds), answered)
            except MmreplError as error:
                done.settle(Answer("refused", type(error).__name__, node.name))

        return await self._call(home, target, ask)

    def _found(self, node: LogNode, key: str) -> Answer:
        core = node.running
        found = core.get(DEFAULT_TABLE, key)
        items = () if found is None else shown(decode(found[0]))
        return Answer(
            "ok", node=node.name, siblings=items, live=len(items),
            position=LogPosition(core.log.term_at(core.applied), core.applied),
        )  # fmt: skip

    async def write(self, home: str, key: str, items: list[str] | None, context: Any) -> Answer:
        """A write at the primary that the client's own node names."""
        del context  # a key has one value here: whatever is there is written over
        own = self.cluster.nodes[home]
        if not own.is_up:
            return Answer("refused", "NotConnected", home)
        target = own.running.leader
        if not target:
            return Answer("refused", "NotPrimary", home)
        payload = None if items is None else encode(list(items))

        def ask(node: LogNode, done: Later[Answer]) -> None:
            term = node.running.term

            def answered(event: object) -> None:
                if isinstance(event, events.Answered):
                    log = node.running.log
                    known = log.start < event.index <= log.last
                    mark = LogPosition(log.term_at(event.index) if known else term, event.index)
                    done.settle(Answer("ok", node=node.name, mark=mark))
                elif isinstance(event, events.Failed):
                    why = type(event.error).__name__
                    done.settle(Answer("refused" if event.error.definite else "unknown", why, node.name))

            try:
                node.ask(
                    lambda core, token: core.propose(DEFAULT_TABLE, key, payload, *node.now(), token=token), answered
                )
            except MmreplError as error:
                done.settle(Answer("refused" if error.definite else "unknown", type(error).__name__, node.name))

        return await self._call(home, target, ask)

    # -- the script

    def isolate(self) -> None:
        """Cut the primary off from all others."""
        primary = self._primary = self.cluster.leader() or self.run.nodes[0]
        self.run.isolated = frozenset({primary})
        self.note("isolate", primary, f"{primary} is cut off from all others")
        self.cluster.partition({primary}, set(self.run.nodes) - {primary})

    def promote(self) -> None:
        """
        Where nobody is elected, an operator promotes the first node of the other side.

        If another one is further, that one instead; if nobody can know, because the primary does not answer, by force.
        """
        if self.knobs.failover is Failover.MANUAL:
            self._promote(next(name for name in self.run.nodes if name not in self.run.isolated), force=False)

    def _other_than(self, name: str) -> str:
        """A node of the other side that is up."""
        there = [other.name for other in self.cluster.up() if other.name not in self.run.isolated | {name}]
        return there[0]

    def _promote(self, name: str, *, force: bool) -> None:
        node = self.cluster.nodes[name]

        def answered(event: object) -> None:
            if event is None:  # it died meanwhile: another one
                self._promote(self._other_than(name), force=False)
            elif isinstance(event, events.Failed) and isinstance(event.error, PromotionRefused):
                ahead = event.error.ahead
                there = [other for other in sorted(ahead) if self.cluster.nodes[other].is_up]
                further = max(there, key=ahead.__getitem__, default=name)
                self._promote(further, force=further == name)

        self.note("promote", name, f"an operator promotes {name}{' by force' if force else ''}")
        try:
            node.ask(lambda core, token: core.promote(node.now()[0], token=token, force=force), answered)
        except MmreplError as error:
            self.note("promote", name, f"{name} refuses: {error}")

    def crash(self) -> None:
        """The last replica of the other side loses power."""
        leading = self.cluster.leader()
        others = [name for name in self.run.nodes if name not in self.run.isolated and name != leading]
        self._crashed = others[-1] if others else self.run.nodes[-1]
        self.note("crash", self._crashed, f"{self._crashed} crashes")
        self.cluster.crash(self._crashed, power=True)

    def restart(self) -> None:
        """It comes back."""
        if self._crashed:
            self.note("restart", self._crashed, f"{self._crashed} is back")
            self.cluster.restart(self._crashed)

    def heal(self) -> None:
        """The network is whole again; from here on the time to agreement counts."""
        self.note("heal", "", "the network is whole again")
        self.cluster.heal()
        self.cluster.world.after(1, self._look)

    def _look(self) -> None:
        """Do all nodes have the log of whoever leads, as far as it went at the heal?"""
        up = self.cluster.up()
        leading = self.cluster.leader()
        if leading and self._wanted is None:
            log = self.cluster.core(leading).log
            self._wanted = LogPosition(log.last_term, log.last)
        wanted = self._wanted
        if wanted is not None and len(up) == len(self.run.nodes) and all(_has(node, wanted) for node in up):
            self.run.converged_ms = self.now_ms() - (self.run.at("heal") or 0)
            self.note("converged", "", "all nodes have the log of the primary")
        else:
            self.cluster.world.after(1, self._look)

    # -- the end

    def end(self) -> None:
        """Let it agree, and note what is left."""
        cluster, run = self.cluster, self.run
        self.count()
        self.note("end", "", "the clients have stopped")
        try:
            cluster.run_until_led()
            cluster.run_until_equal()
        except WaitTimeout as error:
            self.note("end", "", str(error))
        core = cluster.core(cluster.leader() or run.nodes[0])
        for record in run.records:
            mark = record.mark
            if isinstance(mark, LogPosition) and (
                core.log.start < mark.index <= core.log.last and core.log.term_at(mark.index) == mark.term
            ):
                run.survived.add(mark)
        for key in sorted({record.key for record in run.records}):
            found = core.get(DEFAULT_TABLE, key)
            run.final[key] = () if found is None else shown(decode(found[0]))


def _has(node: LogNode, wanted: LogPosition) -> bool:
    core = node.running
    return core.applied >= wanted.index and core.log.term_at(core.applied) >= wanted.term
