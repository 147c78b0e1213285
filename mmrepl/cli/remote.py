"""
A running node, as the commands ask it: its client port in the words of the command line.

Answers of the port are turned into plain Python values here, so that no command knows what they look like on the wire.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self, cast

import orjson
from attrs import frozen

from mmrepl.causality.dot import Dot
from mmrepl.causality.version_vector import VersionVector
from mmrepl.cli import output
from mmrepl.cli.options import Level, Reach
from mmrepl.cli.values import from_shown, wire_form
from mmrepl.clock import hlc
from mmrepl.clock.instants import utc_text
from mmrepl.errors import AckTimeout, NotPrimary, UsageError
from mmrepl.runtime.resp.client import Client
from mmrepl.types import Value
from mmrepl.values import check_key, check_table
from mmrepl.wire.seen import LogPosition, join_seen, parse_seen_token, seen_token
from mmrepl.wire.seen import Seen as Place

PAGE = 1000
"""Keys or operations that one question asks for."""

OPERATION_S = 60.0
"""What an operator asks for may need several round trips, and others who catch up first."""

BACKUP_S = 3600.0
"""A large store takes a while to copy."""


@frozen
class Found:
    """One sibling of a key, as a node shows it."""

    dot: str
    timestamp: int
    deleted: bool
    shown: bool  # it is, or is part of, what the key reads as
    type: str | None
    value: Value

    def plain(self) -> dict[str, Any]:
        """As JSON shows it."""
        return {
            "dot": self.dot,
            "time": utc_text(hlc.ms_of(self.timestamp)),
            "timestamp": hlc.to_json(self.timestamp),
            "deleted": self.deleted,
            "shown": self.shown,
            "type": self.type,
            "value": self.value,
        }


@frozen
class KeyRead:
    """All that a node knows of a key."""

    key: str
    table: str
    present: bool
    type: str | None
    value: Value
    shown: bytes | None  # the value as a Redis client sees it
    resolver: str
    context: str  # the token
    siblings: tuple[Found, ...]

    def plain(self) -> dict[str, Any]:
        """As JSON shows it."""
        return {
            "key": self.key,
            "table": self.table,
            "present": self.present,
            "type": self.type,
            "value": self.value,
            "resolver": self.resolver,
            "context": self.context,
            "siblings": [sibling.plain() for sibling in self.siblings],
        }


@frozen
class Receipt:
    """A write that the node has made."""

    dot: str
    context: str


@frozen
class Seen:
    """One operation of a node's log, and the token with which to go on behind it."""

    dot: Dot | LogPosition
    table: str
    key: str
    timestamp: int
    deleted: bool
    type: str | None
    value: Value
    token: Place
    settled: bool = False  # a node tells what its log holds, and that is not settled

    def plain(self) -> dict[str, Any]:
        """As JSON shows it."""
        return {
            "dot": str(self.dot),
            "time": utc_text(hlc.ms_of(self.timestamp)),
            "timestamp": hlc.to_json(self.timestamp),
            "table": self.table,
            "key": self.key,
            "deleted": self.deleted,
            "type": self.type,
            "value": self.value,
            "token": seen_token(self.token),
        }


