"""
Who this node is, while its peers know better.

A peer that has seen more of our counter than we made proves that this store is an old copy (law L2); a cluster that
does not know us, and that holds writes which we have not seen, asks us to rejoin. Either way a new incarnation
follows: at once, where this run has minted nothing yet; else by starting over (see `mmrepl.replication.rejoin`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmrepl.causality.stability import AckMatrix
from mmrepl.causality.version_vector import VersionVector
from mmrepl.errors import PeerError
from mmrepl.replication.local import new_incarnation
from mmrepl.types import NodeId
from mmrepl.wire.greeting import Refusal
from mmrepl.wire.messages import Hello

if TYPE_CHECKING:
    from mmrepl.replication.multi_master import MultiMaster

RECOVERIES = 8
"""So often a run of the process believes that it is an old copy of itself. Once is the rule, twice bad luck."""


class Identity:
    """Finding out, and beginning again."""

    def __init__(self, core: MultiMaster) -> None:
        self._core = core
        self._recovery_count = 0  # how often a peer has known more of us than we did

    def recover(self, name: str, vector: VersionVector) -> None:
        """
        If a peer has seen more of our counter than we made, this is an old copy, and somebody else from now on.

        That may close every connection, this one included. Raises PeerError for a peer that claims it without end.
        """
        store = self._core.local.store
        node, head, claimed = store.node, store.own.head, vector.counter(store.node)
        if claimed <= head:
            self._core.rejoin.confirmed(claimed)
            return
        if self._recovery_count >= RECOVERIES:
            raise PeerError(
                f"{name!r} claims {claimed} operations of {node}, which has made {head}: not believed again"
            )
        self._recovery_count += 1
        self._core.local.doubt = f"{name!r} has seen {claimed} operations of {node}, this store had {head}: an old copy"
        if self._core.rejoin.has_suspects():
            self.begin_again(vector, is_old_copy=True)
        else:
            self._core.local.become(new_incarnation(node.name, self._core._rng))
            self._core.rejoin.opened()
            self._core.members.became(store.node)

    def start_over(self, seen: VersionVector, name: str = "") -> None:
        """Become a newcomer to the cluster of *name*, who has *seen* so much, and leave our own, if there was one."""
        self.begin_again(seen, is_old_copy=False)
        self._core.rejoin.wanted_by = name
        self._core.members.start_over(self._core.local.store.node)
        self._core._view_changed()

    def come_back(self, seen: VersionVector, theirs: Hello) -> None:
        """
        We were removed, as *theirs* says, and come back to those whom it knows: as a newcomer, and by ourselves.

        Whoever else belongs with us in our eyes is left behind. They may have come in here after the removal, or never
        heard of it, and hold writes that are concurrent with deletions which were forgotten without them. Did we bring
        them along as members, nobody would ask *them* to rejoin.
        """
        self.begin_again(seen, is_old_copy=False)
        self._core.rejoin.wanted_by = theirs.name
        self._core.members.keep(NodeId(*other) for other in theirs.known)
        self._core._view_changed()

    def begin_again(self, seen: VersionVector, *, is_old_copy: bool) -> None:
        """Set aside what *seen* does not cover, and begin again as a new incarnation (see `rejoin`)."""
        node = new_incarnation(self._core.local.store.node.name, self._core._rng)
        self._core.rejoin.start_over(seen, node, is_old_copy=is_old_copy)
        self._core.rejoin.born_ms = self._core.ticked_ms
        self._core.local.demand(self._core.options.durability)
        self._core.members.became(self._core.local.store.node)
        self._core.transfers.incoming = self._core.transfers.whole = None
        for peer in self._core.peers.values():
            peer.capture = None  # its columns are those of the log that is gone
        self._core.intake.forget()
        self._core.acks = AckMatrix(self._core.members.name, self._core.members.view)
        self._core._watermark = VersionVector()
        for link in list(self._core._links.values()):
            self._core._refuse(
                link, Refusal("duplicate", f"{self._core.members.name!r} starts over as {self._core.local.store.node}")
            )
