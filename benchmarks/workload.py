"""
What is stored: records as an application would keep them, about 90 bytes each once encoded.

The same seed gives the same records, in every process, so that all sides of a comparison store the same thing. The
fields that people would recognise repeat from record to record, as they do in life; some 70 bits of each record do
not, so that a compressor has something to do and something that it cannot do.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import msgspec

# ruff: noqa: SIM905 — lists of words read better as words

FIRST = "Ada Alan Barbara Charles Donald Edsger Frances Grace Hedy Joan Karen Kurt Leslie Mary Niklaus Radia".split()
LAST = "Allen Babbage Clarke Dijkstra Godel Hopper Jackson Knuth Lamport Lamarr Liskov Lovelace Perlman Turing".split()
CITIES = "Accra Berlin Bogota Cairo Hanoi Kyiv Lagos Lima Lisbon London Mumbai Nairobi Oslo Paris Quito Tokyo".split()
TAGS = "tea books music chess bread rivers trains maps".split()

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder().decode


def key(number: int) -> str:
    """The key of record *number*."""
    return f"key:{number:06d}"


def records(count: int, first: int = 0, seed: int = 7) -> Iterator[tuple[str, dict[str, Any]]]:
    """Keys and values, made one at a time so that who measures memory need not keep them."""
    bits = random.Random(seed * 1_000_003 + first).getrandbits
    for number in range(first, first + count):
        dice = bits(70)
        yield (
            key(number),
            {
                "id": number,
                "name": f"{FIRST[dice & 15]} {LAST[(dice >> 4 & 1023) % 14]}",
                "city": CITIES[dice >> 14 & 15],
                "score": (dice >> 18 & 16383) / 4,
                "active": bool(dice >> 32 & 1),
                "tags": [TAGS[dice >> 33 & 7], TAGS[dice >> 36 & 7]],
                "updated": 1_700_000_000 + (dice >> 39 & 0xFFFFFF),
            },
        )


def payload_bytes(count: int, first: int = 0, seed: int = 7) -> int:
    """What *count* records are in themselves: their keys in UTF-8 and their values encoded, nothing else."""
    return sum(len(name.encode()) + len(encode(value)) for name, value in records(count, first, seed))
