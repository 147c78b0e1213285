"""MM.REMOVE and MM.BACKUP."""

from __future__ import annotations

import asyncio

import pytest

from mmrepl import errors
from mmrepl.runtime.resp.client import Client


async def ask(port, *words):
    def call():
        with Client(port.address) as client:
            return client.call(*words)

    return await asyncio.to_thread(call)


async def test_members_are_taken_out(serve, backend):
    """The node is told who; who is no member is refused by name."""
    port = await serve(backend)
    assert await ask(port, "MM.REMOVE", "lima") == "OK"
    assert backend.removed == ["lima"]
    with pytest.raises(errors.UsageError, match="oslo"):
        await ask(port, "MM.REMOVE", "oslo")


async def test_a_backup_is_answered_when_it_stands(serve, backend):
    """The answer is its path; what was in the way is the caller's mistake."""
    port = await serve(backend)
    assert await ask(port, "MM.BACKUP", "monday.db") == b"/folder/monday.db"
    with pytest.raises(errors.UsageError, match="no backup"):
        await ask(port, "MM.BACKUP", "taken")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../../etc/passwd", "/tmp/x", "a\\b", "a\nb", "x" * 201])
async def test_a_backup_goes_nowhere_else(serve, backend, name):
    """A client cannot make the node write outside of its own folder."""
    port = await serve(backend)
    with pytest.raises(errors.UsageError, match="backup"):
        await ask(port, "MM.BACKUP", name)
