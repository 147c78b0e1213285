"""
A stage: hosts by name on one network, in one virtual time; what both modes' clusters are made of.

Nodes are crashed, restarted and paused here, and the network is cut and healed; what the nodes run is the business of
the clusters that stand on it (`mmrepl.sim.cluster` has the one of the multi-master mode).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from attrs import evolve

from mmrepl.errors import UsageError
from mmrepl.sim.network import Network, Weather
from mmrepl.sim.topology import Edge, edges_of
from mmrepl.sim.trace import Trace
from mmrepl.sim.world import World
from mmrepl.types import Limits

if TYPE_CHECKING:
    from mmrepl.sim.host import SimHost

HostT = TypeVar("HostT", bound="SimHost[Any]")


class Stage(ABC, Generic[HostT]):
    """Hosts by name, the network between them, time, and the trace of it all."""

    def __init__(
        self,
        names: Iterable[str],
        *,
        seed: int,
        topology: str | Iterable[Edge] = "mesh",
        weather: Weather | None = None,
        datagrams: bool = False,
    ) -> None:
        self.names = list(names)
        if len(set(self.names)) != len(self.names) or not self.names:
            raise UsageError("a cluster needs names for its nodes, each once")
        self.seed = seed
        self.world = World(seed)
        self.trace = Trace()
        self.network = Network(self.world, datagrams=datagrams)
        self.fired = self.network.fired  # how often each fault took effect
        self.messages: Counter[str] = Counter()  # that arrived, by type
        self.nodes: dict[str, HostT] = {}
        self._weather = weather
        self._held: list[tuple[str, str]] = []
        self._mesh = topology == "mesh"
        self.edges = edges_of(self.names, topology, self.world.dice("topology"))

    # -- what a kind of cluster adds

    @property
    @abstractmethod
    def limits(self) -> Limits:
        """Of every node."""

    @property
    @abstractmethod
    def compression(self) -> str | None:
        """Of what they send each other."""

    @abstractmethod
    def host(self, name: str, address: str, expected: tuple[str, ...]) -> HostT:
        """A host of this kind that was configured with the addresses of its neighbours."""

    @abstractmethod
    def remove(self, name: str, *, at: str) -> None:
        """Take *name* out of the cluster, at node *at*, from where it spreads."""

    def note(self, text: str) -> None:
        """Write down what was done to the world."""
        self.trace.add(self.world.now_ms, "-", "did", text)

    def crashed(self, node: HostT) -> None:
        """A node died by itself. Whoever drives the cluster may want to know, and replaces this."""
        self.note(f"{node.name} dies")

    def forgive(self, name: str, why: str) -> None:
        """A disk lost something: judge what comes by what is left."""

    # -- nodes

    def _make(self, name: str) -> HostT:
        """A node that is not started yet. It is configured with its neighbours, and they with it."""
        expected = tuple(address_of(other) for edge in self.edges if name in edge for other in edge if other != name)
        node = self.nodes[name] = self.host(name, address_of(name), expected)
        if self._weather is not None:
            for other in self.names:
                if other != name:
                    for path in (self.network.path(name, other), self.network.path(other, name)):
                        path.weather = evolve(self._weather)
        return node

    def under(self, weather: Weather) -> None:
        """From now on this is what the network does, between the nodes that are there and those to come."""
        self._weather = weather
        for one in self.names:
            for other in self.names:
                if one != other:
                    self.network.path(one, other).weather = evolve(weather)

    def __len__(self) -> int:
        return len(self.names)

    def add(self, name: str, peers: Collection[str] | None = None) -> HostT:
        """A new node, empty, that knows *peers* (all, if None)."""
        if name in self.nodes:
            raise UsageError(f"{name!r} is here already")
        self.edges += [(name, other) for other in (self.names if peers is None else sorted(peers))]
        self.names.append(name)
        self.note(f"{name} joins")
        node = self._make(name)
        node.start()
        return node

    def node(self, name: str) -> HostT:
        """The simulated node itself. Raises UsageError."""
        try:
            return self.nodes[name]
        except KeyError:
            raise UsageError(f"no node is called {name!r}; there are {', '.join(self.names)}") from None

    def up(self) -> list[HostT]:
        """Nodes whose process runs, in order of their making."""
        return [node for node in self.nodes.values() if node.is_up]

    def addresses_beside(self, node: HostT) -> list[str]:
        """Where the neighbours of a node are, by the edges, in order."""
        nodes, name = self.nodes, node.name
        beside = {other if one == name else one for one, other in self.edges if name in (one, other)}
        return sorted(nodes[other].address for other in beside if other in nodes)

    # -- what happens to nodes

    def crash(self, name: str, *, power: bool = False) -> None:
        """The process dies at once; with *power* the machine does, and what was not synced may be lost."""
        node = self.node(name)
        if node.is_up:
            self.note(f"{name} loses power" if power else f"{name} crashes")
            node.stop("lost power" if power else "crashed", power=power)

    def restart(self, name: str) -> None:
        """Start it again, on its own disk."""
        node = self.node(name)
        if not node.is_up:
            self.note(f"{name} restarts")
            node.start()

    def pause(self, name: str) -> None:
        """It stands still, as under SIGSTOP; what is sent to it waits."""
        self.note(f"{name} stands still")
        self.node(name).pause()

    def resume(self, name: str) -> None:
        """It goes on."""
        self.note(f"{name} goes on")
        self.node(name).resume()

    def skew(self, name: str, ms: int) -> None:
        """Set a wall clock forward by *ms* milliseconds, or back."""
        self.note(f"the clock of {name} jumps by {ms} ms")
        self.node(name).clock.jump(ms)

    def wipe(self, name: str) -> None:
        """Everything on the disk of a node that is down is lost. Raises UsageError while it is up."""
        node = self.node(name)
        if node.is_up:
            raise UsageError(f"{name} is up: crash it first")
        self.note(f"the disk of {name} is wiped")
        node.wiped()
        self.forgive(name, "wiped")

    # -- what happens to the network

    def partition(self, *groups: Collection[str]) -> None:
        """
        Nodes of different groups no longer hear each other; nodes that stand in no group are a group of their own.

        What is sent across waits, as in a network that has lost its way, and arrives after `heal`.
        """
        for group in groups:
            for name in group:
                self.node(name)
        rest = {name for name in self.names if not any(name in group for group in groups)}
        parts = [set(group) for group in groups] + ([rest] if rest else [])
        self.heal(quietly=True)
        self.note("partition " + " | ".join(" ".join(sorted(part)) for part in parts))
        for part in parts:
            for one in sorted(part):
                for other in self.names:
                    if other not in part:
                        self._hold(one, other)

    def hold(self, source: str, target: str, *, both: bool = False) -> None:
        """What *source* sends to *target* waits until `heal`; with *both*, the other way too."""
        self.note(f"{source} {'<' if both else ''}-> {target} is held")
        self._hold(source, target)
        if both:
            self._hold(target, source)

    def cut(self, one: str, other: str) -> None:
        """Reset the connections between two nodes. They dial again."""
        self.note(f"{one} -/- {other} is cut")
        self.network.cut(one, other)

    def heal(self, *, quietly: bool = False) -> None:
        """Everything that was held is let go."""
        if self._held and not quietly:
            self.note("heal")
        held, self._held = self._held, []
        for source, target in held:
            self.network.let_go(source, target)

    def _hold(self, source: str, target: str) -> None:
        self._held.append((source, target))
        self.network.hold(source, target)

    # -- time

    @property
    def now_ms(self) -> int:
        """Milliseconds since the beginning."""
        return self.world.now_ms

    def run(self, ms: int) -> None:
        """Let time pass."""
        self.world.run_until(self.world.now_ms + ms)


def address_of(name: str) -> str:
    """Where a node listens at first."""
    return f"{name}:7400"
