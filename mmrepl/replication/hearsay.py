"""
Hearsay: what is durable where, as members tell it and as others pass it on.

Digests go to peers that a node is connected to. In a star or a line that is not everybody, and yet stability and
acknowledgements are over everybody: so a node that is not connected to every member says so in its digests, and is
told what the others have said. What a member says itself is always newer than what is said of it.

What is said of a member only grows, for each view under which it was said: else two rumours of different views could
replace each other on their way round a ring, for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmrepl.causality.version_vector import VersionVector
from mmrepl.effects import Envelope
from mmrepl.replication.peer import Peer
from mmrepl.wire.messages import Acks, Digest, from_wire, to_wire

if TYPE_CHECKING:
    from mmrepl.replication.multi_master import MultiMaster

VIEWS_KEPT = 4
"""Of one member, what was said under so many views: members agree on one soon."""


class Hearsay:
    """Who is known to have what."""

    def __init__(self, core: MultiMaster) -> None:
        self._core = core
        self.is_awaited = False  # whether any peer waits for a digest
        self.news_count = 0  # how often something new was heard
        self._judged_at: tuple[VersionVector, int, int, int, int] | None = None  # all that decides whose wait is over
        self._said: tuple[object, Digest] | None = None  # the last one, and what it was made of
        self._heard: dict[str, dict[int, VersionVector]] = {}  # member -> view -> what was durable there, newest last

    def known(self, name: str) -> VersionVector:
        """What is durable at a member, as far as we have heard: under our view if we can say, else what came last."""
        heard = self._heard.get(name)
        if not heard:
            return VersionVector()
        under_ours = heard.get(self._core.members.view)
        return next(reversed(heard.values())) if under_ours is None else under_ours

    def digest(self, peer: Peer, digest: Digest, vector: VersionVector) -> None:
        """A peer said what is durable there."""
        peer.known = peer.known.join(vector)
        peer.sent = peer.sent.join(vector)
        peer.needs_acks = digest.needs_acks
        heard = {digest.view: vector}
        if self._heard.get(peer.name) != heard:
            self._heard[peer.name] = heard
            self.news_count += 1
        self._core.acks.acknowledge(peer.name, vector, digest.view)

    def acks(self, message: Acks) -> None:
        """What members that we may not be connected to have said. What they say to us themselves is newer."""
        for name, entries, view in message.entries:
            linked = self._core.peers.get(name)
            if name == self._core.members.name or (linked is not None and linked.link is not None):
                continue
            if name not in self._heard and len(self._heard) >= self._core.limits.peers:
                continue
            vector, heard = from_wire(entries), self._heard.setdefault(name, {})
            known = heard.get(view)
            if known is None or (vector != known and vector.descends(known)):
                heard.pop(view, None)
                heard[view] = vector
                self.news_count += 1
                if len(heard) > VIEWS_KEPT:
                    del heard[next(iter(heard))]
                self._core.acks.acknowledge(name, vector, view)

    def relay(self, peer: Peer) -> None:
        """Tell a peer that is not connected to everybody what the others have said."""
        if peer.relayed_count == self.news_count:
            return
        peer.relayed_count = self.news_count
        news = [
            (name, vector, view)
            for name, heard in sorted(self._heard.items())
            for view, vector in heard.items()
            if name != peer.name and peer.acks_told.get((name, view)) != vector
        ]
        if news and peer.link is not None:
            peer.acks_told = {(name, view): v for name, heard in self._heard.items() for view, v in heard.items()}
            self._core._send.append(Envelope(peer.link, Acks([(n, to_wire(v), view) for n, v, view in news])))

    def tell(self, peer: Peer, now_ms: int, wall_ms: int) -> None:
        """A digest, if there is news for the peer, or if it has not heard from us for a while."""
        vector = self._core.local.durable_vector
        news = peer.told is not vector and peer.told != vector
        due = now_ms - peer.told_ms >= self._core.limits.heartbeat_ms
        if news or due or peer.told_view != self._core.members.view:
            self.send(peer, now_ms, wall_ms, want=False)

    def send(self, peer: Peer, now_ms: int, wall_ms: int, *, want: bool) -> None:
        assert peer.link is not None
        vector = self._core.local.durable_vector
        peer.told, peer.told_ms, peer.told_view = vector, now_ms, self._core.members.view
        needs_acks = len(self._core.members.names()) - 1 > len(self._core.up())
        made_of = vector, self._core.members.view, wall_ms, want, needs_acks
        if self._said is None or self._said[0] != made_of:  # else the same object, so that a host encodes it once
            digest = Digest(to_wire(vector), self._core.members.view, wall_ms, want=want, needs_acks=needs_acks)
            self._said = made_of, digest
        self._core._send.append(Envelope(peer.link, self._said[1]))

    def acknowledge(self, now_ms: int, wall_ms: int) -> None:
        """Tell those peers who wait for it what is durable here, once that is all that they sent."""
        self.is_awaited = False
        for peer in self._core.up():
            if peer.ack_at is None:
                continue
            if peer.ack_at <= self._core.local.durable:
                peer.ack_at = None
                self.send(peer, now_ms, wall_ms, want=False)
            else:
                self.is_awaited = True

    def satisfied(self) -> list[object]:
        """Tokens of those writers who need wait no longer."""
        waiters, members = self._core.waiters, self._core.members
        known = self._core.local.durable_vector, self.news_count, members.view, members.count, waiters.added_count
        if known == self._judged_at:
            return []  # nothing has become durable anywhere since
        self._judged_at = known
        return waiters.satisfied(self.vectors(), members.count)

    def vectors(self) -> list[VersionVector]:
        """What is durable at each member, ourselves first."""
        others = (self.known(name) for name in self._core.members.names() if name in self._heard)
        return [self._core.local.durable_vector, *others]
