"""
Values by key: GET, SET and their like.

SET stores the client's bytes as a bytes value, written over what this node shows, as a dict would. GET gives the
resolved value as a client can read it (see `shown`). What Redis offers and a multi-master store cannot, above all
whatever decides by the present value, is refused with the reason: see `refused`.
"""

from __future__ import annotations

from typing import Final

from mmrepl.runtime.resp.commands import MANY, command, options
from mmrepl.runtime.resp.protocol import Command
from mmrepl.runtime.resp.refused import CONDITIONAL, EXPIRY
from mmrepl.runtime.resp.session import Answer, Refused, Session
from mmrepl.runtime.resp.shown import shown
from mmrepl.wire.resp import OK, bulk, integer


class _Absent:
    """The type of `ABSENT`."""


ABSENT: Final = _Absent()
"""What ``get`` gives for an absent key: None is a value."""


@command("GET key", group="values", flags="readonly fast", words=(2, 2), keys=(1, 1, 1))
def get(session: Session, words: Command) -> Answer:
    """The value of a key, as this node shows it; nothing when absent."""
    value = session.table.get(words[1].decode(), ABSENT)
    if value is ABSENT:
        return session.null
    if not isinstance(value, bytes):
        value = shown(value)  # type: ignore[arg-type]
    return b"$%d\r\n%b\r\n" % (len(value), value)


@command("SET key value [GET] [KEEPTTL]", group="values", flags="write", words=(3, MANY), keys=(1, 1, 1))
def set_(session: Session, words: Command) -> Answer:
    """Write bytes over what this node shows; with GET, answer with what it showed before."""
    if len(words) == 3:
        session.position = session.table.put(words[1].decode(), words[2], session.durability)
        return OK
    return _set_with_options(session, words)


_SET_OPTIONS = {"GET": 0, "KEEPTTL": 0, "NX": 0, "XX": 0, "EX": 1, "PX": 1, "EXAT": 1, "PXAT": 1}


def _set_with_options(session: Session, words: Command) -> Answer:
    chosen = options(words, 3, _SET_OPTIONS)
    if "NX" in chosen or "XX" in chosen:
        raise Refused(f"SET {'NX' if 'NX' in chosen else 'XX'} is not offered: {CONDITIONAL}")
    for name in ("EX", "PX", "EXAT", "PXAT"):
        if name in chosen:
            raise Refused(f"SET {name} is not offered: {EXPIRY}")
    before = get(session, words[:2]) if "GET" in chosen else OK
    session.position = session.table.put(words[1].decode(), words[2], session.durability)
    return before


@command("GETSET key value", group="values", flags="write", words=(3, 3), keys=(1, 1, 1))
def getset(session: Session, words: Command) -> Answer:
    """SET with GET."""
    return _set_with_options(session, [*words, b"GET"])


@command("GETDEL key", group="values", flags="write", words=(2, 2), keys=(1, 1, 1))
def getdel(session: Session, words: Command) -> Answer:
    """GET, then DEL."""
    before = get(session, words)
    written = session.table.delete(words[1].decode(), None, session.durability)
    if written is not None:
        session.position = written.position
    return before


@command("MGET key [key …]", group="values", flags="readonly", words=(2, MANY), keys=(1, -1, 1))
def mget(session: Session, words: Command) -> Answer:
    """The values of several keys, in the order asked for."""
    room = session.shared.options.reply_bytes
    parts: list[bytes] = []
    read, null = session.table.get, session.null
    for word in words[1:]:
        value = read(word.decode(), ABSENT)
        part = null if value is ABSENT else bulk(shown(value))  # type: ignore[arg-type]
        room -= len(part)
        if room < 0:
            raise too_large(session)
        parts.append(part)
    return b"*%d\r\n%b" % (len(parts), b"".join(parts))


@command("MSET key value [key value …]", group="values", flags="write", words=(3, MANY), keys=(1, -1, 2))
def mset(session: Session, words: Command) -> Answer:
    """
    Write several keys, in order, in one local commit.

    They reach other nodes together or one by one, and meet concurrent writes key by key. All are checked before the
    first is written.
    """
    if len(words) % 2 == 0:
        raise Refused("wrong number of arguments for 'mset' command")
    limits = session.backend.limits
    keys = [word.decode() for word in words[1::2]]
    for key, word, value in zip(keys, words[1::2], words[2::2], strict=True):
        if not 0 < len(word) <= limits.key_bytes:
            raise Refused(f"key {key[:40]!r} has {len(word)} bytes; 1 to {limits.key_bytes} are allowed", "INVALID")
        if len(value) > limits.value_bytes:
            raise Refused(
                f"the value of {key!r} has {len(value)} bytes; at most {limits.value_bytes} (value_bytes) are allowed",
                "INVALID",
            )
    put, durability = session.table.put, session.durability
    for key, value in zip(keys, words[2::2], strict=True):
        session.position = put(key, value, durability)
    return OK


@command("STRLEN key", group="values", flags="readonly fast", words=(2, 2), keys=(1, 1, 1))
def strlen(session: Session, words: Command) -> Answer:
    """The length of what GET would answer; 0 when absent."""
    value = session.table.get(words[1].decode(), ABSENT)
    return integer(0 if value is ABSENT else len(shown(value)))  # type: ignore[arg-type]


def too_large(session: Session) -> Refused:
    """The error for an answer beyond ``reply_bytes``."""
    return Refused(f"the answer would be larger than {session.shared.options.reply_bytes} bytes (reply_bytes)")
