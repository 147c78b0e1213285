"""
Cores back to back: no sockets, no disk but a `MemoryDisk`, time that a test moves.

A `Bench` holds nodes, and links between them that deliver, delay, lose, or cut. Messages go through the codec, as on
the wire. After every step every core's invariants are checked, and those of the cluster: one leader a term, and
committed entries that never change.
"""

from __future__ import annotations

import random
from collections import deque

from mmrepl.errors import MmreplError
from mmrepl.ports import Durability
from mmrepl.single_master import core as core_module
from mmrepl.single_master.entry import WRITE, decode_entries
from mmrepl.single_master.events import Answered, Failed, ReadReady, RoleChanged
from mmrepl.single_master.options import Options, Role
from mmrepl.storage.memory import MemoryDisk, MemoryStorage
from mmrepl.types import Limits
from mmrepl.values import decode, encode
from mmrepl.wire.codec import decode as decode_message
from mmrepl.wire.codec import encode as encode_message

WALL_MS = 1_700_000_000_000


class Node:
    """One core with its disk and what it has told."""

    def __init__(self, bench, name, *, disk=True, make=None, **options):
        self.bench = bench
        self.name = name
        self.disk = MemoryDisk() if disk else None
        options.setdefault("expected", tuple(other for other in bench.names if other != name))
        self.options = Options(address=name, **(bench.options | options))
        self.make = make or core_module.SingleMaster
        self.core = None
        self.storage = None
        self.lives = 0
        self.events = []
        self.commits = deque()  # persists under way, when the disk is slow
        self.slow_disk = False
        self.skew_ms = 0
        self.rate = 1.0
        self.told = 0

    @property
    def now_ms(self):
        return int(self.bench.now_ms * self.rate) + self.skew_ms

    @property
    def wall_ms(self):
        return WALL_MS + self.bench.now_ms

    def start(self):
        self.lives += 1
        rng = random.Random(f"{self.bench.seed}/{self.name}/{self.lives}")
        self.storage = MemoryStorage(self.disk) if self.disk is not None else None
        limits = self.bench.limits
        opened = core_module.open_store(self.name, self.storage, rng, self.options, limits)
        self.core = self.make(opened, rng, self.options, limits, self.now_ms)
        self.core.check()
        self.commits.clear()

    def crash(self, *, power=False):
        """The process ends; with *power* the machine, and what was not synced with it. A commit under way is lost."""
        self.bench.cut_node(self.name)
        self.core = None
        self.commits.clear()
        if self.disk is not None:
            if power:
                self.disk.lose_power()
            else:
                self.disk.crash()

    # -- as a client

    def put(self, key, value, **how):
        token = how.pop("token", None) or self.bench.token()
        payload = None if value is None else encode(value)
        self.core.propose("", key, payload, self.now_ms, self.wall_ms, token=token, **how)
        return token

    def value(self, key, table=""):
        found = self.core.get(table, key)
        return None if found is None else decode(found[0])

    def answer(self, token):
        """The event that answered *token*, or None."""
        found = [event for event in self.events if getattr(event, "token", None) == token and event.token is not None]
        assert len(found) <= 1, found
        return found[0] if found else None

    def last_event(self, kind):
        return next((event for event in reversed(self.events) if isinstance(event, kind)), None)


class Link:
    """One direction of a connection."""

    def __init__(self, number, source, target, back):
        self.number = number  # as the target knows it
        self.source, self.target, self.back = source, target, back
        self.queue = deque()


