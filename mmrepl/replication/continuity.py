"""
Continuity: whose memory a new incarnation has in full.

A node takes a new incarnation whenever it cannot prove that it remembers its counter (law L2). Most often it has lost
nothing that it ever told anybody: its process was killed while it answered weak writes (`mmrepl.replication.mark`), and
all that it had acknowledged is on its disk. Such a node is the member that it was before. What its peers do not know
yet it wrote after it had applied whatever they may have forgotten, and its stamps go on rising. So its hello names the
incarnations that it continues, and whoever knows one of them as a member knows *it*; it need not start over, and what
it holds need not be sent to it anew.

Where the disk is a copy, an older one, or may have lost something, nothing is continued.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from mmrepl.types import NodeId

CONTINUED: Final = "continued"
"""The meta key of the incarnations that the present one continues."""

CONTINUED_MAX: Final = 16
"""So many are remembered, the latest ones: whoever knows but older ones has not been heard for many lives."""

_decoder = msgspec.msgpack.Decoder(list[tuple[str, int]])


def continued(meta: Mapping[str, bytes]) -> tuple[NodeId, ...]:
    """What the saved incarnation continues, oldest first."""
    return tuple(NodeId(*node) for node in _decoder.decode(meta[CONTINUED])) if CONTINUED in meta else ()


def encoded(nodes: Iterable[NodeId]) -> bytes | None:
    """As it is saved; None for nothing."""
    pairs = [tuple(node) for node in nodes]
    return msgspec.msgpack.encode(pairs) if pairs else None
