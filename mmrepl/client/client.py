"""
`mmrepl.Client`: the whole cluster as one thing to talk to, for asyncio.

It knows several nodes by the addresses of their client ports, and finds out what they are: in multi-master mode it
writes to the nearest and goes elsewhere when that fails, in single-master mode it writes to the primary and finds the
new one after a failover. Reads go by preference. A *session* keeps what one user has seen, wherever the calls go. The
reasons, and what was given up, are in docs/design/0007-client.md.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from attrs import evolve

from mmrepl.causality.context import CausalContext
from mmrepl.causality.version_vector import EMPTY
from mmrepl.client.dispatch import Dispatcher
from mmrepl.client.endpoint import Settings
from mmrepl.client.numbering import Tickets
from mmrepl.client.outcomes import (
    ClientRead,
    ClientWritten,
    Parse,
    as_it_came,
    deleted,
    packed_value,
    page,
    seen_value,
    whole_number,
    whole_read,
    written,
)
from mmrepl.client.requests import Request, tell
from mmrepl.client.routing import Router, check_preference
from mmrepl.client.sessions import Guarantees, SessionState
from mmrepl.errors import ClosedError, FrameError, UsageError
from mmrepl.ports import Durability, Rng
from mmrepl.transport.address import parse_address
from mmrepl.types import DEFAULT_TABLE, Value
from mmrepl.values import check_key, check_table, encode
from mmrepl.wire.resp import Reply
from mmrepl.wire.tokens import context_token

TIMEOUT = 5.0
"""Seconds that a call takes at most, with all its attempts, unless told otherwise."""

PAGE_KEYS = 1000
"""Keys that one question of `ClientTable.keys` asks for."""

T = TypeVar("T")

_LOOK_GRACE = 0.1  # seconds that `start` waits for the other nodes when one is up


class ClientTable:
    """
    One table of the cluster, for nobody in particular or for a session.

    Every call takes at most ``timeout`` seconds, with all its attempts. Its errors name node, command and key, also in
    ``error.call``, and say in ``error.definite`` whether a write certainly did not happen.
    """

    def __init__(self, client: Client, table: str, state: SessionState | None, reads: str) -> None:
        check_table(table)
        self._client = client
        self._table = table
        self._state = state
        self._reads = reads

    @property
    def name(self) -> str:
        """The table's name; empty for the default table."""
        return self._table

    def __repr__(self) -> str:
        return f"<table {self._table!r} of {self._client!r}>"

    # -- reading

    async def get(
        self, key: str, default: Value = None, *, reads: str | None = None, timeout: float | None = None
    ) -> Value:
        """The value as the table's resolver makes it; *default* when the key is absent. *reads*: where to, for once."""
        check_key(key)
        name = key.encode()
        if self._state is None:
            return await self._read((b"MM.GET", name), key, reads, timeout, partial(packed_value, default=default))
        parse = partial(seen_value, default=default)
        value, seen = await self._read((b"MM.GET", name, b"SEEN"), key, reads, timeout, parse)
        self._state.saw(seen)
        return value

    async def read(self, key: str, *, reads: str | None = None, timeout: float | None = None) -> ClientRead:
        """All that a node knows of a key: value, siblings, and the context for the write that replaces just these."""
        check_key(key)
        found = await self._read((b"MM.READ", key.encode(), b"PACKED"), key, reads, timeout, whole_read)
        if self._state is not None:
            self._state.saw(found.seen)
        return found

    async def contains(self, key: str, *, reads: str | None = None, timeout: float | None = None) -> bool:
        """Whether the key is present."""
        return await self.get(key, _ABSENT, reads=reads, timeout=timeout) is not _ABSENT

    async def keys(
        self, prefix: str = "", *, after: str = "", reads: str | None = None, timeout: float | None = None
    ) -> AsyncIterator[str]:
        """
        The present keys in key order, those that begin with *prefix* and stand behind *after*.

        A page at a time, each from whichever node serves it, each within *timeout*.
        """
        while True:
            words = [b"MM.KEYS", b"AFTER", after.encode(), b"PREFIX", prefix.encode(), b"COUNT", b"%d" % PAGE_KEYS]
            found, seen = await self._read((*words, b"SEEN"), None, reads, timeout, page)
            if self._state is not None:
                self._state.saw(seen)
            for key in found:
                yield key
            if len(found) < PAGE_KEYS:
                return
            after = found[-1]

    # -- writing

    async def put(
        self,
        key: str,
        value: Value,
        *,
        context: CausalContext | None = None,
        durability: Durability | str | None = None,
        timeout: float | None = None,
    ) -> ClientWritten:
        """
        Write *value*, over what the node shows, or over just what *context* covers (``mmrepl.BLIND``: over nothing).

        Raises:
            InvalidKey, InvalidValue, WrongContext, TooManySiblings: nothing was written, and would not be elsewhere.
            Unavailable: it was not done in time; ``definite`` says whether it was certainly not written.
        """
        check_key(key)
        words = [b"MM.PUT", key.encode(), encode(value), b"PACKED", *_over(context)]
        if durability is not None:
            words += [b"DURABILITY", _level(durability)]
        return self._wrote(await self._write(tuple(words), key, timeout, written))

    async def delete(
        self, key: str, *, context: CausalContext | None = None, timeout: float | None = None
    ) -> ClientWritten | None:
        """Delete; None, and nothing written, when the node shows no such key and no *context* was given."""
        check_key(key)
        receipt = await self._write((b"MM.DEL", key.encode(), *_over(context)), key, timeout, deleted)
        return None if receipt is None else self._wrote(receipt)

    def _wrote(self, receipt: ClientWritten) -> ClientWritten:
        if self._state is not None:
            try:
                self._state.wrote(receipt.seen)
            except UsageError as error:  # the session was of another cluster, and this one took the write
                error.definite = False
                raise
        return receipt

    # -- anything

    async def command(
        self, *words: str | bytes | int, writes: bool, key: str | None = None, timeout: float | None = None
    ) -> Reply:
        """
        Any command of the client port that reads or writes keys and does not wait, and its answer as it came.

        It is executed in this table, under this session's guarantees. What it has seen or written is not known, and so
        not taken into the session. *key* is for errors.
        """
        if not words:
            raise UsageError("a command has a name")
        raw = tuple(word if isinstance(word, bytes) else str(word).encode() for word in words)
        if writes:
            return await self._write(raw, key, timeout, as_it_came)
        return await self._read(raw, key, None, timeout, as_it_came)

    async def _read(
        self, words: tuple[bytes, ...], key: str | None, reads: str | None, timeout: float | None, parse: Parse[T]
    ) -> T:
        request = Request(
            words=words,
            key=key,
            writes=False,
            repeatable=True,
            reads=self._reads if reads is None else check_preference(reads),
            table=self._table,
            needs=self._state.before_read if self._state is not None else EMPTY,
        )
        return await self._client._ask(request, timeout, parse)

    async def _write(self, words: tuple[bytes, ...], key: str | None, timeout: float | None, parse: Parse[T]) -> T:
        request = Request(
            words=words,
            key=key,
            writes=True,
            repeatable=self._client._retry_writes is True,
            reads=self._reads,
            table=self._table,
            needs=self._state.before_write if self._state is not None else EMPTY,
        )
        return await self._client._ask_write(request, timeout, parse)


