"""The embedded replica, as its users meet it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrepl.causality.context import BLIND, CausalContext
from mmrepl.causality.version_vector import VersionVector
from mmrepl.errors import (
    DeltaGap,
    FrameError,
    InvalidKey,
    InvalidValue,
    LogTruncated,
    PeerError,
    ResolverError,
    StampAhead,
    TooManySiblings,
    UsageError,
    WrongContext,
)
from mmrepl.log.policy import LogPolicy
from mmrepl.resolvers import KeepSiblings
from mmrepl.runtime.outcomes import SiblingsEvent
from mmrepl.runtime.replica import Replica
from mmrepl.storage.memory import MemoryDisk, MemoryStorage
from mmrepl.types import Limits, NodeId
from tests.runtime.embedded import TABLES, FakeClock, exchange, siblings_of

# -- a mapping


def test_the_program_of_the_first_page(paris: Replica, tokyo: Replica):
    """Two replicas, concurrent writes, bytes shipped by hand: the same value on both, and nothing hidden."""
    paris["greeting"] = "bonjour"
    tokyo["greeting"] = "konnichiwa"
    tokyo.merge(paris.delta(since=tokyo.version))
    paris.merge(tokyo.delta(since=paris.version))
    assert paris["greeting"] == tokyo["greeting"]
    read = paris.read("greeting")
    assert {sibling.value for sibling in read.siblings} == {"bonjour", "konnichiwa"}
    assert len(read.losers) == 1
    paris.put("greeting", "salut", context=read.context)
    exchange(paris, tokyo)
    assert tokyo["greeting"] == paris["greeting"] == "salut"
    assert len(tokyo.read("greeting").siblings) == 1


def test_it_is_a_mapping(paris: Replica):
    """Get, set, delete, in, len, KeyError: as a dict; None is a value like another."""
    paris["a"] = None
    paris["b"] = {"list": [1, 2.5, "x", b"y", True]}
    assert paris["a"] is None
    assert "a" in paris
    assert "c" not in paris
    assert 5 not in paris
    assert len(paris) == 2
    assert paris.get("c") is None
    assert paris.get("c", 7) == 7
    assert paris["b"] == {"list": [1, 2.5, "x", b"y", True]}
    with pytest.raises(KeyError):
        paris["c"]
    del paris["a"]
    assert "a" not in paris
    with pytest.raises(KeyError):
        del paris["a"]
    assert paris.pop("b") == {"list": [1, 2.5, "x", b"y", True]}
    assert paris.setdefault("d", 1) == 1
    paris.update({"e": 2, "f": 3})
    assert dict(paris) == {"d": 1, "e": 2, "f": 3}
    assert dict(paris.items()) == dict(zip(paris.keys(), paris.values(), strict=True))
    paris.clear()
    assert len(paris) == 0
    paris.check()


def test_values_that_come_out_are_copies(paris: Replica):
    """Changing one changes nothing in the store."""
    paris["a"] = [1]
    paris["a"].append(2)
    assert paris["a"] == [1]


def test_keys_come_in_order(paris: Replica):
    """Of code points, forwards and backwards, from a key on, up to before a key; also what came after a first look."""
    for key in ("b", "ä", "a", "\x00", "a\n", "🐌", "B"):
        paris[key] = 1
    assert list(paris) == ["\x00", "B", "a", "a\n", "b", "ä", "🐌"]
    assert list(reversed(paris)) == list(paris)[::-1]
    paris["aa"] = 1
    del paris["B"]
    assert list(paris) == ["\x00", "a", "a\n", "aa", "b", "ä", "🐌"]
    assert list(paris.range("a", "b")) == ["a", "a\n", "aa"]
    assert list(paris.range("a", "b", reverse=True)) == ["aa", "a\n", "a"]
    assert list(paris.range(end="a")) == ["\x00"]
    assert list(paris.range("x")) == ["ä", "🐌"]
    assert list(paris.range("b", "a")) == []


def test_iteration_tolerates_writes(paris: Replica):
    """Also beyond a page: what was there all along is seen once, in order."""
    kept = [f"k{number:05d}" for number in range(0, 3000, 2)]
    for key in kept:
        paris[key] = 1
    seen = []
    for number, key in enumerate(paris):
        seen.append(key)
        paris[f"k{(number * 37) % 3000:05d}" if number % 2 else "new"] = 2
    assert [key for key in seen if key in set(kept)] == kept
    assert seen == sorted(set(seen))


KEYS = st.sampled_from(["a", "b", "c", "d", "dd", "e"])


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from(["set", "del", "list", "pop", "range"]), KEYS, KEYS), max_size=25))
def test_it_does_what_a_sorted_dict_does(steps: list[tuple[str, str, str]]):
    """Beside a dict, step by step."""
    paris, twin = Replica("paris"), dict[str, str]()
    for verb, key, other in steps:
        if verb == "set":
            paris[key] = twin[key] = other
        elif verb == "del":
            assert (key in paris) == (key in twin)
            if key in twin:
                del paris[key], twin[key]
        elif verb == "pop":
            assert paris.pop(key, None) == twin.pop(key, None)
        elif verb == "range":
            assert list(paris.range(key, other)) == sorted(k for k in twin if key <= k < other)
        assert list(paris) == sorted(twin)
        assert len(paris) == len(twin)
        assert all(paris[k] == twin[k] for k in twin)
    paris.check()


@pytest.mark.parametrize("key", ["", "\ud800", 5, None, "k" * 1025, "€" * 342])
def test_what_is_no_key_is_refused(paris: Replica, key: Any):
    """Before anything is written."""
    with pytest.raises(InvalidKey):
        paris[key] = 1
    with pytest.raises(InvalidKey):
        paris.delete(key)
    assert not paris.version


def test_odd_keys_are_keys(paris: Replica, tokyo: Replica):
    """NUL, newline, emoji, a kilobyte: they come over as they are."""
    keys = ["\x00", "\n", "🐌", "k" * 1024, " ", "é", "e\u0301"]
    for number, key in enumerate(keys):
        paris[key] = number
    exchange(paris, tokyo)
    assert [tokyo[key] for key in keys] == list(range(7))
    assert len(tokyo) == 7


@pytest.mark.parametrize("value", [{1, 2}, object(), 2**63, {1: "x"}, "\ud800", (1, 2), b"x" * 2**20])
def test_what_is_no_value_is_refused(paris: Replica, value: Any):
    """With the path to it, and nothing is half-written."""
    paris["k"] = 1
    with pytest.raises(InvalidValue):
        paris["k"] = {"a": [value]}
    assert paris["k"] == 1
    assert sum(paris.version.values()) == 1


# -- contexts and receipts


def test_put_over_what_was_read_leaves_what_came_since(paris: Replica, tokyo: Replica):
    """The context of a read replaces just what was read."""
    drafts = paris.table("drafts")
    drafts["d"] = "one"
    read = drafts.read("d")
    tokyo.table("drafts")["d"] = "two"
    exchange(paris, tokyo)
    drafts.put("d", "three", context=read.context)
    assert sorted(drafts["d"]) == ["three", "two"]
    drafts.put("d", "four")
    assert drafts["d"] == ["four"]


def test_a_blind_write_replaces_nothing(paris: Replica):
    """Not even what the same replica wrote."""
    drafts = paris.table("drafts")
    drafts["d"] = "one"
    drafts.put("d", "two", context=BLIND)
    drafts.delete("d", context=BLIND)
    assert drafts["d"] == ["one", "two"]
    assert len(drafts.read("d").siblings) == 3


def test_a_context_belongs_to_its_key(paris: Replica):
    """Counters run over all keys, so another key's context would overwrite what nobody has read."""
    paris["a"] = 1
    paris.table("drafts")["a"] = 1
    context = paris.read("a").context
    for wrong in (
        lambda: paris.put("b", 2, context=context),
        lambda: paris.table("drafts").put("a", 2, context=context),
    ):
        with pytest.raises(WrongContext):
            wrong()
    assert "b" not in paris
    assert paris.table("drafts")["a"] == [1]


