"""
A single-master node as the client port wants to see it.

Positions are indexes of the log. One counts as durable for the port when its write is acknowledged as the node was
told (``ack``): a client that writes at the level ``sync`` is answered then, one at a weaker level as soon as the entry
is in the primary's log. A write at any other node is answered with where to go. What is causal about the port
(contexts, siblings, blind writes) has no meaning in this mode: a key has one value, and a context is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import dropwhile
from typing import TYPE_CHECKING, Any

from mmrepl.causality.dot import Dot
from mmrepl.causality.version_vector import EMPTY, VersionVector
from mmrepl.clock import hlc
from mmrepl.errors import UsageError
from mmrepl.ports import Durability
from mmrepl.resolvers import KeepSiblings, LastWriterWins, Resolver
from mmrepl.runtime.keeper_backend import KeeperBackend
from mmrepl.runtime.resp.backend import Change, Default, ReadView, SiblingView, Written
from mmrepl.runtime.single_master_status import branch_row
from mmrepl.single_master.events import Answered, Failed
from mmrepl.single_master.feed import START
from mmrepl.single_master.options import Role
from mmrepl.types import Value
from mmrepl.values import check_key, check_table, decode, encode
from mmrepl.wire.seen import LogPosition, Seen, parse_seen_token, seen_token

if TYPE_CHECKING:
    from mmrepl.runtime.single_master_node import SingleMasterNode

ROLES = {Role.LEADER: "primary", Role.PRIMARY: "primary", Role.CANDIDATE: "candidate"}
"""Roles as clients know them; every other one is a replica."""

POLICIES = {"lww": LastWriterWins, "siblings": KeepSiblings}
"""By which a branch can be merged from outside the process."""

NO_CAUSALITY = "a node of single-master mode keeps one value for a key, and no contexts: use SET, GET and DEL"


class SingleMasterBackend(KeeperBackend):
    """See `mmrepl.runtime.resp.backend.Backend`."""

    def __init__(self, node: SingleMasterNode) -> None:
        super().__init__(node)
        self._node = node
        self._durable = 0
        self._callbacks: list[Callable[[Exception | None], None]] = []
        self._tables: dict[str, SingleMasterTable] = {}
        self._number = (0, 0)  # of the write that is being executed: session and request
        node.tell_answers(self, self._answered)

    @property
    def version(self) -> VersionVector:
        """There is none in this mode; `applied` says how far this node is."""
        return EMPTY

    @property
    def durability(self) -> Durability:
        """The level of writes that name none."""
        return Durability.SYNC

    @property
    def durable(self) -> int:
        """All positions up to this one are acknowledged."""
        return self._durable

    @property
    def hold(self) -> int:
        """Nothing has to be durable before a weak write is answered: indexes are never used twice by one primary."""
        return 0

    def on_durable(self, callback: Callable[[Exception | None], None]) -> Callable[[], None]:
        """Call *callback* whenever ``durable`` has grown, and with the error when writes were lost sight of."""
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback) if callback in self._callbacks else None

    def _answered(self, event: Answered | Failed | None) -> None:
        """One of the port's writes has met its fate; None at the end of a turn."""
        if isinstance(event, Answered):
            self._durable = max(self._durable, event.index)
        elif event is None:
            for callback in list(self._callbacks):
                callback(None)
        else:
            for callback in list(self._callbacks):
                callback(event.error)

    def propose(self, table: str, key: str, payload: bytes | None, durability: Durability | None) -> int:
        """Append a write; returns its index. Raises NotPrimary and others: nothing was written."""
        del durability  # of the connection: whether it waits. The entry is as durable as the node was told
        check_table(table, self.limits)
        check_key(key, self.limits)
        session, request = self._number
        return self._node.propose(table, key, payload, token=self, session=session, request=request)

    def open_session(self) -> asyncio.Future[int]:
        """Done, with its number, when a client session is in the log."""
        return asyncio.ensure_future(self._node.open_session())

    @contextmanager
    def numbered(self, session: int, request: int) -> Iterator[None]:
        """Writes made meanwhile are that request of that session."""
        self._number = (session, request)
        try:
            yield
        finally:
            self._number = (0, 0)

    def table(self, name: str) -> SingleMasterTable:
        """The table *name*."""
        found = self._tables.get(name)
        if found is None:
            check_table(name, self.limits)
            found = self._tables[name] = SingleMasterTable(self, self._node, name)
        return found

    def tables(self) -> Mapping[str, str]:
        """Names with the one policy of this mode."""
        return dict.fromkeys(sorted({"", *self._node.tables()}), "one writer")

    def wait(self, position: int, others: int, timeout_ms: int) -> asyncio.Future[int]:
        """How many other members hold everything up to *position* durably, once there are *others* of them."""
        return asyncio.ensure_future(self._wait(position, others, timeout_ms))

    async def _wait(self, position: int, others: int, timeout_ms: int) -> int:
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                while self._node.holders(position) < others:
                    await self._node.news()
        except TimeoutError:
            pass
        return self._node.holders(position)

    def role(self) -> Mapping[str, Any]:
        """What the node is, and where the primary's clients go."""
        core = self._node.core
        return {
            "mode": "single-master",
            "role": ROLES.get(core.role, "replica"),
            "name": self.name,
            "primary": self._node.leader_client,
            "term": core.term,
        }

    @property
    def applied(self) -> str:
        """A token for the last entry that was applied."""
        position = self._node.position
        return seen_token(position) if position.index else "-"

    def has_applied(self, token: bytes) -> bool:
        """Whether the entry that *token* names is applied here: that one, and no other at its index."""
        seen, position = _place(parse_seen_token(token)), self._node.position
        return position.index >= seen.index and position.term >= seen.term

    @property
    def single_writer(self) -> Operator:
        """What is asked of a node of this mode only."""
        return Operator(self._node)

    def changes(self, since: Seen, count: int) -> tuple[Sequence[Change], Seen]:
        """At most *count* writes behind *since* that took effect, and the place from which to go on."""
        place = _place(since)
        found, onward = self._node.core.changes(place, count)
        while not found and onward != place:  # nobody's writes: there may be some behind them
            place = onward
            found, onward = self._node.core.changes(place, count)
        told = [
            Change(
                entry.table, entry.key, at, hlc.pack(entry.stamp),
                None if entry.payload is None else decode(entry.payload), entry.payload is None,
            )
            for at, entry in found
        ]  # fmt: skip
        return told, onward if onward.index else EMPTY

    def has_more(self, since: Seen) -> bool:
        """Whether something is applied here behind *since*."""
        return self._node.core.applied > _place(since).index

    def wait_changes(self, since: Seen, timeout_ms: int) -> asyncio.Future[bool]:
        """Whether something was applied behind *since*, as soon as it was."""
        return asyncio.ensure_future(self._wait_changes(_place(since), timeout_ms))

    async def _wait_changes(self, since: LogPosition, timeout_ms: int) -> bool:
        return bool(await self._node.next_changes(since, timeout_ms / 1000, 1))

    def remove(self, who: str) -> asyncio.Future[int]:
        """Done, with the index of the change, when *who* is no member any more."""
        return asyncio.ensure_future(self._node.change_members(remove=(who,)))


