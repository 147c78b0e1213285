"""What clients that go from node to node rely on: MM.ROLE, MM.GET, MM.WAIT, MM.AFTER, MM.IN."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from mmrepl import Node, errors
from mmrepl.causality.version_vector import VersionVector
from mmrepl.runtime.resp.commands import COMMANDS
from mmrepl.runtime.resp.session import Pending
from mmrepl.runtime.resp.table import LOOKUP
from mmrepl.types import NodeId
from mmrepl.wire.resp import Failure, ReplyReader, Simple
from mmrepl.wire.seen import LogPosition, parse_seen_token, seen_token
from tests.runtime.resp.conftest import Talk
from tests.runtime.resp.fake import FakeBackend

AHEAD = seen_token(VersionVector({NodeId("lima", 9): 5}))


def test_the_role(talk3, backend):
    """A node of the multi-master mode takes writes, and says what it has applied."""
    talk3("SET", "k", "v")
    role = talk3("MM.ROLE")
    assert role.pop(b"applied") == seen_token(backend.version).encode()
    assert role == {b"mode": b"multi-master", b"role": b"node", b"name": b"fake", b"primary": b"", b"term": 0}


@pytest.mark.parametrize("value", [None, True, 17, -0.0, "é", b"\xff", ["a", {"b": b"\x00"}]])
def test_values_go_there_and_back_exactly(talk3, value):
    """MessagePack in, the same MessagePack out: bytes, floats and None keep their types."""
    packed = msgspec.msgpack.encode(value)
    written = talk3("MM.PUT", "k", packed, "PACKED")
    assert talk3("MM.GET", "k") == packed
    assert talk3("MM.GET", "k", "SEEN") == [packed, written[b"seen"]]
    read = talk3("MM.READ", "k", "PACKED")
    assert read[b"value"] == packed
    assert read[b"siblings"][0][b"value"] == packed
    assert read[b"seen"] == written[b"seen"]


def test_what_is_no_value_is_refused(talk3):
    """Neither broken MessagePack nor what is outside the domain gets in; JSON and PACKED are two things."""
    for data in (b"\xc1", b"\x92\x01", msgspec.msgpack.encode({1: 2}), b""):
        answer = talk3("MM.PUT", "k", data, "PACKED")
        assert answer.code == "INVALID"
        assert "certainly not written" in answer.text
    assert talk3("MM.PUT", "k", "1", "PACKED", "JSON").code == "ERR"
    assert talk3("MM.GET", "k") is None
    assert talk3("MM.GET", "k", "SEEN") == [None, b"-"]


def test_a_deleted_key_was_seen(talk3):
    """Whoever saw that nothing is there has seen the delete."""
    talk3("SET", "k", "v")
    seen = talk3("MM.DEL", "k")[b"seen"]
    assert talk3("MM.GET", "k", "SEEN") == [None, seen]


def test_after_executes_or_says_that_it_is_behind(talk3, backend):
    """The command is executed where its precondition holds, and not at all where it does not."""
    seen = talk3("MM.PUT", "k", "v")[b"seen"]
    assert talk3("MM.AFTER", seen, 0, "GET", "k") == b"v"
    behind = talk3("MM.AFTER", AHEAD, 0, "SET", "k", "w")
    assert behind.code == "BEHIND"
    assert talk3("GET", "k") == b"v"
    assert talk3("MM.WAIT", seen, 0) == 1
    assert talk3("MM.WAIT", AHEAD, 0) == 0
    assert talk3("MM.AFTER", "-", 0, "SET", "k", "w") == Simple("OK")
    assert backend.position == 2


def test_in_executes_in_a_table_and_leaves_the_connection_alone(talk3):
    """The table belongs to the command, also when the command fails, and inside MM.AFTER."""
    assert talk3("MM.IN", "drafts", "MM.BLIND", "k", "v")[b"dot"] == b"fake~1:1"
    assert talk3("GET", "k") is None
    assert talk3("mm.in", "drafts", "get", "k") == b'["v"]'
    assert talk3("MM.IN", "drafts", "GET").code == "ERR"
    assert talk3("MM.IN", "nope", "GET", "k").code == "NOTABLE"
    assert talk3("MM.TABLE") == b""
    assert talk3("MM.AFTER", "-", 0, "MM.IN", "drafts", "MM.SIBLINGS", "k") == [b"v"]


@pytest.mark.parametrize(
    "inner",
    [
        "WAIT 1 0",
        "QUIT",
        "RESET",
        "MM.TABLE drafts",
        "AUTH x",
        "MM.CHANGES",
        "MM.WAIT - 0",
        "MM.AFTER - 0 PING",
        "SELECT 0",
    ],
)
def test_what_cannot_be_executed_by_another_command(talk3, inner):
    """Nothing that waits, and nothing that changes the connection."""
    for outer in ("MM.AFTER - 0", "MM.IN drafts", "MM.AFTER - 0 MM.IN drafts"):
        answer = talk3(*outer.split(), *inner.split())
        assert isinstance(answer, Failure)
        assert "only what reads or writes" in answer.text


def test_once_numbers_a_write(talk3, backend):
    """The backend is told which request of which session it is; what is no write, or no number, is refused."""
    talk3("MM.ONCE", 7, 1, "SET", "k", "v")
    talk3("MM.AFTER", "-", 0, "MM.ONCE", 7, 2, "MM.IN", "drafts", "MM.PUT", "k", "v")
    talk3("SET", "k", "v")
    assert backend.requests == [(7, 1), (7, 2), None]
    for wrong in ("7 1 GET k", "0 1 SET k v", "7 x SET k v", "7 1 MM.ONCE 7 1 SET k v", "7 1 MM.IN drafts GET k"):
        assert talk3("MM.ONCE", *wrong.split()).code == "ERR"
    assert len(backend.requests) == 3


def test_a_carried_write_tells_its_fate(talk3, backend):
    """Whatever carries it, an error says whether the write was made."""
    for carrier in ("MM.IN drafts", "MM.AFTER - 0", "mm.after - 0 mm.in drafts", "MM.ONCE 7 1"):
        backend.trouble = errors.StoreFailed("the disk")
        assert "may have been written" in talk3(*carrier.split(), "SET", "k", "v").text
        assert "written" not in talk3(*carrier.split(), "GET", "k", "k").text
    assert "certainly not written" in talk3("MM.AFTER", AHEAD, 0, "SET", "k", "v").text


def test_nested_tables_are_refused(talk3):
    """One table a command."""
    assert talk3("MM.IN", "drafts", "MM.IN", "drafts", "GET", "k").code == "ERR"


def test_an_unknown_command_inside_is_answered_as_such(talk3):
    """As it would be outside."""
    assert "unknown command" in talk3("MM.IN", "drafts", "NOPE").text


@pytest.mark.parametrize("words", ["MM.WAIT x 0", "MM.AFTER x 0 GET k", "MM.WAIT - -1", "MM.AFTER - x GET k"])
def test_what_is_no_token_or_time(talk3, words):
    """Refused before anything."""
    assert talk3(*words.split()).code == "ERR"


def test_a_node_that_takes_no_writes_says_so_in_redis_words(talk, backend):
    """MOVED with the primary's address when it is known, READONLY otherwise, and nothing behind it."""
    backend.trouble = errors.NotPrimary("lima is the primary", primary="127.0.0.1:6402")
    assert talk.raw("SET", "k", "v") == b"-MOVED 0 127.0.0.1:6402\r\n"
    backend.trouble = errors.NotPrimary("nobody is")
    assert talk.raw("SET", "k", "v") == b"-READONLY You can't write against a read only replica.\r\n"


