"""
What clients do: sessions that write, delete and read at their node.

A handful of keys in three tables, one for each kind of resolver, so that writes meet. Most writes go over what the node
shows; some carry the context of an earlier read, perhaps of another node; some are blind. Every value is another. In
some seeds writes go over the receipts of earlier ones, too.
"""

from __future__ import annotations

from collections import deque
from random import Random

from mmrepl.causality.context import BLIND, CausalContext
from mmrepl.causality.dot import Dot
from mmrepl.errors import MmreplError
from mmrepl.ports import Durability
from mmrepl.resolvers import Callback, KeepSiblings, LastWriterWins, Resolver
from mmrepl.sim.cluster import Cluster
from mmrepl.sim.mix import Mix
from mmrepl.sim.node import SimNode
from mmrepl.values import encode

SESSIONS_A_NODE = 2

OVER_RECEIPT = 0.5
"""So many of the writes that have to do with receipts go over one; the others are blind: theirs cover little."""


def union(carts: list[list[int]]) -> list[int]:
    """Merges the lists of the table ``carts``."""
    return sorted({item for cart in carts for item in cart})


def tables() -> dict[str, Resolver]:
    """The tables of the workload."""
    return {"": LastWriterWins(), "drafts": KeepSiblings(), "carts": Callback(union)}


class Workload:
    """Draws and makes operations; each is planned in the world."""

    def __init__(self, cluster: Cluster, mix: Mix, operations: int, duration_ms: int) -> None:
        self._cluster = cluster
        self._mix = mix
        self._rng = Random(0)  # noqa: S311 - set anew for each operation
        self._contexts: deque[tuple[str, str, CausalContext]] = deque(maxlen=12)
        self._receipts: deque[tuple[str, str, CausalContext]] = deque(maxlen=4)
        self._unanswered: dict[Dot, tuple[str, str, CausalContext]] = {}  # receipts of writes that wait for the disk
        if mix.receipt_share:
            cluster.acknowledged = self._acknowledged  # type: ignore[method-assign]
        self.done_count = 0
        self.refused_count = 0
        start = cluster.now_ms
        planner = cluster.world.dice("workload")
        for number in range(1, operations + 1):
            at = start + int(planner.random() * duration_ms)
            cluster.world.at(at, self.one, number, planner.getrandbits(64))

    def one(self, number: int, seed: int) -> None:
        """
        The operation of that *number*, at one node; nothing if that one is down or stands still.

        Each has dice of its own: with fewer operations, those that are left stay as they were.
        """
        rng = self._rng
        rng.seed(seed)
        node = self._cluster.nodes[self._cluster.names[rng.randrange(len(self._cluster.names))]]
        session = 1 + rng.randrange(SESSIONS_A_NODE)
        table = ("", "drafts", "carts")[rng.randrange(3)]
        key = f"k{min(rng.randrange(self._mix.key_count), rng.randrange(self._mix.key_count))}"
        kind = rng.random()
        if not node.is_up or node.paused:
            return
        if kind < 0.3:
            found = node.read(table, key, session)
            assert node.core is not None
            local = node.core.local
            if local.mark.is_on_disk or local.durable_vector.descends(found.context.vector):
                self._contexts.append((table, key, found.context))
            self.done_count += 1
            return
        context: CausalContext | None = None
        if kind > 0.9:
            context = BLIND
        elif kind > 0.7 and self._contexts:
            latest = rng.random() < 0.5  # read this moment at one node, used at another, which may know less
            table, key, context = self._contexts[-1 if latest else rng.randrange(len(self._contexts))]
        payload = None if rng.random() < 0.2 else self._value(table, number, rng)
        weak = rng.random() < self._mix.weak_share
        durability = (Durability.NONE, Durability.BATCH)[rng.randrange(2)] if weak else Durability.SYNC
        acks: int | str = 1
        if rng.random() < self._mix.acks_share:
            acks = (2, "majority", "all")[rng.randrange(3)]
        if self._mix.receipt_share and rng.random() < self._mix.receipt_share:  # last: the rest is drawn as without
            context = BLIND
            if self._receipts and rng.random() < OVER_RECEIPT:
                table, key, context = self._receipts[-1 if rng.random() < 0.7 else rng.randrange(len(self._receipts))]
                payload = payload and self._value(table, number, rng)
        try:
            counter = node.write(
                table, key, payload, context=context, durability=durability, acks=acks, session=session
            )
            if self._mix.receipt_share and context is not None:
                dot = Dot(node.store_core.local.store.node, counter)
                self._unanswered[dot] = table, key, CausalContext(table, key, context.vector.including(dot))
            self.done_count += 1
        except MmreplError:
            self.refused_count += 1

    def _acknowledged(self, node: SimNode, dot: Dot) -> None:
        """The writer has its receipt, and may hand it to anybody."""
        del node
        if dot in self._unanswered:
            self._receipts.append(self._unanswered.pop(dot))

    def _value(self, table: str, number: int, rng: Random) -> bytes:
        if table == "carts":
            return encode([number, number % 7])
        if rng.random() < self._mix.large_share:
            return encode(bytes([number % 251]) * 3_000)
        return encode(number)
