"""
The same comparison as processes on loopback, in real time.

Each node is a process of ``mmrepl serve`` with a file of its own. A client talks to its own node over the client port,
and in single-master mode to whom that one names as the primary. Partitions are the drills of the port (MM.PARTITION):
the nodes' connections are cut; and a client does not talk across, because it stands on its node's side. A crash is a
kill -9. What only the simulator can count, the bytes between the nodes, is left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import msgspec

from mmrepl.causality.dot import Dot
from mmrepl.client.connection import Connection
from mmrepl.client.requests import encoded
from mmrepl.compare.clients import Answer, clients_of
from mmrepl.compare.figures import figures
from mmrepl.compare.modes import UNION, Compared, Mode
from mmrepl.compare.record import Event, RunRecord
from mmrepl.compare.script import Script
from mmrepl.compare.sim_multi_master import shown
from mmrepl.compare.workload import Workload
from mmrepl.errors import MmreplError, NotPrimary, PromotionRefused, Unavailable
from mmrepl.single_master.options import Failover, ReadLevel
from mmrepl.transport.address import parse_address
from mmrepl.wire.resp import Failure, Reply
from mmrepl.wire.resp_errors import error_of
from mmrepl.wire.seen import LogPosition, parse_seen_token

START_S = 20.0
"""A node that does not answer by then does not start."""

CALL_S = 2.0
"""So long a client waits for an answer."""

AGREE_S = 20.0
"""So long the nodes have, after the clients have stopped, to agree."""

BOUND_ENTRIES = 20
"""A bounded read may be so many entries behind."""


class _Process:
    """One node, over its lives."""

    def __init__(self, name: str, folder: Path, words: list[str], peer: str, client: str) -> None:
        self.name = name
        self.peer = peer
        self.client = client
        self._log = folder / f"{name}.log"
        self._words = [
            sys.executable, "-m", "mmrepl", "serve", name, "--json", "--until-eof", "--listen", peer,
            "--client", client, "--path", str(folder / f"{name}.db"), *words,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self._connections: dict[str, Connection] = {}  # by who asks

    @property
    def is_up(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Run it. Its connection is opened when somebody asks."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 — ourselves, with words of our own
                self._words, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self) -> None:
        """As if the machine had lost power, but for the page cache."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdin is not None:
                self._process.stdin.close()

    def stop(self) -> None:
        """Tell it to stop; kill it if it does not."""
        for connection in self._connections.values():
            connection.abort("the comparison is over")
        if self._process is None:
            return
        if self.is_up:
            self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def ask(self, *words: str | bytes, seconds: float = CALL_S, who: str = "operator") -> Any:
        """
        The answer to a command. Raises the error that it tells of, Unavailable, or TimeoutError.

        Answers come in the order of the questions, and a read may wait for a leader for seconds: so clients and the
        operator have a connection each, or no node could be told that the partition is over.
        """
        async with asyncio.timeout(seconds):
            connection = await self._open(who)
            answer = await connection.ask(_encoded(words))
        if isinstance(answer, Failure):
            raise error_of(answer)
        return answer

    async def both(self, *pairs: tuple[str | bytes, ...]) -> list[Reply]:
        """Several commands in one write: nothing comes between them but what they wait for."""
        async with asyncio.timeout(CALL_S):
            connection = await self._open("clients")
            return list(await asyncio.gather(*(connection.ask(_encoded(words)) for words in pairs)))

    async def _open(self, who: str) -> Connection:
        known = self._connections.get(who)
        if known is None or known.ended:
            loop = asyncio.get_running_loop()
            place = parse_address(self.client)
            try:
                _, connection = await loop.create_connection(
                    lambda: Connection(self.client, 10_000, lambda _connection: None), *place
                )
            except OSError as error:
                raise _unreachable(f"{self.name} does not answer: {error}") from None
            await connection.ask(_encoded(("HELLO", "3")))
            self._connections[who] = known = connection
        return known


def _unreachable(text: str) -> Unavailable:
    error = Unavailable(text)
    error.definite = True
    return error


def _encoded(words: tuple[str | bytes, ...]) -> bytes:
    return encoded(tuple(word if isinstance(word, bytes) else word.encode() for word in words))


