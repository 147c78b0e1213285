"""
A cluster to play with: several nodes, one process, virtual time.

    >>> cluster = Cluster(["paris", "tokyo", "lima"], seed=7)
    >>> cluster.partition({"paris"}, {"tokyo", "lima"})
    >>> _ = cluster["paris"].put("k", 1)
    >>> cluster.run(10)
    >>> _ = cluster["lima"].put("k", 2)
    >>> cluster.heal()
    >>> took_ms = cluster.run_until_converged()
    >>> [node.get("k") for node in cluster]
    [2, 2, 2]

Nothing happens by itself: time passes when `run` or `run_until_converged` is called. The nodes run the real core, log,
codec and framing; the network, the disks and the clocks are made of a seed, and a seed gives the same run every time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from attrs import evolve

from mmrepl.causality.dot import Dot
from mmrepl.causality.version_vector import EMPTY, VersionVector
from mmrepl.errors import WaitTimeout
from mmrepl.replication.multi_master import MultiMaster
from mmrepl.resolvers import LastWriterWins, Resolver
from mmrepl.resolvers.sibling import value_text
from mmrepl.sim.diagram import Diagram
from mmrepl.sim.handle import NodeHandle
from mmrepl.sim.history import Did, Final, Forgiven, History, Place
from mmrepl.sim.network import Weather
from mmrepl.sim.node import Settings, SimNode
from mmrepl.sim.stage import Stage
from mmrepl.sim.topology import Edge
from mmrepl.store.read import read_payload, resolve
from mmrepl.types import Limits

SETTLED_MS = 1_000
"""A cluster is made with its nodes connected: so long it has to find itself before anything else happens."""


class Cluster(Stage[SimNode]):
    """
    Nodes by name, on a network that you cut and heal.

    *tables* and *default* choose resolvers, as for a `Replica`. *topology* is ``"mesh"``, ``"star"`` (around the first
    name), ``"line"``, ``"ring"``, ``"random"``, or a list of pairs of names. *weather* is what the network does to
    messages; by default it delays them by a few milliseconds. *settings* has the rarer knobs.
    """

    def __init__(
        self,
        names: Iterable[str],
        *,
        seed: int = 0,
        tables: Mapping[str, Resolver] | None = None,
        default: Resolver | None = None,
        topology: str | Iterable[Edge] = "mesh",
        weather: Weather | None = None,
        datagrams: bool = False,
        settings: Settings | None = None,
        settle: bool = True,
    ) -> None:
        super().__init__(names, seed=seed, topology=topology, weather=weather, datagrams=datagrams)
        base = settings or Settings()
        self.settings = evolve(
            base,
            tables=dict(tables) if tables is not None else base.tables,
            default=default if default is not None else base.default,
        )
        self.history = _history_for(self.settings)
        for name in self.names:
            self._make(name)
        for name in self.names:
            self.nodes[name].start()
        if settle:
            self.run(SETTLED_MS)

    # -- nodes

    def __getitem__(self, name: str) -> NodeHandle:
        """What clients see of a node. Raises UsageError for a name that is none."""
        return NodeHandle(self, self.node(name))

    def __iter__(self) -> Iterator[NodeHandle]:
        return (self[name] for name in self.names)

    def core(self, name: str) -> MultiMaster:
        """The core of a node, for those who want to look inside. Raises ClosedError while it is down."""
        return self.node(name).store_core

    def join(self, name: str, peers: Collection[str] | None = None) -> NodeHandle:
        """A new node, empty, that knows *peers* (all, if None)."""
        self.add(name, peers)
        return self[name]

    def remove(self, name: str, *, at: str) -> None:
        """Take *name* out of the cluster, at node *at*, from where it spreads."""
        self.core(at).remove(name)
        self.note(f"{at} removes {name}")
        self.node(at)._wake()

    def note(self, text: str) -> None:
        """Write down what was done to the world."""
        self.history.add(Did(self.world.now_ms, text))
        super().note(text)

    def run_until_converged(self, limit_ms: int = 60_000) -> int:
        """
        Let time pass until all nodes that are up show the same; returns how long that took, in ms.

        Raises:
            WaitTimeout: they do not after *limit_ms*; says what still differs.
        """
        start, step = self.world.now_ms, 10
        self.world.run_until(start)
        while (difference := self.difference()) is not None:
            if self.world.now_ms - start >= limit_ms:
                raise WaitTimeout(f"not converged after {limit_ms} ms: {difference}")
            self.run(step)
            step = min(step + 5, 100)
        return self.world.now_ms - start

    def difference(self) -> str | None:
        """What differs between nodes that are up, in a sentence; None when they are equal."""
        up = self.up()
        if not up:
            return None
        for node in up:
            if node.store_core.rejoin.carried:
                return f"{node.name} has still to write again what it had set aside"
        first = up[0]
        for other in up[1:]:
            ours, theirs = (node.store_core.local.store.version for node in (first, other))
            if ours != theirs:
                return _lacking(first.name, ours, other.name, theirs)
        states = [(node.name, _reads(node.store_core)) for node in up]
        _, payloads = states[0]
        for name, theirs_shown in states[1:]:
            for place in sorted(payloads.keys() | theirs_shown.keys()):
                if payloads.get(place) != theirs_shown.get(place):
                    table, key = place
                    where = f"key {key!r}" + (f" of table {table!r}" if table else "")
                    here, there = (value_text(shows.get(place), "absent") for shows in (payloads, theirs_shown))
                    return f"{where} reads {here} at {first.name} and {there} at {name}"
        return None

    @property
    def converged(self) -> bool:
        """Whether all nodes that are up show the same."""
        return self.difference() is None

    # -- to look at

    def diagram(self, *, width: int = 100) -> Diagram:
        """What happened, as a space-time diagram: lanes are nodes, time goes down."""
        return Diagram.of(self.names, self.history, width=width)

    def finals(self) -> list[Final]:
        """Everything that the nodes which are up show now."""
        found = []
        for node in self.up():
            core = node.store_core
            siblings, payloads = shown(core)
            watermark = core.acks.stable() if not core.members.expected else EMPTY
            found.append(Final(node.name, core.local.store.version, watermark, siblings, payloads))
        return found

    def check(self) -> None:
        """Assert the invariants of every core."""
        for node in self.up():
            node.store_core.check()

    # -- for the nodes

    @property
    def limits(self) -> Limits:
        """Of every node."""
        return self.settings.limits

    @property
    def compression(self) -> str | None:
        """Of what they send each other."""
        return self.settings.compression

    def host(self, name: str, address: str, expected: tuple[str, ...]) -> SimNode:
        """A node of a multi-master cluster."""
        return SimNode(self, name, address, expected, mesh=self._mesh)

    def holders(self, dot: Dot) -> int:
        """On the disks of how many nodes a write has been, whatever they say."""
        return sum(node.once_durable.covers(dot) for node in self.nodes.values())

    def acknowledged(self, node: SimNode, dot: Dot) -> None:
        """A write was acknowledged to its writer. Whoever wants to know replaces this."""

    def forgive(self, name: str, why: str) -> None:
        """A disk lost something: writes that no disk has may be missing from here on."""
        self.nodes[name].has_lost = True
        held = self._on_disks()
        lost = frozenset(event.dot for event in self.history.writes() if not held.covers(event.dot))
        self.history.add(Forgiven(self.world.now_ms, name, lost, why))

    def forgive_what_was_left_to_the_lost(self) -> None:
        """
        Writes that were on a disk which lost them, and that somebody else had let go of, trusting in that copy.

        A node that starts over sets aside only what the other has not: should that one lose its disk in the same
        moment, nobody has it.
        """
        held = self._on_disks()
        once = [node.once_durable for node in self.nodes.values() if node.has_lost]
        lost = frozenset(
            event.dot
            for event in self.history.writes()
            if not held.covers(event.dot) and any(version.covers(event.dot) for version in once)
        )
        self.history.add(Forgiven(self.world.now_ms, "", lost, "left to a disk that lost it"))

    def _on_disks(self) -> VersionVector:
        held = EMPTY
        for node in self.nodes.values():
            held = held.join(node.durable_version)
        return held


def _reads(core: MultiMaster) -> dict[Place, bytes | None]:
    """What every key of a core reads; the second half of `shown`."""
    store = core.local.store
    tables = [store.table(name) for name in store.table_names()]
    reads = {(table.name, key): read_payload(store, table, key) for table in tables for key in sorted(table.states)}
    return {place: payload for place, payload in reads.items() if payload is not None}


def shown(
    core: MultiMaster,
) -> tuple[dict[Place, tuple[tuple[Dot, int, bytes | None], ...]], dict[Place, bytes | None]]:
    """The live siblings of every key of a core, and what its resolver makes of them. Keys that show nothing are out."""
    store = core.local.store
    siblings: dict[Place, tuple[tuple[Dot, int, bytes | None], ...]] = {}
    payloads: dict[Place, bytes | None] = {}
    for name in store.table_names():
        table = store.table(name)
        for key in sorted(table.states):
            resolution, live = resolve(store, table, key)
            siblings[name, key] = tuple((s.dot, s.timestamp, s.payload) for s in live)
            if resolution.payload is not None:
                payloads[name, key] = resolution.payload
    return siblings, payloads


def _history_for(settings: Settings) -> History:
    default = settings.default if settings.default is not None else LastWriterWins()
    selecting = {name for name, resolver in settings.tables.items() if resolver.selects}
    keeping = {name for name, resolver in settings.tables.items() if not resolver.selects}
    drift = settings.limits.max_drift_ms
    return History(selecting=selecting, keeping=keeping, default_selects=default.selects, max_drift_ms=drift)


def _lacking(one: str, ours: VersionVector, other: str, theirs: VersionVector) -> str:
    for name, vector, ahead in ((one, ours, theirs), (other, theirs, ours)):
        for origin, (first, last) in vector.lacks(ahead).items():
            return f"{name} lacks writes {first} to {last} of {origin}"
    return f"{one} has {ours}, {other} has {theirs}"
