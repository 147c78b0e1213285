"""
What the leader knows of a follower's log, and how much it lets be under way.

Three ways to treat it (after etcd's): *probe*, when we do not know where its log and ours part: one message at a time,
a heartbeat apart at the least when nothing comes back; *replicate*, when we do: entries flow as they become durable,
within a window of messages and bytes, and are taken to arrive; *snapshot*, when it lacks what our log no longer has.
"""

from __future__ import annotations

import enum
from collections import deque

from attrs import define, field

from mmrepl.types import NodeId


class Way(enum.Enum):
    """How a follower is treated."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


@define(eq=False)
class Progress:
    """Of one follower, within one term of ours. Mutable."""

    node: NodeId
    next: int  # the entry that it is sent next; match < next
    match: int = 0  # its disk holds our log up to here
    way: Way = Way.PROBE
    round: int = -1  # the latest heartbeat that it answered
    since_round: int = 0  # on the present connection, and as the node that it is, it answers this one and later ones
    commit_told: int = 0
    waiting: bool = False  # a probe is under way
    probe_after_ms: int = 0  # and not to be repeated before
    inflight: deque[tuple[int, int]] = field(factory=deque)  # last entry and bytes of messages not yet answered
    inflight_bytes: int = 0
    snapshot: int = 0  # id of the snapshot that it is sent; 0: it has to be begun
    chunk_sent: int = 0  # pieces before this number were sent
    chunk_wanted: int = -1  # the one that it asked for last
    chunk_ms: int = 0  # when it asked last
    live: bool = False  # status: it has caught up
    behind_since_ms: int | None = None  # since when it has lacked something durable here

    @property
    def name(self) -> str:
        """Its name."""
        return self.node.name

    def is_full(self, messages: int, size: int) -> bool:
        """Whether the window is closed."""
        return len(self.inflight) >= messages or self.inflight_bytes >= size

    def sent(self, last: int, size: int) -> None:
        """Entries up to *last* are under way."""
        if self.way is Way.REPLICATE:
            self.next = last + 1
            self.inflight.append((last, size))
            self.inflight_bytes += size

    def confirmed(self, index: int) -> bool:
        """Its disk holds our log up to *index*. Returns whether that is news."""
        self.waiting = False
        inflight = self.inflight
        while inflight and inflight[0][0] <= index:
            self.inflight_bytes -= inflight.popleft()[1]
        if self.way is Way.PROBE or (self.way is Way.SNAPSHOT and index >= self.next - 1):
            self.replicate(index)
        self.next = max(self.next, index + 1)
        if index <= self.match:
            return False
        self.match = index
        return True

    def rejected(self, match: int) -> None:
        """The logs part; they may agree at *match*."""
        self.probe(max(match, self.match) + 1)

    def probe(self, next: int) -> None:
        """We do not know any more: begin again at *next*."""
        self.way = Way.PROBE
        self.next = max(next, self.match + 1)
        self.waiting = False
        self._forget_inflight()

    def replicate(self, match: int) -> None:
        """We know that the logs agree up to *match*."""
        self.way = Way.REPLICATE
        self.next = match + 1
        self._forget_inflight()

    def send_snapshot(self, id: int, index: int, now_ms: int) -> None:
        """It lacks what the log no longer has: snapshot *id*, taken after *index*."""
        self.way = Way.SNAPSHOT
        self.next = index + 1
        self.snapshot, self.chunk_sent, self.chunk_wanted, self.chunk_ms = id, 0, -1, now_ms
        self.live = False
        self._forget_inflight()

    def _forget_inflight(self) -> None:
        self.inflight.clear()
        self.inflight_bytes = 0

    def check(self) -> None:
        """Assert the invariants."""
        assert self.match < self.next, (self.match, self.next)
        assert self.inflight_bytes == sum(size for _, size in self.inflight)
        assert self.way is Way.REPLICATE or not self.inflight
