"""
Clients: each goes through its steps, one call at a time, and records what it was told.

They are written once, as coroutines, against a `World`; whether that one lives in virtual time or on a real network
they cannot tell.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Any, Protocol

from attrs import field, frozen

from mmrepl.compare.record import Mark, Outcome, Position, Record, RunRecord
from mmrepl.compare.workload import Workload
from mmrepl.values import encode


@frozen
class Answer:
    """What became of a call: its outcome, who answered, and what was said."""

    outcome: Outcome
    why: str = ""  # name of the error
    node: str = ""
    siblings: tuple[frozenset[str], ...] = ()  # items, of a read: one list, or several where siblings are shown
    live: int = 0  # siblings that the node holds behind that, shown or not
    context: Any = None  # of a read, for the write that follows it; what it is, only the world knows
    position: Position | None = None  # of a read
    mark: Mark | None = None  # of a write


class World(Protocol):
    """A cluster under one mode, and the clients' way to it."""

    run: RunRecord

    def now_ms(self) -> int:
        """Milliseconds since the run began."""

    def pause(self, ms: int) -> Awaitable[None]:
        """Let time pass."""

    async def read(self, home: str, key: str) -> Answer:
        """A read by a client whose home is the node *home*. Always ends."""

    async def write(self, home: str, key: str, items: list[str] | None, context: Any) -> Answer:
        """Write a list, or delete (None), over what a read's *context* showed; None: over whatever is there."""


@frozen
class Client:
    """One client, from the first step to the end of the workload."""

    number: int
    home: str
    world: World
    workload: Workload
    seed: int
    _serial: list[int] = field(factory=lambda: [0])

    async def live(self) -> None:
        """Go through the steps until the time is over."""
        world, end = self.world, self.workload.duration_ms
        for step in self.workload.of(self.seed, self.number):
            await world.pause(step.pause_ms)
            if world.now_ms() >= end:
                return
            if step.kind == "read":
                await self._read(step.key)
            elif step.kind == "delete":
                await self._write(step.key, None, frozenset(), None)
            elif step.kind == "put":
                await self._write(step.key, self._item(), frozenset(), None)
            else:
                answer = await self._read(step.key)
                if answer.outcome == "ok":
                    shown: frozenset[str] = frozenset().union(*answer.siblings)
                    await self._write(step.key, self._item(), shown, answer.context)

    def _item(self) -> str:
        self._serial[0] += 1
        return f"{self.number}-{self._serial[0]}"

    async def _read(self, key: str) -> Answer:
        record = Record(self.number, self.home, "read", key, self.world.now_ms())
        self.world.run.records.append(record)
        answer = await self.world.read(self.home, key)
        self._note(record, answer)
        record.shows = frozenset().union(*answer.siblings)
        record.siblings = answer.live
        record.position = answer.position
        return answer

    async def _write(self, key: str, item: str | None, shown: frozenset[str], context: Any) -> None:
        record = Record(self.number, self.home, "write", key, self.world.now_ms(), item=item)
        items = None if item is None else sorted(shown | {item})
        record.writes = None if items is None else frozenset(items)
        record.size_bytes = len(key) + (0 if items is None else len(encode(list(items))))
        self.world.run.records.append(record)
        answer = await self.world.write(self.home, key, items, context)
        self._note(record, answer)
        record.mark = answer.mark

    def _note(self, record: Record, answer: Answer) -> None:
        record.outcome, record.why, record.node = answer.outcome, answer.why, answer.node
        if answer.outcome != "unknown":
            record.answered_ms = self.world.now_ms()


def clients_of(world: World, workload: Workload, homes: Iterable[str], seed: int) -> list[Client]:
    """The clients of a workload, each with its home."""
    places = [home for home in homes for _ in range(workload.clients_a_node)]
    return [Client(number, home, world, workload, seed) for number, home in enumerate(places, 1)]
