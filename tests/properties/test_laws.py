"""
The laws, each with the rule that it forbids.

For every law a batch of histories runs through the rule that it demands, without one difference from the model that
keeps everything, and the same batch through the rule that it forbids, which must be found out. A law whose forbidden
rule survives its batch is not being tested.

`HISTORIES` is the size of a batch; the environment variable MMREPL_HISTORIES raises it for a long search.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrepl.causality.container import CausalContainer, LiveWrite
from mmrepl.causality.dot import Dot
from mmrepl.causality.stability import AckMatrix, _Ack
from mmrepl.causality.version_vector import EMPTY, VersionVector
from mmrepl.types import NodeId
from tests.properties.histories import (
    KEYS,
    Container,
    Message,
    Mix,
    Operation,
    Replica,
    Script,
    World,
    is_wrong,
    random_script,
    scripts,
)

HISTORIES = int(os.environ.get("MMREPL_HISTORIES", "200"))
RARE = 2 * HISTORIES  # for what takes many steps in the right order to go wrong
ALL_VIEWS = ("siblings", "values", "latest")


def batch_of(mix: Mix, count: int) -> list[Script]:
    return [random_script(mix, seed) for seed in range(count)]


@functools.cache
def wrong_count(rule: type[Replica], mix: Mix, views: tuple[str, ...], forgets: bool, count: int) -> int:
    return sum(is_wrong(script, rule, views, forgets=forgets) for script in batch_of(mix, count))


def assert_found(
    wrong: type[Replica],
    mix: Mix,
    views: tuple[str, ...],
    *,
    right: type[Replica] = Replica,
    forgets: bool = False,
    count: int = HISTORIES,
) -> None:
    """The right rule is never wrong, and the wrong one is, on the same batch."""
    assert wrong_count(right, mix, views, forgets, count) == 0
    found = wrong_count(wrong, mix, views, forgets, count)
    print(f"{wrong.__name__}: {found} wrong of {count}")
    assert found > 0, f"{wrong.__name__} survived {count} histories"


# -- the right rules, by Hypothesis, which shrinks what it finds


@settings(max_examples=60, deadline=None)
@given(scripts(Mix(states=1)))
def test_replicas_show_exactly_the_concurrent_writes(script: Script):
    """Law 1: at every step, everywhere, the siblings are the writes that no write which has arrived had seen."""
    World(Replica, ALL_VIEWS).run(script)


@settings(max_examples=60, deadline=None)
@given(scripts(Mix(states=1)))
def test_forgetting_cannot_be_seen(script: Script):
    """Law 7: forgetting below the watermark changes no read under any resolver, at any step, anywhere."""
    World(Replica, ("values", "latest"), forgets=True).run(script)


@settings(max_examples=60, deadline=None)
@given(scripts(Mix(states=1, aways=1, backs=1)))
def test_a_node_that_was_away_keeps_its_writes_and_resurrects_nothing(script: Script):
    """Law 8: a node removed, forgotten without, and back through a snapshot loses and revives no value."""
    World(Replica, ("values",), forgets=True).run(script)


# -- law 1: one merge, many views


def quarrelsome(values: Iterable[bytes]) -> bytes:
    """A callback that is neither associative nor commutative."""
    return functools.reduce(lambda ours, theirs: b"(" + ours + b" " + theirs + b")", values, b"")


class ResolvesOnArrival(Replica):
    """Siblings are handed to the callback as they meet, and its answer is kept in their place."""

    def apply(self, operation: Operation) -> None:
        super().apply(operation)
        container = self.container(operation.key)
        if len(container.values) > 1:
            last = container.siblings[-1]
            merged = LiveWrite(last.dot, last.timestamp, quarrelsome(container.values))
            self.containers[operation.key] = CausalContainer([merged], container.context)


def test_any_callback_converges_when_it_is_applied_on_reading():
    """Law 1: resolved on reading, even such a callback answers alike on all nodes; on arrival it does not."""
    disagreements = {Replica: 0, ResolvesOnArrival: 0}
    for script in batch_of(Mix(), HISTORIES):
        for rule in disagreements:
            world = World(rule, ())
            world.run(script)
            for key in KEYS:
                answers = {quarrelsome(node.container(key).values) for node in world.nodes.values()}
                disagreements[rule] += len(answers) > 1
    assert disagreements[Replica] == 0
    assert disagreements[ResolvesOnArrival] > 0


# -- law 2: a dot is minted once, ever


class ReusesDots(Replica):
    """A node that lost its disk starts again with its old incarnation, and so with its old dots."""

    def reborn(self) -> Replica:
        return type(self)(self.origin, self.forgets)

    def put(self, key: str, context: VersionVector, deletes: bool, ident: int, wall_ms: int) -> Operation:
        try:
            return super().put(key, context, deletes, ident, wall_ms)
        except ValueError:  # the context covers the new write itself: it can be stored nowhere
            return Operation(Dot(self.origin, self.minted), key, context, self.hlc.last, None, ident)

    def receive_delta(self, message: Message) -> bool:
        """As the right one, without minding that its own dots come back to it."""
        if not self.clock.descends(message.stands_on):
            return False
        for operation in message.operations:
            if not self.clock.covers(operation.dot):
                self.apply(operation)
        return True


def test_a_node_that_lost_its_disk_comes_back_as_a_new_incarnation():
    """Law 2: writes under dots that others already know are thrown away there, and never seen."""
    assert_found(ReusesDots, Mix(wipes=1), ("siblings",))


# -- law 3: a context belongs to its key


class MixesContextsOfKeys(Replica):
    """Clients keep the last context they were given, whatever key it came from, and write with that."""

    slots_by_key = False


def test_the_context_of_another_key_covers_what_nobody_read():
    """Law 3: counters run over all keys, so the context of one key would overwrite unseen writes of another."""
    assert_found(MixesContextsOfKeys, Mix(over=("carried", "carried", "blind")), ("values",))


def test_a_context_read_at_a_replica_that_is_ahead_is_exact():
    """Law 3: what was read there and has not arrived here is overwritten when it does arrive, and nothing else is."""
    p, q = NodeId("p", 1), NodeId("q", 1)
    at_q: Container = CausalContainer[bytes]().apply(Dot(q, 1), EMPTY, 1, b"read").apply(Dot(q, 2), EMPTY, 2, b"too")
    at_p = CausalContainer[bytes]().apply(Dot(p, 1), at_q.context, 3, b"over both")
    at_p = (
        at_p.apply(Dot(q, 1), EMPTY, 1, b"read").apply(Dot(q, 2), EMPTY, 2, b"too").apply(Dot(q, 3), EMPTY, 4, b"later")
    )
    assert at_p.values == (b"over both", b"later")


# -- law 4: a delta says what it stands on


class AppliesOverGaps(Replica):
    """Whatever arrives is applied, and the vector jumps over what is missing."""

    def receive_delta(self, message: Message) -> bool:
        for operation in message.operations:
            if not self.clock.covers(operation.dot):
                self.apply(operation)
        return True


class AppliesOutOfOrder(Replica):
    """Whatever arrives is applied at once; the vector waits for the gap to fill, so nothing is lost on the way."""

    def __init__(self, origin: NodeId, forgets: bool) -> None:
        super().__init__(origin, forgets)
        self.beyond: set[Dot] = set()  # applied, and above a gap

    def apply(self, operation: Operation) -> None:
        clock = self.clock
        super().apply(operation)
        self.beyond.add(operation.dot)
        origin = operation.dot.origin
        while (dot := Dot(origin, clock.counter(origin) + 1)) in self.beyond:
            self.beyond.remove(dot)
            clock = clock.including(dot)
        self.clock = clock

    def receive_delta(self, message: Message) -> bool:
        for operation in message.operations:
            if not self.clock.covers(operation.dot) and operation.dot not in self.beyond:
                self.apply(operation)
        return True


@pytest.mark.parametrize("wrong", [AppliesOverGaps, AppliesOutOfOrder])
def test_a_delta_is_not_applied_over_a_gap(wrong: type[Replica]):
    """
    Law 4: a message lost or late costs a repetition, never a write.

    Even when every operation arrives in the end, those that come after a later one of their origin find their dot
    covered by its context and vanish.
    """
    assert_found(wrong, Mix(fates=("arrives", "lost", "late")), ALL_VIEWS)


# -- law 7: forgetting needs proof

FORGETTING = Mix(
    puts=2,
    reads=0,
    sends=3,
    errands=2,
    floods=3,
    rounds=3,
    jumps=2,
    over=("here", "blind"),
    fates=("arrives",),
    counts=(1000, 1),
    keys=1,
    steps=20,
)
LOSING = FORGETTING._replace(jumps=4, errands=4, floods=2, rounds=0, over=("blind",))


class CredulousMatrix(AckMatrix[NodeId, object]):
    """Takes an acknowledgement before it has seen what its member had seen."""

    def _is_usable(self, ack: _Ack[object]) -> bool:
        return ack.view == self.view

    def check(self) -> None:
        """It would fail."""


class BelievesAcknowledgementsAtOnce(Replica):
    """Its watermark is the minimum of what it was told."""

    def __init__(self, origin: NodeId, forgets: bool) -> None:
        super().__init__(origin, forgets)
        self.acks = CredulousMatrix(origin, None)


class ForgetsByDotAlone(BelievesAcknowledgementsAtOnce):
    """A tombstone goes as soon as its own dot is stable."""

    def forget_in(self, container: Container, stable: VersionVector) -> Container:
        if container.is_absent and all(stable.covers(sibling.dot) for sibling in container.siblings):
            return CausalContainer()
        return container


class ForgetsContextEntries(Replica):
    """Of a context, each entry goes by itself as soon as it is stable, unless a sibling needs it."""

    def forget_in(self, container: Container, stable: VersionVector) -> Container:
        forgotten = container.forget(stable)
        entries = forgotten.context.items()
        context = VersionVector({origin: counter for origin, counter in entries if stable.counter(origin) < counter})
        for sibling in forgotten.siblings:
            context = context.including(sibling.dot)
        return CausalContainer(forgotten.siblings, context)


class ForgetsTombstonesThatWin(Replica):
    """A stable tombstone goes, whatever stands beside it."""

    def forget_in(self, container: Container, stable: VersionVector) -> Container:
        if not stable.descends(container.context):
            return container
        values = [sibling for sibling in container.siblings if not sibling.is_tombstone]
        return CausalContainer(values, container.context)


def test_a_tombstone_stays_until_its_whole_context_is_stable():
    """
    Law 7: a write over a context that was read at a replica ahead of its own may be stable before what it covers is.

    Forgotten on its dot alone, such a tombstone lets the value that it deleted in when that arrives at last. Both rules
    are tried with a matrix that believes every acknowledgement at once: one that waits until it has seen as much as
    the member had hides the fault, as long as the origin of the deleted value is a member.
    """
    right = BelievesAcknowledgementsAtOnce
    assert_found(ForgetsByDotAlone, FORGETTING, ("values",), right=right, forgets=True, count=RARE)


def test_a_context_is_forgotten_whole_or_not_at_all():
    """Law 7: an entry that is stable may still be needed where the write that made it past is not known yet."""
    assert_found(ForgetsContextEntries, FORGETTING, ("values", "latest"), forgets=True, count=RARE)


def test_a_tombstone_that_wins_over_a_value_is_not_forgotten():
    """Law 7: under last-writer-wins a key deleted last stays deleted, also beside a concurrent value."""
    assert_found(ForgetsTombstonesThatWin, FORGETTING, ("values", "latest"), forgets=True, count=RARE)


def test_an_acknowledgement_counts_when_all_that_its_member_had_seen_is_here():
    """Law 7: otherwise a concurrent write of that member arrives after the tombstone that it loses to is forgotten."""
    assert_found(BelievesAcknowledgementsAtOnce, FORGETTING, ("values", "latest"), forgets=True, count=RARE)


class KeepsOnlyTheLatest(Replica):
    """What may be forgotten under last-writer-wins: every sibling that lost, too."""

    shown = "latest"


class KeepsOnlyValues(Replica):
    """What may be forgotten under keep-siblings and callbacks: every tombstone."""

    shown = "values"


class DropsLosersAtOnce(Replica):
    """A sibling that lost goes without waiting for stability; its dot stays covered."""

    def forget_in(self, container: Container, stable: VersionVector) -> Container:
        return CausalContainer(container.siblings[-1:], container.context)


def test_a_sibling_that_lost_may_go_when_all_is_stable():
    """
    Law 7: under a resolver that only selects, losers that are stable are never missed.

    Before, they are: the winner may be overwritten by somebody who had not seen the loser, which then is the latest.
    """
    right = KeepsOnlyTheLatest
    assert_found(DropsLosersAtOnce, LOSING, ("latest",), right=right, forgets=True, count=RARE)
    assert wrong_count(right, FORGETTING, ("latest",), forgets=True, count=RARE) == 0


def test_a_tombstone_that_no_resolver_looks_at_may_go_when_all_is_stable():
    """Law 7: where only values are shown, a tombstone is never missed, whatever its rank."""
    assert wrong_count(KeepsOnlyValues, FORGETTING, ("values",), forgets=True, count=RARE) == 0


@pytest.mark.parametrize("rule", [Replica, KeepsOnlyValues, KeepsOnlyTheLatest])
def test_in_the_end_all_nodes_remember_the_same_and_no_dead_key(rule: type[Replica]):
    """Law 7: when everything is stable, the states of all nodes are equal, and a key that is absent costs nothing."""
    forgotten_count = 0
    for script in batch_of(FORGETTING._replace(states=1, keys=2), HISTORIES):
        world = World(rule, (), forgets=True)
        world.run(script)
        p, q, r = world.nodes.values()
        assert p.containers == q.containers == r.containers
        assert not any(container.is_absent for container in p.containers.values())
        for container in p.containers.values():
            assert rule is Replica or not any(sibling.is_tombstone for sibling in container.siblings)
            assert rule is not KeepsOnlyTheLatest or len(container.siblings) == 1
        forgotten_count += sum(key not in p.containers and bool(world.model.seen(p.arrived, key)) for key in KEYS)
    assert forgotten_count > 0


# -- law 8: a snapshot's silence means something


RETURNING = FORGETTING._replace(puts=4, floods=5, rounds=4, aways=1, backs=1, steps=30)


class PastesSnapshots(Replica):
    """The state of the snapshot takes the place of our own."""

    def join(self, ours: Container, theirs: Container, their_clock: VersionVector) -> Container:
        return theirs


class JoinsPlainly(Replica):
    """Containers are joined as they are, though either side may have forgotten."""

    def join(self, ours: Container, theirs: Container, their_clock: VersionVector) -> Container:
        return ours.join(theirs)


@pytest.mark.parametrize("wrong", [PastesSnapshots, JoinsPlainly])
def test_a_snapshot_is_joined_with_contexts_filled_from_both_clocks(wrong: type[Replica]):
    """Law 8: pasting loses what the returning node alone had; a plain join revives what the others have forgotten."""
    assert_found(wrong, RETURNING, ("values",), forgets=True)


# -- the merge by itself

ORIGINS = tuple(NodeId(name, 1) for name in "abc")


class History:
    """Writes to one key at three nodes; what each node has is any part of each origin's writes, in their order."""

    def __init__(self, data: st.DataObject) -> None:
        self.operations: dict[NodeId, list[Operation]] = {origin: [] for origin in ORIGINS}
        self.states: list[Container] = [CausalContainer()] * 3
        self.clocks = [EMPTY] * 3
        contexts = [EMPTY]  # those read from any node at any time: also from one that is ahead
        for ident in range(data.draw(st.integers(0, 12))):
            at, origin = data.draw(st.integers(0, 2)), data.draw(st.sampled_from(ORIGINS))
            if origin == ORIGINS[at]:
                counter = len(self.operations[origin]) + 1
                context, stamp = data.draw(st.sampled_from(contexts)), data.draw(st.integers(0, 3))
                payload = None if data.draw(st.booleans()) else b"%d" % ident
                self.operations[origin].append(Operation(Dot(origin, counter), "k", context, stamp, payload, ident))
            arriving = self.operations[origin][self.clocks[at].counter(origin) :][:1]
            for operation in arriving:
                self.states[at] = self.states[at].apply(*operation_on(operation))
                self.clocks[at] = self.clocks[at].including(operation.dot)
            contexts.append(self.states[at].context)

    def replayed(self, clock: VersionVector) -> Container:
        """The state of a node that has applied all that *clock* covers, one origin after the other."""
        state: Container = CausalContainer()
        for origin, counter in clock.items():
            for operation in self.operations[origin][:counter]:
                state = state.apply(*operation_on(operation))
        return state


