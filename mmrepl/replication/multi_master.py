"""
The multi-master core: every node takes writes, and they find their way to all.

A `LocalCore` and its peers. The host tells it what happens (a write, a connection, a message, the passing of time)
and asks with ``ready`` what is to be done. It holds no socket and reads no clock; it says nothing of an operation
that is not durable here (law L2); and it takes everything that comes from a peer through one door, `_apply`.

What is pushed to whom stands in `push`, what is asked of whom in `pull`, snapshots in `transfer`, who belongs to the
cluster in `membership`, who may talk at all in `greeting`, returning with unseen writes in `rejoin`. The choices and
what they cost are told in docs/design/0002-gossip.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from attrs import frozen

from mmrepl.causality.context import CausalContext
from mmrepl.causality.stability import AckMatrix
from mmrepl.causality.version_vector import VersionVector
from mmrepl.clock.drift import PeerClocks
from mmrepl.effects import Effects, Envelope
from mmrepl.errors import FrameError, LogTruncated, PeerError, UsageError
from mmrepl.log.policy import DEFAULT_LOG, LogGauge, LogPolicy
from mmrepl.ports import Durability, Rng
from mmrepl.replication.hearsay import Hearsay
from mmrepl.replication.identity import Identity
from mmrepl.replication.intake import Intake
from mmrepl.replication.local import LocalCore
from mmrepl.replication.membership import Membership
from mmrepl.replication.peer import Link, Peer, PeerChanged, PeerState
from mmrepl.replication.pull import FRUITLESS, Puller
from mmrepl.replication.push import FRAMES_A_TURN, Pusher
from mmrepl.replication.reception import GREETING_MS, Reception
from mmrepl.replication.rejoin import Rejoin
from mmrepl.replication.transfer import Transfers
from mmrepl.replication.waiters import Acknowledged, Waiters
from mmrepl.store.table import Table
from mmrepl.types import Limits, NodeId
from mmrepl.wire.codec import encode
from mmrepl.wire.greeting import QUIET_CODES, Refusal, is_answer, lives_of, refuse, shown
from mmrepl.wire.messages import (
    Acks,
    Ask,
    Delta,
    Digest,
    Hello,
    Leave,
    Members,
    Message,
    Proof,
    Prune,
    Refuse,
    Snapshot,
    from_wire,
    to_wire,
)

COMPLAINTS = 32
"""So many of the latest complaints about peers are kept for status."""

SILENCE_MS = 10_000
"""A connection on which nothing has come for so long is closed; its address is dialled again."""


@frozen(kw_only=True)
class Options:
    """What a cluster's node is told at its start."""

    cluster: str = "default"
    address: str = ""  # where peers reach this node
    expected: tuple[str, ...] = ()  # addresses of peers, from the configuration
    secret: bytes | None = None
    compressions: tuple[str, ...] = ()  # what this host can read, in order of preference
    log: LogPolicy = DEFAULT_LOG  # the log is cut when it passes this, even if a member still lacks some of it
    cut_operations: int = 4096  # the log is cut, and tombstones forgotten, when so many operations are stable
    durability: Durability = Durability.SYNC  # of what is received
    rejoin: bool = False  # come back as a new incarnation if this node was removed


