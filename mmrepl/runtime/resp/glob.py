"""
The patterns of KEYS and SCAN.

``*`` any text, ``?`` one character, ``[abc]``, ``[a-z]``, ``[^a]`` one of a set, a backslash takes the next character
as it is. A pattern becomes a regular expression in which each star is settled once it has found the piece behind it:
going back for a later place never helps, since the rest of the pattern could only find less. So the time is bounded
by the length of the pattern times that of the key, where trying all ways would be exponential in the stars.
"""

from __future__ import annotations

import re
from collections.abc import Callable

PATTERN_CHARACTERS_MAX = 1024


def matcher(pattern: str) -> tuple[Callable[[str], object], str]:
    """
    A test for keys, and the text with which every key that passes begins.

    >>> test, begin = matcher("user:[0-9]*:na?e")
    >>> bool(test("user:17:name")), begin
    (True, 'user:')
    """
    pieces: list[list[str]] = [[]]  # between the stars
    begin: list[str] = []
    plain = True  # nothing but literal characters so far
    at, end = 0, len(pattern)
    while at < end:
        character = pattern[at]
        at += 1
        if character == "*":
            plain = False
            pieces.append([])
            continue
        if character == "?":
            plain = False
            pieces[-1].append(".")
            continue
        if character == "[":
            plain = False
            part, at = _set(pattern, at)
            pieces[-1].append(part)
            continue
        if character == "\\" and at < end:
            character = pattern[at]
            at += 1
        if plain:
            begin.append(character)
        pieces[-1].append(re.escape(character))
    first, *middle = ["".join(piece) for piece in pieces]
    if middle:
        *middle, last = middle
        stars = "".join(f"(?>.*?{piece})" for piece in middle if piece)
        expression = f"{first}{stars}.*{last}"
    else:
        expression = first
    return re.compile(expression, re.DOTALL).fullmatch, "".join(begin)


def _set(pattern: str, at: int) -> tuple[str, int]:
    """The set that opens before *at*, as an expression, and the place behind it. One that is not closed ends there."""
    negated = pattern[at : at + 1] == "^"
    at += negated
    ranges: list[str] = []
    end = len(pattern)
    while at < end and pattern[at] != "]":
        if pattern[at] == "\\" and at + 1 < end:
            at += 1
        low = high = pattern[at]
        at += 1
        if pattern[at : at + 1] == "-" and at + 1 < end and pattern[at + 1] != "]":
            high = pattern[at + 1]
            at += 2
        low, high = min(low, high), max(low, high)
        ranges.append(f"{re.escape(low)}-{re.escape(high)}")
    if not ranges:
        return (".", at + 1) if negated else ("(?!)", at + 1)
    return f"[{'^' if negated else ''}{''.join(ranges)}]", at + 1
