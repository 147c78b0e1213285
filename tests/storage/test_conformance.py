"""Every storage of ours does what a storage must do, and agrees with the dumb twin on any history."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmrepl.errors import ClosedError, UsageError
from mmrepl.ports import Commit, Durability
from mmrepl.storage import MemoryDisk, MemoryStorage
from mmrepl.storage.memory import Contents
from tests.storage.conformance import FACTS, Place, reopened, state
from tests.storage.places import MemoryPlace, SqlitePlace

PLACES: dict[str, Callable[[Path], Place]] = {"memory": lambda _folder: MemoryPlace(), "sqlite": SqlitePlace}


@pytest.mark.parametrize("fact", FACTS.values(), ids=FACTS.keys())
@pytest.mark.parametrize("kind", PLACES)
def test_conformance(kind: str, fact: Callable[[Place], None], tmp_path: Path):
    """The storage keeps this fact."""
    fact(PLACES[kind](tmp_path))


keys = st.integers(0, 6)
bodies = st.binary(max_size=4)
commits = st.builds(
    Commit,
    batches=st.dictionaries(keys, bodies, max_size=3),
    drop_batches=st.none() | st.tuples(keys, keys),
    segments=st.dictionaries(keys, st.none() | bodies, max_size=2),
    meta=st.dictionaries(st.sampled_from("abc"), st.none() | bodies, max_size=2),
)
steps = st.lists(st.tuples(st.sampled_from(["commit", "commit", "commit", "close", "crash"]), commits,
                           st.sampled_from(Durability)), max_size=25)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(steps=steps)
@pytest.mark.parametrize("kind", PLACES)
def test_any_history_leaves_what_the_dumb_twin_holds(kind: str, steps: list[tuple[str, Commit, Durability]]):
    """Through closings and deaths of the process nothing that was committed is lost, changed or doubted."""
    with tempfile.TemporaryDirectory() as folder:
        place, twin = PLACES[kind](Path(folder)), Contents()
        storage = place.open()
        storage.load()
        for verb, commit, durability in steps:
            if verb == "commit":
                storage.commit(commit, durability)
                twin.apply(commit)
                continue
            place.crash(storage) if verb == "crash" else storage.close()
            storage = place.open()
            loaded = storage.load()
            assert loaded.doubt is None
            assert state(loaded) == (dict(twin.batches), dict(twin.segments), twin.meta)
        storage.close()
        assert reopened(place) == (dict(twin.batches), dict(twin.segments), twin.meta)


def test_memory_without_a_disk_keeps_nothing_and_cannot_be_backed_up(tmp_path: Path):
    """A replica in memory is gone with its process, and says so when it is asked for a backup."""
    storage = MemoryStorage()
    assert state(storage.load()) == ({}, {}, {})
    storage.commit(Commit(batches={1: b"x"}), Durability.SYNC)
    with pytest.raises(UsageError, match="give it a path"):
        storage.backup(str(tmp_path / "b"))
    storage.close()
    assert state(MemoryStorage().load()) == ({}, {}, {})


@pytest.mark.parametrize(("keep_count", "left"), [(0, [0]), (1, [0, 1]), (5, [0, 1, 2])])
def test_lost_power_takes_the_latest_unsynced_commits_and_leaves_a_doubt(keep_count: int, left: list[int]):
    """What was synced stays; of the rest a prefix; and the doubt is there until the first commit."""
    disk = MemoryDisk()
    storage = MemoryStorage(disk)
    storage.load()
    for position, level in enumerate([Durability.BATCH, Durability.NONE, Durability.NONE]):
        storage.commit(Commit(batches={position: b"x"}), level)
    disk.lose_power(keep_count=keep_count)
    with pytest.raises(ClosedError, match="crashed"):
        storage.commit(Commit(), Durability.SYNC)
    storage.close()
    for _attempt in range(2):
        again = MemoryStorage(disk)
        loaded = again.load()
        assert loaded.doubt is not None
        assert list(state(loaded)[0]) == left
        again.close()
    settled = MemoryStorage(disk)
    settled.load()
    settled.commit(Commit(), Durability.SYNC)
    settled.close()
    assert MemoryStorage(disk).load().doubt is None


def test_lost_power_after_a_sync_loses_nothing_and_raises_no_doubt():
    """A strong commit syncs the weak ones before it."""
    disk = MemoryDisk()
    storage = MemoryStorage(disk)
    storage.load()
    storage.commit(Commit(batches={0: b"x"}), Durability.NONE)
    storage.commit(Commit(batches={1: b"x"}), Durability.SYNC)
    disk.lose_power()
    loaded = MemoryStorage(disk).load()
    assert loaded.doubt is None
    assert list(state(loaded)[0]) == [0, 1]
