"""
A batch: consecutive operations as columns of bytes, the one encoding for wire and disk.

Origins and tables are named once; keys, stamps and payloads follow as columns in log order; stamps as differences;
payload bytes untouched (law L6). An operation whose context is nothing but its own origin's past, by far the usual
case, costs no context. A *void* stands for an operation that was overwritten by a later one **of the same batch**:
it has a dot and nothing else. Because a batch is applied whole or not at all, nobody can observe that it is missing.

A *husk* is a void with key and context: it is there for what its context covers, and nothing lives under its dot. In
place of its payload stands the one byte that begins no value. (When that is needed: `mmrepl.log.columns`.)

The encoding is MessagePack, one typed call each way: about 0.1 microseconds an operation to encode, 0.3 to decode.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, groupby, islice, repeat
from operator import sub
from typing import NamedTuple, TypeAlias

import msgspec

from mmrepl.causality.dot import COUNTER_MAX
from mmrepl.errors import FrameError
from mmrepl.log.columns import VOID
from mmrepl.types import DEFAULT_LIMITS, Limits, NodeId


class Run(NamedTuple):
    """Consecutive operations of one origin. A void run has no entries in the columns."""

    origin: int  # reference into Batch.origins
    first: int  # counter of the first operation
    size: int
    void: bool


Piece: TypeAlias = tuple[int, int, int, int, int, int]
"""
Consecutive operations of one origin on one table: reference to the origin, counter of the first operation, number of
them, reference to the table (-1 for voids), and the range of their entries in the columns.
"""


class Batch(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Columns of operations in log order. `check` after decoding what somebody else made."""

    origins: list[tuple[str, int]]  # (name, incarnation)
    tables: list[str]
    runs: list[int]  # flat triples: origin reference, first counter, count (negative: that many voids)
    table_runs: list[int]  # flat pairs: table reference, count; empty when all are of tables[0]
    keys: list[str]
    stamps: list[int]  # the first, then differences
    payloads: list[bytes | None]  # None is a tombstone
    contexts: list[list[int]]  # [index into the columns, origin reference, counter, origin reference, counter, ...]

    def __len__(self) -> int:
        """Number of operations that are present (voids not counted)."""
        return len(self.keys)

    @property
    def dot_count(self) -> int:
        """Number of operations, voids included."""
        return sum(map(abs, self.runs[2::3]))

    def iter_runs(self) -> Iterator[Run]:
        """The runs, in log order."""
        flat = iter(self.runs)
        for origin, first, count in zip(flat, flat, flat, strict=True):
            yield Run(origin, first, abs(count), count < 0)

    def iter_tables(self) -> Iterator[tuple[int, int]]:
        """(table reference, count) over the columns, in order."""
        if not self.table_runs:
            yield 0, len(self.keys)
            return
        flat = iter(self.table_runs)
        yield from zip(flat, flat, strict=True)

    def pieces(self) -> Iterable[Piece]:
        """The runs, divided where the table changes, in log order. Voids have no entries in the columns."""
        if len(self.runs) == 3 and not self.table_runs and self.runs[2] > 0:
            origin, first, size = self.runs
            return ((origin, first, size, 0, 0, size),)
        return self._pieces()

    def _pieces(self) -> Iterator[Piece]:
        tables = self.iter_tables()
        left = index = table = 0
        for origin, first, size, void in self.iter_runs():
            if void:
                yield origin, first, size, -1, index, index
                continue
            done = 0
            while done < size:
                if not left:
                    table, left = next(tables)
                take = min(left, size - done)
                yield origin, first + done, take, table, index, index + take
                done, index, left = done + take, index + take, left - take

    def absolute_stamps(self) -> list[int]:
        """The stamps themselves."""
        return list(accumulate(self.stamps)) if len(self.stamps) > 1 else self.stamps

    def stamp_bounds(self) -> tuple[int, int]:
        """The least and the greatest stamp. There must be one."""
        stamps = self.stamps
        if len(stamps) == 1:
            return stamps[0], stamps[0]
        if min(stamps) >= 0:  # they never fall, so they begin with the least and end with the greatest
            return stamps[0], sum(stamps)
        absolute = self.absolute_stamps()
        return min(absolute), max(absolute)

    def node_ids(self) -> list[NodeId]:
        """The origins, as node ids."""
        return [NodeId(name, incarnation) for name, incarnation in self.origins]

    def check(self, limits: Limits = DEFAULT_LIMITS) -> None:
        """
        Refuse a batch whose columns do not fit together or pass a limit.

        Raises:
            FrameError: what is wrong. Cost: proportional to the batch, at C speed.
        """
        if self._is_one(limits):
            if self.contexts:
                self._check_contexts(limits)
            return
        count = len(self.keys)
        if not len(self.stamps) == len(self.payloads) == count:
            raise FrameError(f"columns of {count} keys, {len(self.stamps)} stamps, {len(self.payloads)} payloads")
        if len(self.runs) % 3 or len(self.table_runs) % 2:
            raise FrameError("runs are cut off")
        if len(self.origins) > limits.vector_entries or len(self.tables) > limits.tables:
            raise FrameError(f"{len(self.origins)} origins, {len(self.tables)} tables: more than allowed")
        if _repeats(self.origins) or _repeats(self.tables):
            raise FrameError("an origin or a table is named twice")
        _check_names(self.origins, self.tables, limits)
        present = dots = 0
        flat = iter(self.runs)
        for origin, first, size in zip(flat, flat, flat, strict=True):
            run_count = abs(size)
            if not 0 <= origin < len(self.origins) or first < 1 or run_count < 1 or first + run_count > COUNTER_MAX:
                raise FrameError(f"a run of origin {origin}, first {first}, count {run_count}")
            present += max(size, 0)
            dots += run_count
        if present != count:
            raise FrameError(f"runs speak of {present} operations, columns of {count}")
        if dots > limits.frame_operations:  # a void costs its sender nothing, and its receiver memory
            raise FrameError(f"{dots} operations; limits.frame_operations allows {limits.frame_operations}")
        if self.table_runs:
            refs, counts = self.table_runs[0::2], self.table_runs[1::2]
            if any(not 0 <= ref < len(self.tables) for ref in refs) or any(n < 1 for n in counts):
                raise FrameError("a reference to a table that was not named")
            if sum(counts) != count:
                raise FrameError("table runs do not cover the operations")
        elif count and not self.tables:
            raise FrameError("operations on no table")
        if count:
            self._check_columns(limits)
        if self.contexts:
            self._check_contexts(limits)

    def _is_one(self, limits: Limits) -> bool:
        """Whether this is one operation, in order, and small, its context aside: most frames of a live stream are."""
        if self.table_runs or len(self.runs) != 3:
            return False
        if not len(self.tables) == len(self.keys) == len(self.stamps) == len(self.payloads) == 1:
            return False
        if not 1 <= len(self.origins) <= limits.vector_entries or _repeats(self.origins):
            return False
        for name, incarnation in self.origins:
            # of characters; each is four bytes at most
            if not 0 < len(name) <= limits.key_bytes // 4 or not 0 <= incarnation < 1 << 63:
                return False
        (ref, first, size), key, payload = self.runs, self.keys[0], self.payloads[0]
        return (
            ref == 0
            and size == 1
            and 1 <= first < COUNTER_MAX
            and len(self.tables[0]) <= limits.key_bytes // 4
            and 0 < len(key) <= limits.key_bytes // 4
            and 0 <= self.stamps[0] < 1 << 63
            and (payload is None or (0 < len(payload) <= limits.value_bytes and payload != VOID))
        )

    def _check_columns(self, limits: Limits) -> None:
        longest = max(map(len, self.keys))
        if "" in self.keys:
            raise FrameError("a key of no characters")
        if longest > limits.key_bytes // 4 and any(len(key.encode()) > limits.key_bytes for key in self.keys):
            raise FrameError(f"a key is longer than {limits.key_bytes} bytes")
        if max(map(len, filter(None, self.payloads)), default=0) > limits.value_bytes:
            raise FrameError(f"a value is larger than {limits.value_bytes} bytes")
        if b"" in self.payloads:
            raise FrameError("a value of no bytes")
        if VOID in self.payloads:
            reasons = {entry[0] for entry in self.contexts if entry}
            if any(payload == VOID and index not in reasons for index, payload in enumerate(self.payloads)):
                raise FrameError("a husk without a context")
        oldest, newest = self.stamp_bounds()
        if oldest < 0 or newest >= 1 << 63:
            raise FrameError("a timestamp out of range")

    def _check_contexts(self, limits: Limits) -> None:
        """Contexts stand in the order of their operations, name an origin once, and do not cover the write itself."""
        starts: list[int] = []  # of each run that is present: index of its first operation, and which that is
        origins: list[int] = []
        firsts: list[int] = []
        index = 0
        flat = iter(self.runs)
        for origin, first, size in zip(flat, flat, flat, strict=True):
            if size > 0:
                starts.append(index)
                origins.append(origin)
                firsts.append(first)
                index += size
        last = -1
        for entry in self.contexts:
            if len(entry) % 2 != 1 or not last < entry[0] < len(self.keys) or len(entry) // 2 > limits.vector_entries:
                raise FrameError("a context that belongs to no operation")
            last = entry[0]
            refs, counters = entry[1::2], entry[2::2]
            if not refs:
                continue
            if min(refs) < 0 or max(refs) >= len(self.origins) or len(set(refs)) != len(refs):
                raise FrameError("a context that names no origin, or one twice")
            if min(counters) < 1 or max(counters) > COUNTER_MAX:
                raise FrameError("a context with a counter out of range")
            run = bisect_right(starts, last) - 1
            if origins[run] in refs:
                counter = counters[refs.index(origins[run])]
                if counter >= firsts[run] + last - starts[run]:
                    raise FrameError("a context that covers the write itself")


