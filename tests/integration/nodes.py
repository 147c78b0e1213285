"""Nodes over loopback TCP, peers that misbehave, and what tests wait for. Nothing here sleeps."""

from __future__ import annotations

import asyncio
import contextlib
import os

import msgspec
from attrs import evolve

import mmrepl
from mmrepl.runtime.system import SystemClock
from mmrepl.types import DEFAULT_LIMITS
from mmrepl.wire.codec import decode, encode
from mmrepl.wire.framing import FrameReader, encode_frame
from mmrepl.wire.messages import PROTOCOL, Hello, Proof

QUICK = evolve(DEFAULT_LIMITS, gossip_tick_ms=20, heartbeat_ms=100, reconnect_ms_min=5, reconnect_ms_max=100)
"""As the default, but with less patience: a test is no wide-area network."""

PATIENCE = 15.0
"""Seconds after which a test gives up. Nothing should come near it."""


class SkewedClock(SystemClock):
    """A wall clock that is wrong by *skew_ms*; the monotonic one is right."""

    def __init__(self, skew_ms=0):
        object.__setattr__(self, "skew", [skew_ms])

    def wall_ms(self):
        return super().wall_ms() + self.skew[0]


@contextlib.asynccontextmanager
async def cluster(*names, limits=QUICK, **options):
    """Nodes that know the first one, and by now each other."""
    async with contextlib.AsyncExitStack() as stack:
        nodes = {}
        for name in names:
            seeds = [next(iter(nodes.values())).address] if nodes else []
            nodes[name] = await stack.enter_async_context(mmrepl.Node(name, limits=limits, peers=seeds, **options))
        await connected(*nodes.values())
        yield list(nodes.values())


async def connected(*nodes):
    """Everybody is connected to everybody, and lacks nothing that is known."""
    for node in nodes:
        others = [other.name for other in nodes if other is not node]
        await node.wait_connected(*others, timeout=PATIENCE)


async def until(node, condition, what="it"):
    await node.wait_until(condition, what, timeout=PATIENCE)


async def converged(*nodes):
    """All have what any of them had when this was called."""
    wanted = mmrepl.VersionVector()
    for node in nodes:
        wanted = wanted.join(node.version)
    for node in nodes:
        await until(node, lambda node=node: node.version.descends(wanted), f"{node.name} has {wanted}")


class Impostor:
    """A peer made of a bare socket: says what it is told to, and remembers what it heard."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self._frames = FrameReader()
        self.heard = []
        self.hello = None  # the node's

    @classmethod
    async def dial(cls, node):
        host, port = node.address.rsplit(":", 1)
        impostor = cls(*await asyncio.open_connection(host, int(port)))
        impostor.hello = await impostor.hear(Hello)
        return impostor

    async def hear(self, kind):
        """The next message of that kind; None when the connection ended before."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for index, message in enumerate(self.heard):
                    if isinstance(message, kind):
                        return self.heard.pop(index)
                data = await self._read()
                if not data:
                    return None
                self.heard += [decode(*frame) for frame in self._frames.feed(data)]

    async def _read(self):
        try:
            return await self.reader.read(65536)
        except ConnectionError:
            return b""

    async def ended(self):
        """Return when the node has closed the connection."""
        async with asyncio.timeout(PATIENCE):
            while await self._read():
                pass

    def say(self, message):
        self.writer.write(encode_frame(*encode(message)))

    def bytes(self, data):
        self.writer.write(data)

    def introduce(self, name="mallory", **changes):
        """A hello that fits the node's own."""
        plain = Hello(
            protocol=PROTOCOL, cluster=self.hello.cluster, name=name, incarnation=1, instance=7, address="",
            nonce=os.urandom(16), vector=[], policies=self.hello.policies, wall_ms=self.hello.wall_ms, hlc=0,
            head_stamp=0, compressions=[], max_drift_ms=300_000, secured=self.hello.secured,
            members=[(name, 1)], admitted=False,
        )  # fmt: skip
        self.say(msgspec.structs.replace(plain, **changes))

    async def close(self):
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


@contextlib.asynccontextmanager
async def impostor(node, **hello):
    """A peer that has come through the hello of *node*."""
    found = await Impostor.dial(node)
    try:
        found.introduce(**hello)
        name = hello.get("name", "mallory")
        await until(node, lambda: any(peer.name == name for peer in node.core.up()), f"{name} is up")
        yield found
    finally:
        await found.close()


__all__ = [
    "PATIENCE",
    "QUICK",
    "Impostor",
    "Proof",
    "SkewedClock",
    "cluster",
    "connected",
    "converged",
    "impostor",
    "until",
]
