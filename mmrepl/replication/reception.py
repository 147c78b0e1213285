"""
Reception: from an open connection to a peer.

A connection says hello, is asked for proof if the cluster has a secret, and is then either *the* connection to that
peer or refused: because there is one already, because another node has that name, because it holds another content
for a dot than we do, or because it has to rejoin first. Nothing that it sends is applied before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmrepl.clock.hlc import acceptable, ahead_ms
from mmrepl.effects import Envelope
from mmrepl.errors import FrameError
from mmrepl.replication.failure_detector import FailureDetector
from mmrepl.replication.greeting import policy_differences
from mmrepl.replication.peer import Link, Peer
from mmrepl.types import NodeId
from mmrepl.wire.greeting import Refusal, check_hello, lives_of, node_of, prove, proven
from mmrepl.wire.messages import PROTOCOL, Hello, Proof, from_wire, to_wire

if TYPE_CHECKING:
    from mmrepl.replication.multi_master import MultiMaster


GREETING_MS = 5_000
"""A connection must have said hello, and proven itself, within so long; and a newcomer have heard who is a member."""


PATIENCE = 3
"""Whoever comes unchanged after being asked so often to rejoin asks us the same."""


class Reception:
    """The door of a core. Keeps nothing of its own: links and peers are the core's."""

    def __init__(self, core: MultiMaster) -> None:
        self._core = core

    def connected(self, link: int, dialled: str, now_ms: int, wall_ms: int) -> None:
        """A connection is open; *dialled* is the address if it was us who dialled."""
        core, store = self._core, self._core.local.store
        own = store.own
        policies = {"": store.default.policy} | {name: resolver.policy for name, resolver in store.policies.items()}
        latest = core.local.durable_vector.counter(own.origin) - own.base  # of what the vector below tells
        hello = Hello(
            protocol=PROTOCOL,
            cluster=core.options.cluster,
            name=store.node.name,
            incarnation=store.node.incarnation,
            instance=core.instance,
            address=core.address,  # the map may say otherwise, until we contradict it: that of an earlier life
            nonce=core._rng.getrandbits(128).to_bytes(16),
            vector=to_wire(core.local.durable_vector),
            policies=policies,
            wall_ms=wall_ms,
            hlc=store.hlc.last,
            head_stamp=own.stamps[latest] if latest >= 0 else 0,
            compressions=list(core.options.compressions),
            max_drift_ms=core.limits.max_drift_ms,
            secured=core.options.secret is not None,
            members=[*core.rejoin.admitted_by, *core.local.continues, store.node],
            admitted=core.rejoin.admitted,
            known=[(entry.name, entry.incarnation) for entry in core.members.active()],
            forgotten=core.rejoin.has_forgotten and core.rejoin.is_settled,
        )
        self._core._links[link] = Link(link, dialled, hello, now_ms)
        self._core._send.append(Envelope(link, hello))

    def hello(self, link: Link, theirs: Hello, now_ms: int, wall_ms: int) -> None:
        if link.theirs is not None:
            raise FrameError("a second hello")
        link.theirs = theirs
        refusal = check_hello(link.ours, theirs)
        if refusal is not None:
            if refusal.code == "self":  # a configuration that names all the nodes, us included
                self._core.members.found(theirs.name, link.dialled)
            self._core._refuse(link, refusal)
        elif self._core.options.secret is not None:
            link.proof_due = True
            self._core._send.append(Envelope(link.number, Proof(prove(self._core.options.secret, link.ours, theirs))))
        else:
            self._up(link, now_ms, wall_ms)

    def proof(self, link: Link, message: Proof, now_ms: int, wall_ms: int) -> None:
        if link.theirs is None or not link.proof_due or self._core.options.secret is None:
            raise FrameError("a proof that nobody asked for")
        link.proof_due = False
        if not proven(self._core.options.secret, message.mac, link.theirs, link.ours):
            self._core._refuse(link, Refusal("secret", f"{link.theirs.name!r} does not know the cluster's secret"))
            return
        self._up(link, now_ms, wall_ms)

    def _up(self, link: Link, now_ms: int, wall_ms: int) -> None:
        """The hello is done, and proven: decide whether this is the connection to that peer."""
        theirs = link.theirs
        assert theirs is not None
        link.trusted = True
        node, vector = node_of(theirs), from_wire(theirs.vector)
        peer = self._core.peers.get(theirs.name)
        self._core.rejoin.met(node, (NodeId(*other) for other in theirs.members))
        refusal = self._clash(link, peer, theirs, now_ms) or self._equivocates(theirs) or self._unwanted(theirs)
        if refusal is None and not self._belongs(link, theirs):
            refusal = self._uninvited(link, theirs, now_ms)
        if self._came_too_late(link, theirs) if refusal is None else self._yields(link, theirs, refusal.code):
            self._core.identity.start_over(vector, theirs.name)
            refusal = Refusal("duplicate", f"{link.ours.name!r} starts over as {self._core.local.store.node}")
        if refusal is not None:
            self._core._refuse(link, refusal)
            return
        if peer is None:
            if len(self._core.peers) >= self._core.limits.peers:
                self._core._refuse(
                    link, Refusal("limit", f"{self._core.limits.peers} peers are all that is allowed (limits.peers)")
                )
                return
            detector = FailureDetector(now_ms, self._core.limits.heartbeat_ms)
            peer = self._core.peers[theirs.name] = Peer(theirs.name, node, theirs, link.number, detector)
        elif peer.link is not None and peer.link != link.number:
            old = self._core._links.get(peer.link)
            peer.disconnected()
            self._core.puller.lost(peer)
            if old is not None:
                self._core._refuse(old, Refusal("duplicate", f"another connection to {theirs.name!r} took over"))
        peer.node, peer.hello, peer.link = node, theirs, link.number
        self._core._up = None
        peer.detector.heard(now_ms)
        peer.known = peer.sent = vector
        peer.differences = policy_differences(link.ours, theirs)
        link.peer = peer
        self._core.clocks.heard(peer.name, theirs.wall_ms, now_ms)
        self._core.look_at_clocks(now_ms)
        if acceptable(theirs.hlc, wall_ms, self._core.limits.max_drift_ms):
            self._core.local.store.hlc.observe(theirs.hlc)
        self._come_in(theirs)
        self._core.members.met(node, theirs.address, link.dialled)
        self._core._view_changed()
        self._core.identity.recover(peer.name, vector)
        if not self._core.is_up(link.number):
            return  # we have started over: everybody is greeted anew
        self._core._send.append(Envelope(link.number, self._core.members.message()))
        asks = self._core.transfers.resume(peer) if self._core.puller.pull is None else []
        if asks:
            self._core._send.extend(Envelope(link.number, ask) for ask in asks)
            self._core.puller.resumed(peer, now_ms)
        else:
            self._core.puller.met(peer, now_ms)
        self._core.intake.consider_live(peer, newest=0)

    def _clash(self, link: Link, peer: Peer | None, theirs: Hello, now_ms: int) -> Refusal | None:
        """Two connections to one node: one stays. Two nodes of one name: the one that we hear stays."""
        if peer is None or peer.link is None or peer.link not in self._core._links:
            return None
        if peer.hello.instance == theirs.instance:
            self._core.members.found(theirs.name, link.dialled)
            ours_dials = self._core.members.name < theirs.name  # both sides come to keep the same one
            if bool(link.dialled) == ours_dials:
                return None
            return Refusal("duplicate", f"{self._core.members.name!r} and {theirs.name!r} are connected already")
        if peer.detector.silent_ms(now_ms) < 2 * self._core.limits.heartbeat_ms:
            return Refusal(
                "name-in-use",
                f"a node called {theirs.name!r} is connected from {peer.hello.address or 'elsewhere'}: give each node"
                " a name of its own (or wait until that one is known to be gone)",
            )
        return None

    def _equivocates(self, theirs: Hello) -> Refusal | None:
        """Whether what they say is their latest write is not what we have under that dot."""
        columns = self._core.local.store.log.known(node_of(theirs))
        counter = from_wire(theirs.vector).counter(node_of(theirs))
        if columns is None or not theirs.head_stamp or not columns.base <= counter <= columns.head:
            return None
        ours = columns.stamps[counter - columns.base]
        if not ours or ours == theirs.head_stamp:
            return None
        return Refusal(
            "equivocation",
            f"operation {counter} of {node_of(theirs)} was written at {theirs.head_stamp} as {theirs.name!r} has it and"
            f" at {ours} as {self._core.members.name!r} does: that node runs on an old copy of its store",
        )

    def _unwanted(self, theirs: Hello) -> Refusal | None:
        """
        Whom we were told to keep away.

        Who continues a removed incarnation is as removed as that one: it is no newcomer, and we may have forgotten
        deletions since. Were it one, we who removed it might come to start over for its sake, and lose these.
        """
        if theirs.name in self._core.blocked:
            return Refusal("blocked", f"{self._core.members.name!r} is told to stay apart from {theirs.name!r}")
        if self._core.members.was_removed(theirs.name, lives_of(theirs)):
            return Refusal(
                "removed",
                f"{theirs.name!r} was removed from the cluster: start it with rejoin to come back as a new incarnation",
            )
        return None

    def _belongs(self, link: Link, theirs: Hello) -> bool:
        """
        Whether this is a member, or somebody who was announced.

        Who is expected is welcome with all that it has: while we waited for it, nobody has forgotten anything. But the
        configuration may have come to name somebody since, or we have rejoined a cluster that did not wait for it; then
        it is a stranger as others are.

        A newcomer may meet members of its new cluster before they have heard of it. It names those who hold it for a
        member; one that we know for a member is enough, for without it nobody forgets anything, and it does not do so
        without the newcomer. That it names *us* proves nothing: we would know. And it names the incarnations that it
        continues: with the memory of a member it is that member.
        """
        members, own, rejoin = self._core.members, self._core.local.store.node, self._core.rejoin
        if members.has(node_of(theirs)):
            return True
        if members.expected & {theirs.address, link.dialled} and not rejoin.has_forgotten and not rejoin.wanted_by:
            return True
        return any(members.has(NodeId(*member)) for member in theirs.members if NodeId(*member) != own)

    def _uninvited(self, link: Link, theirs: Hello, now_ms: int) -> Refusal | None:
        """
        A stranger that holds writes which we have not seen has to rejoin (see the design page).

        Unless nothing was ever forgotten here, and nobody is here but us.

        A newcomer asks nobody to rejoin: it has met a member, or was asked to rejoin by one, and will be told in a
        moment who belongs to the cluster. Did it let strangers in before, it had to rejoin again, because of these. But
        into a cluster that has forgotten something, where it has not, it comes itself.
        """
        core = self._core
        alone, vector = core.members.is_alone(theirs.name), from_wire(theirs.vector)
        if core.local.durable_vector.descends(vector):
            return None if alone and not core.rejoin.has_forgotten else self._late(link, theirs)
        if not core.rejoin.admitted and not core.rejoin.has_forgotten:
            waited = now_ms - core.rejoin.born_ms >= GREETING_MS
            if waited or ((alone or theirs.forgotten) and core.rejoin.wanted_by in ("", theirs.name)):
                return None
            return Refusal("early", f"{core.members.name!r} does not know yet who belongs to its cluster")
        if alone and not core.rejoin.has_forgotten:
            return None
        return Refusal(
            "rejoin",
            f"{theirs.name!r} is no member of the cluster of {core.members.name!r} and holds writes that nobody there"
            " has seen",
        )

    def _came_too_late(self, link: Link, theirs: Hello) -> bool:
        """
        Whether we have to rejoin though they let us in: for what we wrote before we ever heard of them.

        They go by our hello, and may hold us for a member since an earlier one, of which we never had the answer. What
        we have written since may be stamped before deletions that are forgotten there, by a clock that is behind. Not
        where they may be about to start over for our sake: if both did, what both had would be gone.
        """
        core, ours, seen = self._core, link.ours, from_wire(theirs.vector)
        if not theirs.forgotten or core.rejoin.is_settled or seen.descends(core.local.store.version):
            return False
        others = any(name not in (ours.name, theirs.name) for name, _ in theirs.known)
        they_stay = ours.name < theirs.name or (theirs.admitted and others)
        return they_stay or (ours.name, ours.incarnation) in theirs.known

    def _come_in(self, theirs: Hello) -> None:
        """
        From where nothing was forgotten to where something was: those whom we have met before stay outside.

        They are strangers there, and as such have to come in by themselves, like anybody of whom we were told only that
        they are expected: among us nothing was forgotten without them, and there it was.
        """
        core = self._core
        if not theirs.forgotten or core.rejoin.has_forgotten:
            return
        inside = {node_of(theirs), *(NodeId(*other) for other in theirs.known)}
        if inside.isdisjoint(core.rejoin.admitted_by):
            core.members.keep(inside)
            text = f"{core.members.name!r} has come into the cluster of {theirs.name!r}: come in by yourself"
            for link in list(core._links.values()):
                if link.peer is not None and link.peer.node not in inside:
                    core._refuse(link, Refusal("early", text))
        core.rejoin.note_forgotten()

    def _yields(self, link: Link, theirs: Hello, code: str) -> bool:
        """
        Whether it is us who rejoin, and not the one that we would refuse.

        Where we are alone and did forget, and it belongs to a cluster, it is us: of two that are alone, the one whose
        name comes first. But one that holds us for a member, as we are now or as one that we continue, would have let
        us in, and does start over when it is asked to: it may be somebody whom we took out, and that does not know it.
        An earlier incarnation that we do not continue is nobody: else two that both lost their memories would refuse
        each other for ever. For the same reason it is us where those who held us for a member are gone; and, where they
        are not and one cluster has come apart into two, where ours is the smaller one, or its last name comes first.
        But only if it has come again unchanged, which shows that it does not rejoin; and of two clusters that have no
        name in common, and of which we were not told either, ours never yields: there somebody has made a mistake.
        """
        if code not in ("rejoin", "removed"):
            return False
        ours, rejoin = link.ours, self._core.rejoin
        times, alone = rejoin.refuse(node_of(theirs)), self._core.members.is_alone(theirs.name)
        if code == "removed":  # by us, whom nobody holds for a member; others hold it for one, and have not heard of it
            return (
                times > PATIENCE
                and not rejoin.admitted
                and any(name not in (ours.name, theirs.name) for name, _ in theirs.members)
            )
        if alone or (times > PATIENCE and not rejoin.admitted):
            holds_us = times <= PATIENCE and not set(theirs.known).isdisjoint(lives_of(ours))
            return theirs.admitted or (theirs.name > ours.name and not holds_us)
        is_one = bool({name for name, _ in ours.known}.intersection(name for name, _ in theirs.known))
        is_one = is_one or bool(self._core.members.expected & {theirs.address, link.dialled})
        if times <= PATIENCE or not theirs.admitted or not theirs.known or not is_one:
            return False
        return (len(ours.known), max(ours.known), ours.name) < (len(theirs.known), max(theirs.known), theirs.name)

    def _late(self, link: Link, theirs: Hello) -> Refusal | None:
        """
        Whether a newcomer's clock is so late that it will not take over ours.

        What it writes would be stamped before deletions that some members have forgotten, and others have not: at these
        it would lose to them, and at those it would live, for ever. A member has had them all, and so its stamps rise
        above theirs, whatever its clock shows.
        """
        ours = link.ours.hlc
        store = self._core.local.store
        if theirs.hlc >= ours or acceptable(ours, theirs.wall_ms, theirs.max_drift_ms):
            return None
        if not store.log.floor() and not store.has_tombstones():
            return None  # nothing was deleted that somebody might have forgotten
        return Refusal(
            "clock",
            f"the clock of {theirs.name!r}, which is no member yet, is {ahead_ms(ours, theirs.wall_ms)} ms behind the"
            f" newest stamp of {self._core.members.name!r}, and it allows for {theirs.max_drift_ms}: set its clock",
        )
