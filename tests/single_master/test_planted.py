"""
Defects planted on purpose, each found: a suite that cannot fail proves nothing.

The first kind breaks one rule and lives random lives until something that must never happen has happened. The second
breaks a rule that a certain story is about, and tells that story.
"""

from __future__ import annotations

import msgspec
import pytest

from mmrepl.single_master import election, promotion, quorum
from mmrepl.single_master.changing import LogKeeper
from mmrepl.single_master.configuration import SLOTS, Configuration
from mmrepl.single_master.core import SingleMaster
from mmrepl.single_master.election import Election
from mmrepl.single_master.entry_log import EntryLog
from mmrepl.single_master.following import Following
from mmrepl.single_master.journal import Journal
from mmrepl.single_master.office import Office
from mmrepl.single_master.promotion import Promotion
from mmrepl.single_master.reads import Reads
from mmrepl.single_master.reception import Reception
from mmrepl.single_master.replication import Tenure
from mmrepl.single_master.state import State
from tests.single_master import (
    test_branches,
    test_disk,
    test_manual,
    test_members,
    test_paper,
    test_reads,
    test_sessions,
    test_snapshots,
)
from tests.single_master.chaos import live


def forget_votes(patch):
    """The vote is not written down."""
    real = LogKeeper.note_hard
    patch.setattr(LogKeeper, "note_hard", lambda self, term, vote, *, leading: real(self, term, "", leading=leading))


def vote_for_anybody(patch):
    """A vote is given whatever the candidate's log has."""
    patch.setattr(EntryLog, "up_to_date", lambda self, index, term: True)


def vote_twice(patch):
    """A vote is given to whoever asks."""
    real = Election.asked

    def asked(self, peer, message, now_ms):
        if not message.survey and message.term == self._core.term:
            self._core.vote = ""
        real(self, peer, message, now_ms)

    patch.setattr(Election, "asked", asked)


def confirm_before_persisted(patch):
    """A follower confirms what is not on its disk."""
    real = Following.confirm

    def confirm(self):
        patched = type(self._core.journal)
        durable = patched.durable
        patched.durable = property(lambda journal: journal.log.last)
        try:
            real(self)
        finally:
            patched.durable = durable

    patch.setattr(Following, "confirm", confirm)


def count_before_persisted(patch):
    """A leader counts its own log as it is in memory."""
    patch.setattr(Tenure, "match", lambda self, name: self._core.log.last if name == self._core.node.name
                  else getattr(self.progress.get(name), "match", 0))  # fmt: skip


def say_before_persisted(patch):
    """Votes are sent before they are on disk."""
    patch.setattr(Office, "say", Office.send)


