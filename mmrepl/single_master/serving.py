"""
What clients and operators ask of a node.

Every verb returns at once; what comes of it is told by an event with the token that was given (`events`).
"""

from __future__ import annotations

from collections.abc import Callable

from mmrepl.errors import InvalidValue, Overloaded, StaleRequest
from mmrepl.resolvers import Resolver
from mmrepl.single_master.branch import Branch, BranchInfo
from mmrepl.single_master.entry import SESSION, WRITE, Entry, encode_entry
from mmrepl.single_master.events import Answered
from mmrepl.single_master.office import Office
from mmrepl.single_master.options import Ack, ReadLevel, parse_ack
from mmrepl.values import check_key, check_table
from mmrepl.wire.seen import LogPosition


class Serving(Office):
    """A node as those see it who use it. Mutable."""

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

        `Answered` or `Failed` with *token* follows; none without a token. *session* and *request* make a retry apply
        once: requests of a session are numbered from 1, one at a time. With *expect* the write is applied only where
        the key was last written at that index, 0 meaning that it is absent.

        Raises:
            NotPrimary, RemovedMember, Overloaded, InvalidKey, InvalidValue, StaleRequest: nothing was changed.
        """
        limits = self.limits
        if not (type(key) is str and key.isascii() and 0 < len(key) <= limits.key_bytes):
            check_key(key, limits)
        if table:
            check_table(table, limits)
        if payload is not None and len(payload) > limits.value_bytes:
            raise InvalidValue(
                f"a value of {len(payload):,} bytes: at most {limits.value_bytes:,} (limits.value_bytes)"
            )
        level = self.options.ack if ack is None else parse_ack(ack)
        self._check_leading()
        if session:
            done = self.state.sessions.get(session)
            if done is not None and request == done.request and self._is_acknowledged(done.index, level):
                self.notify(Answered(token, done.index, done.applied))
                return done.index
            if request < 1 or (done is not None and request < done.request):
                raise StaleRequest(f"request {request} of session {session} is not its next: they are numbered from 1")
        entry = Entry(
            WRITE, max(wall_ms, self.stamp), table, key, payload, session, request, -1 if expect is None else expect
        )
        index = self.append(entry, encode_entry(entry))
        if token is not None:
            until_applied = session > 0 or expect is not None
            self.acks.wait(index, token, level, now_ms + self.options.ack_timeout_ms, until_applied=until_applied)
        return index

    def _is_acknowledged(self, index: int, level: Ack) -> bool:
        """Whether as many hold an entry as *level* asks for: what was applied may be on our own disk only."""
        return self.tenure is not None and self.tenure.threshold(level) >= index

    def open_session(self, now_ms: int, wall_ms: int, *, token: object) -> int:
        """Open a client session; ``Answered(token, index)`` follows, and *index* is its number. Raises as `propose`."""
        self._check_leading()
        entry = Entry(SESSION, max(wall_ms, self.stamp), payload=self.session_bounds)
        index = self.append(entry, encode_entry(entry))
        self.acks.wait(index, token, "quorum", now_ms + self.options.ack_timeout_ms, until_applied=True)
        return index

    def _check_leading(self) -> None:
        if self.tenure is None or self.promotion.is_handing_over:
            raise self.not_primary("takes no writes")
        if self.acks.count >= self.options.pending_max or self.log.last - self.applied >= self.options.pending_max:
            raise Overloaded(f"{self.acks.count} writes wait already (pending_max): try again when some are answered")

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

        *max_entries* and *max_ms* are for ``BOUNDED``.

        Raises:
            NotPrimary: ``LEADER`` anywhere else than at the leader; ``LINEARIZABLE`` before a cluster is known.
            ReadTooStale: ``BOUNDED``, and this node is further behind.
            Overloaded: as many reads as may are waiting.
        """
        self.reads.read(level, now_ms, token, max_entries, max_ms)

    def get(self, table: str, key: str) -> tuple[bytes, int] | None:
        """What is applied here: payload, and the index of the entry that wrote it. None when absent."""
        return self.state.get(table, key)

    def keys(self, table: str) -> list[str]:
        """Keys of a table in order. Cost: a sort where keys came or went since the last time."""
        return self.state.keys(table)

    def tables(self) -> list[str]:
        """Names of the tables that hold something, in order."""
        return self.state.names()

    def changes(self, since: LogPosition, count: int) -> tuple[list[tuple[LogPosition, Entry]], LogPosition]:
        """Writes behind *since* that were applied here, each with its place; see `Feed.after`. Raises LogTruncated."""
        return self.feed.after(since, self.log, self.applied, count, self.limits)

    def stop_waiting(self, token: object) -> None:
        """Nobody waits for *token* any longer; no event will carry it. What was written stays written."""
        self.acks.stop(token)
        self.reads.stop(token)

    # -- verbs of the operator

    def promote(self, now_ms: int, *, token: object, force: bool = False) -> None:
        """
        Make this node the primary (manual failover), or ask for an election now (automatic); `Promoted` or `Failed`.

        It asks every member how far its log goes. Refused by `PromotionRefused` when one is further, or too few answer
        to know; with *force* it goes on and says in `Promoted` what is lost: also at a node in doubt, which is no
        member any more and takes the place of who it was. Where leaders are elected it is refused as long as one is
        heard: that one has to `transfer`.

        Raises:
            RemovedMember: this node, in this incarnation, has no vote, and had none before the latest change of its log
                either. (Who alone knows that it has none any more is needed by the others until it has told them.)
            PromotionRefused: a new cluster, and not all its first members are there.
            UsageError: a promotion is under way, or force where there are elections.
        """
        self.promotion.promote(now_ms, token, force=force)

    def transfer(self, to: str, now_ms: int, *, token: object, within_ms: int | None = None) -> None:
        """
        Hand over to voter *to*, which is brought up to date first; `Transferred` or `Failed`.

        When it has not taken over *within_ms* (by default ``read_timeout_ms``), this node goes on. Raises NotPrimary.
        """
        self.promotion.transfer(to, now_ms, token, within_ms)

    def successor(self, now_ms: int) -> str | None:
        """The voter that could take over soonest; None where this node does not lead, or nobody could be elected."""
        return self.promotion.successor(now_ms)

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
        less is a joint change. A node that lost its memory is added again under the same name.

        Raises:
            NotPrimary, MembersChanging, UsageError: nothing was changed.
        """
        index = self.members.change(wall_ms, add, learners, remove)
        self.acks.wait(index, token, "quorum", now_ms + self.options.ack_timeout_ms, until_applied=True)
        return index

    def branches(self) -> list[BranchInfo]:
        """Branches that are kept here, oldest first."""
        return self.branches_kept.infos()

    def branch(self, branch: str) -> Branch:
        """One of them, with its entries. Raises UnknownBranch."""
        return self.branches_kept.get(branch)

    def merge_branch(
        self,
        branch: str,
        resolver: Resolver | Callable[[str], Resolver],
        now_ms: int,
        *,
        token: object,
    ) -> None:
        """
        Merge a branch into the cluster, from here or through the primary; `Merged` or `Failed`.

        *resolver* decides the keys that both have written: one for all tables, or a function from a table's name.
        Raises UnknownBranch, UsageError.
        """
        found = self.branches_kept.get(branch)
        resolver_of = (lambda _: resolver) if isinstance(resolver, Resolver) else resolver
        self.merging.begin(found, resolver_of, now_ms, token)

    def drop_branch(self, branch: str) -> None:
        """Forget a branch. Raises UnknownBranch."""
        self.branches_kept.drop(branch)
