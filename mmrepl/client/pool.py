"""
The connections to one node: few, shared, opened when they are needed.

A call goes to the connection with the fewest under way. When even that one is busy another is opened beside it, up to
the limit; when all are full, calls wait in the order in which they came. What may take its time has a connection for
itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from mmrepl.client.connection import Connection, connect
from mmrepl.errors import ClosedError, MmreplError, Unavailable
from mmrepl.wire.resp import Reply

BUSY = 8
"""With so many calls under way on the least busy connection, another is opened if there may be one."""


class Pool:
    """
    At most *connections* to one node, each with at most *pipeline* calls under way.

    *lost* is called with the reason when a connection cannot be opened, or ends by itself.
    """

    def __init__(
        self,
        address: str,
        *,
        password: str | None,
        connections: int,
        pipeline: int,
        timeout: float,
        lost: Callable[[str], None],
    ) -> None:
        self.address = address
        self.opened_count = 0
        self._password = password
        self._limit = connections
        self._pipeline = pipeline
        self._timeout = timeout
        self._lost = lost
        self._open: list[Connection] = []
        self.opening: set[asyncio.Task[None]] = set()  # connections that are not up yet
        self._waiting: deque[asyncio.Future[None]] = deque()  # of calls without a connection, oldest first
        self._closed = False

    @property
    def size(self) -> int:
        """Connections that are open, or are being opened; never more than the limit."""
        return len(self._open) + len(self.opening)

    @property
    def under_way(self) -> int:
        """Calls without an answer."""
        return sum(connection.under_way for connection in self._open)

    def check(self) -> None:
        """Assert the invariants."""
        assert self.size <= self._limit
        assert all(connection.under_way <= self._pipeline for connection in self._open)
        assert not any(connection.ended for connection in self._open)

    async def ask(self, data: bytes, sending: Callable[[], None], *, exclusive: bool = False) -> Reply:
        """
        The answer to an encoded command, errors as `Failure`. *sending* is called when it goes on its way.

        Raises:
            Unavailable, UsageError: no connection could be opened; nothing was sent.
            ConnectionBroken: it ended before the answer; ``definite`` if nothing was sent.
        """
        connection = await self._take(exclusive=exclusive)
        sending()
        future = connection.ask(data, exclusive=exclusive)
        try:
            return await future
        except asyncio.CancelledError:
            future.cancel()
            connection.give_up()
            raise

    async def _take(self, *, exclusive: bool) -> Connection:
        while True:
            if self._closed:
                raise ClosedError("the client is closed")
            found = self._least_busy()
            if self.size < self._limit and (
                found is None or found.under_way >= BUSY or (exclusive and found.under_way)
            ):
                self._begin_opening()
            if found is not None:
                return found
            await self._room()

    def _least_busy(self) -> Connection | None:
        free = [connection for connection in self._open if connection.has_room]
        return min(free, key=lambda connection: connection.under_way, default=None)

    async def _room(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self._wake(1)  # it was our turn, and we do not take it
            raise

    def _wake(self, count: int) -> None:
        waiting = self._waiting
        while waiting and count > 0:
            future = waiting.popleft()
            if not future.done():
                future.set_result(None)
                count -= 1

    # -- opening

    def _begin_opening(self) -> None:
        task = asyncio.get_running_loop().create_task(self._open_one())
        self.opening.add(task)

    async def _open_one(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            connection = await connect(self.address, self._password, self._timeout, self._pipeline, self._changed)
        except MmreplError as error:
            self.opening.discard(task)
            if not self._open:
                self._fail(type(error), str(error))
            self._lost(str(error))
            return
        finally:
            self.opening.discard(task)
        if self._closed:
            connection.abort("the client is closed")
            return
        if connection.ended:
            self._lost("closed by the node")
            self._wake(1)
            return
        self.opened_count += 1
        self._open.append(connection)
        self._wake(self._pipeline)

    def _fail(self, kind: type[MmreplError], why: str) -> None:
        """Tell whoever waits for a connection; each gets an error of its own, to which its call is added."""
        waiting, self._waiting = self._waiting, deque()
        for future in waiting:
            if not future.done():
                error = kind(why)
                error.definite = True
                future.set_exception(error)

    def _changed(self, connection: Connection) -> None:
        if connection not in self._open:
            return  # it was never up, or is being cut: whoever does that tells those who wait
        if connection.ended:
            self._open.remove(connection)
            if not connection.retired:
                self._lost(f"a connection to {self.address} was lost")
            self._wake(1)
        elif self._waiting and connection.has_room:
            self._wake(1)

    # -- ending

    def cut(self, why: str) -> None:
        """The node is not to be trusted to answer: end every connection, and tell whoever waits."""
        connections, self._open = self._open, []
        for connection in connections:
            connection.abort(why)
        self._fail(Unavailable, f"{self.address} is down ({why})")

    def end(self) -> None:
        """End every connection, at once; calls under way fail. Idempotent."""
        self._closed = True
        self.cut("the client was closed")
        for task in self.opening:
            task.cancel()