def minority(patch):
    """Half of the voters are a quorum."""
    patch.setattr(quorum, "majority", lambda count: max(1, count // 2))


def count_the_fastest(patch):
    """An entry is committed when a single voter has it."""
    patch.setattr(quorum, "reached", lambda sets, value: max(value(name) for voters in sets for name in voters))


def no_check_of_the_entry_before(patch):
    """A follower takes entries whatever stands before them."""
    real = EntryLog.term_at

    def append(self, peer, message, now_ms, wall_ms):
        log = self._core.log
        if log.start <= message.prev_index <= log.last:
            message = type(message)(message.term, message.round, message.prev_index, real(log, message.prev_index),
                                    message.commit, message.runs, message.bodies)  # fmt: skip
        real_append(self, peer, message, now_ms, wall_ms)

    real_append = Following.append
    patch.setattr(Following, "append", append)


def read_without_quorum(patch):
    """A leader believes to have the lease for ever."""
    patch.setattr(Tenure, "has_lease", lambda self, now_ms: self.has_committed)


def read_without_round(patch):
    """A read index is given out without asking anybody."""
    real = Reads.begin_round

    def begin_round(self, now_ms):
        real(self, now_ms)
        if self._core.tenure is not None:
            for read in self._confirming:
                read.round = 0

    patch.setattr(Reads, "begin_round", begin_round)


def read_before_first_commit(patch):
    """A new leader serves reads before it has committed anything."""
    patch.setattr(Tenure, "has_committed", property(lambda self: True))


def truncation_forgotten(patch):
    """What was cut off and written anew counts as durable as soon as the old was."""
    patch.setattr(Journal, "truncated", lambda self, index: None)


def diverged_replicas_show_what_they_have(patch):
    """Having applied far enough is enough, whatever it was."""
    patch.setattr(Reads, "shown", lambda self: self._core.applied)


@pytest.mark.parametrize(
    ("defect", "how"),
    [
        (vote_for_anybody, {}),
        (vote_twice, {}),
        (minority, {"names": "abcd"}),
        (count_the_fastest, {}),
        (truncation_forgotten, {}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_found_by_random_lives(defect, how, monkeypatch):
    """A broken rule shows within a few dozen lives."""
    defect(monkeypatch)
    for seed in range(60):
        try:
            live(seed, steps=500, **how)
        except AssertionError:
            return
    raise AssertionError("not found")


def commit_older_terms_by_counting(patch):
    """The rule of figure 8 is left out."""

    def advance(self):
        self._heard = False
        self._confirm_rounds()
        self._core.committed = max(self._core.committed, quorum.reached(self._core.history.current.sets, self.match))

    patch.setattr(Tenure, "advance", advance)


def surveys_raise_terms(patch):
    """A pre-vote is answered like a vote."""
    real = Election.asked

    def asked(self, peer, message, now_ms):
        if message.term > self._core.term:
            self._core.step_down(message.term, "planted")
        real(self, peer, message, now_ms)

    patch.setattr(Election, "asked", asked)


def snapshots_replace_longer_logs(patch):
    """A snapshot is installed without a look at the log."""
    patch.setattr(EntryLog, "has", lambda self, index, term: False)
    real = Following.chunk

    def chunk(self, peer, message, wall_ms):
        committed, self._core.committed, self.verified = self._core.committed, 0, 0
        real(self, peer, message, wall_ms)
        self._core.committed = max(self._core.committed, 0 if self._core.applied < committed else committed)

    patch.setattr(Following, "chunk", chunk)


def retries_are_applied_again(patch):
    """The number of a request is not looked at."""
    real = State.apply

    def apply(self, index, entry):
        return real(self, index, msgspec.structs.replace(entry, session=0))

    patch.setattr(State, "apply", apply)


def promote_whoever_asks(patch):
    """Neither the survey nor the voters look at the log."""
    patch.setattr(Promotion, "_is_ahead", lambda self, vote: False)
    patch.setattr(EntryLog, "up_to_date", lambda self, index, term: True)


def promote_without_a_majority(patch):
    """Whoever answers is enough."""
    patch.setattr(promotion, "outcome", lambda sets, votes: quorum.Outcome.WON)
    patch.setattr(election, "outcome", lambda sets, votes: quorum.Outcome.WON)


def terms_without_slots(patch):
    """Every promotion draws the next number."""
    patch.setattr(Promotion, "next_term", lambda self: self._core.term + 1)


def restarts_raise_the_term(patch):
    """A primary that starts anew takes a new term."""
    real = SingleMaster._take_office

    def take_office(self, now_ms):
        if self.has_belonged and self.is_manual and self.vote == str(self.node) and not self.peers:
            self.set_term(self.next_term() + SLOTS, str(self.node), leading=True)
        real(self, now_ms)

    patch.setattr(SingleMaster, "_take_office", take_office)


def amnesiacs_count(patch):
    """Members are counted by name alone."""
    patch.setattr(Configuration, "has", lambda self, node: self.member(node.name) is not None)


def joint_is_not_joint(patch):
    """The old voters are not asked."""
    patch.setattr(Configuration, "sets", property(lambda self: (self.voters,)))


def founded_by_a_majority(patch):
    """A cluster is founded without some of its first members."""
    patch.setattr(Election, "_sets", lambda self: (tuple(self.voters()),))
    patch.setattr(Reception, "founding", founding_with_whoever_is_there)


def founding_with_whoever_is_there(self):
    core = self._core
    return {core.node: core.address, **{peer.node: peer.hello.address for peer in core.reception.up()}}


def branches_are_thrown_away(patch):
    """What is cut off is gone."""
    patch.setattr(LogKeeper, "_keep_branch", lambda self, index, wall_ms, *, certain: None)


def merges_without_conditions(patch):
    """What merges a branch is written whatever the key has become."""
    patch.setattr(State, "apply", apply_without_conditions)


_apply = State.apply


def apply_without_conditions(self, index, entry):
    return _apply(self, index, msgspec.structs.replace(entry, expect=-1))


def old_office_in_new_term(patch):
    """A leader that hears of a later term takes it over, and goes on."""

    def set_term(self, term, vote="", *, leading=False):
        self.term, self.vote = term, vote

    patch.setattr(Office, "step_down", lambda self, term, why: set_term(self, term))


def figure_7_f():
    test_paper.test_figure_7_any_follower_comes_to_the_leaders_log([1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3])


STORIES = [
    (no_check_of_the_entry_before, figure_7_f),
    (
        diverged_replicas_show_what_they_have,
        test_manual.test_a_replica_that_has_applied_others_serves_no_read_from_them,
    ),
    (old_office_in_new_term, test_paper.test_a_late_answer_to_a_survey_deposes_a_leader_of_an_older_term),
    (forget_votes, test_paper.test_a_vote_is_remembered_through_a_restart),
    (say_before_persisted, test_disk.test_a_vote_is_said_when_it_is_on_disk),
    (confirm_before_persisted, test_disk.test_an_entry_is_confirmed_when_it_is_on_disk),
    (count_before_persisted, test_disk.test_an_entry_is_sent_and_counted_when_it_is_on_the_leaders_disk),
    (commit_older_terms_by_counting, test_paper.test_figure_8_an_older_terms_entry_is_not_committed_by_counting),
    (surveys_raise_terms, test_paper.test_a_survey_binds_nobody),
    (surveys_raise_terms, test_paper.test_a_node_that_was_cut_off_returns_without_raising_the_term),
    (snapshots_replace_longer_logs, test_snapshots.test_a_snapshot_does_not_replace_a_log_that_holds_its_last_entry),
    (retries_are_applied_again, test_sessions.test_a_retry_through_the_log_is_applied_once),
    (read_without_quorum, test_reads.test_a_lease_read_is_not_served_without_a_quorum),
    (read_without_round, test_reads.test_a_linearizable_read_is_not_served_without_a_quorum),
    (read_before_first_commit, test_reads.test_a_read_waits_for_a_new_leader_to_commit),
    (promote_whoever_asks, test_manual.test_a_stale_replica_is_not_promoted),
    (promote_without_a_majority, test_manual.test_too_few_answers_are_not_enough_to_know),
    (terms_without_slots, test_manual.test_terms_of_two_promotions_are_never_the_same),
    (restarts_raise_the_term, test_manual.test_a_primary_that_restarts_after_a_promotion_does_not_come_back_above_it),
    (amnesiacs_count, test_disk.test_a_memory_in_doubt_is_a_new_incarnation_that_counts_for_nothing),
    (joint_is_not_joint, test_members.test_in_a_joint_configuration_one_majority_is_not_enough),
    (founded_by_a_majority, test_disk.test_two_that_lost_their_disks_cannot_found_a_second_cluster),
    (branches_are_thrown_away, test_manual.test_writes_that_were_never_shipped_are_kept_as_a_branch),
    (merges_without_conditions, test_branches.test_a_key_that_is_written_while_it_is_merged_is_looked_at_again),
]


@pytest.mark.parametrize(("defect", "story"), STORIES, ids=lambda value: value.__name__)
def test_found_by_its_story(defect, story, monkeypatch):
    """The story does not hold with the rule broken."""
    defect(monkeypatch)
    with pytest.raises((AssertionError, ValueError, KeyError, AttributeError)):
        story()
