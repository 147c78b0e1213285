"""
What one node remembers of another while they talk.

One small state a peer, after Automerge's sync: what it is known to have, what was sent to it since, which origins we
push to it. A `Link` is one connection, from before anybody knows who is at its other end; a `Peer` outlives its links.
"""

from __future__ import annotations

import enum
from collections import deque

from attrs import define, field, frozen

from mmrepl.causality.version_vector import EMPTY, VersionVector
from mmrepl.replication.failure_detector import FailureDetector
from mmrepl.store.snapshot import Capture
from mmrepl.types import NodeId
from mmrepl.wire.messages import Delta, Hello


class PeerState(enum.Enum):
    """As status shows it."""

    CONNECTING = "connecting"  # no hello has come through yet
    CATCHING_UP = "catching up"  # it lacks more than our newest writes, and gets them from us or somebody else
    LIVE = "live"  # our writes are pushed to it as they become durable
    SUSPECT = "suspect"  # silent for longer than chance explains
    GONE = "gone"  # no connection


@frozen
class PeerChanged:
    """Event: a peer's connection came or went, or its member entry changed. *text* says why it went."""

    name: str
    state: PeerState
    text: str = ""


@define
class Link:
    """One connection, up to and after its hello."""

    number: int
    dialled: str  # the address that we dialled; empty when the other side did
    ours: Hello
    opened_ms: int
    theirs: Hello | None = None
    proof_due: bool = False  # a proof of theirs is still wanted
    trusted: bool = False  # their hello was good, and proven: what they say may be believed
    peer: Peer | None = None  # set once it is up


@frozen
class Held:
    """A delta that came early, or was stamped too far ahead."""

    delta: Delta
    size: int
    since_ms: int


@define(eq=False)
class Peer:
    """Another node, by name."""

    name: str
    node: NodeId
    hello: Hello
    link: int | None
    detector: FailureDetector
    known: VersionVector = EMPTY  # durable there, as it told us itself
    sent: VersionVector = EMPTY  # known, and what is on its way
    idle_at: tuple[VersionVector, VersionVector] = (EMPTY, EMPTY)  # at this `sent`, and this durable vector of ours,
    # there was nothing to push; whatever makes it want more (asking, a new connection) makes `sent` anew
    eager: bool = False  # it has asked us: it wants everything pushed, and not only what we wrote
    pruned: set[NodeId] = field(factory=set)  # origins that reach it by another way
    needs_acks: bool = False  # it is not connected to every member, and hears of the others through us
    members_told: int = 0  # the view that it was sent because its own was another
    acks_told: dict[tuple[str, int], VersionVector] = field(factory=dict)  # (member, view): what we have relayed to it
    relayed_count: int = -1  # of what we have heard: none of it is news to the peer
    has_let_us_in: bool = False  # it has said something after its hello: we are a peer of it, too
    live: bool = False
    congested: bool = False  # the connection's buffer is full: nothing is pushed until it has drained
    told: VersionVector | None = None  # our vector in the last digest to it
    told_view: int = 0
    told_ms: int = 0
    ack_at: int | None = None  # it waits for a digest once our log is durable up to here
    held: deque[Held] = field(factory=deque)
    held_bytes: int = 0
    lacking_since: int | None = None  # since when it has had something that we lack
    fruitless: int = 0  # pulls in a row that brought nothing
    ask_after_ms: int = 0  # not asked again before
    capture: Capture | None = None  # the snapshot that it is being sent
    capture_ms: int = 0
    capture_link: int | None = None  # the connection on which it was begun
    differences: list[str] = field(factory=list)  # table policies that do not agree
    received_count: int = 0  # operations that came from it, new or not
    duplicate_count: int = 0  # those of them that we had already
    sent_count: int = 0  # operations sent to it

    def state(self, now_ms: int, heartbeat_ms: int) -> PeerState:
        """What status says of it."""
        if self.link is None:
            return PeerState.GONE
        if self.detector.phi(now_ms, heartbeat_ms) > SUSPICION:
            return PeerState.SUSPECT
        return PeerState.LIVE if self.live else PeerState.CATCHING_UP

    def hold(self, delta: Delta, size: int, now_ms: int) -> None:
        """Keep an early delta."""
        self.held.append(Held(delta, size, now_ms))
        self.held_bytes += size

    def drop_held(self) -> None:
        """Let all held deltas go: they will be asked for again."""
        self.held.clear()
        self.held_bytes = 0

    def disconnected(self) -> None:
        """The link is gone. What was on its way may not have arrived."""
        self.link = None
        self.has_let_us_in = False
        self.live = False
        self.congested = False
        self.sent = self.known
        self.told = None
        self.ack_at = None
        self.eager = False
        self.pruned.clear()
        self.acks_told.clear()
        self.relayed_count = -1
        self.members_told = 0
        self.drop_held()


SUSPICION = 8.0
"""φ above which a peer is called suspect."""
