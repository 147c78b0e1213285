"""
Reads that have to wait: for the leader's word, for a quorum's, for what is not applied yet.

*linearizable*, by read index (Raft thesis §6.4): the leader notes how far it has committed, begins a heartbeat round,
and when a quorum has echoed it, it was the leader when the read came, so that nothing was acknowledged that it does
not know. The reader serves the read when it has applied that far; it can be a follower, which asks the leader for the
index. Before a leader has committed an entry of its own term it does not know what is committed, and reads wait.

*leader*, under the lease: as long as the last round that a quorum echoed was sent less than nine tenths of
``election_ms_min`` ago, nobody else can have been elected, and a read is served at once. Without the lease it is a
linearizable read.

HAZARD: The lease rests on monotonic clocks that run at nearly one rate at all voters, and on this process not
standing still between looking at the clock and answering the client. A voter whose clock runs more than a tenth
faster than the leader's may vote for another too early; a leader that is stopped (SIGSTOP, a machine put to sleep)
after its look at the clock answers with what was true then. What breaks is that a read may miss the newest writes;
nothing written is lost. Where that is not acceptable, read linearizably.

HAZARD: With manual failover a primary applies what is on its own disk. A linearizable read shows every write that was
acknowledged before it, and may show one that no majority holds yet; a promotion may lose that one, which was never
acknowledged by ``quorum``, and later reads do not show it any more.

*bounded*: what this node has applied, if that is not further behind than the reader allows. Behind in entries: what
the leader said it has committed, less what is applied. Behind in time: since the leader said so little that all of
it was applied. Both are lower bounds of the truth by the time that a message takes.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING

from attrs import define

from mmrepl.errors import MmreplError, Overloaded, QuorumLost, ReadTooStale
from mmrepl.single_master.events import Failed, ReadReady
from mmrepl.single_master.options import ReadLevel
from mmrepl.wire.single_master import ReadAnswer, ReadAsk

if TYPE_CHECKING:
    from mmrepl.single_master.office import Office
    from mmrepl.single_master.reception import Peer


@define(eq=False)
class Read:
    """One that waits: ours, with a token, or a follower's, with link and number."""

    token: object
    deadline_ms: int
    link: int = 0  # of a follower; 0: ours
    id: int = 0
    index: int = -1  # how far has to be applied; negative while that is not known
    round: int = 0  # that a quorum has to echo
    stopped: bool = False


