"""
How a write-ahead log ends: cleanly, in a transaction that was never finished, or in pieces.

SQLite reads its log up to the last whole transaction and forgets the rest without a word. That is right for a write
that was cut short, and it is how a single flipped bit in the log would silently take every acknowledged commit behind
it. The two can be told apart by what lies *behind* the place where SQLite stopped: each frame carries the salts of
its generation and a checksum that continues the one before it. Frames of an unfinished transaction continue it and
end nothing; a frame of this generation that does not continue it was either torn or has rotted, and if it was a
commit we cannot say that it was never acknowledged.

The format is SQLite's, described at sqlite.org/fileformat2.html ("The Write-Ahead Log"). Read as a plain file: SQLite
keeps its locks on the database, so opening the log drops none.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import struct
from pathlib import Path
from typing import BinaryIO, Final

HEADER: Final = struct.Struct(">8I")  # magic, version, page size, sequence, salt 1, salt 2, checksum 1, checksum 2
FRAME: Final = struct.Struct(">6I")  # page number, pages after commit or 0, salt 1, salt 2, checksum 1, checksum 2
MAGIC_LITTLE: Final = 0x377F0682
MAGIC_BIG: Final = 0x377F0683

UNFINISHED_FRAMES_MAX: Final = 1024
"""So many frames of an unfinished transaction are followed (some 4 MB); of a longer one we do not know."""


def torn(path: str, whole_count: int) -> str | None:
    """
    What is wrong behind the first *whole_count* frames (those that SQLite accepts); None when nothing is.

    Cost: reads 24 bytes of each frame of the log, and the unfinished ones in full.
    """
    try:
        with Path(path).open("rb") as wal:
            return _torn(wal, whole_count)
    except FileNotFoundError:
        return None


def fill(path: str, length: int) -> None:
    """
    Lengthen a log to *length* bytes with zeros, which no reader takes for frames. Only a help: errors are left alone.

    Writing into a file is cheaper to sync than appending to it, because its length does not change. (Space that is
    only reserved would not do: the first write into that changes the file's extents.)
    """
    with contextlib.suppress(OSError), Path(path).open("r+b") as wal:
        missing = length - wal.seek(0, 2)
        if missing > 0:
            wal.write(bytes(missing))
            wal.flush()
            os.fsync(wal.fileno())


def _torn(wal: BinaryIO, whole_count: int) -> str | None:
    head = wal.read(HEADER.size)
    if not head:
        return None
    if len(head) < HEADER.size:
        return "its write-ahead log was cut to less than its header"
    magic, _version, page_bytes, _sequence, salt_1, salt_2, *sums = HEADER.unpack(head)
    order = {MAGIC_LITTLE: "<", MAGIC_BIG: ">"}.get(magic)
    if order is None or _checksum(order, head[:24], (0, 0)) != tuple(sums):
        return "the header of its write-ahead log is damaged: all commits in there are lost"
    stride = FRAME.size + page_bytes
    running = _running_checksum(wal, whole_count, stride, (sums[0], sums[1]))
    unbroken = True
    for number in itertools.count(whole_count):
        wal.seek(HEADER.size + number * stride)
        frame = wal.read(FRAME.size)
        if len(frame) < FRAME.size:
            break
        _page, pages_count, frame_salt_1, frame_salt_2, *frame_sums = FRAME.unpack(frame)
        # One salt is enough to know the generation by, so that a flipped bit in the other does not hide it.
        if frame_salt_1 != salt_1 and frame_salt_2 != salt_2:
            unbroken = False  # left over from an older generation, as are all behind it if all is well
            continue
        body = wal.read(page_bytes)
        running = _checksum(order, frame[:8] + body, running)
        unfinished = (
            unbroken
            and not pages_count
            and running == tuple(frame_sums)
            and (frame_salt_1, frame_salt_2) == (salt_1, salt_2)
            and number - whole_count < UNFINISHED_FRAMES_MAX
        )
        if not unfinished:
            return f"its write-ahead log is torn or damaged near frame {number + 1}: commits from there on are lost"
    return None


def _running_checksum(wal: BinaryIO, count: int, stride: int, initial: tuple[int, int]) -> tuple[int, int]:
    """The checksum that the next frame continues: that of the frame before, or of the header."""
    if not count:
        return initial
    wal.seek(HEADER.size + (count - 1) * stride)
    frame = FRAME.unpack(wal.read(FRAME.size))
    return frame[4], frame[5]


def _checksum(order: str, data: bytes, start: tuple[int, int]) -> tuple[int, int]:
    """SQLite's checksum of *data*, a multiple of 8 bytes, continued from *start*."""
    first, second = start
    if len(data) % 8:
        return -1, -1
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for left, right in zip(words[::2], words[1::2], strict=True):
        first = (first + left + second) & 0xFFFFFFFF
        second = (second + right + first) & 0xFFFFFFFF
    return first, second
