"""
What nodes say to each other in the single-master mode, after the hello: thirteen more messages.

    Append        the leader or primary: here are entries that follow on this one; without any it is a heartbeat
    Appended      how far the sender's disk holds the log of that term, or where the two logs part
    Campaign      I would be the leader: of you, a vote; or, as a survey, only whether you would give it
    Vote          the answer, and how far the voter's log goes
    TakeOver      the leader to its successor: campaign now
    Chunk         a piece of a snapshot
    ChunkWanted   which piece is wanted next
    ReadAsk       a follower: up to which index has a read to wait?
    ReadAnswer    the leader, once a quorum has confirmed that it is the leader
    Submit        a node that is not the primary: append these, they come from a branch that I keep
    Submitted     where they stand in the log, or why they do not
    Alive         I am here; between nodes that have nothing else to say to each other
    Elsewhere     to a node that is no member: the members are there

Each carries the sender's term; one that is higher than the receiver's ends the receiver's leadership. Entries are
bodies, encoded by whoever appended them first and never again (`mmrepl.single_master.entry`), and runs that say how
many of them have which term. The numbers on the wire are in `mmrepl.wire.codec`.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec

from mmrepl.errors import FrameError
from mmrepl.types import Limits

INDEX_MAX: Final = 1 << 62
"""No log, and no term, goes further."""

ADDRESS_BYTES: Final = 1024
"""No address is longer."""

OVERHEAD_BYTES: Final = 256
"""So much longer than table, key and value the body of an entry may be."""

Runs: TypeAlias = list[tuple[int, int]]
"""(term, how many entries of it), in order."""


class Append(msgspec.Struct, array_like=True, frozen=True):
    """Entries after (*prev_index*, *prev_term*). A receiver that lacks that one takes nothing and says so."""

    term: int
    round: int  # of the heartbeat that this is part of; the receiver echoes it
    prev_index: int
    prev_term: int
    commit: int  # how far the sender has committed
    runs: Runs
    bodies: list[bytes]


class Appended(msgspec.Struct, array_like=True, frozen=True):
    """
    The answer. With *ok*, the sender's disk holds the log of this term up to *match*.

    Without, (*match*, *hint_term*) is an entry of the sender's at which the logs may agree, the latest that it knows.
    """

    term: int
    round: int
    ok: bool
    match: int
    hint_term: int = 0
    reset: bool = False  # the logs part before something that the sender has applied: only a snapshot helps


class Campaign(msgspec.Struct, array_like=True, frozen=True):
    """A request for votes. As a *survey* it binds nobody: the pre-vote, or the question before a promotion."""

    term: int  # that the sender has or, in a survey, would have
    last_index: int
    last_term: int
    survey: bool
    transfer: bool  # the leader has asked for it, or the operator: a living leader is no reason to refuse
    founding: list[tuple[str, int]]  # of a cluster that is not founded yet: all its first members
    id: int = 0  # of this campaign; the answer repeats it


class Vote(msgspec.Struct, array_like=True, frozen=True):
    """The answer to a Campaign, with the last entry of the voter's log."""

    term: int
    survey: bool
    granted: bool
    last_index: int
    last_term: int
    reason: str  # why not, for people
    id: int = 0


class TakeOver(msgspec.Struct, array_like=True, frozen=True):
    """Campaign now, without asking first."""

    term: int


class Chunk(msgspec.Struct, array_like=True, frozen=True):
    """Piece *number* of *count* of the state after entry (*index*, *index_term*). The first holds the head."""

    term: int
    round: int
    id: int  # of this snapshot; another one of the same index may be cut into other pieces
    index: int
    index_term: int
    number: int
    count: int
    body: bytes


class ChunkWanted(msgspec.Struct, array_like=True, frozen=True):
    """Send piece *number* of that snapshot next."""

    term: int
    round: int
    id: int
    number: int


class ReadAsk(msgspec.Struct, array_like=True, frozen=True):
    """May a read be served, and once what is applied?"""

    term: int
    id: int


class ReadAnswer(msgspec.Struct, array_like=True, frozen=True):
    """When *index* is applied. Negative: not here, ask another."""

    term: int
    id: int
    index: int


