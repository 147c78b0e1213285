"""
Disks that lose, tear, rot, fill up and fail.

A `SimDisk` is a file of records, one a commit, each with its length, its serial number, how much was synced when it was
written, its level and a checksum. What was synced stays; of what was not, a loss of power keeps, loses or tears each
record, sometimes in their order and sometimes not. Opening reads the file as a log is read: an end that is torn is cut
off *and said aloud* (a doubt, by law L2, for it could have been more than it looks), and so is what stands behind a
hole. Damage to what was synced before a later record was written is `StoreCorrupt`, and so is a record that is missing.
What was read is synced first: it will be believed to be durable.

A write that is under way when the process dies is there afterwards or it is not. The death of the process alone loses
nothing that was written.
"""

from __future__ import annotations

import struct
from random import Random
from zlib import crc32

import msgspec

from mmrepl.errors import ClosedError, DiskFull, StoreCorrupt, StoreFailed, UsageError
from mmrepl.ports import Commit, Durability
from mmrepl.storage.loaded import LoadedStore
from mmrepl.storage.memory import Contents

_HEAD = struct.Struct(">IIQQB")  # checksum of all that follows, length of the body, serial number, ground, level
HEAD_BYTES = _HEAD.size
SERIALS_AHEAD = 1_000_000
"""Serial numbers further ahead are none: what looks like a head there is something else."""


class _Body(msgspec.Struct, array_like=True, frozen=True):
    batches: dict[int, bytes]
    drop: tuple[int, int] | None
    segments: dict[int, bytes | None]
    meta: dict[str, bytes | None]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Body)


class SimDisk:
    """What a simulated node remembers on. Outlives the node; a `SimStorage` is its door."""

    def __init__(self) -> None:
        self._records: list[bytes] = []
        self._synced = 0  # records before this index survive a loss of power
        self._finished = 0  # records before this index belong to commits that returned
        self._serial = 0
        self._ground = 0  # records with lower serial numbers are synced, as far as the machine was told
        self._doubt: str | None = None
        self._doubted = 0  # the doubt stands until there are more records than this
        self.full = False  # the next commits are refused whole
        self.failing = False  # the next commit fails, and the fate of what it held is unknown
        self.lying = False  # the next commit is claimed to be written, and is not
        self.holder: SimStorage | None = None
        self.torn_count = 0  # ends that were cut off on opening
        self.hole_count = 0  # losses of power that kept a later record and not an earlier one

    @property
    def size_bytes(self) -> int:
        """Length of the file."""
        return sum(map(len, self._records))

    @property
    def is_blank(self) -> bool:
        """Whether nothing is on it."""
        return not self._records

    # -- what happens to it

    def lose_power(self, rng: Random) -> int:
        """The machine dies. Of what was not synced any number is kept, and the next record may be torn. Lost count."""
        self.holder = None
        unsynced = len(self._records) - self._synced
        if not unsynced:
            return 0
        kept = self._synced + rng.randrange(unsynced + 1)
        weak = any(record[HEAD_BYTES - 1] == Durability.NONE for record in self._records[self._synced :])
        lost = self._records[kept:]
        del self._records[kept:]
        if weak:
            # Doubt even when all were kept: nobody could tell from the disk.
            self._doubted = kept
            self._doubt = f"the machine lost power with {unsynced} commits not yet synced"
        if lost and rng.random() < 0.7:
            self._records.append(_torn(lost[0], rng))
            if len(lost) > 1 and rng.random() < 0.7:
                # Sectors reach the disk in any order: what was written later is there, behind a hole.
                self._records[-1] = self._records[-1].ljust(len(lost[0]), bytes(1))
                self._records += [record if rng.random() < 0.7 else bytes(len(record)) for record in lost[1:]]
                self.hole_count += any(map(any, self._records[kept + 1 :]))
        self._synced = len(self._records)
        return len(lost)

    def rot(self, rng: Random) -> str:
        """One bit flips, anywhere; returns where."""
        index = rng.randrange(len(self._records))
        record = bytearray(self._records[index])
        place = rng.randrange(len(record))
        record[place] ^= 1 << rng.randrange(8)
        self._records[index] = bytes(record)
        return f"bit of byte {place} of record {index} of {len(self._records)}"

    def unwrite(self) -> None:
        """The process died while it wrote its last record, which is not there."""
        if len(self._records) > self._synced:
            self._records.pop()
            self._serial -= 1

    def wipe(self) -> None:
        """All is gone."""
        self._records, self._serial, self._ground, self._doubt = [], 0, 0, None
        self._synced = self._finished = 0
        self.full = self.failing = self.lying = False
        self.holder = None

    def copy(self) -> SimDisk:
        """A backup: of all commits that returned, as a backup has it that knows what it copies."""
        twin = SimDisk()
        twin._records = self._records[: self._finished]
        twin._synced = twin._finished = twin._serial = twin._ground = len(twin._records)
        twin._doubt, twin._doubted = self._doubt, self._doubted
        return twin

    def restore(self, backup: SimDisk, doubt: str | None) -> None:
        """Put the bytes of an earlier copy in place of these. *doubt*: what the storage would notice of it."""
        self._records = list(backup._records)
        self._synced = self._finished = len(self._records)
        self._serial, self._ground = backup._serial, backup._ground
        self._doubt, self._doubted = doubt, len(self._records)
        self.holder = None

    # -- for the storage

    def append(self, commit: Commit, level: Durability) -> None:
        """Write a record; synced when `sync` is called. Raises DiskFull, StoreFailed."""
        if self.full:
            raise DiskFull("no space left on the simulated disk")
        body = _encoder.encode((commit.batches, commit.drop_batches, commit.segments, commit.meta))  # a `_Body`
        if self.failing:
            self.failing = False
            raise StoreFailed("the simulated disk failed: an error of the medium")
        if self.lying:
            self.lying = False
            self._serial += 1
            return
        self._records.append(_record(body, self._serial, self._ground, level))
        self._serial += 1

    def sync(self) -> None:
        """What was written survives a loss of power from now on."""
        self._synced = len(self._records)
        self._ground = self._serial

    def finish(self) -> None:
        """The commit of the last record returns."""
        self._finished = len(self._records)

    def read(self) -> LoadedStore:
        """What the file holds, synced. Raises StoreCorrupt, with the place of the damage."""
        data = b"".join(self._records)
        contents = Contents()
        at = serial = 0
        torn: str | None = None
        records: list[bytes] = []
        while at < len(data):
            record = _record_at(data, at)
            if record is None:
                torn = self._end_at(data, at, serial)
                break
            number, body = _HEAD.unpack_from(record)[2], record[HEAD_BYTES:]
            if number != serial:
                raise StoreCorrupt(f"record {serial} at byte {at} is missing: record {number} stands in its place")
            decoded = _decoder.decode(body)
            contents.apply(Commit(decoded.batches, decoded.drop, decoded.segments, decoded.meta))
            records.append(record)
            at, serial = at + len(record), serial + 1
        self._records, self._serial, self._ground = records, serial, serial
        if len(records) > self._doubted:
            self._doubt = None  # a commit has settled it
        if torn is not None:
            self.torn_count += 1
            self._doubt, self._doubted = torn, len(records)
        self._synced = self._finished = len(records)
        return LoadedStore(
            contents.meta, self._doubt, lambda: iter(contents.segments.items()), lambda: iter(contents.batches.items())
        )

    def _end_at(self, data: bytes, at: int, serial: int) -> str:
        """
        What stands at byte *at* is no record: a torn end, told as a doubt; or damage, if it had been synced.

        That is so if a later record was written when this one was synced already. Others may stand behind a hole.
        """
        later = at + 1
        while later <= len(data) - HEAD_BYTES:
            _, length, number, ground, _ = _HEAD.unpack_from(data, later)
            if not serial <= number <= serial + SERIALS_AHEAD or _record_at(data, later) is None:
                later += 1
                continue
            if ground > serial:
                raise StoreCorrupt(f"record {serial} at byte {at} is damaged: record {number} follows at byte {later}")
            later += HEAD_BYTES + length
        return f"an end of {len(data) - at} bytes was torn, and cut off"


