"""The clever structures beside dumb ones that are obviously right: log, quorums, progress, entries, messages."""

from __future__ import annotations

from itertools import combinations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from mmrepl.errors import FrameError, UsageError
from mmrepl.single_master.entry import SESSION, WRITE, Entry, decode_entries, decode_run, encode_entry, encode_run
from mmrepl.single_master.entry_log import EntryLog
from mmrepl.single_master.options import Options, parse_ack
from mmrepl.single_master.progress import Progress, Way
from mmrepl.single_master.quorum import Outcome, majority, outcome, reached, reached_by
from mmrepl.types import DEFAULT_LIMITS, Limits
from mmrepl.wire.codec import decode, encode
from mmrepl.wire.single_master import SINGLE_MASTER_NUMBERS, Append, Appended, Campaign, Chunk, Submit, Vote

names = st.lists(st.sampled_from("abcdefg"), unique=True, max_size=7)
numbers = st.dictionaries(st.sampled_from("abcdefg"), st.integers(0, 9))


def dumb_reached(voters, values):
    """The highest number such that some majority has all reached it."""
    groups = combinations(voters, majority(len(voters)))
    return max(min(values.get(name, 0) for name in group) for group in groups)


@given(names, names, numbers)
def test_reached_is_what_some_majority_of_each_set_has(ours, others, values):
    """By sorting, the same as by looking at every majority."""
    expected = [dumb_reached(voters, values) for voters in (ours, others) if voters]
    assert reached((ours, others), lambda name: values.get(name, 0)) == (min(expected) if expected else 0)


@given(names, numbers, st.integers(1, 8))
def test_reached_by_is_what_so_many_have(voters, values, count):
    """By sorting, the same as by looking at every group of that size."""
    groups = list(combinations(voters, count))
    expected = max((min(values.get(name, 0) for name in group) for group in groups), default=-1)
    assert reached_by(voters, lambda name: values.get(name, 0), count) == expected


@given(names, names, st.dictionaries(st.sampled_from("abcdefgh"), st.booleans()))
def test_an_outcome_is_what_no_further_vote_can_change(ours, others, votes):
    """Won when every way to vote on wins, lost when none does, else open."""

    def wins(all_votes):
        return bool(ours or others) and all(
            sum(all_votes.get(name, False) for name in voters) >= majority(len(voters))
            for voters in (ours, others)
            if voters
        )

    everybody = set(ours) | set(others)
    best = wins({name: votes.get(name, True) for name in everybody})
    worst = wins({name: votes.get(name, False) for name in everybody})
    expected = Outcome.WON if worst else Outcome.OPEN if best else Outcome.LOST
    found = outcome((ours, others), votes)
    if ours or others:
        assert found is expected
    else:
        assert found is Outcome.OPEN


@pytest.mark.parametrize(("count", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 4)])
def test_two_majorities_meet(count, needed):
    """That is what a majority is."""
    assert majority(count) == needed
    assert 2 * needed > count


class LogMachine(RuleBasedStateMachine):
    """The log beside a list of (term, body)."""

    def __init__(self):
        super().__init__()
        self.log = EntryLog()
        self.dumb = [(0, b"")]
        self.start = 0
        self.counter = 0

    @property
    def last(self):
        return len(self.dumb) - 1

    @rule(raise_by=st.integers(0, 2), count=st.integers(0, 4))
    def append(self, raise_by, count):
        term = max(1, self.dumb[-1][0] + raise_by)
        bodies = [str(self.counter + number).encode() for number in range(count)]
        self.counter += count
        self.log.append(term, bodies)
        self.dumb += [(term, body) for body in bodies]

    @rule(raise_by=st.integers(0, 1))
    def append_one(self, raise_by):
        term = max(1, self.dumb[-1][0] + raise_by)
        self.counter += 1
        assert self.log.append_one(term, str(self.counter).encode()) == self.last + 1
        self.dumb.append((term, str(self.counter).encode()))

    @rule(data=st.data())
    def truncate(self, data):
        index = data.draw(st.integers(self.start, self.last))
        self.log.truncate(index)
        del self.dumb[index + 1 :]

    @rule(data=st.data())
    def compact(self, data):
        self.start = data.draw(st.integers(self.start, self.last))
        self.log.compact(self.start)

    @rule(data=st.data(), count=st.integers(1, 5), size=st.integers(1, 12))
    def slice(self, data, count, size):
        if self.start == self.last:
            return
        first = data.draw(st.integers(self.start + 1, self.last))
        last = data.draw(st.integers(first, self.last))
        found = self.log.slice(first, last, count_max=count, bytes_max=size)
        expected = []
        for term, body in self.dumb[first : last + 1]:
            if len(expected) == count or (expected and sum(len(b) for _, b in expected) + len(body) > size):
                break
            expected.append((term, body))
        terms = [term for term, number in found.runs for _ in range(number)]
        assert list(zip(terms, found.bodies, strict=True)) == expected
        assert found.size == sum(len(body) for _, body in expected)

    @rule(data=st.data())
    def agree(self, data):
        first = data.draw(st.integers(self.start + 1, self.last + 1))
        terms = sorted(data.draw(st.lists(st.integers(0, self.dumb[-1][0] + 1), max_size=6)))
        runs = [(term, terms.count(term)) for term in sorted(set(terms))]
        expected = first - 1
        for index, term in enumerate(terms, first):
            if index > self.last or self.dumb[index][0] != term:
                break
            expected = index
        assert self.log.agree_until(first, runs) == expected

    @rule(data=st.data(), term=st.integers(0, 20))
    def hint(self, data, term):
        index = data.draw(st.integers(self.start, self.last + 3))
        expected = min(index, self.last)
        while expected > self.start and self.dumb[expected][0] > term:
            expected -= 1
        assert self.log.latest_at_most(index, term) == expected

    @invariant()
    def same(self):
        self.log.check()
        assert (self.log.start, self.log.last) == (self.start, self.last)
        for index in range(self.start, self.last + 1):
            assert self.log.term_at(index) == self.dumb[index][0]
            if index > self.start:
                assert self.log.body(index) == self.dumb[index][1]