class ClientSession(ClientTable):
    """
    One user's way through the cluster: what was seen stays seen, at whichever node.

    Of calls that run at the same time, each goes by what had returned when it began. Of a write that failed in doubt
    nothing is known, and nothing kept.
    """

    _state: SessionState

    def __init__(self, client: Client, state: SessionState, reads: str) -> None:
        super().__init__(client, DEFAULT_TABLE, state, reads)

    @property
    def token(self) -> str:
        """What was seen until now, as a short text: `Client.session` goes on from it, here or elsewhere."""
        return self._state.token

    @property
    def guarantees(self) -> Guarantees:
        """Which of the four are kept."""
        return self._state.guarantees

    def table(self, name: str) -> ClientTable:
        """A table, in this session."""
        return ClientTable(self._client, name, self._state, self._reads)

    def __repr__(self) -> str:
        return f"<session of {self._client!r}>"


class Client(ClientTable):
    """
    A client of all nodes of a cluster; an asynchronous context manager, or `start` and `close` by hand.

    *addresses*: the client ports of some nodes, ``host:port``. *password*: of the ports. *reads*: where reads go:
    ``primary``, ``replica``, ``nearest`` or ``round-robin``; *weights*: address to int, how often its turn comes (1).
    *timeout*: seconds for a call with all its attempts; *connect_timeout*: for one connection. *connections* to a
    node, each with *pipeline* calls under way; beyond that calls wait. *health_interval*, *health_timeout*: seconds
    between looks at a node, and for its answer. *retry_writes*: repeat a write of which nobody knows whether it was
    made, so that it may be made more than once; with ``"once"`` it is repeated only where it is applied once all the
    same, by a log that knows its number: in single-master mode. *rng*: dice, for tests.
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
        super().__init__(self, DEFAULT_TABLE, None, check_preference(reads))
        nodes = [addresses] if isinstance(addresses, str) else list(addresses)
        if not nodes:
            raise UsageError("a client needs the address of at least one node")
        self._addresses = [str(parse_address(address)) for address in nodes]
        for what, number in (("connections", connections), ("pipeline", pipeline)):
            if number < 1:
                raise UsageError(f"{what} must be at least 1, not {number}")
        for what, seconds in (
            ("timeout", timeout),
            ("connect_timeout", connect_timeout),
            ("health_interval", health_interval),
            ("health_timeout", health_timeout),
        ):
            if not seconds > 0:
                raise UsageError(f"{what} must be more than 0 seconds, not {seconds}")
        self._settings = Settings(
            password=password,
            connections=connections,
            pipeline=pipeline,
            connect_timeout=connect_timeout,
            health_interval=health_interval,
            health_timeout=health_timeout,
        )
        self._router = Router({str(parse_address(address)): weight for address, weight in (weights or {}).items()})
        self._timeout = timeout
        if retry_writes not in {False, True, "once"}:
            raise UsageError(f"retry_writes is False, True or 'once', not {retry_writes!r}")
        self._retry_writes = retry_writes
        self._tickets = Tickets(self._open_session)
        self._rng: Rng = rng or random.SystemRandom()
        self._dispatcher: Dispatcher | None = None

    # -- life

    async def start(self) -> Self:
        """
        Look at the nodes; returns when each was looked at, or one is up and the others were given a moment.

        Nodes that do not answer are looked for from now on. Raises UsageError when a node refuses the password and none
        is up; then nothing is left open.
        """
        if self._dispatcher is not None:
            raise UsageError("a client is started once")
        self._dispatcher = Dispatcher(self._addresses, self._settings, self._router, self._rng)
        self._dispatcher.start()
        try:
            await self._dispatcher.looked(_LOOK_GRACE)
        except BaseException:
            await self.close()
            raise
        return self

    async def close(self) -> None:
        """Close every connection. Calls under way fail, and say whether they were sent. Idempotent."""
        if self._dispatcher is not None:
            await self._dispatcher.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        dispatcher = self._dispatcher
        if dispatcher is None or dispatcher.closed:
            return f"<Client of {', '.join(self._addresses)}, not running>"
        up = [address for address, endpoint in dispatcher.endpoints.items() if endpoint.health.up]
        return f"<Client of {', '.join(self._addresses)}, {len(up)} of {len(dispatcher.endpoints)} nodes up>"

    # -- parts

    def table(self, name: str) -> ClientTable:
        """A table. It need not have been declared: then it has the default resolver."""
        return ClientTable(self, name, None, self._reads)

    def session(
        self,
        token: str | None = None,
        *,
        read_your_writes: bool = True,
        monotonic_reads: bool = True,
        monotonic_writes: bool = True,
        writes_follow_reads: bool = True,
        reads: str | None = None,
    ) -> ClientSession:
        """
        A session, new or going on from the *token* of one. It needs no closing.

        A node that has not applied what a call needs is passed over; when all are behind, the call waits, and raises
        NodeBehind at its timeout. Raises UsageError for what is no token.
        """
        guarantees = Guarantees(
            read_your_writes=read_your_writes,
            monotonic_reads=monotonic_reads,
            monotonic_writes=monotonic_writes,
            writes_follow_reads=writes_follow_reads,
        )
        state = SessionState(guarantees) if token is None else SessionState.parse(token, guarantees)
        return ClientSession(self, state, self._reads if reads is None else check_preference(reads))

    def status(self) -> list[dict[str, Any]]:
        """A row for each node: address, name, up, mode, role, term, rtt_ms, connections, under_way, trouble."""
        if self._dispatcher is None:
            return []
        return [endpoint.status() for endpoint in self._dispatcher.endpoints.values()]

    # -- asking

    async def _ask_write(self, request: Request, timeout: float | None, parse: Parse[T]) -> T:
        """As `_ask`; numbered, if that was wanted and the cluster has a log that can tell a repetition."""
        dispatcher = self._dispatcher
        if self._retry_writes != "once" or dispatcher is None or dispatcher.mode != "single-master":
            return await self._ask(request, timeout, parse)
        deadline = asyncio.get_running_loop().time() + (self._timeout if timeout is None else timeout)
        async with self._tickets.take() as ticket:
            left = max(0.0, deadline - asyncio.get_running_loop().time())
            numbered = evolve(request, repeatable=True, number=(ticket.session, ticket.request))
            return await self._ask(numbered, left, parse)

    async def _open_session(self) -> int:
        """A client session of the log. One that was opened and not told of is forgotten in time."""
        request = Request(words=(b"MM.OPEN",), key=None, writes=True, repeatable=True, reads="primary")
        return await self._ask(request, None, whole_number)

    async def _ask(self, request: Request, timeout: float | None, parse: Parse[T]) -> T:
        if self._dispatcher is None or self._dispatcher.closed:
            raise ClosedError("the client is not running: start it, or use it as a context manager")
        answer, node = await self._dispatcher.ask(request, self._timeout if timeout is None else timeout)
        try:
            return parse(answer, node)
        except FrameError as error:
            raise tell(error, node, request) from error.__cause__


_ABSENT: Any = object()


def _over(context: CausalContext | None) -> tuple[bytes, ...]:
    if context is None:
        return ()
    return (b"CONTEXT", context_token(context.to_bytes() if context.vector else b"").encode())


def _level(durability: Durability | str) -> bytes:
    try:
        return Durability.parse(durability).name.lower().encode()
    except ValueError as error:
        raise UsageError(str(error)) from None
