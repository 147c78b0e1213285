"""
The writing half of a node: what is put is applied at once, and answered when it is as safe as was asked for.

Waiting is for the disk, and for others who confirm that they have it. Neither is needed for the write to be there:
who stops waiting has written all the same.
"""

from __future__ import annotations

import asyncio

from mmrepl.causality.context import CausalContext
from mmrepl.errors import AckTimeout, ClockAhead, ClosedError
from mmrepl.log.oplog import OpLog
from mmrepl.ports import Durability
from mmrepl.replication.local import LocalCore
from mmrepl.replication.waiters import needed
from mmrepl.runtime.hosting import Outside
from mmrepl.runtime.outcomes import Receipts, Written, as_level, written
from mmrepl.runtime.reader import Reader
from mmrepl.store.table import Table
from mmrepl.types import DEFAULT_TABLE, Limits, Value
from mmrepl.values import Items, check_key, check_table, columns_of, encode

ACK_TIMEOUT = 5.0
"""Seconds that a put waits for the acknowledgements it asked for, unless told otherwise."""


class Writer(Reader):
    """The writing half of a node."""

    def __init__(self, name: str, outside: Outside, limits: Limits, durability: Durability) -> None:
        super().__init__(name, outside)
        self.limits = limits
        self.durability = durability
        self._tables_of: OpLog | None = None  # the log that _tables belong to
        self._tables: dict[str, Table] = {}

    async def put(
        self,
        key: str,
        value: Value,
        *,
        table: str = DEFAULT_TABLE,
        context: CausalContext | None = None,
        acks: int | str | None = None,
        timeout: float = ACK_TIMEOUT,
        durability: Durability | str | None = None,
    ) -> Written:
        """
        Write *value*; returns its dot and new context once it is as durable as asked for.

        Without a *context* it goes over what this node shows now; see `TableView.put`. *acks*: how many members must
        hold it durably before this returns, this one included: a number, ``"majority"`` or ``"all"``; waits at most
        *timeout* seconds.

        Raises:
            InvalidKey, InvalidValue, WrongContext, TooManySiblings, ClockAhead: nothing was written.
            AckTimeout: written, and will spread; fewer members than asked for confirmed in time.
            DiskFull: where ``definite``, nothing was written. Else it waits in memory for room on the disk.
            StoreFailed: the disk failed; it may or may not be there after reopening.
        """
        payload = encode(value, self.limits)
        level = self.durability if durability is None else as_level(durability)
        if acks is not None:
            needed(acks, 1)
        receipt = self.put_now(table, key, payload, context, level)
        if acks is not None:
            await self._settled(receipt, key, acks, timeout)
        elif (local := self.core.local).journal is not None and not local.answers_at_once(level):
            await self._on_disk(local)
        return receipt

    async def put_many(
        self,
        items: Items,
        *,
        table: str = DEFAULT_TABLE,
        acks: int | str | None = None,
        timeout: float = ACK_TIMEOUT,
        durability: Durability | str | None = None,
    ) -> Receipts:
        """
        Write many keys at once, in order, each over what this node shows now; returns their receipts, in order.

        All or none are written, and they share one commit; peers may see the first of them before the last. It costs
        a half of so many calls of `put`, and nothing else happens on the event loop meanwhile: some hundreds or
        thousands at a time are enough. Other arguments and errors as `put`; of AckTimeout, the key is the last one.
        """
        keys, payloads = columns_of(items, self.limits)
        level = self.durability if durability is None else as_level(durability)
        if acks is not None:
            needed(acks, 1)
        receipts = self._put_run(table, keys, payloads, level)
        if keys and (acks is not None or not self.core.local.answers_at_once(level)):
            await self._settled(receipts[-1], keys[-1], acks, timeout)
        return receipts

    async def delete(
        self,
        key: str,
        *,
        table: str = DEFAULT_TABLE,
        context: CausalContext | None = None,
        acks: int | str | None = None,
        timeout: float = ACK_TIMEOUT,
        durability: Durability | str | None = None,
    ) -> Written:
        """Write a tombstone, whether or not there is a value. Arguments and errors as `put`."""
        level = self.durability if durability is None else as_level(durability)
        if acks is not None:
            needed(acks, 1)
        receipt = self.put_now(table, key, None, context, level)
        if acks is not None:
            await self._settled(receipt, key, acks, timeout)
        elif (local := self.core.local).journal is not None and not local.answers_at_once(level):
            await self._on_disk(local)
        return receipt

    def put_now(
        self, table: str, key: str, payload: bytes | None, context: CausalContext | None, level: Durability
    ) -> Written:
        """Write encoded bytes (None: delete) without waiting. `durable_at` waits for the disk. Errors as `put`."""
        check_key(key, self.limits)
        local, found = self._open_for_writing(table)
        try:
            counter = local.put(found, key, payload, self._clock.wall_ms(), context, level)
        except ClockAhead:
            self._look_at_clocks()
            counter = local.put(found, key, payload, self._clock.wall_ms(), context, level)
        assert self._driver is not None
        self._driver.wake()
        if context is None and found.states[key].__class__ is int:  # `written`, where there is nothing to look up
            return Written(local.store.own.origin, counter, table, key, None)
        return written(local.store, found, key, counter, context)

    def _put_run(self, table: str, keys: list[str], payloads: list[bytes | None], level: Durability) -> Receipts:
        local, found = self._open_for_writing(table)
        try:
            first = local.put_run(found, keys, payloads, self._clock.wall_ms(), level)
        except ClockAhead:
            self._look_at_clocks()
            first = local.put_run(found, keys, payloads, self._clock.wall_ms(), level)
        self._wake()
        return Receipts(local.store, found, keys, first)

    def _open_for_writing(self, table: str) -> tuple[LocalCore, Table]:
        driver = self._driver
        if driver is None or self._core is None:
            raise ClosedError(f"node {self.name!r} is not running")
        if (trouble := driver.failure or driver.full) is not None:
            raise trouble
        local = self._core.local
        if local.store.log is not self._tables_of:
            self._tables_of, self._tables = local.store.log, {}
        found = self._tables.get(table)
        if found is None:
            check_table(table, self.limits)
            found = self._tables[table] = local.store.table(table)
        return local, found

    def _look_at_clocks(self) -> None:
        """What is known of the others' clocks may be minutes old, if this process stood still."""
        self.core.look_at_clocks(self._clock.monotonic_ms())

    async def _settled(self, receipt: Written, key: str, acks: int | str | None, timeout: float) -> None:
        """Return when the write, and all before it, is durable here, and at as many members as asked for."""
        position = self.core.local.store.log.end
        if acks is None:
            await self.durable_at(position)
        else:
            await self._acknowledged(receipt.dot.counter, position, acks, timeout, key)

    async def durable_at(self, position: int) -> None:
        """Return when everything before *position* of the log is durable. Raises StoreFailed."""
        local = self.core.local
        if local.journal is not None and local.durable < position:
            await self._on_disk(local, position)

    def _on_disk(self, local: LocalCore, position: int | None = None) -> asyncio.Future[None]:
        """Done when everything before *position* (None: all that there is) is durable. Raises StoreFailed."""
        assert self._driver is not None
        if self._driver.failure is not None:
            raise self._driver.failure
        log = local.store.log
        return self._waiting.durable_at(log, log.end if position is None else position)

    async def _acknowledged(self, counter: int, position: int, acks: int | str, timeout: float, key: str) -> None:
        core = self.core
        token = object()
        done = self.expect(token)
        core.wait_for(counter, acks, token)  # first: what is sent as soon as it is durable asks to be confirmed
        self._wake()
        try:
            await self.durable_at(position)
            async with asyncio.timeout(timeout):
                await done
        except TimeoutError:
            confirmed = sum(vector.counter(core.local.store.node) >= counter for vector in core.hearsay.vectors())
            wanted = needed(acks, core.members.count)
            raise AckTimeout(
                f"key {key!r}: {confirmed} of {wanted} members confirmed write {core.local.store.node}:{counter} within"
                f" {timeout:g} s; it is in the log and will spread to the others: do not repeat it blindly",
                confirmed=confirmed,
                wanted=wanted,
            ) from None
        finally:
            self.forget(token)
            if done.done() and not done.cancelled():
                done.exception()  # seen: what failed the disk has failed both

    def expect(self, token: object) -> asyncio.Future[None]:
        """A future for the `Acknowledged` event of *token*; `forget` it in any case."""
        return self._waiting.expect(token)

    def forget(self, token: object) -> None:
        """Nobody waits for *token* any longer."""
        self._waiting.forget(token)
        if self._core is not None:
            self._core.stop_waiting(token)
