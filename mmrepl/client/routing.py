"""
Which node to ask, and which after that: an order, from what is known of the nodes.

Nobody configures a mode. Whoever says that it is a *node* (all take writes) or the *primary* (one does) takes writes;
of several that say primary, the one of the highest term is right, and the others have not heard of it yet. Reads go
by preference, and whoever does not answer is followed by the next in the order.

Round-robin is smooth and weighted, as nginx does it: each round every node gains its weight, the one that has gained
most is chosen and pays the sum of all. With weights 5, 1, 1 that gives a a b a c a a, not five in a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from attrs import frozen

from mmrepl.errors import UsageError

PREFERENCES: Final = ("primary", "replica", "nearest", "round-robin")
"""Where reads may go."""

NEARER: Final = 2 / 3
"""A node becomes the nearest when its round trip is shorter than this part of the present one's."""

_WRITERS = frozenset({"node", "primary"})


@frozen
class NodeView:
    """What is known of a node. Only nodes that are up are put in order."""

    address: str
    role: str  # node, primary, replica, candidate; empty when it never said
    term: int
    rtt_ms: float  # smoothed round trip


class Wheel:
    """
    Smooth weighted round-robin.

    >>> wheel = Wheel()
    >>> [wheel.turn({"a": 5, "b": 1, "c": 1}) for _ in range(7)]
    ['a', 'a', 'b', 'a', 'c', 'a', 'a']
    """

    __slots__ = ("_gained",)

    def __init__(self) -> None:
        self._gained: dict[str, int] = {}  # sums to zero over the nodes of the latest turn

    def turn(self, weights: Mapping[str, int]) -> str | None:
        """The next one; None when no weight is above zero. Nodes may come and go between turns."""
        total = sum(weights.values())
        if total <= 0:
            return None
        gained = {name: self._gained.get(name, 0) + weight for name, weight in weights.items() if weight > 0}
        chosen = max(gained, key=lambda name: gained[name])  # the first of equals
        gained[chosen] -= total
        self._gained = gained
        return chosen


class Router:
    """Puts nodes in order. It remembers who is the nearest and whose turn it is."""

    def __init__(self, weights: Mapping[str, int] | None = None) -> None:
        for address, weight in (weights or {}).items():
            if type(weight) is not int or weight < 0:
                raise UsageError(f"the weight of {address} must be 0 or a positive int, not {weight!r}")
        self._weights = dict(weights or {})
        self._wheel = Wheel()
        self._nearest = ""

    def for_write(self, nodes: Iterable[NodeView]) -> list[str]:
        """Whoever takes writes, best first: the primary of the highest term, or all nodes by distance."""
        writers = [node for node in nodes if node.role in _WRITERS]
        primaries = [node for node in writers if node.role == "primary"]
        if primaries:
            return [max(primaries, key=lambda node: (node.term, node.address)).address]
        return self._by_distance(writers)

    def for_read(self, nodes: Sequence[NodeView], preference: str) -> list[str]:
        """
        Whom to ask, best first.

        ``primary``: as for a write. ``replica``: replicas in turn, then the primary. ``nearest``: by distance.
        ``round-robin``: all in turn. Where all nodes take writes, all are replicas too. Candidates come last.
        """
        if preference == "primary":
            return self.for_write(nodes)
        settled = [node for node in nodes if node.role in _WRITERS or node.role == "replica"]
        order = self._by_distance(settled)
        if preference != "nearest":
            replicas = [node for node in settled if node.role != "primary"]
            turning = replicas if preference == "replica" and replicas else settled
            weights = {node.address: self._weights.get(node.address, 1) for node in turning}
            chosen = self._wheel.turn(weights)
            last = {node.address for node in settled} - weights.keys()
            order.sort(key=lambda address: (address != chosen, address in last))
        return order + [node.address for node in nodes if node not in settled]

    def _by_distance(self, nodes: Sequence[NodeView]) -> list[str]:
        order = sorted(nodes, key=lambda node: (node.rtt_ms, node.address))
        if not order:
            return []
        present = next((node for node in order if node.address == self._nearest), order[0])
        if order[0].rtt_ms < present.rtt_ms * NEARER:
            present = order[0]
        self._nearest = present.address
        return [present.address, *(node.address for node in order if node is not present)]


def check_preference(preference: str) -> str:
    """*preference*, if it is one. Raises UsageError."""
    if preference not in PREFERENCES:
        raise UsageError(f"reads go to one of {', '.join(PREFERENCES)}, not {preference!r}")
    return preference
