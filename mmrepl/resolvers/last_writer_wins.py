"""
Last writer wins: of concurrent writes, the one with the latest timestamp is read.

Ties go to the origin that sorts last, then to the higher counter, so that the order is total and the same everywhere.
A deletion is a write like another: it wins if it is the latest.

It hides nothing. The losers stay readable in ``Resolution.losers`` and are told of by ``Resolution.explain`` until
somebody overwrites them, or until all siblings are causally stable, when the store may drop them.

HAZARD: "last" is by the writers' clocks. A node whose clock is ahead wins against concurrent writes that people made
after its own. It never wins against a write that has *seen* its own: overwriting is decided by contexts (law L5).
"""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen

from mmrepl.resolvers.base import Resolution, Resolver
from mmrepl.resolvers.sibling import Sibling


@frozen
class LastWriterWins(Resolver):
    """
    The default. The answer is the sibling that is last in canonical order.

    >>> paris = Sibling.of("salut", timestamp=2, origin="paris")
    >>> london = Sibling.of("hello", timestamp=1, origin="london")
    >>> LastWriterWins().resolve([paris, london]).explain()
    ("'hello' (london~0:1) lost to 'salut' (paris~0:1): it is earlier, 1 before 2",)
    """

    selects: ClassVar[bool] = True

    @property
    def policy(self) -> str:
        """Always the same: there is nothing to choose."""
        return "last-writer-wins"

    def decide(self, siblings: tuple[Sibling, ...]) -> Resolution:
        """The last one."""
        return Resolution.select(siblings[-1], siblings, by_rank=True)
