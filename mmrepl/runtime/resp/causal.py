"""
What Redis has no words for: siblings, contexts, tables, members, versions, partition drills.

The way to change a value without losing anybody's write is two commands: MM.READ gives the value, the siblings and
a *context* token that stands for exactly these siblings; MM.PUT with that token replaces them and nothing else. A
token is text without blanks. It belongs to its key, may come from any node, and does not expire.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson

from mmrepl.causality.version_vector import EMPTY, VersionVector
from mmrepl.runtime.resp.backend import Change, SiblingView, Written
from mmrepl.runtime.resp.commands import COMMANDS, command, number, options
from mmrepl.runtime.resp.connection import durability_level
from mmrepl.runtime.resp.protocol import Command
from mmrepl.runtime.resp.session import Answer, Pending, Refused, Session
from mmrepl.runtime.resp.shown import json_text, kind, packed, shown
from mmrepl.types import Value
from mmrepl.values import decode
from mmrepl.wire.resp import OK, Encoded, array, bulk
from mmrepl.wire.seen import parse_seen_token, seen_token
from mmrepl.wire.tokens import context_token, parse_context_token, version_token

CHANGES_COUNT_MAX = 10_000
"""Operations that one MM.CHANGES gives, at most."""


# -- reading


def _when(timestamp: int) -> str:
    """The wall-clock part of a hybrid timestamp, for people."""
    try:
        return datetime.fromtimestamp((timestamp >> 16) / 1000, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return "?"


def _sibling(sibling: SiblingView, form: Callable[[Value], bytes]) -> dict[str, Any]:
    return {
        "dot": str(sibling.dot),
        "timestamp": sibling.timestamp,
        "time": _when(sibling.timestamp),
        "deleted": sibling.deleted,
        "shown": sibling.shown,
        "type": None if sibling.deleted else kind(sibling.value),
        "value": None if sibling.deleted else form(sibling.value),
    }


@command("MM.READ key [PACKED]", group="causal", flags="readonly", words=(2, 3), keys=(1, 1, 1))
def read(session: Session, words: Command) -> Answer:
    """
    All that this node knows of a key: what it reads as, each sibling with its dot and time, the context token.

    With PACKED the values are MessagePack, exact.
    """
    form = packed if "PACKED" in options(words, 2, {"PACKED": 0}) else shown
    view = session.read(words[1].decode())
    return session.reply(
        {
            "present": view.present,
            "type": kind(view.value) if view.present else None,
            "value": form(view.value) if view.present else None,
            "resolver": view.resolver,
            "context": context_token(view.context),
            "seen": view.seen,
            "siblings": [_sibling(sibling, form) for sibling in view.siblings],
        }
    )


@command("MM.SIBLINGS key", group="causal", flags="readonly", words=(2, 2), keys=(1, 1, 1))
def siblings(session: Session, words: Command) -> Answer:
    """The value of each sibling that is not a tombstone, in canonical order, as GET would show it."""
    view = session.read(words[1].decode())
    return array(bulk(shown(sibling.value)) for sibling in view.siblings if not sibling.deleted)


@command("MM.CONTEXT key", group="causal", flags="readonly fast", words=(2, 2), keys=(1, 1, 1))
def context(session: Session, words: Command) -> Answer:
    """The context token of a key: what a write must carry to replace just what is there now."""
    return bulk(context_token(session.read(words[1].decode()).context).encode())


# -- writing


def _written(session: Session, written: Written) -> bytes:
    session.position = written.position
    dot = written.dot
    seen = written.seen or seen_token(VersionVector.unchecked({dot.origin: dot.counter}))
    return session.reply({"dot": str(dot), "context": context_token(written.context), "seen": seen})


def _write(session: Session, words: Command, default: bytes | None, known: dict[str, int]) -> bytes:
    chosen = options(words, 3, known)
    key = words[1].decode()
    value: Value = words[2]
    if "PACKED" in chosen:
        if "JSON" in chosen:
            raise Refused("a value is JSON or PACKED, not both")
        value = decode(words[2])
    elif "JSON" in chosen:
        try:
            value = orjson.loads(words[2])
        except orjson.JSONDecodeError as error:
            raise Refused(f"the value is not JSON: {error}", "INVALID") from None
    given = parse_context_token(chosen["CONTEXT"][0]) if "CONTEXT" in chosen else default
    if "DURABILITY" not in chosen:
        return _written(session, session.table.write(key, value, given, session.durability))
    with session.at_level(durability_level(chosen["DURABILITY"][0])):
        return _written(session, session.table.write(key, value, given, session.durability))


@command(
    "MM.PUT key value [CONTEXT token] [JSON|PACKED] [DURABILITY level]",
    group="causal",
    flags="write",
    words=(3, 9),
    keys=(1, 1, 1),
)
def put(session: Session, words: Command) -> Answer:
    """
    Write over exactly what a context token covers; answers with the dot and the new token.

    Without CONTEXT: over what this node shows, as SET. With JSON the value is parsed, and stored with its types; PACKED
    says that it is MessagePack.
    """
    return _write(session, words, None, {"CONTEXT": 1, "JSON": 0, "PACKED": 0, "DURABILITY": 1})


@command(
    "MM.BLIND key value [JSON|PACKED] [DURABILITY level]", group="causal", flags="write", words=(3, 7), keys=(1, 1, 1)
)
def blind(session: Session, words: Command) -> Answer:
    """Write without having seen anything: a sibling of whatever is there."""
    return _write(session, words, b"", {"JSON": 0, "PACKED": 0, "DURABILITY": 1})


@command("MM.DEL key [CONTEXT token]", group="causal", flags="write", words=(2, 4), keys=(1, 1, 1))
def delete(session: Session, words: Command) -> Answer:
    """Delete exactly what a context token covers; answers with the dot and token, or nothing if there was nothing."""
    chosen = options(words, 2, {"CONTEXT": 1})
    given = parse_context_token(chosen["CONTEXT"][0]) if "CONTEXT" in chosen else None
    written = session.table.delete(words[1].decode(), given, session.durability)
    return session.null if written is None else _written(session, written)


# -- tables


@command("MM.TABLES", group="tables", flags="readonly", words=(1, 1))
def tables(session: Session, _words: Command) -> Answer:
    """The tables: name to resolver. The default table has the empty name."""
    return session.reply(dict(session.backend.tables()))


@command("MM.TABLE [name]", group="tables", flags="fast", words=(1, 2))
def table(session: Session, words: Command) -> Answer:
    """Use a table from now on, on this connection; without a name, which one it is."""
    if len(words) == 1:
        return bulk(session.table.name.encode())
    session.table = session.backend.table(words[1].decode())
    return OK


# -- the node among its peers


@command("MM.MEMBERS", group="cluster", flags="readonly", words=(1, 1))
def members(session: Session, _words: Command) -> Answer:
    """The members, each as a map of what this node knows of it."""
    return session.reply([dict(member) for member in session.backend.members()])


@command("MM.STATUS", group="cluster", flags="readonly", words=(1, 1))
def status(session: Session, _words: Command) -> Answer:
    """The state of the node, as JSON."""
    return bulk(json_text(dict(session.backend.status())))


@command("MM.VERSION", group="cluster", flags="readonly fast", words=(1, 1))
def version(session: Session, _words: Command) -> Answer:
    """What is applied here: ``token`` for MM.CHANGES, and the version ``vector``, origin to counter."""
    backend, vector = session.backend, session.backend.version
    token = version_token(vector) if backend.single_writer is None else backend.applied
    return session.reply({"token": token, "vector": {str(origin): vector[origin] for origin in vector}})


def _change(change: Change) -> dict[str, Any]:
    return {
        "table": change.table,
        "key": change.key,
        "dot": str(change.dot),
        "timestamp": change.timestamp,
        "deleted": change.deleted,
        "type": None if change.deleted else kind(change.value),
        "value": None if change.deleted else shown(change.value),
    }


@command(
    "MM.CHANGES [SINCE token] [COUNT count] [BLOCK milliseconds]",
    group="cluster",
    flags="readonly blocking",
    words=(1, 7),
)
def changes(session: Session, words: Command) -> Answer:
    """
    The operations that a token lacks, and the token to go on from.

    Without SINCE from the beginning of the log. With BLOCK, when there are none, waits for the next.
    """
    chosen = options(words, 1, {"SINCE": 1, "COUNT": 1, "BLOCK": 1})
    since = parse_seen_token(chosen["SINCE"][0]) if "SINCE" in chosen else EMPTY
    count = min(number(chosen["COUNT"][0], 1), CHANGES_COUNT_MAX) if "COUNT" in chosen else 100
    backend = session.backend

    def answer(_came: bool = True) -> bytes:
        room = session.shared.options.reply_bytes
        found, onward = backend.changes(since, count)
        parts: list[bytes] = []
        for change in found:
            parts.append(session.reply(_change(change)))
            room -= len(parts[-1])
            if room < 0 and len(parts) < len(found):
                # A shorter page, of the same operations, and the token that belongs to it.
                _, onward = backend.changes(since, len(parts))
                break
        token = version_token(onward) if isinstance(onward, VersionVector) else seen_token(onward)
        return session.reply({"token": token, "changes": Encoded(array(parts))})

    if "BLOCK" in chosen and not backend.has_more(since):
        longest = int(session.shared.options.wait_seconds * 1000)
        timeout_ms = min(number(chosen["BLOCK"][0], 0) or longest, longest)
        return Pending(backend.wait_changes(since, timeout_ms), answer)
    return answer()


def _drill(session: Session) -> None:
    if not session.shared.options.drills:
        raise Refused("partition drills are switched off on this node")


@command("MM.PARTITION peer", group="cluster", flags="admin", words=(2, 2))
def partition(session: Session, words: Command) -> Answer:
    """A drill: cut the connection with a peer, both ways, until MM.HEAL."""
    _drill(session)
    session.backend.block(words[1].decode())
    return OK


@command("MM.HEAL [peer]", group="cluster", flags="admin", words=(1, 2))
def heal(session: Session, words: Command) -> Answer:
    """End the drill with a peer, or all of them."""
    _drill(session)
    session.backend.unblock(words[1].decode() if len(words) == 2 else None)
    return OK


@command("MM.HELP [command]", group="server", flags="fast", words=(1, 2))
def help_(session: Session, words: Command) -> Answer:
    """The commands, a line each, or one of them."""
    if len(words) == 1:
        specs = list(COMMANDS.values())
    else:
        spec = COMMANDS.get(words[1].decode("utf-8", "replace").upper())
        if spec is None:
            raise Refused(f"no command {words[1].decode('utf-8', 'replace')[:64]!r}: MM.HELP lists them")
        specs = [spec]
    return session.reply([f"{f'{spec.name} {spec.syntax}'.rstrip()} — {spec.summary}" for spec in specs])