def operation_on(operation: Operation) -> tuple[Dot, VersionVector, int, bytes | None]:
    return operation.dot, operation.context, operation.timestamp, operation.payload


histories = st.builds(History, st.data())


@given(histories)
def test_join_is_idempotent(history: History):
    """a ⊔ a = a"""
    for state in history.states:
        assert state.join(state) == state


@given(histories)
def test_join_is_commutative(history: History):
    """a ⊔ b = b ⊔ a"""
    a, b, _ = history.states
    assert a.join(b) == b.join(a)


@given(histories)
def test_join_is_associative(history: History):
    """(a ⊔ b) ⊔ c = a ⊔ (b ⊔ c)"""
    a, b, c = history.states
    assert a.join(b).join(c) == a.join(b.join(c))


@given(histories)
def test_joining_states_equals_applying_the_operations_of_both(history: History):
    """Deltas and snapshots lead to the same place."""
    (a, b, _), (had_a, had_b, _) = history.states, history.clocks
    joined = a.join(b)
    joined.check()
    assert joined == history.replayed(had_a.join(had_b))


@given(histories)
def test_filling_a_context_changes_no_sibling_and_no_join_of_what_nobody_forgot(history: History):
    """Filled contexts say more only about what was forgotten."""
    (a, b, _), (had_a, had_b, _) = history.states, history.clocks
    assert a.filled(had_a).siblings == a.siblings
    assert a.filled(had_a).join(b.filled(had_b)).siblings == a.join(b).siblings


@given(histories, st.data())
def test_applying_an_operation_again_changes_nothing(history: History, data: st.DataObject):
    """An operation that comes twice, however late, is known."""
    at = data.draw(st.integers(0, 2))
    for operation in (op for ops in history.operations.values() for op in ops if history.clocks[at].covers(op.dot)):
        assert history.states[at].apply(*operation_on(operation)) == history.states[at]
