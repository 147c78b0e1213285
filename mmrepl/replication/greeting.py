"""
The hello: is this somebody to talk to?

Both sides say hello first, at once. Each checks the other's: protocol, cluster, identity, clock; then, if the cluster
has a secret, each proves that it knows it, by an HMAC over both hellos, its own first. Nonces make a recorded proof
worthless, the order of the hellos a reflected one. Nothing of a peer is applied before all that.
"""

from __future__ import annotations

import hmac

from attrs import frozen

from mmrepl.types import NodeId
from mmrepl.wire.codec import encode
from mmrepl.wire.messages import PROTOCOL, Hello


@frozen
class Refusal:
    """Why a connection is closed. *code* is for programs."""

    code: str  # protocol, cluster, secret, self, name-in-use, duplicate, rejoin, removed, equivocation, drift, limit
    text: str


def check_hello(ours: Hello, theirs: Hello) -> Refusal | None:
    """What is wrong with a hello, as far as the two alone can tell; None when nothing is."""
    if theirs.protocol != PROTOCOL:
        return Refusal(
            "protocol",
            f"{theirs.name!r} speaks version {theirs.protocol} of the protocol, {ours.name!r} version {PROTOCOL}:"
            " bring both to one version of mmrepl",
        )
    if theirs.cluster != ours.cluster:
        return Refusal(
            "cluster",
            f"{theirs.name!r} belongs to cluster {theirs.cluster!r}, {ours.name!r} to cluster {ours.cluster!r}",
        )
    if theirs.secured != ours.secured:
        which = theirs if theirs.secured else ours
        return Refusal("secret", f"{which.name!r} asks for a cluster secret and the other side has none")
    if theirs.name == ours.name:
        if theirs.instance == ours.instance:
            return Refusal("self", f"{ours.name!r} has reached itself")
        return Refusal("name-in-use", f"two nodes are called {ours.name!r}: give each a name of its own")
    if not theirs.name or len(theirs.nonce) != 16 or not 0 <= theirs.incarnation < 1 << 63:
        return Refusal("protocol", "a hello without a name, nonce or incarnation")
    return None


def prove(secret: bytes, prover: Hello, other: Hello) -> bytes:
    """The proof that *prover* knows the secret, for *other*."""
    return hmac.digest(secret, b"mmrepl hello" + encode(prover)[1] + encode(other)[1], "sha256")


def proven(secret: bytes, mac: bytes, prover: Hello, other: Hello) -> bool:
    """Whether *mac* is that proof. Takes the same time whatever it is."""
    return hmac.compare_digest(prove(secret, prover, other), mac)


def policy_differences(ours: Hello, theirs: Hello) -> list[str]:
    """Tables whose policies do not agree: what they show differs for ever. A sentence each; default under ''."""
    found = []
    for table in sorted(ours.policies.keys() | theirs.policies.keys()):
        here = ours.policies.get(table, ours.policies.get("", ""))
        there = theirs.policies.get(table, theirs.policies.get("", ""))
        if here != there:
            found.append(f"table {table!r} is {here} at {ours.name!r} and {there} at {theirs.name!r}")
    return found


def node_of(hello: Hello) -> NodeId:
    """Who said hello."""
    return NodeId(hello.name, hello.incarnation)
