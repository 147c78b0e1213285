"""The port over real sockets: order, durability, waiting, clients that do not behave."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from mmrepl.errors import ClosedError, StoreFailed, UsageError
from mmrepl.ports import Durability
from mmrepl.runtime.resp.options import ClientOptions
from mmrepl.runtime.resp.server import ClientConnection, ClientPort
from mmrepl.wire.resp import Failure, ReplyReader, Simple
from tests.runtime.resp.fake import FakeBackend
from tests.runtime.resp.test_protocol import MIXED, as_array

OK = Simple("OK")
TIMEOUT_S = 10.0


class Client:
    """A client that sends bytes and reads answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.answers = ReplyReader()
        self.read: list[Any] = []

    @classmethod
    async def to(cls, port: ClientPort) -> Client:
        host, number = port.address.rsplit(":", 1)
        return cls(*await asyncio.open_connection(host, int(number)))

    def send(self, *commands: list[Any]) -> None:
        self.writer.write(
            b"".join(as_array([str(w).encode() if not isinstance(w, bytes) else w for w in c]) for c in commands)
        )

    async def receive(self, count: int) -> list[Any]:
        async with asyncio.timeout(TIMEOUT_S):
            while len(self.read) < count:
                data = await self.reader.read(65536)
                if not data:
                    raise EOFError(f"closed after {self.read}")
                self.read += self.answers.feed(data)
        found, self.read = self.read[:count], self.read[count:]
        return found

    async def ask(self, *words: Any) -> Any:
        self.send(list(words))
        return (await self.receive(1))[0]

    async def rest(self) -> list[Any]:
        """What still comes until the server closes."""
        async with asyncio.timeout(TIMEOUT_S):
            try:
                while data := await self.reader.read(65536):
                    self.read += self.answers.feed(data)
            except ConnectionResetError:
                pass
        found, self.read = self.read, []
        return found

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


@pytest.fixture
async def connect(serve):
    """Starts a port with one backend and gives clients of it."""
    clients: list[Client] = []
    ports: dict[int, ClientPort] = {}

    async def connected(backend: FakeBackend, **options: Any) -> Client:
        if id(backend) not in ports:
            ports[id(backend)] = await serve(backend, **options)
        client = await Client.to(ports[id(backend)])
        client.port = ports[id(backend)]
        clients.append(client)
        return client

    yield connected
    for client in clients:
        await client.close()


async def until(true: Callable[[], Any]) -> None:
    """Let the loop turn until something has happened."""
    async with asyncio.timeout(TIMEOUT_S):
        while not true():  # noqa: ASYNC110 — nobody sets an event for us; each turn lets the port work
            await asyncio.sleep(0)


def only(port: ClientPort) -> ClientConnection:
    [connection] = port.connections.values()
    return connection


async def test_a_pipeline_is_answered_in_order(connect, backend):
    """A thousand commands in one go: a thousand answers, in their order."""
    client = await connect(backend)
    for number in range(500):
        client.send(["SET", f"k{number}", number], ["GET", f"k{number}"])
    answers = await client.receive(1000)
    assert answers == [answer for number in range(500) for answer in (OK, str(number).encode())]


@pytest.mark.parametrize("step", [1, 5, 64])
async def test_however_the_bytes_are_cut(connect, backend, step):
    """A mixed stream a few bytes at a time is answered as in one piece, and QUIT at its end closes."""
    client = await connect(backend)
    for at in range(0, len(MIXED), step):
        client.writer.write(MIXED[at : at + step])
        await client.writer.drain()
    wrong = Failure("ERR", "wrong number of arguments for 'ping' command")
    *answers, unknown, bye = await client.rest()
    assert answers == [OK, wrong, None, OK, OK]
    assert "unknown command 'x'" in unknown.text
    assert bye == OK


async def test_malformed_input_is_told_and_closed(connect, backend):
    """What came before is answered, the mistake is named, the connection ends; others do not notice."""
    bystander = await connect(backend)
    client = await connect(backend)
    client.writer.write(as_array([b"SET", b"k", b"v"]) + b"*1\r\n$-5\r\n" + as_array([b"SET", b"k", b"w"]))
    assert await client.rest() == [OK, Failure("ERR", "Protocol error: invalid bulk length (at most 16777216)")]
    assert await bystander.ask("GET", "k") == b"v"


async def test_quit(connect, backend):
    """Nothing behind QUIT is executed."""
    client = await connect(backend)
    client.send(["SET", "k", "v"], ["QUIT"], ["SET", "k", "w"])
    assert await client.rest() == [OK, OK]
    assert backend.position == 1


