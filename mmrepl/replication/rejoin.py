"""
Coming back with writes that nobody has seen.

Two nodes have to start over: one that is no member and holds unseen writes, because some members may have forgotten
tombstones that those are concurrent with and others not; and one that runs on an old copy of its store and has
already minted dots that its peers know with another content. Both set aside their live writes that the peer's vector
does not cover, deletions among them, empty the store, take a new incarnation, and catch up as any newcomer does. Then
they write what they had set aside once more: under its old stamps, over what it had overwritten then and over the
tombstones that are there, and as siblings of all else that is live.

What is set aside is durable in the same commit that empties the store, so that a crash in between loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from mmrepl.causality.context import CausalContext
from mmrepl.causality.dot import COUNTER_MAX
from mmrepl.causality.version_vector import VersionVector
from mmrepl.replication.local import LocalCore
from mmrepl.resolvers import Sibling
from mmrepl.types import NodeId
from mmrepl.wire.messages import Vector, from_wire, to_wire

CARRIED = "carried"
FORGOTTEN = "forgotten"
CONFIRMED = "confirmed"
ADMITTED = "admitted"

ADMITTED_BY_MAX = 64
"""Of so many, the latest ones, it is remembered that they hold us for a member. One is enough."""

REFUSED_MAX = 256
"""Of so many it is counted how often they were asked to rejoin; of more, the count begins anew."""

CONFIRMED_MS = 10_000
"""How often it is written down how much of what we wrote others have: late is safe, it only makes more suspect."""


class Carried(msgspec.Struct, array_like=True, frozen=True):
    """A live write that was set aside, with what it had seen: what it overwrote or deleted stays so."""

    stamp: int
    table: str
    key: str
    payload: bytes | None
    context: Vector
    dot: tuple[str, int, int]  # name, incarnation, counter
    suspect: bool  # whether the dot may stand for another write as well


_decoder = msgspec.msgpack.Decoder(list[Carried])
_admitted_decoder = msgspec.msgpack.Decoder(tuple[tuple[str, int], list[tuple[str, int]]])
_confirmed_decoder = msgspec.msgpack.Decoder(tuple[int, int])


def _admitted_by(meta: dict[str, bytes], ours: tuple[NodeId, ...]) -> list[NodeId] | None:
    """Who had said that one of *ours* is a member; None if nobody ever did. (Who said it may be gone since.)"""
    if ADMITTED not in meta:
        return None
    node, by = _admitted_decoder.decode(meta[ADMITTED])
    return [NodeId(*other) for other in by] if NodeId(*node) in ours else None


class Rejoin:
    """What a node remembers of its identity since it was opened, and what it carries."""

    def __init__(self, local: LocalCore, meta: dict[str, bytes], now_ms: int = 0) -> None:
        self._local = local
        self.born_ms = now_ms  # when we began to be who we are, or this run of the process did
        self._refused: dict[str, tuple[NodeId, int]] = {}  # by name: who was asked to rejoin, and how often in a row
        self.wanted_by = ""  # who asked us to rejoin: by that one we want to be admitted before we let anybody in
        self._noted = 0  # what was remembered of `confirmed` last
        self.carried: list[Carried] = _decoder.decode(meta[CARRIED]) if CARRIED in meta else []
        self.has_forgotten = FORGOTTEN in meta  # whether a tombstone was ever forgotten here, or where we came in
        self.admitted_by: list[NodeId] = []
        self.opened()
        admitted_by = _admitted_by(meta, (local.store.node, *local.continues))
        if admitted_by is not None:
            self.admitted_by, self.is_settled = admitted_by, True
        if CONFIRMED in meta:
            incarnation, counter = _confirmed_decoder.decode(meta[CONFIRMED])
            self._confirmed = counter if incarnation == local.store.node.incarnation else 0

    def opened(self) -> None:
        """From here on what is minted is minted by this run of the process, under the present incarnation."""
        self._opened_at = self._local.store.own.head
        self._confirmed = 0  # so many of our writes some peer has said to have, in any run
        self._confirmed_noted_ms = 0
        self.admitted_by = []
        self.is_settled = False  # whether anybody ever held us for a member, in this incarnation or one it continues

    @property
    def admitted(self) -> bool:
        """Whether somebody holds us for a member of the cluster, in this incarnation or one that it continues."""
        return bool(self.admitted_by)

    def admit(self, by: NodeId) -> None:
        """*by* holds us for a member of the cluster: without our acknowledgement it forgets nothing."""
        if by not in self.admitted_by:
            others = [node for node in self.admitted_by if node.name != by.name]
            self._set_admitted_by([*others, by][-ADMITTED_BY_MAX:])

    def met(self, node: NodeId, continues: Iterable[NodeId]) -> None:
        """*node* is there, and has the memory of those that it *continues*. Who else had its name knows us no more."""
        known = {node, *continues}
        gone = [other for other in self.admitted_by if other.name == node.name and other not in known]
        if gone:
            self._set_admitted_by([other for other in self.admitted_by if other not in gone])

    def _set_admitted_by(self, nodes: list[NodeId]) -> None:
        self.admitted_by, self.is_settled = nodes, True
        entry = self._local.store.node, self.admitted_by
        self._note(ADMITTED, msgspec.msgpack.encode(entry))

    def refuse(self, node: NodeId) -> int:
        """How often in a row *node* was asked to rejoin. It has not: it asks the same of us, or does not hear us."""
        refused, count = self._refused.get(node.name, (node, 0))
        count = count + 1 if refused == node else 1
        if len(self._refused) >= REFUSED_MAX and node.name not in self._refused:
            self._refused.clear()
        self._refused[node.name] = node, count
        return count

    def confirmed(self, counter: int) -> None:
        """A peer has our writes up to *counter*, no more than we made."""
        self._confirmed = max(self._confirmed, counter)

    def note_confirmed(self, now_ms: int) -> None:
        """Remember it over a restart, now and then."""
        if now_ms - self._confirmed_noted_ms >= CONFIRMED_MS and self._confirmed != self._noted:
            self._confirmed_noted_ms, self._noted = now_ms, self._confirmed
            entry = self._local.store.node.incarnation, self._confirmed
            self._note(CONFIRMED, msgspec.msgpack.encode(entry))

    @property
    def suspect_from(self) -> int:
        """
        Should this prove to be an old copy: our dots above this one may exist twice.

        Those of this run of the process, and those that nobody has confirmed: an earlier run may have minted them on
        the same copy, alone.
        """
        return min(self._opened_at, self._confirmed)

    def has_suspects(self) -> bool:
        """Whether there are any."""
        return self._local.store.own.head > self.suspect_from

    def note_forgotten(self) -> None:
        """Something was forgotten, here or where we have come in: a newcomer with a history must rejoin from now on."""
        if not self.has_forgotten:
            self.has_forgotten = True
            self._note(FORGOTTEN, b"1")

    def start_over(self, seen: VersionVector, node: NodeId, *, is_old_copy: bool) -> None:
        """
        Set aside the live writes that *seen* does not cover; become *node*, empty.

        On an old copy our own suspect writes are set aside as well, for what *seen* covers may be others under the same
        dots. Where it is none they are not: those that it covers were known there, and perhaps deleted since.

        Cost: proportional to the store.
        """
        store = self._local.store
        old, suspect_from = store.node, self.suspect_from if is_old_copy else COUNTER_MAX
        set_aside = list(self.carried)
        for name in store.table_names():
            table = store.table(name)
            for key in list(table.states):
                for sibling in store.siblings(table, key):
                    suspect = sibling.dot.origin == old and sibling.dot.counter > suspect_from
                    if suspect or not seen.covers(sibling.dot):
                        context, dot = to_wire(store.seen_by(sibling.dot)), (*sibling.dot.origin, sibling.dot.counter)
                        stamp, payload = sibling.timestamp, sibling.payload
                        set_aside.append(Carried(stamp, name, key, payload, context, dot, suspect))
        self.carried = sorted(set_aside, key=lambda entry: (entry.stamp, entry.table, entry.key))
        self._local.start_over(node)
        self._note(CARRIED, msgspec.msgpack.encode(self.carried))
        self.has_forgotten = False  # an empty store has nothing to be silent about
        self._note(FORGOTTEN, None)
        self.opened()

    def carry_on(self, caught_up: bool) -> int:
        """
        Once this node has *caught up*, write again what was set aside; returns how many writes that were.

        In place of the same write, known by its stamp, that another one has made again: those who rejoin one after the
        other would each leave one more, and rejoin with more than they had. Not what has come back by another way: if
        it is not live here now, somebody who had seen it overwrote it. Nor what would lose at once, under a resolver
        that only selects: what it loses to may be a deletion that others have forgotten, and with them it would live.
        """
        if not caught_up or not self.carried:
            return 0
        store = self._local.store
        version, count = store.version, 0
        for entry in self.carried:
            if not entry.suspect and version.counter(NodeId(*entry.dot[:2])) >= entry.dot[2]:
                continue
            table = store.table(entry.table)
            siblings = store.siblings(table, entry.key)
            if table.resolver.selects and any(sibling.timestamp > entry.stamp for sibling in siblings):
                continue
            # With what the dead had seen, here or not: a snapshot tells neither of them nor of what they overwrote.
            known = version.join(store.context(table, entry.key).vector)
            vector = from_wire(entry.context).join(_dead(known, siblings))
            for twin in siblings:  # the same write, made again by somebody else who has rejoined, or by us just now
                if (twin.timestamp, twin.payload) == (entry.stamp, entry.payload):
                    vector = vector.including(twin.dot)
            context = CausalContext(entry.table, entry.key, vector)
            store.put(table, entry.key, entry.payload, 0, context, stamp=entry.stamp)
            count += 1
        self.carried = []
        self._note(CARRIED, None)
        return count

    def _note(self, key: str, value: bytes | None) -> None:
        if self._local.journal is not None:
            self._local.journal.note(key, value)


def _dead(known: VersionVector, siblings: Iterable[Sibling]) -> VersionVector:
    """
    A context that covers, of all that is *known* of a key with these *siblings*, what is not a live value.

    Not only the tombstones that are here: some may have forgotten one and others not, and under a policy that goes by
    stamps a write with an old stamp would live at those and be dead at these. (What is younger than a live value of
    its own origin is not covered: no vector covers the one without the other.)
    """
    covered = dict(known)
    for sibling in siblings:
        if not sibling.is_tombstone:
            origin, counter = sibling.dot
            covered[origin] = min(covered.get(origin, 0), counter - 1)
    return VersionVector(covered)