def _place(seen: Seen) -> LogPosition:
    """Raises UsageError for a place of the other mode."""
    if isinstance(seen, LogPosition):
        return seen
    if seen:
        raise UsageError("a version vector of a multi-master cluster: this node is of a single-master one")
    return START


class Operator:
    """See `mmrepl.runtime.resp.backend.SingleWriter`."""

    def __init__(self, node: SingleMasterNode) -> None:
        self._node = node

    def fresh(self, level: str, entries: int | None) -> asyncio.Future[int]:
        """Done when this node may serve a read of that *level*; else with the error that says why not."""
        return asyncio.ensure_future(self._node.catch_up(level, max_entries=entries))

    def promote(self, *, force: bool) -> asyncio.Future[Mapping[str, Any]]:
        """Done when this node is the primary."""
        return asyncio.ensure_future(self._promote(force=force))

    async def _promote(self, *, force: bool) -> Mapping[str, Any]:
        promoted = await self._node.promote(force=force)
        return {"term": promoted.term, "lost": promoted.lost}

    def transfer(self, to: str) -> asyncio.Future[Mapping[str, Any]]:
        """Done when *to* leads."""
        return asyncio.ensure_future(self._transfer(to))

    async def _transfer(self, to: str) -> Mapping[str, Any]:
        transferred = await self._node.transfer(to)
        return {"name": transferred.name, "term": transferred.term}

    def add(self, who: str, *, learner: bool) -> asyncio.Future[int]:
        """Done when *who* is a member."""
        added, listeners = ((), (who,)) if learner else ((who,), ())
        return asyncio.ensure_future(self._node.change_members(add=added, learners=listeners))

    def branches(self) -> Sequence[Mapping[str, Any]]:
        """What was cut off the log here and is kept."""
        return [branch_row(branch) for branch in self._node.branches()]

    def merge(self, branch: str, policy: str) -> asyncio.Future[Mapping[str, Any]]:
        """Done when the branch is merged."""
        if policy not in POLICIES:
            raise UsageError(f"a branch is merged by {' or '.join(POLICIES)}, not by {policy!r}")
        return asyncio.ensure_future(self._merge(branch, POLICIES[policy]()))

    async def _merge(self, branch: str, resolver: Resolver) -> Mapping[str, Any]:
        merged = await self._node.merge_branch(branch, resolver)
        return {"branch": merged.branch, "written": merged.written, "skipped": merged.skipped}

    def drop(self, branch: str) -> None:
        """Forget a branch."""
        self._node.drop_branch(branch)


