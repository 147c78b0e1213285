"""TLS: demanded by both sides, of the right party, in time."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from mmrepl.testing.transport_kit import Accepting, Recorder, eventually
from mmrepl.transport.tcp import TcpTransport
from mmrepl.wire.framing import encode_frame
from tests.transport.raw import raw_client

LOCAL = "127.0.0.1:0"


async def test_tls_is_demanded_by_both_sides(tls):
    """A plain client gets nothing from a TLS server, and a TLS client refuses a plain server: OSError, in time."""
    secure, plain = TcpTransport(server_ssl=tls[0], client_ssl=tls[1], linger_ms=50), TcpTransport(linger_ms=50)
    accept = Accepting()
    at_secure = await secure.listen(LOCAL, accept)
    at_plain = await plain.listen(LOCAL, Accepting(lambda: Recorder(echo=True)))
    ours = Recorder()
    await plain.connect(at_secure.address, ours)
    ours.connection.send(encode_frame(1, b"in the clear"))
    await ours.until_lost()
    assert not accept.handlers or accept.handlers[0].connection is None
    with pytest.raises(OSError, match=f"cannot connect to {at_plain.address}: "):
        await secure.connect(at_plain.address, Recorder())
    await plain.close()
    await secure.close()


async def test_tls_of_somebody_else_is_refused(tls):
    """A certificate that we do not trust, or that names another host, is an OSError that says so."""
    server = TcpTransport(server_ssl=tls[0])
    listener = await server.listen(LOCAL, Accepting())
    stranger = TcpTransport(client_ssl=ssl.create_default_context())
    with pytest.raises(OSError, match=r"(?i)certificate verify failed"):
        await stranger.connect(listener.address, Recorder())
    client = TcpTransport(client_ssl=tls[1])
    with pytest.raises(OSError, match=r"(?i)certificate"):
        await client.connect(listener.address.replace("127.0.0.1", "localhost"), Recorder())
    for each in (stranger, client, server):
        await each.close()


async def test_a_silent_tls_client_does_not_outlive_the_transport(tls):
    """Handshakes that never happen are ended by close(), at once; and those under way by their deadline."""
    server = TcpTransport(server_ssl=tls[0], linger_ms=50)
    accept = Accepting()
    listener = await server.listen(LOCAL, accept)
    with await raw_client(listener) as sock:
        await eventually(lambda: accept.handlers)
        async with asyncio.timeout(2):
            await server.close()
        assert await asyncio.get_running_loop().sock_recv(sock, 100) == b""
    assert accept.handlers[0].connection is None

    hasty = TcpTransport(server_ssl=tls[0], connect_timeout_ms=50)
    listener = await hasty.listen(LOCAL, Accepting())
    with await raw_client(listener) as sock:
        async with asyncio.timeout(5):
            assert await asyncio.get_running_loop().sock_recv(sock, 100) == b""
    await hasty.close()
