"""
Numbers for writes, so that the log of a single-master cluster can tell a repetition (Raft thesis, §6.3).

A client session of the log takes requests one at a time, numbered from 1, and answers the latest one again without
applying it twice. So each write that is under way needs a session of its own: they are opened when they are needed,
used in turn, and bounded in number; beyond the bound writes wait. A session whose last request is in doubt is given
up, and so is one that has not been used for so long that the cluster may have forgotten it.

(Not to be confused with `mmrepl.client.sessions`, which are about what a user has seen.)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from attrs import define

from mmrepl.errors import MmreplError

TICKETS_MAX = 64
"""Numbered writes under way at once."""

IDLE_S_MAX = 300.0
"""A session that was not used for so long is not used any more; clusters remember them for an hour."""


@define
class Ticket:
    """A session of the log, and the number of its next request."""

    session: int
    request: int = 1
    used_s: float = 0.0  # when it was given back


class Tickets:
    """The sessions of one client. *open_session* opens one in the log and gives its number."""

    def __init__(self, open_session: Callable[[], Awaitable[int]], tickets_max: int = TICKETS_MAX) -> None:
        self._open_session = open_session
        self._free: list[Ticket] = []  # the latest used last
        self._room = asyncio.Semaphore(tickets_max)

    @asynccontextmanager
    async def take(self) -> AsyncIterator[Ticket]:
        """
        A ticket for one write, which is made inside, with all its repetitions.

        After success the number is spent. After an error that is definite it is not, and serves the next write. After
        any other end the whole session is given up.
        """
        loop = asyncio.get_running_loop()
        async with self._room:
            self._free = [ticket for ticket in self._free if loop.time() - ticket.used_s < IDLE_S_MAX]
            ticket = self._free.pop() if self._free else Ticket(await self._open_session())
            try:
                yield ticket
            except MmreplError as error:
                if not error.definite:
                    raise
                self._give_back(ticket, loop.time())
                raise
            ticket.request += 1
            self._give_back(ticket, loop.time())

    def _give_back(self, ticket: Ticket, now_s: float) -> None:
        ticket.used_s = now_s
        self._free.append(ticket)
