"""
Push: what a live peer is sent without being asked.

Our own operations as soon as they are durable; to a peer that asked, also what others wrote, less what it pruned. A
frame carries the version vector on which it stands: for the origins in it, what precedes; for all others, everything
that stands before its last operation in our log. That is more than the operations themselves may need, and exactly
what makes delivery causal (law L4).
"""

from __future__ import annotations

from collections.abc import Callable

from mmrepl.errors import LogTruncated
from mmrepl.log.batch import Batch
from mmrepl.log.columns import Columns
from mmrepl.log.oplog import OpLog, Slice
from mmrepl.replication.local import LocalCore
from mmrepl.replication.peer import Peer
from mmrepl.replication.slices import after
from mmrepl.types import NodeId
from mmrepl.wire.messages import Delta, Vector

FRAMES_A_TURN = 4
"""A turn sends at most so many frames to one peer; the next turn goes on, after what came in has been heard."""


class Pusher:
    """
    Makes the frames of one turn. Peers in the same position get the same message object, so it is encoded once.

    *own* tells which origins are ours: this incarnation and earlier ones.
    """

    def __init__(self, local: LocalCore, own: Callable[[NodeId], bool]) -> None:
        self._local = local
        self._own = own
        self._made: dict[tuple[tuple[int, int, int], ...], Delta] = {}
        self._own_columns: tuple[OpLog, int, list[Columns]] | None = None  # of this log, when it had so many origins

    def begin_turn(self) -> None:
        """Forget the frames of the turn before."""
        self._made.clear()

    def wanted(self, peer: Peer) -> list[Slice]:
        """
        Durable operations to be pushed to *peer*, an origin at a time.

        Raises LogTruncated when the log does not reach back far enough.
        """
        sent, reached = peer.sent.counters, self._local.durable_vector.counters
        slices: list[Slice] = []
        if sent == reached:
            return slices
        have, durable = sent.get, reached.get
        for columns in self._local.store.log.columns if peer.eager else self._ours():
            origin = columns.origin
            first, last = have(origin, 0) + 1, durable(origin, 0)
            if first > last or (origin in peer.pruned and not self._own(origin)):
                continue
            if first < columns.base:
                raise LogTruncated(f"{peer.name!r} lacks operations of {origin} from {first}; the log begins later")
            slices.append((columns, first, last))
        return slices

    def _ours(self) -> list[Columns]:
        log, known = self._local.store.log, self._own_columns
        if known is None or known[0] is not log or known[1] != len(log.columns):
            ours = [columns for columns in log.columns if self._own(columns.origin)]
            known = self._own_columns = log, len(log.columns), ours
        return known[2]

    def frame(self, slices: list[Slice], *, ack: bool) -> Delta:
        """The first frame of *slices*. Raises LogTruncated."""
        key = tuple((columns.index, first, last) for columns, first, last in slices)
        made = self._made.get(key)
        if made is None:
            batch, until = self._local.frame(slices)
            made = self._made[key] = Delta(self._assumes(batch, until), batch, ack)
        return made

    def _assumes(self, batch: Batch, until: int) -> Vector:
        log = self._local.store.log
        whole = until >= log.end
        stands_on: dict[tuple[str, int], int] = {
            columns.origin: columns.head if whole else columns.last_before(until) for columns in log.columns
        }
        runs = batch.runs
        for at in range(len(runs) - 3, -1, -3):  # the first run of an origin decides
            stands_on[batch.origins[runs[at]]] = runs[at + 1] - 1
        return [(*origin, counter) for origin, counter in stands_on.items() if counter]

    def push(self, peer: Peer, *, ack: bool) -> list[Delta]:
        """
        The frames that *peer* is to be sent now; notes them as sent.

        Raises LogTruncated: what it lacks is gone from the log, and it needs a snapshot.
        """
        frames: list[Delta] = []
        for _ in range(FRAMES_A_TURN):
            slices = self.wanted(peer)
            if not slices:
                peer.idle_at = (peer.sent, self._local.durable_vector)
                break
            delta = self.frame(slices, ack=ack)
            frames.append(delta)
            peer.sent = after(peer.sent, delta.batch)
            peer.sent_count += len(delta.batch)
            if delta.batch.dot_count == sum(last - first + 1 for _, first, last in slices):
                break  # that was all
        return frames
