"""
For clients that go from node to node: who this node is, what it has applied, and commands that depend on it.

A client that was elsewhere brings a token for what it has seen there. MM.AFTER looks whether it is here and executes a
command in the same turn, so that nothing can come between; MM.IN does the same for the table. Neither leaves a trace in
the connection, which may be shared by many users of a program.
"""

from __future__ import annotations

import asyncio
from itertools import islice, takewhile
from typing import cast

from mmrepl.errors import NodeBehind
from mmrepl.runtime.resp.commands import COMMANDS, MANY, command, number, options
from mmrepl.runtime.resp.protocol import Command
from mmrepl.runtime.resp.session import Answer, Pending, Refused, Session, innermost
from mmrepl.runtime.resp.shown import packed
from mmrepl.runtime.resp.strings import ABSENT
from mmrepl.types import Value
from mmrepl.wire.resp import Encoded, array, bulk, integer

KEYS_COUNT_MAX = 10_000
"""Keys that one MM.KEYS gives, at most."""


@command("MM.ROLE", group="sessions", flags="readonly fast", words=(1, 1))
def role(session: Session, _words: Command) -> Answer:
    """What this node is: mode, role, name, the primary's client address, term, and a token for all it has applied."""
    backend = session.backend
    return session.reply({**backend.role(), "applied": backend.applied})


@command("MM.GET key [SEEN]", group="sessions", flags="readonly fast", words=(2, 3), keys=(1, 1, 1))
def get(session: Session, words: Command) -> Answer:
    """
    The value of a key as MessagePack, exact; with SEEN, beside it the token of what a session has seen by this.

    Nothing, in place of the value, when the key is absent.
    """
    key = words[1].decode()
    if "SEEN" in options(words, 2, {"SEEN": 0}):
        view = session.read(key)
        return session.reply([packed(view.value) if view.present else None, view.seen])
    value = session.table.get(key, ABSENT)
    return session.null if value is ABSENT else bulk(packed(cast("Value", value)))


@command("MM.KEYS [AFTER key] [PREFIX text] [COUNT count] [SEEN]", group="sessions", flags="readonly", words=(1, 8))
def keys(session: Session, words: Command) -> Answer:
    """
    The next keys in key order, behind a key; unlike a cursor it goes on at any node. SEEN as for MM.GET.

    Fewer than count: there are no more. 100 unless told otherwise; at most 10,000.
    """
    chosen = options(words, 1, {"AFTER": 1, "PREFIX": 1, "COUNT": 1, "SEEN": 0})
    behind = chosen["AFTER"][0].decode() if "AFTER" in chosen else ""
    prefix = chosen["PREFIX"][0].decode() if "PREFIX" in chosen else ""
    count = min(number(chosen["COUNT"][0], 1), KEYS_COUNT_MAX) if "COUNT" in chosen else 100
    start = max(behind, prefix)
    walk = session.table.keys(start, inclusive=start != behind or not behind)
    page = islice(takewhile(lambda key: key.startswith(prefix), walk), count)
    encoded = array(bulk(key.encode()) for key in page)
    if "SEEN" not in chosen:
        return encoded
    return session.reply([Encoded(encoded), session.backend.applied])


@command("MM.WAIT token timeout", group="sessions", flags="blocking", words=(3, 3))
def wait(session: Session, words: Command) -> Answer:
    """Whether this node has applied what a token stands for, 1 or 0; waits at most timeout ms until it has."""
    timeout_ms = _timeout_ms(session, words[2])
    if session.backend.has_applied(words[1]):
        return integer(1)
    if not timeout_ms:
        return integer(0)
    return Pending(session.backend.wait_applied(words[1], timeout_ms), integer)


@command("MM.AFTER token timeout command [argument …]", group="sessions", flags="blocking", words=(4, MANY))
def after(session: Session, words: Command) -> Answer:
    """
    Execute a command if this node has applied what a token stands for; waits at most timeout ms until it has.

    If it has not by then, the answer is an error, BEHIND, and nothing was executed.
    """
    token, inner = words[1], words[3:]
    _check(inner, b"MM.IN", b"MM.ONCE")
    timeout_ms = _timeout_ms(session, words[2])
    backend = session.backend

    def act() -> Answer:
        if not backend.has_applied(token):
            raise NodeBehind(f"node {backend.name!r} has not applied what the session has seen elsewhere")
        return session.execute(inner)

    async def wait_and_act() -> bytes:
        await backend.wait_applied(token, timeout_ms)
        answer = act()
        if isinstance(answer, bytes):
            return answer
        try:
            return answer.finish(await answer.future)
        except Exception as error:  # noqa: BLE001 — as in Session.execute
            return session.trouble(error, inner)

    if not timeout_ms or backend.has_applied(token):
        return act()
    return Pending(asyncio.ensure_future(wait_and_act()), lambda answer: cast("bytes", answer))


@command("MM.IN table command [argument …]", group="sessions", flags="fast", words=(3, MANY))
def in_(session: Session, words: Command) -> Answer:
    """Execute one command in a table; the connection keeps its own."""
    inner = words[2:]
    _check(inner)
    table = session.backend.table(words[1].decode())
    before, session.table = session.table, table
    try:
        return session.execute(inner)
    finally:
        session.table = before


@command("MM.OPEN", group="sessions", flags="blocking", words=(1, 1))
def open_(session: Session, _words: Command) -> Answer:
    """Open a client session in the log, in single-master mode; answers its number. For MM.ONCE."""
    return Pending(session.backend.open_session(), integer)


@command("MM.ONCE session request command [argument …]", group="sessions", flags="fast", words=(4, MANY))
def once(session: Session, words: Command) -> Answer:
    """
    Execute a write as a numbered request of a client session: repeated, it is applied once, and answered as the first.

    Requests are numbered from 1, and go one at a time.
    """
    inner = words[3:]
    _check(inner, b"MM.IN")
    if innermost(inner)[0].decode("utf-8", "replace").upper() not in session.shared.lookup.writing:
        raise Refused("only a write is numbered")
    with session.backend.numbered(number(words[1], 1), number(words[2], 1)):
        return session.execute(inner)


def _check(inner: Command, *carriers: bytes) -> None:
    """Only what reads or writes, and at once; or one of *carriers*, which check in their turn. Raises Refused."""
    if inner[0].upper() in carriers:
        return
    name = inner[0].decode("utf-8", "replace").upper()
    spec = COMMANDS.get(name)
    if spec is not None and ("blocking" in spec.flags or {"readonly", "write"}.isdisjoint(spec.flags)):
        raise Refused(f"{name} cannot be executed by another command: only what reads or writes keys, and at once")


def _timeout_ms(session: Session, word: bytes) -> int:
    return min(number(word, 0), int(session.shared.options.wait_seconds * 1000))