def test_a_context_from_a_replica_that_is_ahead_is_exact(paris: Replica, tokyo: Replica):
    """What was read there stays overwritten when it comes, and nothing else does."""
    tokyo.table("drafts")["d"] = "read"
    ahead = CausalContext.from_bytes(tokyo.table("drafts").read("d").context.to_bytes())
    paris.table("drafts").put("d", "over it", context=ahead)
    tokyo.table("drafts").put("d", "unread", context=BLIND)
    exchange(tokyo, paris)
    assert paris.table("drafts")["d"] == tokyo.table("drafts")["d"]
    assert sorted(paris.table("drafts")["d"]) == ["over it", "unread"]
    paris.check()


def test_a_receipt_covers_what_its_writer_had_seen(paris: Replica, tokyo: Replica):
    """The next write with it replaces the last one, and no sibling that nobody read."""
    siblings_of(paris, tokyo, "d", "ours", "theirs", "drafts")
    drafts = paris.table("drafts")
    receipt = drafts.put("d", "first", context=BLIND)
    assert str(receipt.dot.origin) == paris.node
    drafts.put("d", "second", context=receipt.context)
    assert "theirs" in drafts["d"]
    assert "first" not in drafts["d"]
    assert drafts.put("d", "all", context=drafts.read("d").context).dot.counter == receipt.dot.counter + 2
    assert drafts["d"] == ["all"]


