"""
Cores back to back: several nodes on virtual time, with bytes between them and no network.

Not a simulator (that is `mmrepl.sim`): nothing here is random or late. A message sent in one turn is delivered in the
next, unless the wire is held; time passes only in `World.run`. What is said on the wires can be counted and told.
"""

from __future__ import annotations

import random
from collections import Counter, deque

from attrs import define, field

from mmrepl.ports import Durability
from mmrepl.replication.multi_master import MultiMaster, Options
from mmrepl.replication.opening import open_core
from mmrepl.replication.peer import PeerState
from mmrepl.storage.memory import MemoryDisk, MemoryStorage
from mmrepl.store.read import read
from mmrepl.types import DEFAULT_LIMITS
from mmrepl.values import encode as encode_value
from mmrepl.wire.codec import decode, encode
from mmrepl.wire.messages import Delta, Snapshot

STEP_MS = 50
WALL_MS = 1_700_000_000_000


@define(eq=False)
class Wire:
    """One connection: two link numbers, and the bytes under way in each direction."""

    ends: dict[str, int]  # site -> its link number
    queues: dict[str, deque]  # site that they are for -> (number, body) of messages, None for the end
    closed_by: set[str] = field(factory=set)

    def other(self, name):
        return next(end for end in self.ends if end != name)


class Site:
    """One node: a core, what it remembers on, and its clock."""

    def __init__(self, world, name, *, options=None, limits=DEFAULT_LIMITS, disk=True, retain=True, **resolvers):
        self.world, self.name, self.limits, self.retain = world, name, limits, retain
        self.options = options or {}
        self.resolvers = resolvers
        self.disk = MemoryDisk() if disk else None
        self.skew_ms = 0
        self.events = []
        self.slow = False  # commits wait for `flush`
        self.pending = None
        self.rng = random.Random(f"{world.seed} {name}")
        self.start()

    @property
    def address(self):
        return f"{self.name}:1"

    @property
    def wall_ms(self):
        return WALL_MS + self.world.now + self.skew_ms

    def start(self):
        """Open the store and the core, as after an end of the process."""
        self.storage = MemoryStorage(self.disk) if self.disk is not None else None
        local, meta, self.doubt = open_core(
            self.name, self.storage, self.rng, limits=self.limits, retain=self.retain, **self.resolvers
        )
        first = local.take_persist()
        if first is not None:
            self.storage.commit(first.commit, Durability.SYNC)
            local.persisted(first.position)
        options = Options(**{"address": self.address, **self.options})
        self.core = MultiMaster(local, self.rng, options, dict(meta), self.world.now)
        self.pending = None

    def crash(self):
        """kill -9: nothing is closed in order; what was committed stays."""
        for wire in list(self.world.wires):
            if self.name in wire.ends:
                self.world.reset(wire)
        if self.disk is not None:
            self.disk.crash()

    def restart(self):
        self.crash()
        self.start()

    def wipe(self):
        """Start again with an empty disk."""
        self.crash()
        self.disk = MemoryDisk()
        self.start()

    # -- writing and reading

    def put(self, key, value, *, table="", context=None, durability=Durability.SYNC):
        store = self.core.local.store
        payload = None if value is ... else encode_value(value, self.limits)
        return self.core.put(store.table(table), key, payload, self.wall_ms, context, durability)

    def delete(self, key, **options):
        return self.put(key, ..., **options)

    def read(self, key, *, table=""):
        store = self.core.local.store
        return read(store, store.table(table), key)

    def get(self, key, *, table=""):
        found = self.read(key, table=table)
        return found.value if found.present else None

    def values(self, key, *, table=""):
        """Values of the live siblings, in canonical order; None for a tombstone."""
        return [None if s.is_tombstone else s.value for s in self.read(key, table=table).siblings]

    def content(self):
        """Everything that can be read: table -> key -> siblings."""
        store = self.core.local.store
        shown = {}
        for name in store.table_names():
            table = store.table(name)
            for key in table.states:
                if key in table:
                    shown[name, key] = [s.payload for s in store.siblings(table, key)]
        return shown

    @property
    def version(self):
        return self.core.local.store.version

    @property
    def node(self):
        return self.core.local.store.node

    # -- a turn

    def turn(self):
        """Whether anything was done."""
        now, did = self.world.now, False
        self.core.tick(now, self.wall_ms)
        while True:
            effects = self.core.ready(now, self.wall_ms, may_persist=self.pending is None)
            if effects.persist is not None:
                if self.slow:
                    self.pending = effects.persist
                else:
                    self.storage.commit(effects.persist.commit, effects.persist.durability)
                    self.core.persisted(effects.persist.position)
            for envelope in effects.send:
                self.world.send(self.name, envelope)
            for link, reason in effects.close:
                self.world.close(self.name, link, reason)
            self.events.extend(effects.notify)
            if not effects:
                return did
            did = True

    def flush(self):
        """The slow disk has done what it was asked."""
        self.slow = False
        pending, self.pending = self.pending, None
        if pending is not None:
            self.storage.commit(pending.commit, pending.durability)
            self.core.persisted(pending.position)


