"""
Snapshots between peers: chunk by chunk, each asked for.

The sender keeps what it captured while the receiver is asking, also across a broken connection; the receiver keeps
the chunks that came. So a transfer that breaks off goes on where it was. The live stream is not disturbed: what comes
from others meanwhile is held or applied as ever, and what the sender writes meanwhile follows by a want.
"""

from __future__ import annotations

from attrs import define, field

from mmrepl.causality.version_vector import VersionVector
from mmrepl.errors import FrameError
from mmrepl.log.batch import Batch
from mmrepl.replication.local import LocalCore
from mmrepl.replication.peer import Peer
from mmrepl.wire.messages import Ask, Snapshot, from_wire

CAPTURE_KEPT_MS = 60_000
"""A capture that nobody has asked about for so long is let go."""

WINDOW = 4
"""Chunks on their way at once."""


@define
class Incoming:
    """A snapshot that is being received."""

    id: str
    sender: str
    clock: VersionVector
    count: int
    chunks: dict[int, Batch] = field(factory=dict)
    next_ask: int = WINDOW  # the sender begins with so many by itself

    def ask(self) -> list[Ask]:
        """The next chunk that is neither here nor asked for, if there is one."""
        while self.next_ask < self.count:
            index, self.next_ask = self.next_ask, self.next_ask + 1
            if index not in self.chunks:
                return [Ask(self.id, index)]
        return []


class Transfers:
    """Snapshots to and from peers. At most one comes in at a time, and one more waits for its stamps."""

    def __init__(self, local: LocalCore) -> None:
        self._local = local
        self.incoming: Incoming | None = None
        self.whole: Incoming | None = None  # has come, and is not installed yet
        self._serial = 0
        self.sent_count = 0  # snapshots begun, for status
        self.installed_count = 0

    # -- sending

    def begin(self, peer: Peer, instance: int, now_ms: int) -> list[Snapshot]:
        """Capture for *peer*; its first chunks. Empty while nothing can be captured: it will ask again."""
        if not self._local.can_capture():
            return []
        self._serial += 1
        self.sent_count += 1
        peer.capture = self._local.capture(f"{instance:x}.{self._serial}")
        peer.capture_ms, peer.capture_link = now_ms, peer.link
        return [self._local.snapshot_chunk(peer.capture, index) for index in range(min(WINDOW, len(peer.capture)))]

    def asked(self, peer: Peer, ask: Ask, now_ms: int) -> list[Snapshot] | None:
        """
        The chunk that *peer* asks for; None when that snapshot is no longer here and it needs a new one.

        Raises FrameError for a chunk that no snapshot has.
        """
        capture = peer.capture
        if capture is None or capture.id != ask.id:
            # It asks for several chunks of an older snapshot at once: one new one is enough.
            return [] if capture is not None and peer.capture_link == peer.link else None
        if ask.index < 0:
            raise FrameError(f"chunk {ask.index} of a snapshot was asked for")
        if ask.index >= len(capture):
            peer.capture = None
            return []
        peer.capture_ms = now_ms
        return [self._local.snapshot_chunk(capture, ask.index)]

    def is_whole(self) -> bool:
        """Whether a snapshot has come whole and is not installed yet."""
        return self.whole is not None

    def expire(self, peer: Peer, now_ms: int) -> None:
        """Let a capture go that nobody asks about."""
        if peer.capture is not None and now_ms - peer.capture_ms > CAPTURE_KEPT_MS:
            peer.capture = None

    # -- receiving

    def resume(self, peer: Peer) -> list[Ask]:
        """What to ask *peer* for, if a snapshot of its was broken off."""
        incoming = self.incoming
        if incoming is None or incoming.sender != peer.name:
            return []
        incoming.next_ask = 0
        return [ask for _ in range(WINDOW) for ask in incoming.ask()]

    def received(self, peer: Peer, chunk: Snapshot, *, wanted: bool) -> list[Ask]:
        """
        A chunk came: what to ask for next. When the snapshot is whole now, it is in ``whole``.

        *wanted*: a snapshot may begin with it. What is late, or was never asked for, is passed over: were it let in,
        two senders could push each other's chunks out for ever. Raises FrameError.
        """
        if not 0 <= chunk.index < chunk.count:
            raise FrameError(f"chunk {chunk.index} of a snapshot of {chunk.count}")
        incoming = self.incoming
        if incoming is None or (incoming.sender, incoming.id) != (peer.name, chunk.id):
            if not wanted or self.whole is not None:
                return []
            incoming = self.incoming = Incoming(chunk.id, peer.name, from_wire(chunk.clock), chunk.count)
        if incoming.clock != from_wire(chunk.clock) or incoming.count != chunk.count:
            raise FrameError(f"chunk {chunk.index} of snapshot {chunk.id} does not belong to the others")
        incoming.chunks[chunk.index] = chunk.batch
        if len(incoming.chunks) == incoming.count:
            self.incoming, self.whole = None, incoming
            return [Ask(incoming.id, incoming.count)]
        return incoming.ask()
