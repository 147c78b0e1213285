"""
Keep siblings: whoever reads sees all concurrent values, and decides.

The answer is always a list, in canonical order, also when there is but one value: code that reads it has one case to
think of. Equal values of different writers are kept apart, as they are different writes. Deletions do not appear:
an update survives a concurrent deletion, and a key with nothing but deletions is absent.
"""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen

from mmrepl.resolvers.base import Resolution, Resolver
from mmrepl.resolvers.sibling import Sibling


@frozen
class KeepSiblings(Resolver):
    """
    Every live value, oldest timestamp first.

    >>> KeepSiblings().resolve([Sibling.of("b", timestamp=2, origin="paris"),
    ...                         Sibling.tombstone(timestamp=3, origin="lima"),
    ...                         Sibling.of("a", timestamp=1, origin="london")])
    Resolution(['a', 'b'], losers=lima~0:1)
    """

    wraps: ClassVar[bool] = True

    @property
    def policy(self) -> str:
        """Always the same: there is nothing to choose."""
        return "keep-siblings"

    def decide(self, siblings: tuple[Sibling, ...]) -> Resolution:
        """Their payloads behind the header of a list: no value is decoded or encoded again (law L6)."""
        payloads = [sibling.payload for sibling in siblings if sibling.payload is not None]
        return Resolution.merge_payload(_list_header(len(payloads)) + b"".join(payloads), siblings)


def _list_header(length: int) -> bytes:
    """How MessagePack begins a list of that many elements."""
    if length < 1 << 4:
        return bytes((0x90 | length,))
    if length < 1 << 16:
        return b"\xdc" + length.to_bytes(2, "big")
    return b"\xdd" + length.to_bytes(4, "big")
