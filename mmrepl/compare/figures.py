"""
The figures of a run, computed from its record and from nothing else.

Each is a function of a `RunRecord`, by a rule that is the same for every mode; `figures` puts them together. What they
mean stands in docs/design/0008-compare.md, and at the fields of `Figures`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from attrs import frozen

from mmrepl.compare.record import Position, Record, RunRecord, covers, descends
from mmrepl.sim.wing_gong import Call, Undecided, linearizability
from mmrepl.values import encode


@frozen
class Fates:
    """How many calls ended how."""

    ok: int
    refused: int
    unknown: int


@frozen
class Latency:
    """Of calls that were answered, in ms; None where there was none."""

    p50: float | None
    p99: float | None


@frozen
class Broken:
    """Reads or writes that broke a session guarantee (Terry et al., 1994), by guarantee."""

    read_your_writes: int
    monotonic_reads: int
    monotonic_writes: int
    writes_follow_reads: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.read_your_writes + self.monotonic_reads + self.monotonic_writes + self.writes_follow_reads


@frozen(kw_only=True)
class Figures:
    """What one mode did with the workload."""

    mode: str
    reads: Latency
    writes: Latency
    whole: Fates  # writes, over the whole run
    cut_off: Fates  # writes of clients on the primary's side, while the network was parted
    others: Fates  # and of those on the other side
    lost: int  # acknowledged writes that are not in the history at the end
    overwritten_unseen: int  # acknowledged items, written over by somebody who had not seen them
    siblings_most: int  # that a read showed
    siblings_left: int  # keys that have more than one at the end
    stale_reads: int
    reads_ok: int
    broken: Broken
    nonlinear_keys: int | None  # None: not asked, for more than one node takes writes; or undecided
    converged_ms: int | None
    bytes_per_useful: float | None  # sent between nodes, for each byte of accepted values
    stored_bytes: int


def figures(run: RunRecord) -> Figures:
    """All figures of a run. Cost: reads times the acknowledged writes of their key."""
    writes = [record for record in run.records if record.kind == "write"]
    reads = [record for record in run.records if record.kind == "read"]
    useful = sum(record.size_bytes for record in writes if record.outcome == "ok" and not record.wrote_nothing)
    parted = [record for record in writes if _while_parted(run, record)]
    return Figures(
        mode=run.mode,
        reads=latency(reads),
        writes=latency(writes),
        whole=fates(writes),
        cut_off=fates(record for record in parted if record.home in run.isolated),
        others=fates(record for record in parted if record.home not in run.isolated),
        lost=len(lost(run)),
        overwritten_unseen=len(overwritten_unseen(run)),
        siblings_most=max((record.siblings for record in reads), default=0),
        siblings_left=sum(len(siblings) > 1 for siblings in run.final.values()),
        stale_reads=len(stale_reads(run)),
        reads_ok=sum(record.outcome == "ok" for record in reads),
        broken=broken_sessions(run),
        nonlinear_keys=nonlinear_keys(run),
        converged_ms=run.converged_ms,
        bytes_per_useful=None if run.sent_bytes is None or not useful else run.sent_bytes / useful,
        stored_bytes=run.stored_bytes,
    )


def fates(records: Iterable[Record]) -> Fates:
    """How many ended how."""
    counts = {"ok": 0, "refused": 0, "unknown": 0}
    for record in records:
        counts[record.outcome] += 1
    return Fates(**counts)


def latency(records: Iterable[Record]) -> Latency:
    """Median and 99th percentile of what was answered, by nearest rank."""
    took = sorted(
        record.answered_ms - record.called_ms
        for record in records
        if record.outcome == "ok" and record.answered_ms is not None
    )
    if not took:
        return Latency(None, None)
    return Latency(took[(len(took) - 1) // 2], took[min(len(took) - 1, -(-99 * len(took) // 100) - 1)])


def _while_parted(run: RunRecord, record: Record) -> bool:
    begin, end = run.at("isolate"), run.at("heal")
    return begin is not None and begin <= record.called_ms and (end is None or record.called_ms < end)


def _acknowledged(run: RunRecord) -> list[Record]:
    """Writes that were answered for, and wrote something."""
    return [r for r in run.records if r.kind == "write" and r.outcome == "ok" and not r.wrote_nothing]


def lost(run: RunRecord) -> list[Record]:
    """Acknowledged writes that are not in the history that the cluster agreed on."""
    return [record for record in _acknowledged(run) if record.mark not in run.survived]


def overwritten_unseen(run: RunRecord) -> list[Record]:
    """
    Acknowledged writes of items which survived as writes, and whose item is in no list at the end.

    Unless somebody meant it: deleted the key, or wrote it anew with nothing of what was there, having been shown the
    item (a list that was read is written back with what it held, so whoever drops an item of a list has not seen it,
    but for those two).
    """
    at_end = {key: frozenset().union(*siblings) for key, siblings in run.final.items()}
    meant: dict[str, list[Record]] = defaultdict(list)
    for record in run.records:
        if record.kind == "write" and not record.wrote_nothing and record.item is None:
            meant[record.key].append(record)
    return [
        record
        for record in _acknowledged(run)
        if record.item is not None
        and record.mark in run.survived
        and record.item not in at_end.get(record.key, frozenset())
        and not any(_may_have_removed(other, record) for other in meant[record.key])
    ]


def _may_have_removed(other: Record, added: Record) -> bool:
    """Whether a deletion (or a write of something else) may have come after an item was added."""
    return other.answered_ms is None or other.answered_ms >= added.called_ms


def stale_reads(run: RunRecord) -> list[Record]:
    """Reads by a node that lacked a write to that key which was acknowledged before the read began, and not lost."""
    by_key: dict[str, list[Record]] = defaultdict(list)
    for record in _acknowledged(run):
        if record.mark in run.survived:
            by_key[record.key].append(record)
    return [
        read
        for read in run.records
        if read.kind == "read"
        and read.position is not None
        and any(
            write.answered_ms is not None
            and write.answered_ms < read.called_ms
            and write.mark is not None
            and not covers(read.position, write.mark)
            for write in by_key[read.key]
        )
    ]


def broken_sessions(run: RunRecord) -> Broken:
    """How often each guarantee was broken for a client, all its calls taken for one session."""
    sessions: dict[int, list[Record]] = defaultdict(list)
    for record in run.records:
        if record.outcome == "ok":
            sessions[record.client].append(record)
    gone = {id(record) for record in lost(run)}
    gone_items = {record.item for record in run.records if id(record) in gone and record.item is not None}
    own_writes = seen_again = order = follows = 0
    for calls in sessions.values():
        calls.sort(key=lambda record: (record.called_ms, record.answered_ms or 0))
        own_writes += _reads_without(calls)
        seen_again += _reads_back(calls)
        order += _writes_out_of_order(calls, gone)
        follows += _writes_on_nothing(calls, gone, gone_items)
    return Broken(own_writes, seen_again, order, follows)


def _reads_without(calls: Sequence[Record]) -> int:
    """Reads at a node that lacked something which the session had written."""
    count, written = 0, []
    for call in calls:
        if call.kind == "write" and call.mark is not None:
            written.append(call.mark)
        elif call.position is not None:
            count += any(not covers(call.position, mark) for mark in written)
    return count


def _reads_back(calls: Sequence[Record]) -> int:
    """Reads at a node that had not seen all which the session had read from."""
    count = 0
    last: Position | None = None
    for call in calls:
        if call.kind == "read" and call.position is not None:
            count += last is not None and not descends(call.position, last)
            last = call.position
    return count


def _writes_out_of_order(calls: Sequence[Record], gone: set[int]) -> int:
    """Writes that survived although an earlier one of the session, which had been acknowledged, did not."""
    count, missing = 0, False
    for call in calls:
        if call.kind == "write":
            if id(call) in gone:
                missing = True
            else:
                count += missing
    return count


def _writes_on_nothing(calls: Sequence[Record], gone: set[int], gone_items: set[str]) -> int:
    """Writes that survived, of a session which had read something before that did not."""
    count, seen = 0, False
    for call in calls:
        if call.kind == "read":
            seen = seen or bool(gone_items & call.shows)
        elif id(call) not in gone:
            count += seen
    return count


def nonlinear_keys(run: RunRecord) -> int | None:
    """
    Keys whose calls no single copy could have answered.

    None where several nodes take writes, or the search is given up.
    """
    if not run.single_writer:
        return None
    calls = []
    for record in run.records:
        if record.outcome == "refused" or (record.kind == "read" and record.outcome != "ok"):
            continue
        items = record.shows if record.kind == "read" else record.writes
        payload = None if not items else encode(sorted(items))
        answered = record.answered_ms if record.outcome == "ok" else None
        client = f"client {record.client}"
        place = ("", record.key)
        calls.append(Call(client, place, record.kind == "write", payload, record.called_ms, answered, record.node))
    try:
        return len(linearizability(calls))
    except Undecided:
        return None
