"""
Reception: from an open connection to a peer, and why some become none.

The hello itself is common to both modes (`mmrepl.wire.greeting`). What is asked here beyond it: is it of the cluster
that we belong to, and not of another that was founded under the same name; was it removed; is there a connection to
that node already. Who is no member may be connected all the same: it has to be, to be added.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import define

from mmrepl.effects import Envelope
from mmrepl.errors import FrameError
from mmrepl.single_master.events import MemberChanged
from mmrepl.single_master.options import MODE, MemberState
from mmrepl.types import NodeId
from mmrepl.wire.greeting import QUIET_CODES, Refusal, check_hello, is_answer, node_of, prove, proven, refuse, shown
from mmrepl.wire.messages import PROTOCOL, Hello, Proof, Refuse
from mmrepl.wire.single_master import Alive, Elsewhere

if TYPE_CHECKING:
    from mmrepl.single_master.office import Office

SILENCE_MS = 10_000
"""A connection on which nothing has come for so long is closed; its address is dialled again."""

GREETING_MS = 5_000
"""A connection must have said hello, and proven itself, within so long."""


@define(eq=False)
class Peer:
    """Another node, by name. Outlives its connections."""

    name: str
    node: NodeId
    hello: Hello
    link: int | None
    heard_ms: int
    congested: bool = False  # the connection's buffer is full: no entries are sent until it has drained
    text: str = ""  # why the last connection went


@define(eq=False)
class Link:
    """One connection, up to and after its hello."""

    number: int
    dialled: str
    ours: Hello
    opened_ms: int
    theirs: Hello | None = None
    proof_due: bool = False
    trusted: bool = False
    peer: Peer | None = None


class Reception:
    """The door of a core."""

    def __init__(self, core: Office) -> None:
        self._core = core
        self.links: dict[int, Link] = {}
        self.found_at: dict[str, str] = {}  # addresses that led to a node -> its name
        self._elsewhere: list[str] = []  # where members are, as one of them told us when we were none
        self._up: list[Peer] | None = None  # remembered until a link comes or goes
        self._alive_at_ms = 0  # when we say a word next to those who hear nothing else of us

    # -- connections

    def connected(self, number: int, dialled: str, now_ms: int, wall_ms: int) -> None:
        """Say hello."""
        core = self._core
        hello = Hello(
            protocol=PROTOCOL,
            cluster=core.options.cluster,
            name=core.node.name,
            incarnation=core.node.incarnation,
            instance=core.instance,
            address=core.address,
            nonce=core.rng.getrandbits(128).to_bytes(16),
            vector=[],
            policies={},
            wall_ms=wall_ms,
            hlc=0,
            head_stamp=0,
            compressions=list(core.options.compressions),
            max_drift_ms=core.limits.max_drift_ms,
            secured=core.options.secret is not None,
            members=[],
            admitted=False,
            mode=MODE,
            client=core.options.client,
            founded=core.history.current.founded,
        )
        self.links[number] = Link(number, dialled, hello, now_ms)
        core.send(number, hello)

    def disconnected(self, number: int, reason: str) -> None:
        """Forget a connection."""
        gone = self.links.pop(number, None)
        if gone is None or gone.peer is None or gone.peer.link != number:
            return
        gone.peer.text = reason
        self._lost(gone.peer)
        self._core.notify(MemberChanged(gone.peer.name, MemberState.DISCONNECTED, reason))

    def _lost(self, peer: Peer) -> None:
        peer.link = None
        peer.congested = False
        self._up = None
        if self._core.tenure is not None:
            self._core.tenure.lost(peer.name)

    def refuse(self, link: Link, refusal: Refusal) -> None:
        """Say why, and close."""
        if refusal.code not in QUIET_CODES:
            self._core.complain(f"{refusal.code}: {refusal.text}")
        self._core.envelopes.append(Envelope(link.number, refuse(refusal, link.theirs)))
        self._core.closing.append((link.number, f"{refusal.code}: {refusal.text}"))
        self.disconnected(link.number, refusal.text)

    def refuse_peer(self, peer: Peer, refusal: Refusal) -> None:
        """The same, of a peer's connection."""
        if peer.link in self.links:
            self.refuse(self.links[peer.link], refusal)

    def refused(self, link: Link, message: Refuse) -> None:
        """The other side closes the connection, and says why."""
        text = f"{shown(message.code)[1:-1]}: {shown(message.text, 500)[1:-1]}"
        name = link.theirs.name if link.theirs is not None else link.dialled
        core = self._core
        if message.code == "removed" and is_answer(message, link.ours) and link.trusted and core.removed is None:
            core.was_removed(text)
        core.closing.append((link.number, text))
        self.disconnected(link.number, text)
        if message.code not in QUIET_CODES:
            core.complain(f"{shown(name)} refused us: {text}")

    # -- greeting

    def hello(self, link: Link, theirs: Hello, now_ms: int) -> None:
        """Their hello."""
        if link.theirs is not None:
            raise FrameError("a second hello")
        link.theirs = theirs
        refusal = check_hello(link.ours, theirs)
        if refusal is not None:
            if refusal.code == "self":
                self._found(link.dialled, theirs.name)
            self.refuse(link, refusal)
        elif self._core.options.secret is not None:
            link.proof_due = True
            self._core.send(link.number, Proof(prove(self._core.options.secret, link.ours, theirs)))
        else:
            self._greeted(link, now_ms)

    def proof(self, link: Link, message: Proof, now_ms: int) -> None:
        """Their proof."""
        if link.theirs is None or not link.proof_due or self._core.options.secret is None:
            raise FrameError("a proof that nobody asked for")
        link.proof_due = False
        if not proven(self._core.options.secret, message.mac, link.theirs, link.ours):
            self.refuse(link, Refusal("secret", f"{link.theirs.name!r} does not know the cluster's secret"))
            return
        self._greeted(link, now_ms)

    def _greeted(self, link: Link, now_ms: int) -> None:
        """The hello is done, and proven: decide whether this is the connection to that peer."""
        theirs, core = link.theirs, self._core
        assert theirs is not None
        link.trusted = True
        node = node_of(theirs)
        peer = core.peers.get(theirs.name)
        refusal = self._clash(link, peer, theirs, now_ms) or self._unwanted(theirs)
        if refusal is None and peer is None and len(core.peers) >= core.limits.peers and not self._forget_somebody():
            refusal = Refusal("limit", f"{core.limits.peers} peers are all that is allowed (limits.peers)")
        if refusal is not None:
            self.refuse(link, refusal)
            return
        if peer is None:
            peer = core.peers[theirs.name] = Peer(theirs.name, node, theirs, link.number, now_ms)
        elif peer.link is not None and peer.link != link.number:
            old = self.links.get(peer.link)
            self._lost(peer)
            if old is not None:
                self.refuse(old, Refusal("duplicate", f"another connection to {theirs.name!r} took over"))
        peer.node, peer.hello, peer.link, peer.heard_ms, peer.text = node, theirs, link.number, now_ms, ""
        link.peer = peer
        self._up = None
        for address in (theirs.address, link.dialled):
            self._found(address, theirs.name)
        core.notify(MemberChanged(peer.name, MemberState.CATCHING_UP))
        self._tell_where(peer)
        core.met(peer, now_ms)

    def _tell_where(self, peer: Peer) -> None:
        """A newcomer may have been given our address alone: whoever leads can add only whom it is connected to."""
        core, current = self._core, self._core.history.current
        if current.has(core.node) and not current.has(peer.node):
            core.say(peer.link, Elsewhere(core.term, [self._address_of(m.name, m.address) for m in current.members]))

    def elsewhere(self, message: Elsewhere) -> None:
        """A member says where the others are. Of several who say so the last one counts."""
        self._elsewhere = message.addresses

    def _found(self, address: str, name: str) -> None:
        """An address leads to a node. Of too many the oldest is forgotten: if it is wanted, it is dialled anew."""
        if address:
            self.found_at.pop(address, None)
            self.found_at[address] = name
            if len(self.found_at) > 4 * self._core.limits.peers:
                del self.found_at[next(iter(self.found_at))]

    def _forget_somebody(self) -> bool:
        """Make room for another peer: forget one that is gone, and no member. Returns whether there was one."""
        core = self._core
        for name, peer in core.peers.items():
            if peer.link is None and not core.history.current.has(peer.node):
                del core.peers[name]
                return True
        return False

    def _clash(self, link: Link, peer: Peer | None, theirs: Hello, now_ms: int) -> Refusal | None:
        """Two connections to one node: one stays. Two nodes of one name: the one that we hear stays."""
        if peer is None or peer.link is None or peer.link not in self.links:
            return None
        name = self._core.node.name
        if peer.hello.instance == theirs.instance:
            self._found(link.dialled, theirs.name)
            if bool(link.dialled) == (name < theirs.name):  # both sides come to keep the same one
                return None
            return Refusal("duplicate", f"{name!r} and {theirs.name!r} are connected already")
        if now_ms - peer.heard_ms < 2 * self._core.limits.heartbeat_ms:
            return Refusal(
                "name-in-use",
                f"a node called {theirs.name!r} is connected from {peer.hello.address or 'elsewhere'}: give each node"
                " a name of its own (or wait until that one is known to be gone)",
            )
        return None

    def _unwanted(self, theirs: Hello) -> Refusal | None:
        """Whom we keep away: by order, because it was removed, or because it belongs to another cluster."""
        core, members = self._core, self._core.history.current
        if theirs.name in core.blocked:
            return Refusal("blocked", f"{core.node.name!r} is told to stay apart from {theirs.name!r}")
        if core.members.has_parted_with(node_of(theirs)):
            return Refusal(
                "removed",
                f"{theirs.name!r} was removed from the cluster: to return it has to start with an empty store",
            )
        if members.founded and theirs.founded and members.founded != theirs.founded:
            return Refusal(
                "cluster",
                f"{shown(theirs.name)} and {core.node.name!r} belong to two clusters called {core.options.cluster!r},"
                " each founded by itself: they cannot become one; start one of the nodes with an empty store",
            )
        return None

    # -- looking around

    def up(self) -> list[Peer]:
        """Peers with a connection, in order of their names."""
        if self._up is None:
            self._up = [peer for _, peer in sorted(self._core.peers.items()) if peer.link is not None]
        return self._up

    def tick(self, now_ms: int) -> None:
        """Close what does not say hello, and what is silent; say a word where nobody else does."""
        for link in list(self.links.values()):
            if link.peer is None and now_ms - link.opened_ms > GREETING_MS:
                self.refuse(link, Refusal("protocol", f"no hello within {GREETING_MS} ms"))
        for peer in list(self.up()):
            if now_ms - peer.heard_ms > SILENCE_MS:
                self.refuse_peer(peer, Refusal("silent", f"nothing heard for {SILENCE_MS} ms"))
        if now_ms >= self._alive_at_ms:
            self._alive_at_ms = now_ms + SILENCE_MS // 4
            for peer in self.up():
                if not self._has_heartbeats(peer):
                    self._core.say(peer.link, Alive(self._core.term))

    def _has_heartbeats(self, peer: Peer) -> bool:
        """Whether one of the two leads the other: then they hear each other anyway."""
        core = self._core
        if core.tenure is not None:
            return core.history.current.has(peer.node)
        return peer.name == core.leader and core.history.current.has(core.node)

    def founding(self) -> dict[NodeId, str] | None:
        """
        The first members of a cluster that we could found: we, and the nodes at all expected addresses, connected.

        None when some are missing, or one of them belongs to a cluster already.
        """
        core = self._core
        nodes = {core.node: core.address}
        for address in core.options.expected:
            name = self.found_at.get(address)
            if address == core.address or name == core.node.name:
                continue
            peer = core.peers.get(name) if name is not None else None
            if peer is None or peer.link is None or peer.hello.founded:
                return None
            nodes[peer.node] = peer.hello.address or address
        return nodes

    def wanted_addresses(self) -> list[str]:
        """Where nodes are that this one should be connected to, ourselves and drilled-away ones left out."""
        core = self._core
        if core.removed is not None:
            return []
        found = set(core.options.expected)
        if not core.history.current.has(core.node):
            found.update(self._elsewhere)
        found = {address for address in found if self.found_at.get(address, "") not in core.blocked | {core.node.name}}
        for member in core.history.current.members:
            if member.name != core.node.name and member.name not in core.blocked:
                found.add(self._address_of(member.name, member.address))
        return sorted(found - {core.address, ""})

    def missing_addresses(self) -> list[str]:
        """Of those, where nobody is connected: to be dialled."""
        missing = []
        for address in self.wanted_addresses():
            name = self.found_at.get(address) or self._name_at(address)
            peer = self._core.peers.get(name) if name else None
            if peer is None or peer.link is None:
                missing.append(address)
        return missing

    def _name_at(self, address: str) -> str:
        return next((m.name for m in self._core.history.current.members if m.address == address), "")

    def _address_of(self, name: str, address: str) -> str:
        peer = self._core.peers.get(name)
        return peer.hello.address or address if peer is not None else address

    def check(self) -> None:
        """Assert the invariants."""
        for peer in self._core.peers.values():
            assert peer.link is None or self.links[peer.link].peer is peer
