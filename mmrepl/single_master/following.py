"""
The follower's side of the log: take what the leader has, say what is on our disk.

A message says which entry it follows on. When ours is another one there, or missing, we say up to where the logs may
agree, and nothing is taken. Where they part afterwards, ours gives way: those entries are cut off, and kept as a
branch. What is committed never gives way to an elected leader. To a promoted primary it may have to (manual failover
only, where an acknowledged write may never have left the old primary); then only a snapshot brings the applied state
back to where the logs part.

Confirmations are made once a turn and say what is durable, whatever came since the last one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmrepl.errors import FrameError
from mmrepl.single_master import snapshot
from mmrepl.single_master.configuration import decode_configuration
from mmrepl.single_master.entry import MEMBERS, SESSION, WRITE, Entry, decode_entries
from mmrepl.single_master.state import State, decode_bounds
from mmrepl.wire.single_master import Append, Appended, Chunk, ChunkWanted

if TYPE_CHECKING:
    from mmrepl.single_master.office import Office
    from mmrepl.single_master.reception import Peer


class Incoming:
    """A snapshot that is being received. Mutable."""

    def __init__(self, chunk: Chunk) -> None:
        self.id = chunk.id
        self.index = chunk.index
        self.count = chunk.count
        self.head = snapshot.decode_head(chunk.body)
        if (self.head.index, self.head.term) != (chunk.index, chunk.index_term):
            raise FrameError(f"a snapshot after entry {chunk.index} whose head says {self.head.index}")
        self.state = snapshot.begin(self.head)
        self.bodies: list[bytes] = []
        self.record_count = 0

    @property
    def next(self) -> int:
        """The piece that is wanted next."""
        return 1 + len(self.bodies)


class Following:
    """What a node knows of the leader that it follows. Mutable; begins anew with each term."""

    def __init__(self, core: Office) -> None:
        self._core = core
        self.verified = 0  # our log is the leader's up to here
        self.leader_commit = 0
        self.fresh_ms: int | None = None  # when we last had applied all that the leader had committed
        self._round = -1  # the latest heartbeat that was answered
        self._due: tuple[int, int] | None = None  # (link, round) of a confirmation to be sent
        self._confirmed = 0  # what the last one said
        self.parted: int | None = None  # manual: where our log and the primary's part, if that is below what we applied
        self._parted_term = 0  # in which term that was seen
        self.incoming: Incoming | None = None

    def begin(self) -> None:
        """
        Another leader, or another term, or it is heard again. What is under way of a snapshot may go on.

        Where our log ends with an entry of this term, it is this leader's: there was no other one.
        """
        log = self._core.log
        self.verified = log.last if log.last_term == self._core.term else 0
        self._confirmed = 0
        self._round = -1
        self._due = None

    # -- entries

    def append(self, peer: Peer, message: Append, now_ms: int, wall_ms: int) -> None:
        """The leader says that these entries follow on that one. Raises FrameError; then nothing was taken."""
        core, log = self._core, self._core.log
        previous, previous_term = message.prev_index, message.prev_term
        runs, bodies = message.runs, message.bodies
        if core.is_manual and self.verified < previous and previous + len(bodies) < log.start:
            # An elected leader has all that we have committed, and cut off. A promoted primary ends before it, perhaps.
            self._part(peer, message, log.start)
            return
        if previous < log.start and bodies:
            # The begin of it is below the front of our log, which holds only what was committed.
            skip = min(log.start - previous, len(bodies))
            previous, previous_term, runs, bodies = _after(previous, runs, bodies, skip)
            if previous == log.start and previous_term != log.start_term:
                self._part(peer, message, log.start)
                return
        if previous > log.last or (previous >= log.start and log.term_at(previous) != previous_term):
            self._reject(peer, message, previous, previous_term)
            return
        end = previous + len(bodies)
        agreed = log.agree_until(previous + 1, runs) if end > log.start else end
        if agreed < end:
            if agreed < log.last and agreed < core.committed:
                self._part(peer, message, agreed)
                return
            if agreed > previous:
                _, _, runs, bodies = _after(previous, runs, bodies, agreed - previous)
            entries = decode_entries(bodies, core.limits)
            validate(entries)
            if agreed < log.last:
                core.cut_off(agreed, wall_ms)
            core.take_in(runs, bodies, entries)
        self.verified = max(self.verified, end)
        self.leader_commit = max(self.leader_commit, message.commit)
        core.committed = max(core.committed, min(message.commit, self.verified))
        if (self.verified if core.is_manual else core.committed) >= message.commit:
            self.fresh_ms = now_ms
        if bodies or message.round > self._round:
            self._due = (peer.link or 0, max(message.round, self._round))

    def _part(self, peer: Peer, message: Append, agreed: int) -> None:
        """The leader has another entry where we have committed one."""
        core = self._core
        if not core.is_manual:
            raise FrameError(
                f"{peer.name!r} leads term {message.term} with another log than the one of which"
                f" {core.node.name!r} has committed {core.committed} entries"
            )
        self.parted, self._parted_term = agreed, core.term
        core.say(peer.link, Appended(core.term, message.round, ok=False, match=0, reset=True))

    def _reject(self, peer: Peer, message: Append, previous: int, previous_term: int) -> None:
        core, log = self._core, self._core.log
        if not core.is_manual and previous <= core.committed:
            self._part(peer, message, previous)
        match = log.latest_at_most(min(previous - 1, log.last), previous_term)
        if core.is_manual and match == log.start and previous <= log.start:
            self._part(peer, message, log.start)  # they part before what our log still has
            return
        core.say(peer.link, Appended(core.term, message.round, ok=False, match=match, hint_term=log.term_at(match)))

    def confirm(self) -> None:
        """Say what is durable, if there is somebody to say it to and something to say."""
        if self._due is None:
            return
        core, (link, number) = self._core, self._due
        match = min(core.journal.durable, self.verified)
        if match < self.verified and match <= self._confirmed and number <= self._round:
            return  # the entries are still on their way to our disk, and the rest was said
        if not core.journal.is_durable(core.term_position):
            return
        core.send(link, Appended(core.term, number, ok=True, match=match))
        self._round, self._confirmed = number, match
        if match == self.verified:
            self._due = None

    # -- snapshots

    def _must_go_back(self, index: int) -> bool:
        """Whether our state has to be taken back to *index*: our log parts from this primary's, and more is applied."""
        return self._parted_term == self._core.term and self.parted is not None and index <= self.parted

    def chunk(self, peer: Peer, message: Chunk, wall_ms: int) -> None:
        """A piece of a snapshot. Raises FrameError."""
        core, log = self._core, self._core.log
        if not self._must_go_back(message.index) and (
            log.has(message.index, message.index_term)
            or message.index <= self.verified
            or (not core.is_manual and message.index <= core.committed)
        ):
            # We have all that already, and perhaps more: a snapshot never replaces a log that holds its last entry.
            self.incoming = None
            self.verified = max(self.verified, message.index)
            core.committed = max(core.committed, min(message.index, log.last))
            self._due = (peer.link or 0, max(message.round, self._round))
            self._confirmed = -1
            return
        if message.number == 0 and (self.incoming is None or self.incoming.id != message.id):
            self.incoming = Incoming(message)
        incoming = self.incoming
        if incoming is None or incoming.id != message.id:
            return
        if message.number == incoming.next and message.number < incoming.count:
            piece = snapshot.decode_piece(message.body, core.limits)
            snapshot.fill(incoming.state, piece)
            incoming.bodies.append(message.body)
            incoming.record_count += len(piece.keys)
        if incoming.next < incoming.count:
            core.send(peer.link, ChunkWanted(core.term, message.round, incoming.id, incoming.next))
            return
        self.incoming = None
        core.install(incoming.head, incoming.state, incoming.bodies, incoming.record_count, wall_ms)
        self.verified = message.index  # and no further, though our log may have gone further
        self._due = (peer.link or 0, max(message.round, self._round))
        self._confirmed = 0