class Reads:
    """The reads of one node that wait. Mutable."""

    def __init__(self, core: Office) -> None:
        self._core = core
        self._fresh: list[Read] = []  # at the leader: their round is the next one
        self._confirming: deque[Read] = deque()  # at the leader: their round is under way
        self._asked: dict[int, Read] = {}  # at a follower: the leader was asked, by number
        self._unasked: list[Read] = []  # at a follower: it is not known whom to ask
        self._applying: list[tuple[int, int, Read]] = []  # a heap by index: confirmed, and not applied so far
        self._id = 0

    # -- asking

    def read(self, level: ReadLevel, now_ms: int, token: object, max_entries: int | None, max_ms: int | None) -> None:
        """As `Serving.read`."""
        core = self._core
        if level is ReadLevel.LOCAL:
            core.notify(ReadReady(token, core.applied))
            return
        if level is ReadLevel.BOUNDED:
            self._check_bound(now_ms, max_entries, max_ms)
            core.notify(ReadReady(token, core.applied))
            return
        if self.count >= core.options.pending_max:
            raise Overloaded(f"{self.count} reads are waiting already (pending_max)")
        read = Read(token, now_ms + core.options.read_timeout_ms)
        if core.tenure is None:
            if level is ReadLevel.LEADER or (not core.leader and core.history.current.founded == 0):
                raise core.not_primary("does not lead, and a read of the latest is served by who does")
            self._unasked.append(read)
            self._ask()
        elif level is ReadLevel.LEADER and core.tenure.has_lease(now_ms):
            self._confirmed(read, core.committed)
        else:
            self._fresh.append(read)

    def _check_bound(self, now_ms: int, max_entries: int | None, max_ms: int | None) -> None:
        entries, age_ms = self.behind(now_ms)
        too_many = max_entries is not None and (entries is None or entries > max_entries)
        too_old = max_ms is not None and (age_ms is None or age_ms > max_ms)
        if too_many or too_old:
            told = "nobody has told it how far" if entries is None else f"{entries} entries"
            since = "it does not know since when" if age_ms is None else f"{age_ms} ms"
            raise ReadTooStale(
                f"{self._core.node.name!r} is behind: {told}, {since}; allowed were {_bound(max_entries)} entries and"
                f" {_bound(max_ms)} ms",
                behind_entries=entries,
                behind_ms=age_ms,
            )

    def behind(self, now_ms: int) -> tuple[int | None, int | None]:
        """How many entries, and for how long, this node is behind at the least; None for what it was never told."""
        core = self._core
        if core.tenure is not None:
            since = now_ms if core.is_manual or not core.tenure.progress else core.tenure.confirmed_ms
            return core.committed - core.applied, now_ms - since
        fresh_ms = core.following.fresh_ms
        if not core.leader and fresh_ms is None:
            return None, None
        entries = max(0, core.following.leader_commit - self.shown())
        return entries, None if fresh_ms is None else now_ms - fresh_ms

    def stop(self, token: object) -> None:
        """Nobody waits for *token* any longer."""
        waiting = [*self._fresh, *self._confirming, *self._asked.values(), *self._unasked]
        for read in [*waiting, *(read for _, _, read in self._applying)]:
            if read.token == token and not read.link:
                read.stopped = True

    @property
    def count(self) -> int:
        """How many wait."""
        parts = (self._fresh, self._confirming, self._asked, self._unasked, self._applying)
        return sum(map(len, parts))

    # -- the leader's part

    def asked(self, peer: Peer, message: ReadAsk, now_ms: int) -> None:
        """A follower asks."""
        core = self._core
        if core.tenure is None or message.term != core.term or self.count >= core.options.pending_max:
            core.send(peer.link, ReadAnswer(core.term, message.id, -1))
            return
        assert peer.link is not None
        self._fresh.append(Read(None, now_ms + core.options.read_timeout_ms, peer.link, message.id))

    def begin_round(self, now_ms: int) -> None:
        """Let the reads that have come since the last turn be confirmed by a round of their own."""
        tenure = self._core.tenure
        if not self._fresh or tenure is None or not tenure.has_committed:
            return
        number = tenure.beat(now_ms)
        for read in self._fresh:
            read.index, read.round = self._core.committed, number
        self._confirming.extend(self._fresh)
        self._fresh = []

    def look(self) -> None:
        """Answer what is confirmed, and serve what is applied."""
        core = self._core
        if core.tenure is not None:
            while self._confirming and self._confirming[0].round <= core.tenure.confirmed_round:
                read = self._confirming.popleft()
                if read.link:
                    core.send(read.link, ReadAnswer(core.term, read.id, read.index))
                else:
                    self._confirmed(read, read.index)
        shown = self.shown()
        while self._applying and self._applying[0][0] <= shown:
            _, _, read = heapq.heappop(self._applying)
            if not read.stopped:
                core.notify(ReadReady(read.token, core.applied))

    def shown(self) -> int:
        """
        Up to which entry what is applied here is what the leader has.

        With manual failover a replica may have applied what the old primary never shipped to the new one: more
        entries, and others. Nothing of it counts before the logs were seen to agree.
        """
        core = self._core
        if core.tenure is None and core.is_manual:
            return min(core.applied, core.following.verified)
        return core.applied

    def _confirmed(self, read: Read, index: int) -> None:
        self._id += 1
        read.index = index
        heapq.heappush(self._applying, (index, self._id, read))

    # -- the follower's part

    def _ask(self) -> None:
        core = self._core
        leader = core.peers.get(core.leader)
        if leader is None or leader.link is None or core.tenure is not None:
            return
        for read in self._unasked:
            self._id += 1
            self._asked[self._id] = read
            core.send(leader.link, ReadAsk(core.term, self._id))
        self._unasked = []

    def answered(self, message: ReadAnswer) -> None:
        """The leader's word."""
        read = self._asked.pop(message.id, None)
        if read is None:
            return
        if message.index < 0:
            self._unasked.append(read)  # asked again at the next tick, or when another leads
        else:
            self._confirmed(read, message.index)

    def leader_changed(self) -> None:
        """Another leads, or nobody is known to, or the connection to it is another: ask again."""
        self._unasked += self._asked.values()
        self._asked = {}
        own = [read for read in [*self._fresh, *self._confirming] if not read.link]
        for read in [*self._fresh, *self._confirming]:
            if read.link:
                self._core.send(read.link, ReadAnswer(self._core.term, read.id, -1))
        self._fresh, self._confirming = [], deque()
        if self._core.tenure is not None:
            self._fresh = own + self._unasked
            self._unasked = []
        else:
            self._unasked += own
            self._ask()

    # -- time

    def tick(self, now_ms: int) -> None:
        """Give up what took too long, and ask again."""
        for read in self._expired(now_ms):
            if not read.stopped and not read.link:
                self._core.notify(Failed(read.token, self._too_late()))
        self._ask()

    def _expired(self, now_ms: int) -> list[Read]:
        def late(read: Read) -> bool:
            return read.deadline_ms <= now_ms

        gone = [read for read in [*self._fresh, *self._confirming, *self._unasked, *self._asked.values()] if late(read)]
        gone += [read for _, _, read in self._applying if late(read)]
        if gone:
            self._fresh = [read for read in self._fresh if not late(read)]
            self._confirming = deque(read for read in self._confirming if not late(read))
            self._unasked = [read for read in self._unasked if not late(read)]
            self._asked = {number: read for number, read in self._asked.items() if not late(read)}
            self._applying = [entry for entry in self._applying if not late(entry[2])]
            heapq.heapify(self._applying)
        return gone

    def _too_late(self) -> MmreplError:
        core = self._core
        who = f"{core.leader!r} leads" if core.leader else "nobody is known to lead"
        return QuorumLost(
            f"a read was not confirmed within {core.options.read_timeout_ms} ms (read_timeout_ms); {who},"
            f" term {core.term}, {len(core.reception.up())} members are connected"
        )


def _bound(most: int | None) -> str:
    return "any" if most is None else str(most)