class Bench:
    """Some nodes and the links between them."""

    def __init__(self, names="abc", *, seed=0, limits=None, disk=True, make=None, start=True, loss=0.0, **options):
        self.names = list(names)
        self.seed = seed
        self.rng = random.Random(f"bench/{seed}")
        self.limits = limits or Limits()
        self.options = options
        self.now_ms = 1_000_000
        self.loss = loss
        self.links = {}  # (source, target) -> Link
        self._links = 0
        self._tokens = 0
        self.blocked = set()  # ordered pairs that do not get through
        self.leaders = {}  # term -> name
        self.committed = {}  # index -> (term, body)
        self.check_committed = True
        self.sent = []  # (source, target, message), the latest
        self.filter = None  # filter(source, target, message) -> False: lost
        self.make = make
        self.nodes = {name: Node(self, name, disk=disk, make=make) for name in self.names}
        if start:
            for node in self.nodes.values():
                node.start()

    def __getitem__(self, name):
        return self.nodes[name]

    def add(self, name, **options):
        """Another node, not a member yet; it knows where the others are."""
        options.setdefault("disk", True)
        node = self.nodes[name] = Node(self, name, make=self.make, **options)
        node.start()
        return node

    def token(self):
        self._tokens += 1
        return f"t{self._tokens}"

    def living(self):
        return [node for node in self.nodes.values() if node.core is not None]

    # -- connections

    def reachable(self, one, other):
        return (one, other) not in self.blocked

    def partition(self, *groups):
        """Nodes of different groups do not hear each other. Connections break."""
        self.blocked = {
            (one, other)
            for group in groups
            for one in group
            for others in groups
            if others is not group
            for other in others
        }
        for source, target in list(self.links):
            if (source, target) in self.blocked or (target, source) in self.blocked:
                self.cut(source, target)

    def heal(self):
        self.blocked = set()

    def cut(self, source, target, reason="cut"):
        link = self.links.pop((source, target), None)
        back = self.links.pop((target, source), None)
        for gone in (link, back):
            if gone is not None and self.nodes[gone.target].core is not None:
                self.nodes[gone.target].core.disconnected(gone.number, reason, self.nodes[gone.target].now_ms)

    def cut_node(self, name):
        for source, target in list(self.links):
            if name in (source, target):
                self.cut(source, target)

    def dial(self):
        for node in self.living():
            for address in node.core.missing_addresses():
                other = self.nodes.get(address)
                if other is None or other.core is None or (node.name, address) in self.links:
                    continue
                if self.reachable(node.name, address) and self.reachable(address, node.name):
                    self._links += 2
                    there = Link(self._links, node.name, address, None)
                    here = Link(self._links + 1, address, node.name, there)
                    there.back = here
                    self.links[node.name, address], self.links[address, node.name] = there, here
                    node.core.connected(here.number, address, node.now_ms, node.wall_ms)
                    other.core.connected(there.number, "", other.now_ms, other.wall_ms)

    # -- turns

    def turn(self, node):
        core = node.core
        for _ in range(100):
            effects = core.ready(node.now_ms, node.wall_ms, may_persist=not node.commits)
            if effects.persist is not None:
                node.commits.append(effects.persist)
                if not node.slow_disk:
                    self.commit(node)
            for envelope in effects.send:
                link = self.link_from(node.name, envelope.link)
                if link is not None:
                    link.queue.append(encode_message(envelope.message))
                    self.sent.append((node.name, link.target, envelope.message))
                    del self.sent[:-10_000]
            for link_number, reason in effects.close:
                link = self.link_from(node.name, link_number)
                if link is not None:
                    self._flush(link)  # what was sent before still arrives
                    self.cut(link.source, link.target, reason)
            for event in effects.notify:
                self._event(node, event)
            if not effects:
                break
        else:
            raise AssertionError("a core that never comes to rest")
        core.check()
        self._check(node)

    def link_from(self, name, number):
        """The connection that a node knows by *number*, in the direction away from it."""
        return next((link for link in self.links.values() if link.source == name and link.back.number == number), None)

    def commit(self, node, *, durable=True):
        """The disk is done with the commit under way."""
        if node.commits:
            persist = node.commits.popleft()
            node.storage.commit(persist.commit, Durability.SYNC if durable else Durability.NONE)
            node.core.persisted(persist.position)

    def _flush(self, link):
        while link.queue:
            self.deliver(link)

    def deliver(self, link):
        """One message over one link."""
        number, body = link.queue.popleft()
        message = decode_message(number, body, self.limits)
        if self.filter is not None and self.filter(link.source, link.target, message) is False:
            return
        if not self.reachable(link.source, link.target):
            return
        target = self.nodes[link.target]
        if target.core is not None:
            target.core.receive(link.number, message, target.now_ms, target.wall_ms)

    def _event(self, node, event):
        node.events.append(event)
        if isinstance(event, RoleChanged) and event.role in (Role.LEADER, Role.PRIMARY):
            known = self.leaders.setdefault(event.term, node.name)
            assert known == node.name, f"two leaders of term {event.term}: {known} and {node.name}"

    def _check(self, node):
        core = node.core
        if not self.check_committed:
            return
        for index in range(
            max(core.log.start, node.told if node.told <= core.committed else 0) + 1, core.committed + 1
        ):
            entry = (core.log.term_at(index), core.log.body(index))
            known = self.committed.setdefault(index, entry)
            assert known == entry, f"{node.name} committed another entry at {index} than was committed before"
        node.told = core.committed

    def step(self, ms=10):
        """Time passes; everybody takes a turn, everything that is under way arrives, or is lost."""
        self.now_ms += ms
        self.dial()
        for node in self.living():
            if node.core is not None:
                node.core.tick(node.now_ms, node.wall_ms)
                self.turn(node)
        self.settle()

    def settle(self, rounds=200):
        """Everything that is under way arrives, until it is quiet."""
        for _ in range(rounds):
            for node in self.living():
                if node.core is not None:
                    self.turn(node)
            if not any(link.queue for link in self.links.values()):
                return
            for link in list(self.links.values()):
                for _ in range(len(link.queue)):
                    if not link.queue:
                        break
                    if self.loss and self.rng.random() < self.loss:
                        link.queue.popleft()
                        continue
                    self.deliver(link)

    def run(self, ms, step=10):
        for _ in range(ms // step):
            self.step(step)

    def run_until(self, condition, ms=20_000, step=10):
        for _ in range(ms // step):
            if condition():
                return
            self.step(step)
        assert condition(), "did not come to pass in time"

    def leader(self):
        """The leader of the highest term among the living, or None."""
        found = [node for node in self.living() if node.core.tenure is not None]
        return max(found, key=lambda node: node.core.term, default=None)

    def elect(self, name=None):
        """Run until somebody leads, and has committed in its term."""
        self.run_until(lambda: self.leader() is not None and self.leader().core.tenure.has_committed)
        if name is not None and self.leader().name != name:
            old = self.leader()
            old.core.transfer(name, old.now_ms, token=self.token())
            self.run_until(lambda: self.leader() is self[name] and self[name].core.tenure.has_committed)
        self.run(200)
        return self.leader()

    def make_leader(self, name, *, times=1):
        """Have *name* campaign now, so often until it wins; whether it did is seen when everything has arrived."""
        for _ in range(times):
            self.dial()
            self.settle()
            if self[name].core.tenure is None:
                self[name].core.election.campaign(transfer=True)
            self.settle()
        return self[name]

    def log_of(self, name):
        """(term, kind or value) of each entry that is held."""
        core = self[name].core
        first = core.log.start + 1
        entries = (
            decode_entries(core.log.slice(first, core.log.last).bodies, core.limits) if core.log.last >= first else []
        )
        return [
            (core.log.term_at(index), decode(entry.payload) if entry.kind == WRITE and entry.payload else entry.kind)
            for index, entry in enumerate(entries, first)
        ]

    def converged(self):
        living = self.living()
        return len({(node.core.log.last, node.core.applied, node.core.log.last_term) for node in living}) == 1 and all(
            node.core.applied == node.core.log.last for node in living
        )

    def states(self):
        return {node.name: contents(node.core) for node in self.living()}


def contents(core):
    """Tables as plain dicts of live records, and sessions."""
    tables = {
        table: {key: record for key, record in held.items() if record[0] is not None}
        for table, held in core.state.tables.items()
    }
    return {table: held for table, held in tables.items() if held}


__all__ = ["Answered", "Bench", "Failed", "MmreplError", "ReadReady", "contents"]
