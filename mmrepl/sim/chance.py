"""
Dice that grow from one seed, by name.

Each consumer of randomness has dice of its own, derived from the seed and the consumer's name: so a new consumer does
not change what the others throw, and no two share a stream by accident. Never from ``hash``, which differs from
process to process (law L12).
"""

from __future__ import annotations

from hashlib import blake2b
from random import Random


def dice(seed: int, *names: str) -> Random:
    """
    The dice of that name under *seed*; the same ones in every process.

    >>> dice(7, "network").randrange(1000) == dice(7, "network").randrange(1000)
    True
    """
    path = "/".join((str(seed), *names))
    return Random(int.from_bytes(blake2b(path.encode(), digest_size=8).digest()))  # noqa: S311 - to be repeatable
