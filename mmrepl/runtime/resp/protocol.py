"""
What clients send: the request half of the Redis protocol, cut anywhere, hostile or not.

A command comes as an array of bulk strings (``*2 $3 GET $1 k``, each part ended by CRLF) or, from people with a
terminal, as one *inline* line of words. `RequestParser` takes bytes as they arrive and gives back the commands that
are complete. It is pure, and it never raises: malformed input is remembered in ``error``, after the commands before
it, and the connection is done for. (Protocol: redis.io, "Redis serialization protocol specification".)

There are two ways through a chunk. `_split` cuts it at every CRLF in one call and accepts a command when each length
header names exactly the length of the piece behind it, which is precisely what the grammar says; a value that holds
a CRLF itself, a long value or a command that is cut simply does not match. `_walk` goes from length to length,
remembers where it stopped, and takes whatever the first way left. The first is three times as fast and good for
nearly all that clients send.

Every byte is looked at a bounded number of times, however it is cut: a command that is half here is not read again
from its start, and a long value is gathered without looking until all of it is here.
"""

from __future__ import annotations

from attrs import frozen

Command = list[bytes]
"""A command's name and its arguments."""

HEADER_BYTES_MAX = 32
"""Length of a header line, CRLF included; no number that we accept needs more."""

INLINE_BYTES_MAX = 64 * 1024
"""Length of an inline command."""

_ITEM_COST = 64  # what an argument costs us beyond its bytes, roughly; counts against request_bytes

_SHORT = 1024
_LENGTHS = [b"$%d" % length for length in range(_SHORT)]
_COUNTS = {b"*%d" % count: count for count in range(1, 10)}


@frozen
class Bounds:
    """How much a client may send. ``bulk_bytes`` is at least 1024 and ``items`` at least 16."""

    bulk_bytes: int = 16 * 1024 * 1024
    request_bytes: int = 64 * 1024 * 1024
    items: int = 1_000_000

    def __attrs_post_init__(self) -> None:
        """Hold what `RequestParser._split` relies on: whatever it accepts is within bounds."""
        if self.bulk_bytes < _SHORT or self.items < len(_COUNTS) or self.request_bytes < _SHORT:
            raise ValueError(f"bounds too small to be useful: {self}")


class RequestParser:
    r"""
    Bytes in, complete commands out.

    >>> parser = RequestParser()
    >>> parser.feed(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nPING he")
    [[b'GET', b'k']]
    >>> parser.feed(b"llo\r\n*x\r\n")
    [[b'PING', b'hello']]
    >>> parser.error
    'invalid multibulk length'
    """

    __slots__ = ("_bounds", "_bulk", "_cost", "_items", "_left", "_need", "_tail", "error")

    def __init__(self, bounds: Bounds | None = None) -> None:
        self.error: str | None = None  # once set, nothing more is read
        self._bounds = bounds or Bounds()
        self._tail = bytearray()  # bytes that are not yet part of a complete item
        self._need = 0  # nothing can be completed before the tail is this long
        self._items: Command = []  # of the command that is under way
        self._left = 0  # items that the command under way still lacks; 0: none is under way
        self._bulk = -1  # length of the item under way, when its header has been read
        self._cost = 0  # bytes of the command under way

    @property
    def partial(self) -> bool:
        """Whether a command has been begun and is not complete."""
        return bool(self._left or self._tail)

    def check(self) -> None:
        """Assert the invariants."""
        assert 0 <= self._left <= self._bounds.items
        assert self._bulk >= -1
        assert self._bulk <= self._bounds.bulk_bytes
        assert self._left or (self._bulk == -1 and not self._items)
        longest = max(INLINE_BYTES_MAX, self._bulk + 2)
        assert self.error is not None or len(self._tail) <= longest

    def feed(self, data: bytes) -> list[Command]:
        """
        The commands that *data* completes, in order. An empty array or line is no command.

        Cost: proportional to *data*.
        """
        commands: list[Command] = []
        if self.error is not None:
            return commands
        if self._tail:
            self._tail += data
            if len(self._tail) < self._need:
                return commands
            data = bytes(self._tail)
            self._tail = bytearray()
        at = self._walk(data, 0, commands, once=True) if self._left else 0
        if at < len(data) and not self._left:
            at += self._split(data[at:] if at else data, commands)
            if at < len(data):
                at = self._walk(data, at, commands, once=False)
        if at < len(data):
            self._tail += memoryview(data)[at:]
        return commands

    @staticmethod
    def _split(data: bytes, commands: list[Command]) -> int:
        r"""
        Append the short commands at the front of *data*; returns how many bytes they took.

        Do not be tempted to accept a piece without its length: a value may hold ``\r\n$3\r\n``.
        """
        pieces = data.split(b"\r\n")
        rest = len(pieces.pop())  # behind the last CRLF, so not complete
        lengths = _LENGTHS
        end = len(pieces)
        at = 0
        try:
            while at < end:
                count = pieces[at]
                if count == b"*3":
                    name, key, value = pieces[at + 2], pieces[at + 4], pieces[at + 6]
                    if (
                        lengths[len(value)] != pieces[at + 5]
                        or lengths[len(key)] != pieces[at + 3]
                        or lengths[len(name)] != pieces[at + 1]
                    ):
                        break
                    commands.append([name, key, value])
                    at += 7
                elif count == b"*2":
                    name, key = pieces[at + 2], pieces[at + 4]
                    if lengths[len(key)] != pieces[at + 3] or lengths[len(name)] != pieces[at + 1]:
                        break
                    commands.append([name, key])
                    at += 5
                else:
                    after = at + 1 + 2 * _COUNTS[count]
                    items = pieces[at + 2 : after : 2]
                    if after > end or [lengths[len(item)] for item in items] != pieces[at + 1 : after : 2]:
                        break
                    commands.append(items)
                    at = after
        except (IndexError, KeyError):
            pass  # cut, long, inline or wrong: for the other way to find out
        return len(data) if at == end and not rest else len(data) - rest - sum(map(len, pieces[at:])) - 2 * (end - at)

    def _walk(self, data: bytes, at: int, commands: list[Command], *, once: bool) -> int:
        """
        Read on from *at*; returns where it stopped, which is short of the end when something is not complete.

        With *once* it stops behind the first command.
        """
        bounds = self._bounds
        end = len(data)
        self._need = 0
        while at < end:
            if self._bulk >= 0:
                stop = at + self._bulk
                if stop + 2 > end:
                    self._need = self._bulk + 2
                    return at
                if data[stop : stop + 2] != b"\r\n":
                    return self._fail("expected CRLF after a bulk string", end)
                self._items.append(data[at:stop])
                self._left -= 1
                self._bulk = -1
                at = stop + 2
                if not self._left:
                    commands.append(self._items)
                    self._items = []
                    if once:
                        return at
            elif self._left:
                if data[at] != 0x24:  # $
                    return self._fail(f"expected '$', got {_shown(data[at])}", end)
                stop = data.find(b"\r\n", at, at + HEADER_BYTES_MAX)
                if stop < 0:
                    if end - at >= HEADER_BYTES_MAX:
                        return self._fail("too big bulk count string", end)
                    return at
                length = _number(data[at + 1 : stop])
                if length is None or not 0 <= length <= bounds.bulk_bytes:
                    return self._fail(f"invalid bulk length (at most {bounds.bulk_bytes})", end)
                self._cost += length + _ITEM_COST
                if self._cost > bounds.request_bytes:
                    return self._fail(f"too big a command (at most {bounds.request_bytes} bytes)", end)
                self._bulk = length
                at = stop + 2
            elif data[at] == 0x2A:  # *
                stop = data.find(b"\r\n", at, at + HEADER_BYTES_MAX)
                if stop < 0:
                    if end - at >= HEADER_BYTES_MAX:
                        return self._fail("too big mbulk count string", end)
                    return at
                count = _number(data[at + 1 : stop])
                if count is None or count > bounds.items:
                    return self._fail("invalid multibulk length", end)
                self._left = max(count, 0)
                self._cost = 0
                at = stop + 2
            else:
                stop = data.find(b"\n", at, at + INLINE_BYTES_MAX)
                if stop < 0:
                    if end - at >= INLINE_BYTES_MAX:
                        return self._fail("too big inline request", end)
                    return at
                words = split_words(data[at:stop].removesuffix(b"\r"))
                if words is None:
                    return self._fail("unbalanced quotes in request", end)
                at = stop + 1
                if words:
                    if words[0].upper() in {b"POST", b"HOST:"}:
                        # A web page made a browser talk to us: what follows would be commands that nobody meant.
                        return self._fail("this is not a web server", end)
                    commands.append(words)
                    if once:
                        return at
        return at

    def _fail(self, why: str, end: int) -> int:
        self.error = why
        self._items, self._left, self._bulk = [], 0, -1
        return end


