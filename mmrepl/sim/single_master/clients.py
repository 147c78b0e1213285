"""
What clients do in a single-master world: write at the primary, retry, read at any node at any level.

A client asks one node who takes writes, and goes there, if the network lets it. A write that was not answered is tried
again under the same session and request, so that it is applied once. Of writes that a quorum acknowledges and of
linearizable reads the calls are recorded, to be judged; writes that are acknowledged earlier have tables of their own.
"""

from __future__ import annotations

from collections import Counter
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

LEVELS = {"": "quorum", "early": "async", "some": "one", "whole": "all"}
"""The acknowledgement that writes to each table ask for."""


@define(eq=False)
class Client:
    """One client: one write at a time, each with a number of its session."""

    number: int
    home: str
    session: int = 0
    request: int = 0
    busy: bool = False


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

    def _read_hot(self, client: Client, at: str, key: str) -> None:
        if client.busy:
            return  # of many reads that wait at once no order could be found in time
        client.home = at
        level = ReadLevel.LEADER if self._rng.random() < 0.5 else ReadLevel.LINEARIZABLE
        self._read_at(self._cluster.nodes[at], client, "", key, level, alone=True)

    def _write_hot(self, client: Client, at: str, table: str, key: str) -> None:
        client.home = at
        if not client.busy:
            self._serial += 1
            client.busy = True
            payload = encode(self._serial)
            self._open_or_write(_Write(client, table, key, payload, LEVELS[table], self._cluster.now_ms))

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
        if self._given_up(write, "never sent"):
            return
        self._cluster.world.after(self._rng.randint(*RETRY_MS), self._open_or_write, write)

    def _given_up(self, write: _Write, outcome: str) -> bool:
        if self._cluster.now_ms - write.called_ms < PATIENCE_MS:
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
                    session=client.session, request=request,
                ),
                answered,
            )  # fmt: skip
            write.tries += 1
        except MmreplError:
            self._retry(write, request)

    def _retry(self, write: _Write, request: int) -> None:
        if self._given_up(write, "unknown"):
            write.done = True
            if write.tries:
                self._record(write, None, "")
            # its request may still be applied: the next write must not be taken for a retry of this one
            return
        self._cluster.fired["retried"] += write.tries > 0
        self._cluster.world.after(self._rng.randint(*RETRY_MS), self._write, write, request)

    def _finish(self, write: _Write, node: LogNode, event: events.Answered, term: int) -> None:
        write.done, write.client.busy = True, False
        self.outcomes["acknowledged"] += 1
        if node.is_up and write.tries == 1:
            log = node.running.log
            known = log.start < event.index <= log.last
            node.note_acknowledged(event.index, log.term_at(event.index) if known else term, write.ack)
        self._record(write, self._cluster.now_ms, node.name)

    def _record(self, write: _Write, answered: int | None, node: str) -> None:
        if write.ack in {"quorum", "all"}:
            place = (write.table, write.key)
            client = f"client {write.client.number}"
            self._cluster.history.calls.append(
                Call(client, place, True, write.payload, write.called_ms, answered, node)
            )

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
