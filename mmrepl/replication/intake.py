"""
Intake: what peers say about operations, and what follows from it.

Deltas and snapshots go through one door into the store; digests tell who has what and who wants what; origins that
arrive twice are pruned. Whether a delta can be applied at once is the puller's question, who gets what the pusher's;
here the two meet what came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmrepl.causality.version_vector import VersionVector
from mmrepl.effects import Envelope
from mmrepl.errors import PeerError, StampAhead
from mmrepl.replication.local import DELTA_OPERATIONS
from mmrepl.replication.peer import Peer
from mmrepl.replication.slices import after
from mmrepl.store.store import Applied
from mmrepl.types import NodeId
from mmrepl.wire.messages import Ask, Delta, Digest, Prune, Snapshot, from_wire

if TYPE_CHECKING:
    from mmrepl.replication.multi_master import MultiMaster


class Intake:
    """What comes from peers about operations, for one core."""

    def __init__(self, core: MultiMaster) -> None:
        self._core = core
        self._applied_from: dict[NodeId, str] = {}  # origin -> peer that brought its latest operation

    def forget(self) -> None:
        """The store starts over: nobody has brought anything."""
        self._applied_from.clear()

    def delta(self, peer: Peer, delta: Delta, now_ms: int, wall_ms: int) -> None:
        """Operations came: apply them, or hold them until they can be."""
        self._core.puller.receive(peer, delta, now_ms, wall_ms)
        self._core.puller.retry(self._core.peers.values(), wall_ms)

    def apply(self, peer: Peer, delta: Delta) -> Applied:
        """The one door for what others wrote."""
        store = self._core.local.store
        origins, known = delta.batch.origins, store.log.known
        heads = [0 if (columns := known(origin)) is None else columns.head for origin in origins]
        applied = store.apply(delta.batch)
        self._core.local.demand(self._core.options.durability)
        if delta.ack:
            peer.ack_at = store.log.end
            self._core.hearsay.is_awaited = True
        if peer.eager:  # what comes from it need not go back to it
            peer.sent = after(peer.sent, delta.batch)
        peer.received_count += applied.fresh + applied.known
        if applied.fresh:
            for origin, head in zip(origins, heads, strict=True):
                columns = known(origin)
                if columns is not None and columns.head > head:
                    self._applied_from[columns.origin] = peer.name
        if applied.known:
            peer.duplicate_count += applied.known
            self._prune_what_came_twice(peer, delta.batch.node_ids(), heads)
        return applied

    def _prune_what_came_twice(self, peer: Peer, nodes: list[NodeId], heads: list[int]) -> None:
        """Origins of which *peer* brought nothing new, and somebody else does."""
        log = self._core.local.store.log
        unchanged = (node for node, head in zip(nodes, heads, strict=True) if log.origin(node).head == head)
        self._prune(peer, {node for node in unchanged if self._applied_from.get(node) not in (None, peer.name)})

    def _prune(self, peer: Peer, twice: set[NodeId]) -> None:
        """These origins reached us before *peer* brought them: one of the two ways goes. Never the writer's own."""
        for node in sorted(twice):
            relay = self._core.peers.get(self._applied_from[node]) if node.name == peer.name else peer
            if relay is not None and relay.link is not None and relay.name != node.name:
                self._core._send.append(Envelope(relay.link, Prune([(node.name, node.incarnation)])))

    def digest(self, peer: Peer, digest: Digest, now_ms: int) -> None:
        """A peer says what it has, and perhaps that it wants what it lacks."""
        vector = from_wire(digest.vector)
        self._core.clocks.heard(peer.name, digest.wall_ms, now_ms)
        self._core.identity.recover(peer.name, vector)
        if peer.link is None:
            return  # we have started over
        if digest.want:  # what it has applied, durable or not: enough to know what to send, no acknowledgement
            self._wanted(peer, vector, now_ms)
            return
        self._core.hearsay.digest(peer, digest, vector)
        self._core.puller.noticed(peer, now_ms)
        if self._core.members.view not in (digest.view, peer.members_told) and peer.link is not None:
            peer.members_told = self._core.members.view
            self._core._send.append(Envelope(peer.link, self._core.members.message()))
        self.consider_live(peer)

    def _wanted(self, peer: Peer, vector: VersionVector, now_ms: int) -> None:
        """It lacks something and asks us: all that it lacks, now, and these origins from now on."""
        peer.sent = vector
        lacking = vector.lacks(self._core.local.durable_vector)
        peer.eager = peer.live = True
        peer.pruned.difference_update(lacking)
        if any(first <= self._core.local.store.log.origin(node).base - 1 for node, (first, _) in lacking.items()):
            self.offer_snapshot(peer, now_ms)

    def offer_snapshot(self, peer: Peer, now_ms: int) -> None:
        """Send the first chunks of a snapshot to a peer that is too far behind."""
        assert peer.link is not None
        peer.live = False
        self._core._send.extend(
            Envelope(peer.link, chunk) for chunk in self._core.transfers.begin(peer, self._core.instance, now_ms)
        )

    def consider_live(self, peer: Peer, newest: int = DELTA_OPERATIONS) -> None:
        """
        Push to a peer that lacks nothing but our own *newest* writes.

        When it has lacked more, or others' writes, it asks for them: us or somebody else, and must not get them twice.
        """
        if peer.live or peer.link is None or peer.capture is not None:
            return
        lacking = peer.known.lacks(self._core.local.durable_vector)
        if all(self._core._is_own(node) for node in lacking):
            floor = self._core.local.store.log.floor()
            reached = all(first > floor.counter(node) for node, (first, _) in lacking.items())
            peer.live = reached and sum(last - first + 1 for first, last in lacking.values()) <= newest

    def ask(self, peer: Peer, ask: Ask, now_ms: int) -> None:
        """A peer asks for a chunk, or for a new snapshot where that one is gone."""
        chunks = self._core.transfers.asked(peer, ask, now_ms)
        if chunks is None:
            self.offer_snapshot(peer, now_ms)
        else:
            assert peer.link is not None
            self._core._send.extend(Envelope(peer.link, chunk) for chunk in chunks)

    def snapshot(self, peer: Peer, chunk: Snapshot, now_ms: int, wall_ms: int) -> None:
        """A chunk came."""
        pull, incoming = self._core.puller.pull, self._core.transfers.incoming
        # From whom we asked; else from whoever began first: two that begin by themselves must not take turns.
        wanted = pull.peer is peer if pull is not None else incoming is None or incoming.sender == peer.name
        asks = self._core.transfers.received(peer, chunk, wanted=wanted)
        assert peer.link is not None
        self._core._send.extend(Envelope(peer.link, ask) for ask in asks)
        if asks or wanted:
            self._core.puller.progress(peer, now_ms)
        if self._core.transfers.is_whole():
            self._core.puller.retry(self._core.peers.values(), wall_ms)
            pull = self._core.puller.pull
            if pull is not None and pull.peer is peer and not self._core.transfers.is_whole():
                self._core.puller.ask(peer, now_ms)  # what was written meanwhile

    def install(self, wall_ms: int) -> str | None:
        """Install the snapshot that has come whole; the name of its sender when it has to wait for its stamps."""
        whole = self._core.transfers.whole
        if whole is None:
            return None
        batches = [batch for _, batch in sorted(whole.chunks.items())]
        try:
            for batch in batches:
                self._core.local.check_stamps(batch, wall_ms)
        except StampAhead:
            for batch in batches:
                self._core.puller.note_ahead(batch, wall_ms)
            return whole.sender
        self._core.transfers.whole = None
        try:
            self._core.identity.recover(whole.sender, whole.clock)
            self._core.local.install(whole.clock, batches)
        except PeerError as error:
            self._core._blame(whole.sender, error)
            return None
        self._core.local.demand(self._core.options.durability)
        self._core.transfers.installed_count += 1
        return None
