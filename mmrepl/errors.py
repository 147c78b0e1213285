"""
Everything that mmrepl raises, one family.

The first question of an error is *whose doing is it*, and the branches answer it; the second is *is it certain
that the write did not happen*, and ``error.definite`` answers that: true means certainly not, false means that it
may have happened (it is in the log and may spread), so that a blind retry could apply it twice.

    MmreplError
    ├── UsageError                 the caller's doing; always definite
    │   ├── InvalidKey             a key or a table name outside the domain
    │   ├── InvalidValue           a value outside the domain; ``path`` leads to the offending element
    │   ├── WrongContext           a context of another key, or of no replica
    │   ├── TooManySiblings        a blind write to a key that holds the most siblings allowed
    │   ├── UnknownTable           a table that was never declared, where declaration is required
    │   ├── MembersChanging        single-master: another change of the members is under way; definite
    │   ├── PromotionRefused       single-master: the node would lose what others have, or cannot know; says what
    │   ├── SessionExpired         single-master: a client session that the cluster has forgotten, or never knew
    │   ├── StaleRequest           single-master: a request older than the latest of its client session
    │   ├── UnknownBranch          single-master: a branch that is not kept here
    │   └── ClosedError            the replica, node or store is closed
    ├── PeerError                  a peer's doing; it costs that peer its connection, nothing else
    │   ├── FrameError             bytes that are no frame: magic, version, length, checksum, depth, type
    │   ├── PeerRefused            the hello does not fit: cluster, identity, protocol, secret
    │   ├── Equivocation           one dot, two contents
    │   ├── IdentityLost           others have seen more of our counter than we made: this store is an old copy
    │   ├── DeltaGap               a delta that stands on operations which are not here; nothing was applied
    │   └── StampAhead             operations stamped too far in the future; nothing was applied
    ├── Unavailable                the world's doing, on the network
    │   ├── AckTimeout             the write is in the log, fewer members confirmed it than asked for; indefinite
    │   ├── ClockAhead             our own clock is further ahead of the others than ``max_drift``; definite
    │   ├── NotPrimary             this node takes no writes; ``primary`` says who does, if it is known; definite
    │   ├── NodeBehind             this node has not applied what the caller has seen; definite
    │   ├── LeadershipLost         single-master: this node was deposed before the write was acknowledged; indefinite
    │   ├── QuorumLost             single-master: a read, a promotion or a transfer that too few members answered
    │   ├── ReadTooStale           single-master: this node is further behind than the read allows; says how far
    │   ├── RemovedMember          single-master: this node does not, or no longer, belong to the cluster; definite
    │   ├── Overloaded             single-master: too much waits already; definite, try again later
    │   └── WaitTimeout            something awaited did not come in time; says what
    ├── StorageError               the world's doing, on disk
    │   ├── StoreLocked            another process has the file open
    │   ├── StoreForeign           not a file of ours, or one of another node
    │   ├── StoreTooNew            written by a later version of mmrepl
    │   ├── StoreCorrupt           damage, with the place where it was found
    │   ├── DiskFull               no space for this commit; refused whole, the store goes on when there is space again
    │   └── StoreFailed            a write or an fsync failed; nothing more is acknowledged until reopened
    ├── LogTruncated               the log no longer reaches back that far: send a snapshot
    └── ResolverError              a resolver raised, or gave two answers for the same siblings; the siblings stay
"""

from __future__ import annotations

from typing import NamedTuple


class Call(NamedTuple):
    """What a client asked, and of whom."""

    node: str  # the address; empty when nobody could be asked
    command: str
    key: str | None  # None for what is of no key


class MmreplError(Exception):
    """Base of all errors of this package."""

    definite: bool = True
    """True: the write certainly did not happen. False: it may have."""

    call: Call | None = None
    """Of errors that a `Client` raises: what was asked, and of which node."""


class UsageError(MmreplError):
    """The caller asked for something that cannot be; nothing was changed."""


class InvalidKey(UsageError, ValueError):
    """A key or table name that is not a str, is empty where it may not be, too long, or not valid Unicode."""


class InvalidValue(UsageError, ValueError):
    """
    A value outside the domain of the store; nothing was written.

    ``path`` leads from the value to the offending element, as in ``value['tags'][3]``.
    """

    def __init__(self, message: str, path: str = "value") -> None:
        super().__init__(message)
        self.path = path


class WrongContext(UsageError, ValueError):
    """A causal context used for a key that it was not read from, or bytes that are no context."""


class TooManySiblings(UsageError):
    """A blind write to a key that already holds as many siblings as allowed: read it and write back what you want."""


class UnknownTable(UsageError, KeyError):
    """A table that nobody declared."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class MembersChanging(UsageError):
    """Another change of the members is under way, or this primary has not yet committed anything: try again soon."""


class PromotionRefused(UsageError):
    """
    The node was not made the primary: others have what it lacks, or too few answered to know.

    *ahead* tells by name how many entries of each such member would be lost; *silent* who did not answer. Nothing was
    changed. To go on all the same is what ``force`` is for: what is lost is kept at those members as branches.
    """

    def __init__(self, message: str, *, ahead: dict[str, int] | None = None, silent: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.ahead = ahead or {}
        self.silent = silent


class SessionExpired(UsageError):
    """
    The cluster does not know the client session: it expired, or was pushed out by newer ones.

    Whether an earlier attempt of this request was applied cannot be told any more.
    """

    definite = False


class StaleRequest(UsageError):
    """A request with a lower number than the latest that its client session made; what came of it is forgotten."""

    definite = False


class UnknownBranch(UsageError, KeyError):
    """No branch of that name is kept here."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class ClosedError(UsageError):
    """The replica, node or store was closed before the call."""


