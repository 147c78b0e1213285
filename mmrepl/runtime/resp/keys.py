"""Which keys there are: DEL, EXISTS, KEYS, SCAN and their like. All of it is about one node's present view."""

from __future__ import annotations

from collections.abc import Callable

from mmrepl.runtime.resp.commands import MANY, command, number, options
from mmrepl.runtime.resp.glob import PATTERN_CHARACTERS_MAX, matcher
from mmrepl.runtime.resp.protocol import Command
from mmrepl.runtime.resp.session import Answer, Refused, Session
from mmrepl.runtime.resp.strings import too_large
from mmrepl.wire.resp import Simple, array, bulk, integer

SCAN_COUNT_MAX = 100_000
"""Keys that one SCAN looks at, at most: the event loop serves nobody else meanwhile."""


def _delete(session: Session, words: Command) -> Answer:
    keys = [word.decode() for word in words[1:]]
    count = 0
    for key in keys:
        written = session.table.delete(key, None, session.durability)
        if written is not None:
            count += 1
            session.position = written.position
    return integer(count)


@command("DEL key [key …]", group="keys", flags="write", words=(2, MANY), keys=(1, -1, 1))
def delete(session: Session, words: Command) -> Answer:
    """Delete what this node shows of the keys; answers how many were present."""
    return _delete(session, words)


@command("UNLINK key [key …]", group="keys", flags="write", words=(2, MANY), keys=(1, -1, 1))
def unlink(session: Session, words: Command) -> Answer:
    """The same as DEL."""
    return _delete(session, words)


def _present(session: Session, words: Command) -> Answer:
    table = session.table
    return integer(sum(word.decode() in table for word in words[1:]))


@command("EXISTS key [key …]", group="keys", flags="readonly fast", words=(2, MANY), keys=(1, -1, 1))
def exists(session: Session, words: Command) -> Answer:
    """How many of the keys are present; a key named twice counts twice."""
    return _present(session, words)


@command("TOUCH key [key …]", group="keys", flags="readonly fast", words=(2, MANY), keys=(1, -1, 1))
def touch(session: Session, words: Command) -> Answer:
    """The same as EXISTS."""
    return _present(session, words)


@command("TYPE key", group="keys", flags="readonly fast", words=(2, 2), keys=(1, 1, 1))
def type_(session: Session, words: Command) -> Answer:
    """``string`` for whatever is present, ``none`` when absent; MM.READ tells the type that was written."""
    return session.reply(Simple("string" if words[1].decode() in session.table else "none"))


def _time_left(session: Session, words: Command) -> Answer:
    return integer(-1 if words[1].decode() in session.table else -2)


@command("TTL key", group="keys", flags="readonly fast", words=(2, 2), keys=(1, 1, 1))
def ttl(session: Session, words: Command) -> Answer:
    """-1: present, and never expires; -2: absent."""
    return _time_left(session, words)


@command("PTTL key", group="keys", flags="readonly fast", words=(2, 2), keys=(1, 1, 1))
def pttl(session: Session, words: Command) -> Answer:
    """-1: present, and never expires; -2: absent."""
    return _time_left(session, words)


@command("PERSIST key", group="keys", flags="readonly fast", words=(2, 2), keys=(1, 1, 1))
def persist(_session: Session, words: Command) -> Answer:
    """0: no key ever expires, so there is nothing to take away."""
    words[1].decode()
    return integer(0)


@command("DBSIZE", group="keys", flags="readonly fast", words=(1, 1))
def dbsize(session: Session, _words: Command) -> Answer:
    """The number of keys present in the table."""
    return integer(len(session.table))


@command("KEYS pattern", group="keys", flags="readonly", words=(2, 2))
def keys(session: Session, words: Command) -> Answer:
    """
    The present keys that match, in key order.

    The node does nothing else meanwhile; a pattern that begins with plain text looks only at keys that begin so.
    """
    test, begin = _pattern(words[1])
    room = session.shared.options.reply_bytes
    parts: list[bytes] = []
    for key in session.table.keys(begin, inclusive=True):
        if not key.startswith(begin):
            break
        if test(key):
            part = bulk(key.encode())
            room -= len(part)
            if room < 0:
                raise too_large(session)
            parts.append(part)
    return array(parts)


@command("SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]", group="keys", flags="readonly", words=(2, 8))
def scan(session: Session, words: Command) -> Answer:
    """
    The next keys in key order, and a cursor for going on; 0 begins, and is answered at the end.

    A key that is present from the first call to the last is given exactly once. COUNT (10) is how many keys are
    looked at, which with MATCH may be more than are given.
    """
    cursor = number(words[1], 0)
    chosen = options(words, 2, {"MATCH": 1, "COUNT": 1, "TYPE": 1})
    count = min(number(chosen["COUNT"][0], 1), SCAN_COUNT_MAX) if "COUNT" in chosen else 10
    test, begin = _pattern(chosen["MATCH"][0]) if "MATCH" in chosen else (None, "")
    if "TYPE" in chosen and chosen["TYPE"][0].lower() != b"string":
        return _page(0, [])
    table, cursors = session.table, session.shared.cursors
    if cursor:
        ahead = table.keys(cursors.place(table.name, cursor), inclusive=False)
    else:
        ahead = table.keys(begin, inclusive=True)
    room = session.shared.options.reply_bytes
    parts: list[bytes] = []
    key = ""
    for key in ahead:
        if not key.startswith(begin):
            return _page(0, parts)
        if test is None or test(key):
            parts.append(bulk(key.encode()))
            room -= len(parts[-1])
        count -= 1
        if count == 0 or room < 0:
            break
    else:
        return _page(0, parts)
    return _page(cursors.remember(table.name, key), parts)


def _page(cursor: int, parts: list[bytes]) -> bytes:
    return b"*2\r\n%b%b" % (bulk(b"%d" % cursor), array(parts))


def _pattern(word: bytes) -> tuple[Callable[[str], object], str]:
    pattern = word.decode()
    if len(pattern) > PATTERN_CHARACTERS_MAX:
        raise Refused(f"a pattern has at most {PATTERN_CHARACTERS_MAX} characters")
    return matcher(pattern)
