"""The request parser: beside a dumb one, cut everywhere, and fed what nobody should send."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmrepl.runtime.resp import protocol
from mmrepl.runtime.resp.protocol import Bounds, Command, RequestParser, split_words


def as_array(words: Command) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def fed(parser: RequestParser, *chunks: bytes) -> list[Command]:
    commands = []
    for chunk in chunks:
        commands += parser.feed(chunk)
        parser.check()
    return commands


def dumb(data: bytes) -> list[Command]:
    """Obviously right, for arrays of bulk strings that are complete."""
    commands = []
    while data:
        head, _, data = data.partition(b"\r\n")
        words = []
        for _ in range(int(head[1:])):
            head, _, data = data.partition(b"\r\n")
            length = int(head[1:])
            words.append(data[:length])
            data = data[length + 2 :]
        commands.append(words)
    return commands


# Words that look like the protocol itself, and long ones: what a parser that splits at CRLF gets wrong.
tricky = st.sampled_from(
    [
        b"",
        b"\r\n",
        b"\r",
        b"\n",
        b"$3\r\nGET\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"*2",
        b"$0",
        b"x" * 1023,
        b"x" * 1024,
        b"y" * 5000,
    ]
)
words = st.one_of(tricky, st.binary(max_size=12), st.sampled_from([b"GET", b"SET", b"k"]))
pipelines = st.lists(st.lists(words, min_size=1, max_size=12), max_size=8)


@given(pipelines, st.lists(st.integers(0, 400), max_size=8))
@example([[b"GET", b"a\r\n$1\r\nb"], [b"PING"]], [])
def test_any_pipeline_cut_anywhere_gives_the_commands_that_were_sent(pipeline, steps):
    """Whatever the words hold and wherever the bytes are cut, the commands come out as they went in."""
    data = b"".join(map(as_array, pipeline))
    assert dumb(data) == pipeline
    chunks, at = [], 0
    for step in steps:
        chunks.append(data[at : at + step])
        at += step
    parser = RequestParser()
    assert fed(parser, *chunks, data[at:]) == pipeline
    assert parser.error is None
    assert not parser.partial


MIXED = (
    as_array([b"SET", b"k", b"v\r\n$1"])
    + b"PING 'a b' \"\\x00\\n\"\r\n"
    + as_array([b"GET", b"key"])
    + b"*0\r\n*-1\r\n\r\n"
    + as_array([b"SET", b"k", b"z" * 1500])
    + as_array([b"MSET", b"a", b"1", b"b", b"2"])
    + as_array([b"x"] * 11)
    + b"QUIT\n"
)
MIXED_COMMANDS = [
    [b"SET", b"k", b"v\r\n$1"],
    [b"PING", b"a b", b"\x00\n"],
    [b"GET", b"key"],
    [b"SET", b"k", b"z" * 1500],
    [b"MSET", b"a", b"1", b"b", b"2"],
    [b"x"] * 11,
    [b"QUIT"],
]


def test_every_cut_in_two():
    """A stream of all kinds of commands, cut in two at every place."""
    for cut in range(len(MIXED) + 1):
        assert fed(RequestParser(), MIXED[:cut], MIXED[cut:]) == MIXED_COMMANDS, cut


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_every_cut_in_small_pieces(size):
    """The same stream, a few bytes at a time."""
    pieces = [MIXED[at : at + size] for at in range(0, len(MIXED), size)]
    assert fed(RequestParser(), *pieces) == MIXED_COMMANDS


def test_a_planted_shortcut_is_caught(monkeypatch):
    """A parser that trusted the places of the CRLFs instead of the lengths would run commands hidden in a value."""

    def trusting(data, commands):
        pieces = data.split(b"\r\n")
        at = 0
        while at < len(pieces) - 1:
            count = int(pieces[at][1:])
            commands.append(pieces[at + 2 : at + 1 + 2 * count : 2])
            at += 1 + 2 * count
        return len(data)

    hidden = as_array([b"SET", b"k", b"v\r\n*1\r\n$8\r\nFLUSHALL"])
    assert RequestParser().feed(hidden) == [[b"SET", b"k", b"v\r\n*1\r\n$8\r\nFLUSHALL"]]
    monkeypatch.setattr(RequestParser, "_split", staticmethod(trusting))
    assert RequestParser().feed(hidden) != [[b"SET", b"k", b"v\r\n*1\r\n$8\r\nFLUSHALL"]]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"*x\r\n", "invalid multibulk length"),
        (b"*1_0\r\n", "invalid multibulk length"),
        (b"*+1\r\n", "invalid multibulk length"),
        (b"* 1\r\n", "invalid multibulk length"),
        (b"*\r\n", "invalid multibulk length"),
        (b"*1000001\r\n", "invalid multibulk length"),
        (b"*99999999999999999999\r\n", "invalid multibulk length"),
        (b"*" + b"1" * 40, "too big mbulk count string"),
        (b"*1\r\nGET\r\n", "expected '$', got 'G'"),
        (b"*1\r\n\x00", "expected '$', got byte 0x00"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$x\r\n", "invalid bulk length"),
        (b"*1\r\n$\r\n", "invalid bulk length"),
        (b"*1\r\n$16777217\r\n", "invalid bulk length"),
        (b"*1\r\n$" + b"0" * 40, "too big bulk count string"),
        (b"*1\r\n$3\r\nGETxx", "expected CRLF after a bulk string"),
        (b"*2\r\n$3\r\nGET\r\n$2\r\nabc\r\n", "expected CRLF after a bulk string"),
        (b'GET "a\r\n', "unbalanced quotes in request"),
        (b"GET 'a'b\r\n", "unbalanced quotes in request"),
        (b"x" * 70000, "too big inline request"),
        (b"POST / HTTP/1.1\r\n", "this is not a web server"),
        (b"Host: localhost\r\n", "this is not a web server"),
    ],
)
def test_malformed_input_is_remembered_after_the_commands_before_it(data, error):
    """The commands before the mistake come out, the mistake is told once, nothing after it is read."""
    before = as_array([b"GET", b"k"])
    parser = RequestParser()
    assert fed(parser, before + data) == [[b"GET", b"k"]]
    assert parser.error is not None
    assert error in parser.error
    assert fed(parser, as_array([b"FLUSHALL"])) == []
    in_pieces = RequestParser()
    pieces = fed(in_pieces, *[data[at : at + 999] for at in range(0, len(data), 999)])
    assert (pieces, in_pieces.error) == ([], parser.error)


@given(st.binary(max_size=200), st.integers(1, 50))
@example(b"*3\r\n$3\r\nSET\r\n$-2\r\n", 3)
def test_whatever_comes_nothing_is_raised_and_cuts_do_not_matter(data, step):
    """Random bytes: no exception, the same commands and the same error however they are cut."""
    whole, cut = RequestParser(), RequestParser()
    commands = fed(whole, data)
    assert fed(cut, *[data[at : at + step] for at in range(0, len(data), step)]) == commands
    assert cut.error == whole.error


@given(
    st.lists(
        st.sampled_from([b"*", b"$", b"1", b"2", b"-", b"\r\n", b"\r", b"\n", b"a", b'"', b"'", b"\\"]), max_size=40
    )
)
def test_nearly_right_bytes_do_not_matter_either(pieces):
    """The same for bytes that look like the protocol."""
    data = b"".join(pieces)
    whole, cut = RequestParser(), RequestParser()
    commands = fed(whole, data)
    assert fed(cut, *[data[at : at + 1] for at in range(len(data))]) == commands
    assert cut.error == whole.error


def test_the_bound_on_a_whole_command_counts_its_arguments():
    """Many small arguments are bounded as one large one is."""
    parser = RequestParser(Bounds(bulk_bytes=1024, request_bytes=4096, items=1000))
    assert fed(parser, as_array([b"x"] * 60)) == [[b"x"] * 60]
    assert fed(parser, as_array([b"x"] * 70)) == []
    assert parser.error == "too big a command (at most 4096 bytes)"


def test_bounds_that_would_let_the_fast_way_through_are_refused():
    """The fast way does not look at the bounds, so they may not be smaller than what it accepts."""
    with pytest.raises(ValueError, match="too small"):
        Bounds(bulk_bytes=10)


def test_a_long_value_is_not_looked_at_until_it_is_here(monkeypatch):
    """A value that comes in many pieces costs one look, not one a piece."""
    looks = 0
    walk = RequestParser._walk

    def counted(self, *args, **kwargs):
        nonlocal looks
        looks += 1
        return walk(self, *args, **kwargs)

    monkeypatch.setattr(RequestParser, "_walk", counted)
    value = bytes(range(256)) * 4096
    data = as_array([b"SET", b"k", value])
    parser = RequestParser()
    assert fed(parser, *[data[at : at + 1000] for at in range(0, len(data), 1000)]) == [[b"SET", b"k", value]]
    assert looks <= 4


def test_many_arguments_in_many_pieces_cost_their_number():
    """A command of 100,000 arguments, 50 bytes at a time, is read once and not again from its start."""
    command = [b"DEL"] + [b"key"] * 100_000
    data = as_array(command)
    parser = RequestParser()
    start = time.process_time()
    assert fed(parser, *[data[at : at + 50] for at in range(0, len(data), 50)]) == [command]
    assert time.process_time() - start < 5  # reading it again each time would take minutes


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"", []),
        (b"   ", []),
        (b"GET  k\t", [b"GET", b"k"]),
        (b'SET k ""', [b"SET", b"k", b""]),
        (b"SET k ''", [b"SET", b"k", b""]),
        (rb'"a\"b" "\\" "\q"', [b'a"b', b"\\", b"q"]),
        (rb'"\x41\xfF\xzz"', [b"A\xffxzz"]),
        (rb"'\n\'' x", [b"\\n'", b"x"]),
        (b'a"b"', [b"ab"]),
        (b'"a"b', None),
        (b'"a', None),
        (b"'a\\'", None),
    ],
)
def test_words_of_a_line(line, expected):
    """Quotes and escapes as redis-cli users know them."""
    assert split_words(line) == expected


@given(st.lists(st.binary(max_size=10), max_size=5))
def test_quoted_words_come_back(parts):
    """Any bytes can be typed, in double quotes with escapes."""
    quoted = b" ".join(b'"' + b"".join(b"\\x%02x" % byte for byte in part) + b'"' for part in parts)
    assert split_words(quoted) == parts


def test_the_fast_way_takes_what_clients_send():
    """A pipeline of GETs and SETs does not need the slow way at all."""
    data = b"".join(as_array([b"SET", b"key:%d" % n, b"x" * n]) + as_array([b"GET", b"key:%d" % n]) for n in range(100))
    commands: list[Command] = []
    assert protocol.RequestParser._split(data, commands) == len(data)
    assert commands == dumb(data)