class PeerError(MmreplError):
    """A peer sent something that cannot be accepted; its connection is closed, nothing was applied."""


class FrameError(PeerError):
    """Bytes that are no frame of this protocol: cut, flipped, oversized, too deep, of another version or type."""


class PeerRefused(PeerError):
    """A hello that does not fit: another cluster or protocol, our own name, a wrong secret, a removed member."""


class Equivocation(PeerError):
    """A peer offered another content for a dot that we already hold."""


class IdentityLost(PeerError):
    """
    Others have seen more of our counter than this store remembers, and it has minted dots since it was opened.

    So some dots have two contents (law L2). It shows in what a peer sends, hence its place in the family; the doing is
    that of whoever restored or copied the store. Nothing was taken in.

    *node* is who we are, *first* and *last* count the operations that were written here since the store was opened.
    """

    def __init__(self, message: str, *, node: object = None, first: int = 0, last: int = 0) -> None:
        super().__init__(message)
        self.node = node
        self.first = first
        self.last = last


class DeltaGap(PeerError):
    """A delta stands on operations that are not here (law L4): ask for one since this replica's version."""


class StampAhead(PeerError):
    """Operations stamped further in the future than ``limits.max_drift_ms``; *ahead_ms* says by how much."""

    def __init__(self, message: str, *, ahead_ms: int) -> None:
        super().__init__(message)
        self.ahead_ms = ahead_ms


class Unavailable(MmreplError):
    """What was asked needs somebody who does not answer now."""

    definite = False


class AckTimeout(Unavailable):
    """
    Fewer members than asked for confirmed the write in time.

    It is in the log and will spread: do not repeat it blindly.

    ``confirmed`` and ``wanted`` count members, this node included.
    """

    def __init__(self, message: str, *, confirmed: int, wanted: int) -> None:
        super().__init__(message)
        self.confirmed = confirmed
        self.wanted = wanted


class ClockAhead(Unavailable):
    """This node's clock is too far ahead of what its peers accept; the write was not made."""

    definite = True


class NotPrimary(Unavailable):
    """
    A write, or a read of the latest, at a node that takes none in single-master mode; nothing was written.

    ``primary`` is the client address of the node that does, ``name`` its name, ``address`` where its peers reach it;
    each is empty when it is not known.
    """

    definite = True

    def __init__(self, message: str, *, primary: str = "", name: str = "", address: str = "") -> None:
        super().__init__(message)
        self.primary = primary
        self.name = name
        self.address = address


class NodeBehind(Unavailable):
    """A node has not applied, in time, what the session has seen; it was neither read nor written."""

    definite = True


class LeadershipLost(Unavailable):
    """
    This node was deposed while the write was not yet acknowledged.

    It is in this node's log. It may survive in the new primary's, or be cut off here and kept as a branch.
    """


class QuorumLost(Unavailable):
    """Too few members answered in time for a read, a promotion or a transfer. Nothing was written."""

    definite = True


class ReadTooStale(Unavailable):
    """
    This node is further behind than the read allows.

    *behind_entries* and *behind_ms* say how far at least; None where nobody has told this node.
    """

    definite = True

    def __init__(self, message: str, *, behind_entries: int | None, behind_ms: int | None) -> None:
        super().__init__(message)
        self.behind_entries = behind_entries
        self.behind_ms = behind_ms


class RemovedMember(Unavailable):
    """This node, in this incarnation, does not belong to the cluster: it has to be added, or added again."""

    definite = True


class Overloaded(Unavailable):
    """As many writes or reads wait as may (``pending_max``). Nothing was changed: try again when some are answered."""

    definite = True


class WaitTimeout(Unavailable, TimeoutError):
    """Something that was waited for did not come in time; the message says what."""


class StorageError(MmreplError):
    """The durable store cannot do what was asked."""


class StoreLocked(StorageError):
    """Another process, or another replica of this one, has the file open."""


class StoreForeign(StorageError):
    """The file is none of ours, or belongs to a node of another name or cluster."""


class StoreTooNew(StorageError):
    """The file was written by a later version of mmrepl than this one; upgrade, nothing was touched."""


class StoreCorrupt(StorageError):
    """Damage in the file; the message says where, and what can still be done."""


class DiskFull(StorageError):
    """No space left for a commit. It was refused whole and certainly did not happen; free some space and repeat it."""


class StoreFailed(StorageError):
    """
    A write or an fsync failed.

    A failed fsync is final: what the disk holds is unknown, so nothing more is acknowledged.

    The write that met the failure is indefinite. Reopening finds out what is there.
    """

    definite = False


class LogTruncated(MmreplError):
    """The log has been cut above the place asked for. A snapshot brings the peer up to date. Nothing was changed."""


class ResolverError(MmreplError):
    """
    A resolver raised, answered differently for the same siblings, or returned what cannot be stored.

    The siblings stay as they are; ``read().siblings`` shows them.

    ``policy`` is the resolver's, ``siblings`` are those that it failed on, in canonical order.
    """

    def __init__(self, message: str, *, policy: str = "", siblings: tuple[object, ...] = ()) -> None:
        super().__init__(message)
        self.policy = policy
        self.siblings = siblings

    def at(self, place: str) -> ResolverError:
        """The same error, its message beginning with *place*: the key and table, which a resolver does not know."""
        return ResolverError(f"{place}: {self}", policy=self.policy, siblings=self.siblings)
