"""
The hello: is this somebody to talk to?

Both sides say hello first, at once. Each checks the other's: protocol, cluster, identity, clock; then, if the cluster
has a secret, each proves that it knows it, by an HMAC over both hellos, its own first. Nonces make a recorded proof
worthless, the order of the hellos a reflected one. Nothing of a peer is applied before all that.

Both modes of mmrepl greet like this; what a core asks beyond it is its own business.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator

from attrs import frozen

from mmrepl.types import NodeId
from mmrepl.wire.codec import encode
from mmrepl.wire.messages import PROTOCOL, Hello, Refuse


@frozen
class Refusal:
    """Why a connection is closed. *code* is for programs."""

    code: str  # see CODES; or the name of the PeerError that was raised
    text: str


CODES = (
    "protocol", "cluster", "mode", "secret", "self", "name-in-use", "duplicate", "limit", "blocked", "silent",
    "rejoin",  # you are no member, and hold writes that nobody here has seen: start over, keeping them
    "early",  # I am new here, and do not know yet who belongs to the cluster: come back in a moment
    "clock",  # you are new here, and your clock is too late for what you write to come after what was deleted here
    "equivocation",  # you run on an old copy of your store: start over, keeping what you wrote since
    "removed",  # you were taken out of the cluster
    "leaving",  # I was, or am going
)  # fmt: skip
"""What refusals are called."""

QUIET_CODES = ("duplicate", "self", "early", "leaving")
"""Refusals that are nobody's fault, and of which status says nothing."""

NAME_BYTES = 1024
"""The longest name of a node."""


def shown(text: str, most: int = 80) -> str:
    """A peer's text for people: quoted, without anything that a terminal would obey, and not longer than that."""
    return repr(text if len(text) <= most else text[:most] + "…")


def check_hello(ours: Hello, theirs: Hello) -> Refusal | None:
    """What is wrong with a hello, as far as the two alone can tell; None when nothing is."""
    name = shown(theirs.name)
    if theirs.protocol != PROTOCOL:
        return Refusal(
            "protocol",
            f"{name} speaks version {theirs.protocol} of the protocol, {ours.name!r} version {PROTOCOL}:"
            " bring both to one version of mmrepl",
        )
    if theirs.cluster != ours.cluster:
        return Refusal(
            "cluster", f"{name} belongs to cluster {shown(theirs.cluster)}, {ours.name!r} to cluster {ours.cluster!r}"
        )
    if theirs.mode != ours.mode:
        return Refusal(
            "mode", f"{name} runs in mode {shown(theirs.mode)}, {ours.name!r} in mode {ours.mode!r}: a cluster has one"
        )
    if theirs.secured != ours.secured:
        which = name if theirs.secured else repr(ours.name)
        return Refusal("secret", f"{which} asks for a cluster secret and the other side has none")
    if theirs.name == ours.name:
        if theirs.instance == ours.instance:
            return Refusal("self", f"{ours.name!r} has reached itself")
        return Refusal("name-in-use", f"two nodes are called {ours.name!r}: give each a name of its own")
    if not 0 < len(theirs.name.encode()) <= NAME_BYTES or len(theirs.address) > NAME_BYTES:
        return Refusal("protocol", f"a hello without a name, or with one longer than {NAME_BYTES} bytes: {name}")
    if len(theirs.nonce) != 16 or not 0 <= theirs.incarnation < 1 << 63:
        return Refusal("protocol", f"a hello of {name} without a nonce or an incarnation")
    return None


def refuse(refusal: Refusal, theirs: Hello | None) -> Refuse:
    """What is said before the connection is closed. It names the hello that it answers, if there was one."""
    return Refuse(refusal.code, refusal.text, theirs.nonce if theirs is not None else b"")


def is_answer(message: Refuse, ours: Hello) -> bool:
    """Whether it answers our hello, and not one of who we were before, carried a second time by the network."""
    return message.nonce == ours.nonce


def prove(secret: bytes, prover: Hello, other: Hello) -> bytes:
    """The proof that *prover* knows the secret, for *other*."""
    return hmac.digest(secret, b"mmrepl hello" + encode(prover)[1] + encode(other)[1], "sha256")


def proven(secret: bytes, mac: bytes, prover: Hello, other: Hello) -> bool:
    """Whether *mac* is that proof. Takes the same time whatever it is."""
    return hmac.compare_digest(prove(secret, prover, other), mac)


def node_of(hello: Hello) -> NodeId:
    """Who said hello."""
    return NodeId(hello.name, hello.incarnation)


def lives_of(hello: Hello) -> Iterator[NodeId]:
    """Who said hello, and the incarnations of it whose memory it has."""
    yield node_of(hello)
    yield from (NodeId(*node) for node in hello.members if node[0] == hello.name)
