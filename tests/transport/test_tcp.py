"""TCP with peers that misbehave: raw sockets on the other side, and the operating system running short."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import resource
import socket
import ssl
import struct
import subprocess
import sys

import pytest

from mmrepl.errors import ClosedError, FrameError, UsageError
from mmrepl.testing.transport_kit import Accepting, Recorder, eventually
from mmrepl.transport import sockets, tcp
from mmrepl.transport.tcp import TcpTransport
from mmrepl.wire.framing import FrameReader, encode_frame
from tests.transport.raw import raw_client

LOCAL = "127.0.0.1:0"


@pytest.fixture
async def transport():
    """A transport that is closed afterwards, with nothing left behind."""
    made = TcpTransport(connect_timeout_ms=5000, linger_ms=100)
    yield made
    async with asyncio.timeout(5):
        await made.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    gc.collect()  # an unclosed socket is a ResourceWarning, which is an error


def raw_server(backlog=8):
    """A bare listening socket, and its address."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(backlog)
    sock.setblocking(False)
    return sock, f"127.0.0.1:{sock.getsockname()[1]}"


def unused_address():
    """Where nobody listens."""
    sock, address = raw_server()
    sock.close()
    return address


class Framed(Recorder):
    """A host in small: reads frames, and closes on what is none."""

    def __init__(self):
        super().__init__()
        self.frames, self.refusal, self._reader = [], None, FrameReader()

    def received(self, data):
        super().received(data)
        try:
            self.frames += self._reader.feed(data)
        except FrameError as error:
            self.refusal = str(error)
            self.connection.close()

    def lost(self, reason):
        if self.refusal is None:
            try:
                self._reader.finish()
            except FrameError as error:
                self.refusal = str(error)
        super().lost(reason)


# -- the end of the other side


async def test_fin_within_a_frame(transport):
    """The peer closes in mid-frame: the whole frames count, the cut one is told, the stream is lost."""
    accept = Accepting(Framed)
    listener = await transport.listen(LOCAL, accept)
    with await raw_client(listener) as sock:
        await asyncio.get_running_loop().sock_sendall(sock, encode_frame(1, b"whole") + encode_frame(2, b"cut")[:-1])
    theirs = await accept.nth()
    await theirs.until_lost()
    assert theirs.frames == [(1, b"whole")]
    assert theirs.refusal == "cut within a frame, after 15 of 16 bytes"
    assert theirs.reason == "closed by peer"