async def test_a_closed_half_still_gets_its_answers(connect):
    """Whoever sends everything, closes its side and then reads, as ``nc`` does, gets all answers, held ones too."""
    backend = FakeBackend(manual=True)
    client = await connect(backend)
    client.send(["SET", "k", "v"], ["GET", "k"])
    client.writer.write_eof()
    await until(lambda: only(client.port)._ending)
    backend.make_durable()
    assert await client.rest() == [OK, b"v"]


# -- durability


async def test_writes_are_answered_when_they_are_durable(connect):
    """At level sync nothing behind a write is answered before it is durable; readers elsewhere do not wait."""
    backend = FakeBackend(manual=True)
    client, reader = await connect(backend), await connect(backend)
    client.send(["GET", "k"], ["SET", "k", "1"], ["GET", "k"])
    await until(lambda: backend.position == 1)
    client.send(["PING"])
    assert await reader.ask("GET", "k") == b"1"
    assert client.reader._buffer == b""
    backend.make_durable()
    assert await client.receive(4) == [None, OK, b"1", Simple("PONG")]
    assert not client.port.waiting


async def test_a_planted_early_answer_is_caught(connect, monkeypatch):
    """Were answers written without regard to the disk, the test above would see it."""

    def early(self, out):
        self._transport.write(b"".join(out))

    monkeypatch.setattr(ClientConnection, "_emit", early)
    backend = FakeBackend(manual=True)
    client = await connect(backend)
    assert await client.ask("SET", "k", "1") == OK
    assert backend.durable == 0


async def test_one_group_of_writes_is_released_together(connect):
    """Writes of several clients become durable up to a position: exactly those are answered."""
    backend = FakeBackend(manual=True)
    clients = [await connect(backend) for _ in range(3)]
    for number, client in enumerate(clients):
        client.send(["SET", f"k{number}", "v"])
        await until(lambda number=number: backend.position == number + 1)
    backend.make_durable(2)
    assert [await client.receive(1) for client in clients[:2]] == [[OK], [OK]]
    [(position, _)] = clients[0].port.waiting
    assert position == 3
    backend.make_durable()
    assert await clients[2].receive(1) == [OK]


async def test_other_levels_are_answered_at_once(connect):
    """Level none does not wait, but does not overtake an earlier write at level sync either."""
    backend = FakeBackend(manual=True)
    client = await connect(backend)
    assert await client.ask("MM.DURABILITY", "none") == OK
    assert await client.ask("SET", "k", "1") == OK
    client.send(["MM.DURABILITY", "sync"], ["SET", "k", "2"], ["MM.DURABILITY", "none"], ["SET", "k", "3"])
    await until(lambda: backend.position == 3)
    assert client.port.waiting[0][0] == 2
    backend.make_durable(2)
    assert await client.receive(4) == [OK, OK, OK, OK]
    assert (await client.ask("MM.PUT", "k", "4", "DURABILITY", "batch"))[0] == b"dot"
    client.send(["MM.PUT", "k", "5", "DURABILITY", "sync"])
    await until(lambda: backend.position == 5)
    assert client.port.waiting[0][0] == 5
    backend.make_durable()
    assert (await client.receive(1))[0][1] == b"fake~1:5"


async def test_a_store_that_waits_for_nothing(connect):
    """A store at level batch answers at once."""
    client = await connect(FakeBackend(manual=True, durability=Durability.BATCH))
    assert await client.ask("SET", "k", "1") == OK


async def test_when_the_disk_fails_nobody_is_told_ok(connect):
    """Clients whose writes wait are told that these may have happened, and closed; later writes are errors."""
    backend = FakeBackend(manual=True)
    client, other = await connect(backend), await connect(backend)
    client.send(["SET", "k", "1"], ["SET", "k", "2"])
    await until(lambda: backend.position == 2)
    backend.lose(StoreFailed("fsync failed: EIO"))
    [answer] = await client.rest()
    assert answer.code == "STORE"
    assert "fsync failed: EIO" in answer.text
    assert "may have happened" in answer.text
    assert (await other.ask("SET", "k", "3")).code == "STORE"
    assert await other.ask("GET", "k") == b"2"


