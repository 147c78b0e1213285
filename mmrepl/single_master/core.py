"""
The single-master core: the verbs, and nothing that would fit elsewhere.

The host drives it as it drives the multi-master core: it is told of connections, messages and the time, and asks with
``ready`` what is to be done. Verbs of clients return at once and are answered by `mmrepl.single_master.events`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mmrepl.effects import Effects, Persist
from mmrepl.ports import Rng, Storage
from mmrepl.resolvers import Resolver
from mmrepl.single_master.options import Ack, Options, ReadLevel, Role
from mmrepl.types import DEFAULT_LIMITS, Limits, NodeId
from mmrepl.wire.messages import Message


def open_single_master(
    name: str,
    storage: Storage | None,
    rng: Rng,
    options: Options,
    *,
    limits: Limits = DEFAULT_LIMITS,
    now_ms: int = 0,
) -> SingleMaster:
    """
    The core of node *name* over *storage*; in memory without one.

    Raises:
        StoreForeign: the storage belongs to another node, or to the other mode.
        StoreCorrupt, StoreLocked and others: as the storage says.
    """
    raise NotImplementedError


class SingleMaster:
    """One node of a cluster. Mutable, not thread-safe; *now_ms* is monotonic, *wall_ms* since 1970."""

    options: Options
    limits: Limits
    node: NodeId
    role: Role
    term: int
    leader: str  # who takes writes, as far as we know; empty when we do not
    last: int  # index of the last entry of our log
    committed: int  # applied <= committed <= last
    applied: int
    doubt: str | None  # why this node is a new incarnation
    address: str
    blocked: set[str]

    # -- verbs of clients

    def propose(
        self,
        table: str,
        key: str,
        payload: bytes | None,
        now_ms: int,
        wall_ms: int,
        *,
        token: object = None,
        ack: Ack | None = None,
        session: int = 0,
        request: int = 0,
        expect: int | None = None,
    ) -> int:
        """
        Write *payload* (a value encoded by `mmrepl.values`), or delete; returns the index of the entry.

        `Answered` or `Failed` with *token* follows. *session* and *request* make a retry apply once: requests of a
        session are numbered from 1, one at a time. With *expect* the write is applied only where the key was last
        written at that index, 0 meaning that it is absent.

        Raises:
            NotPrimary, RemovedMember, Overloaded, InvalidKey, InvalidValue: nothing was changed.
        """
        raise NotImplementedError

    def open_session(self, now_ms: int, wall_ms: int, *, token: object) -> int:
        """Open a client session; ``Answered(token, index)`` follows, and *index* is its number. Raises as `propose`."""
        raise NotImplementedError

    def read(
        self,
        level: ReadLevel,
        now_ms: int,
        *,
        token: object,
        max_entries: int | None = None,
        max_ms: int | None = None,
    ) -> None:
        """
        ``ReadReady(token, index)`` or ``Failed`` follows, in the next effects where nobody has to be asked.

        *max_entries* and *max_ms* are for ``BOUNDED``, which fails at once with `ReadTooStale`.

        Raises:
            NotPrimary: ``LEADER`` anywhere else than at the leader; ``LINEARIZABLE`` while no leader is known.
            Overloaded: as many reads as may are waiting.
        """
        raise NotImplementedError

    def get(self, table: str, key: str) -> tuple[bytes, int] | None:
        """What is applied here: payload, and the index of the entry that wrote it. None when absent."""
        raise NotImplementedError

    def keys(self, table: str) -> Iterable[str]:
        """Keys of a table in order. Cost: a sort where keys were added since the last time."""
        raise NotImplementedError

    def tables(self) -> list[str]:
        """Names of the tables that hold something, in order."""
        raise NotImplementedError

    def stop_waiting(self, token: object) -> None:
        """Nobody waits for *token* any longer; no event will carry it."""
        raise NotImplementedError

    # -- verbs of the operator

    def promote(self, now_ms: int, *, token: object, force: bool = False) -> None:
        """
        Make this node the primary (manual failover), or ask for an election now (automatic); `Promoted` or `Failed`.

        It asks every member how far its log goes. Refused by `PromotionRefused` when one is further, or too few answer
        to know; with *force* it goes on and says in `Promoted` what is lost. Raises RemovedMember.
        """
        raise NotImplementedError

    def transfer(self, to: str, now_ms: int, *, token: object) -> None:
        """Hand over to voter *to*, which is brought up to date first; `Transferred` or `Failed`. Raises NotPrimary."""
        raise NotImplementedError

    def change_members(
        self,
        now_ms: int,
        wall_ms: int,
        *,
        token: object,
        add: tuple[str, ...] = (),
        learners: tuple[str, ...] = (),
        remove: tuple[str, ...] = (),
    ) -> int:
        """
        Add voters, add learners (or make voters learners), remove members, all in one; `Answered` or `Failed` follows.

        Who is added has to be connected. A new voter is a learner until it has caught up. More than one voter more or
        less is a joint change.

        Raises:
            NotPrimary, MembersChanging, UsageError: nothing was changed.
        """
        raise NotImplementedError

    def branches(self) -> list[object]:
        """Branches that are kept here (`mmrepl.single_master.branch.BranchInfo`), oldest first."""
        raise NotImplementedError

    def merge_branch(self, branch: str, resolver: Resolver, now_ms: int, wall_ms: int, *, token: object) -> None:
        """Merge a branch into the cluster, here or at the primary; `Merged` or `Failed`. Raises UnknownBranch."""
        raise NotImplementedError

    def drop_branch(self, branch: str) -> None:
        """Forget a branch. Raises UnknownBranch."""
        raise NotImplementedError

    # -- verbs of the host

    def connected(self, link: int, dialled: str, now_ms: int, wall_ms: int) -> None:
        """A connection is open; *dialled* is the address if it was us who dialled."""
        raise NotImplementedError

    def disconnected(self, link: int, reason: str, now_ms: int) -> None:
        """A connection is gone."""
        raise NotImplementedError

    def heard(self, link: int, now_ms: int) -> None:
        """Something of a message came on a connection: it is not silent, only slow."""
        raise NotImplementedError

    def congested(self, link: int, congested: bool) -> None:
        """The connection's outbound buffer is full, or has drained."""
        raise NotImplementedError

    def receive(self, link: int, message: Message, now_ms: int, wall_ms: int) -> None:
        """A message came. Whatever is wrong with it costs that connection, nothing else."""
        raise NotImplementedError

    def tick(self, now_ms: int, wall_ms: int) -> None:
        """Time has passed. Sooner or later does no harm."""
        raise NotImplementedError

    def ready(self, now_ms: int, wall_ms: int, *, may_persist: bool = True) -> Effects:
        """What is to be done. With *may_persist* false (a commit is under way) it holds no commit."""
        raise NotImplementedError

    def take_persist(self) -> Persist | None:
        """What is still to be committed, when the host closes."""
        raise NotImplementedError

    def persisted(self, position: int) -> None:
        """Everything handed out up to *position* is durable."""
        raise NotImplementedError

    @property
    def log_end(self) -> int:
        """Rises with everything new that is to be persisted; for hosts in memory."""
        raise NotImplementedError

    def missing_addresses(self) -> list[str]:
        """Where members are that nobody is connected to: to be dialled."""
        raise NotImplementedError

    def wanted_addresses(self) -> list[str]:
        """Where nodes are that this one should be connected to."""
        raise NotImplementedError

    def bound(self, address: str) -> None:
        """We listen, and peers reach us at *address*."""
        raise NotImplementedError

    def block(self, name: str) -> None:
        """Cut the connection with a peer and keep it cut, both ways, as a partition would."""
        raise NotImplementedError

    def up(self) -> Iterator[object]:
        """Peers with a connection, in order of their names; each has ``name``, ``link``, ``hello``."""
        raise NotImplementedError

    def is_up(self, link: int) -> bool:
        """Whether the connection is through its hello, and the one to its peer."""
        raise NotImplementedError

    def check(self) -> None:
        """Assert the invariants."""
        raise NotImplementedError
