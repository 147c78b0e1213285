"""
`EmbeddedMachine`: embedded replicas that ship deltas themselves, for Hypothesis to play with.

Its rules are what can happen: writes of every kind, gossip, loss, repeats, partitions, crashes, restarts, clocks that
jump. Between the rules it compares every replica with an *oracle* that is obviously right: the live siblings of a key
are the writes that a replica has applied and that no other applied write had seen. At the end everything is healed and
must become equal. Subclass it with your tables and values:

    class Carts(EmbeddedMachine):
        tables = {"carts": Callback(merge_carts)}
        values = st.lists(st.sampled_from(["tea", "milk", "cake"]))

        def check_read(self, read):
            assert len(read.value) == len(set(read.value))

    TestCarts = Carts.TestCase
"""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, TypeAlias

from attrs import define, evolve, field, frozen
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mmrepl import BLIND, CausalContext, Dot, Durability, Read, Replica, VersionVector
from mmrepl.causality.version_vector import EMPTY
from mmrepl.errors import DeltaGap, ResolverError, StampAhead, TooManySiblings
from mmrepl.resolvers import KeepSiblings, LastWriterWins, Resolver
from mmrepl.storage import MemoryDisk, MemoryStorage
from mmrepl.testing.strategies import values as any_values
from mmrepl.values import encode

Place: TypeAlias = tuple[str, str]
"""A table and a key."""

OLD_MAX = 12  # deltas that are kept for repeating
MEMORIES_MAX = 20  # contexts of earlier reads that are kept, in all


@frozen
class _Write:
    """A write as the oracle knows it."""

    dot: Dot
    place: Place
    payload: bytes | None
    seen: VersionVector  # of this key
    durable: bool  # whether a loss of power may not take it


@define
class _Clock:
    """A replica's clock: the machine's, and its own error."""

    machine: EmbeddedMachine
    skew_ms: int = 0

    def wall_ms(self) -> int:
        return self.machine.now_ms + self.skew_ms

    def monotonic_ms(self) -> int:
        return self.machine.now_ms


@define
class _Node:
    """One replica, up or down, and what outlives its process."""

    name: str
    clock: _Clock
    disk: MemoryDisk = field(factory=MemoryDisk)
    replica: Replica | None = None
    version: VersionVector = EMPTY  # at the last look; only a loss of power takes it back


_nodes = st.runner().flatmap(lambda machine: st.sampled_from(machine.nodes))
_pairs = st.runner().flatmap(lambda machine: st.permutations(machine.nodes).map(lambda names: (names[0], names[-1])))
_places = st.runner().flatmap(
    lambda machine: st.tuples(st.sampled_from(sorted(machine.tables)), st.sampled_from(machine.keys))
)
_values = st.runner().flatmap(lambda machine: any_values(4) if machine.values is None else machine.values)
_levels = st.sampled_from([Durability.SYNC, Durability.SYNC, Durability.BATCH, Durability.NONE])
_splits = st.runner().flatmap(lambda machine: st.sets(st.sampled_from(machine.nodes), min_size=1))


