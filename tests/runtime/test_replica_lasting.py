"""The embedded replica on a disk: what is there again, and what happens when something goes wrong."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mmrepl.causality.version_vector import VersionVector
from mmrepl.errors import (
    ClosedError,
    InvalidKey,
    StoreFailed,
    StoreForeign,
    StoreLocked,
    UsageError,
)
from mmrepl.log.policy import LogPolicy
from mmrepl.ports import Commit, Durability
from mmrepl.resolvers import KeepSiblings, LastWriterWins
from mmrepl.runtime.replica import Replica
from mmrepl.storage.memory import MemoryDisk, MemoryStorage
from mmrepl.types import Limits
from mmrepl.wire.compression import available_compressions
from tests.runtime.embedded import TABLES, exchange, siblings_of


@pytest.fixture(params=["memory", "sqlite"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """How to open a replica at one place, again and again."""
    disk = MemoryDisk()

    def opened(**options: Any) -> Replica:
        if request.param == "memory":
            return Replica("paris", storage=MemoryStorage(disk), tables=TABLES, **options)
        return Replica("paris", tmp_path / "paris.db", tables=TABLES, **options)

    return opened


def test_what_was_written_is_there_again(place: Any, tokyo: Replica):
    """The same values, siblings, contexts, version and node; and no doubt."""
    with place() as paris:
        for number in range(300):
            paris[f"k{number % 70}"] = number
        del paris["k3"]
        siblings_of(paris, tokyo, "d", "ours", "theirs", "drafts")
        node, version, items = paris.node, paris.version, dict(paris)
        read = paris.table("drafts").read("d")
    with place() as again:
        assert (again.node, again.version, dict(again), again.doubt) == (node, version, items, None)
        assert again.table("drafts").read("d") == read
        again.check()
        again["k3"] = "again"
        exchange(again, tokyo)
        assert tokyo["k3"] == "again"


@pytest.mark.parametrize("level", ["sync", "batch", "none"])
def test_every_level_is_there_after_closing(place: Any, level: str):
    """For a replica, and for single writes."""
    with place(durability=level) as paris:
        for number in range(50):
            paris[f"k{number}"] = number
        paris.put("one", 1, durability="none")
        paris.put("two", 2, durability="batch")
        paris.put("three", 3, durability=Durability.SYNC)
        paris.flush()
        paris["late"] = 4
    with place() as again:
        assert len(again) == 54
        assert again.doubt is None


@pytest.mark.parametrize("level", ["SYNC!", 5, None])
def test_a_durability_that_is_none_is_refused(level: Any):
    """When the replica is made, and at put; nothing is written."""
    if level is not None:
        with pytest.raises(UsageError, match="durability"):
            Replica("paris").put("k", 1, durability=level)
    with pytest.raises(UsageError, match="durability"):
        Replica("paris", durability=level)


def test_the_log_keeps_within_its_bytes_however_large_the_values(place: Any):
    """A quarter more at most, in memory and on disk; what is live stays, and who is far behind is given a snapshot."""
    with place(log=LogPolicy(bytes=8 << 20)) as paris:
        for number in range(40):
            paris[f"key {number}"] = bytes(500_000)
        log = paris._store.log
        held = sum(len(payload or b"") for columns in log.columns for payload in columns.payloads)
        assert 3 << 20 < held <= 10 << 20
        assert len(paris) == 40
        tokyo = Replica("tokyo", tables=TABLES)
        tokyo.merge(paris.delta(since=tokyo.version))
        assert dict(tokyo) == dict(paris)


def test_power_takes_only_what_was_not_synced():
    """A write of level sync takes the weaker ones before it along; so does flush. Lost dots are not minted again."""
    disk = MemoryDisk()
    paris = Replica("paris", storage=MemoryStorage(disk), durability="none")
    paris["kept"] = 1
    paris.put("synced", 2, durability="sync")
    paris["flushed"] = 3
    paris._commit(paris._store.log.end, Durability.NONE)  # as the flusher does, some time
    paris.flush()
    paris["lost"] = 4
    paris._commit(paris._store.log.end, Durability.NONE)
    node = paris.node
    disk.lose_power()
    with Replica("paris", storage=MemoryStorage(disk)) as again:
        assert dict(again) == {"flushed": 3, "kept": 1, "synced": 2}
        assert again.node != node
        assert again.doubt is not None
        assert "power" in again.doubt
        again["new"] = 5
    with pytest.raises(ClosedError, match="crashed"):
        paris.close()  # its disk is gone; its thread ends all the same


def test_a_snapshot_is_merged_into_a_file(place: Any):
    """And is there after reopening, with what was there before."""
    lima = Replica("lima", tables=TABLES, log=LogPolicy(operations=4))
    for number in range(60):
        lima[f"k{number % 11}"] = number
    with place() as paris:
        paris["mine"] = 1
        paris.merge(lima.delta(since=paris.version))
        paris["k0"] = "over it"
        items, version = dict(paris), paris.version
    with place() as again:
        again.check()
        assert (dict(again), again.version) == (items, version)
        lima.merge(again.delta(since=lima.version))
        assert dict(lima) == items


def test_a_small_log_in_a_file(place: Any, tokyo: Replica):
    """Cuts, segments, deaths and merged rows, over several openings."""
    twin: dict[str, int] = {}
    for session in range(4):
        with place(log=LogPolicy(operations=16)) as paris:
            paris.check()
            assert dict(paris) == twin
            for number in range(90):
                key = f"k{(number * 7 + session) % 23}"
                if number % 5 == 4 and key in twin:
                    del paris[key], twin[key]
                else:
                    paris[key] = twin[key] = session * 100 + number
            tokyo.merge(paris.delta(since=tokyo.version))
            assert dict(tokyo) == twin


def test_one_file_one_replica(place: Any):
    """A second one is refused while the first is open, and let in afterwards."""
    with place() as paris:
        with pytest.raises(StoreLocked):
            place()
        paris["k"] = 1
    with place() as again:
        assert again["k"] == 1


def test_the_file_of_another_node_is_refused(tmp_path: Path):
    """And is not touched."""
    path = tmp_path / "some.db"
    with Replica("paris", path) as paris:
        paris["k"] = 1
    with pytest.raises(StoreForeign, match="paris"):
        Replica("tokyo", path)
    with Replica("paris", path) as again:
        assert again["k"] == 1


def test_a_copy_and_a_backup_are_somebody_else(tmp_path: Path):
    """They have the content, mint under a new incarnation, and exchange with the original."""
    with Replica("paris", tmp_path / "paris.db") as paris:
        paris["k"] = 1
        paris.backup(tmp_path / "backup.db")
        paris["k"] = 2
        node = paris.node
    shutil.copy(tmp_path / "paris.db", tmp_path / "copy.db")
    with (
        Replica("paris", tmp_path / "paris.db") as paris,
        Replica("paris", tmp_path / "backup.db") as backup,
        Replica("paris", tmp_path / "copy.db") as copy,
    ):
        assert (paris.node, paris.doubt) == (node, None)
        assert len({paris.node, backup.node, copy.node}) == 3
        assert (backup["k"], copy["k"]) == (1, 2)
        assert backup.doubt
        assert copy.doubt
        backup["b"] = copy["c"] = paris["p"] = 3
        exchange(paris, backup, copy)
        exchange(paris, backup, copy)
        assert dict(paris) == dict(backup) == dict(copy) == {"b": 3, "c": 3, "k": 2, "p": 3}


def test_a_replica_in_memory_has_nothing_to_back_up(paris: Replica, tmp_path: Path):
    """And says what to do instead."""
    with pytest.raises(UsageError, match="delta"):
        paris.backup(tmp_path / "x.db")


# -- the end, and trouble


def test_closed_is_closed(tmp_path: Path):
    """Closing twice is fine; everything else says so."""
    paris = Replica("paris", tmp_path / "paris.db")
    paris["k"] = 1
    keys = iter(paris)
    paris.close()
    paris.close()
    uses = [
        lambda: paris["k"],
        lambda: paris.get("k"),
        lambda: "k" in paris,
        lambda: len(paris),
        lambda: list(paris),
        lambda: paris.read("k"),
        lambda: paris.put("k", 1),
        lambda: paris.delete("k"),
        paris.delta,
        lambda: paris.merge(b""),
        paris.changes,
        paris.flush,
        lambda: paris.backup(tmp_path / "b.db"),
        paris.tables,
        lambda: paris.__setitem__("k", 2),
        lambda: paris.__delitem__("k"),
    ]
    for use in uses:
        with pytest.raises(ClosedError):
            use()
    assert next(keys) == "k"
    assert "closed" in repr(paris)
    assert "paris" in repr(paris)


def test_it_shows_what_it_is(paris: Replica, tmp_path: Path):
    """Name, place, size, version."""
    paris["k"] = 1
    assert "in memory" in repr(paris)
    assert "1 keys" in repr(paris)
    assert paris.node in repr(paris)
    assert "carts" in repr(paris.table("carts"))
    with Replica("tokyo", tmp_path / "t.db") as tokyo:
        assert "t.db" in repr(tokyo)


@pytest.mark.parametrize("level", ["sync", "batch"])
def test_threads_write_at_once(place: Any, level: str):
    """Eight of them: every acknowledged write is there, now and after reopening, and every dot was minted once."""
    dots: list[Any] = []
    gate = threading.Barrier(8)

    def work(who: int, paris: Replica) -> None:
        gate.wait()
        for number in range(40):
            dots.append(paris.put(f"t{who}:{number}", number).dot)
            paris[f"shared{number % 3}"] = who
            paris.get(f"t{who}:{number}")
            if number % 16 == 0:
                tokyo.merge(paris.delta(since=VersionVector()))
                list(paris.range("t", "u"))

    with place(durability=level, log=LogPolicy(operations=200)) as paris:
        tokyo = Replica("tokyo", tables=TABLES)
        threads = [threading.Thread(target=work, args=(who, paris)) for who in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        paris.check()
        tokyo.merge(paris.delta(since=tokyo.version))
        items = dict(paris)
        assert dict(tokyo) == items
    assert len(set(dots)) == len(dots) == 320
    assert len(items) == 323
    with place() as again:
        again.check()
        assert dict(again) == items


def test_merging_both_ways_from_threads_ends(paris: Replica, tokyo: Replica):
    """No deadlock between two replicas that are given each other's deltas by two threads."""

    def work(ours: Replica, theirs: Replica) -> None:
        for number in range(60):
            ours[f"k{number % 5}"] = number
            ours.merge(theirs.delta(since=ours.version))

    threads = [threading.Thread(target=work, args=pair) for pair in ((paris, tokyo), (tokyo, paris))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    exchange(paris, tokyo)
    assert dict(paris) == dict(tokyo)


class Interrupted(MemoryStorage):
    """Ctrl-C while a commit is on its way: before it is stored, or after."""

    def __init__(self, disk: MemoryDisk) -> None:
        super().__init__(disk)
        self.strike: str | None = None

    def commit(self, commit: Commit, durability: Durability) -> None:
        strike, self.strike = self.strike, None
        if strike == "before":
            raise KeyboardInterrupt
        super().commit(commit, durability)
        if strike == "after":
            raise KeyboardInterrupt


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("then", ["write", "close", "delta"])
def test_an_interrupted_commit_is_made_good(when: str, then: str):
    """The next thing that needs the disk repeats it: no hole in what was stored, and nothing twice."""
    disk = MemoryDisk()
    storage = Interrupted(disk)
    paris = Replica("paris", storage=storage)
    paris["a"] = 1
    storage.strike = when
    with pytest.raises(KeyboardInterrupt):
        paris["b"] = 2
    assert paris["b"] == 2
    tokyo = Replica("tokyo")
    if then == "write":
        paris["c"] = 3
    elif then == "delta":
        tokyo.merge(paris.delta())
        assert tokyo["b"] == 2
    paris.check()
    paris.close()
    with Replica("paris", storage=MemoryStorage(disk)) as again:
        assert (again["a"], again["b"]) == (1, 2)
        assert again.doubt is None


class Failing(MemoryStorage):
    """A disk that is full from some time on."""

    full = False

    def commit(self, commit: Commit, durability: Durability) -> None:
        if self.full:
            raise StoreFailed("no space left on the device")
        super().commit(commit, durability)


def test_a_failing_disk_is_told_to_every_writer():
    """Also to those of level batch, by the next write at the latest; and nothing is sent that is not stored."""
    storage = Failing(MemoryDisk())
    paris = Replica("paris", storage=storage)
    paris["a"] = 1
    storage.full = True
    with pytest.raises(StoreFailed) as caught:
        paris["b"] = 2
    assert not caught.value.definite
    with pytest.raises(StoreFailed):
        paris.delta()
    with pytest.raises(StoreFailed):
        paris.close()
    with pytest.raises(ClosedError):
        paris["c"] = 3


def test_the_flusher_tells_of_its_failure():
    """A thread that fails alone would lose what it was given; the next writer hears of it instead."""
    storage = Failing(MemoryDisk())
    paris = Replica("paris", storage=storage, durability="batch")
    paris["a"] = 1
    storage.full = True
    paris["b"] = 2
    assert paris._flusher is not None
    paris._flusher.stop()  # waits until it has tried
    with pytest.raises(StoreFailed):
        paris["c"] = 3
    with pytest.raises(StoreFailed):
        paris.close()


def test_opening_that_fails_lets_the_file_go(tmp_path: Path):
    """Whoever opens it next can."""
    path = tmp_path / "paris.db"
    Replica("paris", path).close()
    with pytest.raises(StoreForeign):
        Replica("tokyo", path)
    Replica("paris", path).close()


def test_lowered_limits_are_no_damage(place: Any):
    """What was let in once can be opened; new writes keep the new limits."""
    with place() as paris:
        paris["a long key"] = "a long value"
        paris.table("another")["k"] = 1
    limits = Limits(key_bytes=6, value_bytes=5, tables=4)
    with place(limits=limits) as again:
        assert again["a long key"] == "a long value"
        with pytest.raises(InvalidKey):
            again["another long key"] = 1


def test_the_default_resolver_can_be_chosen():
    """For all tables that are not named."""
    paris = Replica("paris", default=KeepSiblings(), tables={"l": LastWriterWins()})
    paris["k"] = paris.table("l")["k"] = paris.table("x")["k"] = 1
    assert (paris["k"], paris.table("l")["k"], paris.table("x")["k"]) == ([1], 1, [1])


@pytest.mark.parametrize("compression", [None, *available_compressions()])
def test_a_delta_can_be_compressed_and_is_merged_all_the_same(compression):
    """The receiver need not be told."""
    paris, tokyo = Replica("paris"), Replica("tokyo")
    for number in range(200):
        paris[f"key:{number}"] = {"name": f"user {number}", "active": True}
    delta = paris.delta(compression=compression)
    assert (len(delta) < len(paris.delta()) / 2) == (compression is not None)
    tokyo.merge(delta)
    assert dict(tokyo) == dict(paris)


def test_an_unknown_compression_is_refused():
    """By name, with those that there are."""
    with pytest.raises(UsageError, match="zlib"):
        Replica("paris").delta(compression="rar")
