"""
The store: identity, clock, log and keyspace of one replica, with one path by which every operation enters.

A local write and a received one differ only in who minted the dot. Both are appended to the log and applied by
`Keyspace.apply_run`; both move the same version vector. The store is pure: it is told the time, it persists nothing
by itself (`mmrepl.store.journal` turns it into commits and back), and it knows nothing of peers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Final

from attrs import frozen

from mmrepl.causality.context import CausalContext
from mmrepl.causality.dot import COUNTER_BITS, COUNTER_MAX, Dot
from mmrepl.causality.version_vector import EMPTY, VersionVector
from mmrepl.clock.hlc import HybridClock
from mmrepl.errors import Equivocation, FrameError, TooManySiblings, UsageError, WrongContext
from mmrepl.log.batch import Batch
from mmrepl.log.columns import VOID, Columns, Context
from mmrepl.log.oplog import OpLog
from mmrepl.resolvers import LastWriterWins, Resolver, Sibling
from mmrepl.store.keyspace import Keyspace, Record
from mmrepl.store.table import Table
from mmrepl.types import DEFAULT_LIMITS, Limits, NodeId


@frozen
class Applied:
    """What became of a batch: how many operations were new, and how many were known already."""

    fresh: int
    known: int


_ONE: Final = Applied(1, 0)


class Store:
    """
    One replica's memory. Mutable; not thread-safe (hosts see to that).

    *tables* maps table names to resolvers, *default* is the resolver of every other table. *retain*: keep overwritten
    payloads until the log is cut, so that peers can be sent every operation in small batches.
    """

    def __init__(
        self,
        node: NodeId,
        *,
        default: Resolver | None = None,
        tables: Mapping[str, Resolver] | None = None,
        limits: Limits = DEFAULT_LIMITS,
        retain: bool = False,
    ) -> None:
        self.limits = limits
        self.default: Resolver = default if default is not None else LastWriterWins()
        self.policies: dict[str, Resolver] = dict(tables or {})
        self.log = OpLog()
        self.keyspace = Keyspace(self.log, retain=retain)
        self.hlc = HybridClock()
        self.own: Columns = self.log.origin(node)  # what we mint goes here
        self.watermark: VersionVector = EMPTY  # what every member is known to have, as told last
        self.forgotten_count = 0  # operations forgotten since this store was made
        for name in self.policies:
            self.table(name)

    def start_over(self, node: NodeId) -> None:
        """Forget everything and become *node*; the clock goes on. Tables that were handed out are no longer ours."""
        before = self.keyspace
        self.log = OpLog()
        self.keyspace = Keyspace(self.log, retain=before.retain)
        self.keyspace.observed = before.observed
        self.own = self.log.origin(node)
        self.watermark = EMPTY
        self.forgotten_count = 0
        for name in self.policies:
            self.table(name)

    @property
    def node(self) -> NodeId:
        """Who we are now, incarnation included."""
        return self.own.origin

    def become(self, node: NodeId) -> None:
        """Take a new incarnation: from now on dots are minted under it. What was minted before stays as it is."""
        assert self.log.known(node) is None, f"{node} has been somebody before"
        self.own = self.log.origin(node)

    @property
    def version(self) -> VersionVector:
        """Everything that was applied."""
        return self.log.vector()

    # -- tables

    def table(self, name: str) -> Table:
        """The table of that name, made when it is new. Raises UsageError when there are ``limits.tables`` already."""
        if len(self.log.table_names) >= self.limits.tables and not self.log.has_table(name):
            raise UsageError(f"table {name!r} is one more than the {self.limits.tables} that limits.tables allows")
        return self.enter_table(name)

    def peek(self, name: str) -> Table:
        """As `table`, for reading: one that does not exist is made for the occasion, and not remembered."""
        if self.log.has_table(name):
            return self.enter_table(name)
        return Table(name, -1, self.policies.get(name, self.default))

    def enter_table(self, name: str) -> Table:
        """As `table`, for what was let in already."""
        number = self.log.table_id(name)
        table = self.keyspace.tables.get(number)
        if table is None:
            table = Table(name, number, self.policies.get(name, self.default))
            self.keyspace.tables[number] = table
        return table

    def known_table(self, name: str) -> Table | None:
        """The table of that name, if there is one."""
        number = self.log.known_table_id(name)
        return None if number is None else self.keyspace.tables.get(number)

    def table_names(self) -> list[str]:
        """Tables that were declared or hold keys, in order."""
        declared = set(self.policies)
        return sorted(declared.union(table.name for table in self.keyspace.tables.values() if table.states))

    def has_tombstones(self) -> bool:
        """Whether a deletion is among the live writes. Cost: proportional to the keys with siblings or tombstones."""
        return any(
            sibling.is_tombstone
            for table in self.keyspace.tables.values()
            for key in table.unsettled
            for sibling in self.siblings(table, key)
        )

    # -- writing

    def put(
        self,
        table: Table,
        key: str,
        payload: bytes | None,
        wall_ms: int,
        context: CausalContext | None = None,
        *,
        stamp: int | None = None,
    ) -> int:
        """
        Mint a dot for a write (a delete when *payload* is None) and apply it; returns its counter.

        Without a *context* the write goes over whatever this replica has seen of the key. The payload must be an
        encoded value within the limits, the key checked: the host does both. *stamp* is for a write that is made
        again, and keeps its time.

        Raises:
            WrongContext: *context* was read from another key. Nothing was changed.
            TooManySiblings: the write would add to a key that holds ``limits.siblings_max``. Nothing was changed.
        """
        own, log, states = self.own, self.log, table.states
        state = states.get(key)
        if state is None and context is None and stamp is None and payload is not None and table.unsorted is None:
            # A value for a new key: all that the rest of this function does for it, in one piece and without calls.
            stamp, position, stamps = self.hlc.tick(wall_ms), log.end, own.stamps
            counter = own.base + len(stamps)
            own.positions.append(position)
            own.tables.append(table.number)
            own.keys.append(key)
            own.payloads.append(payload)
            own.buried.append(0)
            stamps.append(stamp)
            log.end = position + 1
            states[key] = own.index << COUNTER_BITS | counter
            return counter
        packed: Context | None = None
        if context is not None:
            context.check_for(table.name, key)
            packed = self._pack_context(context)
            if state.__class__ is int and packed == (state,) and state >> COUNTER_BITS == own.index:
                packed = None  # our own past, and nothing else
            elif stamp is None:  # a write that is made again was let in before
                self._refuse_explosion(table, key, packed)
        elif state is not None and (state.__class__ is not int or state >> COUNTER_BITS != own.index):
            packed = self._context_shown(table, key)
        if stamp is None:
            stamp = self.hlc.tick(wall_ms)
        position = log.end
        counter = log.append(own, stamp, table.number, key, payload, packed)
        self.keyspace.apply(table, key, payload, own.index << COUNTER_BITS | counter, position, packed)
        return counter

    def put_gathered(self, table: Table, writes: list[tuple[str, bytes, int]]) -> None:
        """
        Mint and apply some writes as so many calls of `put` without context would: (key, payload, wall_ms), in order.

        For clocks without a ceiling: none of them can be refused any more. Cost: a third of so many calls.
        """
        keys, payloads, walls_ms = map(list, zip(*writes, strict=True))
        self.put_run(table, keys, payloads, walls_ms)

    def put_run(self, table: Table, keys: list[str], payloads: list[bytes | None], walls_ms: list[int]) -> None:
        """As `put_gathered`, of columns; there may be none. Raises ClockAhead; then none of the writes was made."""
        if not keys:
            return
        own, log, stamps = self.own, self.log, self.hlc.ticks(walls_ms)
        if len(keys) == 1 or (not table.states.keys().isdisjoint(keys) and self._somebody_elses(table, keys)):
            for key, payload, wall_ms, stamp in zip(keys, payloads, walls_ms, stamps, strict=True):
                self.put(table, key, payload, wall_ms, stamp=stamp)
            return
        position, dot = log.end, own.index << COUNTER_BITS | own.head + 1
        log.extend(own, stamps, table.number, keys, payloads)
        self.keyspace.apply_run(table, keys, payloads, dot, position, {})

    def _somebody_elses(self, table: Table, keys: list[str]) -> bool:
        """Whether any of the keys holds more than one plain write of our own: then a write of it needs a context."""
        ours = self.own.index
        states = filter(None, map(table.states.get, keys))
        return any(state.__class__ is not int or state >> COUNTER_BITS != ours for state in states)

    def _pack_context(self, context: CausalContext) -> Context:
        """
        Our own past of the key is always added to nothing: a blind write is a sibling even of our own writes.

        A context comes from outside. One that no peer would accept would stop this node's stream for good; one that
        covers the write to be made would lose it.
        """
        pack, limits = self.log.pack, self.limits
        if len(context.vector) > limits.vector_entries:
            raise WrongContext(f"a context of {len(context.vector)} origins; limits.vector_entries is the most")
        strangers = [origin for origin in context.vector if self.log.known(origin) is None]
        if strangers:
            self._check_strangers(strangers)
        claimed = context.vector.counter(self.node)
        if claimed > self.own.head:
            raise WrongContext(
                f"the context covers operation {claimed} of {self.node}, which is this node, and it has made"
                f" {self.own.head}: the context is made up, or this store is an old copy that has yet to meet others"
            )
        return tuple(sorted(pack(Dot(origin, counter)) for origin, counter in context.vector.items()))

    def _check_strangers(self, strangers: list[NodeId]) -> None:
        for name, incarnation in strangers:
            try:
                size = len(name.encode())
            except UnicodeEncodeError:
                size = 0  # a lone surrogate
            if not 0 < size <= self.limits.key_bytes or not 0 <= incarnation < 1 << 63:
                raise WrongContext(f"a context with {name[:80]!r}, {incarnation}, which is no node")
        if len(self.log.columns) + len(strangers) > self.limits.vector_entries:
            raise WrongContext(f"one origin more than limits.vector_entries, {self.limits.vector_entries}, allows")

    def _context_shown(self, table: Table, key: str) -> Context:
        seen = self.keyspace.context(table, key)
        return tuple(sorted(origin << COUNTER_BITS | counter for origin, counter in seen.items()))

    def _refuse_explosion(self, table: Table, key: str, context: Context) -> None:
        state = table.states.get(key)
        if not isinstance(state, Record) or len(state.dots) < self.limits.siblings_max:
            return
        seen = {packed >> COUNTER_BITS: packed & COUNTER_MAX for packed in context}
        left = [dot for dot in state.dots if seen.get(dot >> COUNTER_BITS, 0) < dot & COUNTER_MAX]
        if len(left) >= self.limits.siblings_max:
            raise TooManySiblings(
                f"key {key!r} of table {table.name!r} holds {len(state.dots)} siblings, as many as allowed: read it"
                " and put what you want with the context of that read"
            )

    # -- receiving

    def gap(self, assumes: Mapping[NodeId, int]) -> bool:
        """Whether a delta that stands on *assumes* stands on something that is not here (law L4)."""
        have = self.version.counters.get
        return any(counter > have(origin, 0) for origin, counter in assumes.items())

    def refuse_excess(self, vector: Mapping[NodeId, int], batches: Iterable[Batch]) -> None:
        """
        Refuse what would bring more origins or tables than allowed.

        Raises:
            FrameError: names the limit. Nothing was changed.
        """
        known, has_table = self.log.known, self.log.has_table
        fresh_origins: set[tuple[str, int]] = {node for node in vector if known(node) is None} if vector else set()
        fresh_tables: set[str] = set()
        for batch in batches:
            for origin in batch.origins:
                if known(origin) is None:
                    fresh_origins.add(origin)
            for name in batch.tables:
                if not has_table(name):
                    fresh_tables.add(name)
        if fresh_origins and len(self.log.columns) + len(fresh_origins) > self.limits.vector_entries:
            raise FrameError(f"operations of more origins than {self.limits.vector_entries} (limits.vector_entries)")
        if fresh_tables and len(self.log.table_names) + len(fresh_tables) > self.limits.tables:
            raise FrameError(f"operations on more tables than {self.limits.tables} (limits.tables)")

    def apply(self, batch: Batch, *, replay: bool = False) -> Applied:
        """
        Apply a checked batch of another node whole; operations that are known already are passed over.

        *replay* says that it comes from our own disk, and so may hold operations of our own.

        The caller has made sure that what the batch stands on is here (`gap`), and that its stamps are acceptable.

        Raises:
            FrameError: the batch leaves a gap in an origin, or speaks in our own name, or brings more origins or tables
                than allowed. Nothing was changed.
            Equivocation: it has another content for a dot that is here. Nothing was changed.
        """
        if len(batch.keys) == 1 and self._apply_next(batch):
            return _ONE
        log = self.log
        if not replay:
            self.refuse_excess({}, (batch,))
        fresh = self._check_runs(batch, {}, replay=replay)
        end = log.end + fresh
        columns = [log.known(origin) or log.origin(NodeId(*origin)) for origin in batch.origins]
        tables = [self.enter_table(name) for name in batch.tables]
        contexts = self.pack_contexts(batch, columns) if batch.contexts else {}
        payloads, stamps = batch.payloads, batch.absolute_stamps()
        husks = VOID in payloads
        if husks:
            payloads = [VOID if payload == VOID else payload for payload in payloads]
        for ref, first, size, table, low, high in batch.pieces():
            owner = columns[ref]
            skip = owner.head + 1 - first  # what is known already
            if skip >= size:
                continue
            if table < 0:
                log.extend_void(owner, size - skip, end - 1)
            else:
                self._apply_piece(owner, tables[table], batch.keys, payloads, stamps, low + skip, high, contexts)
        assert log.end == end
        if husks:
            log.bury_voids(end - 1, since=end - fresh)  # what overwrote a husk is somewhere in the batch
        if stamps:
            self.hlc.observe(batch.stamp_bounds()[1])
        return Applied(fresh, batch.dot_count - fresh)

    def _apply_next(self, batch: Batch) -> bool:
        """As `apply`, for the next operation of an origin, if all that it names is known; False for others."""
        if batch.table_runs or len(batch.runs) > 3:
            return False
        ref, counter, _ = batch.runs
        owner, table = self.log.known(batch.origins[ref]), self.known_table(batch.tables[0])
        if owner is None or owner is self.own or counter != owner.head + 1 or table is None:
            return False
        context: Context | None = None
        if batch.contexts:
            columns = [known for origin in batch.origins if (known := self.log.known(origin)) is not None]
            if len(columns) < len(batch.origins) or VOID in batch.payloads:
                return False
            context = self.pack_contexts(batch, columns)[0]
        position, stamp, key, payload = self.log.end, batch.stamps[0], batch.keys[0], batch.payloads[0]
        self.log.append(owner, stamp, table.number, key, payload, context)
        self.keyspace.apply(table, key, payload, owner.index << COUNTER_BITS | counter, position, context)
        self.hlc.observe(stamp)
        return True

    def inspect(self, batch: Batch, reached: Mapping[NodeId, int]) -> None:
        """Raise what `apply` will raise, once this store has come to *reached*; nothing is changed."""
        self.refuse_excess({}, (batch,))
        self._check_runs(batch, reached, replay=False)

    def _apply_piece(
        self, owner: Columns, table: Table, keys: list[str], payloads: list[bytes | None], stamps: list[int],
        low: int, high: int, contexts: dict[int, Context],
    ) -> None:  # fmt: skip
        log, counter = self.log, owner.head + 1
        position, dot = log.end, owner.index << COUNTER_BITS | counter
        if high - low == 1:
            key, payload, context = keys[low], payloads[low], contexts.get(low)
            log.append(owner, stamps[low], table.number, key, payload, context)
            self.keyspace.apply(table, key, payload, dot, position, context)
            return
        if high - low < len(keys):
            keys, payloads, stamps = keys[low:high], payloads[low:high], stamps[low:high]
        log.extend(owner, stamps, table.number, keys, payloads)
        by_counter: dict[int, Context] = {}
        if contexts:
            shift = counter - low
            by_counter = {at + shift: contexts[at] for at in range(low, high) if at in contexts}
            owner.contexts.update(by_counter)
        self.keyspace.apply_run(table, keys, payloads, dot, position, by_counter)

    def pack_contexts(self, batch: Batch, columns: list[Columns]) -> dict[int, Context]:
        """The contexts of a batch in packed form, by index into its columns; *columns* are those of its origins."""
        return {
            entry[0]: tuple(
                sorted(
                    columns[ref].index << COUNTER_BITS | counter
                    for ref, counter in zip(entry[1::2], entry[2::2], strict=True)
                )
            )
            for entry in batch.contexts
        }

    def _check_runs(self, batch: Batch, reached: Mapping[NodeId, int], *, replay: bool) -> int:
        """
        Refuse gaps, our own name, and other contents for known dots; returns how many operations are new.

        What counts as known is what is here, or *reached*.
        """
        heads: dict[int, int] = {}
        index = fresh = 0
        flat = iter(batch.runs)
        for ref, first, size in zip(flat, flat, flat, strict=True):
            origin = batch.origins[ref]
            owner = self.log.known(origin)
            head, count = 0 if owner is None else owner.head, abs(size)
            if reached or heads:
                head = max(head, heads.get(ref, 0), reached.get(NodeId(*origin), 0))
            last = first + count - 1
            if first > head + 1:
                node = NodeId(*origin)
                raise FrameError(f"a gap: operations of {node} from {first} on, {head} is the last known")
            if owner is self.own and last > head and not replay:
                node = self.node
                raise FrameError(f"operations {head + 1} and on of {node}, which is ourselves: we never made them")
            if last > head:
                fresh += last - head
                heads[ref] = last
            if size < 0:
                continue
            if owner is not None and first <= owner.head:
                self._check_same(owner, first, batch, index, count)
            index += count
        return fresh

    def _check_same(self, owner: Columns, first: int, batch: Batch, index: int, count: int) -> None:
        """Compare what a peer repeats, *count* from *index* on, with what is here: one dot has one content (law L2)."""
        stamps, begin = batch.absolute_stamps(), max(first, owner.base)
        for counter in range(begin, min(first + count, owner.head + 1)):
            here, there = counter - owner.base, counter - first + index
            ours, theirs = owner.payloads[here], batch.payloads[there]
            if (owner.stamps[here] and owner.stamps[here] != stamps[there]) or (
                ours != theirs and ours is not VOID and theirs != VOID
            ):
                raise Equivocation(
                    f"{owner.origin}:{counter} was written at {owner.stamps[here]} as we know it and at {stamps[there]}"
                    " as the peer does, or with another value: two writes share one dot; one of the two nodes runs on a"
                    " copied or restored store"
                )

    # -- siblings

    def siblings(self, table: Table, key: str) -> list[Sibling]:
        """The live siblings of a key, tombstones included, in canonical order."""
        found = []
        for packed in self.keyspace.live(table, key):
            owner, counter = self.log.columns[packed >> COUNTER_BITS], packed & COUNTER_MAX
            stamp, _, _, payload, _ = owner.entry(counter)
            found.append(Sibling(Dot(owner.origin, counter), stamp, payload))
        return sorted(found, key=lambda sibling: (sibling.timestamp, sibling.dot))

    def seen_by(self, dot: Dot) -> VersionVector:
        """What the writer of a live write had seen of its key. Raises KeyError when the write is not held."""
        columns = self.log.origin(dot.origin)
        packed = columns.entry(dot.counter)[4]
        return VersionVector({dot.origin: dot.counter - 1}) if packed is None else self.log.unpack_context(packed)

    def context(self, table: Table, key: str) -> CausalContext:
        """What was seen of a key, to be handed back with a write of it."""
        columns = self.log.columns
        seen = self.keyspace.context(table, key)
        return CausalContext(table.name, key, VersionVector({columns[i].origin: n for i, n in seen.items()}))

    def payload(self, table: Table, key: str) -> tuple[bool, bytes | None]:
        """
        Fast path of reading: (True, payload) when one live write decides, (False, None) when a resolver has to.

        A payload of None says that the key is absent.
        """
        state = table.states.get(key)
        if state is None:
            return True, None
        if state.__class__ is int:
            return True, self.log.columns[state >> COUNTER_BITS].payload(state & COUNTER_MAX)
        return False, None

    # -- stability

    def forget(self, watermark: VersionVector) -> int:
        """
        Forget what is over by proof, given the causally stable watermark; returns how many operations went.

        What is not below the cut of the log yet goes with the cut (`forget_settled`).
        """
        self.watermark = watermark
        return self.forget_settled()

    def forget_settled(self) -> int:
        """
        Forget by the last watermark what a cut has settled since; returns how many operations went.

        Do not forget what the log still holds. Forgetting a tombstone: a value is written, then deleted, and everybody
        knows. Whoever is given the value by one batch and a void by the next, a newcomer or our own journal after a
        restart, has the value for good; and so has he who is given a sibling that lost to the tombstone. Forgetting a
        context alone: *w* has overwritten *v*, and the context of *w* is forgotten; a write over *w* no longer covers
        *v*, and *w* becomes a void. Whoever has *v* and is given that batch keeps both.
        """
        settled = {
            columns.index: min(counter, columns.base - 1)
            for origin, counter in self.watermark.items()
            if (columns := self.log.known(origin)) is not None
        }
        count = self.keyspace.forget(settled) if any(settled.values()) else 0
        self.forgotten_count += count
        return count

    def check(self) -> None:
        """Assert the invariants of the log, the keyspace, and between them. Cost: proportional to the store."""
        self.log.check()
        self.keyspace.check()
        newest = max((max(islice(c.stamps, 0, None), default=0) for c in self.log.columns), default=0)
        assert self.hlc.last >= newest, "our clock has seen every stamp"
