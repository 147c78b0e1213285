"""
One write event has one name: the dot.

A dot is (origin, counter): the node, in one incarnation, and its so-many-th write over all its keys. Because one
counter runs over all keys of a node, a dot is also a position in that node's log, and "everything of this origin up
to here" is a single number. (Dots: Almeida, Preguiça, Baquero et al., "Dotted Version Vectors", 2010; the node-wide
counter: Gonçalves et al., "DottedDB", 2017.)

A dot is minted once, ever. Whoever cannot prove that it remembers its counter changes its incarnation instead.
"""

from __future__ import annotations

from typing import NamedTuple

from mmrepl.types import NodeId


class Dot(NamedTuple):
    """
    One write event. Ordered by origin, then counter: an order for breaking ties, not a causal one.

    >>> str(Dot(NodeId("paris", 31), 7))
    'paris~1f:7'
    """

    origin: NodeId
    counter: int  # 1 is the first write of an incarnation; below 2**47

    def __str__(self) -> str:
        return f"{self.origin}:{self.counter}"

    @classmethod
    def parse(cls, text: str) -> Dot:
        """The inverse of ``str``. Raises ValueError for anything else."""
        origin, colon, counter = text.rpartition(":")
        if not colon:
            raise ValueError(f"{text!r} is no dot: expected name~incarnation:counter")
        dot = cls(NodeId.parse(origin), int(counter))
        if not 1 <= dot.counter <= COUNTER_MAX or str(dot) != text:
            raise ValueError(f"{text!r} is no dot: its counter is out of range, or it is not written as we write it")
        return dot


COUNTER_BITS = 47
COUNTER_MAX = (1 << COUNTER_BITS) - 1
"""A counter beyond this is refused, wherever it comes from: no node makes 1.4e14 writes in one incarnation."""