class Remote:
    """A connection to a node's client port. Errors are those of `Client`. Leave it with ``close``, or as a context."""

    def __init__(self, reach: Reach) -> None:
        if not reach.timeout > 0:
            raise UsageError(f"--timeout must be more than 0 seconds, not {reach.timeout:g}")
        self._reach = reach
        self._client = self._connected(reach.node)
        self._table = ""
        self._level: Level | None = None

    def _connected(self, address: str) -> Client:
        reach = self._reach
        return Client(address, password=password_of(reach.password_file), timeout_s=reach.timeout)

    def close(self) -> None:
        """Leave. Idempotent."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- tables and keys

    def use(self, table: str) -> None:
        """Whatever follows is about *table*."""
        if table != self._table:
            check_table(table)
            self._client.call("MM.TABLE", table)
            self._table = table

    def read(self, key: str) -> KeyRead:
        """All that the node knows of a key, present or not."""
        check_key(key)
        found = _map(self._client.call("MM.READ", key))
        kind = _str(found["type"])
        siblings = tuple(_sibling(_map(item)) for item in found["siblings"])
        return KeyRead(
            key=key,
            table=self._table,
            present=bool(found["present"]),
            type=kind,
            value=from_shown(kind, found["value"]),
            shown=found["value"],
            resolver=found["resolver"].decode(),
            context=found["context"].decode(),
            siblings=siblings,
        )

    def keys(self, pattern: str | None = None) -> Iterator[str]:
        """Present keys in key order, as they are during the walk."""
        cursor = b"0"
        match = () if pattern is None else ("MATCH", pattern)
        while True:
            cursor, page = cast("tuple[bytes, list[bytes]]", self._client.call("SCAN", cursor, *match, "COUNT", PAGE))
            for key in page:
                yield key.decode()
            if cursor == b"0":
                return

    # -- writing

    def put(
        self, key: str, value: Value, *, context: str | None = None, blind: bool = False, level: Level | None = None
    ) -> Receipt:
        """Write; *context* is a token of `read`, *blind* the empty one, neither: over what the node shows."""
        check_key(key)
        words, form = wire_form(value)
        chosen = ("CONTEXT", "-" if blind else context) if blind or context is not None else ()
        at = () if level is None else ("DURABILITY", level)
        answer = self._client.call("MM.PUT", key, words, *form, *cast("tuple[str, ...]", chosen), *at)
        return _receipt(answer)

    def delete(self, key: str, *, context: str | None = None, level: Level | None = None) -> Receipt | None:
        """Delete; None, and nothing written, when the key was absent and no *context* was given."""
        check_key(key)
        if level is not None and level != self._level:
            self._client.call("MM.DURABILITY", level)
            self._level = level
        answer = self._client.call("MM.DEL", key, *(() if context is None else ("CONTEXT", context)))
        return None if answer is None else _receipt(answer)

    def confirmed(self, receipt: Receipt, wanted: int, seconds: float) -> int:
        """
        How many members, the node itself among them, have applied this connection's writes.

        Raises AckTimeout when they are fewer than *wanted* after *seconds*.
        """
        others = wanted - 1
        answer = cast("int", self._client.call("WAIT", others, max(1, int(seconds * 1000)), wait_s=seconds))
        if answer < others:
            raise AckTimeout(
                f"{answer + 1} of the {wanted} members asked for confirmed {receipt.dot} in {seconds:g} s "
                "(--within); it is in the log and will spread: do not repeat it",
                confirmed=answer + 1,
                wanted=wanted,
            )
        return answer + 1

    # -- the log

    def version(self) -> Place:
        """What the node has applied."""
        return parse_seen_token(_map(self._client.call("MM.VERSION"))["token"])

    def changes(self, since: Place, *, wait_s: float | None = None) -> Iterator[Seen]:
        """
        The operations that *since* lacks, in the order in which the node applied them.

        With *wait_s* it waits so long for the next ones, and ends when none came; without, it ends at the end of the
        log. Raises LogTruncated.
        """
        while True:
            block = () if wait_s is None else ("BLOCK", max(1, int(wait_s * 1000)))
            words = ("SINCE", seen_token(since), "COUNT", PAGE, *block)
            page = _map(self._client.call("MM.CHANGES", *words, wait_s=wait_s or 0.0))
            for item in page["changes"]:
                found = _map(item)
                dot = _dot(found["dot"].decode())
                since = dot if isinstance(dot, LogPosition) else cast("VersionVector", since).including(dot)
                yield Seen(
                    dot=dot,
                    table=found["table"].decode(),
                    key=found["key"].decode(),
                    timestamp=found["timestamp"],
                    deleted=bool(found["deleted"]),
                    type=_str(found["type"]),
                    value=from_shown(_str(found["type"]), found["value"]),
                    token=since,
                )
            onward = join_seen(since, parse_seen_token(page["token"]))
            if not page["changes"] and onward == since:
                return
            since = onward

    # -- the cluster

    def status(self) -> dict[str, Any]:
        """What the node says of itself."""
        answer = self._client.call("MM.STATUS")
        assert isinstance(answer, bytes)
        found: dict[str, Any] = orjson.loads(answer)
        return found

    def members(self) -> list[dict[str, Any]]:
        """What the node knows of each member, by name, itself included."""
        return [_decoded(member) for member in cast("list[Any]", self._client.call("MM.MEMBERS"))]

    def partition(self, peer: str) -> None:
        """Cut the node's connection with a peer, and keep it cut."""
        self._client.call("MM.PARTITION", peer)

    def heal(self, peer: str | None = None) -> None:
        """Let a peer in again, or all of them."""
        self._client.call("MM.HEAL", *(() if peer is None else (peer,)))

    def remove(self, who: str) -> None:
        """Take a member out of the cluster, or give up an address that never answered."""
        self._of_primary("MM.REMOVE", who)

    # -- single-master mode

    def _of_primary(self, *words: str) -> Any:
        """
        What only the primary can do: asked of another node, it is asked there, and so is all that follows.

        Raises NotPrimary when the node does not know who that is, or when that one has ceased to be it.
        """
        try:
            return self._client.call(*words, wait_s=OPERATION_S)
        except NotPrimary as error:
            if not error.primary:
                raise
            primary = error.primary
        output.hint(f"{self._reach.node} is not the primary: {primary} is, and is asked")
        self._client.close()
        self._client = self._connected(primary)
        return self._client.call(*words, wait_s=OPERATION_S)

    def promote(self, *, force: bool) -> dict[str, Any]:
        """Make the node the primary: the term, and what is lost, by member."""
        words = ("MM.PROMOTE", "FORCE") if force else ("MM.PROMOTE",)
        found = _map(self._client.call(*words, wait_s=OPERATION_S))
        return {"term": found["term"], "lost": _map(found["lost"])}

    def transfer(self, to: str) -> dict[str, Any]:
        """Hand over: who leads then, and in which term."""
        return cast("dict[str, Any]", _decoded(self._of_primary("MM.TRANSFER", to)))

    def add(self, who: str, *, learner: bool) -> int:
        """Make a node a member; the index of the change."""
        words = ("MM.ADD", who, "LEARNER") if learner else ("MM.ADD", who)
        return cast("int", self._of_primary(*words))

    def branches(self) -> list[dict[str, Any]]:
        """What is kept there."""
        return [_decoded(branch) for branch in cast("list[Any]", self._client.call("MM.BRANCHES"))]

    def merge(self, branch: str, policy: str) -> dict[str, Any]:
        """Merge a branch: how many keys were written."""
        answer = self._client.call("MM.MERGE", branch, policy, wait_s=OPERATION_S)
        return cast("dict[str, Any]", _decoded(answer))

    def drop(self, branch: str) -> None:
        """Forget a branch."""
        self._client.call("MM.DROP", branch)

    # -- the file

    def backup(self, name: str) -> str:
        """Let the node copy its file to one of that name beside it; returns the path of the copy."""
        answer = self._client.call("MM.BACKUP", name, wait_s=BACKUP_S)
        assert isinstance(answer, bytes)
        return answer.decode()