async def test_a_write_that_waits_is_carried_too(serve, backend, monkeypatch):
    """Where a backend answers a write later, its outcome comes through the carriers; so does its failure."""
    futures = []

    def later(session, words):
        futures.append(asyncio.get_running_loop().create_future())
        return Pending(futures[-1], lambda text: b"+%b\r\n" % text)

    port = await serve(backend)
    monkeypatch.setattr(port.shared, "lookup", evolve(LOOKUP, everybody={**LOOKUP.everybody, b"SET": (later, 3, 3)}))
    host, number = port.address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(number))
    for carrier in ("MM.IN drafts", "MM.AFTER - 0", "MM.ONCE 7 1", f"MM.AFTER {AHEAD} 10000 MM.IN drafts"):
        for outcome, answer in ((b"DONE", b"+DONE\r\n"), (errors.Unavailable("x"), b"may have been written")):
            writer.write(f"{carrier} SET k v\r\n".encode())
            if AHEAD in carrier:
                while not backend.futures:  # noqa: ASYNC110 - the backend tells nobody
                    await asyncio.sleep(0)
                backend.version = parse_seen_token(AHEAD)
                backend.futures.pop().set_result(True)
            while not futures:  # noqa: ASYNC110
                await asyncio.sleep(0)
            future = futures.pop()
            future.set_exception(outcome) if isinstance(outcome, Exception) else future.set_result(outcome)
            assert answer in await reader.readline()
            backend.version = VersionVector()
    writer.write(b"MM.OPEN\r\n")
    assert await reader.readline() == b":7\r\n"
    writer.close()
    await writer.wait_closed()


