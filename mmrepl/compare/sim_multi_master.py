"""
The multi-master mode in virtual time, as the clients of a comparison meet it.

A client talks to its own node and to no other: that one takes the write, alone if need be, and answers when it is on
its disk.
"""

from __future__ import annotations

from typing import Any

from mmrepl.causality.dot import Dot
from mmrepl.causality.version_vector import EMPTY, VersionVector
from mmrepl.compare.clients import Answer
from mmrepl.compare.record import RunRecord
from mmrepl.compare.sim_world import TimedWorld
from mmrepl.compare.virtual import Later
from mmrepl.errors import MmreplError, WaitTimeout
from mmrepl.resolvers import Resolver
from mmrepl.sim.cluster import Cluster
from mmrepl.sim.network import Weather
from mmrepl.sim.node import Settings, SimNode
from mmrepl.types import DEFAULT_TABLE, Value
from mmrepl.values import encode


def shown(value: Value) -> tuple[frozenset[str], ...]:
    """What a read says: the items of one list or, where the table keeps siblings, of several."""
    if not isinstance(value, list):
        return ()
    if value and all(isinstance(one, list) for one in value):
        return tuple(frozenset(str(item) for item in one) for one in value if isinstance(one, list))
    return (frozenset(str(item) for item in value),)


class MultiMasterWorld(TimedWorld[Cluster]):
    """See `mmrepl.compare.clients.World`."""

    def __init__(self, mode: str, names: tuple[str, ...], seed: int, resolver: Resolver, weather: Weather) -> None:
        cluster = Cluster(names, seed=seed, default=resolver, weather=weather, settings=Settings(disk_ms=1))
        super().__init__(RunRecord(mode, names, seed), cluster)
        cluster.acknowledged = self._acknowledged  # type: ignore[method-assign]
        self._timeout_ms = 2_000
        self._acks: dict[Dot, Later[bool]] = {}
        self._wanted: VersionVector | None = None  # what the nodes had at the heal, together

    # -- calls

    async def read(self, home: str, key: str) -> Answer:
        """What the client's own node shows; at once."""
        node = self.cluster.nodes[home]
        if not node.is_up:
            return Answer("refused", "NotConnected", home)
        found = node.read(DEFAULT_TABLE, key)
        return Answer(
            "ok",
            node=home,
            siblings=shown(found.value),
            live=sum(not one.is_tombstone for one in found.siblings),
            context=found.context,
            position=node.store_core.local.store.version,
        )

    async def write(self, home: str, key: str, items: list[str] | None, context: Any) -> Answer:
        """Over what the read showed; done when it is on the disk of the client's own node."""
        node = self.cluster.nodes[home]
        if not node.is_up:
            return Answer("refused", "NotConnected", home)
        payload = None if items is None else encode(list(items))
        try:
            counter = node.write(DEFAULT_TABLE, key, payload, context=context)
        except MmreplError as error:
            return Answer("refused" if error.definite else "unknown", type(error).__name__, home)
        dot = Dot(node.store_core.local.store.node, counter)
        later = self._acks[dot] = Later()
        self.cluster.world.after(self._timeout_ms, later.settle, False)
        done = await later
        del self._acks[dot]
        return Answer("ok" if done else "unknown", "" if done else "no answer", home, mark=dot)

    def _acknowledged(self, node: SimNode, dot: Dot) -> None:
        del node
        later = self._acks.get(dot)
        if later is not None:
            later.settle(True)

    # -- the script

    def isolate(self) -> None:
        """Cut the first node off: there is no primary."""
        first = self.run.nodes[0]
        self.run.isolated = frozenset({first})
        self.note("isolate", first, f"{first} is cut off from all others")
        self.cluster.partition({first}, set(self.run.nodes) - {first})

    def promote(self) -> None:
        """Nobody needs to be promoted."""

    def crash(self) -> None:
        """The last node loses power."""
        last = self.run.nodes[-1]
        self.note("crash", last, f"{last} crashes")
        self.cluster.crash(last, power=True)

    def restart(self) -> None:
        """It comes back."""
        last = self.run.nodes[-1]
        self.note("restart", last, f"{last} is back")
        self.cluster.restart(last)

    def heal(self) -> None:
        """The network is whole again; from here on the time to agreement counts."""
        self.note("heal", "", "the network is whole again")
        self.cluster.heal()
        self.cluster.world.after(1, self._look)

    def _look(self) -> None:
        """Do all nodes have what any of them had at the heal?"""
        if self.run.converged_ms is not None:
            return
        versions = [node.store_core.local.store.version for node in self.cluster.up()]
        if self._wanted is None:
            self._wanted = EMPTY
            for version in versions:
                self._wanted = self._wanted.join(version)
        if len(versions) == len(self.run.nodes) and all(version.descends(self._wanted) for version in versions):
            self.run.converged_ms = self.now_ms() - (self.run.at("heal") or 0)
            self.note("converged", "", "all nodes have what any of them had")
        else:
            self.cluster.world.after(1, self._look)

    # -- the end

    def end(self) -> None:
        """Let it agree, and note what is left."""
        cluster, run = self.cluster, self.run
        self.count()
        self.note("end", "", "the clients have stopped")
        try:
            cluster.run_until_converged()
        except WaitTimeout as error:
            self.note("end", "", str(error))
        version = cluster.up()[0].store_core.local.store.version
        marks = (record.mark for record in run.records if isinstance(record.mark, Dot))
        run.survived = {mark for mark in marks if version.covers(mark)}
        for key in sorted({record.key for record in run.records}):
            run.final[key] = shown(cluster.up()[0].read(DEFAULT_TABLE, key).value)
