"""Numbers for writes: spent by success, kept after a definite failure, given up in doubt, bounded, not kept for ever."""

from __future__ import annotations

import asyncio

import pytest

from mmrepl import errors
from mmrepl.client import numbering
from mmrepl.client.numbering import Tickets


class Log:
    """Opens sessions, numbered from 1."""

    def __init__(self):
        self.opened = 0

    async def open(self):
        await asyncio.sleep(0)
        self.opened += 1
        return self.opened


async def use(tickets, error=None):
    """One write; gives the session and number that it had."""
    had = None
    try:
        async with tickets.take() as ticket:
            had = (ticket.session, ticket.request)
            if error is not None:
                raise error
    except (errors.MmreplError, RuntimeError):
        pass
    return had


def doubtful():
    error = errors.Unavailable("who knows")
    assert not error.definite
    return error


async def test_the_life_of_a_number():
    """Success spends it, a definite failure does not, doubt costs the session; so does whatever is not ours."""
    tickets = Tickets(Log().open)
    assert [await use(tickets), await use(tickets)] == [(1, 1), (1, 2)]
    assert [await use(tickets, errors.InvalidValue("no")), await use(tickets)] == [(1, 3), (1, 3)]
    assert [await use(tickets, doubtful()), await use(tickets)] == [(1, 4), (2, 1)]
    assert [await use(tickets, RuntimeError()), await use(tickets)] == [(2, 2), (3, 1)]


async def test_requests_of_a_session_go_one_at_a_time():
    """Writes at once have sessions of their own, as many as are allowed; the others wait for one."""
    log = Log()
    tickets = Tickets(log.open, 3)
    at_work, most = set(), 0

    async def write():
        nonlocal most
        async with tickets.take() as ticket:
            assert ticket.session not in at_work
            at_work.add(ticket.session)
            most = max(most, len(at_work))
            await asyncio.sleep(0)
            at_work.discard(ticket.session)

    await asyncio.gather(*(write() for _ in range(30)))
    assert (most, log.opened) == (3, 3)


async def test_a_session_that_nobody_used_for_long_is_not_used_again(monkeypatch):
    """The cluster may have forgotten it by now."""
    tickets = Tickets(Log().open)
    assert await use(tickets) == (1, 1)
    monkeypatch.setattr(numbering, "IDLE_S_MAX", 0.0)
    assert await use(tickets) == (2, 1)


async def test_a_session_that_cannot_be_opened_leaves_room_for_the_next():
    """The error is the caller's; nothing is used up."""

    async def fail():
        raise errors.WaitTimeout("no primary")

    tickets = Tickets(fail, 1)
    for _ in range(3):
        with pytest.raises(errors.WaitTimeout):
            async with tickets.take():
                pass
