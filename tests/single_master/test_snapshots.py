"""The log is cut, and whoever lacks what was cut is brought up by a snapshot."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrepl.single_master import snapshot as snapshot_module
from mmrepl.single_master.events import BranchKept, Installed
from mmrepl.single_master.journal import Journal
from mmrepl.single_master.options import Role
from mmrepl.single_master.snapshot import Capture, Rewriting, begin, decode_head, decode_piece, fill, head_of
from mmrepl.single_master.state import State
from mmrepl.types import DEFAULT_LIMITS
from mmrepl.wire.single_master import Append, Appended, Chunk
from tests.single_master.bench import Bench, contents
from tests.single_master.test_paper import messages, slow
from tests.single_master.test_sessions import write


def test_a_follower_away_longer_than_the_log_gets_a_snapshot():
    """It comes to the same state, and goes on with the log from there."""
    bench = Bench("abc", log_entries=20, log_margin=5)
    leader = bench.elect("a")
    bench["c"].crash()
    for value in range(100):
        leader.put(f"k{value % 13}", value)
        bench.settle()
    bench["c"].start()
    bench.run(1_000)
    assert bench["c"].last_event(Installed) is not None
    leader.put("k0", "after")
    bench.run(300)
    assert contents(bench["c"].core) == contents(leader.core)
    bench["c"].crash(power=True)
    bench["c"].start()
    bench.run(500)
    assert contents(bench["c"].core) == contents(leader.core)


def test_a_follower_that_takes_nothing_while_the_log_is_cut_is_left_in_peace():
    """Its connection is congested: it hears heartbeats and no more, and when there is room it gets a snapshot."""
    bench = Bench("abc", log_entries=20, log_margin=5)
    leader = bench.elect("a")
    bench.run(300)
    silent = {"b", "c"}
    bench.filter = lambda source, _, message: not (source in silent and isinstance(message, Appended))
    link = leader.core.peers["c"].link
    for value in range(60):
        leader.put(f"k{value % 13}", value)
        bench.settle()
        leader.core.congested(link, congested=True)
    silent.remove("b")  # its next word commits everything, and the log is cut in that very turn
    bench.run(200)
    assert leader.core.tenure.progress["c"].next <= leader.core.log.start
    silent.clear()
    leader.core.congested(link, congested=False)
    bench.run(1_000)
    assert bench["c"].last_event(Installed) is not None
    assert contents(bench["c"].core) == contents(leader.core)


def many_chunks(monkeypatch, bench, leader):
    monkeypatch.setattr(snapshot_module, "CHUNK_BYTES", 100)
    bench["c"].crash()
    for value in range(60):
        leader.put(f"key{value:03}", "x" * 30)
    bench.settle()
    for value in range(30):
        leader.put("k", value)
        bench.settle()
    bench["c"].start()


def test_chunks_are_asked_for_and_lost_ones_asked_for_again(monkeypatch):
    """A third of all messages is lost: the snapshot arrives all the same."""
    bench = Bench("abc", log_entries=20, log_margin=5)
    leader = bench.elect("a")
    many_chunks(monkeypatch, bench, leader)
    bench.filter = lambda s, t, m: not isinstance(m, Chunk) or bench.rng.random() > 0.3
    bench.run(20_000)
    assert contents(bench["c"].core) == contents(leader.core)
    assert max(m.count for m in messages(bench, Chunk)) > 20


def test_a_snapshot_goes_on_after_a_lost_connection(monkeypatch):
    """Chunks that have arrived are not sent again."""
    bench = Bench("abc", log_entries=20, log_margin=5)
    leader = bench.elect("a")
    many_chunks(monkeypatch, bench, leader)
    arrived = []

    def lose(source, target, message):
        if isinstance(message, Chunk):
            if len(arrived) == 12:
                return False
            arrived.append(message.number)
        return True

    bench.filter = lose
    bench.run(200)
    assert len(arrived) == 12
    bench.cut("a", "c")
    bench.filter = None
    bench.sent.clear()
    bench.run(1_000)
    assert contents(bench["c"].core) == contents(leader.core)
    assert min(m.number for m in messages(bench, Chunk) if m.number) >= 11


def test_a_snapshot_does_not_replace_a_log_that_holds_its_last_entry():
    """A late snapshot: the follower has that entry and more, keeps it all, and confirms what it has."""
    bench = slow(log_entries=100)
    leader = bench.make_leader("a")
    for value in range(10):
        leader.put("k", value)
        bench.settle()
    core = bench["c"].core
    at = 5
    head = head_of(State(), at, core.log.term_at(at), 1, core.history.current)
    bench.partition("a", "bc")
    last, log = core.log.last, bench.log_of("c")
    chunk = Chunk(core.term, 999, 1, at, core.log.term_at(at), 0, 1, snapshot_module.encode_head(head))
    core._obey(core.peers["a"], chunk, bench.now_ms, 0)
    bench.turn(bench["c"])
    assert core.log.last == last
    assert bench.log_of("c") == log
    assert bench["c"].value("k") == 9


def test_a_lagging_log_is_not_kept_as_a_branch_when_the_snapshot_has_it():
    """Entries that a follower held, not knowing that they were committed, and sees in the snapshot, are no branch."""
    bench = slow(log_entries=20, log_margin=5)
    leader = bench.make_leader("a")
    bench.run(300)
    bench.filter = lambda s, t, m: not (isinstance(m, Append) and t == "c" and not m.bodies)
    leader.put("held", 1)
    bench.settle()
    core = bench["c"].core
    assert core.log.last > core.committed
    bench["c"].crash()
    bench.filter = None
    for value in range(60):
        leader.put("k", value)
        bench.settle()
    bench["c"].start()
    bench.run(1_000)
    assert bench["c"].last_event(Installed) is not None
    assert bench["c"].last_event(BranchKept) is None


def test_the_log_is_cut_by_bytes():
    """A few large values are as much as many small ones."""
    bench = Bench("abc", log_bytes=100_000, log_margin=5)
    leader = bench.elect("a")
    for value in range(60):
        leader.put(f"k{value % 3}", "x" * 10_000)
        bench.settle()
    bench.run(200)
    for node in bench.living():
        assert node.core.log.size_bytes <= 120_000
        assert node.core.role in {Role.LEADER, Role.FOLLOWER}


records = st.dictionaries(st.sampled_from("abcdefghij"), st.integers(), max_size=10)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.one_of(st.none(), st.integers(0, 9))), max_size=60))
def test_a_capture_is_the_state(writes):
    """Cut into pieces, encoded, decoded and filled in, it is the same state, whatever was written and deleted."""
    state = State()
    for index, (key, value) in enumerate(writes, 1):
        entry = write(key, value, index)
        state.apply(index, entry if value is not None else type(entry)(0, index, "", key, None))
    head = head_of(state, len(writes), 1, 0, decode_head_members())
    capture = Capture(head, state, 7)
    while not capture.go_on():
        pass
    again = begin(decode_head(capture.body(0)))
    for number in range(1, capture.count):
        fill(again, decode_piece(capture.body(number), DEFAULT_LIMITS))
    live = {key: record for key, record in state.tables.get("", {}).items() if record[0] is not None}
    assert again.tables.get("", {}) == live
    assert capture.record_count == len(live)


def _cut_while_written(writes, later, slice_pieces):
    """What a capture and a rewriting hold of a state that was written to between their slices; what it was."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot_module, "CHUNK_BYTES", 60)
        patch.setattr(snapshot_module, "SLICE_PIECES", slice_pieces)
        state, index = State(), 0
        for index, (key, value) in enumerate(writes, 1):
            state.apply(index, write(key, value, index))
        was = dict(state.tables.get("", {}))
        head = head_of(state, index, 1, 0, decode_head_members())
        capture, rewriting = Capture(head, state, 7), Rewriting(head, state, 0)
        left = iter(later)
        while not all([capture.go_on(), rewriting.go_on()]):
            index += 1
            key, value = next(left, ("z", 0))
            state.apply(index, write(key, value, index))
        held = []
        for bodies in (map(capture.body, range(1, capture.count)), rewriting.bodies):
            again = State()
            for body in bodies:
                fill(again, decode_piece(body, DEFAULT_LIMITS))
            held.append(again.tables.get("", {}))
        assert capture.record_count == rewriting.record_count == len(was)
        return held, was


