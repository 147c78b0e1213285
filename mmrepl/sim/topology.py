"""
Who is connected to whom: mesh, star, line, ring, random, or edges given by hand.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import combinations, pairwise
from random import Random
from typing import TypeAlias

from mmrepl.errors import UsageError

Edge: TypeAlias = tuple[str, str]

SHAPES = ("mesh", "star", "line", "ring", "random")


def edges_of(names: Sequence[str], topology: str | Iterable[Edge], rng: Random) -> list[Edge]:
    """
    The edges of a topology over *names*, in order. A random graph is connected: a tree, and half as many edges more.

    >>> edges_of(["a", "b", "c"], "line", Random(1))
    [('a', 'b'), ('b', 'c')]

    Raises UsageError for a shape or a node that does not exist.
    """
    if not isinstance(topology, str):
        edges = sorted({(min(edge), max(edge)) for edge in topology})
        for one, other in edges:
            if one not in names or other not in names or one == other:
                raise UsageError(f"({one!r}, {other!r}) is no edge between two of {', '.join(names)}")
        return edges
    if topology == "mesh":
        return list(combinations(names, 2))
    if topology == "star":
        return [(names[0], name) for name in names[1:]]
    if topology == "line":
        return list(pairwise(names))
    if topology == "ring":
        return list(pairwise(names)) + ([(names[-1], names[0])] if len(names) > 2 else [])
    if topology == "random":
        tree = [(names[rng.randrange(index)], names[index]) for index in range(1, len(names))]
        others = [edge for edge in combinations(names, 2) if edge not in tree and edge[::-1] not in tree]
        return tree + rng.sample(others, min(len(others), len(names) // 2))
    raise UsageError(f"topology must be one of {', '.join(SHAPES)}, or a list of edges, not {topology!r}")


def diameter(names: Sequence[str], edges: Iterable[Edge]) -> int:
    """The longest of the shortest ways, in hops. Nodes that cannot reach each other do not count."""
    neighbours = _neighbours(names, edges)
    return max(max(_hops(start, neighbours).values()) for start in names)


def is_connected(names: Sequence[str], edges: Iterable[Edge]) -> bool:
    """Whether these nodes can all reach each other over edges between them."""
    return len(_hops(names[0], _neighbours(names, edges))) == len(names)


def _neighbours(names: Sequence[str], edges: Iterable[Edge]) -> dict[str, list[str]]:
    neighbours: dict[str, list[str]] = {name: [] for name in names}
    for one, other in edges:
        if one in neighbours and other in neighbours:
            neighbours[one].append(other)
            neighbours[other].append(one)
    return neighbours


def _hops(start: str, neighbours: dict[str, list[str]]) -> dict[str, int]:
    hops = {start: 0}
    waiting = deque([start])
    while waiting:
        here = waiting.popleft()
        for there in neighbours[here]:
            if there not in hops:
                hops[there] = hops[here] + 1
                waiting.append(there)
    return hops