TestLog = LogMachine.TestCase
TestLog.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_a_window_closes_and_opens():
    """Messages under way are bounded, confirmations free them, a rejection begins anew."""
    progress = Progress("b", 11)
    assert progress.way is Way.PROBE
    progress.confirmed(10)
    assert progress.way is Way.REPLICATE
    progress.sent(20, 1_000)
    progress.sent(30, 1_000)
    assert progress.is_full(2, 10_000)
    assert progress.is_full(10, 2_000)
    assert not progress.is_full(10, 2_001)
    assert progress.confirmed(20)
    assert not progress.confirmed(15)
    assert (progress.match, progress.next, progress.inflight_bytes) == (20, 31, 1_000)
    progress.rejected(12)
    assert (progress.way, progress.next) == (Way.PROBE, 21)
    progress.check()


def test_entries_travel():
    """And what is no entry, or beyond a limit, is refused by name."""
    entries = [Entry(WRITE, 5, "t", "k", b"\x01", 3, 4, 5), Entry(WRITE, 6, "", "gone")]
    bodies = [encode_entry(entry) for entry in entries]
    assert decode_entries(bodies, DEFAULT_LIMITS) == entries
    run = decode_run(encode_run([(3, 2)], bodies))
    assert (run.runs, run.bodies) == ([(3, 2)], bodies)
    small = Limits(key_bytes=4, value_bytes=4, depth=2)
    for wrong, why in (
        (b"nonsense", "cannot be read"),
        (encode_entry(Entry(9, 1)), "kind"),
        (encode_entry(Entry(WRITE, -1)), "stamped"),
        (encode_entry(Entry(WRITE, 1, "", "longer")), "key_bytes"),
        (encode_entry(Entry(WRITE, 1, "longer", "k")), "key_bytes"),
        (encode_entry(Entry(WRITE, 1, "", "k", b"12345")), "value_bytes"),
        (encode_entry(Entry(WRITE, 1, "", "k", b"\x91\x91\x91\x01")), "nested"),
        (encode_entry(Entry(SESSION, 1, session=-1)), "session"),
    ):
        with pytest.raises(FrameError, match=why):
            decode_entries([wrong], small)
    with pytest.raises(FrameError):
        decode_run(encode_run([(3, 1)], bodies))


@pytest.mark.parametrize(
    "message",
    [
        Append(-1, 0, 0, 0, 0, [], []),
        Append(3, 0, -1, 0, 0, [], []),
        Append(3, 0, 0, 0, 0, [(1, 2)], [b""]),
        Append(3, 0, 0, 2, 0, [(1, 1)], [b""]),
        Append(3, 0, 0, 0, 0, [(4, 1)], [b""]),
        Append(3, 0, 0, 0, 0, [(1, 1)], [b"x" * (1 << 21)]),
        Appended(3, -1, ok=True, match=0),
        Appended(3, 0, ok=True, match=1 << 63),
        Campaign(3, 0, -1, survey=False, transfer=False, founding=[]),
        Campaign(3, 0, 0, survey=False, transfer=False, founding=[("a", 1)] * 300),
        Vote(3, survey=False, granted=True, last_index=-1, last_term=0, reason=""),
        Chunk(3, 0, 1, 0, 0, 5, 5, b""),
        Submit(3, 0, [b"x" * (1 << 21)]),
    ],
    ids=lambda message: type(message).__name__,
)
def test_messages_beyond_a_limit_are_refused(message):
    """What no node of ours would say ends in a FrameError."""
    with pytest.raises(FrameError):
        decode(*encode(message))


@given(st.sampled_from(sorted(SINGLE_MASTER_NUMBERS.values())), st.binary(max_size=60))
def test_any_bytes_are_a_message_or_refused(number, body):
    """Nothing but FrameError comes of them."""
    try:
        message = decode(number, body)
    except FrameError:
        return
    assert decode(*encode(message)) == message


def test_acknowledgement_levels():
    """What is no level is refused when it is said."""
    assert [parse_ack(level) for level in ("async", "one", "quorum", "all", 0, 3)] == [0, 1, "quorum", "all", 0, 3]
    for wrong in ("most", -1, True, None, 1.5):
        with pytest.raises(UsageError):
            parse_ack(wrong)
    with pytest.raises(ValueError, match="election_ms_min"):
        Options(heartbeat_ms=600)
    assert msgspec.msgpack.encode(Options().ack) == b"\xa6quorum"
