"""
The same world in virtual time: simulated nodes run the real core, on a network made of a seed.

Nothing waits: the nodes' time passes when the story waits for something, and a little whenever it pauses for the one
who watches. The same seed tells the same story to the byte.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmrepl.causality.context import CausalContext
from mmrepl.causality.dot import Dot
from mmrepl.cli.demo.resolvers import merge_carts
from mmrepl.cli.demo.virtual import Virtual
from mmrepl.cli.demo.world import NAMES, Heard, Place, View
from mmrepl.cli.remote import Found, KeyRead
from mmrepl.resolvers import Callback, KeepSiblings
from mmrepl.runtime.resp.shown import kind, shown
from mmrepl.sim.cluster import Cluster
from mmrepl.sim.history import Applied, Wrote
from mmrepl.types import Value
from mmrepl.values import decode
from mmrepl.wire.tokens import context_token, parse_context_token


class Simulated(Virtual):
    """See `mmrepl.cli.demo.world.World`."""

    kind = "simulated"

    def __init__(self, seed: int, *, real_time: bool) -> None:
        """With *real_time*, pauses take the time of the one who watches; the nodes' time passes in any case."""
        self.facts = {"seed": seed}
        self._seed = seed
        super().__init__(real_time=real_time)
        self._cluster: Cluster | None = None

    @property
    def cluster(self) -> Cluster:
        """The nodes, once they have begun."""
        assert self._cluster is not None
        return self._cluster

    def begin(self) -> Sequence[str]:
        """Nodes on a network with some delay."""
        tables = {"drafts": KeepSiblings(), "carts": Callback(merge_carts)}
        self._cluster = Cluster(NAMES, seed=self._seed, tables=tables, settle=False)
        return (f"They run in virtual time, on a network made of seed {self._seed}: each run of it is the same.",)

    def close(self) -> None:
        """Nothing was started that would have to end."""

    def now_ms(self) -> int:
        """Virtual time."""
        return self.cluster.now_ms if self._cluster is not None else 0

    def put(self, node: str, place: Place, value: Value, context: str | None = None) -> Dot:
        """At a simulated node; a millisecond passes, as nobody writes twice at once."""
        table, key = place
        known = None if context is None else CausalContext.from_bytes(parse_context_token(context.encode()))
        dot = self.cluster[node].table(table).put(key, value, context=known).dot
        self.cluster.run(1)
        return dot

    def look(self, node: str, places: Sequence[Place]) -> View:
        """A simulated node, from inside."""
        handle, core = self.cluster[node], self.cluster.core(node)
        now_ms, heartbeat_ms = self.cluster.node(node).clock.monotonic_ms(), core.limits.heartbeat_ms
        peers = {name: peer.state(now_ms, heartbeat_ms).value for name, peer in core.peers.items()}
        return View(node, peers, handle.version, {place: self._read(node, place) for place in places})

    def _read(self, node: str, place: Place) -> KeyRead:
        table, key = place
        found = self.cluster[node].table(table).read(key)
        lost = {loser.dot for loser in found.losers}
        siblings = tuple(
            Found(
                dot=str(sibling.dot),
                timestamp=sibling.timestamp,
                deleted=sibling.is_tombstone,
                shown=found.present and sibling.dot not in lost,
                type=None if sibling.is_tombstone else kind(sibling.value),
                value=sibling.value,
            )
            for sibling in found.siblings
        )
        return KeyRead(
            key=key,
            table=table,
            present=found.present,
            type=kind(found.value) if found.present else None,
            value=found.value,
            shown=shown(found.value) if found.present else None,
            resolver=self.cluster.core(node).local.store.table(table).resolver.policy,
            context=context_token(found.context.to_bytes()),
            siblings=siblings,
        )

    def cut(self, one: Sequence[str], other: Sequence[str]) -> None:
        """The connections are reset, and what dials across waits."""
        self.cluster.partition(set(one), set(other))
        for name in one:
            for peer in other:
                self.cluster.cut(name, peer)

    def heard(self) -> Sequence[Heard]:
        """From the history that the cluster keeps."""
        events: list[Heard] = []
        for event in self.cluster.history.events:
            if isinstance(event, Wrote):
                table, key = event.place
                value = None if event.payload is None else decode(event.payload)
                events.append(Heard(event.at_ms, event.node, event.dot, table, key, event.payload is None, value))
            elif isinstance(event, Applied):
                for counter, (table, key), _, payload in event.contents:
                    dot = Dot(event.origin, counter)
                    value = None if payload is None else decode(payload)
                    events.append(Heard(event.at_ms, event.node, dot, table, key, payload is None, value))
        return events
