"""Frames: what goes in comes out, however it is cut; what was touched is refused."""

from __future__ import annotations

import random
import struct
import time
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrepl.errors import FrameError, PeerError, UsageError
from mmrepl.types import DEFAULT_LIMITS, Limits
from mmrepl.wire import framing
from mmrepl.wire.compression import available_compressions
from mmrepl.wire.framing import HEADER_BYTES, FrameReader, decode_frames, encode_frame

SMALL = Limits(frame_bytes=1024)

frames = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=600)), max_size=8)


def header(*, magic=b"mM", version=1, flags=0, type=0, length=0, body=b""):
    """A header with the right checksum, whatever else is wrong with it."""
    checked = struct.pack(">2sBBBI", magic, version, flags, type, length)
    return checked + struct.pack(">I", zlib.crc32(body, zlib.crc32(checked)))


def twenty_frames():
    rng = random.Random(20)
    return [(rng.randrange(256), rng.randbytes(rng.choice([0, 1, 2, 12, 13, 14, 100]))) for _ in range(20)]


def drain(pieces, limits=DEFAULT_LIMITS):
    """All frames of the pieces, with the invariants checked after each."""
    reader, got = FrameReader(limits), []
    for piece in pieces:
        got += reader.feed(piece)
        reader.check()
    reader.finish()
    return got


# -- what goes in comes out


@given(frames, st.randoms(use_true_random=False), st.sampled_from([None, *available_compressions()]))
def test_any_frames_come_back_whole_and_in_order_however_they_are_cut(sent, rng, compression):
    """Type and body survive encoding, compression, joining, and any cutting into pieces, empty pieces included."""
    stream = b"".join(encode_frame(kind, body, compression=compression) for kind, body in sent)
    cuts = sorted(rng.randrange(len(stream) + 1) for _ in range(rng.randrange(12)))
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert drain(pieces) == sent
    assert decode_frames(stream) == sent


def test_twenty_frames_cut_at_every_byte():
    """A cut at any byte changes nothing, and what came before the cut is given out before it is mended."""
    sent = twenty_frames()
    stream = b"".join(encode_frame(kind, body) for kind, body in sent)
    ends, end = [], 0
    for _, body in sent:
        end += HEADER_BYTES + len(body)
        ends.append(end)
    for cut in range(len(stream) + 1):
        reader = FrameReader()
        first = reader.feed(stream[:cut])
        assert len(first) == sum(end <= cut for end in ends)
        assert reader.pending_bytes == cut - max([0, *(end for end in ends if end <= cut)])
        assert first + reader.feed(stream[cut:]) == sent
        reader.finish()


def test_a_byte_at_a_time_gives_the_same():
    """Pieces of one byte are enough."""
    sent = twenty_frames()
    stream = b"".join(encode_frame(kind, body) for kind, body in sent)
    assert drain(stream[i : i + 1] for i in range(len(stream))) == sent


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_can_be_fed_and_bodies_are_bytes(kind):
    """Bodies do not alias what was fed: a host may reuse its buffer."""
    stream = bytearray(encode_frame(7, b"body") + encode_frame(8, b"other"))
    reader = FrameReader()
    got = reader.feed(kind(stream[:20])) + reader.feed(kind(stream[20:]))
    stream[:] = bytes(len(stream))
    assert got == [(7, b"body"), (8, b"other")]
    assert all(type(body) is bytes for _, body in got)


def test_the_layout_is_what_the_documentation_says():
    """The bytes of a frame never change within protocol version 1."""
    assert encode_frame(5, b"abc").hex() == "6d4d010005" + "00000003" + "af06ad05" + "616263"
    assert encode_frame(5, b"abc") == header(type=5, length=3, body=b"abc") + b"abc"


def test_empty_data_has_no_frames():
    """Nothing is a whole number of frames: none."""
    assert decode_frames(b"") == []


# -- what is refused


def test_every_flipped_bit_is_refused_or_waits_for_more():
    """No single flipped bit gives a frame. One in the length may ask for more bytes: what follows then refuses it."""
    for kind, body in twenty_frames():
        frame = encode_frame(kind, body)
        following = encode_frame(1, bytes(300)) * 4
        for bit in range(len(frame) * 8):
            flipped = bytearray(frame)
            flipped[bit // 8] ^= 1 << bit % 8
            with pytest.raises(FrameError):
                decode_frames(bytes(flipped))
            reader = FrameReader(SMALL)
            with pytest.raises(FrameError):
                reader.feed(bytes(flipped) + following)


def test_every_truncation_is_refused_when_the_stream_ends():
    """FIN within a frame is noticed, and told with how far it got."""
    frame = encode_frame(1, b"twelve bytes")
    for cut in range(1, len(frame)):
        with pytest.raises(FrameError, match=f"cut within a frame, after {cut}"):
            decode_frames(frame[:cut])
    with pytest.raises(FrameError, match="after 20 of 25 bytes"):
        decode_frames(frame[:20])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "not a frame of mmrepl"),
        (header(version=2), "version 2; this node speaks 1"),
        (header(version=0), "version 0; this node speaks 1"),
        (header(flags=3), "unknown flags 0x03"),
        (header(flags=0x80), "unknown flags 0x80"),
        (header(length=2**31 - 1), "2147483647 bytes; frame_bytes allows 16777216"),
        (header(length=2**32 - 1), "4294967295 bytes; frame_bytes allows 16777216"),
        (header(length=16 * 2**20 + 1), "16777217 bytes; frame_bytes allows 16777216"),
        (header(length=0)[:-1] + b"\0", "checksum"),
        (encode_frame(1, b"x") + b"garbage after it", "not a frame of mmrepl"),
        (encode_frame(1, b"x") + b"short", "cut within a frame, after 5 bytes"),
    ],
)
def test_what_is_no_frame_is_refused_by_name(data, words):
    """Each refusal is a peer's error and says what was found, and what would have been right."""
    with pytest.raises(FrameError, match=words) as caught:
        decode_frames(data)
    assert isinstance(caught.value, PeerError)


