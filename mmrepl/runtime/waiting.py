"""
Who waits for a node, and who listens to it.

A writer waits until its write is durable, or acknowledged by others; anybody may wait for news; listeners are called
as things happen. All of it on the node's event loop. What a listener raises is its own affair.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from mmrepl.log.oplog import OpLog
from mmrepl.replication.local import LocalCore
from mmrepl.transport.guard import report

T = TypeVar("T")


class Waiting:
    """Futures of a node. Each ends: fulfilled, or failed with the error that ended the node or its disk."""

    def __init__(self) -> None:
        self._durable: deque[tuple[OpLog, int, asyncio.Future[None]]] = deque()  # positions ascend within one log
        self._acks: dict[object, asyncio.Future[None]] = {}
        self._news = asyncio.Event()  # replaced whenever there was some
        self._is_awaited = False  # whether anybody waits for that: most turns tell nobody

    def durable_at(self, log: OpLog, position: int) -> asyncio.Future[None]:
        """Done when everything before *position* of *log* is durable, or the store that began again after it."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._durable.append((log, position, future))
        return future

    def moved(self, local: LocalCore) -> None:
        """More of the log has become durable."""
        waiting, log = self._durable, local.store.log
        while waiting and (local.is_settled if waiting[0][0] is not log else waiting[0][1] <= local.durable):
            _finish(waiting.popleft()[2])

    def expect(self, token: object) -> asyncio.Future[None]:
        """Done when *token* is `acknowledged`; `forget` it in any case."""
        future = self._acks[token] = asyncio.get_running_loop().create_future()
        return future

    def acknowledged(self, token: object) -> None:
        """The write that *token* stands for has as many acknowledgements as were asked for."""
        future = self._acks.get(token)
        if future is not None:
            _finish(future)

    def forget(self, token: object) -> None:
        """Nobody waits for *token* any longer."""
        self._acks.pop(token, None)

    def fail(self, error: Exception) -> None:
        """Nothing of what is waited for will come."""
        futures = [future for _, _, future in self._durable]
        self._durable.clear()
        for future in [*futures, *self._acks.values()]:
            if not future.done():
                future.set_exception(error)

    async def news(self) -> None:
        """Return when `stir` is called."""
        self._is_awaited = True
        await self._news.wait()

    def stir(self) -> None:
        """Wake everybody who waits for news."""
        if self._is_awaited:
            self._is_awaited = False
            self._news.set()
            self._news = asyncio.Event()


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Listeners(Generic[T]):
    """Callables that are told of one kind of event, in the order in which they came."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[T], None]] = []

    def add(self, listener: Callable[[T], None]) -> Callable[[], None]:
        """Returns what takes it out again; that may be called more than once."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    def tell(self, event: T) -> None:
        """What a listener raises is reported to the loop: the node goes on, the others are told."""
        for listener in list(self._listeners):
            try:
                listener(event)
            except Exception as error:  # noqa: BLE001 - the application's code
                report(asyncio.get_running_loop(), "a listener", error, "the node goes on")
