"""What was committed is what is opened: after every commit, whatever was cut, rewritten, merged or joined meanwhile."""

from __future__ import annotations

import random
from collections.abc import Iterator

import msgspec
import pytest

from mmrepl.causality.version_vector import EMPTY
from mmrepl.errors import StoreCorrupt, StoreForeign
from mmrepl.log.batch import decode_batch
from mmrepl.ports import Durability
from mmrepl.replication.opening import open_core
from mmrepl.storage.loaded import LoadedStore
from mmrepl.storage.memory import Contents, MemoryDisk, MemoryStorage
from mmrepl.store.journal import STATE, Journal, load, saved_node
from mmrepl.store.store import Store
from mmrepl.types import NodeId
from mmrepl.values import encode
from tests.store.world import LOSING, TABLES, Site, World, borders, random_script


@pytest.fixture
def tiny() -> Iterator[None]:
    with borders():
        yield


class Archive(World):
    """A world that keeps what every disk held after each commit, and what its store showed when the commit was made."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[tuple[str, Contents, list[object]]] = []
        for site in self.sites.values():
            self._watch(site)

    def _watch(self, site: Site) -> None:
        begin, finish = site.begin, site.finish
        shown: list[list[object]] = []

        def begin_and_look(level: Durability) -> None:
            if site.begun is None:
                shown[:] = [self.shown(site)]
                begin(level)

        def finish_and_keep() -> None:
            is_new = site.begun is not None
            finish()
            if is_new:
                contents = site.disk._synced.copy()
                for commit in site.disk._unsynced:
                    contents.apply(commit)
                self.kept.append((site.name, contents, shown[0]))

        site.begin, site.finish = begin_and_look, finish_and_keep  # type: ignore[method-assign]


def opened(name: str, contents: Contents) -> Site:
    """A site on a disk with these contents."""
    site = Site.__new__(Site)
    site.name, site.retain, site.disk, site.rng = name, False, MemoryDisk(), random.Random(name)
    site.disk._synced = contents
    site.open()
    return site


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("seed", range(6))
def test_every_commit_leaves_the_disk_at_that_commit(seed: int):
    """A process that dies after any commit is opened anew with exactly what its store showed when that was made."""
    world = Archive()
    world.run(random_script(LOSING, seed, 250))
    assert len(world.kept) > 30
    for name, contents, shown in world.kept:
        site = opened(name, contents.copy())
        site.core.store.check()
        for ours, theirs in zip(world.shown(site), shown, strict=True):
            if isinstance(ours, tuple) and ours[-1] is None:  # places whose contexts may shrink: World.compare_exactly
                assert isinstance(theirs, tuple)
                assert ours[0] == theirs[0]
            else:
                assert ours == theirs


@pytest.mark.usefixtures("tiny")
def test_the_clock_does_not_fall_over_a_restart():
    """The next stamp is greater than all that were seen, also those whose operations are gone."""
    site = Site("paris", retain=False)
    table = site.core.store.table("all")
    for number in range(9):
        site.core.put(table, "k", encode(number), 5_000 + number)
        site.commit(Durability.SYNC)
    site.begin(Durability.SYNC)
    site.finish()
    site.core.upkeep(position=site.core.store.log.end)
    site.commit(Durability.SYNC)
    last = site.core.store.hlc.last
    site.disk.crash()
    site.open()
    assert site.core.store.hlc.last == last


def test_the_clock_does_not_fall_below_what_was_dead_before_it_was_on_disk():
    """The write with the latest stamp is overwritten by one with an earlier: its row holds a void, without a stamp."""
    site = Site("paris", retain=False)
    store = site.core.store
    table = store.table("all")
    site.core.put(table, "k", encode(1), 9_000)
    store.put(table, "k", encode(2), 0, store.context(table, "k"), stamp=5_000 << 16)
    last = store.hlc.last
    site.commit(Durability.SYNC)
    site.disk.crash()
    site.open()
    assert site.core.store.hlc.last == last


def test_what_died_in_a_segment_before_an_earlier_restart_stays_dead():
    """
    A segment is written once, its deaths beside it. The list of a later run has to hold those of the earlier ones.

    Else whatever had died in it before, and was left out on opening, rises when the store is opened once more.
    """
    site = Site("paris", retain=False)

    def forget_cut_and_open() -> None:
        site.commit(Durability.SYNC)
        site.core.store.forget(site.core.store.version)
        site.core.upkeep(position=site.core.store.log.end)
        site.commit(Durability.SYNC)
        site.disk.crash()
        site.open()

    keys = [f"k{number}" for number in range(10)]
    for key in keys:
        site.core.put(site.core.store.table("latest"), key, encode(key), 5_000)
        site.commit(Durability.SYNC)
    forget_cut_and_open()
    site.core.become(NodeId("paris", 77))
    for number in range(4):  # another origin, and so few that the segment is not written anew
        site.core.put(site.core.store.table("latest"), keys[number], None, 6_000)
        site.commit(Durability.SYNC)
        forget_cut_and_open()
        assert list(site.core.store.table("latest").keys()) == keys[number + 1 :]


def test_small_rows_become_large_ones():
    """Opening reads hundreds of rows, not one for each commit; what was overwritten meanwhile is left out."""
    site = Site("paris", retain=False)
    table = site.core.store.table("latest")
    for number in range(1500):
        site.core.put(table, f"k{number % 10}", encode(number), 5_000 + number)
        site.commit(Durability.SYNC)
    contents = site.disk._synced
    assert len(contents.batches) < 300 + 10
    assert sum(len(decode_batch(body)) for body in contents.batches.values()) < 500
    site.disk.crash()
    site.open()
    assert len(list(site.core.store.table("latest").keys())) == 10
    assert site.core.store.own.head == 1500


def test_a_commit_of_many_operations_is_divided():
    """Into batches of a bounded size, in one commit."""
    site = Site("paris", retain=False)
    table = site.core.store.table("latest")
    for number in range(70_000):
        site.core.put(table, f"k{number}", b"\x01", 5_000)
    site.begin(Durability.SYNC)
    assert site.begun is not None
    assert [decode_batch(body).dot_count for _, body in sorted(site.begun.commit.batches.items())] == [65_536, 4_464]
    site.finish()


def test_nothing_new_is_no_commit():
    """Nor is a commit that was taken already."""
    core = Site("paris", retain=False).core
    assert core.take_persist() is None
    core.put(core.store.table(""), "k", b"\x01", 1)
    assert core.take_persist() is not None
    assert core.take_persist() is None


# -- opening what is no store of ours, or damaged


def written_disk() -> MemoryDisk:
    """A store with rows, segments and deaths."""
    site = Site("paris", retain=False)
    table = site.core.store.table("latest")
    for number in range(12):
        site.core.put(table, f"k{number % 7}", encode(number), 5_000 + number)
        site.commit(Durability.SYNC)
        if number == 6:
            site.core.upkeep(position=site.core.store.log.end)
    site.core.upkeep(position=site.core.store.log.end - 2)
    site.commit(Durability.SYNC)
    site.disk.crash()
    assert site.disk._synced.segments
    assert site.disk._synced.batches
    return site.disk


def reopen(disk: MemoryDisk, name: str = "paris") -> None:
    open_core(name, MemoryStorage(disk), random.Random(1), tables=TABLES)


def test_the_disk_that_is_damaged_below_is_good():
    """Or the rest would prove nothing."""
    reopen(written_disk())


WELL_FORMED = {("segments", b"\x98" + b"\x90" * 8), ("deaths", b"\x90")}
"""What the storage below would have noticed, by its checksums and counts."""


@pytest.mark.parametrize("junk", [b"", b"\xc1", b"junk", b"\x90", b"\x98" + b"\x90" * 8])
@pytest.mark.parametrize("where", ["batches", "segments", "state", "deaths"])
def test_damage_is_told_with_its_place(where: str, junk: bytes):
    """StoreCorrupt, and nothing else."""
    disk = written_disk()
    contents = disk._synced
    if where in {"batches", "segments"}:
        rows = getattr(contents, where)
        rows[next(iter(rows))] = junk
    else:
        contents.meta[STATE if where == "state" else f"dead/{next(iter(contents.segments))}"] = junk
    if (where, junk) in WELL_FORMED:
        reopen(disk)
    else:
        with pytest.raises(StoreCorrupt, match=r"batch at position|segment \d|state entry|deaths of segment"):
            reopen(disk)


def test_a_row_that_is_missing_is_noticed():
    """Whatever follows it does not continue the log."""
    disk = written_disk()
    rows = disk._synced.batches
    assert len(rows) >= 2
    del rows[next(iter(rows))]
    with pytest.raises(StoreCorrupt, match="does not continue the log"):
        reopen(disk)


def test_rows_that_overlap_are_noticed():
    """Positions rise from row to row."""
    disk = written_disk()
    rows = disk._synced.batches
    first = next(iter(rows))
    rows[first - 1] = rows.pop(first)
    with pytest.raises(StoreCorrupt, match="reached"):
        reopen(disk)


def test_the_store_of_another_node_is_refused():
    """By name; who it belongs to is told."""
    with pytest.raises(StoreForeign, match="'paris'"):
        reopen(written_disk(), "tokyo")


def test_who_a_store_belongs_to_is_told_before_it_is_loaded():
    """A new one belongs to nobody."""
    assert saved_node({}) is None
    node = saved_node(written_disk()._synced.meta)
    assert node is not None
    assert node.name == "paris"


def test_a_new_incarnation_is_remembered_with_those_before():
    """And what it minted is durable in the same commit."""
    site = Site("paris", retain=False)
    first = site.core.store.node
    site.core.become(NodeId("paris", 5))
    site.core.put(site.core.store.table("all"), "k", b"\x01", 1)
    site.commit(Durability.SYNC)
    site.disk.crash()
    site.open()
    assert site.core.store.node == NodeId("paris", 5)
    assert site.core.journal is not None
    assert site.core.journal.past == [first]
    assert site.core.store.version.counter(NodeId("paris", 5)) == 1


def test_an_empty_loaded_store_is_corrupt_without_its_state():
    """`load` is for what `saved_node` knows."""
    with pytest.raises((StoreCorrupt, KeyError)):
        load(Store(NodeId("paris", 1)), LoadedStore({}))
    with pytest.raises(StoreCorrupt):
        load(Store(NodeId("paris", 1)), LoadedStore({STATE: msgspec.msgpack.encode([1, 2])}))


def test_a_journal_of_an_empty_store_writes_its_name_first():
    """So that a crash before the first write leaves the identity."""
    store = Store(NodeId("paris", 9))
    journal = Journal(store)
    journal.note_state()
    commit = journal.take()
    assert commit is not None
    assert saved_node({key: body for key, body in commit.meta.items() if body is not None}) == NodeId("paris", 9)
    assert store.version == EMPTY
