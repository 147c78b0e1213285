"""
A replica by itself: what every core can do without peers.

Writes go into the store and gather; `take_persist` hands out everything new as one commit, and `persisted` says that
it has become durable. What is *durable* is all that may be told to others, so a delta never reaches beyond it.

Weak writes are answered before they are durable, once the disk is *marked* (`mmrepl.replication.mark`).

Whether this store is the latest that its node has had, no store can tell by itself. When a peer has seen more of our
counter than we have, it is an old copy, and by law L2 must not mint another dot under its name: see `recover_identity`.

Deltas and snapshots are made and taken in here too, as messages: a replica that is shipped by hand, as bytes in a
file or a queue, and a node on the network share this code.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from attrs import frozen

from mmrepl.causality.context import CausalContext
from mmrepl.causality.version_vector import VersionVector
from mmrepl.clock.hlc import ahead_ms, ms_of
from mmrepl.effects import Persist
from mmrepl.errors import DeltaGap, FrameError, IdentityLost, LogTruncated, StampAhead
from mmrepl.log.batch import Batch
from mmrepl.log.oplog import Slice
from mmrepl.ports import Durability, Rng
from mmrepl.replication.continuity import CONTINUED
from mmrepl.replication.mark import Mark
from mmrepl.replication.slices import after, before, from_position, size_bytes
from mmrepl.store.journal import Journal
from mmrepl.store.snapshot import Capture, capture, install
from mmrepl.store.store import Store
from mmrepl.store.table import Table
from mmrepl.types import NodeId
from mmrepl.wire.messages import Delta, Snapshot, Vector, from_wire, to_wire

DELTA_OPERATIONS = 8192
"""A delta for a peer that is far behind is divided into frames of about so many operations."""

Blob: TypeAlias = list[Delta | Snapshot]


@frozen
class Merged:
    """What a merge did: operations that were new here, and those that were known already."""

    fresh: int
    known: int


def new_incarnation(name: str, rng: Rng) -> NodeId:
    """An origin that nobody has been before: 63 random bits after the name."""
    return NodeId(name, rng.getrandbits(63))


class LocalCore:
    """
    Store and journal, and what is durable of them. Mutable, not thread-safe.

    Without a *journal* nothing is persisted, and everything counts as durable at once. *rng* draws a new incarnation
    when one is needed.
    """

    def __init__(
        self, store: Store, journal: Journal | None = None, rng: Rng | None = None, continues: tuple[NodeId, ...] = ()
    ) -> None:
        self.store = store
        self.continues = continues  # earlier incarnations whose memory this one has (`mmrepl.replication.continuity`)
        self._rng = rng
        self._head_at_opening = store.own.head  # what was minted above this, this run of the process has minted
        self.doubt: str | None = None  # why this node took a new incarnation since its process began
        self.journal = journal
        self.durable = store.log.end  # positions before this are durable
        self._durable_vector = store.version
        self._handed_out: deque[tuple[int, VersionVector, bool]] = deque()
        self._durability = Durability.NONE  # the strongest asked for since the last commit
        self._unsynced = False  # whether the last commit was of level NONE
        self.is_settled = True  # false from starting over until that is durable
        self._cut_at = 0  # end of the log at the last cut, or when a snapshot was joined
        self.mark = Mark()
        self._is_ending = False

    # -- writing

    def put(
        self,
        table: Table,
        key: str,
        payload: bytes | None,
        wall_ms: int,
        context: CausalContext | None = None,
        durability: Durability = Durability.SYNC,
    ) -> int:
        """Write or delete; returns the counter of the dot, minted by ``store.node``. Errors are `Store.put`'s."""
        counter = self.store.put(table, key, payload, wall_ms, context)
        if durability is not Durability.SYNC or self._durability is not Durability.SYNC:
            self._asked(durability)
        return counter

    def put_run(
        self, table: Table, keys: list[str], payloads: list[bytes | None], wall_ms: int, durability: Durability
    ) -> int:
        """As `put`, for some keys in order; returns the first dot's counter. ClockAhead: nothing was written."""
        first = self.store.own.head + 1
        self.store.put_run(table, keys, payloads, [wall_ms] * len(keys))
        self._asked(durability)
        return first

    def _asked(self, durability: Durability) -> None:
        """The next commit must be at least so durable."""
        if durability > self._durability:  # noqa: PLR1730 - the call of `max` costs more
            self._durability = durability
        if durability is not Durability.SYNC and self.journal is not None and self.mark.put(self.journal):
            self._durability = Durability.SYNC

    # -- weak writes

    def answers_at_once(self, level: Durability) -> bool:
        """
        Whether a write of *level* that was just made may be answered before it is durable.

        A weak one may, once the mark is on disk. The first of a run has to wait for it, and shares its commit.
        """
        return self.journal is None or (self.mark.is_on_disk and level is not Durability.SYNC)

    def may_tell(self, context: VersionVector) -> bool:
        """Whether *context* may be handed out: no dot in it is one that the death of the process has us mint again."""
        if self.journal is None or self.mark.is_on_disk:
            return True
        node = self.store.node
        return context.counter(node) <= self.durable_vector.counter(node)

    def rest(self, now_ms: int) -> None:
        """Take the mark back if no weak write was made for a while. Called now and then, at monotonic *now_ms*."""
        if self.mark.is_stale(now_ms):
            self.calm_down()

    def wind_up(self) -> None:
        """Nothing more will be written: the commits from now on take the mark back."""
        self._is_ending = True

    def calm_down(self) -> None:
        """Take the mark back with the next commit, which is synced. Does nothing while one is under way."""
        if not self._handed_out and self.journal is not None and self.mark.take_back(self.journal):
            self._durability = Durability.SYNC

    # -- durability

    @property
    def durable_vector(self) -> VersionVector:
        """The version vector of what is durable."""
        if self.journal is None and self.durable != self.store.log.end:
            self.durable = self.store.log.end
            self._durable_vector = self.store.version
        return self._durable_vector

    @property
    def end(self) -> int:
        """The position behind the last operation."""
        return self.store.log.end

    def take_persist(self) -> Persist | None:
        """Everything not yet handed out, as one commit; None when there is nothing."""
        journal = self.journal
        if journal is None:
            return None
        if self._is_ending:
            self.calm_down()
        commit = journal.take()
        if commit is None:
            return None
        durability, self._durability = self._durability, Durability.NONE
        self._unsynced = durability is Durability.NONE
        self._handed_out.append((journal.persisted, self.store.version, self.mark.is_noted))
        return Persist(commit, durability, journal.persisted)

    def persisted(self, position: int) -> None:
        """The commit that ends at *position* is durable, and with it all before."""
        while self._handed_out and self._handed_out[0][0] <= position:
            self.durable, self._durable_vector, self.mark.is_on_disk = self._handed_out.popleft()
            self.is_settled = True
        if not self._handed_out:
            self.store.log.release(self.durable)

    def demand(self, durability: Durability) -> None:
        """
        The next commit must be at least this durable (received operations are no writer's, and ask here).

        Where the commits so far were weaker and nothing is new, there is one all the same: it takes them along.
        """
        self._durability = max(self._durability, durability)
        if self._unsynced and durability > Durability.NONE and self.journal is not None:
            self.journal.note_state()

    # -- identity

    def become(self, node: NodeId) -> None:
        """Take a new incarnation."""
        if self.journal is None:
            self.store.become(node)
        else:
            self.journal.become(node)
        self._head_at_opening = 0
        self._break_off()

    def _break_off(self) -> None:
        """We are nobody that we were before."""
        if self.continues and self.journal is not None:
            self.journal.note(CONTINUED, None)
        self.continues = ()

    @property
    def minted_count(self) -> int:
        """How many dots of the present incarnation were minted since the process began."""
        return self.store.own.head - self._head_at_opening

    def recover_identity(self, claimed: int) -> None:
        """
        Somebody has seen *claimed* operations of ours. If that is more than we made, we are an old copy of ourselves.

        As long as nothing was minted since the process began, we become a new incarnation, and learn what the old one
        wrote from whoever has it.

        HAZARD: dots that an *earlier* run of the process minted on the same old copy, which then met nobody, are not
        found out. They stay, under a name that means other writes elsewhere. A networked node remembers what others
        have confirmed and makes such writes again (`mmrepl.replication.rejoin`); bytes shipped by hand confirm nothing.

        Raises:
            IdentityLost: something was minted. Nothing was changed.
        """
        node, head = self.store.node, self.store.own.head
        if claimed <= head:
            return
        if self.minted_count or self._rng is None:
            first = self._head_at_opening + 1
            raise IdentityLost(
                f"{node} has made {head} operations as this store remembers, and {claimed} as others do: it is an old"
                f" copy. Operations {first} to {head}, written since it was opened, share their dots with others: read"
                " what they wrote, open a new store, merge what the others have, and write it again there",
                node=node, first=first, last=head,
            )  # fmt: skip
        self.become(new_incarnation(node.name, self._rng))
        self.doubt = f"others have seen {claimed} operations of {node}, this store remembers {head}: an old copy"

    def start_over(self, node: NodeId) -> None:
        """Empty the store and become *node*; durable with the next commit, which replaces all that is there."""
        self.store.start_over(node)
        self.durable, self._durable_vector = self.store.log.end, self.store.version
        self._handed_out.clear()
        self._cut_at = self._head_at_opening = 0
        if self.journal is not None:
            self.is_settled = False
            self.journal.rewrite()
            self.mark.take_back(self.journal)
        self._break_off()

    def upkeep(self, *, position: int) -> bool:
        """Cut the log before *position*, or rewrite small batches. Returns whether the next commit has to do it."""
        journal = self.journal
        if journal is None:
            if position > self.store.log.start:
                self.store.log.cut(min(position, self.store.log.end))
                self.store.forget_settled()
                self.store.log.compact()
            return False
        if self._handed_out:
            return False  # one commit at a time: a cut must not overtake what it stands on
        if journal.cut(min(position, self.durable)):
            self._cut_at = self.store.log.end
            return True
        return journal.merge_rows(self.durable)

    # -- deltas out

    def missing(self, vector: Mapping[NodeId, int]) -> list[Slice]:
        """What a peer with *vector* lacks of what is durable. Raises LogTruncated."""
        until = None if self.journal is None else self.durable
        return self.store.log.missing(vector, until)

    def delta(self, vector: VersionVector) -> Delta | None:
        """
        One frame with the first operations that a peer with *vector* lacks; None when it lacks nothing.

        Operations that were overwritten within the frame are left out. What the frame stands on is *vector* itself.

        Raises:
            LogTruncated: the log does not reach back that far, or only in a frame larger than allowed.
        """
        slices = self.missing(vector)
        if not slices:
            return None
        return Delta(to_wire(vector), self.frame(slices)[0])

    def frame(self, slices: list[Slice]) -> tuple[Batch, int]:
        """
        The first frame of *slices*, and the position of the log that it reaches: what was buried before it is void.

        Raises:
            LogTruncated: only a frame larger than allowed would do, or one with what is not durable yet.
        """
        log, limits, budget = self.store.log, self.store.limits, DELTA_OPERATIONS
        full_bytes = min(limits.delta_bytes, limits.frame_bytes // 4)
        if len(slices) == 1 and slices[0][1] == slices[0][2]:
            columns, only, _ = slices[0]
            one = log.plain_batch(columns, only, only)
            if one is not None and size_bytes(one) <= full_bytes:  # nothing is void, so nothing has to be sought
                return one, columns.positions[only - columns.base] + 1
        while True:
            until = self._until(slices, budget)
            batch = log.batch(before(slices, until), until)
            size = size_bytes(batch)
            if size <= full_bytes or budget == 1:
                break
            budget = max(1, budget * full_bytes // (2 * size))
        if size > limits.frame_bytes * 3 // 4 or batch.dot_count > limits.frame_operations:
            raise LogTruncated(
                f"what is missing fits into no frame smaller than {size} bytes and {batch.dot_count} operations;"
                " send a snapshot"
            )
        return batch, until

    def _until(self, slices: list[Slice], budget: int) -> int:
        """The position up to which a frame of about *budget* operations of each origin goes; 1 is one in all."""
        if budget == 1:
            until = 1 + min(columns.positions[first - columns.base] for columns, first, _ in slices)
        else:
            until = 1 + max(columns.positions[last - columns.base] for columns, _, last in slices)
            for columns, first, last in slices:
                if last - first + 1 > budget:
                    until = min(until, columns.positions[first + budget - columns.base])
        until = self.store.log.reach(slices, until)
        if self.journal is not None and until > self.durable:
            raise LogTruncated("an operation was overwritten by one that is not durable yet, and its payload is gone")
        return until

    def blob(self, since: VersionVector) -> Blob:
        """
        Everything durable that a replica at *since* lacks: deltas that stand on each other, or a snapshot.

        Empty when nothing is missing. To be asked for only while `can_capture`.
        """
        messages: Blob = []
        vector = since
        try:
            slices = self.missing(since)
            while slices:
                batch, until = self.frame(slices)
                messages.append(Delta(to_wire(vector), batch))
                slices = from_position(slices, until)
                vector = after(vector, batch) if slices else vector
        except LogTruncated:
            taken = self.capture("blob")
            return [self.snapshot_chunk(taken, index) for index in range(len(taken))]
        return messages

    # -- snapshots out

    def can_capture(self) -> bool:
        """
        Whether what lived at the durable clock is all still held.

        It is not while a cut or a joined snapshot is on its way to disk; nor, where overwritten payloads are let go at
        once, while anything is.
        """
        if self.journal is None:
            return True
        return self._cut_at <= self.durable and (self.store.keyspace.retain or self.durable == self.store.log.end)

    def capture(self, id: str) -> Capture:
        """A snapshot of what is durable. Only while `can_capture`."""
        assert self.can_capture()
        vector = self.durable_vector
        return capture(self.store, vector, self.durable, id)

    def snapshot_chunk(self, taken: Capture, index: int) -> Snapshot:
        """One chunk as a message."""
        return Snapshot(taken.id, index, len(taken), to_wire(taken.clock), taken.batch(self.store, index))

    # -- taking in

    def lacks(self, assumes: Vector) -> bool:
        """Whether something that a delta stands on is not here (law L4)."""
        have = self.store.version.counters.get
        for name, incarnation, counter in assumes:  # noqa: SIM110 - a generator costs twice as much
            if counter > have((name, incarnation), 0):  # type: ignore[call-overload] # equal to a node id
                return True
        return False

    def check_stamps(self, batch: Batch, wall_ms: int) -> None:
        """Raises StampAhead when a stamp of the batch is further in the future than ``limits.max_drift_ms``."""
        if not batch.stamps:
            return
        _, newest = batch.stamp_bounds()
        ahead = ahead_ms(newest, wall_ms)
        if ahead > self.store.limits.max_drift_ms:
            raise StampAhead(
                f"operations stamped {ahead} ms ahead of our clock, {self.store.limits.max_drift_ms} are let in"
                f" (limits.max_drift_ms): set the clocks, or wait until {ms_of(newest)} ms is near",
                ahead_ms=ahead,
            )

    def merge(self, messages: Iterable[Delta | Snapshot], wall_ms: int) -> Merged:
        """
        Take in a blob of another replica: its deltas, or its snapshot.

        If the blob has seen more of our counter than we have, we take a new incarnation first (`recover_identity`).

        Raises:
            DeltaGap: it stands on operations that are not here. Nothing was taken in.
            StampAhead: it was stamped too far in the future. Nothing was taken in.
            FrameError: it does not fit together. Nothing was taken in.
            Equivocation: it has another content for a dot that is here. Nothing was taken in but the deltas before it.
            IdentityLost: this store is an old copy that has written on. Nothing was taken in.
        """
        deltas: list[Delta] = []
        chunks: list[Snapshot] = []
        claimed, node = 0, self.store.node
        for message in messages:
            if isinstance(message, Delta):
                deltas.append(message)
            else:
                chunks.append(message)
            self.check_stamps(message.batch, wall_ms)
            claimed = max(claimed, claimed_counter(node, message))
        if chunks:
            _check_chunks(chunks, len(deltas))
        if claimed:
            self.recover_identity(claimed)
        if chunks:
            return Merged(self.install(from_wire(chunks[0].clock), [chunk.batch for chunk in chunks]), 0)
        self._check_deltas(deltas)
        fresh = known = 0
        for delta in deltas:
            applied = self.store.apply(delta.batch)
            fresh, known = fresh + applied.fresh, known + applied.known
        return Merged(fresh, known)

    def _check_deltas(self, deltas: list[Delta]) -> None:
        """Refuse the whole blob for a gap anywhere in it: before a delta, or between it and those that it stands on."""
        if len(deltas) == 1 and not self.lacks(deltas[0].assumes):
            return
        reached = self.store.version
        for delta in deltas:
            assumed = from_wire(delta.assumes)
            if not reached.descends(assumed):
                origin, (first, last) = next(iter(reached.lacks(assumed).items()))
                raise DeltaGap(
                    f"the delta stands on operations {first} to {last} of {origin}, which are not here;"
                    " ask for one since this replica's version"
                )
            self.store.inspect(delta.batch, reached)
            reached = after(reached, delta.batch)

    def install(self, clock: VersionVector, batches: list[Batch]) -> int:
        """Join a whole snapshot; returns how many operations were new. Raises FrameError; then nothing was changed."""
        fresh = install(self.store, clock, batches)
        self._cut_at = self.store.log.end
        if self.journal is not None:
            self.journal.rewrite()
        return fresh


def _check_chunks(chunks: list[Snapshot], delta_count: int) -> None:
    first = chunks[0]
    whole = [(chunk.id, chunk.index, chunk.count, chunk.clock) for chunk in chunks]
    if delta_count or whole != [(first.id, index, len(chunks), first.clock) for index in range(len(chunks))]:
        raise FrameError(
            f"a snapshot of {first.count} chunks of which {len(chunks)} came, in another order, or with {delta_count}"
            " deltas among them"
        )


def claimed_counter(node: NodeId, message: Delta | Snapshot) -> int:
    """
    The highest counter of *node* that the sender of a message has seen: in an operation, a context, or a clock.

    What a delta assumes its receiver to have proves nothing: the receiver itself may have said so, and then have died
    before it was durable.
    """
    batch, claimed = message.batch, 0
    if isinstance(message, Snapshot):
        claimed = max((counter for *origin, counter in message.clock if tuple(origin) == node), default=0)
    if node in batch.origins:
        ours = batch.origins.index(node)
        claimed = max([claimed, *(run.first + run.size - 1 for run in batch.iter_runs() if run.origin == ours)])
        for entry in batch.contexts:
            claimed = max([claimed, *(n for ref, n in zip(entry[1::2], entry[2::2], strict=True) if ref == ours)])
    return claimed
