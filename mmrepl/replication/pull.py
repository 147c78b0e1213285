"""
Pull: noticing what we lack, asking one peer for it, and holding what comes too early.

A peer's digest says what it has. What we have lacked of it for longer than a gossip tick is probably not on its way,
so we ask, one peer at a time, with a digest that says *want*. A delta that stands on something which is not here is
held for a tick; when what it stands on has come, it is applied; when not, its sender is asked for all that we lack.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from attrs import define

from mmrepl.causality.version_vector import VersionVector
from mmrepl.errors import StampAhead
from mmrepl.replication.local import LocalCore
from mmrepl.replication.peer import Peer
from mmrepl.store.store import Applied
from mmrepl.types import Limits
from mmrepl.wire.messages import Delta

PULL_PATIENCE_TICKS = 10
"""A pull that has brought nothing for so many ticks is given up, and another peer asked."""

HELD_COUNT = 1024
"""Held deltas of one peer, beside the bound on their bytes."""


@define
class Pull:
    """The one pull under way."""

    peer: Peer
    target: VersionVector  # what it had when we asked
    heard_ms: int  # when it last brought something


class Puller:
    """
    State of what we lack. *apply* is the core's one way of taking in a delta; *want* sends the asking digest.
    """

    def __init__(
        self,
        local: LocalCore,
        limits: Limits,
        apply: Callable[[Peer, Delta], Applied],
        want: Callable[[Peer], None],
    ) -> None:
        self._local = local
        self._limits = limits
        self._apply = apply
        self._want = want
        self.pull: Pull | None = None
        self._stamped: set[str] = set()  # peers whose deltas are held for their stamps: asking again is no use
        self.held_origins: dict[str, int] = {}  # origin whose stamps are too far ahead -> by how many ms at most

    # -- deltas as they come

    def receive(self, peer: Peer, delta: Delta, now_ms: int, wall_ms: int) -> None:
        """Apply a delta, or hold it."""
        if self.pull is not None and self.pull.peer is peer:
            self.pull.heard_ms = now_ms
        if self._is_early(peer, delta, wall_ms):
            size = 64 + sum(map(len, filter(None, delta.batch.payloads))) + sum(map(len, delta.batch.keys))
            if peer.held_bytes + size > self._limits.held_bytes or len(peer.held) >= HELD_COUNT:
                peer.drop_held()  # the bound: forget all of them, and ask again when what they stand on is here
                return
            peer.hold(delta, size, now_ms)
            return
        self._apply(peer, delta)

    def _is_early(self, peer: Peer, delta: Delta, wall_ms: int) -> bool:
        if self._local.lacks(delta.assumes):
            return True
        try:
            self._local.check_stamps(delta.batch, wall_ms)
        except StampAhead as ahead:
            for name, incarnation in delta.batch.origins:
                self.held_origins[f"{name}~{incarnation:x}"] = ahead.ahead_ms
            self._stamped.add(peer.name)
            return True
        return False

    def retry(self, peers: Iterable[Peer], wall_ms: int) -> None:
        """Apply held deltas that have become applicable, until none is."""
        everybody = [peer for peer in peers if peer.held]
        self._stamped.clear()
        progress = True
        while progress:
            progress = False
            for peer in everybody:
                while peer.held:
                    held = peer.held.popleft()
                    peer.held_bytes -= held.size
                    if self._is_early(peer, held.delta, wall_ms):
                        peer.held.appendleft(held)
                        peer.held_bytes += held.size
                        break
                    self._apply(peer, held.delta)
                    progress = True
        if not self._stamped:
            self.held_origins.clear()

    # -- what we lack

    def met(self, peer: Peer, now_ms: int) -> None:
        """A peer's link is up: ask at once if nobody is being asked and it has more."""
        if self.pull is None and self._lacks(peer):
            self.ask(peer, now_ms)

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

    def tick(self, peers: list[Peer], now_ms: int, wall_ms: int) -> None:
        """Once a gossip tick: retry what is held, give up a pull that stands still, ask whoever has what we lack."""
        self.retry(peers, wall_ms)
        tick = self._limits.gossip_tick_ms
        version = self._local.store.version
        if self.pull is not None:
            if version.descends(self.pull.target):
                self.pull = None
            elif now_ms - self.pull.heard_ms > PULL_PATIENCE_TICKS * tick:
                self.pull.peer.lacking_since = now_ms  # the others come first
                self.pull = None
        waiting: list[tuple[int, str, Peer]] = []
        for peer in peers:
            if peer.link is None or (version.descends(peer.known) and not peer.held):
                peer.lacking_since = None
                continue
            if peer.lacking_since is None:
                peer.lacking_since = now_ms
            elif now_ms - peer.lacking_since >= tick and peer.name not in self._stamped:
                waiting.append((peer.lacking_since, peer.name, peer))
        if self.pull is None and waiting:
            self.ask(min(waiting, key=lambda entry: entry[:2])[2], now_ms)
