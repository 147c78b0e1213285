"""
A single-master cluster to play with: several nodes, one process, virtual time.

    >>> cluster = SingleMasterCluster(["paris", "tokyo", "lima"], seed=7)
    >>> leader = cluster.run_until_led()
    >>> _ = cluster.put("k", 1)
    >>> cluster.partition({leader}, set(cluster.names) - {leader})
    >>> cluster.run(5_000)
    >>> cluster.leader() != leader
    True

Nothing happens by itself: time passes when `run` and its like are called. The nodes run the real core, log, codec and
framing; the network, the disks and the clocks are made of a seed, and a seed gives the same run every time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import field, frozen

from mmrepl.errors import Unavailable, WaitTimeout
from mmrepl.sim.network import Weather
from mmrepl.sim.single_master.history import Did, Final, LogHistory, Lost
from mmrepl.sim.single_master.node import WRITERS, LogNode
from mmrepl.sim.stage import Stage
from mmrepl.single_master import events
from mmrepl.single_master.core import SingleMaster
from mmrepl.single_master.options import Ack, Failover, Options, ReadLevel
from mmrepl.types import DEFAULT_LIMITS, DEFAULT_TABLE, Limits, Value
from mmrepl.values import decode, encode


@frozen(kw_only=True)
class LogSettings:
    """What all nodes of a cluster have in common. Times in ms."""

    failover: Failover = field(default=Failover.AUTOMATIC, converter=Failover)
    ack: Ack = "quorum"
    election_ms: tuple[int, int] = (300, 600)
    heartbeat_ms: int = 50
    limits: Limits = DEFAULT_LIMITS
    secret: bytes | None = None
    compression: str | None = None
    disk_ms: int = 0  # how long a synced commit takes
    log_entries: int = 100_000  # the log is cut when longer
    log_margin: int = 10_000  # what a cut leaves for the slow
    rest: dict[str, Any] = field(factory=dict)  # further fields of the core's options


class SingleMasterCluster(Stage[LogNode]):
    """Nodes by name, on a network that you cut and heal. Arguments as of `mmrepl.sim.Cluster`."""

    def __init__(
        self,
        names: Iterable[str],
        *,
        seed: int = 0,
        weather: Weather | None = None,
        datagrams: bool = False,
        settings: LogSettings | None = None,
    ) -> None:
        super().__init__(names, seed=seed, weather=weather, datagrams=datagrams)
        self.settings = settings or LogSettings()
        self.disk_ms = self.settings.disk_ms
        self.history = LogHistory(elected=self.settings.failover is Failover.AUTOMATIC)
        self.founders = tuple(self.names)
        for name in self.names:
            self._make(name)
        for name in self.names:
            self.nodes[name].start()

    # -- what the stage asks for

    @property
    def limits(self) -> Limits:
        """Of every node."""
        return self.settings.limits

    @property
    def compression(self) -> str | None:
        """Of what they send each other."""
        return self.settings.compression

    def host(self, name: str, address: str, expected: tuple[str, ...]) -> LogNode:
        """A node of a single-master cluster."""
        return LogNode(self, name, address, expected)

    def options_of(self, node: LogNode) -> Options:
        """What a node is told at its start."""
        settings = self.settings
        return Options(
            **{
                "cluster": "sim",
                "address": node.address,
                "client": node.name,
                "expected": node.expected,
                "secret": settings.secret,
                "failover": settings.failover,
                "primary": settings.failover is Failover.MANUAL and node.name == self.founders[0],
                "ack": settings.ack,
                "heartbeat_ms": settings.heartbeat_ms,
                "election_ms_min": settings.election_ms[0],
                "election_ms_max": settings.election_ms[1],
                "log_entries": settings.log_entries,
                "log_margin": settings.log_margin,
                **settings.rest,
            }
        )

    def remove(self, name: str, *, at: str) -> None:
        """Ask node *at*, which has to be the leader, to take *name* out. Errors are the core's."""
        node = self.node(at)
        monotonic, wall = node.now()
        node.ask(
            lambda core, token: core.change_members(monotonic, wall, token=token, remove=(name,)), lambda _event: None
        )
        self.note(f"{at} removes {name}")

    def note(self, text: str) -> None:
        """Write down what was done to the world."""
        self.history.add(Did(self.world.now_ms, text))
        super().note(text)

    def forgive(self, name: str, why: str) -> None:
        """A disk lost something."""
        self.history.add(Lost(self.world.now_ms, name, why))

    # -- who leads

    def core(self, name: str) -> SingleMaster:
        """The core of a node, for those who want to look inside. Raises ClosedError while it is down."""
        return self.node(name).running

    def leader(self) -> str:
        """The node that leads in the highest term, of those that run; empty when none does."""
        leading = [node for node in self.up() if node.running.role in WRITERS]
        return max(leading, key=lambda node: node.running.term).name if leading else ""

    def run_until_led(self, limit_ms: int = 30_000) -> str:
        """
        Let time pass until a leader has committed in its term; returns its name.

        Raises WaitTimeout: nobody does within *limit_ms*.
        """
        start = self.world.now_ms
        while self.world.now_ms - start < limit_ms:
            name = self.leader()
            if name:
                core = self.core(name)
                if core.log.term_at(max(core.committed, core.log.start)) == core.term:
                    return name
            self.run(10)
        raise WaitTimeout(f"nobody leads after {limit_ms} ms")

    # -- what a person does

    def put(self, key: str, value: Value, *, table: str = DEFAULT_TABLE, ack: Ack | None = None) -> int:
        """Write at the leader, and let time pass until it is acknowledged; returns the index. Errors are the core's."""
        return self._write(table, key, encode(value, self.limits), ack)

    def delete(self, key: str, *, table: str = DEFAULT_TABLE, ack: Ack | None = None) -> int:
        """Delete at the leader, as `put`."""
        return self._write(table, key, None, ack)

    def _write(self, table: str, key: str, payload: bytes | None, ack: Ack | None) -> int:
        node = self.node(self.run_until_led())
        monotonic, wall = node.now()
        got: list[Any] = []
        node.ask(
            lambda core, token: core.propose(table, key, payload, monotonic, wall, token=token, ack=ack), got.append
        )
        while not got:
            self.run(5)
        event = got[0]
        if isinstance(event, events.Failed):
            raise event.error
        if event is None:
            raise Unavailable(f"{node.name} died before it could answer")
        return int(event.index)

    def get(self, name: str, key: str, default: Value = None, *, table: str = DEFAULT_TABLE) -> Value:
        """What node *name* has applied."""
        found = self.core(name).get(table, key)
        return default if found is None else decode(found[0])

    def read(
        self, name: str, key: str, level: str = "linearizable", default: Value = None, *, table: str = DEFAULT_TABLE
    ) -> Value:
        """A read at node *name* of that level, for which time may pass. Errors are the core's."""
        node = self.node(name)
        got: list[Any] = []
        node.ask(lambda core, token: core.read(ReadLevel(level), node.now()[0], token=token), got.append)
        while not got:
            self.run(1)
        if isinstance(got[0], events.Failed):
            raise got[0].error
        return self.get(name, key, default, table=table)

    def promote(self, name: str, *, force: bool = False) -> events.Promoted:
        """Make *name* the primary, and let time pass until it is. Raises PromotionRefused and others."""
        node = self.node(name)
        got: list[Any] = []
        node.ask(lambda core, token: core.promote(node.now()[0], token=token, force=force), got.append)
        while not got:
            self.run(5)
        if isinstance(got[0], events.Promoted):
            return got[0]
        raise got[0].error if got[0] is not None else Unavailable(f"{name} died before it was promoted")

    # -- to look at

    def difference(self) -> str | None:
        """What keeps the nodes that are up from being equal, in a sentence; None when they are."""
        up = self.up()
        applied = {node.name: node.running.applied for node in up}
        if len(set(applied.values())) > 1:
            return "applied: " + ", ".join(f"{name} {index}" for name, index in applied.items())
        if any(node.running.applied != node.running.log.last for node in up):
            return "not all that is in the logs is applied"
        return None

    def run_until_equal(self, limit_ms: int = 60_000) -> int:
        """Let time pass until all nodes have applied the same; returns how long that took. Raises WaitTimeout."""
        start = self.world.now_ms
        while (difference := self.difference()) is not None:
            if self.world.now_ms - start >= limit_ms:
                raise WaitTimeout(f"not equal after {limit_ms} ms: {difference}")
            self.run(20)
        return self.world.now_ms - start

    def finals(self) -> list[Final]:
        """What the nodes that are up hold."""
        found = []
        for node in self.up():
            core = node.running
            values = {}
            for table in core.tables():
                for key in core.keys(table):
                    value = core.get(table, key)
                    if value is not None:
                        values[table, key] = value[0]
            found.append(Final(node.name, core.applied, values))
        return found

    def check(self) -> None:
        """Assert the invariants of every core."""
        for node in self.up():
            node.running.check()