class Submit(msgspec.Struct, array_like=True, frozen=True):
    """Append these."""

    term: int
    id: int
    bodies: list[bytes]


class Submitted(msgspec.Struct, array_like=True, frozen=True):
    """They end at (*last*, *term*). With a *refusal* nothing was appended."""

    term: int
    id: int
    last: int
    refusal: str = ""


class Alive(msgspec.Struct, array_like=True, frozen=True):
    """The sender is here. Two followers have no heartbeats between them."""

    term: int


class Elsewhere(msgspec.Struct, array_like=True, frozen=True):
    """Addresses of members. Who is to become one has to be connected to the leader, whoever that is by then."""

    term: int
    addresses: list[str]


SingleMasterMessage: TypeAlias = (
    Append | Appended | Campaign | Vote | TakeOver | Chunk | ChunkWanted | ReadAsk | ReadAnswer | Submit | Submitted
    | Alive | Elsewhere
)  # fmt: skip

SINGLE_MASTER_NUMBERS: Final[dict[Any, int]] = {
    Append: 32,
    Appended: 33,
    Campaign: 34,
    Vote: 35,
    TakeOver: 36,
    Chunk: 37,
    ChunkWanted: 38,
    ReadAsk: 39,
    ReadAnswer: 40,
    Submit: 41,
    Submitted: 42,
    Alive: 43,
    Elsewhere: 44,
}
"""The number of each message on the wire; part of the protocol."""


def check_message(message: SingleMasterMessage, limits: Limits) -> None:
    """Refuse what no node of ours would say. What is inside the bodies is judged by whoever appends them."""
    if not 0 <= message.term < INDEX_MAX:
        raise FrameError(f"a message of term {message.term}")
    if isinstance(message, Append):
        _check_place(message.prev_index, message.prev_term)
        _check_place(message.commit, message.round)
        _check_bodies(message.bodies, limits)
        if sum(count for _, count in message.runs) != len(message.bodies):
            raise FrameError(f"{len(message.bodies)} entries, and runs {message.runs[:8]} that tell of others")
        before = message.prev_term
        for term, count in message.runs:
            if not before <= term <= message.term or count < 1:
                raise FrameError(f"{count} entries of term {term} after term {before}, from term {message.term}")
            before = term
    elif isinstance(message, Appended):
        _check_place(message.match, message.hint_term)
        _check_place(message.round, 0)
    elif isinstance(message, Campaign | Vote):
        _check_place(message.last_index, message.last_term)
        if isinstance(message, Campaign) and len(message.founding) > limits.peers:
            raise FrameError(f"{len(message.founding)} first members: at most {limits.peers} (limits.peers)")
    elif isinstance(message, Chunk):
        _check_place(message.index, message.index_term)
        if not 0 <= message.number < message.count < INDEX_MAX:
            raise FrameError(f"chunk {message.number} of {message.count}")
    elif isinstance(message, Submit):
        _check_bodies(message.bodies, limits)
    elif isinstance(message, Elsewhere):
        if len(message.addresses) > limits.peers:
            raise FrameError(f"{len(message.addresses)} addresses of members: at most {limits.peers} (limits.peers)")
        if any(len(address) > ADDRESS_BYTES for address in message.addresses):
            raise FrameError(f"an address of more than {ADDRESS_BYTES} characters")


def _check_place(index: int, term: int) -> None:
    if not 0 <= index < INDEX_MAX or not 0 <= term < INDEX_MAX:
        raise FrameError(f"an entry at index {index} of term {term}")


def _check_bodies(bodies: list[bytes], limits: Limits) -> None:
    if len(bodies) > limits.frame_operations:
        raise FrameError(
            f"{len(bodies)} entries in a frame: at most {limits.frame_operations} (limits.frame_operations)"
        )
    longest = 2 * limits.key_bytes + limits.value_bytes + OVERHEAD_BYTES
    if bodies and max(map(len, bodies)) > longest:
        raise FrameError(f"an entry of {max(map(len, bodies))} bytes: at most {longest} (limits.value_bytes)")
