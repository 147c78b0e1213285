"""
A node as the client port wants to see it.

The port is written against the small protocols of `mmrepl.runtime.resp.backend`; this is the adapter. It adds one
thing of its own: *positions* that never fall. Those of the log begin again when a node starts over under a new
incarnation, and a client that waits for the old one would wait for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any

from mmrepl.causality.context import BLIND, CausalContext
from mmrepl.causality.version_vector import VersionVector
from mmrepl.errors import UsageError
from mmrepl.ports import Durability
from mmrepl.runtime.keeper_backend import KeeperBackend
from mmrepl.runtime.node import Node
from mmrepl.runtime.outcomes import changes_since
from mmrepl.runtime.resp.backend import Change, Default, ReadView, SiblingView, Written
from mmrepl.store import table as store_table
from mmrepl.store.read import read, read_payload
from mmrepl.store.store import Store
from mmrepl.types import NodeId, Value
from mmrepl.values import check_table, decode, encode
from mmrepl.wire.seen import LogPosition, Seen, parse_seen_token, seen_token

_NO_SESSIONS = "client sessions are of the single-master mode: here a repeated write has a dot of its own"


class NodeBackend(KeeperBackend):
    """See `mmrepl.runtime.resp.backend.Backend`."""

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self._node = node
        self._offset = 0  # what is added to positions of the present log
        self._durable = 0  # as it was told last
        self.hold = 0  # position of the last weak write that may not be answered before it is durable
        self._log = node.core.local.store.log
        self._tables: dict[str, NodeTable] = {}

    @property
    def store(self) -> Store:
        """The node's store, after a look whether it has started over."""
        store = self._node.core.local.store
        if store.log is not self._log:
            self._offset += self._log.end
            self._log = store.log
        return store

    @property
    def version(self) -> VersionVector:
        """What this node has applied."""
        return self.store.version

    @property
    def durability(self) -> Durability:
        """The level of writes that name none."""
        return self._node.durability

    @property
    def durable(self) -> int:
        """All positions up to this one are durable."""
        local, store = self._node.core.local, self.store
        if local.is_settled:
            self._durable = self._offset + (store.log.end if local.journal is None else local.durable)
        return self._durable

    @property
    def position(self) -> int:
        """The position of the latest write."""
        return self.store.log.end + self._offset

    def written(self, level: Durability) -> int:
        """The position of a write of *level* that was just made."""
        position = self.position
        if level is not Durability.SYNC and not self._node.core.local.answers_at_once(level):
            self.hold = position
        return position

    def on_durable(self, callback: Callable[[Exception | None], None]) -> Callable[[], None]:
        """Call *callback* whenever ``durable`` has grown."""
        return self._node.on_durable(callback)

    def table(self, name: str) -> NodeTable:
        """The table *name*."""
        found = self._tables.get(name)
        if found is None:
            check_table(name, self.limits)
            found = self._tables[name] = NodeTable(self, self._node, name)
        return found

    def tables(self) -> Mapping[str, str]:
        """Names with their policies."""
        store = self.store
        return {name: store.table(name).resolver.policy for name in store.table_names()}

    def wait(self, position: int, others: int, timeout_ms: int) -> asyncio.Future[int]:
        """How many other members have applied everything of ours up to *position*, once there are *others* of them."""
        return asyncio.ensure_future(self._wait(position, others, timeout_ms))

    async def _wait(self, position: int, others: int, timeout_ms: int) -> int:
        store, core = self.store, self._node.core
        if position <= self._offset:
            return 0  # written before the store started over: it is written again under another dot, if it is live
        until = position - self._offset
        own = [columns for columns in store.log.columns if columns.origin.name == self.name]
        wanted = {columns.origin: columns.last_before(until) for columns in own}
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                for node, counter in wanted.items():  # more than one after a new incarnation
                    await self._confirmed(node, counter, others + 1)
        except TimeoutError:
            pass
        heard = core.hearsay.vectors()[1:]
        return sum(all(vector.counter(node) >= counter for node, counter in wanted.items()) for vector in heard)

    async def _confirmed(self, node: NodeId, counter: int, members: int) -> None:
        core, token = self._node.core, object()
        done = self._node.expect(token)
        core.waiters.add(node, counter, members, token)
        self._node._wake()
        try:
            await done
        finally:
            self._node.forget(token)

    @property
    def single_writer(self) -> None:
        """Every node of this mode takes writes."""
        return

    def role(self) -> Mapping[str, Any]:
        """Every node of this mode takes writes."""
        return {"mode": "multi-master", "role": "node", "name": self.name, "primary": "", "term": 0}

    @property
    def applied(self) -> str:
        """A token for the version vector."""
        return seen_token(self.store.version)

    def has_applied(self, token: bytes) -> bool:
        """Whether the vector that *token* stands for is covered."""
        return self.store.version.descends(_vector(parse_seen_token(token)))

    def open_session(self) -> asyncio.Future[int]:
        """There are none: with many writers a repetition is a write of its own."""
        raise UsageError(_NO_SESSIONS)

    def numbered(self, session: int, request: int) -> AbstractContextManager[None]:  # noqa: ARG002
        """As `open_session`."""
        raise UsageError(_NO_SESSIONS)

    def changes(self, since: Seen, count: int) -> tuple[Sequence[Change], VersionVector]:
        """At most *count* operations that *since* lacks, and the vector from which to go on."""
        local, since = self._node.core.local, _vector(since)
        until = None if local.journal is None else local.durable
        token, found = since, []
        for change in islice(changes_since(self.store, since, until), count):
            token = change.token
            found.append(
                Change(change.table, change.key, change.dot, change.timestamp, change.value, change.is_tombstone)
            )
        return found, token if found else since.join(local.durable_vector)

    def has_more(self, since: Seen) -> bool:
        """Whether this node has applied something that *since* lacks."""
        return not _vector(since).descends(self.version)

    def wait_changes(self, since: Seen, timeout_ms: int) -> asyncio.Future[bool]:
        """Whether something came that *since* lacks, as soon as it has."""
        return asyncio.ensure_future(self._wait_changes(_vector(since), timeout_ms))

    async def _wait_changes(self, since: VersionVector, timeout_ms: int) -> bool:
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                while since.descends(self._node.core.local.durable_vector):
                    await self._node.news()
        except TimeoutError:
            return False
        return True

    def remove(self, who: str) -> None:
        """Take a member out, or give up an address."""
        self._node.remove(who)


