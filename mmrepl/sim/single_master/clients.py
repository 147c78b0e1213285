"""
What clients do in a single-master world: write at the primary, retry, read at any node at any level.

A client asks one node who takes writes, and goes there, if the network lets it. A write that was not answered is tried
again under the same session and request, so that it is applied once. Of writes that a quorum acknowledges and of
linearizable reads the calls are recorded, to be judged; writes that are acknowledged earlier have tables of their own.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from random import Random

from attrs import define

from mmrepl.errors import MmreplError
from mmrepl.sim.mix import Mix
from mmrepl.sim.single_master.cluster import SingleMasterCluster
from mmrepl.sim.single_master.node import LogNode
from mmrepl.sim.wing_gong import Call
from mmrepl.single_master import events
from mmrepl.single_master.options import Ack, ReadLevel
from mmrepl.values import encode

RETRY_MS = (50, 400)
"""A client tries again after so long."""

PATIENCE_MS = 6_000
"""And gives up after so long: its write may or may not have happened."""

SHORT = 16
"""Payloads up to so many bytes are a number, and no other write has the same."""

CROWD_MS = 1_600
"""So long a crowd is there."""

LEVELS = {"": "quorum", "early": "async", "some": "one", "whole": "all"}
"""The acknowledgement that writes to each table ask for."""


@define(eq=False)
class Client:
    """One client: one write at a time, each with a number of its session, or *plain*, and then never repeated."""

    number: int
    home: str
    session: int = 0
    request: int = 0
    busy: bool = False
    plain: bool = False
    hasty: bool = False  # it repeats a request that is not answered at once, here or elsewhere


@define(eq=False)
class _Write:
    client: Client
    table: str
    key: str
    payload: bytes | None
    ack: Ack
    called_ms: int
    tries: int = 0
    done: bool = False


class LogWorkload:
    """Draws and makes operations; each is planned in the world."""

    def __init__(
        self, cluster: SingleMasterCluster, mix: Mix, operations: int, duration_ms: int, *, leases: bool
    ) -> None:
        self._cluster = cluster
        self._mix = mix
        self._rng: Random = cluster.world.dice("workload")
        self._serial = self._gathered = 0
        self._leases = leases  # whether reads under a lease are promised to be linearizable: not when clocks drift
        self.clients = [Client(number, cluster.names[number % len(cluster.names)]) for number in range(4)]
        self._hasty = [Client(8 + each, cluster.names[0], hasty=True) for each in range(2)]
        self.outcomes: Counter[str] = Counter()
        start = cluster.now_ms
        for _ in range(operations):
            cluster.world.at(start + self._rng.randrange(duration_ms), self.one)

    def gather(self, old: str) -> None:
        """
        Clients gather where the office changes hands: for a second they read and write one key, at the others and at
        *old*, which may be deposed and not know it.
        """
        rng, cluster = self._rng, self._cluster
        self._gathered += 1
        key = f"hot{self._gathered}"
        others = [name for name in cluster.names if name != old] or [old]
        number = 10 * self._gathered
        early, *crowd = (Client(number + each, old) for each in range(6))
        writers, reader, at_old = crowd[:2], crowd[2], crowd[3:]
        for beat in range(40):
            at = others[rng.randrange(len(others))]
            after = 25 * beat + rng.randrange(25)
            if rng.random() < 0.7:
                cluster.world.after(after, self._read_hot, at_old[beat % 2], old, key)
            else:
                cluster.world.after(after, self._read_hot, reader, at, key)
            cluster.world.after(after + 5, self._write_hot, writers[beat % 2], at, "", key)
            if beat % 8 == 0:
                cluster.world.after(after + 10, self._write_hot, early, old, "early", key)

    def _read_hot(self, client: Client, at: str, key: str, level: ReadLevel | None = None) -> None:
        if client.busy:
            return  # of many reads that wait at once no order could be found in time
        client.home = at
        if level is None:
            level = ReadLevel.LEADER if self._rng.random() < 0.5 else ReadLevel.LINEARIZABLE
        self._read_at(self._cluster.nodes[at], client, "", key, level, alone=True)

    def _write_hot(self, client: Client, at: str, table: str, key: str) -> None:
        if not client.hasty or not client.busy:
            client.home = at
        if not client.busy:
            self._serial += 1
            client.busy = True
            payload = encode(self._serial)
            self._open_or_write(_Write(client, table, key, payload, LEVELS[table], self._cluster.now_ms))

    def come_back(self) -> None:
        """For the second act, in which clocks run true: those who repeat in haste open their sessions."""
        self._leases = True
        for client in self._hasty:
            client.home = self._cluster.names[0]
            self._write_hot(client, client.home, "", "hasty")

    def crowd(self, old: str, *, every_ms: int = 12) -> None:
        """
        As `gather`, of more patient and of more hasty people: some only ever read under the lease, some write without
        a session and are answered before others hold what they wrote, some repeat a request at once.
        """
        rng, cluster = self._rng, self._cluster
        self._gathered += 1
        key = f"hot{self._gathered}"
        others = [name for name in cluster.names if name != old] or [old]
        number = 10 * self._gathered
        people = [Client(number + each, old, plain=True) for each in range(9)]
        leases, asking, elsewhere, writers, early = people[:2], people[2], people[3], people[4:7], people[7:]
        for beat in range(CROWD_MS // every_ms):
            at = others[rng.randrange(len(others))]
            after = every_ms * beat + rng.randrange(every_ms)
            cluster.world.after(after, self._read_hot, leases[beat % 2], old, key, ReadLevel.LEADER)
            if beat % 3 == 0:
                cluster.world.after(after, self._read_hot, asking, old, key, ReadLevel.LINEARIZABLE)
                cluster.world.after(after, self._read_hot, elsewhere, at, key, ReadLevel.LINEARIZABLE)
                cluster.world.after(after + 2, self._write_hot, early[beat % 2], old, ("early", "some")[beat % 2], key)
            cluster.world.after(after + 1, self._write_hot, writers[beat % 3], at if beat % 4 else old, "", key)
            hasty = self._hasty[beat % 2]
            cluster.world.after(after + 3, self._write_hot, hasty, (old, at)[beat % 2], "", f"hasty{beat % 2}")

    # -- writing

    def one(self) -> None:
        """One operation of one client, if it waits for nothing."""
        rng = self._rng
        client = self.clients[rng.randrange(len(self.clients))]
        client.home = self._cluster.names[rng.randrange(len(self._cluster.names))]
        table = ("", "", "", "early", "some", "whole")[rng.randrange(6)]
        key = f"k{rng.randrange(max(2, self._mix.key_count // 3))}"
        if rng.random() < 0.45:
            self._read(client, key)
        elif not client.busy:
            self._serial += 1
            value = bytes([self._serial % 251]) * 3_000 if rng.random() < self._mix.large_share else self._serial
            payload = None if rng.random() < 0.15 else encode(value)
            client.busy = True
            self._open_or_write(_Write(client, table, key, payload, LEVELS[table], self._cluster.now_ms))

    def _primary(self, client: Client) -> LogNode | None:
        """Whom the client's home names, if it can be reached."""
        home = self._cluster.nodes[client.home]
        if not home.is_up or home.paused:
            return None
        name = home.running.leader
        node = self._cluster.nodes.get(name)
        network = self._cluster.network
        if node is None or not node.is_up or node.paused:
            return None
        if name != client.home and (network.path(client.home, name).holds or network.path(name, client.home).holds):
            return None
        return node

    def _open_or_write(self, write: _Write) -> None:
        """The first write of a client opens its session."""
        client, node = write.client, self._primary(write.client)
        if node is None:
            self._again(write)
            return
        if client.plain:
            self._write(write, 0)
            return
        if client.session:
            client.request += 1
            self._write(write, client.request)
            return

        def opened(event: object) -> None:
            if isinstance(event, events.Answered):
                client.session, client.request = event.index, 1
                self._write(write, 1)
            else:
                self._again(write)

        try:
            node.ask(lambda core, token: core.open_session(*node.now(), token=token), opened)
        except MmreplError:
            self._again(write)

    def _again(self, write: _Write) -> None:
        if self._given_up(write, "never sent", at_once=write.client.plain):
            return
        self._cluster.world.after(self._rng.randint(*RETRY_MS), self._open_or_write, write)

    def _given_up(self, write: _Write, outcome: str, *, at_once: bool) -> bool:
        if not at_once and self._cluster.now_ms - write.called_ms < PATIENCE_MS:
            return False
        write.client.busy = False
        self.outcomes[outcome] += 1
        return True

    def _write(self, write: _Write, request: int) -> None:
        client, node = write.client, self._primary(write.client)
        if write.done:
            return
        if node is None:
            self._retry(write, request)
            return
        term = node.running.term

        def answered(event: object) -> None:
            if write.done:
                return
            if isinstance(event, events.Answered):
                self._finish(write, node, event, term)
            elif isinstance(event, events.Failed) and "Session" in type(event.error).__name__:
                client.session = 0  # forgotten: whether it was applied nobody knows any more
                self._record(write, None, node.name)
                write.done, client.busy = True, False
            else:
                self._retry(write, request)

        try:
            node.ask(
                lambda core, token: core.propose(
                    write.table, write.key, write.payload, *node.now(), token=token, ack=write.ack,
                    session=client.session if request else 0, request=request,
                ),
                answered,
            )  # fmt: skip
            write.tries += 1
            if client.hasty:
                self._cluster.world.after(self._rng.choice((15, 60, 250)), self._hurry, write, request)
        except MmreplError:
            self._retry(write, request)

    def _retry(self, write: _Write, request: int) -> None:
        if self._given_up(write, "unknown", at_once=not request):
            write.done = True
            if write.tries:
                self._record(write, None, "")
            # its request may still be applied: the next write must not be taken for a retry of this one
            return
        self._cluster.fired["retried"] += write.tries > 0
        self._cluster.world.after(self._rng.randint(*RETRY_MS), self._write, write, request)

    def _hurry(self, write: _Write, request: int) -> None:
        """It is not answered yet: ask again, perhaps elsewhere. Both may be answered."""
        if write.done or write.tries > 8:
            return
        if self._rng.random() < 0.3:
            write.client.home = self._cluster.names[self._rng.randrange(len(self._cluster.names))]
        self._cluster.fired["retried"] += 1
        self._see(write)
        self._write(write, request)

    def _see(self, write: _Write) -> None:
        """Look where a repeated write stands, at every node: it must have happened once."""
        if write.payload is None or len(write.payload) > SHORT:
            return  # others may have written the same
        for node in self._cluster.up():
            found = node.running.get(write.table, write.key)
            if found is not None and found[0] == write.payload:
                node.note_shown((write.table, write.key), write.payload, found[1])

    def _finish(self, write: _Write, node: LogNode, event: events.Answered, term: int) -> None:
        write.done, write.client.busy = True, False
        self.outcomes["acknowledged"] += 1
        log = node.running.log if node.is_up else None
        known = log is not None and log.start < event.index <= log.last
        if log is not None and (known or write.tries == 1):
            # Of a write that was repeated the entry may be an older one, of an older term.
            node.note_acknowledged(event.index, log.term_at(event.index) if known else term, write.ack)
        if write.tries > 1:
            for after in (0, 100, 1_000):
                self._cluster.world.after(after, self._see, write)
        self._record(write, self._cluster.now_ms, node.name)

    def _record(self, write: _Write, answered: int | None, node: str) -> None:
        if write.ack in {"quorum", "all"}:
            place = (write.table, write.key)
            client = f"client {write.client.number}"
            self._cluster.history.calls.append(
                Call(client, place, True, write.payload, write.called_ms, answered, node)
            )

    def scribble(self, node: LogNode, key: str) -> None:
        """Somebody writes at *node*, and waits for nothing."""
        self._serial += 1
        payload = encode(self._serial)
        with suppress(MmreplError):
            node.ask(lambda core, token: core.propose("", key, payload, *node.now(), token=token, ack=0), _ignore)

    # -- reading

    def _read(self, client: Client, key: str) -> None:
        node = self._cluster.nodes[client.home]
        levels = [ReadLevel.LINEARIZABLE, ReadLevel.LINEARIZABLE, ReadLevel.LEADER, ReadLevel.BOUNDED, ReadLevel.LOCAL]
        level = levels[self._rng.randrange(len(levels))]
        if level is ReadLevel.LEADER:
            primary = self._primary(client)
            node = primary if primary is not None else node
        self._read_at(node, client, ("", "whole")[self._rng.randrange(2)], key, level)

    def _read_at(
        self, node: LogNode, client: Client, table: str, key: str, level: ReadLevel, *, alone: bool = False
    ) -> None:
        called = self._cluster.now_ms

        def ready(event: object) -> None:
            client.busy = client.busy and not alone
            if not isinstance(event, events.ReadReady):
                self.outcomes["read failed"] += 1
                return
            self.outcomes["read"] += 1
            self._cluster.fired[f"{level.value} read"] += 1
            found = node.running.get(table, key)
            if level is ReadLevel.LINEARIZABLE or (level is ReadLevel.LEADER and self._leases):
                payload = None if found is None else found[0]
                now = self._cluster.now_ms
                self._cluster.history.calls.append(
                    Call(f"client {client.number}", (table, key), False, payload, called, now, node.name)
                )

        if not node.is_up or node.paused:
            return
        bounds = {"max_entries": 5} if level is ReadLevel.BOUNDED else {}
        try:
            client.busy = client.busy or alone
            node.ask(lambda core, token: core.read(level, node.now()[0], token=token, **bounds), ready)
        except MmreplError:
            client.busy = client.busy and not alone
            self.outcomes["read refused"] += 1


def _ignore(_event: object) -> None:
    """Nobody wants to know."""
