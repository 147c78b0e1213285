"""Stamps that order siblings, and what peers' clocks say about ours. Nothing here reads a clock."""

from mmrepl.clock.drift import PeerClocks
from mmrepl.clock.hlc import HybridClock, HybridTimestamp

__all__ = ["HybridClock", "HybridTimestamp", "PeerClocks"]
