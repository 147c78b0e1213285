"""Puts into memory gather before they are applied, and nobody can tell."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrepl.causality.version_vector import VersionVector
from mmrepl.errors import ClosedError, InvalidKey, InvalidValue, UsageError
from mmrepl.log.policy import LogPolicy
from mmrepl.resolvers import KeepSiblings
from mmrepl.runtime.replica import GATHERED_MOST, Replica
from mmrepl.types import Limits, NodeId


class FakeClock:
    """A wall clock that is set by hand."""

    def __init__(self) -> None:
        self.now_ms = 1_700_000_000_000

    def wall_ms(self) -> int:
        return self.now_ms

    def monotonic_ms(self) -> int:
        return self.now_ms


class Dice:
    """Incarnations that can be foretold."""

    def getrandbits(self, bits: int) -> int:
        return 1

    def random(self) -> float:
        return 0.5

    def randrange(self, stop: int) -> int:
        return 0

    def shuffle(self, items: Any) -> None: ...


def replica(clock: FakeClock, name: str = "paris", **options: Any) -> Replica:
    return Replica(name, clock=clock, rng=Dice(), **options)


KEYS = st.sampled_from("abcd")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, st.integers(0, 9)),
        st.tuples(st.just("many"), KEYS, st.integers(1, 150)),
        st.tuples(st.just("other table"), KEYS, st.integers(0, 9)),
        st.tuples(st.just("receipt"), KEYS, st.integers(0, 9)),
        st.tuples(st.just("delete"), KEYS, st.just(0)),
        st.tuples(st.just("get"), KEYS, st.just(0)),
        st.tuples(st.just("elsewhere"), KEYS, st.integers(0, 9)),
        st.tuples(st.just("merge"), KEYS, st.just(0)),
        st.tuples(st.just("time"), KEYS, st.integers(-2, 5)),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_gathered_or_one_at_a_time_is_the_same(steps: list[tuple[str, str, int]]):
    """Same dots, same stamps, same order, same siblings: the deltas of the two are the same bytes at every look."""
    clock = FakeClock()
    gathering, plain, tokyo = replica(clock), replica(clock), replica(clock, "tokyo")
    plain.on_siblings(lambda _event: None)  # where somebody listens, nothing gathers
    both = (gathering, plain)
    for what, key, number in steps:
        if what == "time":
            clock.now_ms += number
        elif what == "elsewhere":
            tokyo[key] = number
        elif what == "merge":
            tokyo.merge(plain.delta(tokyo.version))
            for each in both:
                each.merge(tokyo.delta(each.version))
            assert gathering.delta() == plain.delta()
        else:
            told = [_do(each, clock, what, key, number) for each in both]
            assert told[0] == told[1]
    assert gathering.version == plain.version
    assert gathering.delta() == plain.delta()
    assert columns(gathering) == columns(plain)
    for each in both:
        each.check()


def columns(paris: Replica) -> list[list[object]]:
    return [
        [*c.positions, *c.stamps, *c.tables, *c.keys, *c.payloads, *c.buried, c.contexts, c.needed]
        for c in paris._store.log.columns
    ]


def _do(paris: Replica, clock: FakeClock, what: str, key: str, number: int) -> object:
    if what == "put":
        paris[key] = number
    elif what == "many":
        began_ms = clock.now_ms
        for turn in range(number):
            clock.now_ms = began_ms + turn // 10
            paris[f"{key}{turn}" if turn % 3 else "abcd"[turn % 4]] = turn
        clock.now_ms = began_ms
    elif what == "other table":
        paris.table("drafts")[key] = number
    elif what == "receipt":
        return paris.put(key, number)
    elif what == "delete":
        return paris.delete(key)
    else:
        return paris.get(key), len(paris), list(paris), key in paris
    return None


def test_a_put_is_refused_at_once_and_leaves_those_before_it():
    """What cannot be stored is refused where it is put, not where somebody looks."""
    paris = replica(FakeClock())
    for number in range(3):
        paris["k"] = number
    with pytest.raises(InvalidValue):
        paris["k"] = {1, 2}  # type: ignore[assignment]
    with pytest.raises(InvalidKey):
        paris[""] = 1
    assert paris["k"] == 2
    assert paris.version == VersionVector({NodeId("paris", 1): 3})


def test_a_table_too_many_is_refused_where_it_is_put():
    """Nothing gathers for a table that there may not be."""
    paris = replica(FakeClock(), tables={"a": KeepSiblings()}, limits=Limits(tables=1))
    for _ in range(2):
        with pytest.raises(UsageError):
            paris["k"] = 1
    assert not paris.version


def test_a_value_is_what_it_was_when_it_was_put():
    """A list that is changed after it was put has not changed in the store."""
    paris = replica(FakeClock())
    paris["first"] = 0
    tags = ["tea"]
    paris["k"] = tags
    tags.append("books")
    assert paris["k"] == ["tea"]


def test_a_closed_replica_takes_no_more():
    """Neither the put after closing, nor any look, is let in; what had gathered was applied."""
    paris = replica(FakeClock())
    paris["k"] = 1
    paris["k"] = 2
    paris.close()
    with pytest.raises(ClosedError):
        paris["k"] = 3
    with pytest.raises(ClosedError):
        paris.get("k")
    assert paris.version == VersionVector({NodeId("paris", 1): 2})


def test_who_begins_to_listen_hears_of_no_earlier_put_and_of_every_later_one():
    """From the moment that somebody listens, each put is applied as it comes, and what it ends is told at once."""
    clock = FakeClock()
    paris, tokyo = replica(clock), replica(clock, "tokyo")
    paris["k"] = 1
    tokyo["k"] = 2
    paris.merge(tokyo.delta())
    paris["other"] = 1
    heard: list[str] = []
    paris.on_siblings(lambda event: heard.append(event.kind))
    assert heard == []
    paris["k"] = 3
    assert heard == ["vanished"]


def test_the_log_stays_within_its_bound():
    """Gathering does not let the log pass its policy further than a quarter."""
    paris = replica(FakeClock(), log=LogPolicy(operations=8))
    for number in range(100):
        paris[f"k{number}"] = number
    log = paris._store.log
    assert log.end - log.start <= 8 + 8 // 4
    assert len(paris) == 100


def test_puts_of_many_threads_are_all_there():
    """Nothing is lost or doubled between threads that put, one that reads, and the applying of what has gathered."""
    paris = Replica("paris")
    paris["begin"] = 0
    each = 3 * GATHERED_MOST + 7
    done = threading.Event()

    def write(name: int) -> None:
        for number in range(each):
            paris[f"{name}/{number}"] = number

    def look() -> None:
        while not done.is_set():
            assert len(paris) >= 1

    writers = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    reader = threading.Thread(target=look)
    for thread in (*writers, reader):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert sum(paris.version.values()) == 4 * each + 1
    assert len(paris) == 4 * each + 1
    paris.check()