@pytest.mark.parametrize(
    "origins",
    [
        [NodeId("", 1)],
        [NodeId("x", -1)],
        [NodeId("x", 2**63)],
        [NodeId("x" * 1025, 1)],
        [NodeId("\ud800", 1)],
        [NodeId(f"n{number}", 1) for number in range(9)],
    ],
)
def test_a_context_that_no_peer_would_take_is_refused(origins: list[NodeId]):
    """A client's made-up context must not stop this replica's stream, or keep its file from being opened."""
    disk = MemoryDisk()
    paris = Replica("paris", storage=MemoryStorage(disk), limits=Limits(vector_entries=8))
    forged = CausalContext("", "k", VersionVector(dict.fromkeys(origins, 1)))
    with pytest.raises(WrongContext):
        paris.put("k", 1, context=forged)
    paris["k"] = 2
    paris.close()
    with Replica("paris", storage=MemoryStorage(disk)) as again:
        assert again["k"] == 2


def test_a_context_that_covers_the_write_to_be_made_is_refused(paris: Replica):
    """It would be lost as overwritten before it was made."""
    future = VersionVector({NodeId.parse(paris.node): 5})
    with pytest.raises(WrongContext, match="old copy"):
        paris.put("k", 1, context=CausalContext("", "k", future))
    assert "k" not in paris


def test_siblings_cannot_be_piled_up():
    """A blind write to a key that holds the most allowed is refused; one that replaces something is not."""
    paris = Replica("paris", default=KeepSiblings(), limits=Limits(siblings_max=3))
    for number in range(3):
        paris.put("k", number, context=BLIND)
    with pytest.raises(TooManySiblings):
        paris.put("k", 3, context=BLIND)
    assert paris["k"] == [0, 1, 2]
    paris.put("k", 4, context=paris.read("k").context)
    assert paris["k"] == [4]


# -- resolvers and tables


def test_tables_are_apart(paris: Replica):
    """The same key in another table is another key."""
    paris["k"] = 1
    paris.table("carts")["k"] = ["tea"]
    paris.table("other")["k"] = 2
    assert (paris["k"], paris.table("carts")["k"], paris.table("other")["k"]) == (1, ["tea"], 2)
    assert paris.tables() == ["", "carts", "drafts", "odd", "other"]
    assert paris.table("carts").name == "carts"
    del paris.table("carts")["k"]
    assert "k" in paris


