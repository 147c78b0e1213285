"""
Snapshots on their way: for members that lack what our log no longer has.

One capture serves all who need one. A member asks for the pieces in order, and a few more than it asked for are under
way; after a lost connection it goes on where it was. While pieces are asked for, the log is not cut beyond the entry
of the capture, so that the member can go on from there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmrepl.single_master.progress import Progress, Way
from mmrepl.single_master.snapshot import Capture, head_of
from mmrepl.wire.single_master import Chunk, ChunkWanted

if TYPE_CHECKING:
    from mmrepl.single_master.office import Office
    from mmrepl.single_master.reception import Peer

AHEAD = 4
"""So many pieces are under way to a member."""

KEPT_MS = 10_000
"""A capture that nobody has asked for a piece of for so long is let go."""


class Shipping:
    """The snapshots that a leader sends. Mutable."""

    def __init__(self, core: Office) -> None:
        self._core = core
        self.capture: Capture | None = None
        self._used_ms = 0

    def begin(self, progress: Progress, now_ms: int) -> None:
        """This member needs a snapshot."""
        core, capture = self._core, self.capture
        if capture is None or capture.head.index < core.log.start:
            members_index, members = core.history.at(core.applied)
            head = head_of(core.state, core.applied, core.log.term_at(core.applied), members_index, members)
            capture = self.capture = Capture(head, core.state, core.rng.getrandbits(62) | 1)
        self._used_ms = now_ms
        progress.send_snapshot(capture.id, capture.head.index, now_ms)

    def ship(self, peer: Peer, progress: Progress, round: int, now_ms: int) -> None:
        """The first piece; again when it seems to be lost. What follows is asked for."""
        retry_ms = 10 * self._core.options.heartbeat_ms
        if self.capture is None or progress.snapshot != self.capture.id:
            self.begin(progress, now_ms)
        assert self.capture is not None
        if not self.capture.go_on():
            self._used_ms = now_ms
            self._core.look_again()
            return
        if progress.chunk_sent and now_ms - progress.chunk_ms < retry_ms:
            return
        progress.chunk_sent = 0
        self._send(peer, progress, 1, round, now_ms)

    def wanted(self, peer: Peer, progress: Progress, message: ChunkWanted, round: int, now_ms: int) -> None:
        """A member asks for a piece."""
        capture = self.capture
        if progress.way is not Way.SNAPSHOT or capture is None or message.id != capture.id:
            return
        if message.number == progress.chunk_wanted or message.number > progress.chunk_sent:
            progress.chunk_sent = message.number  # a later one came before it, or it goes on from an earlier connection
        progress.chunk_wanted = message.number
        self._send(peer, progress, min(message.number + AHEAD, capture.count), round, now_ms)

    def _send(self, peer: Peer, progress: Progress, until: int, round: int, now_ms: int) -> None:
        capture, core = self.capture, self._core
        assert capture is not None
        progress.chunk_ms = self._used_ms = now_ms
        if peer.congested:
            return
        head = capture.head
        for number in range(progress.chunk_sent, until):
            body = capture.body(number)
            core.send(
                peer.link, Chunk(core.term, round, capture.id, head.index, head.term, number, capture.count, body)
            )
            progress.chunk_sent = number + 1

    def floor(self) -> int | None:
        """The log must not be cut beyond this entry."""
        return None if self.capture is None else self.capture.head.index

    def tick(self, now_ms: int) -> None:
        """Let a capture go that nobody needs."""
        if self.capture is not None and now_ms - self._used_ms > KEPT_MS:
            self.capture = None
