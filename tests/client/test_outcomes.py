"""Answers become values, or an error that says which node gave what; never anything else."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrepl import errors
from mmrepl.causality.dot import Dot
from mmrepl.client.client import Client
from mmrepl.client.outcomes import packed_value, page, seen_value, whole_read, written
from mmrepl.types import NodeId
from mmrepl.wire.resp import Failure, encode
from mmrepl.wire.resp_errors import error_of
from mmrepl.wire.seen import LogPosition
from tests.client.servers import QUICK, scripted, until

ANSWERS = st.recursive(
    st.none() | st.integers() | st.binary(max_size=8) | st.floats() | st.booleans(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [b"dot", b"context", b"seen", b"present", b"value", b"siblings", b"resolver", b"timestamp"]
            ),
            inner,
        )
    ),
    max_leaves=12,
)


READERS = [written, whole_read, page, partial(packed_value, default=None), partial(seen_value, default=None)]


@given(ANSWERS, st.sampled_from(READERS))
def test_a_strange_answer_is_an_error_that_names_the_node(answer, read):
    """Whatever a node sends in the place of an answer; and nobody knows then what it did."""
    error = None
    try:
        read(answer, "127.0.0.1:1")
    except errors.FrameError as raised:
        error = raised
    assert error is None or (not error.definite and "127.0.0.1:1" in str(error))


def test_a_receipt():
    """The dot, the context that was given for it, and where."""
    answer = {b"dot": b"paris~1:7", b"context": b"-", b"seen": b"3.7"}
    receipt = written(answer, "here")
    assert (receipt.dot, receipt.seen, receipt.node) == (Dot(NodeId("paris", 1), 7), LogPosition(3, 7), "here")
    assert not receipt.context.vector


@pytest.mark.parametrize(
    "noise",
    [b"hello\r\n", b"*1\r\n" * 100, b"$99999999999\r\n", b"+OK\r\n+OK\r\n", b"%1\r\n+a\r\n", b":x\r\n", b"x" * 70_000],
)
async def test_a_node_that_talks_nonsense_costs_itself_a_connection(noise):
    """The call fails, or waits in vain for the rest of an answer; the next one, elsewhere, is answered."""
    async with (
        scripted("replica", "primary") as (a, b),
        Client([a.address, b.address], reads="replica", **QUICK) as client,
    ):
        await until(lambda: all(row["up"] for row in client.status()))
        await client.put("k", 1)
        a.trouble["MM.GET"] = [noise] * 3
        outcomes = await asyncio.gather(*(client.get("k", timeout=0.05) for _ in range(3)), return_exceptions=True)
        assert all(outcome == 1 or outcome.call.key == "k" for outcome in outcomes)
        assert await client.get("k", reads="primary") == 1


async def test_an_answer_that_nobody_asked_for_ends_the_connection():
    """Or every later answer would go to the wrong caller."""
    async with scripted("primary") as (a,), Client(a.address, connections=1, **QUICK) as client:
        await client.put("k", 1)
        a.trouble["MM.GET"] = [encode(b"\x07", 3) + encode(b"\x08", 3)]
        assert await client.get("k") == 7
        assert await client.get("k") == 1
        assert client.status()[0]["connections"] == 1


async def test_a_session_of_another_cluster_is_told_so():
    """After a write that the node took all the same, for that guarantee was off, the error is indefinite."""
    async with scripted("primary") as (a,), Client(a.address, **QUICK) as client:
        foreign = "s1:W1siYX4xIiwxXV0:-"
        session = client.session(foreign, monotonic_writes=False)
        with pytest.raises(errors.UsageError, match="different modes") as caught:
            await session.put("k", 1)
        assert not caught.value.definite


async def test_what_things_call_themselves():
    """A table, a session, a client: each says whose it is."""
    async with scripted("primary") as (a,), Client(a.address, **QUICK) as client:
        assert repr(client) == f"<Client of {a.address}, 1 of 1 nodes up>"
        assert repr(client.session()) == f"<session of {client!r}>"
        assert repr(client.session().table("carts")) == f"<table 'carts' of {client!r}>"
        assert client.session(monotonic_reads=False).guarantees.monotonic_reads is False
        assert (client.name, client.table("carts").name) == ("", "carts")
        for wrong in (lambda: client.table(7), lambda: client.session("x"), lambda: client.session(reads="best")):
            with pytest.raises(errors.UsageError):
                wrong()
        with pytest.raises(errors.UsageError, match="name"):
            await client.command(writes=False)
        with pytest.raises(errors.UsageError):
            await client.put("k", 1, durability="perhaps")


async def test_a_slow_reader_is_not_sent_more_than_it_takes():
    """When the network takes no more, calls wait for room instead of filling the memory."""
    async with scripted("primary") as (a,), Client(a.address, connections=1, **QUICK) as client:
        await client.get("k")
        [connection] = client._dispatcher.endpoints[a.address].pool._open
        connection.pause_writing()
        waiting = asyncio.ensure_future(client.put("k", 1))
        await until(lambda: client._dispatcher.endpoints[a.address].pool._waiting)
        assert not waiting.done()
        connection.resume_writing()
        assert (await waiting).node == a.address


def test_an_error_answer_of_every_kind_has_a_class():
    """Codes that this version does not know are refusals of the port."""
    assert type(error_of(Failure("SOMETHING", "new"))) is errors.UsageError
    assert error_of(Failure("READONLY", "no")).primary == ""
