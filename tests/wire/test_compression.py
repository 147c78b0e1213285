"""Compression: when it pays, bodies come back, and no bomb goes off."""

from __future__ import annotations

import contextlib
import random
import sys
import zlib

import pytest
import zstandard

from mmrepl.errors import FrameError, UsageError
from mmrepl.types import Limits
from mmrepl.wire.compression import WORTH_BYTES, available_compressions, compress, decompress
from mmrepl.wire.framing import HEADER_BYTES, FrameReader, decode_frames, encode_frame

BOTH = pytest.mark.parametrize("name", ["zstd", "zlib"])
RECORDS = b'{"name": "ada", "likes": ["tea"], "n": 12345}' * 100


@BOTH
def test_what_shrinks_is_compressed_and_comes_back(name):
    """A body of records travels at a fraction of its size and arrives as it was."""
    frame = encode_frame(3, RECORDS, compression=name)
    assert len(frame) < len(RECORDS) / 4
    assert decode_frames(frame) == [(3, RECORDS)]


@BOTH
@pytest.mark.parametrize("body", [b"", b"a" * (WORTH_BYTES - 1), random.Random(1).randbytes(4000)])
def test_what_does_not_pay_is_left_alone(name, body):
    """Small bodies, and those that would grow, travel plain: the frame is the one without compression."""
    assert compress(body, name) is None
    assert encode_frame(3, body, compression=name) == encode_frame(3, body)


def test_zstd_is_preferred_and_zlib_always_there(monkeypatch):
    """Without the optional package, zlib is what is offered; a zstd frame is then refused by name, and not made."""
    assert available_compressions() == ("zstd", "zlib")
    body = compress(RECORDS, "zstd")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    assert available_compressions() == ("zlib",)
    with pytest.raises(FrameError, match=r"install mmrepl\[zstd\]"):
        decompress(body, "zstd", 10_000)
    with pytest.raises(UsageError, match=r"install mmrepl\[zstd\]"):
        compress(RECORDS, "zstd")


def test_an_unknown_compression_is_the_callers_error():
    """Names are checked, also for bodies too small to compress."""
    with pytest.raises(UsageError, match="zstd, zlib, not 'lzma'"):
        encode_frame(1, b"", compression="lzma")


# -- hostile bodies


@BOTH
def test_a_bomb_is_refused(name):
    """A few kilobytes that would inflate to 64 MiB end at the bound, unallocated beyond it."""
    bomb = compress(bytes(64 * 2**20), name)
    assert len(bomb) < 300_000
    with pytest.raises(FrameError, match="inflated"):
        decompress(bomb, name, 2**20)


@BOTH
def test_the_bound_is_exact(name):
    """As many bytes as frame_bytes pass, one more does not."""
    body = compress(bytes(2048), name)
    assert decompress(body, name, 2048) == bytes(2048)
    with pytest.raises(FrameError, match="2047"):
        decompress(body, name, 2047)


@BOTH
def test_damage_is_refused(name):
    """Cut anywhere, with something after it, or not compressed at all: a FrameError, never another exception."""
    body = compress(RECORDS, name)
    for cut in range(len(body)):
        with pytest.raises(FrameError):
            decompress(body[:cut], name, 10_000)
    for wrong in (body + b"x", body + body, b"nonsense", RECORDS):
        with pytest.raises(FrameError):
            decompress(wrong, name, 10_000)


@BOTH
def test_random_mutations_never_escape(name):
    """Ten thousand mutated bodies give bytes within the bound or a FrameError."""
    rng, body = random.Random(2), compress(RECORDS, name)
    for _ in range(10_000):
        mutated = bytearray(body)
        for _ in range(rng.randrange(1, 4)):
            mutated[rng.randrange(len(mutated))] = rng.randrange(256)
        with contextlib.suppress(FrameError):
            assert len(decompress(bytes(mutated), name, 10_000)) <= 10_000


def test_a_zstd_body_must_state_its_size():
    """Without a stated size the room it needs is unknown: refused, although it would fit."""
    body = zstandard.ZstdCompressor(write_content_size=False).compress(RECORDS)
    with pytest.raises(FrameError, match="unstated size"):
        decompress(body, "zstd", 10_000)


def test_a_zstd_body_that_lies_about_its_size_is_refused():
    """A body that states less than it holds does not get more room than it stated."""
    body = bytearray(zstandard.ZstdCompressor(level=1).compress(bytes(200) + RECORDS))
    stated = len(RECORDS) + 200
    at = bytes(body).index((stated - 256).to_bytes(2, "little"))  # the two-byte field counts from 256
    for lie in (256, 300, stated - 1, stated + 1):
        body[at : at + 2] = (lie - 256).to_bytes(2, "little")
        with pytest.raises(FrameError):
            decompress(bytes(body), "zstd", 10_000)


@BOTH
def test_a_bomb_in_a_frame_costs_its_own_stream(name):
    """The reader refuses the frame by its inflated size and is dead afterwards."""
    limits = Limits(frame_bytes=8192)
    frame = encode_frame(1, bytes(2**20), compression=name)
    assert len(frame) < HEADER_BYTES + 8192
    reader = FrameReader(limits)
    with pytest.raises(FrameError, match="inflated"):
        reader.feed(frame)
    with pytest.raises(FrameError, match="inflated"):
        reader.feed(encode_frame(1, b"good"))


def test_an_unbounded_inflater_is_caught(monkeypatch):
    """Planted: an inflater that ignores its bound would be noticed by the test of bombs."""
    real = zlib.decompressobj

    class Unbounded:
        def __init__(self):
            self._inner = real()

        def decompress(self, body, _bound):
            plain = self._inner.decompress(body)
            self.eof, self.unused_data = self._inner.eof, self._inner.unused_data
            self.allocated = len(plain)
            assert self.allocated <= 2**20 + 1, "bomb went off"
            return plain

    monkeypatch.setattr(zlib, "decompressobj", Unbounded)
    with pytest.raises(AssertionError, match="bomb went off"):
        test_a_bomb_is_refused("zlib")
