"""Nodes that follow a script, and a wire that can be cut or stopped. All on loopback, nothing sleeps."""

from __future__ import annotations

import asyncio
import contextlib

from attrs import define, field

from mmrepl.runtime.resp.protocol import RequestParser
from mmrepl.wire.resp import encode, failure
from mmrepl.wire.seen import LogPosition, parse_seen_token

PATIENCE = 15.0
"""Seconds after which a test gives up. Nothing should come near it."""

QUICK = {"health_interval": 0.02, "health_timeout": 0.5, "connect_timeout": 0.5, "timeout": PATIENCE}
"""For clients: a test is no wide-area network."""


@define(eq=False)
class Log:
    """What the nodes of one scripted single-master cluster have written: (term, key, packed value)."""

    entries: list = field(factory=list)
    sessions: list = field(factory=list)  # of clients: number of the latest request, and its answer


class ScriptedNode:
    """
    Plays a node of the single-master mode, as far as a client can tell.

    It shows the first ``applied`` entries of the log. ``trouble`` maps a command to what happens to it the next
    times: ``lose`` (executed, then the connection is cut), ``refuse`` (cut before), ``half`` (half an answer, then
    cut), ``hang`` (no answer), or bytes that are the answer.
    """

    def __init__(self, name, log, role="replica", term=1):
        self.name, self.log, self.role, self.term = name, log, role, term
        self.knows_primary = ""  # what it says of others
        self.applied = 0
        self.asked = []  # commands that reached the store, innermost
        self.trouble = {}
        self.connections = set()
        self.connected_count = 0
        self.most = 0  # connections at once
        self.say_role = True
        self.moved = asyncio.Event()
        self.let_go = asyncio.Event()  # ends whatever hangs
        self.address = ""
        self._server = None

    async def start(self, port=0):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = f"{host}:{port}"
        return self

    async def stop(self):
        if self._server is not None:
            self._server.close()
            self.let_go.set()
            for writer in list(self.connections):
                writer.transport.abort()
            await self._server.wait_closed()
            self._server = None

    def catch_up(self):
        self.applied = len(self.log.entries)
        self.moved.set()
        self.moved = asyncio.Event()

    async def _serve(self, reader, writer):
        self.connections.add(writer)
        self.connected_count += 1
        self.most = max(self.most, len(self.connections))
        parser = RequestParser()
        try:
            while data := await reader.read(65536):
                for words in parser.feed(data):
                    if not await self._one(words, writer):
                        return
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.connections.discard(writer)
            writer.transport.abort()

    async def _one(self, words, writer):
        known = {b"MM.OPEN", b"MM.GET", b"MM.PUT", b"MM.DEL", b"MM.ROLE", b"PING", b"HELLO"}
        name = next((word for word in words if word in known), words[0])
        plan = self.trouble.get(name.decode(), [])
        what = plan.pop(0) if plan else None
        if what == "refuse":
            return False
        if what == "hang":
            await self.let_go.wait()
            return False
        answer = what if isinstance(what, bytes) else await self._answer(words)
        if what == "lose":
            return False
        writer.write(answer[: len(answer) // 2] if what == "half" else answer)
        await writer.drain()
        return what != "half"

    async def _answer(self, words):
        match words:
            case [b"HELLO", *_]:
                return encode(
                    {"server": "mmrepl", "proto": 3, "role": "master" if self.role != "replica" else "replica"}, 3
                )
            case [b"PING"]:
                return b"+PONG\r\n"
            case [b"MM.ROLE"] if self.say_role:
                return encode(
                    {
                        "mode": "single-master",
                        "role": self.role,
                        "name": self.name,
                        "primary": self.knows_primary,
                        "term": self.term,
                        "applied": "-",
                    },
                    3,
                )
            case [b"MM.ROLE"]:
                return failure("ERR", "unknown command 'MM.ROLE'")
            case [b"MM.AFTER", token, wait_ms, *inner]:
                seen = parse_seen_token(token)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(int(wait_ms) / 1000):
                        while self.applied < seen.index:
                            await self.moved.wait()
                return failure("BEHIND", "not yet") if self.applied < seen.index else await self._answer(inner)
            case [b"MM.IN", _table, *inner]:
                return await self._answer(inner)
            case [b"MM.OPEN"] if self.role == "primary":
                self.log.sessions.append((0, b""))
                return encode(len(self.log.sessions), 3)
            case [b"MM.ONCE", session, request, *inner] if self.role == "primary":
                place, number = int(session) - 1, int(request)
                latest, answer = self.log.sessions[place]
                if number != latest:
                    assert number == latest + 1, "requests go one at a time"
                    answer = await self._answer(inner)
                    self.log.sessions[place] = (number, answer)
                return answer
            case [b"MM.ONCE", _, _, *inner]:
                return await self._answer(inner)
        self.asked.append(words)
        match words:
            case [b"MM.PUT", key, value, *_]:
                if self.role != "primary":
                    return (
                        failure("MOVED", f"0 {self.knows_primary}") if self.knows_primary else failure("READONLY", "no")
                    )
                self.log.entries.append((self.term, key, value))
                self.catch_up()
                return encode({"dot": f"{self.name}~1:{self.applied}", "context": "-", "seen": self._seen()}, 3)
            case [b"MM.GET", wanted, *more]:
                shown = {key: value for _, key, value in self.log.entries[: self.applied]}
                return encode([shown.get(wanted), self._seen()] if more else shown.get(wanted), 3)
        return failure("ERR", "unknown command")

    def _seen(self):
        return str(LogPosition(self.log.entries[self.applied - 1][0], self.applied)) if self.applied else "-"


@contextlib.asynccontextmanager
async def scripted(*roles):
    """Scripted nodes of one cluster, named a, b, c …, with these roles."""
    log = Log()
    nodes = [ScriptedNode(chr(97 + index), log, role) for index, role in enumerate(roles)]
    async with contextlib.AsyncExitStack() as stack:
        for node in nodes:
            await node.start()
            stack.push_async_callback(node.stop)
        yield nodes


class Wire:
    """
    A proxy before a port, which can be cut (connections end, new ones too) or stopped (nothing passes), and mended.

    It keeps its port while it is cut: another socket could take it meanwhile.
    """

    def __init__(self, target):
        self.target = target
        self.address = ""
        self.is_cut = False
        self._server = None
        self._writers = set()
        self._flows = asyncio.Event()
        self._flows.set()

    async def start(self):
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = "{}:{}".format(*self._server.sockets[0].getsockname()[:2])
        return self

    def cut(self):
        self.is_cut = True
        for writer in list(self._writers):
            writer.transport.abort()

    def stop(self):
        self._flows.clear()

    def mend(self):
        self.is_cut = False
        self._flows.set()

    async def end(self):
        self._server.close()
        self._flows.set()
        self.cut()
        await self._server.wait_closed()

    async def _accept(self, reader, writer):
        host, port = self.target.rsplit(":", 1)
        if self.is_cut:
            writer.transport.abort()
            return
        with contextlib.suppress(OSError, asyncio.CancelledError):
            there, here = await asyncio.open_connection(host, int(port))
            await asyncio.gather(self._pass(reader, here), self._pass(there, writer))
        writer.transport.abort()

    async def _pass(self, reader, writer):
        self._writers.add(writer)
        try:
            while data := await reader.read(65536):
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()


@contextlib.asynccontextmanager
async def wires(*targets):
    """A wire before each target; all end."""
    made = []
    try:
        made += [await Wire(target).start() for target in targets]
        yield made
    finally:
        for wire in made:
            await wire.end()


async def until(condition, what="it"):
    """Return when *condition* holds, looking at each turn of the loop."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - the condition is the client's, which tells nobody
            await asyncio.sleep(0)
