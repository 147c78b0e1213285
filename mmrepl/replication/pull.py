"""
Pull: noticing what we lack, asking one peer for it, and holding what comes too early.

A peer's digest says what it has. What we have lacked of it for longer than a gossip tick is probably not on its way,
so we ask, one peer at a time, with a digest that says *want*. A delta that stands on something which is not here is
held for a tick; when what it stands on has come, it is applied; when not, its sender is asked for all that we lack.
A peer that is asked and brings nothing is asked more and more rarely: it may be slow, or say more than is true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attrs import define

from mmrepl.causality.version_vector import EMPTY, VersionVector
from mmrepl.clock.hlc import ahead_ms
from mmrepl.errors import PeerError, StampAhead
from mmrepl.log.batch import Batch
from mmrepl.replication.local import LocalCore
from mmrepl.replication.peer import Peer
from mmrepl.replication.slices import after
from mmrepl.store.store import Applied
from mmrepl.types import Limits
from mmrepl.wire.messages import Delta

PULL_PATIENCE_TICKS = 10
"""A pull that has brought nothing for so many ticks is given up, and another peer asked."""

FRUITLESS_MS_MAX = 30_000
"""A peer whose pulls bring nothing is asked again after so long at the latest."""

FRUITLESS = 3
"""After so many pulls in a row that brought nothing, what a peer claims to have is no longer waited for."""

HELD_COUNT = 1024
"""Held deltas of one peer, beside the bound on their bytes."""


@define
class Pull:
    """The one pull under way."""

    peer: Peer
    target: VersionVector  # what it had when we asked
    heard_ms: int  # when it last brought something new


class Puller:
    """
    State of what we lack. *apply* is the core's one way of taking in a delta; *want* sends the asking digest.

    *install* is told the wall time, and installs the snapshot that has come whole, if there is one: the name of its
    sender when it has to wait for its stamps. *blame* hears whose held delta turned out to be no good: not the peer
    that we are listening to just now.
    """

    def __init__(
        self,
        local: LocalCore,
        limits: Limits,
        apply: Callable[[Peer, Delta], Applied],
        want: Callable[[Peer], None],
        install: Callable[[int], str | None],
        blame: Callable[[str, PeerError], None],
    ) -> None:
        self._local = local
        self._limits = limits
        self._apply = apply
        self._want = want
        self._install = install
        self._blame = blame
        self.pull: Pull | None = None
        self._stamped: set[str] = set()  # peers whose deltas are held for their stamps: asking again is no use
        self.held_origins: dict[str, int] = {}  # origin whose stamps are too far ahead -> by how many ms at most

    # -- deltas as they come

    def receive(self, peer: Peer, delta: Delta, now_ms: int, wall_ms: int) -> None:
        """Apply a delta, or hold it."""
        if self._is_early(peer, delta, wall_ms):
            if self._has_all(delta):
                return
            size = 64 + sum(map(len, filter(None, delta.batch.payloads))) + sum(map(len, delta.batch.keys))
            if peer.held_bytes + size > self._limits.held_bytes or len(peer.held) >= HELD_COUNT:
                return  # the bound: those that came before come first; we ask for the rest when they are applied
            peer.hold(delta, size, now_ms)
            self.progress(peer, now_ms)
        elif self._apply(peer, delta).fresh:
            self.progress(peer, now_ms)

    def progress(self, peer: Peer, now_ms: int) -> None:
        """A peer brought something."""
        peer.fruitless, peer.ask_after_ms = 0, 0
        if self.pull is not None and self.pull.peer is peer:
            self.pull.heard_ms = now_ms

    def _is_early(self, peer: Peer, delta: Delta, wall_ms: int) -> bool:
        if self._local.lacks(delta.assumes):
            return True
        try:
            self._local.check_stamps(delta.batch, wall_ms)
        except StampAhead:
            self.note_ahead(delta.batch, wall_ms)
            self._stamped.add(peer.name)
            return True
        return False

    def _has_all(self, delta: Delta) -> bool:
        """Whether nothing in a delta is new, so that there is nothing to wait for."""
        return self._local.store.version.descends(after(EMPTY, delta.batch))

    def note_ahead(self, batch: Batch, wall_ms: int) -> None:
        """Remember for status whose stamps are too far ahead in a batch that is held for them."""
        nodes, stamps, index = batch.node_ids(), batch.absolute_stamps(), 0
        for ref, _, size, void in batch.iter_runs():
            if void:
                continue
            ahead = ahead_ms(max(stamps[index : index + size]), wall_ms)
            index += size
            if ahead > self._limits.max_drift_ms:
                self.held_origins[str(nodes[ref])] = ahead

    def retry(self, peers: Iterable[Peer], wall_ms: int) -> None:
        """Apply held deltas, and a snapshot, that have become applicable, until none is."""
        everybody = [peer for peer in peers if peer.held]
        self._stamped.clear()
        sender = self._install(wall_ms)
        if sender is not None:
            self._stamped.add(sender)
        progress = True
        while progress:
            progress = False
            for peer in everybody:
                while peer.held:
                    held = peer.held.popleft()
                    peer.held_bytes -= held.size
                    if self._is_early(peer, held.delta, wall_ms):
                        if self._has_all(held.delta):
                            continue  # it came by another way, with a snapshot in which it was dead already
                        peer.held.appendleft(held)
                        peer.held_bytes += held.size
                        break
                    try:
                        self._apply(peer, held.delta)
                    except PeerError as error:
                        self._blame(peer.name, error)  # which ends its link, and drops what else is held of it
                    progress = True
        if not self._stamped:
            self.held_origins.clear()

    # -- what we lack

    def met(self, peer: Peer, now_ms: int) -> None:
        """A peer's link is up: ask at once if nobody is being asked and it has more."""
        if self.pull is None and self._lacks(peer):
            self.ask(peer, now_ms)

    def noticed(self, peer: Peer, now_ms: int) -> None:
        """A peer has said what it has: patience begins now, not with the next tick."""
        if peer.lacking_since is None and self._lacks(peer):
            peer.lacking_since = now_ms

    def resumed(self, peer: Peer, now_ms: int) -> None:
        """A snapshot of *peer*'s, broken off by the end of its link, goes on."""
        self.pull = Pull(peer, peer.known, now_ms)

    def lost(self, peer: Peer) -> None:
        """A peer's link is gone."""
        if self.pull is not None and self.pull.peer is peer:
            self.pull = None
        peer.lacking_since = None

    def _lacks(self, peer: Peer) -> bool:
        return not self._local.store.version.descends(peer.known)

    def ask(self, peer: Peer, now_ms: int) -> None:
        """Ask *peer* for all that we lack; what it sent and we hold it will send again."""
        peer.drop_held()
        self.pull = Pull(peer, peer.known, now_ms)
        peer.lacking_since = None
        self._want(peer)

    def tick(self, peers: Iterable[Peer], now_ms: int, wall_ms: int) -> None:
        """Once a gossip tick: retry what is held, give up a pull that stands still, ask whoever has what we lack."""
        self.retry(peers, wall_ms)
        tick = self._limits.gossip_tick_ms
        version = self._local.store.version
        if self.pull is not None:
            if version.descends(self.pull.target):
                self.pull = None
            elif now_ms - self.pull.heard_ms > PULL_PATIENCE_TICKS * tick:
                self._give_up(self.pull.peer, now_ms)
        waiting: list[tuple[int, str, Peer]] = []
        for peer in peers:
            if peer.link is None or (version.descends(peer.known) and not peer.held):
                peer.lacking_since = None
                continue
            if peer.lacking_since is None:
                peer.lacking_since = now_ms
            elif self._may_ask(peer, now_ms):
                waiting.append((peer.lacking_since, peer.name, peer))
        if self.pull is None and waiting:
            self.ask(min(waiting, key=lambda entry: entry[:2])[2], now_ms)

    def _may_ask(self, peer: Peer, now_ms: int) -> bool:
        assert peer.lacking_since is not None
        lacking_ms = now_ms - peer.lacking_since
        return (
            lacking_ms >= self._limits.gossip_tick_ms and now_ms >= peer.ask_after_ms and peer.name not in self._stamped
        )

    def _give_up(self, peer: Peer, now_ms: int) -> None:
        """Nothing came: the others come first, and this one less and less often."""
        patience_ms = PULL_PATIENCE_TICKS * self._limits.gossip_tick_ms
        peer.ask_after_ms = now_ms + min(patience_ms << min(peer.fruitless, 16), FRUITLESS_MS_MAX)
        peer.fruitless += 1
        peer.lacking_since = now_ms
        self.pull = None