def test_more_tables_than_allowed_are_refused():
    """Here by UsageError, from a peer by FrameError; nothing is changed."""
    paris, tokyo = Replica("paris", limits=Limits(tables=2)), Replica("tokyo")
    paris.table("a")["k"] = 1
    paris["k"] = 1
    with pytest.raises(UsageError, match=r"limits\.tables"):
        paris.table("b")["k"] = 1
    tokyo.table("c")["k"] = 1
    before = paris.version
    with pytest.raises(FrameError, match=r"limits\.tables"):
        paris.merge(tokyo.delta())
    assert paris.version == before


def test_last_writer_wins_and_hides_nothing(paris: Replica, tokyo: Replica):
    """The loser is counted and can be read until it is overwritten."""
    siblings_of(paris, tokyo, "k", "ours", "theirs")
    assert paris["k"] == tokyo["k"]
    assert paris.lost_count == tokyo.lost_count == 1
    read = paris.read("k")
    assert [loser.value for loser in read.losers] == ["ours" if paris["k"] == "theirs" else "theirs"]
    assert read.value == paris["k"]
    assert read.present


def test_an_update_survives_a_concurrent_delete_where_siblings_are_kept(paris: Replica, tokyo: Replica):
    """Under last-writer-wins the later one wins instead."""
    for table in ("drafts", "carts", ""):
        paris.table(table)["k"] = ["old"]
    exchange(paris, tokyo)
    for table in ("drafts", "carts", ""):
        paris.table(table)["k"] = ["new"]
        del tokyo.table(table)["k"]
    exchange(paris, tokyo)
    for replica in (paris, tokyo):
        assert replica.table("drafts")["k"] == [["new"]]
        assert replica.table("carts")["k"] == ["new"]
    assert ("k" in paris) == ("k" in tokyo)
    assert len(paris) == len(tokyo)


def test_keep_siblings_reads_a_list_always(paris: Replica, tokyo: Replica):
    """In canonical order, also when there is one value, or a list."""
    paris.table("drafts")["one"] = "x"
    assert paris.table("drafts")["one"] == ["x"]
    siblings_of(paris, tokyo, "k", [1], [2], "drafts")
    assert paris.table("drafts")["k"] == tokyo.table("drafts")["k"]
    assert sorted(paris.table("drafts")["k"]) == [[1], [2]]


def test_a_callback_merges_on_reading_and_never_writes(paris: Replica, tokyo: Replica):
    """The siblings stay until somebody puts."""
    siblings_of(paris, tokyo, "ada", ["tea"], ["milk"], "carts")
    before = paris.version
    assert paris.table("carts")["ada"] == ["milk", "tea"]
    assert len(paris.table("carts").read("ada").siblings) == 2
    assert paris.version == before


def test_a_callback_that_raises_leaves_the_siblings(paris: Replica, tokyo: Replica):
    """The error names table and key; the key counts as present, and can be overwritten."""
    siblings_of(paris, tokyo, "k", "text", 5, "odd")
    odd = paris.table("odd")
    for ask in (lambda: odd["k"], lambda: odd.get("k"), lambda: odd.read("k")):
        with pytest.raises(ResolverError, match=r"odd.*concatenate") as caught:
            ask()
        assert "'k'" in str(caught.value)
    assert "k" in odd
    assert len(odd) == 1
    odd["k"] = "settled"
    assert odd["k"] == "settled"


def test_events_tell_of_siblings_as_they_come_and_go(paris: Replica, tokyo: Replica):
    """In the order of the changes; a replica without siblings is silent."""
    events: list[SiblingsEvent] = []
    paris.on_siblings(events.append)
    paris["k"] = 0
    paris["k"] = 1
    tokyo["k"] = 2
    paris.merge(tokyo.delta())
    assert [(event.kind, event.table, event.key, len(event.dots)) for event in events] == [("appeared", "", "k", 2)]
    paris["k"] = 3
    assert events[-1].kind == "vanished"
    assert [str(dot.origin) for dot in events[-1].dots] == [paris.node]