def _vector(seen: Seen) -> VersionVector:
    """Raises UsageError for a place of the other mode."""
    if isinstance(seen, LogPosition):
        raise UsageError(f"{seen} is a place in a single-master log: this node is of a multi-master cluster")
    return seen


class NodeTable:
    """See `mmrepl.runtime.resp.backend.Table`. Stays good when the store starts over."""

    def __init__(self, backend: NodeBackend, node: Node, name: str) -> None:
        self._backend = backend
        self._node = node
        self._name = name

    @property
    def name(self) -> str:
        """The table's name."""
        return self._name

    @property
    def _table(self) -> store_table.Table:
        return self._backend.store.table(self._name)

    def get(self, key: str, default: Default) -> Value | Default:
        """The resolved value, or *default*."""
        store = self._backend.store
        payload = read_payload(store, store.table(self._name), key)
        return default if payload is None else decode(payload)

    def read(self, key: str) -> ReadView:
        """Everything that is known of *key*."""
        found = read(self._backend.store, self._table, key)
        lost = {loser.dot for loser in found.losers}
        siblings = [
            SiblingView(s.dot, s.timestamp, s.value, s.is_tombstone, shown=found.present and s.dot not in lost)
            for s in found.siblings
        ]
        may_tell = self._node.core.local.may_tell(found.context.vector)
        hold = 0 if may_tell else self._backend.position
        policy, seen = self._table.resolver.policy, seen_token(found.context.vector)
        return ReadView(found.present, found.value, siblings, found.context.to_bytes(), policy, hold, seen)

    def put(self, key: str, value: Value, durability: Durability | None) -> int:
        """Write over what this node shows now."""
        level = self._backend.durability if durability is None else durability
        self._node.put_now(self._name, key, encode(value, self._backend.limits), None, level)
        return self._backend.written(level)

    def write(self, key: str, value: Value, context: bytes | None, durability: Durability | None) -> Written:
        """Write over what *context* covers."""
        return self._write(key, encode(value, self._backend.limits), context, durability)

    def delete(self, key: str, context: bytes | None, durability: Durability | None) -> Written | None:
        """As `write`, but a tombstone; nothing where there is nothing."""
        if context is None and key not in self._table:
            return None
        return self._write(key, None, context, durability)

    def _write(self, key: str, payload: bytes | None, context: bytes | None, durability: Durability | None) -> Written:
        level = self._backend.durability if durability is None else durability
        over = None if context is None else (CausalContext.from_bytes(context) if context else BLIND)
        receipt = self._node.put_now(self._name, key, payload, over, level)
        return Written(receipt.dot, receipt.context.to_bytes(), self._backend.written(level))

    def keys(self, start: str, *, inclusive: bool) -> Iterator[str]:
        """Present keys in order from *start* on."""
        for key in self._table.keys(start or None):
            if inclusive or key != start:
                yield key

    def __len__(self) -> int:
        return len(self._table)

    def __contains__(self, key: object, /) -> bool:
        return key in self._table