class EmbeddedMachine(RuleBasedStateMachine):
    """
    Embedded replicas, with deltas shipped by hand; a cluster that gossips is `ReplicationMachine`.

    Override the class attributes and `check_read`; add rules as you like.

    ``EmbeddedMachine.TestCase`` runs under pytest and unittest as it stands.
    """

    nodes: ClassVar[Sequence[str]] = ("paris", "tokyo", "lima")
    """Names of the replicas, at least two."""
    tables: ClassVar[Mapping[str, Resolver]] = {"": LastWriterWins(), "drafts": KeepSiblings()}
    """Tables, and how they are resolved."""
    keys: ClassVar[Sequence[str]] = ("a", "b")
    """Few, so that writes meet."""
    values: ClassVar[st.SearchStrategy[Any] | None] = None
    """What is written; None: anything that can be stored."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 1_700_000_000_000
        self._up: dict[str, _Node] = {}
        self._dice = random.Random(1)  # noqa: S311 - incarnations; the same run from the same steps
        self._cut: frozenset[str] = frozenset()  # one side of the partition
        self._writes: dict[Dot, _Write] = {}
        self._memories: list[tuple[Place, CausalContext]] = []
        self._old: list[tuple[bytes, VersionVector]] = []
        self._answers: dict[tuple[Any, ...], bytes | None] = {}
        for name in self.nodes:
            node = self._up[name] = _Node(name, _Clock(self))
            self._start(node)

    def check_read(self, read: Read) -> None:
        """Called with every read of a key that is present, for assertions of your own."""

    def replica(self, name: str) -> Replica | None:
        """The replica called *name*; None while it is down."""
        return self._up[name].replica

    # -- rules: writing and reading

    @rule(name=_nodes, place=_places, value=_values, level=_levels)
    def put(self, name: str, place: Place, value: Any, level: Durability) -> None:
        """Over what the replica shows."""
        self._write(name, place, encode(value), None, level, value)

    @rule(name=_nodes, place=_places, value=_values)
    def put_blind(self, name: str, place: Place, value: Any) -> None:
        """As a sibling of whatever is there."""
        self._write(name, place, encode(value), BLIND, Durability.SYNC, value)

    @rule(name=_nodes, place=_places, level=_levels)
    def delete(self, name: str, place: Place, level: Durability) -> None:
        """What the replica shows."""
        self._write(name, place, None, None, level)

    @precondition(lambda self: self._memories)
    @rule(name=_nodes, index=st.integers(0, MEMORIES_MAX - 1), value=_values, deletes=st.booleans())
    def write_with_old_context(self, name: str, index: int, value: Any, deletes: bool) -> None:
        """Over what somebody read some time ago, here or elsewhere."""
        place, context = self._memories[index % len(self._memories)]
        payload = None if deletes else encode(value)
        self._write(name, place, payload, context, Durability.SYNC, value)

    @rule(name=_nodes, place=_places)
    def read(self, name: str, place: Place) -> None:
        """And remember the context."""
        replica = self.replica(name)
        if replica is not None:
            self._memories = [*self._memories, (place, self._context(replica, place))][-MEMORIES_MAX:]

    # -- rules: the network

    @rule(pairs=st.lists(_pairs, min_size=1, max_size=4))
    def gossip(self, pairs: list[tuple[str, str]]) -> None:
        """Some tell others what those lack, if they can reach each other."""
        for source, target in pairs:
            if (source in self._cut) == (target in self._cut):
                self._tell(source, target)

    @rule(pair=_pairs)
    def lose(self, pair: tuple[str, str]) -> None:
        """One tells another, and it does not arrive; it may yet, much later."""
        source, target = self.replica(pair[0]), self.replica(pair[1])
        if source is not None and target is not None:
            self._keep(source.delta(since=target.version), target.version)

    @precondition(lambda self: self._old)
    @rule(name=_nodes, indexes=st.lists(st.integers(0, OLD_MAX - 1), min_size=1, max_size=4))
    def repeat(self, name: str, indexes: list[int]) -> None:
        """What was said before, to anybody, arrives here, again or for the first time, in any order."""
        replica = self.replica(name)
        for index in indexes if replica is not None else ():
            assert replica is not None
            data, assumed = self._old[index % len(self._old)]
            before = replica.version
            try:
                replica.merge(data)
            except DeltaGap:
                assert not before.descends(assumed), "a delta was refused though all that it stands on was here"
                assert replica.version == before, "a refused delta changed something"
            except StampAhead:
                assert replica.version == before, "a refused delta changed something"
            else:
                assert before.descends(assumed), "a delta was let in over a gap"

    @rule(side=_splits)
    def partition(self, side: set[str]) -> None:
        """Cut *side* off from the others."""
        self._cut = frozenset(side)

    @rule()
    def heal(self) -> None:
        """Everybody can reach everybody."""
        self._cut = frozenset()

    # -- rules: processes and clocks

    @rule(name=_nodes, power=st.booleans(), kept=st.integers(0, 3))
    def crash(self, name: str, power: bool, kept: int) -> None:
        """The process dies, or the whole machine."""
        node = self._up[name]
        if node.replica is None:
            return
        self._stop(node, power=power, kept=kept)

    @rule(name=_nodes)
    def restart(self, name: str) -> None:
        """Start what is down."""
        node = self._up[name]
        if node.replica is None:
            self._start(node)

    @rule(name=_nodes)
    def flush(self, name: str) -> None:
        """Everything written becomes durable."""
        replica = self.replica(name)
        if replica is not None:
            replica.flush()
            for dot, write in self._writes.items():
                if dot.origin.name == name:
                    self._writes[dot] = evolve(write, durable=True)

    @rule(name=_nodes, skew_ms=st.sampled_from([0, -5_000, 1_000, 60_000, -3_600_000, 299_000, 900_000]))
    def skew(self, name: str, skew_ms: int) -> None:
        """A clock jumps."""
        self._up[name].clock.skew_ms = skew_ms

    @rule(ms=st.sampled_from([0, 1, 250, 60_000]))
    def wait(self, ms: int) -> None:
        """Time passes."""
        self.now_ms += ms

    # -- what must hold after every step

    @invariant()
    def check(self) -> None:
        """Every replica is sound, only grows, and holds exactly the siblings that follow from the writes it has."""
        for node in self._up.values():
            if node.replica is None:
                continue
            node.replica.check()
            version = node.replica.version
            assert version.descends(node.version), f"{node.name} forgot something: {node.version} became {version}"
            node.version = version
            for place in self._places():
                self._check_place(node.replica, place)

    def teardown(self) -> None:
        """Heal everything; all must become equal, and stay so."""
        try:
            if sys.exc_info()[0] is None:  # otherwise what failed before is to be told
                self._converge()
        finally:
            for node in self._up.values():
                if node.replica is not None:
                    node.replica.close()

    # -- insides

    def _converge(self) -> None:
        self.heal()
        self.now_ms += 3_600_000  # past every stamp that is ahead
        for node in self._up.values():
            node.clock.skew_ms = 0
            if node.replica is None:
                self._start(node)
        names = list(self.nodes)
        for source, target in [*pairwise(names), *pairwise(names[::-1])]:
            self._tell(source, target)
        self.check()
        replicas = [node.replica for node in self._up.values() if node.replica is not None]
        versions = {replica.version for replica in replicas}
        assert len(versions) == 1, f"the replicas did not converge: {', '.join(map(str, versions))}"
        assert not any(replica.delta(since=versions.copy().pop()) for replica in replicas), (
            "nothing is new, and yet sent"
        )
        for place in self._places():
            states = {self._siblings(replica, place) for replica in replicas}
            assert len(states) == 1, f"different siblings of {place} at one version"

    def _write(
        self,
        name: str,
        place: Place,
        payload: bytes | None,
        context: CausalContext | None,
        level: Durability,
        value: Any = None,
    ) -> None:
        replica = self.replica(name)
        if replica is None:
            return
        seen = self._context(replica, place) if context is None else context
        table = replica.table(place[0])
        try:
            if payload is None:
                written = table.delete(place[1], context=context, durability=level)
            else:
                written = table.put(place[1], value, context=context, durability=level)
        except TooManySiblings:
            assert context is not None, "only a write that leaves siblings beside it can be one too many"
            return
        assert written.dot not in self._writes, f"the dot {written.dot} was minted twice"
        durable = level is Durability.SYNC
        self._writes[written.dot] = _Write(written.dot, place, payload, seen.vector, durable)

    def _tell(self, source: str, target: str) -> None:
        ours, theirs = self.replica(source), self.replica(target)
        if ours is None or theirs is None or source == target:
            return
        assumed = theirs.version
        data = ours.delta(since=assumed)
        self._keep(data, assumed)
        try:
            theirs.merge(data)
        except StampAhead:
            assert theirs.version == assumed, "a refused delta changed something"
            return
        assert theirs.version.descends(ours.version), "after gossip the target lacks something still"

    def _keep(self, data: bytes, assumed: VersionVector) -> None:
        if data:
            self._old = [*self._old, (data, assumed)][-OLD_MAX:]

    def _start(self, node: _Node) -> None:
        node.replica = _Steady(
            node.name, tables=self.tables, storage=MemoryStorage(node.disk), clock=node.clock, rng=self._dice
        )

    def _stop(self, node: _Node, *, power: bool, kept: int) -> None:
        """Take a replica down without a word, and find out what was lost."""
        assert node.replica is not None
        if power:
            node.disk.lose_power(keep_count=kept)
        else:
            node.disk.crash()
        _abandon(node.replica)
        self._start(node)
        after = node.replica.version
        _abandon(node.replica)
        node.disk.crash()
        node.replica = None
        others = [other for other in self._up.values() if other is not node]
        elsewhere = [other.version if other.replica is None else other.replica.version for other in others]
        for dot, write in list(self._writes.items()):
            if dot.origin.name != node.name or after.covers(dot):
                continue
            if any(version.covers(dot) for version in elsewhere):
                continue  # others have it, and give it back
            assert not write.durable, f"the write {dot} was acknowledged as durable and is gone"
            del self._writes[dot]
        node.version = after

    def _places(self) -> list[Place]:
        return [(table, key) for table in sorted(self.tables) for key in self.keys]

    def _check_place(self, replica: Replica, place: Place) -> None:
        held = self._siblings(replica, place)
        applied = [write for dot, write in self._writes.items() if write.place == place and replica.version.covers(dot)]
        live = {
            (write.dot, write.payload)
            for write in applied
            if not any(other.seen.covers(write.dot) for other in applied if other is not write)
        }
        assert set(held) == live, f"{replica.node} holds {held} of {place}; from the writes follow {live}"
        try:
            read = replica.table(place[0]).read(place[1])
        except ResolverError as error:
            raise AssertionError(f"the resolver of table {place[0]!r} failed: {error}") from error
        known = self._answers.setdefault((place[0], read.siblings), read.payload)
        assert known == read.payload, f"two answers for the same siblings of {place}: {known!r} and {read.payload!r}"
        if read.present:
            self.check_read(read)

    def _siblings(self, replica: Replica, place: Place) -> tuple[tuple[Dot, bytes | None], ...]:
        store = replica._store
        return tuple((sibling.dot, sibling.payload) for sibling in store.siblings(replica._table(place[0]), place[1]))

    def _context(self, replica: Replica, place: Place) -> CausalContext:
        return replica._store.context(replica._table(place[0]), place[1])


class _Steady(Replica):
    """A replica without a thread of its own: weak writes are committed with the next delta, strong write or flush."""

    def _start_flusher(self) -> None:
        pass


def _abandon(replica: Replica) -> None:
    """The process is gone: nothing is committed any more."""
    replica._closed = True