async def test_reset(transport):
    """RST is a loss with a reason, also while megabytes wait to be sent."""
    accept = Accepting()
    listener = await transport.listen(LOCAL, accept)
    sock = await raw_client(listener)
    theirs = await accept.nth()
    theirs.connection.send(bytes(32_000_000))
    await asyncio.sleep(0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
    await theirs.until_lost()
    assert theirs.reason in {"Connection reset by peer", "Broken pipe"}
    assert theirs.connection.buffered_bytes == 0


async def test_reset_before_it_was_served(transport):
    """A client that resets at once may or may not be heard of; the listener goes on."""
    accept = Accepting()
    listener = await transport.listen(LOCAL, accept)
    for _ in range(20):
        sock = await raw_client(listener)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
    ours = Recorder()
    await transport.connect(listener.address, ours)
    ours.connection.send(b"hello")
    await eventually(lambda: any(handler.data == b"hello" for handler in accept.handlers))
    for handler in accept.handlers:
        if handler.connection is not None and handler.data != b"hello":
            await handler.until_lost()


async def test_garbage_costs_the_one_who_sent_it(transport):
    """An HTTP client is closed; the peer beside it is served."""
    accept = Accepting(Framed)
    listener = await transport.listen(LOCAL, accept)
    good = Recorder()
    await transport.connect(listener.address, good)
    with await raw_client(listener) as sock:
        await asyncio.get_running_loop().sock_sendall(sock, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        theirs = await accept.nth(1)
        await theirs.until_lost()
    assert "not a frame of mmrepl" in theirs.refusal
    good.connection.send(encode_frame(1, b"fine"))
    await (await accept.nth(0)).until(lambda handler: handler.frames == [(1, b"fine")])


# -- silence


async def test_accept_then_silence_is_no_error_and_costs_nothing(transport):
    """A peer that accepts and says nothing is connected; close() ends it."""
    sock, address = raw_server()
    with sock:
        ours = Recorder()
        await transport.connect(address, ours)
        ours.connection.send(b"hello?")
        await transport.close()
        assert ours.reason == "closed here"


async def test_a_peer_that_does_not_read_cannot_keep_a_closed_connection(transport):
    """What was queued has linger_ms to leave; then it is dropped, and the reason says how much."""
    sock, address = raw_server()
    with sock:
        ours = Recorder()
        await transport.connect(address, ours)
        ours.connection.send(bytes(32_000_000))
        ours.connection.close()
        await ours.until_lost()
        assert ours.reason.startswith("closed here, ")
        assert ours.reason.endswith(" bytes unsent")


async def test_no_answer_is_a_timeout_that_says_so(monkeypatch):
    """A SYN that nobody answers: TimeoutError, an OSError, with the address and the time."""

    async def silence(*_):
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", silence)
    transport, handler = TcpTransport(connect_timeout_ms=20), Recorder()
    with pytest.raises(TimeoutError, match=r"cannot connect to 127\.0\.0\.1:9: no answer within 0\.02 s") as caught:
        await transport.connect("127.0.0.1:9", handler)
    assert caught.value.errno == errno.ETIMEDOUT
    assert handler.connection is None
    await transport.close()


async def test_a_silent_address_does_not_hide_the_next(monkeypatch):
    """A name with several addresses: the first swallows everything, the second is connected in time."""
    loop = asyncio.get_running_loop()
    server = TcpTransport()
    listener = await server.listen(LOCAL, Accepting())
    port = int(listener.address.rsplit(":", 1)[1])
    connect, tried = loop.sock_connect, []

    async def names(*_args, **_options):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.9", "127.0.0.1")]

    async def sock_connect(sock, place):
        tried.append(place[0])
        if place[0] == "127.0.0.9":
            await loop.create_future()
        await connect(sock, place)

    monkeypatch.setattr(loop, "getaddrinfo", names)
    monkeypatch.setattr(loop, "sock_connect", sock_connect)
    client, ours = TcpTransport(connect_timeout_ms=200), Recorder()
    await client.connect(f"peer.example:{port}", ours)
    assert tried == ["127.0.0.9", "127.0.0.1"]
    await client.close()
    await server.close()


async def test_half_open_connections_are_watched_by_the_operating_system(transport):
    """Keepalive is on, and unacknowledged bytes give up after DEAD_AFTER_S: on both sides. Nagle is off."""
    accept = Accepting()
    listener = await transport.listen(LOCAL, accept)
    ours = Recorder()
    await transport.connect(listener.address, ours)
    for handler in (ours, await accept.nth()):
        sock = handler.connection._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == sockets.DEAD_AFTER_S * 1000


# -- back-pressure and coalescing


async def test_a_slow_reader_holds_back_a_sender_that_minds_its_bound(transport):
    """A host that stops at 1 MiB never has much more buffered, and 20 MB arrive through a reader of 10 kB at a time."""
    sock, address = raw_server()
    loop = asyncio.get_running_loop()
    bound, piece, total, most, got = 2**20, 50_000, 400, 0, 0
    with sock:
        ours = Recorder()
        await transport.connect(address, ours)
        reader, _ = await loop.sock_accept(sock)
        with reader:
            sent = 0
            while got < total * piece:
                while sent < total and ours.connection.buffered_bytes < bound:
                    ours.connection.send(bytes([sent % 251]) * piece)
                    sent += 1
                most = max(most, ours.connection.buffered_bytes)
                data = await loop.sock_recv(reader, 10_000)
                assert data[0] == got // piece % 251
                got += len(data)
    assert bound <= most < bound + piece
    await ours.until_lost()


async def test_what_waits_is_not_copied(transport):
    """Frames for a peer that does not read wait as the objects that were sent: asyncio holds little of them."""
    sock, address = raw_server()
    with sock:
        ours = Recorder()
        await transport.connect(address, ours)
        frame = bytes(100_000)
        for _ in range(200):
            ours.connection.send(frame)
        await eventually(lambda: ours.connection._paused)
        held = ours.connection._transport.get_write_buffer_size()
        assert held <= 2 * tcp.WRITE_BYTES + len(frame)
        assert all(each is frame for each in ours.connection._queue)
        assert ours.connection.buffered_bytes == held + sum(map(len, ours.connection._queue))


async def test_a_send_is_offered_to_the_network_at_once_and_gathers_while_that_is_full(transport, monkeypatch):
    """Nothing waits for the end of a turn; what is sent while asyncio holds enough leaves as one write; in order."""
    accept = Accepting()
    listener = await transport.listen(LOCAL, accept)
    ours = Recorder()
    await transport.connect(listener.address, ours)
    writes, write = [], ours.connection._transport.write
    monkeypatch.setattr(ours.connection._transport, "write", lambda data: (writes.append(len(data)), write(data)))
    ours.connection.send(b"x")
    assert writes == [1]
    ours.connection.pause_writing()
    for i in range(100):
        ours.connection.send(bytes([i]))
    assert writes == [1]
    assert ours.connection.buffered_bytes == 100
    ours.connection.resume_writing()
    await asyncio.sleep(0)
    assert writes == [1, 100]
    theirs = await accept.nth()
    await theirs.until_bytes(101)
    assert theirs.data == b"x" + bytes(range(100))


class Stub(asyncio.Transport):
    """Stands in for asyncio's transport: remembers what is asked of it, in order."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def write(self, data):
        self.asked.append(bytes(data))

    def close(self):
        self.asked.append("close")

    def get_write_buffer_size(self):
        return 0

    def set_write_buffer_limits(self, high=None, low=None):
        pass


async def nothing_is_asked_of_asyncio_while_it_writes():
    """A connection that was closed with a full queue, when asyncio can take more: the asking waits for a turn."""
    home, stub = TcpTransport(), Stub()
    connection = tcp._Connection(home, Recorder(), asyncio.get_running_loop(), "peer")
    connection.connection_made(stub)
    connection.pause_writing()
    connection.send(b"queued")
    connection.close()
    assert stub.asked == []
    connection.resume_writing()
    assert stub.asked == []
    await asyncio.sleep(0)
    assert stub.asked == [b"queued", "close"]
    connection.connection_lost(None)


async def test_nothing_is_asked_of_asyncio_while_it_writes(monkeypatch):
    """
    resume_writing() comes from within asyncio's write loop: closing there would lose the connection twice.

    That was so once, seldom, and only when the last bytes left in that very turn. The last lines plant it again.
    """
    await nothing_is_asked_of_asyncio_while_it_writes()

    def at_once(connection):
        connection._paused = False
        connection._flush()

    monkeypatch.setattr(tcp._Connection, "resume_writing", at_once)
    with pytest.raises(AssertionError):
        await nothing_is_asked_of_asyncio_while_it_writes()


async def test_a_thousand_bytes_at_a_time(transport):
    """Frames sent by the thousand bytes are put together again."""
    accept = Accepting(Framed)
    listener = await transport.listen(LOCAL, accept)
    frames = [(kind, bytes([kind]) * 7000 * kind) for kind in range(20)]
    stream = b"".join(encode_frame(kind, body) for kind, body in frames)
    with await raw_client(listener) as sock:
        for start in range(0, len(stream), 1000):
            await asyncio.get_running_loop().sock_sendall(sock, stream[start : start + 1000])
    theirs = await accept.nth()
    await theirs.until_lost()
    assert theirs.frames == frames
    assert theirs.refusal is None


# -- the operating system runs short


async def test_a_port_in_use_is_told(transport):
    """The text names the address and the reason; errno is there for programs."""
    sock, address = raw_server()
    with sock, pytest.raises(OSError, match=f"cannot listen at {address}: Address already in use") as caught:
        await transport.listen(address, Accepting())
    assert caught.value.errno == errno.EADDRINUSE


async def test_addresses_that_are_not_ours():
    """An address of another machine cannot be listened at: an OSError that names it."""
    transport = TcpTransport(insecure=True)
    with pytest.raises(OSError, match=r"cannot listen at 192\.0\.2\.1:0: Cannot assign requested address"):
        await transport.listen("192.0.2.1:0", Accepting())
    await transport.close()


async def test_nobody_there_and_no_such_name(transport, monkeypatch):
    """Refused and unknown are told apart."""
    address = unused_address()
    with pytest.raises(ConnectionRefusedError, match=f"cannot connect to {address}: Connection refused"):
        await transport.connect(address, Recorder())

    async def no_names(*_args, **_options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", no_names)
    with pytest.raises(OSError, match=r"cannot connect to peer\.example:1: Name or service not known"):
        await transport.connect("peer.example:1", Recorder())
    with pytest.raises(OSError, match=r"cannot listen at peer\.example:1: Name or service not known"):
        await transport.listen("peer.example:1", Accepting())


async def test_the_listener_outlives_a_shortage_of_descriptors(transport, monkeypatch):
    """accept() fails for want of descriptors: it is reported once, and the client is served when there are some."""
    monkeypatch.setattr(tcp, "ACCEPT_AGAIN_S", 0.01)
    loop, complaints = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _loop, context: complaints.append(context))
    accept = Accepting()
    listener = await transport.listen(LOCAL, accept)
    host, port = listener.address.rsplit(":", 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as sock:
        sock.setblocking(False)
        taken = []
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (sock.fileno() + 30, hard))
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.dup(sock.fileno()))
            await loop.sock_connect(sock, (host, int(port)))  # the kernel completes it without us
            await eventually(lambda: len(complaints) >= 2)
            assert not accept.handlers
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for each in taken:
                os.close(each)
        await accept.nth()
    loop.set_exception_handler(None)
    assert "tried again" in complaints[0]["message"]
    assert complaints[0]["exception"].errno == errno.EMFILE


async def test_a_listener_closed_during_a_shortage_stays_closed(transport, monkeypatch):
    """The pause before accepting again ends with the listener."""
    monkeypatch.setattr(tcp, "ACCEPT_AGAIN_S", 0.0)
    listener = await transport.listen(LOCAL, Accepting())
    loop, complaints = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _loop, context: complaints.append(context))

    class Exhausted:
        def accept(self):
            raise OSError(errno.ENFILE, "Too many open files in system")

        def __getattr__(self, name):
            return getattr(real, name)

    real, listener._sock = listener._sock, Exhausted()
    listener._readable()
    assert len(complaints) == 1
    await listener.close()
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(complaints) == 1
    loop.set_exception_handler(None)


# -- who may be listened to


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
async def test_beyond_loopback_only_when_it_is_meant(address):
    """Refused by default, with what to do about it; allowed with a secret, with TLS, or when said aloud."""
    for options in ({}, {"client_ssl": ssl.create_default_context()}):
        transport = TcpTransport(**options)
        with pytest.raises(UsageError, match=r"set a cluster secret, give TLS contexts, or say insecure=True"):
            await transport.listen(address, Accepting())
        await transport.close()
    for options in (
        {"insecure": True},
        {"secured": True},
        {"server_ssl": ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)},
    ):
        transport = TcpTransport(**options)
        listener = await transport.listen(address, Accepting())
        assert not listener.address.endswith(":0")
        await transport.close()


async def test_names_are_judged_by_what_they_stand_for(transport, monkeypatch):
    """A name that resolves to an address of the network is beyond loopback, whatever it is called."""

    async def names(*_args, **_options):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", names)
    with pytest.raises(UsageError, match="localhost:0 can be reached"):
        await transport.listen("localhost:0", Accepting())


async def test_nonsense_addresses_are_the_callers_error(transport):
    """Both verbs refuse what is no address before they do anything."""
    with pytest.raises(UsageError, match="no port"):
        await transport.listen("localhost", Accepting())
    with pytest.raises(UsageError, match="no port"):
        await transport.connect("localhost", Recorder())


# -- the end


async def test_closing_while_the_name_is_looked_up(monkeypatch):
    """close() ends a connect() that waits for the name service: ClosedError."""

    async def names(*_args, **_options):
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", names)
    transport = TcpTransport()
    attempt = asyncio.ensure_future(transport.connect("peer.example:1", Recorder()))
    await asyncio.sleep(0)
    await transport.close()
    with pytest.raises(ClosedError):
        await attempt


def test_a_process_that_used_everything_ends_without_a_word():
    """A program of its own, with warnings as errors and asyncio's debug mode, prints only what it says."""
    program = """
import asyncio
from mmrepl.transport.tcp import TcpTransport
from mmrepl.testing.transport_kit import Accepting, Recorder

async def main():
    one, two = TcpTransport(), TcpTransport()
    accept = Accepting(lambda: Recorder(echo=True))
    listener = await one.listen("127.0.0.1:0", accept)
    ours = [Recorder() for _ in range(10)]
    for each in ours:
        await two.connect(listener.address, each)
        each.connection.send(b"hello")
        await each.until_bytes(5)
    ours[0].connection.close()
    await two.close()
    await one.close()
    print("done")

asyncio.run(main(), debug=True)
"""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
