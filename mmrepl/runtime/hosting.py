"""
What every node on the network has in common, whatever its mode: a life between `start` and `close`, and two ports.

A kind of node opens its core over the storage; here it gets a driver, a port for peers and, if wanted, one for clients,
in this order, and all of it is undone when any of it fails.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from attrs import frozen

from mmrepl.effects import HostedCore
from mmrepl.errors import ClosedError, UsageError
from mmrepl.ports import Clock, Durability, Listener, Rng, Storage, Transport
from mmrepl.runtime.driver import Driver
from mmrepl.runtime.link import LinkHandler
from mmrepl.runtime.resp.backend import Backend
from mmrepl.runtime.system import SYSTEM_CLOCK, system_rng
from mmrepl.runtime.waiting import Waiting

CoreT = TypeVar("CoreT", bound=HostedCore)


@frozen(kw_only=True)
class Outside:
    """Where a node listens, who may come in, and what stands for the outside in tests."""

    path: Path | None = None
    listen: str | None = "127.0.0.1:0"
    client: str | None = None
    client_password: str | None = None
    advertise: str | None = None
    client_advertise: str | None = None
    secret: bytes | None = None
    insecure: bool = False
    transport: Transport | None = None
    storage: Storage | None = None
    clock: Clock = SYSTEM_CLOCK
    rng: Rng | None = None


class Hosting(ABC, Generic[CoreT]):
    """A node between its start and its end."""

    def __init__(self, name: str, outside: Outside) -> None:
        self.name = name
        self.path = outside.path
        self._outside = outside
        self._clock = outside.clock
        self._rng = outside.rng or system_rng()
        self._core: CoreT | None = None
        self._driver: Driver | None = None
        self._listener: Listener | None = None
        self._client_port: Any = None
        self._closing: asyncio.Task[None] | None = None
        self._waiting = Waiting()

    # -- what a kind of node adds

    @abstractmethod
    def _open(self, storage: Storage | None) -> CoreT:
        """The core, with whatever it wanted committed first."""

    @abstractmethod
    def _bound(self, core: CoreT, address: str) -> None:
        """Peers reach this node at *address*."""

    @abstractmethod
    def _backend(self) -> Backend:
        """This node, as the client port wants to see it."""

    @abstractmethod
    def _event(self, event: object) -> None:
        """The core tells of something."""

    @abstractmethod
    def _durable_moved(self, error: Exception | None) -> None:
        """More has become durable, or never will."""

    def _ending(self) -> None:
        """The node is about to close: the driver commits what there is after this."""

    def _ended(self, error: ClosedError) -> None:
        """The node is closed: whoever still waits is told."""

    # -- life

    async def start(self) -> Self:
        """
        Open the store, listen, and begin to look for peers.

        Raises StorageError for a file that cannot be used, OSError for an address that cannot be bound, UsageError
        for one that is not of loopback without a secret or *insecure*. Nothing is left open then.
        """
        if self._core is not None:
            raise UsageError(f"node {self.name!r} was started already")
        outside = self._outside
        storage, transport = outside.storage, outside.transport
        if storage is None and self.path is not None:
            from mmrepl.storage.sqlite import SqliteStorage

            storage = SqliteStorage(self.path)
        if transport is None:
            from mmrepl.transport.tcp import TcpTransport

            transport = TcpTransport(secured=outside.secret is not None, insecure=outside.insecure)
        try:
            self._core = core = self._open(storage)
            if storage is not None:
                first = core.local.take_persist()
                if first is not None:
                    storage.commit(first.commit, Durability.SYNC)
                    core.persisted(first.position)
            self._driver = driver = Driver(
                core, storage, transport, clock=self._clock, rng=self._rng,
                notify=self._event, on_durable=self._durable_moved, on_tick=self._waiting.stir,
            )  # fmt: skip
        except BaseException:
            self._core = None
            if storage is not None:
                storage.close()
            raise
        try:
            if outside.client is not None:  # first: the hello tells peers where it is
                await self._start_client_port(outside.client)
            if outside.listen is not None:
                self._listener = await transport.listen(outside.listen, lambda: LinkHandler(driver, ""))
                self._bound(core, outside.advertise or self._listener.address)
        except BaseException:
            await self.close()
            self._core = self._closing = None
            raise
        driver.wake()
        return self

    async def _start_client_port(self, address: str) -> None:
        from mmrepl.runtime.resp.options import ClientOptions
        from mmrepl.runtime.resp.server import ClientPort

        self._client_port = ClientPort(self._backend(), ClientOptions(password=self._outside.client_password))
        await self._client_port.start(address, insecure=self._outside.insecure)

    async def close(self) -> None:
        """
        Stop taking connections, make durable what was written, say goodbye. Idempotent.

        Who still waits for something gets a ClosedError. Whoever is cancelled while closing leaves when it is done all
        the same, for half a closing is none; it takes about a second at most, and what the disk takes.

        Raises DiskFull: there was no room for what was written last, and whose writers were told so.
        """
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        try:
            await asyncio.shield(self._closing)
        except asyncio.CancelledError:
            if not self._closing.done():
                await asyncio.wait([self._closing])
            raise

    async def _close(self) -> None:
        driver, self._driver = self._driver, None
        self._ending()
        try:
            if self._client_port is not None:
                await self._client_port.close()
                self._client_port = None
            if self._listener is not None:
                await self._listener.close()
                self._listener = None
        finally:
            try:
                if driver is not None:
                    await driver.close()
            finally:
                closed = ClosedError(f"node {self.name!r} is closed")
                self._ended(closed)
                self._waiting.fail(closed)
                self._waiting.stir()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def core(self) -> CoreT:
        """The core that this node runs. Read it; changing it is the driver's."""
        if self._core is None or self._driver is None:
            raise ClosedError(f"node {self.name!r} is not running")
        return self._core

    @property
    def address(self) -> str:
        """Where peers reach this node; empty if nowhere."""
        return self._listener.address if self._listener is not None else ""

    @property
    def client_address(self) -> str:
        """Where Redis clients reach it; empty if nowhere."""
        return str(self._client_port.address) if self._client_port is not None else ""

    def _wake(self) -> None:
        if self._driver is not None:
            self._driver.wake()

    async def backup(self, target: str | Path) -> None:
        """A consistent copy of the file, while running. Opened, it takes a new incarnation, as it must."""
        driver = self._driver
        if driver is None:
            raise ClosedError(f"node {self.name!r} is not running")
        await driver.backup(str(target))

    async def news(self) -> None:
        """Return when something has become durable, or a peer has come or gone."""
        await self._waiting.news()
