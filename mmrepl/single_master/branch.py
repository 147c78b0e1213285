"""
Branches: what was cut off a log, and how it comes back.

A deposed leader may have accepted writes that it never shipped. When its log meets that of its successor they are cut
off, and kept: where they left the log, their terms, the entries. Nothing of it is applied. The user lists branches,
reads them, merges them, or drops them.

To merge is to do what a multi-master cluster would have done with the same writes. A key that the branch wrote and
the cluster did not is written as the branch has it. Where both wrote, the two values are siblings, and a resolver
decides (`mmrepl.resolvers`). What comes out is proposed as ordinary writes, each on condition that the key is still as
it was looked at; one that is not is looked at again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec
from attrs import frozen

from mmrepl.causality.dot import Dot
from mmrepl.clock.hlc import clamp_ms, pack
from mmrepl.errors import StoreCorrupt, UnknownBranch
from mmrepl.resolvers import Resolver, Sibling
from mmrepl.single_master.entry import WRITE, Entry, decode_entries
from mmrepl.single_master.entry_log import Slice
from mmrepl.single_master.journal import BRANCHES, Journal
from mmrepl.single_master.state import State
from mmrepl.types import Limits, NodeId
from mmrepl.wire.single_master import Runs


class Branch(msgspec.Struct, array_like=True, frozen=True):
    """Entries that were cut off. The first stands at ``fork + 1``."""

    id: str
    fork: int  # the last entry that they have in common with the cluster's log
    fork_term: int
    runs: Runs
    bodies: list[bytes]
    certain: bool  # false: some of them may be in the cluster's log all the same
    node: tuple[str, int]  # who kept it
    kept_ms: int  # when, by its wall clock

    @property
    def last(self) -> int:
        """Index of the last entry."""
        return self.fork + len(self.bodies)


class BranchInfo(NamedTuple):
    """A branch, as it is listed."""

    id: str
    fork: int
    last: int
    terms: tuple[int, ...]
    writes: int
    keys: int
    certain: bool
    kept_ms: int


class Wanted(NamedTuple):
    """A write that merges a key."""

    table: str
    key: str
    payload: bytes | None
    expect: int


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Branch)


def decode_branch(number: int, body: bytes) -> Branch:
    """A branch as a segment *number* holds it. Raises StoreCorrupt."""
    try:
        return _decoder.decode(body)
    except (msgspec.MsgspecError, ValueError) as error:
        raise StoreCorrupt(f"branch {number - BRANCHES} of the store cannot be read: {error}") from error


class Branches:
    """The branches of one node, oldest first. Mutable; durable with the next commit."""

    def __init__(self, journal: Journal, limits: Limits, count_max: int) -> None:
        self._journal = journal
        self._limits = limits
        self._count_max = count_max
        self._all: dict[str, tuple[int, Branch]] = {}
        self._next = BRANCHES

    def load(self, number: int, body: bytes) -> None:
        """From disk. Raises StoreCorrupt."""
        branch = decode_branch(number, body)
        self._all[branch.id] = (number, branch)
        self._next = max(self._next, number + 1)

    def keep(
        self, node: NodeId, fork: int, fork_term: int, cut: Slice, wall_ms: int, *, certain: bool = True
    ) -> Branch | None:
        """
        Keep what is cut off after (*fork*, *fork_term*); None when there is no write in it, or it is kept already.
        """
        entries = decode_entries(cut.bodies, self._limits)
        if not any(entry.kind == WRITE for entry in entries):
            return None
        name = f"{fork + 1}.{cut.runs[0][0]}-{fork + len(entries)}.{cut.runs[-1][0]}"
        if name in self._all:
            return None
        origin = (node.name, node.incarnation)
        branch = Branch(name, fork, fork_term, cut.runs, cut.bodies, certain, origin, wall_ms)
        self._all[name] = (self._next, branch)
        self._journal.note_segment(self._next, _encoder.encode(branch))
        self._next += 1
        return branch

    def surplus(self) -> list[Branch]:
        """Drop the oldest while there are too many; returns them."""
        gone = []
        while len(self._all) > self._count_max:
            gone.append(self.get(next(iter(self._all))))
            self.drop(gone[-1].id)
        return gone

    def get(self, id: str) -> Branch:
        """Raises UnknownBranch."""
        try:
            return self._all[id][1]
        except KeyError:
            known = ", ".join(self._all) or "none"
            raise UnknownBranch(f"no branch {id!r} is kept here; there is {known}") from None

    def drop(self, id: str) -> None:
        """Raises UnknownBranch."""
        self.get(id)
        number, _ = self._all.pop(id)
        self._journal.note_segment(number, None)

    def writes(self, branch: Branch) -> list[Entry]:
        """The writes of a branch, in order."""
        return [entry for entry in decode_entries(branch.bodies, self._limits) if entry.kind == WRITE]

    def infos(self) -> list[BranchInfo]:
        """All of them, oldest first. Cost: proportional to what they hold."""
        return [self.info(branch) for _, branch in self._all.values()]

    def info(self, branch: Branch) -> BranchInfo:
        """One of them, as it is listed."""
        writes = self.writes(branch)
        keys = len({(entry.table, entry.key) for entry in writes})
        terms = tuple(term for term, _ in branch.runs)
        return BranchInfo(
            branch.id, branch.fork, branch.last, terms, len(writes), keys, branch.certain, branch.kept_ms
        )  # fmt: skip


@frozen
class Ours:
    """What a branch has for a key: the outcome of its writes there."""

    payload: bytes | None
    index: int
    stamp: int


def outcomes(branch: Branch, state: State, limits: Limits) -> dict[tuple[str, str], Ours]:
    """
    What the writes of a branch would have made of their keys, had it been the cluster's log.

    Requests that the cluster has applied since, because their client tried again, are left out; so are writes whose
    condition cannot have held.
    """
    found: dict[tuple[str, str], Ours] = {}
    for index, entry in enumerate(decode_entries(branch.bodies, limits), branch.fork + 1):
        if entry.kind != WRITE:
            continue
        place = (entry.table, entry.key)
        session = state.sessions.get(entry.session) if entry.session else None
        if session is not None and session.request >= entry.request:
            continue
        record = state.record(*place)
        if record is not None and record[1] == index and record[0] == entry.payload and not branch.certain:
            found.pop(place, None)
            continue  # it is in the cluster's log all the same
        before = found.get(place)
        if entry.expect >= 0:
            if before is not None:
                held = before.index if before.payload is not None else 0
            elif record is None or record[1] <= branch.fork:
                held = record[1] if record is not None and record[0] is not None else 0
            else:
                held = entry.expect  # the cluster has written it since: what was there then is not known any more
            if held != entry.expect:
                continue
        found[place] = Ours(entry.payload, index, entry.stamp)
    return found


def merge(
    branch: Branch,
    ours: dict[tuple[str, str], Ours],
    places: Iterable[tuple[str, str]],
    state: State,
    resolver_of: Callable[[str], Resolver],
) -> list[Wanted]:
    """
    The writes that merge *places*, looked at now; none for a place where there is nothing to do.

    Raises ResolverError.
    """
    wanted = []
    for table, key in places:
        mine = ours[table, key]
        record = state.record(table, key)
        present = None if record is None else record[0]
        expect = 0 if record is None or present is None else record[1]
        if present == mine.payload:
            continue
        if record is None or record[1] <= branch.fork:
            wanted.append(Wanted(table, key, mine.payload, expect))
            continue
        siblings = [
            Sibling(Dot(NodeId(branch.node[0], branch.node[1]), mine.index), pack(clamp_ms(mine.stamp)), mine.payload),
            Sibling(Dot(CLUSTER, record[1]), pack(clamp_ms(record[2])), present),
        ]
        decided = resolver_of(table).resolve(siblings).payload
        if decided != present:
            wanted.append(Wanted(table, key, decided, expect))
    return wanted


CLUSTER = NodeId("", 0)
"""Stands as the origin of what the cluster wrote, so that it is no member's."""
