"""
Who waits for which entry, and how many must hold it.

One queue for each level of acknowledgement, in order of the log, so that a turn answers from the front of each queue
and looks at nothing else. Writes whose answer depends on what came of them, those with a condition or of a client
session, wait for their application too, and in queues of their own.

Who is deposed answers everybody who waits: nobody can tell what will become of those entries.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from mmrepl.errors import AckTimeout, LeadershipLost, MmreplError, SessionExpired, StaleRequest
from mmrepl.single_master import state as outcomes
from mmrepl.single_master.entry import Entry
from mmrepl.single_master.events import Answered, Failed
from mmrepl.single_master.options import Ack
from mmrepl.single_master.state import State


class Waiter(NamedTuple):
    """Somebody who wrote."""

    place: int  # of the entry
    token: object
    deadline_ms: int


class Acks:
    """The waiting writers of one node. Mutable."""

    def __init__(self, notify: Callable[[object], None]) -> None:
        self._notify = notify
        self._plain: dict[Ack, deque[Waiter]] = {}
        self._applied: dict[Ack, deque[Waiter]] = {}
        self._watched: dict[int, Answered | Failed | None] = {}  # what came of entries whose writers want to know
        self._stopped: set[object] = set()
        self.count = 0

    def wait(self, index: int, token: object, ack: Ack, deadline_ms: int, *, until_applied: bool) -> None:
        """Answer *token* once the entry at *index*, higher than all before, is acknowledged as *ack* says."""
        queues = self._applied if until_applied else self._plain
        queue = queues.get(ack)
        if queue is None:
            queue = queues[ack] = deque()
        queue.append(Waiter(index, token, deadline_ms))
        if until_applied:
            self._watched[index] = None
        self.count += 1

    @property
    def beyond_quorum(self) -> bool:
        """Whether somebody waits for more than that the entry is committed: for replicas by number, or all."""
        return any(
            queue and ack not in {0, "quorum"}
            for queues in (self._plain, self._applied)
            for ack, queue in queues.items()
        )

    def stop(self, token: object) -> None:
        """Nobody waits for *token* any longer. Cost: proportional to those who wait."""
        queues = [*self._plain.values(), *self._applied.values()]
        if any(waiter.token == token for queue in queues for waiter in queue):
            self._stopped.add(token)

    def applied(self, index: int, entry: Entry, outcome: int, state: State) -> None:
        """An entry was applied: note what came of it, if somebody wants to know."""
        if index not in self._watched:
            return
        self._watched[index] = answer_of(index, entry, outcome, state)

    def answer(self, threshold: Callable[[Ack], int], applied: int) -> None:
        """Answer everybody whose entry is held by as many as asked for; *threshold* says how far that is, by level."""
        for ack, queue in self._plain.items():
            if queue:
                reached = threshold(ack)
                while queue and queue[0].place <= reached:
                    self._tell(queue.popleft(), None)
        for ack, queue in self._applied.items():
            if queue:
                reached = min(threshold(ack), applied)
                while queue and queue[0].place <= reached:
                    waiter = queue.popleft()
                    self._tell(waiter, self._watched.pop(waiter.place))

    def _tell(self, waiter: Waiter, found: Answered | Failed | None) -> None:
        self.count -= 1
        if self._stopped and waiter.token in self._stopped:
            self._stopped.discard(waiter.token)
        elif found is None:
            self._notify(Answered(waiter.token, waiter.place))
        elif isinstance(found, Answered):
            self._notify(Answered(waiter.token, found.index, found.applied))
        else:
            self._notify(Failed(waiter.token, found.error))

    def expire(self, now_ms: int, threshold: Callable[[int], int], wanted: Callable[[Ack], int]) -> None:
        """Tell those who have waited too long that their writes are indefinite; *threshold* counts who has an index."""
        for queues in (self._plain, self._applied):
            for ack, queue in queues.items():
                while queue and queue[0].deadline_ms <= now_ms:
                    waiter = queue.popleft()
                    confirmed, needed = threshold(waiter.place), wanted(ack)
                    self._fail(waiter, AckTimeout(
                        f"the entry at {waiter.place} was confirmed by {confirmed} members in time, {needed} were"
                        " wanted (ack): it is in the log and may yet be committed: do not repeat it blindly",
                        confirmed=confirmed, wanted=needed,
                    ))  # fmt: skip

    def _fail(self, waiter: Waiter, error: MmreplError) -> None:
        self._watched.pop(waiter.place, None)
        self.count -= 1
        if waiter.token in self._stopped:
            self._stopped.discard(waiter.token)
        else:
            self._notify(Failed(waiter.token, error))

    def depose(self, why: str) -> None:
        """This node does not lead any more: tell everybody."""
        waiters = [waiter for queues in (self._plain, self._applied) for queue in queues.values() for waiter in queue]
        for queues in (self._plain, self._applied):
            queues.clear()
        for waiter in sorted(waiters, key=lambda waiter: waiter.place):
            self._fail(waiter, LeadershipLost(
                f"{why}: the entry at {waiter.place} was not acknowledged before, and may or may not survive"
            ))  # fmt: skip

    def check(self) -> None:
        """Assert the invariants."""
        queues = [*self._plain.values(), *self._applied.values()]
        assert self.count == sum(map(len, queues))
        for queue in queues:
            places = [waiter.place for waiter in queue]
            assert places == sorted(set(places))
        assert set(self._watched) == {waiter.place for queue in self._applied.values() for waiter in queue}


def answer_of(index: int, entry: Entry, outcome: int, state: State) -> Answered | Failed:
    """What the writer of an entry is told once it is applied; its token is filled in later."""
    if outcome == outcomes.REPEATED:
        session = state.sessions[entry.session]
        return Answered(None, session.index, session.applied)
    if outcome == outcomes.STALE:
        return Failed(None, StaleRequest(
            f"request {entry.request} of session {entry.session} is older than its latest,"
            f" {state.sessions[entry.session].request}: requests of a session go one at a time"
        ))  # fmt: skip
    if outcome == outcomes.EXPIRED:
        return Failed(None, SessionExpired(
            f"session {entry.session} is not known: it expired, or never was; open another. Whether an earlier attempt"
            f" of request {entry.request} was applied, nobody can tell any more"
        ))  # fmt: skip
    return Answered(None, index, outcome == outcomes.APPLIED)
