"""
Planted defects: small mutations of the real code, to show that the world finds what it is there to find.

A suite that cannot fail proves nothing. Each defect is a mistake that somebody could make (some were made), and a
context manager switches it on: it replaces a function or two of the real code, and puts them back (`mmrepl.sim.hunt`
tells how soon each is found).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mmrepl.replication.opening as opening_module
import mmrepl.sim.disk as disk_module
import mmrepl.sim.host as host_module
from mmrepl.causality.dot import COUNTER_BITS, COUNTER_MAX
from mmrepl.causality.version_vector import VersionVector
from mmrepl.clock.hlc import HybridClock
from mmrepl.log.columns import Columns
from mmrepl.log.oplog import OpLog
from mmrepl.replication import rejoin as rejoin_module
from mmrepl.replication.hearsay import Hearsay
from mmrepl.replication.local import LocalCore
from mmrepl.replication.mark import Mark
from mmrepl.replication.peer import Peer
from mmrepl.replication.pull import Puller
from mmrepl.replication.push import Pusher
from mmrepl.replication.rejoin import Rejoin
from mmrepl.replication.waiters import Waiters
from mmrepl.sim.defects_at_rest import AT_REST
from mmrepl.sim.hunt import Defect, Patch
from mmrepl.storage.loaded import LoadedStore
from mmrepl.store.journal import Journal
from mmrepl.store.keyspace import Keyspace, Record
from mmrepl.store.store import Store
from mmrepl.types import NodeId
from mmrepl.wire.messages import Delta

DEFECTS: dict[str, Defect] = {}


def _defect(name: str, text: str, *patches: Patch) -> None:
    DEFECTS[name] = Defect(name, text, patches)


def _always(value: Any) -> Callable[[Any], Any]:
    return lambda _before: lambda *_arguments, **_options: value


# -- identity


def _same_name(_before: Any) -> Any:
    return lambda name, _rng: NodeId(name, 7)


_defect(
    "incarnation kept after a wipe",
    "a node whose disk was lost goes on minting dots under its old incarnation",
    (opening_module, "new_incarnation", _same_name),
)


def _no_doubt(before: Any) -> Any:
    def read(self: disk_module.SimDisk) -> LoadedStore:
        loaded: LoadedStore = before(self)
        return LoadedStore(loaded.meta, None, loaded.segments, loaded.batches)

    return read


_defect(
    "dot minted twice after a restart",
    "a store that may have lost its newest commits keeps its incarnation",
    (disk_module.SimDisk, "read", _no_doubt),
)


def _no_mark(_before: Any) -> Any:
    def put(self: Mark, _journal: Journal) -> bool:
        self.is_on_disk = self.is_noted = True
        return False

    return put


_defect(
    "weak write answered unmarked",
    "a write of level batch or none is answered before the disk knows that there may be more than it holds",
    (Mark, "put", _no_mark),
)


def _nothing_set_aside(before: Any) -> Any:
    def start_over(self: Rejoin, _seen: VersionVector, node: NodeId, **options: Any) -> None:
        before(self, self._local.store.version, node, **options)

    return start_over


_defect(
    "unseen writes dropped",
    "a node that starts over sets nothing aside",
    (rejoin_module.Rejoin, "start_over", _nothing_set_aside),
)


# -- delivery

_defect("delta applied over a gap", "a delta is applied whatever it stands on", (LocalCore, "lacks", _always(False)))


def _stands_on_nothing(_before: Any) -> Any:
    return lambda _self, _batch, _until: []


_defect("delta stands on nothing", "a pushed delta assumes nothing", (Pusher, "_assumes", _stands_on_nothing))


def _void_all(before: Any) -> Any:
    def batch(self: OpLog, slices: Any, until: int) -> Any:
        return before(self, slices, max(until, self.end))

    return batch


_defect(
    "void before its overwriter",
    "an operation is left out although what overwrote it is in a later frame",
    (OpLog, "batch", _void_all),
)


def _without_husk(_before: Any) -> Any:
    return lambda _self, _context, _seen: True


_defect(
    "void that was needed",
    "an operation is left out although only its own context covers what it overwrote",
    (Columns, "_is_within", _without_husk),
)


def _never_ask(before: Any) -> Any:
    def tick(self: Puller, peers: list[Peer], now_ms: int, wall_ms: int) -> None:
        before(self, [], now_ms, wall_ms)
        self.retry(peers, wall_ms)

    return tick


_defect(
    "repair never asked for",
    "what a peer has and we lack is waited for, for ever",
    (Puller, "tick", _never_ask),
    (Puller, "met", _always(None)),
)


def _first_skipped(before: Any) -> Any:
    def wanted(self: Pusher, peer: Peer) -> Any:
        return [(c, first + (first % 9 == 8 and first < last), last) for c, first, last in before(self, peer)]

    return wanted


_defect(
    "operation skipped in a push", "now and then the first operation is not sent", (Pusher, "wanted", _first_skipped)
)


def _dropped_pull(before: Any) -> Any:
    def disconnected(self: Peer) -> None:
        sent = self.sent
        before(self)
        self.sent = sent

    return disconnected


_defect(
    "what was under way is taken for arrived",
    "after a broken connection nothing is sent again, and digests are not heard",
    (Peer, "disconnected", _dropped_pull),
    (Puller, "tick", _never_ask),
    (Puller, "met", _always(None)),
)


def _again(before: Any) -> Any:
    def apply_next(self: Store, batch: Any) -> bool:
        ref, counter, *rest = batch.runs
        owner = self.log.known(batch.origins[ref])
        if rest == [1] and owner is not None and owner is not self.own and counter == owner.head:
            batch = type(batch)(batch.origins, batch.tables, [ref, counter + 1, 1], batch.table_runs, batch.keys,
                                batch.stamps, batch.payloads, batch.contexts)  # fmt: skip
        result: bool = before(self, batch)
        return result

    return apply_next


_defect(
    "operation counted twice",
    "the newest operation of an origin, when it comes again, is taken for the next one",
    (Store, "_apply_next", _again),
)


# -- merging


def _sibling_lost(before: Any) -> Any:
    def merge(self: Keyspace, table: Any, key: str, *rest: Any, **options: Any) -> None:
        before(self, table, key, *rest, **options)
        state = table.states[key]
        if isinstance(state, Record) and len(state.dots) > 2:
            self._set(table, key, state.dots[1:], state.context)

    return merge


_defect("sibling lost in a merge", "a third sibling pushes out the first", (Keyspace, "_merge", _sibling_lost))


def _context_not_joined(before: Any) -> Any:
    def merge(self: Keyspace, table: Any, key: str, *rest: Any, **options: Any) -> None:
        before(self, table, key, *rest, **options)
        after = table.states[key]
        if isinstance(after, Record):
            highest: dict[int, int] = {}
            for live in after.dots:
                highest[live >> COUNTER_BITS] = max(highest.get(live >> COUNTER_BITS, 0), live & COUNTER_MAX)
            self._set(table, key, after.dots, highest)

    return merge


_defect(
    "context not joined",
    "a merge keeps the siblings and forgets what they had seen",
    (Keyspace, "_merge", _context_not_joined),
)


def _never_covered(before: Any) -> Any:
    def merge(self: Keyspace, table: Any, key: str, state: Any, *rest: Any, **options: Any) -> None:
        if isinstance(state, Record):
            state = Record(state.dots, {})
        before(self, table, key, state, *rest, **options)

    return merge


_defect(
    "sibling rises again",
    "a write that was overwritten before it came is taken for new",
    (Keyspace, "_merge", _never_covered),
)


def _by_arrival(_before: Any) -> Any:
    return tuple


def _arrived(_before: Any) -> Any:
    from mmrepl.causality.dot import Dot
    from mmrepl.resolvers import Sibling

    def siblings(self: Store, table: Any, key: str) -> list[Sibling]:
        found = []
        for packed in self.keyspace.live(table, key):
            owner, counter = self.log.columns[packed >> COUNTER_BITS], packed & COUNTER_MAX
            stamp, _, _, payload, _ = owner.entry(counter)
            found.append(Sibling(Dot(owner.origin, counter), stamp, payload))
        return found

    return siblings


def _resolvers() -> Any:
    from mmrepl.resolvers import base

    return base


_defect(
    "tie broken by arrival",
    "the last sibling is the one whose origin was met last",
    (_resolvers(), "canonical", _by_arrival),
    (Store, "siblings", _arrived),
)


# -- time


def _wall_only(_before: Any) -> Any:
    def tick(self: HybridClock, wall_ms: int) -> int:
        self.last = max(self.last, wall_ms << 16)
        return max(0, wall_ms << 16)

    return tick


_defect("stamps fall", "a stamp is the wall clock, wherever that jumps", (HybridClock, "tick", _wall_only))
_defect(
    "stamps of others are not seen",
    "a received stamp does not raise the clock",
    (HybridClock, "observe", _always(None)),
)
_defect(
    "far-future stamp accepted", "a stamp is let in however far ahead it is", (LocalCore, "check_stamps", _always(None))
)


# -- between peers


def _believed(before: Any) -> Any:
    def digest(self: Hearsay, peer: Peer, digest: Any, vector: VersionVector) -> None:
        before(self, peer, digest, vector.join(peer.sent))

    return digest


_defect(
    "peer believed beyond what it proved",
    "what was sent to a peer counts as durable there",
    (Hearsay, "digest", _believed),
)


def _one_less(before: Any) -> Any:
    def satisfied(self: Waiters, vectors: list[VersionVector], *rest: Any, **options: Any) -> Any:
        return before(self, [*vectors, vectors[0]], *rest, **options)

    return satisfied


_defect("acknowledged by one too few", "who writes counts twice", (Waiters, "satisfied", _one_less))


def _recode(before: Any) -> Any:
    def encode(message: Any) -> Any:
        if isinstance(message, Delta) and message.batch.payloads and len(message.batch.origins) > 1:
            batch = message.batch
            payloads = [b"\xcc" + p if p and len(p) == 1 and p[0] < 128 else p for p in batch.payloads]
            message = Delta(message.assumes, type(batch)(batch.origins, batch.tables, batch.runs, batch.table_runs,
                            batch.keys, batch.stamps, payloads, batch.contexts), message.ack)  # fmt: skip
        return before(message)

    return encode


_defect("relay that re-encodes", "bytes are made anew on their way", (host_module, "encode", _recode))


def _chatter(_before: Any) -> Any:
    def tell(self: Hearsay, peer: Peer, now_ms: int, wall_ms: int) -> None:
        self.send(peer, now_ms, wall_ms, want=False)

    return tell


_defect("never quiet", "a digest leaves with every tick, news or not", (Hearsay, "tell", _chatter))


def _unbounded(before: Any) -> Any:
    def receive(self: Puller, peer: Peer, delta: Any, now_ms: int, wall_ms: int) -> None:
        peer.held_bytes, held = 0, peer.held_bytes
        try:
            before(self, peer, delta, now_ms, wall_ms)
        finally:
            peer.held_bytes += held

    return receive


_defect("early deltas without bound", "what comes too early is held, however much", (Puller, "receive", _unbounded))


DEFECTS |= AT_REST