def test_a_refused_stream_stays_refused():
    """After an error a reader gives the same answer for ever, to good frames too, and holds nothing."""
    reader = FrameReader()
    with pytest.raises(FrameError, match="version 9") as first:
        reader.feed(header(version=9) + b"rest")
    for again in (encode_frame(1, b"good"), b""):
        with pytest.raises(FrameError) as later:
            reader.feed(again)
        assert str(later.value) == str(first.value)
    with pytest.raises(FrameError, match="version 9"):
        reader.finish()
    assert reader.pending_bytes == 0
    reader.check()


def test_the_longest_body_passes_and_one_byte_more_does_not():
    """The bound is the length of the body; our own side is told before it sends what nobody would take."""
    assert drain([encode_frame(1, bytes(1024), limits=SMALL)], SMALL) == [(1, bytes(1024))]
    with pytest.raises(UsageError, match="frame_bytes is 1024"):
        encode_frame(1, bytes(1025), limits=SMALL)
    with pytest.raises(FrameError, match="1025 bytes; frame_bytes allows 1024"):
        decode_frames(encode_frame(1, bytes(1025)), SMALL)


def test_a_claimed_length_sets_nothing_aside():
    """Two thousand peers that each claim 16 MiB and send ten bytes cost what they sent."""
    head = header(length=16 * 2**20) + bytes(10)
    tracemalloc.start()
    try:
        readers = [FrameReader() for _ in range(2000)]
        for reader in readers:
            reader.feed(head)
        assert tracemalloc.get_traced_memory()[1] < 2_000 * 2_000
    finally:
        tracemalloc.stop()


def test_a_large_frame_in_tiny_pieces_costs_less_than_twice_its_size():
    """Memory is bounded by what has come, not by into how many pieces a peer has cut it."""
    frame = encode_frame(1, bytes(2**20))
    tracemalloc.start()
    try:
        reader = FrameReader()
        for start in range(0, len(frame), 7):
            reader.feed(frame[start : start + 7])
        assert tracemalloc.get_traced_memory()[1] < 1.5 * len(frame)
    finally:
        tracemalloc.stop()


def test_cost_is_linear_in_the_length():
    """A frame of 16 MiB in 64 KiB pieces takes about sixteen times one of 1 MiB, not 256 times."""

    def seconds(size):
        frame = encode_frame(1, bytes(size))
        pieces = [frame[start : start + 2**16] for start in range(0, len(frame), 2**16)]
        best = 1e9
        for _ in range(5):
            reader, begun = FrameReader(), time.process_time()  # whatever else the machine does
            for piece in pieces:
                reader.feed(piece)
            best = min(best, time.process_time() - begun)
        return best

    assert seconds(2**24) < 128 * seconds(2**20)


def test_garbage_is_always_refused_and_never_anything_else():
    """A hundred thousand random inputs, half of them damaged frames: a FrameError or, if untouched, the frame."""
    rng = random.Random(1)
    model = [encode_frame(1, rng.randbytes(40)), encode_frame(2, b"a" * 2000, compression="zlib")]
    begun = time.perf_counter()
    for turn in range(100_000):
        if turn % 2:
            data = rng.randbytes(rng.randrange(1, 60))
        else:
            damaged = bytearray(rng.choice(model))
            damaged[rng.randrange(len(damaged))] ^= rng.randrange(1, 256)
            data = bytes(damaged)
        with pytest.raises(FrameError):
            decode_frames(data, SMALL)
    assert (time.perf_counter() - begun) / 100_000 < 0.001


# -- planted bugs


class SkipsTheChecksum(FrameReader):
    __slots__ = ()

    def _whole(self, type, flags, body, running, checksum):
        return super()._whole(type, flags, body, running, running)


def test_a_reader_that_skips_the_checksum_is_caught(monkeypatch):
    """The flipped-bit test fails when the checksum is not looked at."""
    monkeypatch.setattr(framing, "FrameReader", SkipsTheChecksum)
    with pytest.raises(pytest.fail.Exception):
        test_every_flipped_bit_is_refused_or_waits_for_more()


def test_a_checksum_without_the_header_is_caught(monkeypatch):
    """The flipped-bit test fails when the checksum leaves the type unprotected."""
    unprotected = struct.Struct(">2sB")  # magic and version are compared anyway

    def encode(type, body, **_):
        return header(type=type, length=len(body))[:9] + struct.pack(">I", zlib.crc32(body, zlib.crc32(b"mM\1"))) + body

    monkeypatch.setattr(framing, "_CHECKED", unprotected)
    monkeypatch.setitem(globals(), "encode_frame", encode)
    with pytest.raises(pytest.fail.Exception):
        test_every_flipped_bit_is_refused_or_waits_for_more()
