"""
A random life of a small cluster: elections, crashes that lose what was not on disk, partitions, slow disks, writes.

`live` runs one from a seed and raises `AssertionError` when something that must never happen has happened. What
happens is drawn from the seed alone, so that a seed that fails fails again.
"""

from __future__ import annotations

import contextlib
import random

from mmrepl.errors import MmreplError
from mmrepl.single_master.events import Answered, ReadReady, RoleChanged
from mmrepl.single_master.options import ReadLevel, Role
from mmrepl.values import encode
from tests.single_master.bench import Bench

KEYS = "pqrs"


class Life:
    """One run."""

    def __init__(self, seed, *, names="abc", make=None, changes=False, **options):
        self.rng = random.Random(f"life/{seed}")
        options.setdefault("election_ms_min", 300)
        options.setdefault("election_ms_max", 600)
        options.setdefault("heartbeat_ms", 50)
        options.setdefault("log_entries", 30)
        options.setdefault("log_margin", 8)
        self.bench = Bench(names, seed=seed, make=make, **options)
        self.changes = changes
        self.manual = options.get("failover") == "manual"
        self.bench.check_committed = not self.manual
        self.next_value = 0
        self.written = {}  # token -> (key, value)
        self.reads = {}  # token -> (node, key, least value that has to be seen)
        self.seen = dict.fromkeys(KEYS, 0)  # the highest value known to be committed, by key
        self.acknowledged = {}  # token -> index
        self.sessions = {}  # client -> [session or None, request, key, token, value]
        self.counted = {}  # session writes: (session, request) -> value, to be applied once
        self.looked = {}
        self.loss = self.rng.choice([0, 0, 0.02, 0.15])
        self.dup = self.rng.choice([0, 0, 0.05])
        self.restless = self.rng.random()
        for node in self.bench.nodes.values():
            node.slow_disk = self.rng.random() < 0.4

    def run(self, steps):
        rng = self.rng
        for _ in range(steps):
            what = rng.random()
            if what < 0.55:
                self.deliver()
            elif what < 0.70:
                self.pass_time()
            elif what < 0.85:
                self.write()
            elif what < 0.90:
                self.read()
            elif what < 0.90 + 0.06 * self.restless:
                self.trouble()
            else:
                self.finish_commit()
            self.look()
        self.calm_down()

    # -- steps

    def deliver(self):
        bench, rng = self.bench, self.rng
        busy = [link for link in bench.links.values() if link.queue]
        for link in rng.sample(busy, min(len(busy), 3)):
            for _ in range(rng.randrange(1, 4)):
                if not link.queue:
                    break
                if rng.random() < self.loss:
                    link.queue.popleft()
                    continue
                if rng.random() < self.dup:
                    link.queue.append(link.queue[0])
                bench.deliver(link)
        for node in bench.living():
            if node.core is not None:
                bench.turn(node)

    def pass_time(self):
        bench, rng = self.bench, self.rng
        bench.now_ms += rng.choice([1, 10, 30, 60, 60, 200])
        bench.dial()
        for node in bench.living():
            if node.core is not None and rng.random() < 0.8:
                node.core.tick(node.now_ms, node.wall_ms)
                bench.turn(node)

    def finish_commit(self):
        for node in self.bench.living():
            if node.commits and self.rng.random() < 0.7:
                self.bench.commit(node)
                self.bench.turn(node)

    def write(self):
        bench, rng = self.bench, self.rng
        node = rng.choice(bench.living() or [None])
        leader = bench.leader()
        if node is None or leader is None or (node is not leader and rng.random() < 0.7):
            node = leader
        if node is None:
            return
        if rng.random() < 0.3:
            self.write_in_session(node)
            return
        for _ in range(rng.choice([1, 1, 3])):
            self.next_value += 1
            key, token = rng.choice(KEYS), bench.token()
            try:
                node.put(key, self.next_value, token=token)
            except MmreplError as error:
                assert error.definite, error  # noqa: PT017 - nothing else may be raised
                continue
            self.written[token] = (key, self.next_value)
        bench.turn(node)

    def write_in_session(self, node):
        """A client that tries again until it is told, each request with the same number."""
        core = node.core
        client = self.rng.choice("xy")
        session = self.sessions.get(client)
        try:
            if session is None or session[0] is None:
                if session is None or self.rng.random() < 0.2:
                    token = self.bench.token()
                    core.open_session(node.now_ms, node.wall_ms, token=token)
                    self.sessions[client] = [None, 0, token, None]
            elif session[3] is None or self.rng.random() < 0.5:
                if session[3] is None:
                    session[1] += 1
                    self.next_value += 1
                    session[3] = self.next_value
                token = session[2] = self.bench.token()
                self.counted[session[0], session[1]] = session[3]
                core.propose("", f"session-{client}", encode(session[3]), node.now_ms, node.wall_ms, token=token,
                             session=session[0], request=session[1])  # fmt: skip
        except MmreplError:
            return
        self.bench.turn(node)

    def read(self):
        bench, rng = self.bench, self.rng
        if not bench.living():
            return
        node, key, token = rng.choice(bench.living()), rng.choice(KEYS), bench.token()
        level = rng.choice([ReadLevel.LEADER, ReadLevel.LINEARIZABLE])
        try:
            node.core.read(level, node.now_ms, token=token)
        except MmreplError:
            return
        self.reads[token] = (node.name, key, self.seen[key], level)
        bench.turn(node)

    def trouble(self):
        bench, rng = self.bench, self.rng
        what = rng.choice(["crash", "crash", "start", "start", "start", "part", "heal", "slow", "cut", "transfer",
                           "one-way", "members"])  # fmt: skip
        node = rng.choice(list(bench.nodes.values()))
        if what == "crash" and node.core is not None:
            node.crash(power=rng.random() < 0.5)
        elif what == "start":
            for other in bench.nodes.values():
                if other.core is None and rng.random() < 0.7:
                    other.start()
        elif what == "part":
            names = list(bench.nodes)
            rng.shuffle(names)
            at = rng.randrange(1, len(names))
            bench.partition(names[:at], names[at:])
        elif what == "one-way":
            one, other = rng.sample(list(bench.nodes), 2)
            bench.blocked.add((one, other))
        elif what == "heal":
            bench.heal()
        elif what == "slow":
            node.slow_disk = not node.slow_disk
        elif what == "cut" and bench.links:
            bench.cut(*rng.choice(sorted(bench.links)))
        elif what == "transfer":
            leader = bench.leader()
            if leader is not None:
                self.tolerant(leader.core.transfer, rng.choice(list(bench.nodes)), leader.now_ms, token=bench.token())
        elif what == "members" and self.changes:
            self.change_members()
        if self.manual and rng.random() < 0.3:
            self.promote()

    def promote(self):
        """An operator, where nobody is elected; never by force."""
        node = self.rng.choice(self.bench.living() or [None])
        if node is not None:
            self.tolerant(node.core.promote, node.now_ms, token=self.bench.token())

    def change_members(self):
        leader, rng = self.bench.leader(), self.rng
        if leader is None:
            return
        names = list(self.bench.nodes)
        rng.shuffle(names)
        count = rng.randrange(1, len(names))
        kinds = {"add": (), "learners": ()}
        for name in names[:count]:
            kind = rng.choice(["add", "learners"])
            kinds[kind] = (*kinds[kind], name)
        self.tolerant(leader.core.change_members, leader.now_ms, leader.wall_ms, token=self.bench.token(), **kinds)

    @staticmethod
    def tolerant(verb, *args, **kwargs):
        with contextlib.suppress(MmreplError):
            verb(*args, **kwargs)

    # -- looking

    def look(self):
        """What was answered since the last look."""
        for node in self.bench.nodes.values():
            at = self.looked.get(node.name, 0)
            for event in node.events[at:]:
                if isinstance(event, Answered) and event.token in self.written:
                    self.acknowledged[event.token] = event.index
                    key, value = self.written[event.token]
                    self.seen[key] = max(self.seen[key], self.value_at(event.index, key, value))
                elif isinstance(event, ReadReady) and event.token in self.reads:
                    name, key, least, level = self.reads.pop(event.token)
                    value = self.bench[name].value(key) or 0
                    if self.bench[name].core is not None:
                        assert value >= least, (
                            f"a {level.value} read at {name} saw {value} of {key!r}, {least} was acknowledged before"
                        )
                elif isinstance(event, RoleChanged) and event.role is Role.LEADER:
                    self.check_completeness(node, event.term)
                for session in self.sessions.values():
                    if isinstance(event, Answered) and event.token == session[2] and event.token is not None:
                        session[2] = None
                        if session[0] is None:
                            session[0] = event.index
                        else:
                            session[3] = None
            self.looked[node.name] = len(node.events)
        self.check_matching()

    def value_at(self, index, key, value):
        """Writes of a key are not in order of their values: what counts is the latest of those acknowledged."""
        return value

    def check_completeness(self, node, term):
        """The log of a new leader has every entry that was committed in an earlier term (Raft §5.4)."""
        core = node.core
        if core is None or core.term != term:
            return
        for index, (entry_term, body) in self.bench.committed.items():
            if index > core.log.start and entry_term < term:
                assert index <= core.log.last, f"{node.name} leads term {term} without the committed entry at {index}"
                assert (core.log.term_at(index), core.log.body(index)) == (entry_term, body)

    def check_matching(self):
        """Two logs with the same term at an index are equal up to there (Raft §5.3)."""
        living = self.bench.living()
        for one in living:
            for other in living:
                if one.name >= other.name:
                    continue
                a, b = one.core.log, other.core.log
                for index in range(min(a.last, b.last), max(a.start, b.start), -1):
                    if a.term_at(index) == b.term_at(index):
                        first = max(a.start, b.start) + 1
                        assert a.slice(first, index)[:2] == b.slice(first, index)[:2], (
                            f"{one.name} and {other.name} differ below {index}"
                        )
                        break

    def calm_down(self):
        """Everything is repaired, and then the cluster comes to one state that has all that was acknowledged."""
        bench = self.bench
        bench.heal()
        for node in bench.nodes.values():
            node.slow_disk = False
            while node.commits and node.core is not None:
                bench.commit(node)
            if node.core is None:
                node.start()
        bench.run(500)
        for _ in range(40):
            if self.manual and bench.leader() is None:
                self.promote()
                bench.run(1_000)
        bench.run_until(lambda: bench.leader() is not None and bench.leader().core.tenure.has_committed, ms=10_000)
        self.look()
        members = {member.name for member in bench.leader().core.history.current.members}
        bench.run_until(lambda: all(node.core.applied == bench.leader().core.log.last
                                    for node in bench.living() if node.name in members), ms=10_000)  # fmt: skip
        self.look()
        states = [state for name, state in bench.states().items() if name in members]
        assert all(state == states[0] for state in states), "states differ"
        for token, index in self.acknowledged.items():
            key, value = self.written[token]
            if (
                index not in bench.committed
            ):  # committed and cut off the log in one turn, everywhere: values of a key rise
                assert bench.leader().value(key) >= value, f"{key}={value} was acknowledged at {index} and is lost"
                continue
            assert encode(value) in bench.committed[index][1], f"{key}={value} was acknowledged and is lost"
        self.check_sessions()

    def check_sessions(self):
        """Each request of a session is applied at most once: its value was written by one entry."""
        core = self.bench.leader().core
        for client in "xy":
            found = core.state.get("", f"session-{client}")
            if found is not None and found[1] in self.bench.committed:
                assert found[0] in self.bench.committed[found[1]][1]


def live(seed, steps=600, **how):
    """One life; returns it, for what a test wants to know of it."""
    life = Life(seed, **how)
    life.run(steps)
    return life