def test_what_a_listener_raises_is_raised_where_the_write_was_made(paris: Replica):
    """The write is made all the same."""

    def refuse(_event: SiblingsEvent) -> None:
        raise RuntimeError("not today")

    paris.on_siblings(refuse)
    paris["k"] = 1
    with pytest.raises(RuntimeError):
        paris.put("k", 2, context=BLIND)
    assert len(paris.read("k").siblings) == 2


# -- deltas


def test_nothing_missing_is_no_bytes(paris: Replica, tokyo: Replica):
    """And merging no bytes is fine."""
    assert paris.delta() == b""
    paris["k"] = 1
    assert paris.delta(since=paris.version) == b""
    assert tokyo.merge(b"").fresh == 0


def test_merge_counts_what_was_new(paris: Replica, tokyo: Replica):
    """Repeating is harmless."""
    for number in range(5):
        paris[f"k{number}"] = number
    delta = paris.delta()
    first, again = tokyo.merge(delta), tokyo.merge(bytearray(delta))
    assert (first.fresh, first.known) == (5, 0)
    assert (again.fresh, again.known) == (0, 5)
    assert tokyo.merge(memoryview(delta)).known == 5


@pytest.mark.parametrize("what", ["x", 5, None, [b"x"]])
def test_merge_takes_bytes(paris: Replica, what: Any):
    """Anything else is the caller's mistake, and said so."""
    with pytest.raises(UsageError, match="bytes"):
        paris.merge(what)


def test_since_is_a_version(paris: Replica):
    """Anything else is the caller's mistake, said at once."""
    for ask in (paris.delta, paris.changes):
        with pytest.raises(UsageError, match="VersionVector"):
            ask({"paris": 5})  # type: ignore[operator]


def test_bytes_that_are_no_delta_change_nothing(paris: Replica, tokyo: Replica):
    """Garbage, a cut at every place, a flipped bit anywhere."""
    paris["k"] = "value"
    paris.table("carts")["l"] = ["tea"]
    delta = paris.delta()
    for damaged in (b"garbage", delta + b"x", delta + delta[:20], *(delta[:end] for end in range(1, len(delta)))):
        with pytest.raises(FrameError):
            tokyo.merge(damaged)
    for at in range(len(delta)):
        with pytest.raises(PeerError):
            tokyo.merge(delta[:at] + bytes((delta[at] ^ 0x10,)) + delta[at + 1 :])
    assert not tokyo.version
    tokyo.check()


def test_a_delta_over_a_gap_is_refused(paris: Replica, tokyo: Replica):
    """And says what is missing; one since the right version goes in."""
    paris["a"] = 1
    after_one = paris.version
    paris["b"] = 2
    with pytest.raises(DeltaGap, match="operations 1 to 1 of paris"):
        tokyo.merge(paris.delta(since=after_one))
    assert not tokyo.version
    tokyo.merge(paris.delta(since=tokyo.version))
    assert dict(tokyo) == {"a": 1, "b": 2}


def test_parts_of_a_delta_stand_on_each_other(paris: Replica, tokyo: Replica, monkeypatch: pytest.MonkeyPatch):
    """Frames of one delta in another order, or without the first, are refused whole."""
    monkeypatch.setattr("mmrepl.replication.local.DELTA_OPERATIONS", 2)
    ends = [0]
    for number in range(6):
        paris[f"k{number}"] = number
    delta = paris.delta()
    while ends[-1] < len(delta):
        ends.append(ends[-1] + 13 + int.from_bytes(delta[ends[-1] + 5 : ends[-1] + 9], "big"))
    frames = [delta[a:b] for a, b in pairwise(ends)]
    assert len(frames) == 3
    for wrong in (frames[1:], frames[::-1], [frames[0], frames[2]]):
        with pytest.raises(DeltaGap):
            tokyo.merge(b"".join(wrong))
        assert not tokyo.version
    assert tokyo.merge(b"".join(frames)).fresh == 6


