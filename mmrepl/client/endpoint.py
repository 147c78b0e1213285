"""
One node as the client knows it: its health, looked at by a task of its own, and its connections.

The check has a connection to itself, so that it measures the node and not a queue. PING gives the round trip, MM.ROLE
the rest. A node that does not answer is down: its connections are cut, since whoever waits there would wait for long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from attrs import evolve, frozen

from mmrepl.client.connection import Connection, connect
from mmrepl.client.health import Health, Role
from mmrepl.client.pool import Pool
from mmrepl.client.requests import encoded
from mmrepl.client.routing import NodeView
from mmrepl.errors import MmreplError, Unavailable, UsageError
from mmrepl.ports import Rng
from mmrepl.wire.resp import Failure
from mmrepl.wire.resp_errors import error_of


@frozen(kw_only=True)
class Settings:
    """What a client was told, in seconds."""

    password: str | None
    connections: int
    pipeline: int
    connect_timeout: float
    health_interval: float
    health_timeout: float


class Endpoint:
    """*changed* is called whenever calls should perhaps go elsewhere than before."""

    def __init__(self, address: str, settings: Settings, rng: Rng, changed: Callable[[], None]) -> None:
        self.address = address
        self.health = Health(max(1, round(settings.health_interval * 1000)), rng)
        self.refusal: UsageError | None = None  # the node is there and does not let us in
        self.pool = Pool(
            address,
            password=settings.password,
            connections=settings.connections,
            pipeline=settings.pipeline,
            timeout=settings.connect_timeout,
            lost=self._lost,
        )
        self.first_look: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._settings = settings
        self._changed = changed
        self._nudged = asyncio.Event()
        self._probe: Connection | None = None
        self._task = asyncio.get_running_loop().create_task(self._watch(), name=f"mmrepl-client-{address}")

    @property
    def view(self) -> NodeView:
        """For the router."""
        role = self.health.role
        return NodeView(self.address, role.role, role.term, self.health.rtt_ms)

    def status(self) -> dict[str, Any]:
        """For people."""
        health = self.health
        return {
            "address": self.address,
            "name": health.role.name,
            "up": health.up,
            "mode": health.role.mode,
            "role": health.role.role,
            "term": health.role.term,
            "rtt_ms": round(health.rtt_ms, 3) if health.up else None,
            "connections": self.pool.size,
            "under_way": self.pool.under_way,
            "trouble": health.trouble,
        }

    def look_again(self, *, is_named: bool = False) -> None:
        """Check now and not later; of a node that is down the back-off stands, unless others name it as the primary."""
        if self.health.up or is_named:
            self._nudged.set()

    def presume(self, role: str, term: int) -> None:
        """Believe that it has *role*, as another node or itself has just said, until the next check."""
        self.health.role = evolve(self.health.role, role=role, term=max(term, self.health.role.term))
        self._changed()

    def _lost(self, why: str) -> None:
        self.look_again()
        if not self.pool.size:
            self._down(why)

    def _down(self, why: str) -> None:
        if self.health.failed(why):
            self._changed()

    # -- the check

    async def _watch(self) -> None:
        while True:
            self._nudged.clear()
            try:
                rtt_ms, role = await self._check()
            except UsageError as error:
                self.refusal = error
                self._fail(str(error))
            except (MmreplError, TimeoutError) as error:
                self.refusal = None
                self._fail(str(error) or f"no answer within {self._settings.health_timeout:g} s")
            else:
                self.refusal = None
                if self.health.answered(rtt_ms, role):
                    self._changed()
            if not self.first_look.done():
                self.first_look.set_result(None)
            with suppress(TimeoutError):
                async with asyncio.timeout(self.health.next_ms() / 1000):
                    await self._nudged.wait()

    def _fail(self, why: str) -> None:
        if self._probe is not None:
            self._probe.abort(why)
            self._probe = None
        self.pool.cut(why)
        self._down(why)

    async def _check(self) -> tuple[float, Role]:
        settings = self._settings
        if self._probe is None or self._probe.ended:
            timeout = settings.connect_timeout
            self._probe = await connect(self.address, settings.password, timeout, 2, lambda _: self._nudge_if_ended())
        probe, loop = self._probe, asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.timeout(settings.health_timeout):
            pong = probe.ask(encoded((b"PING",)))
            role = probe.ask(encoded((b"MM.ROLE",)))
            try:
                said = await pong
                rtt_ms = (loop.time() - began) * 1000
                answer = await role
            finally:
                pong.cancel()
                role.cancel()
        if isinstance(said, Failure):  # a node that is closing, or loading
            raise Unavailable(str(error_of(said)))
        return rtt_ms, Role.parse(answer) if isinstance(answer, Mapping) else Role.of_redis(probe.hello)

    def _nudge_if_ended(self) -> None:
        if self._probe is not None and self._probe.ended and self.health.up:
            self.look_again()

    def end(self) -> None:
        """End the check and every connection, at once. Idempotent."""
        self._task.cancel()
        if self._probe is not None:
            self._probe.abort("the client was closed")
        self.pool.end()

    async def ended(self) -> None:
        """Return when nothing is left of it, after `end`."""
        await asyncio.wait([self._task, *self.pool.opening])
