"""
Who waits for acknowledgements, and for how many.

A write is confirmed by a member once that member has said that it is durable there. So for "durable at k members" one
number decides: the k-th highest counter of ours among what the members have said. Every waiter at or below it is done.
"""

from __future__ import annotations

from heapq import heappop, heappush

from attrs import frozen

from mmrepl.causality.version_vector import VersionVector
from mmrepl.errors import UsageError
from mmrepl.types import NodeId


@frozen
class Acknowledged:
    """Event: the write that this token stands for is durable at as many members as was asked for."""

    token: object


def needed(wanted: int | str, member_count: int) -> int:
    """How many members that is. Raises UsageError for anything but a number from 1 on, "majority" or "all"."""
    if wanted == "majority":
        return member_count // 2 + 1
    if wanted == "all":
        return member_count
    if isinstance(wanted, int) and not isinstance(wanted, bool) and wanted >= 1:
        return wanted
    raise UsageError(f"acks must be a number from 1 on, 'majority' or 'all', not {wanted!r}")


class Waiters:
    """Writes that somebody waits for, grouped by what they wait for. Adding and finishing one is logarithmic."""

    def __init__(self) -> None:
        self._heaps: dict[tuple[NodeId, int | str], list[tuple[int, int, object]]] = {}
        self._open: dict[object, tuple[NodeId, int, int | str]] = {}
        self.added_count = 0

    def __bool__(self) -> bool:
        return bool(self._open)

    def __len__(self) -> int:
        return len(self._open)

    def add(self, node: NodeId, counter: int, wanted: int | str, token: object) -> None:
        """Wait for *counter* of *node*. Raises UsageError when *wanted* means nothing."""
        needed(wanted, 1)
        self._open[token] = (node, counter, wanted)
        self.added_count += 1
        heappush(self._heaps.setdefault((node, wanted), []), (counter, self.added_count, token))

    def discard(self, token: object) -> None:
        """Nobody waits any longer. Unknown tokens are ignored."""
        self._open.pop(token, None)

    def satisfied(self, vectors: list[VersionVector], member_count: int) -> list[object]:
        """Tokens that are done, given what is durable at each member; they are waited for no longer."""
        done: list[object] = []
        if not self._open:
            return done
        for key in sorted(self._heaps, key=lambda key: (key[0], str(key[1]))):
            node, wanted = key
            heap = self._heaps[key]
            rank = needed(wanted, member_count)
            confirmed = sorted((vector.counter(node) for vector in vectors), reverse=True)
            reached = confirmed[rank - 1] if rank <= len(confirmed) else 0
            while heap and (heap[0][0] <= reached or heap[0][2] not in self._open):
                _, _, token = heappop(heap)
                if self._open.pop(token, None) is not None:
                    done.append(token)
            if not heap:
                del self._heaps[key]
        return done
