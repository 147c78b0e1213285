"""
The knobs of a single-master node: who may raise the term, when a write is answered, how much waits and is kept.

Failover, acknowledgement and the bounds of sessions should be the same at all members; nothing breaks when they are
not, for the primary's count and what the state depends on is written into the log.
"""

from __future__ import annotations

import enum
from typing import TypeAlias

from attrs import Attribute, field, frozen, validators

from mmrepl.errors import UsageError
from mmrepl.ports import Durability

Ack: TypeAlias = int | str
"""``"async"`` (or 0), a number of replicas, ``"one"``, ``"quorum"`` or ``"all"``."""

MODE = "single-master"
"""As the hello says it."""


class Failover(enum.Enum):
    """Who may raise the term."""

    AUTOMATIC = "automatic"  # an election, when the leader is not heard of
    MANUAL = "manual"  # an operator, by ``promote``


class Role(enum.Enum):
    """What a node is at the moment. The first three with elections, the others without."""

    LEADER = "leader"
    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    PRIMARY = "primary"
    REPLICA = "replica"


class ReadLevel(enum.Enum):
    """How new a read has to be."""

    LOCAL = "local"  # whatever this node has applied
    BOUNDED = "bounded"  # not further behind than so many entries or milliseconds
    LEADER = "leader"  # at the leader, under its lease. HAZARD: see `mmrepl.single_master.reads`
    LINEARIZABLE = "linearizable"  # everything acknowledged before the read began


class MemberState(enum.Enum):
    """Of another member, as status shows it."""

    DISCONNECTED = "disconnected"  # no connection
    CONNECTING = "connecting"  # a connection, its hello not done
    CATCHING_UP = "catching up"  # it lacks more than what is on its way
    LIVE = "live"  # it gets entries as they become durable, and confirms them
    FAILING = "failing"  # connected, and silent for longer than an election timeout


def parse_ack(ack: Ack) -> Ack:
    """A checked acknowledgement level: ``"quorum"``, ``"all"`` or a number of replicas. Raises UsageError."""
    if ack == "async":
        return 0
    if ack == "one":
        return 1
    if ack in {"quorum", "all"} or (type(ack) is int and 0 <= ack <= 256):
        return ack
    raise UsageError(f"ack must be 'async', 'one', 'quorum', 'all' or a number of replicas, not {ack!r}")


def _longer_than_heartbeat(options: Options, attribute: Attribute[int], value: int) -> None:
    if value < 2 * options.heartbeat_ms:
        raise ValueError(f"{attribute.name} must be at least twice heartbeat_ms, {options.heartbeat_ms}, not {value}")


@frozen(kw_only=True)
class Options:
    """What a node is told at its start. Times are milliseconds."""

    cluster: str = "default"
    address: str = ""  # where peers reach this node
    client: str = ""  # where clients do; told to those who write elsewhere
    expected: tuple[str, ...] = ()  # addresses of peers: the first members of a new cluster, all of them
    secret: bytes | None = None
    compressions: tuple[str, ...] = ()  # what this host can read, in order of preference
    durability: Durability = Durability.SYNC

    failover: Failover = field(default=Failover.AUTOMATIC, converter=Failover)
    primary: bool = False  # manual: make this node the first primary of a new cluster
    ack: Ack = field(default="quorum", converter=parse_ack)  # where a write does not say
    ack_timeout_ms: int = field(default=10_000, validator=validators.ge(1))  # then a write is indefinite
    read_timeout_ms: int = field(default=5_000, validator=validators.ge(1))  # then a read, promotion or transfer fails

    heartbeat_ms: int = field(default=100, validator=validators.ge(1))
    election_ms_min: int = field(default=1_000, validator=_longer_than_heartbeat)
    election_ms_max: int = field(default=2_000, validator=_longer_than_heartbeat)

    pending_max: int = field(default=65_536, validator=validators.ge(1))  # writes and reads that wait, each
    append_entries: int = field(default=4_096, validator=validators.ge(1))  # in one message
    inflight_messages: int = field(default=64, validator=validators.ge(1))  # to a member, not yet answered
    inflight_bytes: int = field(default=8 * 1024 * 1024, validator=validators.ge(1))

    log_entries: int = field(default=100_000, validator=validators.ge(1))  # the log is cut when it has more
    log_bytes: int = field(default=64 * 1024 * 1024, validator=validators.ge(1))  # or is larger
    log_margin: int = field(default=10_000, validator=validators.ge(0))  # entries that a cut leaves for the slow

    sessions_max: int = field(default=10_000, validator=validators.ge(1))  # client sessions that are remembered
    session_ms: int = field(default=3_600_000, validator=validators.ge(1))  # and for how long when not used
    branches_max: int = field(default=64, validator=validators.ge(1))  # that are kept; the oldest goes
