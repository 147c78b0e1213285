"""
What every storage must do, as plain functions: each takes a `Place` and asserts one fact about it.

A place is where a store lives: whoever opens it again finds what was committed. Nothing here knows of files. What a
place can do besides opening decides which facts are asked: `Mortal` places can let the process die between two calls,
`Wired` ones the power fail, `Brittle` ones the process die at any touch of the disk, in the middle of a commit.

For a storage of your own, under pytest:

    class TestMine(StorageSuite):
        def place(self, folder):
            return MyPlace(folder)
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias, runtime_checkable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmrepl.errors import ClosedError, StoreLocked
from mmrepl.ports import Commit, Durability, Loaded, Storage
from mmrepl.storage.memory import Contents
from mmrepl.testing.strategies import commits

SYNC, BATCH, NONE = Durability.SYNC, Durability.BATCH, Durability.NONE


class Place(Protocol):
    """Where a store lives."""

    def open(self) -> Storage:
        """A new storage of this place, not loaded yet."""


@runtime_checkable
class Mortal(Place, Protocol):
    """A place whose user can die."""

    def crash(self, storage: Any) -> None:
        """The process that has *storage* open dies: nothing is flushed, nobody has it open any more."""


@runtime_checkable
class Wired(Mortal, Protocol):
    """A place on a machine that can lose power."""

    def lose_power(self, storage: Any) -> None:
        """As `crash`, and what was not synced may be gone, or not."""


@runtime_checkable
class Brittle(Mortal, Protocol):
    """A place where every touch of the disk can be the last thing that a process does."""

    def open_dying(self, touches: int) -> Storage:
        """As `open`; after *touches* touches of the disk, not counting those of loading, the next raises `Died`."""


class Died(BaseException):
    """The process died here. Nothing that the storage does about it may reach the disk."""


State: TypeAlias = tuple[dict[int, bytes], dict[int, bytes], dict[str, bytes]]
TOUCHES_MAX: Final = 200  # more than any storage needs for a few commits


def state(loaded: Loaded) -> State:
    """Everything that a storage holds; asserts the order of its rows."""
    segments, batches = list(loaded.segments()), list(loaded.batches())
    assert segments == sorted(segments)
    assert batches == sorted(batches)
    return dict(batches), dict(segments), dict(loaded.meta)


def reopened(place: Place) -> State:
    """What is there for the next one; asserts that its memory is not in doubt."""
    storage = place.open()
    try:
        loaded = storage.load()
        assert loaded.doubt is None
        return state(loaded)
    finally:
        storage.close()


def committed(place: Place, *commits: Commit, durability: Durability = SYNC) -> State:
    """What is there after *commits* in one session."""
    storage = place.open()
    storage.load()
    for commit in commits:
        storage.commit(commit, durability)
    storage.close()
    return reopened(place)


def new_place_is_empty_and_not_in_doubt(place: Place) -> None:
    """There is nothing in a new store, and nothing to doubt."""
    assert reopened(place) == ({}, {}, {})
    assert reopened(place) == ({}, {}, {})


def commit_is_there_after_closing(place: Place) -> None:
    """Batches, segments and meta come back as the same bytes, each under its key."""
    given = Commit(batches={0: b"a", 7: b""}, segments={3: b"s"}, meta={"m": b"1", "": b"", "é\n\0": bytes(range(256))})
    assert committed(place, given) == ({0: b"a", 7: b""}, {3: b"s"}, {"m": b"1", "": b"", "é\n\0": bytes(range(256))})


def every_level_is_there_after_closing(place: Place) -> None:
    """Closing in order loses nothing, however weak the commits were."""
    for number, level in enumerate((NONE, SYNC, NONE, BATCH, NONE)):
        assert number in committed(place, Commit(batches={number: b"x"}), durability=level)[0]
    assert list(reopened(place)[0]) == [0, 1, 2, 3, 4]


def rows_come_in_order_of_their_keys(place: Place) -> None:
    """By number, not by time of writing or by text."""
    keys = [100, 9, 2**62, 10, 0]
    found = committed(place, *(Commit(batches={key: b"b"}, segments={key: b"s"}) for key in keys))
    assert list(found[0]) == list(found[1]) == sorted(keys)


def deletions_come_before_additions(place: Place) -> None:
    """Dropping a range and writing into it in one commit leaves what was written: so are small batches merged."""
    before = Commit(batches=dict.fromkeys(range(10), b"small"))
    merged = Commit(batches={2: b"large"}, drop_batches=(2, 8))
    assert committed(place, before, merged)[0] == {0: b"small", 1: b"small", 2: b"large", 8: b"small", 9: b"small"}


def a_range_to_drop_is_half_open(place: Place) -> None:
    """The first position goes, the end stays; a range without batches is no error."""
    before = Commit(batches={5: b"5", 6: b"6", 7: b"7"})
    assert list(committed(place, before, Commit(drop_batches=(5, 7)))[0]) == [7]
    assert list(committed(place, Commit(drop_batches=(0, 7)), Commit(drop_batches=(9, 9)))[0]) == [7]


def none_deletes(place: Place) -> None:
    """None for a segment or an entry of meta removes it; it need not be there."""
    before = Commit(segments={1: b"1", 2: b"2"}, meta={"a": b"1", "b": b"2"})
    after = Commit(segments={1: None, 9: None}, meta={"a": None, "z": None})
    assert committed(place, before, after) == ({}, {2: b"2"}, {"b": b"2"})


def a_key_written_again_is_replaced(place: Place) -> None:
    """The later body counts."""
    first = Commit(batches={1: b"old"}, segments={1: b"old"}, meta={"k": b"old"})
    second = Commit(batches={1: b"new"}, segments={1: b"new"}, meta={"k": b"new"})
    assert committed(place, first, second) == ({1: b"new"}, {1: b"new"}, {"k": b"new"})


def repeating_a_commit_changes_nothing(place: Place) -> None:
    """Whoever does not know whether a commit was made may make it again."""
    base = Commit(batches={1: b"1", 2: b"2", 3: b"3"}, segments={1: b"s"})
    again = Commit(batches={2: b"merged", 4: b"4"}, drop_batches=(2, 4), segments={1: None, 2: b"t"}, meta={"k": b"v"})
    once = committed(place, base, again)
    assert committed(place, again, again) == once


def an_empty_commit_is_no_error(place: Place) -> None:
    """At any level, first or later."""
    assert committed(place, Commit(), Commit(), durability=NONE) == ({}, {}, {})
    assert committed(place, Commit(batches={1: b"x"}), Commit(), Commit()) == ({1: b"x"}, {}, {})


def large_bodies_come_back(place: Place) -> None:
    """Some megabytes in one row, and many rows in one commit."""
    large = bytes(range(256)) * 12_000
    many = {position: b"%d" % position for position in range(1, 2_000)}
    found = committed(place, Commit(batches={0: large, **many}))[0]
    assert found == {0: large, **many}


def what_the_caller_changes_later_is_not_seen(place: Place) -> None:
    """A commit holds what it held when it was made."""
    storage = place.open()
    storage.load()
    batches: dict[int, bytes] = {1: b"x"}
    storage.commit(Commit(batches=batches), SYNC)
    batches[2] = b"y"
    storage.close()
    assert reopened(place)[0] == {1: b"x"}


def only_one_has_it_open(place: Place) -> None:
    """A second storage of the same place is refused, and does the first no harm."""
    first, second = place.open(), place.open()
    first.load()
    with pytest.raises(StoreLocked):
        second.load()
    second.close()
    first.commit(Commit(batches={1: b"x"}), SYNC)
    with pytest.raises(StoreLocked):
        place.open().load()
    first.close()
    assert reopened(place)[0] == {1: b"x"}


def closed_is_closed(place: Place) -> None:
    """Closing twice is no error; everything else on a closed or never loaded storage is a definite one."""
    storage = place.open()
    with pytest.raises(ClosedError):
        storage.commit(Commit(), SYNC)
    storage.load()
    with pytest.raises(ClosedError):
        storage.load()
    storage.close()
    storage.close()
    for use in (storage.load, lambda: storage.commit(Commit(), SYNC), lambda: storage.backup("nowhere")):
        with pytest.raises(ClosedError) as caught:
            use()
        assert caught.value.definite
    never_loaded = place.open()
    never_loaded.close()
    assert reopened(place) == ({}, {}, {})


# -- dying


def what_was_committed_survives_the_process(place: Mortal) -> None:
    """Commits of every level are there after the process died, without a doubt, and the place can be opened at once."""
    expected: dict[int, bytes] = {}
    for number, level in enumerate([SYNC, NONE, BATCH, NONE]):
        storage = place.open()
        storage.load()
        storage.commit(Commit(batches={number: b"x"}), level)
        storage.commit(Commit(batches={number + 100: b"y"}), level)
        place.crash(storage)
        expected |= {number: b"x", number + 100: b"y"}
        assert reopened(place)[0] == expected


def a_dead_storage_does_no_harm(place: Mortal) -> None:
    """Whoever still holds the storage of a process that died changes nothing for the next one."""
    first = place.open()
    first.load()
    first.commit(Commit(batches={1: b"x"}), SYNC)
    place.crash(first)
    second = place.open()
    second.load()
    first.close()
    second.commit(Commit(batches={2: b"y"}), SYNC)
    second.close()
    assert reopened(place)[0] == {1: b"x", 2: b"y"}


def a_loss_of_power_takes_nothing_synced(place: Wired) -> None:
    """What was committed at SYNC or BATCH is there, and so is all before it, whatever its level."""
    storage = place.open()
    storage.load()
    for number, level in enumerate([NONE, BATCH, NONE, SYNC]):
        storage.commit(Commit(batches={number: b"x"}), level)
    place.lose_power(storage)
    again = place.open()
    loaded = again.load()
    assert list(state(loaded)[0]) == [0, 1, 2, 3]
    again.close()


def a_loss_of_power_takes_nothing_that_was_loaded(place: Wired) -> None:
    """A process dies before its commits are synced; the next one reads them, and may tell others of them."""
    storage = place.open()
    storage.load()
    for number in range(4):
        storage.commit(Commit(batches={number: b"x"}), NONE)
    place.crash(storage)
    again = place.open()
    found = list(state(again.load())[0])
    place.lose_power(again)
    once_more = place.open()
    assert list(state(once_more.load())[0]) == found
    once_more.close()


def a_loss_of_power_leaves_a_prefix_and_a_doubt(place: Wired) -> None:
    """Of weak commits the later ones may be gone; then there is a doubt until the next commit."""
    storage = place.open()
    storage.load()
    storage.commit(Commit(batches={0: b"x"}), SYNC)
    for number in range(1, 4):
        storage.commit(Commit(batches={number: b"x"}), NONE)
    place.lose_power(storage)
    for _attempt in range(2):
        again = place.open()
        loaded = again.load()
        found = list(state(loaded)[0])
        assert loaded.doubt, "weak commits may be lost, and nobody is told"
        again.close()
        assert found == list(range(len(found)))
        assert found
    settled = place.open()
    settled.load()
    settled.commit(Commit(batches={9: b"new"}), SYNC)
    settled.close()
    assert list(reopened(place)[0]) == [*found, 9]


def a_death_within_a_commit_leaves_all_of_it_or_nothing(place: Brittle) -> None:
    """Wherever the process dies: every acknowledged commit is there, and the one under way whole or not at all."""
    known = Contents()
    for touches in range(TOUCHES_MAX):
        storage = place.open_dying(touches)
        storage.load()
        under_way: Commit | None = None
        try:
            for commit, level in _story(touches):
                under_way = commit
                storage.commit(commit, level)
                known.apply(commit)
                under_way = None
        except Died:
            pass
        place.crash(storage)
        again = place.open()
        found = state(again.load())
        again.close()
        if under_way is not None and found != _state_of(known):
            known.apply(under_way)
        assert found == _state_of(known), f"after {touches} touches of the disk a commit was torn or lost"
        if under_way is None:
            return
    raise AssertionError(f"a few commits take more than {TOUCHES_MAX} touches of the disk")


def _story(number: int) -> list[tuple[Commit, Durability]]:
    """A few commits that touch everything, told apart by *number*."""
    body = b"%d" % number
    return [
        (Commit(batches={1: body, 2: body}, segments={1: body}, meta={"a": body}), SYNC),
        (Commit(batches={3: body * 2_000}, meta={"a": None, "b": body}), NONE),
        (Commit(batches={2: body + b"!"}, drop_batches=(1, 4), segments={1: None, 2: body}, meta={"a": b"x"}), SYNC),
    ]


def _state_of(contents: Contents) -> State:
    return dict(contents.batches), dict(contents.segments), dict(contents.meta)


# -- any history

History: TypeAlias = Sequence[tuple[str, Commit, Durability]]


def histories() -> st.SearchStrategy[History]:
    """Commits, closings and deaths of the process, for `agrees_with_its_twin`."""
    verbs = st.sampled_from(["commit", "commit", "commit", "close", "crash"])
    return st.lists(st.tuples(verbs, commits(), st.sampled_from(Durability)), max_size=25)


def agrees_with_its_twin(place: Place, history: History) -> None:
    """Through closings and deaths nothing that was committed is lost, changed or doubted, compared with plain dicts."""
    twin = Contents()
    storage = place.open()
    storage.load()
    for verb, commit, durability in history:
        if verb == "commit":
            storage.commit(commit, durability)
            twin.apply(commit)
            continue
        if verb == "crash" and isinstance(place, Mortal):
            place.crash(storage)
        else:
            storage.close()
        storage = place.open()
        loaded = storage.load()
        assert loaded.doubt is None
        assert state(loaded) == _state_of(twin)
    storage.close()
    assert reopened(place) == _state_of(twin)


# -- for pytest

Fact: TypeAlias = Callable[[Any], None]

FACTS: Final[Mapping[str, Fact]] = {
    fact.__name__: fact
    for fact in (
        new_place_is_empty_and_not_in_doubt,
        commit_is_there_after_closing,
        every_level_is_there_after_closing,
        rows_come_in_order_of_their_keys,
        deletions_come_before_additions,
        a_range_to_drop_is_half_open,
        none_deletes,
        a_key_written_again_is_replaced,
        repeating_a_commit_changes_nothing,
        an_empty_commit_is_no_error,
        large_bodies_come_back,
        what_the_caller_changes_later_is_not_seen,
        only_one_has_it_open,
        closed_is_closed,
    )
}
"""About any place."""

DYING_FACTS: Final[Mapping[str, tuple[type[Place], Fact]]] = {
    "what_was_committed_survives_the_process": (Mortal, what_was_committed_survives_the_process),
    "a_dead_storage_does_no_harm": (Mortal, a_dead_storage_does_no_harm),
    "a_loss_of_power_takes_nothing_synced": (Wired, a_loss_of_power_takes_nothing_synced),
    "a_loss_of_power_takes_nothing_that_was_loaded": (Wired, a_loss_of_power_takes_nothing_that_was_loaded),
    "a_loss_of_power_leaves_a_prefix_and_a_doubt": (Wired, a_loss_of_power_leaves_a_prefix_and_a_doubt),
    "a_death_within_a_commit_leaves_all_of_it_or_nothing": (
        Brittle,
        a_death_within_a_commit_leaves_all_of_it_or_nothing,
    ),
}
"""About places where accidents can happen, with what the place has to be able to do."""


class StorageSuite:
    """Subclass it under a name that pytest collects, and define `place`."""

    def place(self, folder: Path) -> Place:
        """A new place, which may keep its files in *folder*."""
        raise NotImplementedError

    @pytest.mark.parametrize("fact", FACTS.values(), ids=FACTS.keys())
    def test_storage(self, fact: Fact, tmp_path: Path) -> None:
        """The storage keeps this fact."""
        fact(self.place(tmp_path))

    @pytest.mark.parametrize("fact", DYING_FACTS)
    def test_accidents(self, fact: str, tmp_path: Path) -> None:
        """The storage keeps this fact, if the place can bring such an accident about."""
        place, (needed, check) = self.place(tmp_path), DYING_FACTS[fact]
        if not isinstance(place, needed):
            pytest.skip(f"this place is not {needed.__name__}: see mmrepl.testing.storage_suite")
        check(place)

    def test_any_history(self) -> None:
        """The storage holds what plain dicts hold, through any history."""

        @settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(history=histories())
        def whole(history: History) -> None:
            with tempfile.TemporaryDirectory() as folder:
                agrees_with_its_twin(self.place(Path(folder)), history)

        whole()