def _record(body: bytes, serial: int, ground: int, level: Durability) -> bytes:
    head = _HEAD.pack(0, len(body), serial, ground, level)[4:]
    return crc32(body, crc32(head)).to_bytes(4) + head + body


def _record_at(data: bytes, at: int) -> bytes | None:
    """The record that begins at byte *at*, if one does."""
    if len(data) - at < HEAD_BYTES:
        return None
    checksum, length, _, _, _ = _HEAD.unpack_from(data, at)
    record = data[at : at + HEAD_BYTES + length]
    if len(record) < HEAD_BYTES + length or crc32(record[4:]) != checksum:
        return None
    return record


def _torn(record: bytes, rng: Random) -> bytes:
    """A record of which only a beginning reached the disk; the rest is missing, zeros or rubbish."""
    kept = rng.randrange(len(record))
    rest = len(record) - kept
    kind = rng.randrange(3)
    if kind == 0:
        return record[:kept]
    return record[:kept] + (bytes(rest) if kind == 1 else rng.randbytes(rest))


class SimStorage:
    """The `mmrepl.ports.Storage` over a disk, for one life of a node."""

    def __init__(self, disk: SimDisk) -> None:
        self._disk = disk
        self._failed = False

    def load(self) -> LoadedStore:
        """What the disk holds. Raises StoreCorrupt."""
        self._disk.holder = self
        return self._disk.read()

    def write(self, commit: Commit, durability: Durability) -> None:
        """The first half of a commit: it is written, and not yet synced. Raises DiskFull, StoreFailed."""
        self._alive()
        try:
            self._disk.append(commit, durability)
        except StoreFailed:
            self._failed = True
            raise

    def finish(self, durability: Durability) -> None:
        """The second half: it is as durable as was asked for."""
        self._alive()
        self._disk.finish()
        if durability is not Durability.NONE:
            self._disk.sync()

    def commit(self, commit: Commit, durability: Durability) -> None:
        """Both halves."""
        self.write(commit, durability)
        self.finish(durability)

    def backup(self, target: str) -> None:
        """Copies are made of the disk itself. Raises UsageError."""
        raise UsageError(f"a simulated disk is copied by SimDisk.copy, not to {target}")

    def close(self) -> None:
        """Sync and let go. Idempotent."""
        if self._disk.holder is self:
            self._disk.sync()
            self._disk.holder = None

    def _alive(self) -> None:
        if self._failed:
            raise StoreFailed("the simulated disk has failed before: open the store again")
        if self._disk.holder is not self:
            raise ClosedError("the node of this storage is dead")