def _number(digits: bytes) -> int | None:
    """A decimal integer; None for whatever else ``int`` would take: blanks, underscores, a plus."""
    return int(digits) if digits.removeprefix(b"-").isdigit() else None


def _shown(byte: int) -> str:
    return repr(chr(byte)) if 0x20 <= byte < 0x7F else f"byte 0x{byte:02x}"


# -- inline commands

_ESCAPES = {0x6E: 0x0A, 0x72: 0x0D, 0x74: 0x09, 0x62: 0x08, 0x61: 0x07}  # \n \r \t \b \a
_BLANK = b" \t\r\n\x0b\x0c"


def split_words(line: bytes) -> Command | None:
    r"""
    The words of an inline command; None when a quote is not closed, or is closed in the middle of a word.

    Double quotes know ``\n \r \t \b \a \xHH`` and escape anything else, single quotes only ``\'``.

    >>> split_words(rb'''SET k "a b\x00" 'it\'s' ''')
    [b'SET', b'k', b'a b\x00', b"it's"]
    """
    if b'"' not in line and b"'" not in line:
        return line.split()
    words: Command = []
    at, end = 0, len(line)
    while at < end:
        if line[at] in _BLANK:
            at += 1
            continue
        word = bytearray()
        while at < end and line[at] not in _BLANK:
            byte = line[at]
            if byte == 0x22 or byte == 0x27:  # noqa: PLR1714 — twice as fast as a set here, and as clear
                after = _unquote(line, at, word)
                if after is None:
                    return None
                at = after
            else:
                word.append(byte)
                at += 1
        words.append(bytes(word))
    return words


def _unquote(line: bytes, at: int, word: bytearray) -> int | None:
    """Append to *word* what the quotes that open at *at* enclose; returns the place behind them, None if unbalanced."""
    quote = line[at]
    double = quote == 0x22
    at += 1
    end = len(line)
    while at < end:
        byte = line[at]
        if byte == quote:
            after = at + 1
            return after if after == end or line[after] in _BLANK else None
        if byte == 0x5C and at + 1 < end and (double or line[at + 1] == quote):
            at += 1
            byte = line[at]
            if double and byte == 0x78 and _is_hex(line[at + 1 : at + 3]):  # \xHH
                word.append(int(line[at + 1 : at + 3], 16))
                at += 3
                continue
            if double:
                byte = _ESCAPES.get(byte, byte)
        word.append(byte)
        at += 1
    return None


def _is_hex(digits: bytes) -> bool:
    return len(digits) == 2 and all(digit in b"0123456789abcdefABCDEF" for digit in digits)
