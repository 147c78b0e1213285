"""
One client's conversation, without its socket.

A `Session` is told commands and gives back answers. It knows what the client has chosen (protocol version, table,
durability, name), whether it has shown the password, and the position of its last write. `Shared` is what the
sessions of one port have in common. Neither does any input or output, so tests can hold a whole conversation by
calling ``execute``.

No error gets out of ``execute``: whatever a command or the store raises becomes an error answer, with a code per
branch of `mmrepl.errors` and, for commands that write, the truth about the write's fate.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

from attrs import define, field, frozen

from mmrepl import errors
from mmrepl.ports import Durability
from mmrepl.runtime.resp.backend import Backend, ReadView, Table
from mmrepl.runtime.resp.options import ClientOptions
from mmrepl.runtime.resp.protocol import Command
from mmrepl.types import DEFAULT_TABLE
from mmrepl.wire.resp import NULL_2, NULL_3, Reply, encode, failure
from mmrepl.wire.resp_errors import CERTAINLY_NOT, MAYBE, code_of, redirection

_LOG = logging.getLogger("mmrepl.client")


@frozen(eq=False)
class Pending:
    """An answer that comes when *future* does; until then the connection executes nothing more."""

    future: asyncio.Future[Any]
    finish: Callable[[Any], bytes]


Answer: TypeAlias = "bytes | Pending"
Handler: TypeAlias = "Callable[[Session, Command], Answer]"
Entry: TypeAlias = tuple[Handler, int, int]
"""A handler, and how many words its command has, name included, at least and at most."""


class Refused(Exception):
    """A command cannot be done: becomes an error answer. Raised before anything was written."""

    def __init__(self, text: str, code: str = "ERR") -> None:
        super().__init__(text)
        self.code = code


@frozen
class Lookup:
    """The commands, as a session finds them: by name in capitals or in small letters."""

    everybody: Mapping[bytes, Entry]
    strangers: Mapping[bytes, Entry]  # what may be done before AUTH
    writing: frozenset[str]  # names, in capitals
    refused: Mapping[str, str]  # commands of Redis that are not offered, in capitals, and why


CARRIERS = {b"MM.IN": 2, b"MM.AFTER": 3, b"MM.ONCE": 3}
"""Commands that execute another, and how many words stand before it."""


def innermost(words: Command) -> Command:
    """The command that is meant, behind those that carry it."""
    while (before := CARRIERS.get(words[0].upper())) is not None and len(words) > before:
        words = words[before:]
    return words


class Cursors:
    """
    Where scans stand: a number for a client, a key for us.

    Clients take a cursor for a 64-bit number, which no key fits into, and a place in key order is the only one that
    stays right while keys come and go. So the places are remembered here; at the bound the oldest are forgotten and
    their scans have to start again. Numbers are drawn at random: one from before a restart is unknown, not wrong.
    """

    def __init__(self, count_max: int, draw: Callable[[], int] | None = None) -> None:
        self._count_max = count_max
        self._draw = draw or (lambda: secrets.randbits(62))
        self._places: OrderedDict[int, tuple[str, str]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._places)

    def remember(self, table: str, key: str) -> int:
        """A cursor for "behind *key*". Never zero, which means the start and the end."""
        cursor = 0
        while not cursor or cursor in self._places:
            cursor = self._draw()
        self._places[cursor] = (table, key)
        if len(self._places) > self._count_max:
            self._places.popitem(last=False)
        return cursor

    def place(self, table: str, cursor: int) -> str:
        """The key behind which *cursor* stands. It may be used again, as after a lost answer. Raises Refused."""
        place = self._places.get(cursor)
        if place is None or place[0] != table:
            raise Refused(f"cursor {cursor} is none of this table, or forgotten by now: start again with SCAN 0")
        return place[1]


@define(eq=False)
class Shared:
    """What the sessions of one port have in common."""

    backend: Backend
    options: ClientOptions
    lookup: Lookup
    address: str = ""
    cursors: Cursors = field(init=False)
    sessions: dict[int, Session] = field(factory=dict)  # by number, in order of arrival
    started_s: float = field(factory=time.monotonic)
    connections_count: int = 0  # ever accepted
    rejected_count: int = 0  # connections turned away at the bound
    stalled_count: int = 0  # connections closed for taking nothing or finishing nothing
    errors_count: int = 0  # error answers
    commands_count: int = 0  # of closed connections; see `executed_count`

    def __attrs_post_init__(self) -> None:
        self.cursors = Cursors(self.options.cursors)

    @property
    def executed_count(self) -> int:
        """Commands executed, ever."""
        return self.commands_count + sum(session.commands_count for session in self.sessions.values())

    def admits(self, password: bytes) -> bool:
        """Whether *password* is the one; takes as long for a near miss as for a far one."""
        wanted = self.options.password
        return wanted is None or hmac.compare_digest(password, wanted.encode())


class Session:
    """
    What a client has chosen and done so far, and the door through which its commands come.

    ``position`` is that of its last write; ``hold`` the position that must be durable before anything more is
    answered, for writes made while ``waits`` was true, when it no longer is. ``weak`` is the position of the last
    write that asked for less than its connection does.
    """

    __slots__ = (
        "address",
        "authenticated",
        "backend",
        "closing",
        "commands_count",
        "created_s",
        "durability",
        "hold",
        "library",
        "lookup",
        "muted",
        "name",
        "number",
        "position",
        "protocol",
        "refusals_count",
        "shared",
        "skip",
        "special",
        "table",
        "waits",
        "weak",
    )

    def __init__(self, shared: Shared, address: str = "") -> None:
        shared.connections_count += 1
        self.shared = shared
        self.backend = shared.backend
        self.number = shared.connections_count
        self.address = address
        self.created_s = time.monotonic()
        self.commands_count = 0  # kept by the connection, once per chunk
        self.refusals_count = 0  # before AUTH
        self.position = 0
        self.hold = 0
        self.weak = 0
        self.closing = False
        self.lookup: Mapping[bytes, Entry]
        self.table: Table
        self.reset()

    def reset(self) -> None:
        """As if the client had just connected; what it wrote still counts for WAIT and for what must be durable."""
        self.hold_position()
        self.protocol = 2
        self.name = ""
        self.library: dict[str, str] = {}
        self.durability: Durability | None = None
        self.waits = self.backend.durability is Durability.SYNC
        self.muted = self.skip = False  # CLIENT REPLY OFF, SKIP
        self.special = self.closing
        self.table = self.backend.table(DEFAULT_TABLE)
        self.admit(self.shared.options.password is None)

    def admit(self, authenticated: bool) -> None:
        """Let the client do everything, or only what strangers may."""
        self.authenticated = authenticated
        lookup = self.shared.lookup
        self.lookup = lookup.everybody if authenticated else lookup.strangers

    def set_durability(self, level: Durability | None) -> None:
        """Writes from now on are made at *level*; None: as the store is set. Earlier ones keep theirs."""
        self.hold_position()
        self.durability = level
        self.waits = (self.backend.durability if level is None else level) is Durability.SYNC

    @contextmanager
    def at_level(self, level: Durability) -> Iterator[None]:
        """One write at *level*: who asks for less than the connection does waits for less, and only for that one."""
        before = self.durability
        self.set_durability(level)
        try:
            yield
        finally:
            if self.waits:
                self.hold_position()
            else:
                self.weak = self.position
            self.set_durability(before)

    def hold_position(self) -> None:
        """Remember that what was written until now must be durable before the next answer, whatever comes."""
        if self.position != self.weak and self.waits:
            self.hold = self.position

    @property
    def must_be_durable(self) -> int:
        """Position that must be durable before the answers given so far may leave."""
        waits = self.waits and self.position != self.weak
        return max(self.hold, self.position if waits else min(self.position, self.backend.hold))

    def read(self, key: str) -> ReadView:
        """Everything that is known of *key*; what is answered next waits until its context may be told."""
        view = self.table.read(key)
        self.hold = max(self.hold, view.hold)
        return view

    # -- answers

    @property
    def null(self) -> bytes:
        """Nothing, in the client's version of the protocol."""
        return NULL_3 if self.protocol == 3 else NULL_2

    def reply(self, value: Reply) -> bytes:
        """*value* in the client's version of the protocol."""
        return encode(value, self.protocol)

    def execute(self, words: Command) -> Answer:
        """
        Do what *words* say, and answer. Raises nothing.

        Names in other than all capitals or all small letters, and unknown ones, take the longer way.
        """
        entry = self.lookup.get(words[0])
        if entry is None:
            return self._find(words)
        run, least, most = entry
        if not least <= len(words) <= most:
            name = words[0].decode("utf-8", "replace").lower()
            return self._error("ERR", f"wrong number of arguments for '{name}' command")
        try:
            return run(self, words)
        except Exception as error:  # noqa: BLE001 — a client's command never costs the process
            return self.trouble(error, words)

    def trouble(self, error: Exception, words: Command) -> bytes:
        """The error answer for *error*, raised by the command *words*."""
        if isinstance(error, Refused):
            return self._error(error.code, str(error))
        if isinstance(error, UnicodeDecodeError):
            return self._error("INVALID", "keys and names must be valid UTF-8")
        definite = isinstance(error, errors.MmreplError) and error.definite
        if isinstance(error, errors.NotPrimary):
            moved = redirection(error)
            return self._error(moved.code, moved.text)
        text = str(error) or type(error).__name__
        if not isinstance(error, errors.MmreplError):
            _LOG.error("command %r failed", words[0][:64], exc_info=error)
            text = f"internal error: {type(error).__name__}"
        if innermost(words)[0].decode("utf-8", "replace").upper() in self.shared.lookup.writing:
            text += f" {CERTAINLY_NOT if definite else MAYBE}"
        return self._error(code_of(error), text)

    def _error(self, code: str, text: str) -> bytes:
        self.shared.errors_count += 1
        return failure(code, text)

    def _find(self, words: Command) -> Answer:
        """A command that is not spelled in the usual way, not allowed yet, or not known."""
        name = words[0].upper()
        if name != words[0] and name in self.lookup:
            return self.execute([name, *words[1:]])
        if not self.authenticated:
            self.refusals_count += 1
            if self.refusals_count >= self.shared.options.refusals:
                self.closing = self.special = True
            return self._error("NOAUTH", "Authentication required.")
        text = words[0].decode("utf-8", "replace")[:128]
        why = self.shared.lookup.refused.get(text.upper())
        if why is not None:
            return self._error("ERR", f"{text.upper()} is not offered: {why}")
        begin = "".join(f"'{word[:128].decode('utf-8', 'replace')}' " for word in words[1:6])
        return self._error("ERR", f"unknown command '{text}', with args beginning with: {begin}")
