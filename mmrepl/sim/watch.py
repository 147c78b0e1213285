"""
Watching a store: what became part of it since the last look, told to the history.

The core announces nothing of this; it is read off the log: new positions are operations applied, in their order; a
counter that moved without them is a snapshot joined; another log altogether is a node that started over.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mmrepl.causality.dot import Dot
from mmrepl.causality.version_vector import VersionVector
from mmrepl.log.columns import VOID, Columns
from mmrepl.log.oplog import Slice
from mmrepl.sim.history import Applied, Became, Jumped, Wrote
from mmrepl.store.store import Store
from mmrepl.types import NodeId

if TYPE_CHECKING:
    from mmrepl.sim.node import SimNode


class Watch:
    """What was seen of one store so far."""

    def __init__(self, node: SimNode, store: Store, why: str) -> None:
        self._node = node
        self._history = node.cluster.history
        self._store = store
        self._log = store.log
        self._identity = store.node
        self._end = store.log.end
        self._heads: dict[NodeId, int] = dict(store.version)
        self._history.add(Became(node.cluster.world.now_ms, node.name, store.node, store.version, why))

    def look(self, session: int = 0, via: str = "") -> None:
        """Note what is new. What the node wrote itself belongs to *session*; the rest came *via* a peer."""
        store = self._store
        if store.log is not self._log or store.own.origin != self._identity:
            self._became()
        if self._log.end != self._end:
            self._grew(session, via)

    def _became(self) -> None:
        store, node = self._store, self._node
        over = store.log is not self._log
        if over:
            self._log, self._heads, self._end = store.log, {}, 1
            node.started_over()
        self._identity = store.node
        why = "started over" if over else "took a new incarnation"
        node.note("became", store.node, why)
        vector = VersionVector(self._heads)
        self._history.add(Became(node.cluster.world.now_ms, node.name, store.node, vector, why))

    def _grew(self, session: int, via: str) -> None:
        log, first = self._log, self._end
        self._end = log.end
        slices = log.range(first, log.end)
        before, reached = self._heads, {columns.origin: last for columns, _, last in slices}
        follows = all(start == before.get(columns.origin, 0) + 1 for columns, start, _ in slices)
        if not follows or {**before, **reached} != log.vector().counters:
            self._jumped(slices, first, session, via)
            return
        for run in in_log_order(slices):
            self._ran(run, session, via)

    def _jumped(self, slices: list[Slice], first: int, session: int, via: str) -> None:
        """
        A snapshot was joined: at a log position of its own, the last that no operation has.

        What was applied just before it may be settled by now: all of that counts as part of it.
        """
        log, node = self._log, self._node
        taken = {position for columns, low, high in slices for position in _positions(columns, low, high)}
        at = max(position for position in range(first, log.end) if position not in taken)
        for run in in_log_order(log.range(first, at)):
            if run[0] is self._store.own:
                self._ran(run, session, via)
        later = log.range(at, log.end)
        begun = {columns.index: start for columns, start, _ in later}
        heads = {c.origin: begun.get(c.index, c.head + 1) - 1 for c in log.columns}
        self._heads = {origin: head for origin, head in heads.items() if head}
        node.note("jumped", via)
        self._history.add(Jumped(node.cluster.world.now_ms, node.name, VersionVector(self._heads)))
        for run in in_log_order(later):
            self._ran(run, session, via)

    def _ran(self, run: Slice, session: int, via: str) -> None:
        columns, first, last = run
        if columns is self._store.own:
            for counter in range(first, last + 1):
                self._wrote(columns, counter, session)
        else:
            self._applied(columns, first, last, via)
        self._heads[columns.origin] = last

    def _wrote(self, columns: Columns, counter: int, session: int) -> None:
        node, log = self._node, self._log
        stamp, table, key, payload, packed = columns.entry(counter)
        context = VersionVector({columns.origin: counter - 1}) if packed is None else log.unpack_context(packed)
        before = VersionVector(self._heads)
        dot = Dot(columns.origin, counter)
        at, place = node.cluster.world.now_ms, (log.table_names[table], key)
        node.note("wrote", dot, place[0], key, "-" if payload is None else payload.hex())
        self._history.add(Wrote(at, node.name, dot, place, payload, stamp, context, before, session))
        self._heads[columns.origin] = counter

    def _applied(self, columns: Columns, first: int, last: int, via: str) -> None:
        node, base, names = self._node, columns.base, self._log.table_names
        contents = []
        for counter in range(first, last + 1):
            offset = counter - base
            payload = columns.payloads[offset]
            if payload is not VOID:
                place = (names[columns.tables[offset]], columns.keys[offset])
                contents.append((counter, place, columns.stamps[offset], payload))
        now = node.cluster.world.now_ms
        node.note("applied", columns.origin, first, last)
        wall = node.clock.wall_ms()
        sent = node.cluster.network.sent_ms if via else now
        self._history.add(Applied(now, node.name, columns.origin, first, last, tuple(contents), via, sent, wall))


def _positions(columns: Columns, first: int, last: int) -> Iterable[int]:
    return columns.positions[first - columns.base : last - columns.base + 1]


def in_log_order(slices: list[Slice]) -> list[Slice]:
    """Slices of several origins as runs that follow each other in the log."""
    if len(slices) <= 1:
        return slices
    entries = sorted(
        (columns.positions[counter - columns.base], columns.index, counter, columns)
        for columns, first, last in slices
        for counter in range(first, last + 1)
    )
    runs: list[Slice] = []
    for _, _, counter, columns in entries:
        if runs and runs[-1][0] is columns and runs[-1][2] + 1 == counter:
            runs[-1] = (columns, runs[-1][1], counter)
        else:
            runs.append((columns, counter, counter))
    return runs