class World:
    """Sites, wires and one clock."""

    def __init__(self, *names, seed=0, **options):
        self.seed = seed
        self.now = 1_000
        self.sites = {}
        self.wires = []
        self.links = 0
        self.held = set()  # (from, to): bytes wait
        self.said = []  # (from, to, message), as delivered
        self.told = None  # called with (from, to, message), for traces
        for name in names:
            self.add(name, **options)

    def add(self, name, **options):
        site = self.sites[name] = Site(self, name, **options)
        return site

    def __getitem__(self, name):
        return self.sites[name]

    # -- wires

    def connect(self, a, b, *, dialled=None):
        """*a* dials *b*."""
        ends = {}
        for name in (a, b):
            self.links += 1
            ends[name] = self.links
        wire = Wire(ends, {a: deque(), b: deque()})
        self.wires.append(wire)
        site = self.sites[a]
        site.core.connected(ends[a], dialled or self.sites[b].address, self.now, site.wall_ms)
        site = self.sites[b]
        site.core.connected(ends[b], "", self.now, site.wall_ms)
        return wire

    def mesh(self, *names):
        names = names or tuple(self.sites)
        for i, a in enumerate(names):
            for b in names[i + 1 :]:
                self.connect(a, b)

    def cut(self, a, b):
        """Lose every connection between the two, with what was under way."""
        for wire in list(self.wires):
            if set(wire.ends) == {a, b}:
                self.reset(wire)

    def reset(self, wire):
        self.wires.remove(wire)
        for name, link in wire.ends.items():
            self.sites[name].core.disconnected(link, "reset", self.now)

    def between(self, a, b):
        return [wire for wire in self.wires if set(wire.ends) == {a, b}]

    def hold(self, a, b):
        """What *a* sends to *b* waits."""
        self.held.add((a, b))

    def release(self, a, b):
        self.held.discard((a, b))

    def send(self, source, envelope):
        for wire in self.wires:
            if wire.ends.get(source) == envelope.link and source not in wire.closed_by:
                wire.queues[wire.other(source)].append(encode(envelope.message))

    def inject(self, source, target, message):
        """Let *target* receive *message* on its connection with *source*, as if *source* had sent it."""
        wire = self.between(source, target)[0]
        wire.queues[target].append(encode(message))

    def close(self, source, link, reason):
        for wire in self.wires:
            if wire.ends.get(source) == link and source not in wire.closed_by:
                wire.closed_by.add(source)
                wire.queues[wire.other(source)].append(None)

    # -- time

    def run(self, ms=0):
        """Let everything happen that happens within *ms*."""
        end = self.now + ms
        while True:
            self.exchange()
            if self.now >= end:
                return
            self.now = min(end, self.now + STEP_MS)

    def exchange(self):
        """At this moment: turns and deliveries until nothing moves."""
        for _ in range(100_000):
            moved = False
            for _, site in sorted(self.sites.items()):
                moved |= site.turn()
            for wire in list(self.wires):
                for name in sorted(wire.ends):
                    moved |= self._deliver(wire, name)
            if not moved:
                return
        raise AssertionError("it does not become quiet")

    def _deliver(self, wire, name):
        queue, source = wire.queues[name], wire.other(name)
        if not queue or (source, name) in self.held or wire not in self.wires:
            return False
        item = queue.popleft()
        site = self.sites[name]
        if item is None:
            self.wires.remove(wire)
            for end, link in wire.ends.items():
                self.sites[end].core.disconnected(link, "closed", self.now)
            return True
        if name in wire.closed_by:
            return True  # it has closed: nothing is heard any more
        message = decode(*item, site.limits)
        self.said.append((source, name, message))
        if self.told is not None:
            self.told(source, name, message)
        site.core.receive(wire.ends[name], message, self.now, site.wall_ms)
        return True

    # -- judging

    def converged(self):
        """Everybody has everything, and shows the same."""
        sites = list(self.sites.values())
        return all(s.version == sites[0].version and s.content() == sites[0].content() for s in sites)

    def settle(self, ms=20_000):
        """Run until converged; fails when that takes longer than *ms*. Then every invariant holds."""
        end = self.now + ms
        while not self.converged() or any(site.core.rejoin.carried for site in self.sites.values()):
            assert self.now < end, {name: str(site.version) for name, site in self.sites.items()}
            self.run(STEP_MS)
        self.check()

    def check(self):
        for site in self.sites.values():
            site.core.check()

    def crossings(self, since=0):
        """How often each operation arrived at each site: (site, dot) -> times."""
        count = Counter()
        for _, target, message in self.said[since:]:
            if isinstance(message, Delta | Snapshot):
                nodes = message.batch.node_ids()
                for ref, first, size, _ in message.batch.iter_runs():
                    count.update((target, nodes[ref], counter) for counter in range(first, first + size))
        return count

    def said_count(self, kind, since=0, *, source=None, target=None):
        return sum(
            isinstance(message, kind) and source in (None, a) and target in (None, b)
            for a, b, message in self.said[since:]
        )

    def states(self, name):
        site = self.sites[name]
        return {p.name: p.state(self.now, site.limits.heartbeat_ms) for p in site.core.peers.values()}

    def is_live(self, a, b):
        return self.states(a).get(b) is PeerState.LIVE


def meshed(*names, **options):
    world = World(*names, **options)
    world.mesh()
    world.run(1000)
    return world


def views(world):
    return {site.core.members.view for site in world.sites.values()}


def dialled_again_and_again(world, pairs, times=30):
    """As hosts do: whenever a connection is not there."""
    for _ in range(times):
        for one, other in pairs:
            if not world.between(one, other):
                world.connect(one, other)
        world.run(300)
