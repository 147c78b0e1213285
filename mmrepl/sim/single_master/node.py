"""
A simulated node of a single-master cluster: a host with a replicated log, and all that is noted of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from zlib import crc32

from mmrepl.errors import ClosedError, StoreCorrupt
from mmrepl.sim.disk import SimStorage
from mmrepl.sim.host import SimHost
from mmrepl.sim.single_master.history import (
    Acknowledged,
    Committed,
    Cut,
    Installed,
    Kept,
    Led,
    Logged,
    Lost,
    Opened,
    Shown,
)
from mmrepl.single_master import events
from mmrepl.single_master.configuration import Configuration
from mmrepl.single_master.core import SingleMaster, open_single_master
from mmrepl.single_master.options import Role
from mmrepl.types import NodeId

if TYPE_CHECKING:
    from mmrepl.sim.single_master.cluster import SingleMasterCluster

WRITERS = frozenset({Role.LEADER, Role.PRIMARY})


class LogNode(SimHost[SingleMaster]):
    """One node over its lives."""

    def __init__(self, cluster: SingleMasterCluster, name: str, address: str, expected: tuple[str, ...]) -> None:
        super().__init__(cluster, name, address, expected, mesh=True, disk_ms=cluster.disk_ms)
        self.cluster = cluster
        self._answers: dict[object, Callable[[Any], None]] = {}
        self._seen_start = self._seen_start_term = self._seen_last = self._seen_commit = 0
        self._cut_until = 0  # where its log begins
        self._runs: list[tuple[int, int]] = []
        self._led = 0  # the term in which it was seen leading
        self.identity: NodeId | None = None  # who it was when it ran last; None when its disk has been lost since
        self.members: Configuration | None = None  # as it knew them last

    # -- lives

    def open(self) -> SingleMaster:
        """A damaged store is given up: its node begins anew, as another."""
        cluster = self.cluster
        rng = cluster.world.dice("core", self.name, str(self.life))
        while True:
            self._storage = SimStorage(self.disk)
            try:
                core = open_single_master(
                    self.name, self._storage, rng, cluster.options_of(self), limits=cluster.limits,
                    now_ms=self.clock.monotonic_ms(),
                )  # fmt: skip
                break
            except StoreCorrupt as error:
                cluster.fired["damage found"] += 1
                self.note("damaged", str(error))
                self.wiped()
                cluster.forgive(self.name, "damaged")
        if core.doubt is not None:
            cluster.forgive(self.name, core.doubt)
        core.bound(self.address)
        self.identity = core.node
        self._note_opened(core)
        self.note("started", core.node, core.term, core.log.last)
        return core

    def _note_opened(self, core: SingleMaster) -> None:
        """What the disk holds of what is known of it; what it holds beyond that is seen with the first look."""
        log = core.log
        runs = _after(self._runs, self._seen_start, log.start)
        agreed = log.start
        if runs and self._seen_start <= log.start:
            agreed = min(core.journal.durable, log.agree_until(log.start + 1, runs))
        self._seen_start, self._seen_start_term, self._seen_last = log.start, log.start_term, agreed
        self._cut_until, self._seen_commit = log.start, 0
        self._runs = log.runs(log.start + 1, agreed)
        self._led = 0
        now = self.cluster.world.now_ms
        self.cluster.history.add(Opened(now, self.name, str(core.node), log.start, log.start_term, agreed))
        self._note_log(log)

    def ended(self, why: str, *, power: bool) -> None:
        """Who waits for an answer will never get one."""
        del why, power
        answers, self._answers = self._answers, {}
        for answer in answers.values():
            answer(None)

    # -- what clients do

    def ask(self, start: Callable[[SingleMaster, object], object], answer: Callable[[Any], None]) -> object:
        """
        Start something in the core under a token; *answer* is called with the event, or None if the process ends.

        Returns what *start* does. Errors are the core's: nothing was begun then.
        """
        core = self.running
        if self.paused:
            raise ClosedError(f"{self.name} stands still: resume it first")
        token = object()
        given = start(core, token)
        self._answers[token] = answer
        self.looked()
        self._wake()
        return given

    def now(self) -> tuple[int, int]:
        """What its clocks show: monotonic and wall."""
        return self.clock.monotonic_ms(), self.clock.wall_ms()

    # -- what happens

    def looked(self, via: str = "") -> None:
        """See what became of the log, and who leads."""
        del via
        core = self.running
        self.members = core.history.current
        log = core.log
        if self._is_another(log, core.applied):
            self._note_installed(log)
        else:
            self._note_log(log)
        self._cut_until = log.start
        if core.role in WRITERS and core.term != self._led:
            self._led = core.term
            self.cluster.history.add(Led(self.cluster.world.now_ms, self.name, core.term, log.last))
            self.note("leads", core.term, log.last)
        if core.committed > self._seen_commit:
            self._seen_commit = core.committed
            self.cluster.history.add(Committed(self.cluster.world.now_ms, self.name, core.committed))
            self.note("committed", core.committed)

    def _is_another(self, log: Any, applied: int) -> bool:
        """Whether a snapshot took the place of the log. That of a promoted primary may end where ours began."""
        if log.start == self._seen_start:
            return bool(log.start_term != self._seen_start_term)
        return bool(log.start < self._seen_start or log.start > self._seen_last or applied == log.start == log.last)

    def _note_installed(self, log: Any) -> None:
        now = self.cluster.world.now_ms
        self.cluster.history.add(Installed(now, self.name, log.start, log.start_term, self._cut_until))
        self.cluster.fired["snapshot installed"] += 1
        self.note("installed", log.start)
        self._seen_start, self._seen_start_term, self._seen_last = log.start, log.start_term, log.start
        self._runs = []
        self._seen_commit = min(self._seen_commit, log.start)
        self._note_log(log)

    def _note_log(self, log: Any) -> None:
        if log.last == self._seen_last and (not self._runs or log.last_term == self._runs[-1][0]):
            return  # by log matching: the same index and term, the same log
        runs = _after(self._runs, self._seen_start, log.start)
        agreed = (
            log.agree_until(max(self._seen_start, log.start) + 1, runs) if runs else max(self._seen_start, log.start)
        )
        now = self.cluster.world.now_ms
        if agreed < self._seen_last:
            self.cluster.history.add(Cut(now, self.name, agreed))
            self.cluster.fired["log cut off"] += 1
            self.note("cut", agreed)
        if log.last > agreed:
            entries = tuple((log.term_at(i), crc32(log.body(i))) for i in range(agreed + 1, log.last + 1))
            self.cluster.history.add(Logged(now, self.name, agreed + 1, entries))
            self.note("logged", agreed + 1, log.last, log.last_term)
        self._seen_start, self._seen_start_term, self._seen_last = log.start, log.start_term, log.last
        self._runs = log.runs(log.start + 1, log.last)

    def notified(self, event: object) -> None:
        """An answer goes to whoever waits for it."""
        token = getattr(event, "token", None)
        if token is not None:
            answer = self._answers.pop(token, None)
            if answer is not None:
                answer(event)
            return
        if isinstance(event, events.BranchKept):
            self._note_branch(event.branch)
        self.note("event", event)

    def _note_branch(self, id: str) -> None:
        for info in self.running.branches():
            if info.id == id:
                now = self.cluster.world.now_ms
                self.cluster.fired["branch kept"] += 1
                self.cluster.history.add(Kept(now, self.name, info.fork + 1, info.last, info.terms))

    def note_acknowledged(self, index: int, term: int, ack: int | str) -> None:
        """A writer was answered."""
        self.cluster.history.add(Acknowledged(self.cluster.world.now_ms, self.name, index, term, ack))
        self.note("acked", index, term, ack)

    def put_back(self, copy: Any, doubt: str | None) -> None:
        """What it promised since the copy was made is forgotten: it will be another one when it is opened."""
        super().put_back(copy, doubt)
        self.identity = None

    def note_shown(self, place: tuple[str, str], payload: bytes, index: int) -> None:
        """Where a write stands that may have been repeated; not where the log is cut already."""
        log = self.running.log
        if log.start < index <= log.last:
            now = self.cluster.world.now_ms
            self.cluster.history.add(Shown(now, self.name, place, payload, index, log.term_at(index)))

    def wiped(self) -> None:
        """Nothing is left."""
        super().wiped()
        self.identity = self.members = None
        self.cluster.history.add(Lost(self.cluster.world.now_ms, self.name, "wiped"))


def _after(runs: list[tuple[int, int]], start: int, new_start: int) -> list[tuple[int, int]]:
    """Runs of the entries after *new_start*, given those after *start*."""
    skip = max(0, new_start - start)
    left = []
    for term, count in runs:
        taken = min(skip, count)
        skip -= taken
        if count > taken:
            left.append((term, count - taken))
    return left
