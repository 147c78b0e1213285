"""
What every storage must do, as plain functions: each takes a `Place` and asserts one fact about it.

A place is where a store lives: whoever opens it again finds what was committed. Nothing here knows of files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import pytest

from mmrepl.errors import ClosedError, StoreLocked
from mmrepl.ports import Commit, Durability, Loaded, Storage

SYNC, BATCH, NONE = Durability.SYNC, Durability.BATCH, Durability.NONE


class Place(Protocol):
    """Where a store lives."""

    def open(self) -> Storage:
        """A new storage of this place, not loaded yet."""


State = tuple[dict[int, bytes], dict[int, bytes], dict[str, bytes]]


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


FACTS: Mapping[str, Callable[[Place], None]] = {
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