def test_stamps_too_far_ahead_are_not_let_in():
    """Nor do they drag our clock; when the time has come they are."""
    clock, ahead = FakeClock(), FakeClock()
    ahead.now_ms += 6 * 60_000
    paris, tokyo = Replica("paris", clock=ahead), Replica("tokyo", clock=clock)
    paris["k"] = "from the future"
    with pytest.raises(StampAhead) as caught:
        tokyo.merge(paris.delta())
    assert caught.value.ahead_ms == 6 * 60_000
    assert not tokyo.version
    tokyo["k"] = "now"
    clock.now_ms += 2 * 60_000
    tokyo.merge(paris.delta())
    assert tokyo["k"] == "from the future"
    tokyo["k"] = "later, and seen"
    paris.merge(tokyo.delta(since=paris.version))
    assert paris["k"] == "later, and seen"


@pytest.mark.parametrize("now_ms", [-5, 0, 2**31 * 1000, 2**47 - 1, 2**60])
def test_any_wall_clock_will_do(now_ms: int):
    """Before 1970, beyond 2038, beyond the range: writes go on and are ordered."""
    clock = FakeClock(now_ms)
    paris, tokyo = Replica("paris", clock=clock), Replica("tokyo", clock=clock)
    for number in range(3):
        paris["k"] = number
    tokyo.merge(paris.delta())
    tokyo["k"] = "seen"
    paris.merge(tokyo.delta(since=paris.version))
    assert paris["k"] == "seen"


def test_behind_the_cut_comes_a_snapshot(paris: Replica):
    """And what the receiver alone has written stays; what was deleted meanwhile does not come back."""
    tokyo = Replica("tokyo", tables=TABLES)
    lima = Replica("lima", tables=TABLES, log=LogPolicy(operations=8))
    for number in range(6):
        lima[f"k{number}"] = number
    exchange(lima, tokyo)
    tokyo["mine"] = "unseen"
    del lima["k0"]
    for number in range(100):
        lima[f"k{1 + number % 9}"] = number
    lima.check()
    with pytest.raises(LogTruncated):
        lima.changes(since=tokyo.version)
    assert tokyo.merge(lima.delta(since=tokyo.version)).fresh > 0
    tokyo.check()
    assert "k0" not in tokyo
    assert tokyo["mine"] == "unseen"
    lima.merge(tokyo.delta(since=lima.version))
    assert dict(lima) == dict(tokyo)
    paris.merge(tokyo.delta())
    assert dict(paris) == dict(tokyo)


def test_a_key_written_again_and_again_is_one_value(paris: Replica, tokyo: Replica):
    """A hundred thousand overwrites make a delta of one operation, and take no time to find."""
    for number in range(20_000):
        paris["k"] = number
    delta = paris.delta()
    assert len(delta) < 200
    tokyo.merge(delta)
    assert tokyo["k"] == 19_999
    assert tokyo.version == paris.version


def test_large_values_make_many_frames(tokyo: Replica):
    """Each within the bound on frames, however small that is."""
    limits = Limits(frame_bytes=4096, delta_bytes=2048, value_bytes=1000)
    paris = Replica("paris", limits=limits)
    lima = Replica("lima", limits=limits)
    for number in range(40):
        paris[f"é{number}"] = "ü" * (number * 12)
    tokyo.merge(paris.delta())
    lima.merge(tokyo_delta := paris.delta())
    assert dict(lima) == dict(paris) == dict(tokyo)
    assert len(tokyo_delta) > 4096


def test_changes_are_told_in_order_of_application(paris: Replica, tokyo: Replica):
    """Ours and others', each with a token to go on from."""
    tokyo["b"] = 1
    paris["a"] = 1
    paris.merge(tokyo.delta())
    del paris["a"]
    told = list(paris.changes())
    assert [(change.key, change.value, change.is_tombstone) for change in told] == [
        ("b", 1, False),
        ("a", None, True),
    ]
    token = paris.version
    paris["c"] = 3
    rest = list(paris.changes(since=token))
    assert [change.key for change in rest] == ["c"]
    assert list(paris.changes(since=rest[-1].token)) == []
    assert [change.key for change in paris.changes(since=told[0].token)] == ["a", "c"]
