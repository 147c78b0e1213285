"""
`ReplicationMachine`: a simulated cluster of the real thing for Hypothesis to play with.

Its rules are what can happen: writes of every kind, gossip while time passes, loss, repeats, partitions, crashes
between two effects or of the whole machine, restarts, clocks that jump. The nodes run the core, codec and log that run
on the network (`mmrepl.sim.Cluster`). At the end all is healed and must become equal, and the checkers of `mmrepl.sim`
judge the whole history: every read, every acknowledgement, every delta. Subclass it with your tables and values:

    class Carts(ReplicationMachine):
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
from typing import Any, ClassVar, TypeAlias

from attrs import evolve
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mmrepl import BLIND, CausalContext, Durability, Read
from mmrepl.causality.dot import Dot
from mmrepl.errors import MmreplError, ResolverError, TooManySiblings, WaitTimeout
from mmrepl.resolvers import KeepSiblings, LastWriterWins, Resolver
from mmrepl.sim import Cluster, Diagram, Settings, Violation, Weather, check_all
from mmrepl.sim.handle import NodeHandle
from mmrepl.sim.story import matters
from mmrepl.testing.strategies import values as any_values

Place: TypeAlias = tuple[str, str]
"""A table and a key."""

MEMORIES_MAX = 20
"""So many contexts of earlier reads are kept, in all."""

END_MS = 1_000_000
"""In the end all must be equal within so much virtual time: past every stamp that is ahead."""

_LOSING = Weather("constant", 1, loss=1.0)

_nodes = st.runner().flatmap(lambda machine: st.sampled_from(machine.nodes))
_pairs = st.runner().flatmap(lambda machine: st.permutations(machine.nodes).map(lambda names: (names[0], names[-1])))
_places = st.runner().flatmap(
    lambda machine: st.tuples(st.sampled_from(sorted(machine.tables)), st.sampled_from(machine.keys))
)
_values = st.runner().flatmap(lambda machine: any_values(4) if machine.values is None else machine.values)
_levels = st.sampled_from([Durability.SYNC, Durability.SYNC, Durability.BATCH, Durability.NONE])
_splits = st.runner().flatmap(lambda machine: st.sets(st.sampled_from(machine.nodes), min_size=1))
_acks = st.sampled_from([1, 1, 2, "majority", "all"])


class ReplicationMachine(RuleBasedStateMachine):
    """
    A simulated cluster. Override the class attributes and `check_read`; add rules as you like.

    ``ReplicationMachine.TestCase`` runs under pytest and unittest as it stands.
    """

    nodes: ClassVar[Sequence[str]] = ("paris", "tokyo", "lima")
    """Names of the nodes, at least two."""
    tables: ClassVar[Mapping[str, Resolver]] = {"": LastWriterWins(), "drafts": KeepSiblings()}
    """Tables, and how they are resolved."""
    keys: ClassVar[Sequence[str]] = ("a", "b")
    """Few, so that writes meet."""
    values: ClassVar[st.SearchStrategy[Any] | None] = None
    """What is written; None: anything that can be stored."""
    topology: ClassVar[str] = "mesh"
    """Who is connected to whom, as for a `mmrepl.sim.Cluster`."""
    settings: ClassVar[Settings] = Settings(log_operations=30, cut_operations=1, disk_ms=10)
    """The rarer knobs. By default the log is short, so that snapshots and forgetting happen."""

    def __init__(self) -> None:
        super().__init__()
        self.cluster = Cluster(
            self.nodes, seed=1, tables=self.tables, topology=self.topology, datagrams=True, settings=self.settings
        )
        self._memories: list[tuple[Place, CausalContext]] = []
        self._answers: dict[tuple[Any, ...], bytes | None] = {}
        self._touched: Place | None = None

    def check_read(self, read: Read) -> None:
        """Called with every read of a key that is present, for assertions of your own."""

    def replica(self, name: str) -> NodeHandle | None:
        """The node called *name*; None while it is down."""
        handle = self.cluster[name]
        return handle if handle.is_up else None

    # -- rules: writing and reading

    @rule(name=_nodes, place=_places, value=_values, level=_levels, acks=_acks)
    def put(self, name: str, place: Place, value: Any, level: Durability, acks: int | str) -> None:
        """Over what the node shows."""
        self._write(name, place, value, None, level, acks)

    @rule(name=_nodes, place=_places, value=_values)
    def put_blind(self, name: str, place: Place, value: Any) -> None:
        """As a sibling of whatever is there."""
        self._write(name, place, value, BLIND, Durability.SYNC)

    @rule(name=_nodes, place=_places, level=_levels)
    def delete(self, name: str, place: Place, level: Durability) -> None:
        """What the node shows."""
        self._write(name, place, _DELETED, None, level)

    @precondition(lambda self: self._memories)
    @rule(name=_nodes, index=st.integers(0, MEMORIES_MAX - 1), value=_values, deletes=st.booleans())
    def write_with_old_context(self, name: str, index: int, value: Any, deletes: bool) -> None:
        """Over what somebody read some time ago, here or elsewhere."""
        place, context = self._memories[index % len(self._memories)]
        self._write(name, place, _DELETED if deletes else value, context, Durability.SYNC)

    @rule(name=_nodes, place=_places)
    def read(self, name: str, place: Place) -> None:
        """And remember the context."""
        node = self.cluster.node(name)
        if node.core is None:
            return
        try:
            found = node.read(*place, session=1)
        except ResolverError as error:
            raise AssertionError(f"the resolver of table {place[0]!r} failed: {error}") from error
        local = node.core.local
        if local.mark.is_on_disk or local.durable_vector.descends(found.context.vector):
            self._memories = [*self._memories, (place, found.context)][-MEMORIES_MAX:]

    # -- rules: the network

    @rule(ms=st.sampled_from([1, 5, 20, 250, 1_000, 5_000]))
    def gossip(self, ms: int) -> None:
        """Time passes: what was written is pushed, what was lost is asked for."""
        self.cluster.run(ms)

    @rule(pair=_pairs, ms=st.sampled_from([5, 250]))
    def lose(self, pair: tuple[str, str], ms: int) -> None:
        """For a while everything is lost that one sends to another."""
        path = self.cluster.network.path(*pair)
        before, path.weather = path.weather, _LOSING
        self.cluster.run(ms)
        path.weather = before

    @rule(which=st.lists(st.integers(0, 255), min_size=1, max_size=4))
    def repeat(self, which: list[int]) -> None:
        """What was said before, some time ago, is said again, on today's connections, in any order."""
        for number in which:
            self.cluster.network.replay(random.Random(number))  # noqa: S311 - to be repeatable
        self.cluster.run(5)

    @rule(side=_splits)
    def partition(self, side: set[str]) -> None:
        """Cut *side* off from the others."""
        self.cluster.partition(side)

    @rule(pair=_pairs)
    def hold(self, pair: tuple[str, str]) -> None:
        """What one sends to another waits; the other way is free."""
        self.cluster.hold(*pair)

    @rule()
    def heal(self) -> None:
        """Everybody can reach everybody, and what waited arrives in a burst."""
        self.cluster.heal()

    # -- rules: processes, disks and clocks

    @rule(name=_nodes, power=st.booleans())
    def crash(self, name: str, power: bool) -> None:
        """The process dies, or the whole machine, and what was not synced may be lost."""
        self.cluster.crash(name, power=power)

    @rule(name=_nodes, effects=st.integers(0, 6))
    def crash_between_effects(self, name: str, effects: int) -> None:
        """The process dies after so many effects more: perhaps between the disk and the network."""
        node = self.cluster.node(name)
        if node.is_up:
            node.die_after = effects

    @rule(name=_nodes)
    def wipe(self, name: str) -> None:
        """A node that is down loses its disk."""
        if not self.cluster.node(name).is_up:
            self.cluster.wipe(name)

    @rule(name=_nodes)
    def restart(self, name: str) -> None:
        """Start what is down."""
        self.cluster.restart(name)

    @rule(name=_nodes, ms=st.sampled_from([20, 1_000]))
    def stand_still(self, name: str, ms: int) -> None:
        """A process does nothing for a while; what is sent to it waits there."""
        self.cluster.pause(name)
        self.cluster.run(ms)
        self.cluster.resume(name)

    @rule(name=_nodes, skew_ms=st.sampled_from([0, -5_000, 1_000, 60_000, -3_600_000, 299_000, 400_000]))
    def skew(self, name: str, skew_ms: int) -> None:
        """A wall clock is set wrong by so much, or right."""
        self.cluster.skew(name, skew_ms - self.cluster.node(name).clock.offset_ms)

    # -- what must hold

    @invariant()
    def check(self) -> None:
        """Every core is sound; what a node shows of the key just written is looked at, and judged at the end."""
        self.cluster.check()
        place, self._touched = self._touched, None
        if place is not None:
            self._look(place)

    def teardown(self) -> None:
        """Heal everything; all must become equal. Then the checkers judge what happened."""
        if sys.exc_info()[0] is None:  # otherwise what failed before is to be told
            self._converge()

    # -- insides

    def _converge(self) -> None:
        cluster = self.cluster
        cluster.heal()
        for node in cluster.nodes.values():
            node.die_after = None
            node.clock.set_right()
            cluster.restart(node.name)
        try:
            cluster.run_until_converged(END_MS)
        except WaitTimeout as error:
            self._tell([*check_all(cluster.history), Violation("liveness", str(error))])
        for place in self._places():
            self._look(place)
        for final in cluster.finals():
            cluster.history.add(final)
        cluster.forgive_what_was_left_to_the_lost()
        self._tell(check_all(cluster.history))

    def _tell(self, found: list[Violation]) -> None:
        """Fail if something was violated, with a diagram of what led to it."""
        if not found:
            return
        first = min(found, key=lambda violation: (violation.place is None, not violation.node, violation.at_ms))
        events = list(matters(self.cluster.history.events, first))
        diagram = Diagram.of(self.cluster.names, evolve(self.cluster.history, events=events))
        raise AssertionError("\n".join([*map(str, found), "", str(diagram)]))

    def _write(
        self,
        name: str,
        place: Place,
        value: Any,
        context: CausalContext | None,
        level: Durability,
        acks: int | str = 1,
    ) -> None:
        replica = self.replica(name)
        if replica is None:
            return
        table = replica.table(place[0])
        try:
            if value is _DELETED:
                table.delete(place[1], context=context, durability=level, acks=acks)
            else:
                table.put(place[1], value, context=context, durability=level, acks=acks)
        except TooManySiblings:
            assert context is not None, "only a write that leaves siblings beside it can be one too many"
        except MmreplError as error:
            if not error.definite:
                raise
        self._touched = place

    def _places(self) -> list[Place]:
        return [(table, key) for table in sorted(self.tables) for key in self.keys]

    def _look(self, place: Place) -> None:
        for node in self.cluster.up():
            try:
                read = node.read(*place)
            except ResolverError as error:
                raise AssertionError(f"the resolver of table {place[0]!r} failed: {error}") from error
            siblings: tuple[Dot, ...] = tuple(sibling.dot for sibling in read.siblings)
            known = self._answers.setdefault((place, siblings), read.payload)
            assert known == read.payload, f"two answers for the same siblings of {place}: {known!r}, {read.payload!r}"
            if read.present:
                self.check_read(read)


class _Deleted:
    """Stands for no value."""


_DELETED = _Deleted()
