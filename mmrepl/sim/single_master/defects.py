"""
Planted defects of the single-master mode, in the manner of `mmrepl.sim.defects`.

Most break one sentence of the Raft paper; the others break what manual failover, branches, sessions and snapshots
promise beside it. The table says in which mode each is hunted: some rules hold in one of them only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from mmrepl.sim.hunt import Defect, Patch
from mmrepl.single_master import election as election_module
from mmrepl.single_master import promotion as promotion_module
from mmrepl.single_master import quorum
from mmrepl.single_master.changing import LogKeeper
from mmrepl.single_master.configuration import Configuration
from mmrepl.single_master.election import Election
from mmrepl.single_master.entry_log import EntryLog
from mmrepl.single_master.following import Following
from mmrepl.single_master.journal import Journal
from mmrepl.single_master.office import Office
from mmrepl.single_master.promotion import Promotion
from mmrepl.single_master.reads import Reads
from mmrepl.single_master.replication import Tenure
from mmrepl.single_master.serving import Serving
from mmrepl.single_master.state import Session, State

AUTOMATIC: dict[str, Defect] = {}
MANUAL: dict[str, Defect] = {}
BOTH = (AUTOMATIC, MANUAL)


def _defect(modes: tuple[dict[str, Defect], ...], name: str, text: str, *patches: Patch) -> None:
    for mode in modes:
        mode[name] = Defect(name, text, patches)


def _always(value: Any) -> Callable[[Any], Any]:
    return lambda _before: lambda *_arguments, **_options: value


# -- votes and terms


_defect(
    (AUTOMATIC,),
    "vote not persisted",
    "term and vote are not on disk: after a restart they are given once more",
    (LogKeeper, "note_hard", _always(None)),
)


def _vote_twice(before: Any) -> Any:
    def asked(self: Election, peer: Any, message: Any, now_ms: int) -> None:
        if not message.survey and message.term == self._core.term and self._core.tenure is None:
            self._core.vote = ""
        before(self, peer, message, now_ms)

    return asked


_defect((AUTOMATIC,), "vote given twice", "a vote is given to whoever asks", (Election, "asked", _vote_twice))
_defect(
    (AUTOMATIC,),
    "vote for a candidate that is behind",
    "a vote is given whatever the candidate's log holds",
    (EntryLog, "up_to_date", _always(value=True)),
)
_defect(
    (AUTOMATIC,),
    "half is a quorum",
    "of an even number of voters half are enough",
    (quorum, "majority", lambda _before: lambda count: max(1, count // 2)),
)


def _survey_raises(before: Any) -> Any:
    def asked(self: Election, peer: Any, message: Any, now_ms: int) -> None:
        if message.survey and message.term > self._core.term:
            self._core.step_down(message.term, f"{peer.name!r} asks")
        before(self, peer, message, now_ms)

    return asked


_defect(
    (AUTOMATIC,),
    "pre-vote that raises terms",
    "whoever is asked whether a campaign would be won enters its term",
    (Election, "asked", _survey_raises),
)


# -- committing


def _by_counting(_before: Any) -> Any:
    def advance(self: Tenure) -> None:
        core = self._core
        self._heard = False
        self._confirm_rounds()
        core.committed = max(core.committed, quorum.reached(core.history.current.sets, self.match))

    return advance


_defect(
    (AUTOMATIC,),
    "older term's entry committed by counting",
    "an entry is committed when a quorum holds it, whatever its term (figure 8)",
    (Tenure, "advance", _by_counting),
)
_defect(
    (AUTOMATIC,),
    "overlapping majorities",
    "while voters are exchanged the old ones are not asked",
    (Configuration, "sets", lambda _before: property(lambda self: (self.voters,))),
)
_defect(
    (AUTOMATIC,),
    "acknowledged by the fastest",
    "an entry is committed when a single voter holds it",
    (quorum, "reached", lambda _before: lambda sets, value: max(value(name) for voters in sets for name in voters)),
)


# -- disks


def _confirm_early(before: Any) -> Any:
    def confirm(self: Following) -> None:
        journal = self._core.journal
        durable, journal._durable = journal._durable, journal.log.last
        try:
            before(self)
        finally:
            journal._durable = durable

    return confirm


_defect(
    BOTH,
    "confirmed before it is on disk",
    "a follower confirms what it holds in memory",
    (Following, "confirm", _confirm_early),
)


_defect(
    (AUTOMATIC,),
    "sent and counted before it is on disk",
    "a leader sends and counts its own log as it is in memory, and so do its followers",
    (Journal, "durable", lambda _before: property(lambda self: self.log.last)),
)
_defect(
    (AUTOMATIC,),
    "vote said before it is on disk",
    "answers do not wait for the commit that makes them true",
    (Office, "say", lambda _before: Office.send),
)
_defect(
    (AUTOMATIC,),
    "cut off and still durable",
    "what was cut off and written anew counts as durable as soon as the old was",
    (Journal, "truncated", _always(None)),
)


# -- the log


def _whatever_stands_before(before: Any) -> Any:
    def append(self: Following, peer: Any, message: Any, now_ms: int, wall_ms: int) -> None:
        log = self._core.log
        if log.start <= message.prev_index <= log.last:
            message = msgspec.structs.replace(message, prev_term=log.term_at(message.prev_index))
        before(self, peer, message, now_ms, wall_ms)

    return append


_defect(
    (AUTOMATIC,),
    "entry before not checked",
    "a follower takes entries whatever they stand on",
    (Following, "append", _whatever_stands_before),
)


def _replace_longer(before: Any) -> Any:
    def chunk(self: Following, peer: Any, message: Any, wall_ms: int) -> None:
        core = self._core
        committed, core.committed, self.verified = core.committed, 0, 0
        before(self, peer, message, wall_ms)
        core.committed = max(core.committed, 0 if core.applied < committed else committed)

    return chunk


_defect(
    (AUTOMATIC,),
    "snapshot over a longer log",
    "a snapshot is installed without a look at what is there",
    (EntryLog, "has", _always(value=False)),
    (Following, "chunk", _replace_longer),
)


# -- reads


def _lease_for_ever(_before: Any) -> Any:
    return lambda self, _now_ms: self.has_committed


_defect(
    (AUTOMATIC,),
    "lease read without a quorum",
    "a leader believes to have the lease for as long as it leads",
    (Tenure, "has_lease", _lease_for_ever),
    (Tenure, "tick", lambda _before: lambda self, now_ms: self.shipping.tick(now_ms) or True),
)


def _lease_kept(before: Any) -> Any:
    def has_lease(self: Tenure, now_ms: int) -> bool:
        self.lease_is_given_up = False
        return bool(before(self, now_ms))

    return has_lease


_defect(
    (AUTOMATIC,),
    "lease kept at a transfer",
    "who has told its successor to take over serves reads under its lease",
    (Tenure, "has_lease", _lease_kept),
)


def _no_round(before: Any) -> Any:
    def begin_round(self: Reads, now_ms: int) -> None:
        before(self, now_ms)
        for read in self._confirming:
            read.round = 0

    return begin_round


_defect(
    (AUTOMATIC,),
    "read index without a round",
    "a read index is given out without asking whether somebody else leads",
    (Reads, "begin_round", _no_round),
)
_defect(
    (AUTOMATIC,),
    "read before the first commit",
    "a new leader serves reads before it knows what is committed",
    (Tenure, "has_committed", lambda _before: property(lambda _self: True)),
)
_defect(
    BOTH,
    "read before it is applied",
    "a read that is confirmed does not wait until its node has applied so far",
    (Reads, "shown", lambda _before: lambda _self: 1 << 62),
)


# -- sessions


def _apply_again(before: Any) -> Any:
    def apply(self: State, index: int, entry: Any) -> int:
        return int(before(self, index, msgspec.structs.replace(entry, session=0)))

    return apply


def _unknown_is_new(before: Any) -> Any:
    def apply(self: State, index: int, entry: Any) -> int:
        if entry.session and entry.session not in self.sessions:
            self.sessions[entry.session] = Session(0, index, True, self.stamp)
        return int(before(self, index, entry))

    return apply


_defect(BOTH, "retry applied twice", "the number of a request is not looked at", (State, "apply", _apply_again))
_defect(
    BOTH,
    "expired session taken for new",
    "a request of a session that is not known any more is applied as its first",
    (State, "apply", _unknown_is_new),
)


# -- members


def _by_name(before: Any) -> Any:
    def members_changed(self: Tenure) -> None:
        nodes = {member.name: member.node for member in self._core.history.current.members}
        for name, progress in self.progress.items():
            progress.node = nodes.get(name, progress.node)
        before(self)

    return members_changed


_defect(
    BOTH,
    "predecessor's confirmations counted",
    "who comes back with an empty disk is taken to hold what it held before",
    (Tenure, "members_changed", _by_name),
)
_defect(
    (AUTOMATIC,),
    "wiped member counted by its name",
    "who has forgotten its votes goes on voting",
    (Configuration, "has", lambda _before: lambda self, node: self.member(node.name) is not None),
)


# -- promotions and branches

_defect(
    (MANUAL,),
    "stale replica promoted",
    "neither who promotes nor who votes looks at the log",
    (Promotion, "_is_ahead", _always(value=False)),
    (EntryLog, "up_to_date", _always(value=True)),
)
_defect(
    (MANUAL,),
    "promoted without a majority",
    "whoever answers is enough",
    (promotion_module, "outcome", _always(quorum.Outcome.WON)),
    (election_module, "outcome", _always(quorum.Outcome.WON)),
)
_defect(
    (MANUAL,),
    "one term, two primaries",
    "every promotion draws the next number",
    (Promotion, "next_term", lambda _before: lambda self: self._core.term + 1),
)
_defect(
    BOTH,
    "branch thrown away",
    "what is cut off the log is gone",
    (LogKeeper, "_keep_branch", _always(None)),
)
_defect(
    (MANUAL,),
    "retry acknowledged when applied",
    "a repeated request is answered at any level as soon as the first attempt was applied",
    (Serving, "_is_acknowledged", _always(value=True)),
)

LOG_DEFECTS = {"automatic": AUTOMATIC, "manual": MANUAL}
"""By the way of failover, then by name."""