def validate(entries: list[Entry]) -> None:
    """Entries whose payloads mean something to the core. Raises FrameError."""
    for entry in entries:
        if entry.kind == WRITE:
            continue
        if entry.kind == MEMBERS:
            decode_configuration(entry.payload)
        elif entry.kind == SESSION:
            decode_bounds(entry.payload)


def _after(
    previous: int, runs: list[tuple[int, int]], bodies: list[bytes], skip: int
) -> tuple[int, int, list[tuple[int, int]], list[bytes]]:
    """What is left of entries without the first *skip*: the place before them, runs, bodies."""
    if not skip:
        return previous, runs[0][0] if runs else 0, runs, bodies
    left: list[tuple[int, int]] = []
    term, to_skip = 0, skip
    for run_term, count in runs:
        if to_skip:
            term = run_term
        dropped = min(count, to_skip)
        to_skip -= dropped
        if count > dropped:
            left.append((run_term, count - dropped))
    return previous + skip, term, left, bodies[skip:]


def included(entries: list[Entry], fork: int, state: State) -> bool:
    """Whether all writes after *fork* are seen to be in a state that was received."""
    for index, entry in enumerate(entries, fork + 1):
        if entry.kind == WRITE:
            record = state.record(entry.table, entry.key)
            if record is None or record[1] != index or record[0] != entry.payload:
                return False
    return True
