"""
What a node can be asked without changing it: its keys, and what becomes of them.

Reads are answered at once from what this node has, durable or not; changes are told when they are durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import islice

from mmrepl.causality.version_vector import VersionVector
from mmrepl.errors import WaitTimeout
from mmrepl.replication.multi_master import MultiMaster
from mmrepl.runtime.hosting import Hosting
from mmrepl.runtime.outcomes import Change, Token, as_vector, changes_since
from mmrepl.store.read import Read, read, read_payload
from mmrepl.types import DEFAULT_TABLE, Value
from mmrepl.values import decode

CHANGES_PAGE = 1_000
"""So many changes are taken from the log at a time: what is slow to read them holds no more than that."""


class Reader(Hosting[MultiMaster]):
    """The reading half of a node."""

    @property
    def version(self) -> VersionVector:
        """Everything that this node has applied."""
        return self.core.local.store.version

    def get(self, key: str, default: Value = None, *, table: str = DEFAULT_TABLE) -> Value:
        """The value of *key* as this node has it, or *default*. At once. Raises ResolverError."""
        payload = self.payload(table, key)
        return default if payload is None else decode(payload)

    def payload(self, table: str, key: str) -> bytes | None:
        """The encoded value, None when the key is absent."""
        store = self.core.local.store
        return read_payload(store, store.peek(table), key)

    def read(self, key: str, *, table: str = DEFAULT_TABLE) -> Read:
        """Value, siblings, context, and who lost to whom. Raises ResolverError."""
        store = self.core.local.store
        return read(store, store.peek(table), key)

    def keys(self, first: str | None = None, end: str | None = None, *, table: str = DEFAULT_TABLE) -> Iterator[str]:
        """Present keys in order, from *first* on, up to before *end*."""
        return self.core.local.store.peek(table).keys(first, end)

    def count(self, *, table: str = DEFAULT_TABLE) -> int:
        """Number of present keys."""
        return len(self.core.local.store.peek(table))

    def tables(self) -> list[str]:
        """Names of the tables that were declared or hold keys, in order."""
        return self.core.local.store.table_names()

    async def changes(self, since: Token | None = None) -> AsyncIterator[Change]:
        """
        Every operation that becomes durable here and that *since* has not seen, for ever, in order of application.

        Each change carries the ``token`` from which to go on, here or at another node. None begins with everything
        that the log holds. What was overwritten before it could be told may be left out.

        Raises LogTruncated: the log no longer reaches back to *since*; read the keys, and go on from `version`.
        """
        token = as_vector(since)
        while True:
            page = await self.next_changes(token)
            for change in page:
                yield change
            token = page[-1].token

    async def next_changes(self, since: Token, timeout: float | None = None, count: int = CHANGES_PAGE) -> list[Change]:
        """The next changes after *since*, at most *count*: as soon as there is one; none after *timeout* seconds."""
        try:
            async with asyncio.timeout(timeout) as waiting:
                while True:
                    local = self.core.local
                    until = None if local.journal is None else local.durable
                    if page := list(islice(changes_since(local.store, since, until), count)):
                        return page
                    await self.news()
        except TimeoutError:
            if not waiting.expired():
                raise
            return []

    async def wait_until(self, condition: Callable[[], bool], what: str, timeout: float = 10.0) -> None:
        """Return when *condition* holds; it is asked again whenever something happens here. Raises WaitTimeout."""
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    await self._waiting.news()
                    _ = self.core  # ClosedError, where nothing will come any more
        except TimeoutError:
            raise WaitTimeout(f"node {self.name!r}: {what} did not happen within {timeout:g} s") from None

    async def wait_connected(self, *names: str, timeout: float = 10.0) -> None:
        """
        Return when connections to the named peers are up, for both sides, and nothing known is missing from them.

        Raises WaitTimeout.
        """

        def connected() -> bool:
            up = {peer.name: peer for peer in self.core.up()}
            version = self.version
            return all(name in up and up[name].has_let_us_in and version.descends(up[name].known) for name in names)

        await self.wait_until(connected, f"a connection to {', '.join(names)}", timeout)