class MultiMaster:
    """
    One node of a cluster. Mutable, not thread-safe; times are milliseconds, *now_ms* monotonic, *wall_ms* since 1970.
    """

    def __init__(self, local: LocalCore, rng: Rng, options: Options, meta: dict[str, bytes], now_ms: int) -> None:
        self.local = local
        self.limits: Limits = local.store.limits
        self.options = options
        self._rng = rng
        self.instance = rng.getrandbits(63)
        self.address = options.address  # where peers reach this node
        self.peers: dict[str, Peer] = {}
        self.members = Membership(local.store.node, options.address, options.expected)
        if "members" in meta:
            self.members.restore(meta["members"], local.continues)
        self.clocks: PeerClocks[str] = PeerClocks()
        self.acks: AckMatrix[str, int] = AckMatrix(self.members.name, self.members.view)
        self.waiters = Waiters()
        self.transfers = Transfers(local)
        self.rejoin = Rejoin(local, meta, now_ms)
        self.identity = Identity(self)
        self.intake = Intake(self)
        self.puller = Puller(local, self.limits, self.intake.apply, self._want, self.intake.install, self._blame)
        self.hearsay = Hearsay(self)
        self._reception = Reception(self)
        self._pusher = Pusher(local, self._is_own)
        self.complaints: deque[str] = deque(maxlen=COMPLAINTS)  # why connections were refused or lost, latest last
        self.blocked: set[str] = set()  # names kept away, for drills
        self._links: dict[int, Link] = {}
        self._up: tuple[Peer, ...] | None = None  # remembered until a link comes or goes
        self._send: list[Envelope] = []
        self._close: list[tuple[int, str]] = []
        self._notify: list[object] = []
        self._insisted_count = 0
        self._insist_after_ms = 0
        self._more = False  # whether a peer has more to get than a turn gives
        self.ticked_ms = now_ms
        self._log = LogGauge(options.log)
        self._told_end = 0  # of the log at the tick before
        self._next_look = 0  # position of the log at which its policy is asked again
        self._wall_ms = 0  # as it was told last
        self._watermark = VersionVector()
        self._view_changed()

    # -- verbs of the host: writing

    def put(
        self,
        table: Table,
        key: str,
        payload: bytes | None,
        wall_ms: int,
        context: CausalContext | None = None,
        durability: Durability = Durability.SYNC,
    ) -> int:
        """Write or delete; returns the dot's counter. Raises as `Store.put`, and ClockAhead."""
        return self.local.put(table, key, payload, wall_ms, context, durability)

    def wait_for(self, counter: int, wanted: int | str, token: object) -> None:
        """
        Notify `Acknowledged(token)` once our write *counter* is durable at *wanted* members, ourselves included.

        *wanted* is a number, ``"majority"`` or ``"all"`` (of the members at each moment).
        """
        self.waiters.add(self.local.store.node, counter, wanted, token)

    def stop_waiting(self, token: object) -> None:
        """Nobody waits for *token* any longer."""
        self.waiters.discard(token)

    # -- verbs of the host: connections

    def connected(self, link: int, dialled: str, now_ms: int, wall_ms: int) -> None:
        """A connection is open; *dialled* is the address if it was us who dialled."""
        self._reception.connected(link, dialled, now_ms, wall_ms)

    def disconnected(self, link: int, reason: str, now_ms: int) -> None:
        """A connection is gone."""
        del now_ms
        gone = self._links.pop(link, None)
        if gone is None or gone.peer is None or gone.peer.link != link:
            return
        peer = gone.peer
        self._up = None
        peer.disconnected()
        self.puller.lost(peer)
        self._notify.append(PeerChanged(peer.name, PeerState.GONE, reason))

    def heard(self, link: int, now_ms: int) -> None:
        """Something of a message came on a connection: it is not silent, only slow."""
        found = self._links.get(link)
        if found is not None and found.peer is not None:
            found.peer.detector.heard(now_ms)

    def congested(self, link: int, congested: bool) -> None:
        """The connection's outbound buffer is full, or has drained."""
        found = self._links.get(link)
        if found is not None and found.peer is not None:
            found.peer.congested = congested

    def receive(self, link: int, message: Message, now_ms: int, wall_ms: int) -> None:
        """A message came. Whatever is wrong with it costs that connection, nothing else."""
        self._wall_ms = wall_ms
        found = self._links.get(link)
        if found is None:
            return  # closed already; the host may still deliver what was under way
        try:
            self._dispatch(found, message, now_ms, wall_ms)
        except PeerError as error:
            self._refuse(found, Refusal(type(error).__name__, str(error)))

    def _dispatch(self, link: Link, message: Message, now_ms: int, wall_ms: int) -> None:
        peer = link.peer
        if isinstance(message, Hello):
            self._reception.hello(link, message, now_ms, wall_ms)
        elif isinstance(message, Refuse):
            self._refused(link, message, now_ms)
        elif isinstance(message, Proof):
            self._reception.proof(link, message, now_ms, wall_ms)
        elif peer is None or peer.link != link.number:
            raise FrameError(f"a {type(message).__name__} before the hello was done")
        else:
            peer.detector.heard(now_ms)
            if not peer.has_let_us_in:
                peer.has_let_us_in = True
                self._notify.append(PeerChanged(peer.name, peer.state(now_ms, self.limits.heartbeat_ms)))
            if isinstance(message, Delta):
                self.intake.delta(peer, message, now_ms, wall_ms)
            elif isinstance(message, Digest):
                self.intake.digest(peer, message, now_ms)
            elif isinstance(message, Snapshot):
                self.intake.snapshot(peer, message, now_ms, wall_ms)
            elif isinstance(message, Ask):
                self.intake.ask(peer, message, now_ms)
            elif isinstance(message, Prune):
                known = self.local.store.log.known
                peer.pruned.update(node for origin in message.origins if known(node := NodeId(*origin)) is not None)
            elif isinstance(message, Acks):
                self.hearsay.acks(message)
            elif isinstance(message, Members):
                self._members(peer, message)
            elif isinstance(message, Leave):
                if self.members.is_member(peer.name):
                    self.members.remove(peer.name)
                self._refuse(link, Refusal("leaving", f"{peer.name!r} has left"))

    # -- greeting

    def _refused(self, link: Link, message: Refuse, now_ms: int) -> None:
        """The other side closes the connection, and says why."""
        name = link.theirs.name if link.theirs is not None else link.dialled
        text = f"{shown(message.code)[1:-1]}: {shown(message.text, 500)[1:-1]}"
        again = ("rejoin", "equivocation", "removed") if self.options.rejoin else ("rejoin", "equivocation")
        # Only from somebody whose hello was good and proven: else anybody could have us start over, and, claiming to
        # have seen everything, have us set nothing aside. And only of who we are now.
        if message.code in again and is_answer(message, link.ours) and link.trusted:
            assert link.theirs is not None
            seen = from_wire(link.theirs.vector)
            if message.code == "rejoin":
                self.identity.start_over(seen, link.theirs.name)
            elif message.code == "removed":
                self.identity.come_back(seen, link.theirs)
            else:
                self.identity.begin_again(seen, is_old_copy=True)
        self._close.append((link.number, text))
        self.disconnected(link.number, text, now_ms)
        if message.code not in QUIET_CODES:
            self._complain(f"{shown(name)} refused us: {text}")
        self._notify.append(PeerChanged(name, PeerState.GONE, text))

    def _blame(self, name: str, error: PeerError) -> None:
        """What a peer sent earlier is no good: it costs that peer its connection."""
        peer = self.peers.get(name)
        if peer is not None and peer.link in self._links:
            self._refuse(self._links[peer.link], Refusal(type(error).__name__, str(error)))
        else:
            self._complain(f"{type(error).__name__}: {error}")

    def complain(self, text: str) -> None:
        """Remember for status what was wrong with a connection."""
        self._complain(text)

    def _complain(self, text: str) -> None:
        if text in self.complaints:
            self.complaints.remove(text)
        self.complaints.append(text)

    def _refuse(self, link: Link, refusal: Refusal) -> None:
        if refusal.code not in QUIET_CODES:
            self._complain(f"{refusal.code}: {refusal.text}")
        self._send.append(Envelope(link.number, refuse(refusal, link.theirs)))
        self._close.append((link.number, f"{refusal.code}: {refusal.text}"))
        self.disconnected(link.number, refusal.text, 0)

    # -- what peers say

    def _members(self, peer: Peer, message: Members) -> None:
        self.members.merge(message)
        node = self.local.store.node
        if any((entry.name, entry.incarnation, entry.removed) == (*node, False) for entry in message.entries):
            self.rejoin.admit(peer.node)
        gone = self.members.was_removed(node.name, (node, *self.local.continues))
        for link in [link for link in self._links.values() if link.peer is not None]:
            assert link.theirs is not None
            if gone:
                self._refuse(link, Refusal("leaving", f"{self.members.name!r} was removed from the cluster"))
            elif self.members.was_removed(link.theirs.name, lives_of(link.theirs)):
                self._refuse(link, Refusal("removed", f"{link.theirs.name!r} was removed from the cluster"))
        self._view_changed()

    def _insist(self, now_ms: int) -> None:
        """If the members take another for us, say who we are: less and less often, for there may be two."""
        own, node = self.members.entries[self.members.name], self.local.store.node
        if (own.incarnation, own.address) == (node.incarnation, self.address) or now_ms < self._insist_after_ms:
            return
        if self.members.was_removed(node.name, (node, *self.local.continues)):
            return
        self._insisted_count += 1
        self._insist_after_ms = now_ms + min(self.limits.heartbeat_ms << min(self._insisted_count, 16), 30_000)
        if self._insisted_count > 3:  # the first ones may be echoes of who we were before
            self._complain(
                f"name-in-use: there seems to be another {node.name!r}, {own.name}~{own.incarnation:x} at"
                f" {shown(own.address)}: give each node a name of its own"
            )
        self.members.reassert(node, self.address)

    def _view_changed(self) -> None:
        self.acks.set_view(self.members.view, self.members.names())

    # -- members

    def bound(self, address: str) -> None:
        """We listen, and peers reach us at *address*."""
        self.address = address
        self.members.bound(address)

    def remove(self, who: str) -> None:
        """Take a member out of the cluster, or give up an expected address. Its writes stay. Raises UsageError."""
        if who == self.members.name:
            raise UsageError(f"{who!r} is this node: let it leave, or remove it at another one")
        self.members.remove(who)
        peer = self.peers.get(who)
        if peer is not None and peer.link in self._links:
            self._send.append(Envelope(peer.link, self.members.message()))
            self._refuse(self._links[peer.link], Refusal("removed", f"{who!r} was removed from the cluster"))
        self._view_changed()

    def block(self, name: str) -> None:
        """Cut the connection with a peer and keep it cut, both ways, as a partition would."""
        self.blocked.add(name)
        peer = self.peers.get(name)
        if peer is not None and peer.link in self._links:
            self._refuse(self._links[peer.link], Refusal("blocked", f"{self.members.name!r} is told to stay apart"))

    def leave(self, text: str = "it was told to") -> None:
        """Go for good: tell everybody. The host stops afterwards."""
        for peer in self.up():
            assert peer.link is not None
            self._send.append(Envelope(peer.link, Leave(text)))

    def is_handed_over(self) -> bool:
        """Whether a connected member has everything that this node has, durably."""
        return any(peer.known.descends(self.local.store.version) for peer in self.up())

    def up(self) -> Sequence[Peer]:
        """Peers with a connection, in order of their names: as it is now, whatever comes or goes meanwhile."""
        if self._up is None:
            self._up = tuple(peer for _, peer in sorted(self.peers.items()) if peer.link is not None)
        return self._up

    def is_up(self, link: int) -> bool:
        """Whether the connection is through its hello, and the one to its peer."""
        found = self._links.get(link)
        return found is not None and found.peer is not None

    def wanted_addresses(self) -> list[str]:
        """Where nodes are that this one should be connected to, ourselves and drilled-away ones left out."""
        members = self.members
        own = members.entries[members.name]
        if own.removed and not self.options.rejoin:
            return []
        away = [members.entries[name].address for name in self.blocked if name in members.entries]
        return [address for address in members.addresses() if address != self.address and address not in away]

    def missing_addresses(self) -> list[str]:
        """Of those, where nobody is connected: to be dialled. A member may be found at several."""
        members, found = self.members, set(self.members.expected)
        for entry in members.active():
            peer = self.peers.get(entry.name)
            if entry.name != members.name and entry.name not in self.blocked and (peer is None or peer.link is None):
                found |= members.addresses_of(entry)
        own = members.entries[members.name]
        return [] if own.removed and not self.options.rejoin else sorted(found - {self.address})

    def _is_own(self, node: NodeId) -> bool:
        return node.name == self.members.name

    # -- time

    def tick(self, now_ms: int, wall_ms: int) -> None:
        """Time has passed: notice what is missing, who is silent, what is stable. Sooner or later does no harm."""
        if now_ms - self.ticked_ms < self.limits.gossip_tick_ms:
            return
        self.ticked_ms, self._wall_ms = now_ms, wall_ms
        for link in list(self._links.values()):
            if link.peer is None and now_ms - link.opened_ms > GREETING_MS:
                self._refuse(link, Refusal("protocol", f"no hello within {GREETING_MS} ms"))
        for peer in self.peers.values():
            if peer.capture is not None:
                self.transfers.expire(peer, now_ms)
        for peer in self.up():
            if peer.detector.silent_ms(now_ms) > SILENCE_MS and peer.link is not None:
                self._refuse(self._links[peer.link], Refusal("silent", f"nothing heard for {SILENCE_MS} ms"))
        self.puller.tick(self.up(), now_ms, wall_ms)
        self.look_at_clocks(now_ms)
        self._forget_what_is_stable()
        if self.rejoin.carried:
            self.rejoin.carry_on(self._lacks_nothing())
        self.rejoin.note_confirmed(now_ms)
        self.local.rest(now_ms)
        self._insist(now_ms)
        for peer in self.up():
            self.hearsay.tell(peer, now_ms, wall_ms)
            if peer.needs_acks:
                self.hearsay.relay(peer)

    def _lacks_nothing(self) -> bool:
        version = self.local.store.version
        peers = self.up()
        return bool(peers) and all(version.descends(peer.known) or peer.fruitless >= FRUITLESS for peer in peers)

    def _forget_what_is_stable(self) -> None:
        self.acks.applied(self.local.durable_vector)
        watermark = VersionVector() if self.members.expected else self.acks.stable()
        self._watermark = watermark
        store, options = self.local.store, self.options
        # What came since the tick before, subscribers may not have been told yet: it stays for one more.
        position, least = min(store.log.prefix_below(watermark), self._told_end), options.cut_operations
        self._told_end = store.log.end
        if store.log.end >= self._next_look:
            slack = self._log.slack()
            self._next_look = store.log.end + slack
            beyond = self._log.position(store.log, self._wall_ms)
            if beyond - store.log.start >= slack:  # a bound is kept, however small it is
                position, least = max(position, beyond), min(least, slack)
        if position - store.log.start >= least:
            # only what the cut settles can be forgotten; both walk over much, and write much, so not for a trifle
            store.forget(watermark)
            self.local.upkeep(position=position)
        else:
            self.local.upkeep(position=0)
        if store.forgotten_count:
            self.rejoin.note_forgotten()

    def _want(self, peer: Peer) -> None:
        assert peer.link is not None
        vector = self.local.store.version
        self._send.append(Envelope(peer.link, Digest(to_wire(vector), self.members.view, self._wall_ms, want=True)))

    def look_at_clocks(self, now_ms: int) -> None:
        """Make anew what our stamps may not pass: to be done before a `ClockAhead` is believed."""
        self.local.store.hlc.ceiling = self.clocks.ceiling(now_ms, self.limits.max_drift_ms)

    # -- effects

    def persisted(self, position: int) -> None:
        """The log is durable up to *position*."""
        self.local.persisted(position)

    def ready(self, now_ms: int, wall_ms: int, *, may_persist: bool = True) -> Effects:
        """
        What is to be done. With *may_persist* false (a commit is under way) it holds no commit.
        """
        if self.members.changed:
            self.members.changed = False
            self._view_changed()
            self._note_members()
            message = self.members.message()
            self._send += [Envelope(peer.link, message) for peer in self.up() if peer.link is not None]
        self._push(now_ms)
        if self.hearsay.is_awaited:
            self.hearsay.acknowledge(now_ms, wall_ms)
        if self.waiters:
            self._notify += [Acknowledged(token) for token in self.hearsay.satisfied()]
        persist = self.local.take_persist() if may_persist else None
        wake_at = now_ms if self._more else self.ticked_ms + self.limits.gossip_tick_ms
        effects = Effects(
            persist, tuple(self._send), tuple(self._close), tuple(self._notify),
            wake_at,
        )  # fmt: skip
        self._send, self._close, self._notify = [], [], []
        return effects

    def _push(self, now_ms: int) -> None:
        self._pusher.begin_turn()
        self._more = False
        durable, ack = self.local.durable_vector, bool(self.waiters)
        for peer in self.up():
            if peer.idle_at[0] is peer.sent and peer.idle_at[1] is durable:
                continue
            if not peer.live or peer.congested or peer.link is None:
                continue
            try:
                frames = self._pusher.push(peer, ack=ack)
            except LogTruncated:
                self.intake.offer_snapshot(peer, now_ms)
                continue
            if frames:
                self._send += [Envelope(peer.link, frame) for frame in frames]
                self._more = self._more or len(frames) == FRAMES_A_TURN

    def _note_members(self) -> None:
        if self.local.journal is not None:
            self.local.journal.note("members", encode(self.members.message())[1])
            self.local.demand(self.options.durability)

    # -- for people

    @property
    def watermark(self) -> VersionVector:
        """What is causally stable: every member has it durably."""
        return self._watermark

    def holds(self) -> Iterable[str]:
        """Origins whose stamps are too far ahead of our clock, with by how many milliseconds."""
        return [f"{origin} (+{ahead} ms)" for origin, ahead in sorted(self.puller.held_origins.items())]

    def check(self) -> None:
        """Assert the invariants."""
        self.local.store.check()
        self.acks.check()
        for peer in self.peers.values():
            assert peer.link is None or self._links[peer.link].peer is peer
            assert peer.held_bytes == sum(held.size for held in peer.held)
            assert peer.held_bytes <= self.limits.held_bytes