def _repeats(names: Sequence[object]) -> bool:
    return len(names) > 1 and len(set(names)) != len(names)


def _check_names(origins: list[tuple[str, int]], tables: list[str], limits: Limits) -> None:
    for name, incarnation in origins:
        if not name or _is_longer(name, limits.key_bytes) or not 0 <= incarnation < 1 << 63:
            raise FrameError(f"an origin of {len(name)} characters, incarnation {incarnation}")
    for table in tables:
        if _is_longer(table, limits.key_bytes):
            raise FrameError(f"a table name of {len(table)} characters")


def _is_longer(name: str, most_bytes: int) -> bool:
    return len(name) > most_bytes // 4 and len(name.encode()) > most_bytes


def differences(stamps: list[int]) -> list[int]:
    """
    The first, then each less its predecessor; `itertools.accumulate` is the inverse.

    >>> differences([10, 11, 15])
    [10, 1, 4]
    """
    return stamps[:1] + list(map(sub, islice(stamps, 1, None), stamps))


def run_lengths(refs: list[int]) -> list[int]:
    """
    Flat pairs (reference, count); empty when there is one reference and it is 0.

    >>> run_lengths([0, 0, 2]), run_lengths([0, 0])
    ([0, 2, 2, 1], [])
    """
    if not any(refs):
        return []
    return list(chain.from_iterable((ref, len(list(group))) for ref, group in groupby(refs)))


def expand(pairs: Iterator[tuple[int, int]]) -> Iterator[int]:
    """The inverse of run lengths: each reference, count times."""
    return chain.from_iterable(repeat(ref, count) for ref, count in pairs)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Batch)


def encode_batch(batch: Batch) -> bytes:
    """The bytes of a batch."""
    return _encoder.encode(batch)


def decode_batch(data: bytes | memoryview, limits: Limits = DEFAULT_LIMITS) -> Batch:
    """
    The batch of these bytes, checked.

    Raises:
        FrameError: bytes that are no batch, or pass a limit.
    """
    try:
        batch = _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise FrameError(f"no batch of operations: {error}") from error
    batch.check(limits)
    return batch