async def test_answers_that_wait_for_the_disk_are_bounded(connect):
    """Above ``unread_bytes`` of held answers, nothing more is read or executed until the disk has caught up."""
    backend = FakeBackend(manual=True)
    client = await connect(backend, unread_bytes=10_000)
    client.send(["SET", "k", b"x" * 1000], *[["GET", "k"]] * 5000)
    await until(lambda: only(client.port)._todo is not None)
    assert only(client.port)._held_bytes < 12_000
    backend.make_durable()
    assert await client.receive(5001) == [OK] + [b"x" * 1000] * 5000


# -- waiting


async def test_wait_holds_back_what_follows(connect, backend):
    """WAIT is answered when members acknowledge; commands behind it are not executed before."""
    client = await connect(backend, wait_seconds=7)
    client.send(["SET", "k", "1"], ["WAIT", 1, 250], ["SET", "k", "2"], ["WAIT", 1, 0])
    assert await client.receive(1) == [OK]
    await until(lambda: backend.waits)
    assert backend.waits == [(1, 1, 250)]
    assert backend.position == 1
    client.send(["PING"])
    backend.futures[0].set_result(1)
    assert await client.receive(2) == [1, OK]
    await until(lambda: len(backend.waits) == 2)
    assert backend.waits[1] == (2, 1, 7000)
    backend.futures[1].set_result(0)
    assert await client.receive(2) == [0, Simple("PONG")]


async def test_wait_that_is_already_satisfied(connect, backend):
    """No waiting when the members have it; malformed numbers are errors."""
    backend.acknowledged = 2
    client = await connect(backend)
    assert await client.ask("WAIT", 1, 0) == 2
    assert (await client.ask("WAIT", -1, 0)).code == "ERR"
    assert (await client.ask("WAIT", 1, "x")).code == "ERR"


async def test_a_wait_that_fails_is_an_error_answer(connect, backend):
    """What the backend raises while a client waits reaches the client, and the connection goes on."""
    client = await connect(backend)
    client.send(["WAIT", 1, 0])
    await until(lambda: backend.futures)
    backend.futures[0].set_exception(ClosedError("the node is closed"))
    assert await client.receive(1) == [Failure("CLOSED", "the node is closed")]
    client.send(["WAIT", 1, 0])
    await until(lambda: len(backend.futures) == 2)
    backend.futures[1].cancel()
    assert (await client.receive(1))[0].code == "CLOSED"
    assert await client.ask("PING") == Simple("PONG")


async def test_leaving_while_waiting(connect, backend):
    """A client that goes away takes its wait along; nothing is left of it."""
    client = await connect(backend)
    client.send(["WAIT", 1, 0], ["SET", "k", "never"])
    await until(lambda: backend.futures)
    client.writer.transport.abort()
    # Reading is paused while it waits, so the loss shows when something is written to it.
    backend.futures[0].set_result(0)
    await until(lambda: not client.port.connections)
    assert not client.port.shared.sessions


async def test_changes_can_be_waited_for(connect, backend):
    """MM.CHANGES BLOCK answers at once when there is something, otherwise when something comes."""
    client, writer = await connect(backend), await connect(backend)
    await client.ask("HELLO", 3)
    token = (await client.ask("MM.CHANGES"))[b"token"]
    client.send(["MM.CHANGES", "SINCE", token, "BLOCK", 5000])
    await until(lambda: backend.futures)
    assert backend.waits == [(0, 0, 5000)]
    await writer.ask("SET", "k", "v")
    backend.futures[0].set_result(True)
    [page] = await client.receive(1)
    assert [change[b"key"] for change in page[b"changes"]] == [b"k"]
    page = await client.ask("MM.CHANGES", "SINCE", token, "BLOCK", 5000)
    assert len(page[b"changes"]) == 1
    assert len(backend.futures) == 1


# -- clients that do not behave


async def test_a_client_that_does_not_read_costs_a_bounded_amount(connect, backend):
    """Its answers pile up to the bound and no further; when it reads at last, it gets all of them."""
    client = await connect(backend, unread_bytes=100_000)
    backend.table("").put("k", b"x" * 50_000, None)
    client.reader._transport.pause_reading()
    client.send(*[["GET", "k"]] * 2000)
    await until(lambda: only(client.port)._todo is not None)
    await until(lambda: only(client.port)._blocked)
    connection = only(client.port)
    assert connection._transport.get_write_buffer_size() < 100_000 + 200_000
    assert await (await connect(backend)).ask("PING") == Simple("PONG")
    client.reader._transport.resume_reading()
    assert await client.receive(2000) == [b"x" * 50_000] * 2000


