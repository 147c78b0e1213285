"""
Random histories of a few nodes, run through naive replicas beside a model that keeps everything.

A *script* is a list of steps that does not depend on how anything behaves: who writes what over which context, who
sends to whom and how much of it arrives, whose clock jumps, who is away. A `World` runs it through replicas that keep
one `CausalContainer` a key and a plain log, and beside them through the *model*: for each write, the set of all writes
of its key that its writer had seen. By the model a write is live where it has arrived, unless a write that has arrived
there too had seen it. No vector, no dot, no forgetting: obviously right.

The rules that the laws forbid are subclasses of `Replica`, each with one thing done wrong. They run through the same
scripts as the right one. A script that shows a difference between replicas and model is a counterexample.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import ClassVar, Literal, NamedTuple, TypeAlias

from hypothesis import strategies as st

from mmrepl.causality.container import CausalContainer
from mmrepl.causality.dot import Dot
from mmrepl.causality.stability import AckMatrix
from mmrepl.causality.version_vector import EMPTY, VersionVector
from mmrepl.clock.hlc import HybridClock
from mmrepl.types import NodeId

NODES = ("p", "q", "r")
KEYS = ("j", "k")
SLOTS = 2  # contexts that clients carry about, a set of slots for each key

Container: TypeAlias = CausalContainer[bytes]

# -- what happens


class Put(NamedTuple):
    """A write at *node*: over what it shows ("here"), over nothing ("blind"), or over what was read into a slot."""

    node: str
    key: str
    over: str
    slot: int
    deletes: bool


class Read(NamedTuple):
    """A client reads at *node* and keeps the context in a slot, to write with it anywhere, later."""

    node: str
    key: str
    slot: int


class Send(NamedTuple):
    """*source* sends *count* operations that it believes *target* to lack; its acknowledgement rides along."""

    source: str
    target: str
    count: int
    fate: str  # "arrives", "lost", "twice", "late": after the next one


class SendState(NamedTuple):
    """*source* sends a snapshot instead."""

    source: str
    target: str


class Jump(NamedTuple):
    """The wall clock of *node* is moved."""

    node: str
    by_ms: int


class Away(NamedTuple):
    """*node* is cut off and removed from the membership; the others go on, and forget without it."""

    node: str


class Back(NamedTuple):
    """The node that is away returns: it is given a snapshot by the first of the others, and is a member again."""


class Wipe(NamedTuple):
    """*node* loses its disk, and comes back empty under its name."""

    node: str


Step: TypeAlias = Put | Read | Send | SendState | Jump | Away | Back | Wipe
Script: TypeAlias = list[Step]


class Mix(NamedTuple):
    """How often each kind of step comes, and which ways of writing there are."""

    puts: int = 5
    reads: int = 2
    sends: int = 6
    errands: int = 0  # a client reads at one node and writes with that at another
    floods: int = 0  # a node sends to all others
    rounds: int = 0  # a node is told by all others what they have, without what it is that they have
    states: int = 0
    jumps: int = 1
    aways: int = 0
    backs: int = 0
    wipes: int = 0
    over: tuple[str, ...] = ("here", "here", "blind", "carried")
    fates: tuple[str, ...] = ("arrives", "arrives", "arrives", "lost", "twice", "late")
    counts: tuple[int, ...] = (1000, 2, 1)  # of operations in a message; with none, it is a mere acknowledgement
    keys: int = len(KEYS)
    steps: int = 24


def _steps(mix: Mix, draw: Callable[[int], int]) -> Script:
    """What happens next; *draw* gives a number from zero up to, and without, its argument."""
    node, key, slot = draw(len(NODES)), KEYS[draw(mix.keys)], draw(SLOTS)
    name, others = NODES[node], (NODES[:node] + NODES[node + 1 :])
    other = others[draw(len(others))]

    def put(over: tuple[str, ...] = mix.over) -> Put:
        return Put(name, key, over[draw(len(over))], slot, draw(3) == 2)

    def send(source: str, target: str, counts: tuple[int, ...] = mix.counts) -> Send:
        return Send(source, target, counts[draw(len(counts))], mix.fates[draw(len(mix.fates))])

    kinds: tuple[tuple[int, Callable[[], Script]], ...] = (
        (mix.puts, lambda: [put()]),
        (mix.reads, lambda: [Read(name, key, slot)]),
        (mix.sends, lambda: [send(name, other)]),
        (mix.errands, lambda: [Read(other, key, slot), put(("carried",))]),
        (mix.floods, lambda: [send(name, target) for target in others]),
        (mix.rounds, lambda: [send(source, name, (0,)) for source in others]),
        (mix.states, lambda: [SendState(name, other)]),
        (mix.jumps, lambda: [Jump(name, (-50, -5, 5, 50)[draw(4)])]),
        (mix.aways, lambda: [Away(name)]),
        (mix.backs, lambda: [Back()]),
        (mix.wipes, lambda: [Wipe(name)]),
    )
    chosen = draw(sum(weight for weight, _ in kinds))
    for weight, make in kinds:
        if chosen < weight:
            return make()
        chosen -= weight
    raise AssertionError(chosen)


def random_script(mix: Mix, seed: int) -> Script:
    """The script of a seed."""
    dice = random.Random(seed)
    return [step for _ in range(mix.steps) for step in _steps(mix, dice.randrange)]


@st.composite
def scripts(draw: st.DrawFn, mix: Mix) -> Script:
    """Scripts for Hypothesis; shorter ones are simpler."""
    count = draw(st.integers(0, mix.steps))
    return [step for _ in range(count) for step in _steps(mix, lambda size: draw(st.integers(0, size - 1)))]


# -- the model


class Write(NamedTuple):
    """One write, and the whole past that its writer had seen of its key."""

    ident: int
    key: str
    rank: tuple[int, NodeId, int]
    deletes: bool
    seen: frozenset[int]


class Model:
    """All writes ever made."""

    def __init__(self) -> None:
        self.writes: dict[int, Write] = {}

    def seen(self, arrived: Iterable[int], key: str) -> frozenset[int]:
        """Everything that a reader of *key* has seen where the writes *arrived* have come in."""
        here = [self.writes[ident] for ident in arrived if self.writes[ident].key == key]
        return frozenset(write.ident for write in here).union(*(write.seen for write in here))

    def live(self, arrived: Iterable[int], key: str) -> list[Write]:
        """Writes that none of those that have arrived had seen, in canonical order."""
        here = [self.writes[ident] for ident in arrived if self.writes[ident].key == key]
        dead: frozenset[int] = frozenset().union(*(write.seen for write in here))
        return sorted((write for write in here if write.ident not in dead), key=lambda write: write.rank)


# -- the right replica


class Operation(NamedTuple):
    """An operation, and the name by which the model knows it."""

    dot: Dot
    key: str
    context: VersionVector
    timestamp: int
    payload: bytes | None
    ident: int


class Message(NamedTuple):
    """A delta or a snapshot, with the acknowledgement that rides along."""

    source: NodeId
    clock: VersionVector
    view: object
    stands_on: VersionVector
    operations: tuple[Operation, ...]
    state: dict[str, Container] | None = None
    last_stamp: int = 0
    arrived: frozenset[int] = frozenset()


class Replica:
    """The laws, naively: a container a key, a log, a vector. Wrong rules override one method each."""

    slots_by_key: ClassVar[bool] = True
    """Whether clients keep contexts apart by key."""

    shown: ClassVar[Literal["all", "values", "latest"]] = "all"
    """What resolvers may look at, and so what must not be forgotten."""

    def __init__(self, origin: NodeId, forgets: bool) -> None:
        self.origin = origin
        self.minted = 0
        self.clock = EMPTY
        self.base = EMPTY  # the log does not reach below this
        self.log: list[Operation] = []
        self.containers: dict[str, Container] = {}
        self.hlc = HybridClock()
        self.acks: AckMatrix[NodeId, object] = AckMatrix(origin, None)
        self.forgets = forgets
        self.assumed: dict[str, VersionVector] = {}  # what we believe each other node to have
        self.arrived: set[int] = set()  # for the model

    def container(self, key: str) -> Container:
        return self.containers.get(key, CausalContainer())

    # writing

    def put(self, key: str, context: VersionVector, deletes: bool, ident: int, wall_ms: int) -> Operation:
        stamp = self.hlc.tick(wall_ms)
        self.minted += 1
        payload = None if deletes else b"%d" % ident
        operation = Operation(Dot(self.origin, self.minted), key, context, stamp, payload, ident)
        self.apply(operation)
        self.acks.applied(self.clock)
        return operation

    def apply(self, operation: Operation) -> None:
        """The one way in, for local and remote operations."""
        dot, key, context, timestamp, payload, ident = operation
        self.containers[key] = self.container(key).apply(dot, context, timestamp, payload)
        self.clock = self.clock.including(dot)
        self.log.append(operation)
        self.hlc.observe(timestamp)
        self.arrived.add(ident)

    # sending and receiving

    def message_for(self, target: str, count: int) -> Message:
        assumed = self.assumed.get(target, EMPTY)
        if not assumed.descends(self.base):
            return self.snapshot()
        operations = tuple(op for op in self.log if not assumed.covers(op.dot))[:count]
        for operation in operations:
            self.assumed[target] = self.assumed.get(target, EMPTY).including(operation.dot)
        return Message(self.origin, self.clock, self.acks.view, assumed, operations)

    def snapshot(self) -> Message:
        state, arrived = dict(self.containers), frozenset(self.arrived)
        return Message(self.origin, self.clock, self.acks.view, EMPTY, (), state, self.hlc.last, arrived)

    def receive(self, message: Message) -> bool:
        """Whether the operations could be used; if not, their sender is told our vector. What it has is true anyway."""
        self.acks.acknowledge(message.source, message.clock, message.view)
        if message.state is not None:
            self.join_state(message, message.state)
        elif not self.receive_delta(message):
            return False
        self.acks.applied(self.clock)
        return True

    def receive_delta(self, message: Message) -> bool:
        if not self.clock.descends(message.stands_on):
            return False
        for operation in message.operations:
            if not self.clock.covers(operation.dot):
                assert operation.dot.counter == self.clock.counter(operation.dot.origin) + 1, operation
                self.apply(operation)
        return True

    def join_state(self, message: Message, state: dict[str, Container]) -> None:
        for key in sorted({*self.containers, *state}):
            theirs: Container = state.get(key, CausalContainer())
            self.containers[key] = self.join(self.container(key), theirs, message.clock)
        self.clock = self.clock.join(message.clock)
        self.base = self.base.join(message.clock)
        self.hlc.observe(message.last_stamp)
        self.arrived |= message.arrived

    def join(self, ours: Container, theirs: Container, their_clock: VersionVector) -> Container:
        """Join filled; the filling need not be kept, as the clock of the store now says the same."""
        joined = ours.filled(self.clock).join(theirs.filled(their_clock))
        return CausalContainer(joined.siblings, ours.context.join(theirs.context))

    # forgetting

    def forget(self) -> None:
        if self.forgets:
            stable = self.acks.stable()
            for key, container in list(self.containers.items()):
                self.containers[key] = self.forget_in(container, stable)
                if not self.containers[key].context:
                    del self.containers[key]

    def forget_in(self, container: Container, stable: VersionVector) -> Container:
        return container.forget(stable, shown=self.shown)

    def check(self) -> None:
        self.acks.check()
        self.hlc.check()
        for container in self.containers.values():
            container.check()

    # what a new disk remembers of the old incarnation's name

    def reborn(self) -> Replica:
        return type(self)(NodeId(self.origin.name, self.origin.incarnation + 1), self.forgets)


# -- running a script


class Difference(AssertionError):
    """Replica and model do not show the same."""


class World:
    """
    Nodes of one rule, the network between them, and the model.

    *views* says what must be the same in replica and model: "siblings" (dots of all siblings), "values" (siblings that
    are no tombstones, as with keep-siblings), "latest" (the last sibling, as with last-writer-wins).
    """

    def __init__(self, rule: type[Replica], views: tuple[str, ...], *, forgets: bool = False) -> None:
        self.views = views
        self.model = Model()
        self.nodes = {name: rule(NodeId(name, 1), forgets) for name in NODES}
        self.away: str | None = None
        self.now_ms = 1_000
        self.skew_ms = dict.fromkeys(NODES, 0)
        self.slots: dict[object, tuple[str, VersionVector, frozenset[int], str | None]] = {}  # the last: who was away
        self.under_way: list[tuple[str, str, Message]] = []  # source, target, message
        self.lost: set[int] = set()  # went with a disk, before anybody else had them
        self.announce()

    def run(self, script: Script) -> None:
        """Raises Difference as soon as there is one; at the latest when everything has arrived everywhere."""
        for step in script:
            self.now_ms += 1
            self.take(step)
        self.settle()
        everything = set(self.model.writes) - self.lost
        for node in self.nodes.values():
            self.compare(node, everything)

    def take(self, step: Step) -> None:
        match step:
            case Put(name, key, over, slot, deletes):
                self.put(name, key, over, slot, deletes)
            case Read(name, key, slot):
                node = self.nodes[name]
                seen = self.model.seen(node.arrived, key)
                away = None if name == self.away else self.away
                self.slots[self.slot(key, slot)] = (key, node.container(key).context, seen, away)
            case Send(source, target, count, fate):
                if self.away not in (source, target):
                    self.send(source, target, self.nodes[source].message_for(target, count), fate)
            case SendState(source, target):
                if self.away not in (source, target):
                    self.send(source, target, self.nodes[source].snapshot(), "arrives")
            case Jump(name, by_ms):
                self.skew_ms[name] += by_ms
            case Away(name):
                if self.away is None:
                    self.away = name
                    self.forget_messages(name)
                    self.announce()
            case Back():
                self.bring_back()
            case Wipe(name):
                self.wipe(name)

    def slot(self, key: str, slot: int) -> object:
        return (key, slot) if self.nodes[NODES[0]].slots_by_key else slot

    def put(self, name: str, key: str, over: str, slot: int, deletes: bool) -> None:
        node = self.nodes[name]
        context, seen = EMPTY, frozenset[int]()
        if over == "here":
            context, seen = node.container(key).context, self.model.seen(node.arrived, key)
        elif over == "carried":
            nothing = (key, EMPTY, seen, None)
            read_from, context, seen, away = self.slots.get(self.slot(key, slot), nothing)
            if read_from != key:
                seen = frozenset()  # whatever that context says, nobody has read this key
            if away == name:
                # Read among members, who may have forgotten what this one, being no member, has yet to hear of: the
                # context is not exact here (see CausalContainer.forget). A cut keeps clients apart, too.
                context, seen = EMPTY, frozenset()
        ident = len(self.model.writes)
        operation = node.put(key, context, deletes, ident, self.now_ms + self.skew_ms[name])
        rank = (operation.timestamp, *operation.dot)
        self.model.writes[ident] = Write(ident, key, rank, deletes, seen)
        self.compare(node, node.arrived)

    # the network

    def send(self, source: str, target: str, message: Message, fate: str) -> None:
        if fate == "late":
            self.under_way.append((source, target, message))
        elif fate != "lost":
            late = [entry for entry in self.under_way if entry[1] == target]
            self.under_way = [entry for entry in self.under_way if entry[1] != target]
            for _ in range(2 if fate == "twice" else 1):
                self.deliver(source, target, message)
            for entry in late:
                self.deliver(*entry)

    def deliver(self, source: str, target: str, message: Message) -> None:
        node = self.nodes[target]
        if not node.receive(message):
            self.nodes[source].assumed[target] = node.clock
        self.compare(node, node.arrived)
        node.forget()
        self.compare(node, node.arrived)
        node.check()

    def forget_messages(self, name: str) -> None:
        self.under_way = [entry for entry in self.under_way if name not in entry[:2]]

    # the membership, known to everybody at once: agreeing on it is somebody else's matter

    def announce(self) -> None:
        present = {name: node for name, node in self.nodes.items() if name != self.away}
        members = tuple(node.origin for node in present.values())
        for node in present.values():
            node.acks.set_view(members, members)

    def bring_back(self) -> None:
        if self.away is not None:
            name, self.away = self.away, None
            host = next(other for other in NODES if other != name)
            self.deliver(host, name, self.nodes[host].snapshot())
            self.announce()

    def wipe(self, name: str) -> None:
        old = self.nodes[name]
        elsewhere = set[int]().union(*(node.arrived for node in self.nodes.values() if node is not old))
        self.lost |= old.arrived - elsewhere
        self.forget_messages(name)
        self.nodes[name] = old.reborn()
        self.announce()

    # the end

    def settle(self) -> None:
        """Everything that can still arrive arrives, and everybody hears what everybody has."""
        self.bring_back()
        self.under_way.clear()
        for _ in range(4):
            for source in NODES:
                for target in NODES:
                    if source != target:
                        self.nodes[source].assumed[target] = self.nodes[target].clock
                        self.send(source, target, self.nodes[source].message_for(target, 1000), "arrives")

    # comparing

    def compare(self, node: Replica, arrived: set[int]) -> None:
        for key in KEYS:
            live = self.model.live(arrived, key)
            container = node.container(key)
            for view in self.views:
                shown, right = VIEWS[view](container, live)
                if shown != right:
                    raise Difference(f"{view} of {key} at {node.origin}: {shown}, by the model {right}")


def _siblings(container: Container, live: list[Write]) -> tuple[object, object]:
    return [sibling.rank for sibling in container.siblings], [write.rank for write in live]


def _values(container: Container, live: list[Write]) -> tuple[object, object]:
    return list(container.values), [b"%d" % write.ident for write in live if not write.deletes]


def _latest(container: Container, live: list[Write]) -> tuple[object, object]:
    shown = container.siblings[-1].payload if container.siblings else None
    return shown, b"%d" % live[-1].ident if live and not live[-1].deletes else None


VIEWS: dict[str, Callable[[Container, list[Write]], tuple[object, object]]] = {
    "siblings": _siblings,
    "values": _values,
    "latest": _latest,
}


def is_wrong(script: Script, rule: type[Replica], views: tuple[str, ...], *, forgets: bool = False) -> bool:
    """Whether *script* is a counterexample to *rule*."""
    try:
        World(rule, views, forgets=forgets).run(script)
    except Difference:
        return True
    return False