async def test_there_are_no_client_sessions_with_many_writers():
    """Said, and not pretended."""
    async with Node("paris", client="127.0.0.1:0") as paris:
        host, port = paris.client_address.rsplit(":", 1)
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"MM.OPEN\r\nMM.ONCE 1 1 SET k v\r\n")
        assert b"dot of its own" in await reader.readline()
        assert b"(certainly not written)" in await reader.readline()
        writer.close()
        await writer.wait_closed()


async def test_waiting_at_a_real_node():
    """MM.AFTER and MM.WAIT return when a peer's write has come, and MM.AFTER has then executed."""
    async with (
        Node("paris", client="127.0.0.1:0") as paris,
        Node("tokyo", client="127.0.0.1:0", peers=[paris.address]) as tokyo,
    ):
        await tokyo.wait_connected("paris")
        host, port = tokyo.client_address.rsplit(":", 1)
        reader, writer = await asyncio.open_connection(host, int(port))
        answers = ReplyReader()

        async def ask(*words):
            writer.write(b"".join([b"*%d\r\n" % len(words), *(b"$%d\r\n%b\r\n" % (len(w), w) for w in words)]))
            while not (found := answers.feed(await reader.read(65536))):
                pass
            return found[0]

        tokyo.block("paris")
        seen = seen_token(paris.version.including((await paris.put("k", "v")).dot)).encode()
        assert (await ask(b"MM.WAIT", seen, b"1")) == 0
        assert (await ask(b"MM.AFTER", seen, b"1", b"GET", b"k")).code == "BEHIND"
        asking = asyncio.ensure_future(ask(b"MM.AFTER", seen, b"10000", b"GET", b"k"))
        tokyo.unblock()
        assert await asking == b"v"
        assert await ask(b"MM.WAIT", seen, b"10000") == 1
        role = dict(zip(*[iter(await ask(b"MM.ROLE"))] * 2, strict=True))
        assert parse_seen_token(role[b"applied"]) == tokyo.version
        assert (await ask(b"MM.WAIT", str(LogPosition(1, 1)).encode(), b"0")).code == "ERR"
        writer.close()
        await writer.wait_closed()


@given(st.sets(st.text("ab", min_size=1, max_size=3), max_size=8), st.text("ab", max_size=2), st.integers(1, 3))
def test_keys_are_walked_page_by_page_from_any_node(names, prefix, count):
    """Each key once, in order; where a page ends is the reader's knowledge, not the node's."""
    talk3 = Talk(FakeBackend())
    talk3("HELLO", 3)
    for name in names:
        talk3("SET", name, "v")
    found, after = [], ""
    while True:
        page, seen = talk3("MM.KEYS", "AFTER", after, "PREFIX", prefix, "COUNT", count, "SEEN")
        assert seen == talk3("MM.ROLE")[b"applied"]
        found += page
        if len(page) < count:
            break
        after = page[-1].decode()
    assert [key.decode() for key in found] == sorted(name for name in names if name.startswith(prefix))
    assert talk3("MM.KEYS", "PREFIX", prefix) == found


def test_only_what_reads_or_writes_goes_inside():
    """Every command of the table is either fit to be executed by another, or refused there: none waits."""
    for spec in COMMANDS.values():
        inside = "blocking" not in spec.flags and not {"readonly", "write"}.isdisjoint(spec.flags)
        assert not (inside and "no_auth" in spec.flags), spec.name