async def test_a_client_that_takes_nothing_is_closed_in_the_end(connect, backend):
    """Longer than ``stall_seconds`` without progress, and what we hold for it is let go."""
    client = await connect(backend, unread_bytes=1024, stall_seconds=0.2)
    backend.table("").put("k", b"x" * 500_000, None)
    client.reader._transport.pause_reading()
    client.send(*[["GET", "k"]] * 200)
    await until(lambda: client.port.connections)
    await until(lambda: not client.port.connections)
    assert client.port.shared.stalled_count == 1


async def test_half_a_command_is_not_kept_for_ever(connect, backend):
    """A command that is begun and not finished costs the connection; saying nothing at all does not."""
    silent, slow = await connect(backend, stall_seconds=0.2), await connect(backend)
    slow.writer.write(b"*2\r\n$3\r\nGET\r\n$100\r\nab")
    assert await slow.rest() == []
    assert await silent.ask("PING") == Simple("PONG")
    assert silent.port.shared.stalled_count == 1


async def test_too_many_clients(connect, backend):
    """Beyond the bound a client is told so and closed; when one leaves there is room again."""
    first = await connect(backend, clients=1)
    assert await first.ask("PING") == Simple("PONG")
    second = await connect(backend)
    second.send(["PING"])
    assert await second.rest() == [Failure("ERR", "max number of clients reached")]
    await first.close()
    await until(lambda: not first.port.connections)
    third = await connect(backend)
    assert await third.ask("PING") == Simple("PONG")
    assert third.port.shared.rejected_count == 1


async def test_silence_when_asked_for(connect, backend):
    """CLIENT REPLY OFF, SKIP and ON, in one pipeline and apart."""
    client = await connect(backend)
    client.send(["CLIENT", "REPLY", "SKIP"], ["SET", "k", "1"], ["GET", "k"])
    assert await client.receive(1) == [b"1"]
    client.send(["CLIENT", "REPLY", "OFF"], ["SET", "k", "2"], ["NOPE"], ["CLIENT", "REPLY", "SKIP"])
    client.send(["CLIENT", "REPLY", "ON"], ["GET", "k"])
    assert await client.receive(2) == [OK, b"2"]


async def test_auth_and_the_commands_behind_it_in_one_go(connect, backend):
    """A client may send its password and its first commands together."""
    client = await connect(backend, password="x", refusals=3)
    client.send(["GET", "k"], ["AUTH", "x"], ["SET", "k", "v"], ["GET", "k"])
    assert await client.receive(4) == [Failure("NOAUTH", "Authentication required."), OK, OK, b"v"]
    stranger = await connect(backend)
    stranger.send(*[["GET", "k"]] * 50)
    assert len(await stranger.rest()) == 3


# -- the port itself


async def test_only_loopback_unless_said(backend):
    """Another address needs a password, or somebody who takes it upon himself."""
    port = ClientPort(backend)
    with pytest.raises(UsageError, match="set a password, or say insecure"):
        await port.start("0.0.0.0:0")
    with pytest.raises(UsageError, match="port"):
        await port.start("127.0.0.1")
    await port.close()
    guarded = ClientPort(backend, ClientOptions(password="x"))
    assert (await guarded.start("0.0.0.0:0")).startswith("0.0.0.0:")
    with pytest.raises(ClosedError):
        await guarded.start("127.0.0.1:0")
    await guarded.close()


async def test_an_address_in_use(serve, backend):
    """Binding twice is an error of the system, said as it is."""
    port = await serve(backend)
    second = ClientPort(backend)
    with pytest.raises(OSError, match="in use"):
        await second.start(port.address)
    await second.close()


async def test_closing(serve, backend):
    """Closing ends every connection, forgets the backend, and may be done twice."""
    port = await serve(backend)
    client = await Client.to(port)
    assert await client.ask("PING") == Simple("PONG")
    await port.close()
    await port.close()
    assert await client.rest() == []
    assert backend._callbacks == []
    assert not port.connections
    await client.close()


async def test_counters(connect, backend):
    """INFO counts commands of clients that are here and of those that left."""
    first = await connect(backend)
    for _ in range(3):
        await first.ask("PING")
    await first.close()
    await until(lambda: not first.port.connections)
    second = await connect(backend)
    await second.ask("NOPE")
    text = (await second.ask("INFO", "stats")).decode()
    assert "total_commands_processed:5\r\n" in text
    assert "total_connections_received:2\r\n" in text
    assert "total_error_replies:1\r\n" in text