class SingleMasterTable:
    """See `mmrepl.runtime.resp.backend.Table`."""

    def __init__(self, backend: SingleMasterBackend, node: SingleMasterNode, name: str) -> None:
        self._backend = backend
        self._node = node
        self._name = name

    @property
    def name(self) -> str:
        """The table's name."""
        return self._name

    def get(self, key: str, default: Default) -> Value | Default:
        """The value as this node has applied it, or *default*."""
        payload = self._node.payload(self._name, key)
        return default if payload is None else decode(payload)

    def read(self, key: str) -> ReadView:
        """The one value, as if it were the one sibling of a node called after the log."""
        core = self._node.core
        found = core.get(self._name, key)
        seen = self._backend.applied
        if found is None:
            return ReadView(False, None, (), b"", "one writer", 0, seen)
        payload, index = found
        value = decode(payload)
        dot = Dot(core.node, index)
        return ReadView(
            True, value, (SiblingView(dot, 0, value, deleted=False, shown=True),), b"", "one writer", 0, seen
        )

    def put(self, key: str, value: Value, durability: Durability | None) -> int:
        """Append a write."""
        return self._backend.propose(self._name, key, encode(value, self._backend.limits), durability)

    def write(self, key: str, value: Value, context: bytes | None, durability: Durability | None) -> Written:
        """Append a write; a context is refused."""
        return self._write(key, encode(value, self._backend.limits), context, durability)

    def delete(self, key: str, context: bytes | None, durability: Durability | None) -> Written | None:
        """Append a deletion; nothing where nothing is applied."""
        if not self._node.takes_writes:
            return self._write(key, None, context, durability)  # says where to go
        if context is None and key not in self:
            return None
        return self._write(key, None, context, durability)

    def _write(self, key: str, payload: bytes | None, context: bytes | None, durability: Durability | None) -> Written:
        if context is not None:
            raise UsageError(NO_CAUSALITY)
        index = self._backend.propose(self._name, key, payload, durability)
        core = self._node.core
        return Written(Dot(core.node, index), b"", index, seen_token(LogPosition(core.term, index)))

    def keys(self, start: str, *, inclusive: bool) -> Iterator[str]:
        """Keys in order from *start* on."""
        keys = dropwhile(lambda key: key < start, self._node.core.keys(self._name))
        return (key for key in keys if inclusive or key != start)

    def __len__(self) -> int:
        return self._node.count(table=self._name)

    def __contains__(self, key: object, /) -> bool:
        return isinstance(key, str) and self._node.payload(self._name, key) is not None