def password_of(path: Path | None) -> str | None:
    """The password in a file: its text without the newline at its end. Raises UsageError."""
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the password cannot be read from {path}: {error}") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise UsageError(f"the password file {path} is empty")
    return text


def _sibling(found: dict[str, Any]) -> Found:
    kind = _str(found["type"])
    return Found(
        dot=found["dot"].decode(),
        timestamp=found["timestamp"],
        deleted=bool(found["deleted"]),
        shown=bool(found["shown"]),
        type=kind,
        value=from_shown(kind, found["value"]),
    )


def _dot(text: str) -> Dot | LogPosition:
    """The name of a write: in single-master mode its place in the log."""
    found = LogPosition.parse(text)
    return Dot.parse(text) if found is None else found


def _receipt(answer: Any) -> Receipt:
    found = _map(answer)
    return Receipt(found["dot"].decode(), found["context"].decode())


def _map(answer: Any) -> dict[str, Any]:
    return {name.decode(): item for name, item in answer.items()}


def _str(text: bytes | None) -> str | None:
    return None if text is None else text.decode()


def _decoded(answer: Any) -> Any:
    """An answer whose texts are all for people: bytes as str, throughout."""
    if isinstance(answer, bytes):
        return answer.decode("utf-8", "replace")
    if isinstance(answer, list):
        return [_decoded(item) for item in answer]
    if isinstance(answer, dict):
        return {_decoded(name): _decoded(item) for name, item in answer.items()}
    return answer
