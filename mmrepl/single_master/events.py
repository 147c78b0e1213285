"""
What a single-master core tells its host, in order, in ``Effects.notify``.

Each verb that takes a *token* is answered by exactly one event that carries it, unless `stop_waiting` came first.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec
from attrs import frozen

from mmrepl.errors import MmreplError
from mmrepl.single_master.options import MemberState, Role


class Answered(msgspec.Struct, frozen=True):
    """
    A write is acknowledged as it was asked to be, and stands at *index*. A struct: there is one for each write.

    Of the opening of a client session, *index* is the session's number. *applied* is false where a condition did not
    hold, so that nothing was changed; it is meant only for writes with a condition or a session.
    """

    token: object
    index: int
    applied: bool = True


@frozen
class Failed:
    """What was asked did not come to pass, or nobody can tell: see ``error.definite``."""

    token: object
    error: MmreplError


@frozen
class ReadReady:
    """The read may be served now, from what this node has applied: *index* or more."""

    token: object
    index: int


@frozen
class Promoted:
    """This node is the primary of *term* now. *lost* tells what is known to be cut off at others, by name: entries."""

    token: object
    term: int
    lost: dict[str, int]


@frozen
class Transferred:
    """*name* is the leader of *term* now."""

    token: object
    name: str
    term: int


@frozen
class Merged:
    """A branch is merged, and gone. *written* keys were written, *skipped* needed nothing."""

    token: object
    branch: str
    written: int
    skipped: int


@frozen
class RoleChanged:
    """What this node is, in which term, and who takes writes: empty while that is not known."""

    role: Role
    term: int
    leader: str
    text: str = ""


@frozen
class MemberChanged:
    """A peer's connection came or went, or it caught up or fell behind. *text* says why it went."""

    name: str
    state: MemberState
    text: str = ""


@frozen
class MembersChanged:
    """The members are others since the entry at *index*."""

    index: int
    voters: tuple[str, ...]
    learners: tuple[str, ...]


@frozen
class BranchKept:
    """Entries were cut off our log, because the primary's has others there; kept until merged or dropped."""

    branch: str
    writes: int


@frozen
class BranchDropped:
    """A branch went because there were too many (``branches_max``)."""

    branch: str
    writes: int


@frozen
class Installed:
    """The state was replaced by a snapshot after entry *index*."""

    index: int


class Applied(msgspec.Struct, frozen=True):
    """Everything up to *index* has been applied since the last turn. At most one a turn: a struct, as `Answered`."""

    index: int
    is_routine: ClassVar[bool] = True
