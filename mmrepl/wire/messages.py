"""
What nodes say to each other: eleven small messages.

    Hello      who I am, what I speak, what I have; the first thing on a connection, from both sides
    Proof      that I know the cluster's secret, without saying it
    Refuse     why I close the connection
    Delta      operations, and the version vector that they stand on (law L4)
    Digest     what I have; perhaps: and I want what I lack
    Ask        send me a snapshot, or go on with the one that broke off
    Snapshot   a chunk of live operations, under the clock taken before the first one (law L8)
    Prune      do not push operations of these origins to me, somebody else does (Plumtree, Leitao et al. 2007)
    Members    who belongs to the cluster, as far as I know
    Acks       what other members have told me that they have, for those who do not hear it themselves
    Leave      I go for good: do not wait for me

A vector travels as (name, incarnation, counter) triples in order. The encoding of each is MessagePack by msgspec,
decoded and typed in one call; `mmrepl.wire.codec` has the numbers. What nodes say in the other mode is in
`mmrepl.wire.single_master`; hello, proof and refuse they have in common.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from mmrepl.causality.dot import COUNTER_MAX
from mmrepl.causality.version_vector import VersionVector
from mmrepl.errors import FrameError
from mmrepl.log.batch import Batch
from mmrepl.types import NodeId
from mmrepl.wire.single_master import SingleMasterMessage

PROTOCOL = 1
"""Version of the protocol. Nodes of different versions tell each other so and part."""

Vector: TypeAlias = list[tuple[str, int, int]]


class Hello(msgspec.Struct, array_like=True, frozen=True):
    """The first message of either side."""

    protocol: int
    cluster: str
    name: str
    incarnation: int
    instance: int  # 63 random bits of this run of the process: tells a second connection from a second node
    address: str  # where this node accepts peers; empty if nowhere
    nonce: bytes  # 16 random bytes; the other side's Proof is made over them
    vector: Vector  # what is durable here
    policies: dict[str, str]  # table -> policy; the default under ""
    wall_ms: int  # our wall clock
    hlc: int  # the highest stamp seen here: what the receiver writes from now on orders after all that
    head_stamp: int  # stamp of our own latest write; 0 if there is none: one dot must have one content
    compressions: list[str]  # what we can read, in order of preference
    max_drift_ms: int  # how far ahead a stamp may be for us
    secured: bool  # whether a Proof follows and one is wanted
    members: list[tuple[str, int]]  # the sender, whom else it continues, and who holds it for a member of the cluster
    admitted: bool  # whether some other member has said that the sender, in this incarnation, is one
    mode: str = "multi-master"  # or "single-master": nodes of two modes part
    client: str = ""  # where this node serves clients, for redirecting them; empty if nowhere
    founded: int = 0  # single-master: drawn when the cluster was founded; 0: not founded as far as we know
    known: list[tuple[str, int]] = []  # multi-master: all the members of whom the sender knows, itself included
    forgotten: bool = False  # multi-master: whether the sender belongs to a cluster that has forgotten deletions


class Proof(msgspec.Struct, array_like=True, frozen=True):
    """HMAC-SHA256 under the cluster's secret over both hellos, the prover's first."""

    mac: bytes


class Refuse(msgspec.Struct, array_like=True, frozen=True):
    """The connection is about to be closed. *code* is for programs: see `mmrepl.wire.greeting`."""

    code: str
    text: str
    nonce: bytes = b""  # of the hello that it answers: what is kept for good is believed of no earlier one


class Delta(msgspec.Struct, array_like=True, frozen=True):
    """Operations in the sender's log order. A receiver that lacks some of *assumes* applies nothing."""

    assumes: Vector
    batch: Batch
    ack: bool = False  # somebody waits: answer with a Digest as soon as it is durable


class Digest(msgspec.Struct, array_like=True, frozen=True):
    """What is durable at the sender. With *want*, the receiver sends what the sender lacks."""

    vector: Vector
    view: int  # hash of the sender's view of the members; acknowledgements count only under one view
    wall_ms: int
    want: bool = False
    needs_acks: bool = False  # the sender is not connected to every member, and asks for Acks


class Ask(msgspec.Struct, array_like=True, frozen=True):
    """Begin a snapshot (empty id), or go on with one from chunk *index* on."""

    id: str
    index: int


class Snapshot(msgspec.Struct, array_like=True, frozen=True):
    """Chunk *index* of *count*. The clock is repeated in each, so that any of them can be the first to arrive."""

    id: str
    index: int
    count: int
    clock: Vector
    batch: Batch


class Prune(msgspec.Struct, array_like=True, frozen=True):
    """Origins that reach the sender by another way."""

    origins: list[tuple[str, int]]


class MemberEntry(msgspec.Struct, array_like=True, frozen=True):
    """What is known of one member; the higher *edit* wins, then the larger entry."""

    name: str
    incarnation: int  # 0: expected at this address, not met yet
    address: str
    edit: int
    removed: bool


class Members(msgspec.Struct, array_like=True, frozen=True):
    """The whole list."""

    entries: list[MemberEntry]


class Acks(msgspec.Struct, array_like=True, frozen=True):
    """(member, what it said is durable there, the view under which it said so)."""

    entries: list[tuple[str, Vector, int]]


class Leave(msgspec.Struct, array_like=True, frozen=True):
    """The sender leaves the cluster for good. What it wrote stays."""

    text: str


MultiMasterMessage: TypeAlias = (
    Hello | Proof | Refuse | Delta | Digest | Ask | Snapshot | Prune | Members | Acks | Leave
)

Message: TypeAlias = MultiMasterMessage | SingleMasterMessage


_new = tuple.__new__


def to_wire(vector: VersionVector) -> Vector:
    """A version vector as it travels."""
    return [(*origin, counter) for origin, counter in sorted(vector.counters.items())]


def from_wire(vector: Vector) -> VersionVector:
    """The inverse of `to_wire`. Raises FrameError for entries out of range."""
    counters: dict[NodeId, int] = {}
    for name, incarnation, counter in vector:
        if not name or not 0 <= incarnation < 1 << 63 or not 0 <= counter <= COUNTER_MAX:
            raise FrameError(f"a vector with the entry ({name[:80]!r}, {incarnation}, {counter})")
        if counter:
            counters[_new(NodeId, (name, incarnation))] = counter  # as `NodeId(…)`, at half the cost
    return VersionVector.unchecked(counters)
