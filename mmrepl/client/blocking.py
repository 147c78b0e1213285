"""
`mmrepl.BlockingClient`: the same client for programs of threads.

It runs on an event loop in a thread of its own; calls from any number of threads are safe and share its connections.
Each call is bounded by its timeout, and a little more for the way there and back. Ctrl-C breaks off the wait and
nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from mmrepl.causality.context import CausalContext
from mmrepl.client.client import PAGE_KEYS, TIMEOUT, Client, ClientSession, ClientTable
from mmrepl.client.outcomes import ClientRead, ClientWritten
from mmrepl.loop_thread import LoopThread
from mmrepl.ports import Durability, Rng
from mmrepl.types import Value
from mmrepl.wire.resp import Reply

CALL_TIMEOUT = 30.0
"""Seconds that a call waits for the client's thread, beyond its own timeout."""

T = TypeVar("T")


class BlockingClientTable:
    """One table of the cluster; the calls of `ClientTable`, blocking."""

    def __init__(self, client: BlockingClient, table: ClientTable) -> None:
        self._client = client
        self._calls = table

    @property
    def name(self) -> str:
        """The table's name; empty for the default table."""
        return self._calls.name

    def __repr__(self) -> str:
        return f"<table {self.name!r} of {self._client!r}>"

    def get(self, key: str, default: Value = None, *, reads: str | None = None, timeout: float | None = None) -> Value:
        """As `ClientTable.get`."""
        return self._client._run(lambda t: self._calls.get(key, default, reads=reads, timeout=t), timeout)

    def read(self, key: str, *, reads: str | None = None, timeout: float | None = None) -> ClientRead:
        """As `ClientTable.read`."""
        return self._client._run(lambda t: self._calls.read(key, reads=reads, timeout=t), timeout)

    def contains(self, key: str, *, reads: str | None = None, timeout: float | None = None) -> bool:
        """As `ClientTable.contains`."""
        return self._client._run(lambda t: self._calls.contains(key, reads=reads, timeout=t), timeout)

    def keys(
        self, prefix: str = "", *, after: str = "", reads: str | None = None, timeout: float | None = None
    ) -> Iterator[str]:
        """As `ClientTable.keys`."""

        async def page(t: float) -> list[str]:
            found: list[str] = []
            async for key in self._calls.keys(prefix, after=after, reads=reads, timeout=t):
                found.append(key)
                if len(found) == PAGE_KEYS:
                    break
            return found

        while True:
            found = self._client._run(page, timeout)
            yield from found
            if len(found) < PAGE_KEYS:
                return
            after = found[-1]

    def put(
        self,
        key: str,
        value: Value,
        *,
        context: CausalContext | None = None,
        durability: Durability | str | None = None,
        timeout: float | None = None,
    ) -> ClientWritten:
        """As `ClientTable.put`."""
        return self._client._run(
            lambda t: self._calls.put(key, value, context=context, durability=durability, timeout=t), timeout
        )

    def delete(
        self, key: str, *, context: CausalContext | None = None, timeout: float | None = None
    ) -> ClientWritten | None:
        """As `ClientTable.delete`."""
        return self._client._run(lambda t: self._calls.delete(key, context=context, timeout=t), timeout)

    def command(
        self, *words: str | bytes | int, writes: bool, key: str | None = None, timeout: float | None = None
    ) -> Reply:
        """As `ClientTable.command`."""
        return self._client._run(lambda t: self._calls.command(*words, writes=writes, key=key, timeout=t), timeout)


class BlockingClientSession(BlockingClientTable):
    """One user's way through the cluster; see `ClientSession`. To be used by one thread at a time."""

    def __init__(self, client: BlockingClient, session: ClientSession) -> None:
        super().__init__(client, session)
        self._session = session

    @property
    def token(self) -> str:
        """What was seen until now, as a short text."""
        return self._session.token

    def table(self, name: str) -> BlockingClientTable:
        """A table, in this session."""
        return BlockingClientTable(self._client, self._session.table(name))

    def __repr__(self) -> str:
        return f"<session of {self._client!r}>"


class BlockingClient(BlockingClientTable):
    """
    A client of all nodes of a cluster, for threads; a context manager, or `start` and `close` by hand.

    The arguments are those of `mmrepl.Client`. Not to be carried over a fork.
    """

    def __init__(
        self,
        addresses: Sequence[str] | str,
        *,
        password: str | None = None,
        reads: str = "nearest",
        weights: Mapping[str, int] | None = None,
        timeout: float = TIMEOUT,
        connect_timeout: float = 2.0,
        connections: int = 4,
        pipeline: int = 256,
        health_interval: float = 1.0,
        health_timeout: float = 1.0,
        retry_writes: bool | Literal["once"] = False,
        rng: Rng | None = None,
    ) -> None:
        self._inner = Client(
            addresses, password=password, reads=reads, weights=weights, timeout=timeout,
            connect_timeout=connect_timeout, connections=connections, pipeline=pipeline,
            health_interval=health_interval, health_timeout=health_timeout, retry_writes=retry_writes, rng=rng,
        )  # fmt: skip
        super().__init__(self, self._inner)
        self._timeout = timeout
        self._life_s = connect_timeout + CALL_TIMEOUT
        self._thread = LoopThread("the client", self._inner.start, self._inner.close)

    def start(self) -> Self:
        """Look at the nodes; see `Client.start`."""
        self._thread.start(self._life_s)
        return self

    def close(self) -> None:
        """Close every connection and end the thread. Idempotent, from any thread. Whoever waits gets an error."""
        self._thread.stop(self._life_s)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if not self._thread.is_open:
            return f"<Blocking{repr(self._inner)[1:]}"
        return self._thread.call(lambda: f"<Blocking{repr(self._inner)[1:]}", "its description", CALL_TIMEOUT)

    def table(self, name: str) -> BlockingClientTable:
        """A table; see `Client.table`."""
        return BlockingClientTable(self, self._inner.table(name))

    def session(
        self,
        token: str | None = None,
        *,
        read_your_writes: bool = True,
        monotonic_reads: bool = True,
        monotonic_writes: bool = True,
        writes_follow_reads: bool = True,
        reads: str | None = None,
    ) -> BlockingClientSession:
        """A session; see `Client.session`."""
        session = self._inner.session(
            token,
            read_your_writes=read_your_writes,
            monotonic_reads=monotonic_reads,
            monotonic_writes=monotonic_writes,
            writes_follow_reads=writes_follow_reads,
            reads=reads,
        )
        return BlockingClientSession(self, session)

    def status(self) -> list[dict[str, Any]]:
        """A row for each node; see `Client.status`."""
        return self._thread.call(self._inner.status, "its status", CALL_TIMEOUT)

    def _run(self, make: Callable[[float], Coroutine[Any, Any, T]], timeout: float | None) -> T:
        seconds = self._timeout if timeout is None else timeout
        return self._thread.run(lambda: make(seconds), "an answer", seconds + CALL_TIMEOUT)