WRITES = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 9)), max_size=40)


@settings(max_examples=60, deadline=None)
@given(WRITES, WRITES, st.integers(1, 4))
def test_what_is_written_between_its_slices_is_not_in_a_capture(writes, later, slice_pieces):
    """However finely it is cut, it is the state of one moment."""
    held, was = _cut_while_written(writes, later, slice_pieces)
    assert held == [was, was]


def test_planted_a_capture_that_does_not_copy(monkeypatch):
    """Cutting what goes on being written to is found out."""
    monkeypatch.setattr(
        snapshot_module,
        "_copied",
        lambda state: snapshot_module.cut((table, held.items()) for table, held in state.tables.items()),
    )
    written = [(key, 1) for key in "abcdefgh"]
    held, was = _cut_while_written(written, [("h", 9)] * 40, 1)
    assert held != [was, was]


def _crash_while_a_base_is_made(writes, turns):
    """Whether a restart has every write; so many turns after the last one, of those that make a base a slice each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot_module, "CHUNK_BYTES", 60)
        patch.setattr(snapshot_module, "SLICE_PIECES", 1)
        bench = Bench("a", log_entries=10, log_margin=2)
        node = bench.elect()
        wanted = {}
        for key, value in [*writes, *((f"k{number}", number) for number in range(12))]:
            node.put(key, value)
            wanted[key] = value
            bench.turn(node)
        for _ in range(turns):
            bench.turn(node)
        node.crash()
        node.start()
        bench.elect()
        bench.run(1_000)
        assert not node.core.journal.is_rewriting
        return {key: node.value(key) for key in node.core.keys("")} == wanted


@settings(max_examples=25, deadline=None)
@given(WRITES, st.integers(0, 12))
def test_a_crash_while_a_base_is_made_finds_the_checkpoint_before_it(writes, turns):
    """The slices are no checkpoint until all are there: a restart at any moment has every write, and goes on."""
    assert _crash_while_a_base_is_made(writes, turns)


def test_planted_slices_that_are_committed_as_they_come():
    """A crash in the midst of it would have half of the state."""

    def hasty(journal):
        """The first slice goes to the disk; the process ends before the second."""
        rewriting = journal._rewriting
        if rewriting is not None and not rewriting.bodies:
            journal._forget_pieces()
            rewriting.go_on()
            journal._add_piece(rewriting.bodies[0])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot_module, "CHUNK_BYTES", 60)
        patch.setattr(snapshot_module, "SLICE_PIECES", 1)
        bench = Bench("a", log_entries=10, log_margin=2)
        node = bench.elect()
        wanted = {f"k{number}": number for number in range(30)}
        for at, (key, value) in enumerate(wanted.items()):
            if at == 15:  # there is a checkpoint by now, and its log is gone
                assert node.core.log.start > 0
                patch.setattr(Journal, "go_on", hasty)
            node.put(key, value)
            bench.turn(node)
        assert node.core.journal.is_rewriting
        node.crash()
    node.start()
    bench.elect()
    assert {key: node.value(key) for key in node.core.keys("")} != wanted


def test_a_large_state_is_not_cut_in_one_turn(monkeypatch):
    """While its log waits to be cut, and while a member waits for a snapshot, a node does other things."""
    monkeypatch.setattr(snapshot_module, "CHUNK_BYTES", 100)
    monkeypatch.setattr(snapshot_module, "SLICE_PIECES", 1)
    bench = Bench("abc", log_entries=50, log_margin=5)
    leader = bench.elect("a")
    bench["c"].crash()
    cut_in, go_on = [], Capture.go_on
    monkeypatch.setattr(Capture, "go_on", lambda self: cut_in.append(bench.turns) or go_on(self))
    made_in, make = [], Rewriting.go_on
    monkeypatch.setattr(Rewriting, "go_on", lambda self: made_in.append(bench.turns) or make(self))
    bench.turns, turn = 0, bench.turn

    def counted(node):
        bench.turns += 1
        turn(node)

    bench.turn = counted
    for value in range(120):
        leader.put(f"key{value:03}", value)
        bench.settle()
    bench["c"].start()
    bench.run(2_000)
    assert contents(bench["c"].core) == contents(leader.core)
    assert len(set(made_in)) > 10
    assert len(set(cut_in)) > 10


def decode_head_members():
    from mmrepl.single_master.configuration import EMPTY

    return EMPTY


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.one_of(st.none(), st.integers(0, 9))), min_size=5, max_size=80),
    st.integers(4, 20),
    st.integers(0, 1 << 30),
)
def test_a_restart_reads_what_was_there(writes, entries, seed):
    """Whatever is cut and checkpointed in between, a restart gives the same state."""
    bench = Bench("a", log_entries=entries, log_margin=entries // 3, seed=seed)
    node = bench.elect()
    for position, (key, value) in enumerate(writes):
        node.put(key, value)
        bench.settle()
        if position % 17 == 16:
            node.crash(power=True)
            node.start()
            bench.elect()
    before = contents(node.core)
    node.crash()
    node.start()
    bench.elect()
    assert contents(node.core) == before
