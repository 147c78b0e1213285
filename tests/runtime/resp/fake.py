"""
A node in memory, obviously right, for testing the client port alone.

Keys hold lists of siblings and a joint context; nothing is replicated, but tests can put in what a peer would have
written (`FakeTable.receive`), decide when the log becomes durable (``manual``), and how many members acknowledge.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import orjson
from sortedcontainers import SortedDict

from mmrepl.causality.dot import Dot
from mmrepl.causality.version_vector import EMPTY, VersionVector
from mmrepl.errors import InvalidKey, InvalidValue, UnknownTable, UsageError, WrongContext
from mmrepl.ports import Durability
from mmrepl.runtime.resp.backend import Change, Default, ReadView, SiblingView, Written
from mmrepl.types import Limits, NodeId, Value
from mmrepl.wire.seen import parse_seen_token, seen_token

OURS = NodeId("fake", 1)


class FakeTable:
    def __init__(self, backend: FakeBackend, name: str, keep: bool) -> None:
        self.name = name
        self.keep = keep
        self.backend = backend
        self.plain: SortedDict[str, Value] = SortedDict()  # present keys, resolved
        self.siblings: dict[str, list[Change]] = {}
        self.contexts: dict[str, VersionVector] = {}

    def get(self, key: str, default: Default) -> Value | Default:
        return self.plain.get(key, default)

    def put(self, key: str, value: Value, durability: Durability | None) -> int:
        return self._add(key, value, False, None, durability).position

    def write(self, key: str, value: Value, context: bytes | None, durability: Durability | None) -> Written:
        return self._add(key, value, False, context, durability)

    def delete(self, key: str, context: bytes | None, durability: Durability | None) -> Written | None:
        if context is None and key not in self.plain:
            return None
        return self._add(key, None, True, context, durability)

    def read(self, key: str) -> ReadView:
        siblings = self.siblings.get(key, [])
        live = [sibling for sibling in siblings if not sibling.deleted]
        winner = max(siblings, key=lambda sibling: (sibling.timestamp, sibling.dot), default=None)
        return ReadView(
            present=key in self.plain,
            value=self.plain.get(key),
            siblings=[
                SiblingView(s.dot, s.timestamp, s.value, s.deleted, (s in live) if self.keep else s is winner)
                for s in siblings
            ],
            context=self._encode(key, self.contexts.get(key, EMPTY)),
            resolver="keep-siblings" if self.keep else "last-writer-wins",
            seen=seen_token(self.contexts.get(key, EMPTY)),
        )

    def keys(self, start: str, *, inclusive: bool) -> Iterator[str]:
        return iter(self.plain.irange(start, None, inclusive=(inclusive, True)))

    def __len__(self) -> int:
        return len(self.plain)

    def __contains__(self, key: object) -> bool:
        return key in self.plain

    def receive(self, key: str, value: Value, origin: str, timestamp: int = 0) -> None:
        """What a peer wrote to *key* without having seen anything."""
        self._apply(key, value, False, self.backend.mint(NodeId(origin, 9)), EMPTY, timestamp)

    def _encode(self, key: str, context: VersionVector) -> bytes:
        return orjson.dumps([self.name, key, [[str(o), context[o]] for o in context]]) if context else b""

    def _decode(self, key: str, data: bytes) -> VersionVector:
        if not data:
            return EMPTY
        try:
            table, of, entries = orjson.loads(data)
        except ValueError:
            raise WrongContext("bytes that are no context") from None
        if (table, of) != (self.name, key):
            raise WrongContext(f"a context of {of!r}, used for {key!r}")
        return VersionVector([(NodeId.parse(origin), counter) for origin, counter in entries])

    def _add(
        self, key: str, value: Value, deleted: bool, given: bytes | None, durability: Durability | None
    ) -> Written:
        backend = self.backend
        if backend.trouble is not None:
            raise backend.trouble
        if not 0 < len(key.encode()) <= backend.limits.key_bytes:
            raise InvalidKey(f"key {key[:20]!r} is empty or longer than {backend.limits.key_bytes} bytes (key_bytes)")
        if isinstance(value, bytes | str) and len(value) > backend.limits.value_bytes:
            raise InvalidValue(f"value is longer than {backend.limits.value_bytes} bytes (value_bytes)")
        context = self.contexts.get(key, EMPTY) if given is None else self._decode(key, given)
        dot = backend.mint(OURS)
        self._apply(key, value, deleted, dot, context, backend.tick())
        backend.position += 1
        backend.wrote(durability)
        return Written(dot, self._encode(key, context.including(dot)), backend.position)

    def _apply(self, key: str, value: Value, deleted: bool, dot: Dot, context: VersionVector, timestamp: int) -> None:
        change = Change(self.name, key, dot, timestamp, value, deleted)
        kept = [sibling for sibling in self.siblings.get(key, []) if not context.covers(sibling.dot)]
        self.siblings[key] = siblings = sorted([*kept, change], key=lambda s: (s.timestamp, s.dot))
        self.contexts[key] = self.contexts.get(key, EMPTY).join(context).including(dot)
        live = [sibling.value for sibling in siblings if not sibling.deleted]
        if self.keep and live:
            self.plain[key] = live
        elif not self.keep and not siblings[-1].deleted:
            self.plain[key] = siblings[-1].value
        else:
            self.plain.pop(key, None)
        self.backend.took(change)


class FakeBackend:
    name = "fake"

    def __init__(self, *, manual: bool = False, durability: Durability = Durability.SYNC) -> None:
        self.limits = Limits()
        self.version = EMPTY
        self.durability = durability
        self.manual = manual  # whether tests say when the log is durable
        self.position = 0
        self.durable = 0
        self.hold = 0
        self.acknowledged = 0  # members that have everything of ours
        self.trouble: Exception | None = None  # what writing raises
        self.log: list[Change] = []
        self.request: tuple[int, int] | None = None  # of a client session
        self.requests: list[tuple[int, int] | None] = []  # of each write
        self.blocked: list[str] = []
        self.removed: list[str] = []
        self.waits: list[tuple[int, int, int]] = []
        self.futures: list[asyncio.Future[Any]] = []
        self.levels: list[Durability | None] = []
        self._callbacks: list[Callable[[Exception | None], None]] = []
        self._stamp = 1_700_000_000_000 << 16
        self._tables = {"": FakeTable(self, "", False), "drafts": FakeTable(self, "drafts", True)}

    def tick(self) -> int:
        self._stamp += 1
        return self._stamp

    def mint(self, origin: NodeId) -> Dot:
        return Dot(origin, self.version.counter(origin) + 1)

    def took(self, change: Change) -> None:
        self.version = self.version.including(change.dot)
        self.log.append(change)

    def wrote(self, durability: Durability | None) -> None:
        self.levels.append(durability)
        self.requests.append(self.request)
        if not self.manual:
            self.durable = self.position

    def make_durable(self, position: int | None = None) -> None:
        self.durable = self.position if position is None else position
        for callback in list(self._callbacks):
            callback(None)

    def lose(self, error: Exception) -> None:
        self.trouble = error
        for callback in list(self._callbacks):
            callback(error)

    def on_durable(self, callback: Callable[[Exception | None], None]) -> Callable[[], None]:
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    def table(self, name: str) -> FakeTable:
        try:
            return self._tables[name]
        except KeyError:
            raise UnknownTable(f"no table {name!r}") from None

    def tables(self) -> Mapping[str, str]:
        return {name: "keep-siblings" if table.keep else "last-writer-wins" for name, table in self._tables.items()}

    def wait(self, position: int, others: int, timeout_ms: int) -> asyncio.Future[int]:
        self.waits.append((position, others, timeout_ms))
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.futures.append(future)
        if self.acknowledged >= others:
            future.set_result(self.acknowledged)
        return future

    @property
    def single_writer(self) -> None:
        return None

    def role(self) -> Mapping[str, Any]:
        return {"mode": "multi-master", "role": "node", "name": "fake", "primary": "", "term": 0}

    @property
    def applied(self) -> str:
        return seen_token(self.version)

    def has_applied(self, token: bytes) -> bool:
        seen = parse_seen_token(token)
        assert isinstance(seen, VersionVector)
        return self.version.descends(seen)

    def wait_applied(self, token: bytes, timeout_ms: int) -> asyncio.Future[bool]:
        return self.wait_changes(EMPTY, timeout_ms)

    def open_session(self) -> asyncio.Future[int]:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        future.set_result(7)
        return future

    @contextmanager
    def numbered(self, session: int, request: int) -> Iterator[None]:
        self.request = (session, request)
        yield
        self.request = None

    def changes(self, since: VersionVector, count: int) -> tuple[Sequence[Change], VersionVector]:
        found = [change for change in self.log if not since.covers(change.dot)][:count]
        for change in found:
            since = since.including(change.dot)
        return found, since

    def has_more(self, since: VersionVector) -> bool:
        return not since.descends(self.version)

    def wait_changes(self, since: VersionVector, timeout_ms: int) -> asyncio.Future[bool]:
        self.waits.append((len(since), 0, timeout_ms))
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.futures.append(future)
        return future

    def members(self) -> Sequence[Mapping[str, Any]]:
        return [{"name": "fake", "state": "self"}, {"name": "lima", "state": "live", "lag": 0}]

    def status(self) -> Mapping[str, Any]:
        return {"node": "fake", "operations": len(self.log), "nothing": None, "ratio": 0.5, "deep": {"a": [1]}}

    def block(self, peer: str) -> None:
        if peer != "lima":
            raise UsageError(f"no peer {peer!r}")
        self.blocked.append(peer)

    def unblock(self, peer: str | None) -> None:
        self.blocked = [other for other in self.blocked if peer is not None and other != peer]

    def remove(self, who: str) -> None:
        if who != "lima":
            raise UsageError(f"no member {who!r}")
        self.removed.append(who)

    def backup(self, name: str) -> asyncio.Future[str]:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        if name == "taken":
            future.set_exception(UsageError(f"{name} exists and is no backup"))
        else:
            future.set_result(f"/folder/{name}")
        return future