class RealWorld:
    """See `mmrepl.compare.clients.World`. A context: what it starts, it ends."""

    def __init__(self, mode: Mode, names: tuple[str, ...], seed: int) -> None:
        self.mode = mode
        self.run = RunRecord(mode.name, names, seed, single_writer=mode.knobs is not None)
        self._folder = tempfile.TemporaryDirectory(prefix="mmrepl-compare-")
        self._began = 0.0
        self._parted: frozenset[str] = frozenset()
        self._crashed = ""
        self._healed_at = 0.0
        addresses = [f"127.0.0.1:{port}" for port in _free_ports(2 * len(names))]
        peers = dict(zip(names, addresses, strict=False))
        clients = dict(zip(names, addresses[len(names) :], strict=False))
        folder = Path(self._folder.name)
        self.nodes = {
            name: _Process(name, folder, self._words(name, peers), peers[name], clients[name]) for name in names
        }

    def _words(self, name: str, peers: dict[str, str]) -> list[str]:
        words = ["--cluster", f"compare-{os.getpid()}"]
        for other, address in peers.items():
            words += ["--peer", address] if other != name else []
        knobs = self.mode.knobs
        if knobs is None:
            resolver = self.mode.name
            return [*words, "--default", f"callback:{UNION}" if resolver == "callback" else resolver]
        words += ["--mode", "single-master", "--failover", knobs.failover.value, "--ack", _ack(knobs.ack)]
        words += ["--election-ms", "1000", "2000"]
        if knobs.failover is Failover.MANUAL and name == self.run.nodes[0]:
            words.append("--primary")
        return words

    # -- life

    async def begin(self) -> None:
        """Start the nodes, and wait until they are one cluster."""
        for node in self.nodes.values():
            node.start()
        deadline = time.monotonic() + START_S
        while not await self._is_whole():
            if time.monotonic() > deadline:
                raise Unavailable(f"{', '.join(self.nodes)} did not become one cluster within {START_S:g} s")
            await asyncio.sleep(0.05)
        self._began = time.monotonic()
        if self.mode.knobs is not None:
            self._note("primary", await self._primary(), "takes writes")

    async def _is_whole(self) -> bool:
        for node in self.nodes.values():
            try:
                members = await node.ask("MM.MEMBERS")
                role = await node.ask("MM.ROLE")
            except (MmreplError, TimeoutError):
                return False
            if sum(member[b"state"] in {b"self", b"live"} for member in members) < len(self.nodes):
                return False
            if self.mode.knobs is not None and role[b"role"] != b"primary" and not role[b"primary"]:
                return False
        return True

    def close(self) -> None:
        """End every process, and forget the folder."""
        for node in self.nodes.values():
            node.stop()
        self._folder.cleanup()

    # -- time

    def now_ms(self) -> int:
        """Milliseconds since the run began."""
        return int((time.monotonic() - self._began) * 1000)

    async def pause(self, ms: int) -> None:
        """Let time pass."""
        await asyncio.sleep(ms / 1000)

    # -- calls

    async def read(self, home: str, key: str) -> Answer:
        """As the mode's clients read."""
        return await self._call(home, self._read_at, key)

    async def write(self, home: str, key: str, items: list[str] | None, context: Any) -> Answer:
        """As the mode's clients write."""
        return await self._call(home, self._write_at, key, items, context)

    async def _call(self, home: str, what: Any, *arguments: Any) -> Answer:
        try:
            return cast("Answer", await what(home, *arguments))
        except TimeoutError:
            return Answer("unknown", "no answer", home)
        except MmreplError as error:
            return Answer("refused" if error.definite else "unknown", type(error).__name__, home)

    def _reached(self, home: str, target: str) -> _Process:
        """A node that a client of *home* may talk to. Raises Unavailable."""
        if (home in self._parted) != (target in self._parted):
            raise _unreachable(f"{target} is on the other side")
        return self.nodes[target]

    async def _named_primary(self, home: str) -> _Process:
        """Whom the client's own node names. Raises NotPrimary, Unavailable."""
        role = await self.nodes[home].ask("MM.ROLE", who="clients")
        if role[b"role"] == b"primary":
            return self.nodes[home]
        for name, node in self.nodes.items():
            if node.client.encode() == role[b"primary"]:
                return self._reached(home, name)
        raise NotPrimary(f"{home} knows nobody who takes writes")

    async def _read_at(self, home: str, key: str) -> Answer:
        node = self.nodes[home]
        words: tuple[str | bytes, ...] = ("MM.READ", key, "PACKED")
        knobs = self.mode.knobs
        if knobs is not None and knobs.read is not ReadLevel.LOCAL:
            if knobs.read is ReadLevel.LEADER:
                node = await self._named_primary(home)
            level = knobs.read.value + (f":{BOUND_ENTRIES}" if knobs.read is ReadLevel.BOUNDED else "")
            words = ("MM.AT", level, *words)
        found, role = await node.both(words, ("MM.ROLE",))
        if isinstance(found, Failure):
            raise error_of(found)
        answer, says = cast("dict[bytes, Any]", found), cast("dict[bytes, Any]", role)
        value = msgspec.msgpack.decode(answer[b"value"]) if answer[b"present"] else None
        return Answer(
            "ok",
            node=node.name,
            siblings=shown(value),
            live=sum(not sibling[b"deleted"] for sibling in answer[b"siblings"]),
            context=answer[b"context"],
            position=_position(says[b"applied"], knobs is not None),
        )

    async def _write_at(self, home: str, key: str, items: list[str] | None, context: Any) -> Answer:
        node = self.nodes[home] if self.mode.knobs is None else await self._named_primary(home)
        given = ("CONTEXT", context) if context is not None and self.mode.knobs is None else ()
        if items is None:
            found = await node.ask("MM.DEL", key, *given, who="clients")
            if found is None:
                return Answer("ok", node=node.name)  # it was not there
        else:
            packed = msgspec.msgpack.encode(items)
            found = await node.ask("MM.PUT", key, packed, *given, "PACKED", who="clients")
        if self.mode.knobs is None:
            return Answer("ok", node=node.name, mark=Dot.parse(found[b"dot"].decode()))
        seen = parse_seen_token(found[b"seen"])
        assert isinstance(seen, LogPosition)
        return Answer("ok", node=node.name, mark=seen)

    # -- the script

    async def act(self, script: Script) -> None:
        """Do what the script says, when it says so."""
        for moment in script.moments:
            await asyncio.sleep(max(0.0, moment.at_ms / 1000 - (time.monotonic() - self._began)))
            await getattr(self, f"_{moment.deed}")()

    async def _primary(self) -> str:
        """Who takes writes, of the highest term; in multi-master mode the first node."""
        best = ("", -1)
        for name, node in self.nodes.items():
            with contextlib.suppress(MmreplError, TimeoutError):
                role = await node.ask("MM.ROLE")
                if role[b"role"] == b"primary" and role[b"term"] > best[1]:
                    best = (name, role[b"term"])
        return best[0] or self.run.nodes[0]

    async def _isolate(self) -> None:
        name = await self._primary() if self.mode.knobs is not None else self.run.nodes[0]
        self._note("isolate", name, f"{name} is cut off from all others")
        self._parted = self.run.isolated = frozenset({name})
        for other in self.nodes:
            if other != name:
                await self.nodes[name].ask("MM.PARTITION", other)
                await self.nodes[other].ask("MM.PARTITION", name)

    async def _promote(self) -> None:
        knobs = self.mode.knobs
        if knobs is None or knobs.failover is not Failover.MANUAL:
            return
        name = next(name for name in self.run.nodes if name not in self._parted)
        force = False
        for _ in range(4):
            self._note("promote", name, f"an operator promotes {name}{' by force' if force else ''}")
            try:
                await self.nodes[name].ask(*(("MM.PROMOTE", "FORCE") if force else ("MM.PROMOTE",)), seconds=15)
            except PromotionRefused as refused:
                further = [other for other in self.run.nodes if other in refused.ahead and self.nodes[other].is_up]
                name, force = (further[0], False) if further else (name, True)
            except (MmreplError, TimeoutError):
                force = True
            else:
                self._note("primary", name, "takes writes")
                return

    async def _crash(self) -> None:
        leading = await self._primary() if self.mode.knobs is not None else ""
        others = [name for name in self.run.nodes if name not in self._parted and name != leading]
        self._crashed = others[-1]
        self._note("crash", self._crashed, f"{self._crashed} is killed")
        self.nodes[self._crashed].kill()

    async def _restart(self) -> None:
        self._note("restart", self._crashed, f"{self._crashed} is back")
        self.nodes[self._crashed].start()
        for name in self._parted:  # a drill is forgotten with the process
            await self._once_up(self._crashed, "MM.PARTITION", name)

    async def _once_up(self, name: str, *words: str) -> None:
        deadline = time.monotonic() + START_S
        while True:
            try:
                await self.nodes[name].ask(*words)
                return
            except (MmreplError, TimeoutError):
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.05)

    async def _heal(self) -> None:
        self._parted = frozenset()
        self._note("heal", "", "the network is whole again")
        for node in self.nodes.values():
            with contextlib.suppress(MmreplError, TimeoutError):
                await node.ask("MM.HEAL")
        self._healed_at = time.monotonic()
        await self._watch()

    async def _watch(self) -> None:
        """Until all nodes have what any of them had at the heal."""
        deadline = time.monotonic() + AGREE_S
        tokens: list[bytes] = []
        while not tokens and time.monotonic() < deadline:  # there may be no primary at this moment
            said = [await self._applied(node) for node in self.nodes.values()]
            tokens = [token for token in said if token is not None]
        while time.monotonic() < deadline:
            if all([await self._has(node, token) for node in self.nodes.values() for token in tokens]):
                self.run.converged_ms = int((time.monotonic() - self._healed_at) * 1000)
                self._note("converged", "", "all nodes have what any of them had")
                return
            await asyncio.sleep(0.01)

    async def _applied(self, node: _Process) -> bytes | None:
        with contextlib.suppress(MmreplError, TimeoutError):
            role = await node.ask("MM.ROLE")
            of_a_replica = self.mode.knobs is not None and role[b"role"] != b"primary"
            return None if of_a_replica else cast("bytes", role[b"applied"])
        return None

    async def _has(self, node: _Process, token: bytes) -> bool:
        with contextlib.suppress(MmreplError, TimeoutError):
            return bool(await node.ask("MM.WAIT", token, "0"))
        return False

    def _note(self, kind: Any, node: str, text: str) -> None:
        self.run.events.append(Event(self.now_ms(), kind, node, text))

    # -- the end

    async def end(self) -> None:
        """Let it agree, and note what is left."""
        run = self.run
        self._note("end", "", "the clients have stopped")
        deadline = time.monotonic() + AGREE_S
        while time.monotonic() < deadline:
            says = [(await node.ask("MM.ROLE"))[b"applied"] for node in self.nodes.values()]
            if len(set(says)) == 1:
                break
            await asyncio.sleep(0.05)
        node = self.nodes[await self._primary()]
        gone = await self._cut_off()
        position = _position((await node.ask("MM.ROLE"))[b"applied"], self.mode.knobs is not None)
        for record in run.records:
            mark = record.mark
            if isinstance(mark, Dot):
                assert not isinstance(position, LogPosition)
                if position.covers(mark):
                    run.survived.add(mark)
            elif mark is not None and not any(
                fork < mark.index <= last and mark.term in terms for fork, last, terms in gone
            ):
                run.survived.add(mark)
        for key in sorted({record.key for record in run.records}):
            found = await node.ask("MM.READ", key, "PACKED")
            value = msgspec.msgpack.decode(found[b"value"]) if found[b"present"] else None
            run.final[key] = shown(value)
        run.stored_bytes = self._stored_bytes()

    def _stored_bytes(self) -> int:
        return sum(path.stat().st_size for path in Path(self._folder.name).iterdir() if ".db" in path.name)

    async def _cut_off(self) -> list[tuple[int, int, list[int]]]:
        """What was cut off the nodes' logs: branches, as (fork, last, terms)."""
        if self.mode.knobs is None:
            return []
        kept = [branch for node in self.nodes.values() for branch in await node.ask("MM.BRANCHES")]
        return [(branch[b"fork"], branch[b"last"], branch[b"terms"]) for branch in kept]


def _position(token: bytes, single: bool) -> Any:
    position = parse_seen_token(token)
    return LogPosition(0, 0) if single and not position else position


def _ack(ack: int | str) -> str:
    return "async" if ack == 0 else str(ack)


def _free_ports(count: int) -> Iterator[int]:
    """Ports that are free now. Somebody else may take one before a node does; then it says so."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return iter(ports)


def compare_real(mode: Mode, workload: Workload, script: Script, nodes: tuple[str, ...], seed: int) -> Compared:
    """Play the workload under one mode, as processes. Takes as long as the workload does, and a few seconds more."""
    run = asyncio.run(_play(mode, workload, script, nodes, seed))
    return Compared(mode, figures(run), run)


async def _play(mode: Mode, workload: Workload, script: Script, nodes: tuple[str, ...], seed: int) -> RunRecord:
    world = RealWorld(mode, nodes, seed)
    try:
        await world.begin()
        acting = asyncio.create_task(world.act(script))
        clients = clients_of(world, workload, nodes, seed)
        await asyncio.gather(*(client.live() for client in clients))
        await acting
        await world.end()
    finally:
        world.close()
    return world.run
