"""The small blocking client, against a real port in this process."""

from __future__ import annotations

import asyncio
import socket

import pytest

from mmrepl import errors
from mmrepl.runtime.resp.client import Client
from mmrepl.wire.resp import Failure
from mmrepl.wire.resp_errors import CODES, KINDS, error_of
from tests.runtime.resp.fake import FakeBackend


async def test_commands_and_their_answers(serve, backend):
    """Answers arrive as Python values; a command after an error works."""
    port = await serve(backend, password="hush")

    def talk():
        with Client(port.address, password="hush") as client:
            assert client.call("SET", "k", b"\r\n\xff") == "OK"
            assert client.call("GET", "k") == b"\r\n\xff"
            assert client.call("GET", "none") is None
            assert client.call("MM.TABLES")[b"drafts"] == b"keep-siblings"
            with pytest.raises(errors.UnknownTable, match="nope"):
                client.call("MM.TABLE", "nope")
            with pytest.raises(errors.UsageError, match="not offered"):
                client.call("INCR", "k")
            assert client.call("STRLEN", "k") == 3
        client.close()

    await asyncio.to_thread(talk)


async def test_wrong_password(serve, backend):
    """The wrong password is the caller's mistake."""
    port = await serve(backend, password="hush")
    with pytest.raises(errors.UsageError, match="invalid username-password"):
        await asyncio.to_thread(Client, port.address, password="x")


async def test_no_answer_in_time(serve):
    """An answer that does not come is an indefinite error that says what was asked."""
    backend = FakeBackend(manual=True)
    port = await serve(backend)

    def talk():
        with Client(port.address, timeout_s=0.2) as client:
            with pytest.raises(errors.WaitTimeout, match=r"'SET' in 0\.2 s") as caught:
                client.call("SET", "k", "v")
            assert not caught.value.definite
            with pytest.raises(errors.Unavailable, match="lost"):
                client.call("PING")

    await asyncio.to_thread(talk)


async def test_nobody_there():
    """Nobody at the address: certainly nothing happened."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(errors.Unavailable, match="no node answers") as caught:
        await asyncio.to_thread(Client, address)
    assert caught.value.definite


async def test_somebody_else_there():
    """A server of another protocol is noticed."""

    async def other(reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(other, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    with pytest.raises(errors.FrameError, match="no answer"):
        await asyncio.to_thread(Client, address)
    server.close()
    await server.wait_closed()


def test_every_code_comes_back_as_its_kind():
    """The codes that the port gives are the ones that the client knows, and the fate is kept."""
    assert set(KINDS) == {code for _kind, code in CODES}
    for kind, code in CODES:
        error = error_of(Failure(code, "why (may have been written: do not repeat it blindly)"))
        assert type(error) is kind or code == "INVALID"  # keys and values share a code
        assert not error.definite
    assert error_of(Failure("STORE", "why (certainly not written)")).definite
