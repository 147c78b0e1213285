"""
Is this file the latest memory of its node? What a store notes about itself, and the judgement on opening.

A node that forgot some of its dots and mints them again destroys data at every peer (law L2). So a store keeps, beside
its contents, an `Identity`: where it lives, when it was last written, whether it was closed, what could still be lost.
When it is opened, that is held against what the file system says (`Surroundings`), and whatever does not fit is a
*doubt*: a sentence for people, upon which the node draws a new incarnation. A doubt wrongly raised costs one entry in
the version vectors; a doubt wrongly withheld costs data. So we doubt when unsure.

What is noticed, and by what:

- *copied* (``cp``, restored into a new file, moved to another file system): the inode number is another. The device
  number counts only within one boot, since btrfs, overlay and network file systems hand it out anew;
- *a backup of ours*: it says so itself (`Identity.backup`), wherever it was put;
- *an older file written over it* (``cp old.db paris.db`` keeps the inode): the inode changed (``st_ctime``) well after
  the last thing that the store remembers writing. ``st_ctime`` cannot be set, so ``cp -p`` and ``tar`` do not help.
  Within one boot it may not lie well *before* it either; after a power failure it may, for fdatasync leaves it out;
- *lost its unsynced tail*: weak commits (`Identity.weak`) were made since the last sync, and the machine went down.
  A mere end of the process loses nothing, so this asks whether the boot is still the same (the kernel's ``boot_id``;
  where it cannot be read, we assume that it is not);
- *lost its write-ahead log*: not closed (`Identity.open`), yet there is no ``-wal`` file;
- *a write-ahead log that ends in pieces*: see `mmrepl.storage.wal_tail`.

SQLite, run by root, gives the log to the owner of the database whenever it opens it (``fchown``), which moves the log's
``st_ctime`` though nothing is written. So the log is looked at before it is opened as well (`unopened_wal`), and a
change that came with the opening, and has changed no byte, is not held against it. (A node killed with -9 in a
container, where most run as root, and started again after more than `MARGIN_MS`, was taken for a stranger: a member
without a vote.)

False alarms that cost an incarnation each: ``chown``, ``chmod``, ``mv`` or a new hard link more than `MARGIN_MS` after
the last write, a disk that took longer than that for its last sync, a wall clock that is set while a write is under
way, a network file system whose server has another time, a process that is killed in the few milliseconds between
opening the file of one that was killed before, and its first note in there.

HAZARD: A disk or a whole machine set back to a snapshot, a file system image cloned block by block, or a file replaced
within `MARGIN_MS` of its last write with its inode kept, look to the file exactly as if nothing had happened. Then the
node learns it from the first peer that has seen more of its counter than it has, and takes a new incarnation *then*;
dots that it minted in between, and sent to nobody who knew better, exist twice. Whoever restores machines from
snapshots deletes the file of the node, or restores it from a `backup`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from attrs import asdict, evolve, fields_dict, frozen

MARGIN_MS: Final = 5_000
"""How far the file system's idea of the last change may lie from ours: its clock is coarse, and disks are slow."""

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


@frozen(kw_only=True)
class Identity:
    """What a store notes about itself, in the same transactions as its contents."""

    device: int
    inode: int
    boot: str | None  # boot of the machine in which this was noted; None when the system does not tell
    at_ms: int  # wall clock just before this was written; commits to the tail of the log note their own
    open: bool  # in use, or was when its process died
    weak: bool = False  # commits that were not synced may have followed
    backup: bool = False  # written into the copy by `backup`
    doubt: str | None = None  # found on opening, and not yet settled by a commit
    counts: tuple[int, int, int] | None = None  # rows of batches, segments and meta, noted on closing

    def encode(self) -> bytes:
        """As JSON, for people who look."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def decode(cls, body: bytes) -> Identity:
        """The inverse of `encode`; fields that we do not know are left out. Raises ValueError for anything else."""
        found = json.loads(body)
        if not isinstance(found, dict):
            raise ValueError("not an object")  # noqa: TRY004 - a value of the wrong shape, whoever made it
        known = {name: found[name] for name in fields_dict(cls) if name in found}
        try:
            identity = cls(**known)
        except TypeError as error:
            raise ValueError(str(error)) from None
        if identity.counts is None:
            return identity
        batches_count, segments_count, meta_count = identity.counts  # a list, as JSON has it
        return evolve(identity, counts=(batches_count, segments_count, meta_count))


@frozen
class Surroundings:
    """What the system says about the file, before anything is written to it."""

    device: int
    inode: int
    boot: str | None
    changed_ms: int  # st_ctime of the database or its -wal, whichever is later
    wal_bytes: int


def wall_ms() -> int:
    """Milliseconds since 1970, as the system believes."""
    return time.time_ns() // 1_000_000


def boot_id() -> str | None:
    """Names this boot of the machine; None when it cannot be told."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return None


def unopened_wal(path: str) -> os.stat_result | None:
    """The log of the file at *path* before it is opened, for `look`; None when there is none."""
    try:
        return os.stat(path + "-wal")  # noqa: PTH116 - paths are str throughout, as SQLite has them
    except FileNotFoundError:
        return None


def look(path: str, boot: Callable[[], str | None] = boot_id, unopened: os.stat_result | None = None) -> Surroundings:
    """
    The surroundings of the file at *path*, whose log was *unopened* when it was not open yet. Opens nothing.

    That matters: closing any descriptor of a file drops all the locks that its process holds on it (POSIX).
    """
    main = os.stat(path)  # noqa: PTH116
    changed_ns, wal_bytes = main.st_ctime_ns, 0
    wal = unopened_wal(path)
    if wal is not None:
        wal_bytes = wal.st_size
        if wal_bytes:  # merely opening the database makes an empty one
            if unopened is not None and _bytes_of(unopened) == _bytes_of(wal):
                wal = unopened
            changed_ns = max(changed_ns, wal.st_ctime_ns)
    return Surroundings(main.st_dev, main.st_ino, boot(), changed_ns // 1_000_000, wal_bytes)


def _bytes_of(found: os.stat_result) -> tuple[int, int, int, int]:
    """Changes with every write, and not with the owner."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def judge(remembered: Identity, found: Surroundings, written_ms: int) -> str | None:
    """
    Why *remembered* may not be the latest, given what was *found*; None when it is.

    *written_ms*: wall clock of the last write that left a note, `Identity.at_ms` or later.
    """
    same_boot = remembered.boot is not None and remembered.boot == found.boot
    late_ms = found.changed_ms - written_ms
    if remembered.doubt is not None:
        return remembered.doubt
    if remembered.backup:
        return "it was restored from a backup"
    if remembered.inode != found.inode or (same_boot and remembered.device != found.device):
        return "the file is a copy: it lies elsewhere on disk than the one that was written"
    if remembered.open and not found.wal_bytes:
        return "it was not closed in order and has no write-ahead log (the -wal file): the latest commits may be lost"
    if remembered.weak and not same_boot:
        return "the machine went down while commits were not yet synced: the latest may be lost"
    if late_ms > MARGIN_MS or (same_boot and late_ms < -MARGIN_MS):
        return (
            f"the file was changed at {_time(found.changed_ms)}, but the last write that it knows of "
            f"was at {_time(written_ms)}: somebody else has written or moved it"
        )
    return None


def _time(ms: int) -> str:
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return f"{ms} ms"
