"""A simulated disk forgets, tears, rots and fails as a real one may, and says so where it can."""

from __future__ import annotations

from random import Random

import pytest

from mmrepl.errors import ClosedError, DiskFull, StoreCorrupt, StoreFailed, UsageError
from mmrepl.ports import Commit, Durability
from mmrepl.sim.disk import SimDisk, SimStorage


def opened(disk):
    storage = SimStorage(disk)
    return storage, storage.load()


def written(disk, *levels):
    storage, _ = opened(disk)
    for number, level in enumerate(levels):
        storage.commit(Commit(meta={"n": b"%d" % number}, batches={number: b"x" * 40}), level)
    return storage


def test_what_was_synced_stays():
    """Over the death of the process and of the machine."""
    disk = SimDisk()
    written(disk, Durability.SYNC, Durability.BATCH)
    disk.lose_power(Random(1))
    _, loaded = opened(disk)
    assert (loaded.meta, loaded.doubt) == ({"n": b"1"}, None)
    assert dict(loaded.batches()) == {0: b"x" * 40, 1: b"x" * 40}


def test_what_was_opened_stays():
    """It was read, and will be told to others: opening syncs it, as a process that died may not have."""
    disk = SimDisk()
    written(disk, Durability.SYNC, Durability.NONE, Durability.NONE)
    opened(disk)
    assert disk.lose_power(Random(1)) == 0
    _, loaded = opened(disk)
    assert (loaded.meta, loaded.doubt) == ({"n": b"2"}, None)


def test_what_was_not_synced_is_kept_lost_or_torn_and_doubted():
    """Any beginning of it is left, never something else; and whatever is left, it is doubted."""
    seen = set()
    for seed in range(60):
        disk = SimDisk()
        written(disk, Durability.SYNC, Durability.NONE, Durability.NONE)
        disk.lose_power(Random(seed))
        _, loaded = opened(disk)
        assert loaded.doubt is not None
        seen.add((loaded.meta["n"], disk.torn_count))
    assert {number for number, _ in seen} == {b"0", b"1", b"2"}
    assert {torn for _, torn in seen} == {0, 1}


def test_what_survives_behind_a_hole_is_cut_off_and_doubted():
    """Sectors reach the disk in any order; a log ends where its first gap is."""
    holes = torn = 0
    for seed in range(2_500):
        disk = SimDisk()
        written(disk, Durability.SYNC, *[Durability.NONE] * 4)
        disk.lose_power(Random(seed))
        holes += disk.hole_count
        whole = disk.size_bytes
        _, loaded = opened(disk)
        assert loaded.doubt is not None
        assert len(dict(loaded.batches())) == int(loaded.meta["n"]) + 1, "a beginning, without a gap"
        assert disk.size_bytes <= whole
        torn += disk.torn_count
    assert holes >= 500
    assert torn >= 500


def test_damage_before_weak_writes_is_told():
    """What was synced and rots is no torn end, though only weak writes follow it."""
    disk = SimDisk()
    written(disk, Durability.SYNC, Durability.SYNC, Durability.NONE, Durability.NONE)
    disk._records[1] = disk._records[1][:-1] + b"!"
    with pytest.raises(StoreCorrupt, match=r"record 1 .* is damaged"):
        opened(disk)


def test_a_commit_under_way_is_there_or_not():
    """It was never acknowledged and never sent: no doubt."""
    disk = SimDisk()
    storage = written(disk, Durability.SYNC)
    storage.write(Commit(meta={"n": b"1"}), Durability.SYNC)
    disk.unwrite()
    _, loaded = opened(disk)
    assert (loaded.meta, loaded.doubt) == ({"n": b"0"}, None)


def test_a_doubt_stands_until_a_commit_settles_it():
    """Also when the process dies while it makes its first one: else the old incarnation would mint its dots again."""
    disk = SimDisk()
    written(disk, Durability.SYNC, Durability.NONE)
    disk.lose_power(Random(3))
    storage, loaded = opened(disk)
    assert loaded.doubt is not None
    storage.write(Commit(meta={"n": b"9"}), Durability.SYNC)
    disk.unwrite()
    storage, loaded = opened(disk)
    assert loaded.doubt is not None
    storage.commit(Commit(meta={"n": b"9"}), Durability.SYNC)
    assert opened(disk)[1].doubt is None


def test_every_flipped_bit_is_noticed():
    """In the middle it is damage, in the last record an end that was cut off, and doubted."""
    for seed in range(200):
        disk = SimDisk()
        written(disk, *[Durability.SYNC] * 3)
        disk.rot(Random(seed))
        try:
            _, loaded = opened(disk)
        except StoreCorrupt as error:
            assert "record" in str(error)  # noqa: PT017 - either way is right
        else:
            assert loaded.doubt is not None
            assert loaded.meta["n"] == b"1"


def test_a_record_that_was_never_written_is_missed():
    """The write was claimed; the serial number of the next one tells."""
    disk = SimDisk()
    storage = written(disk, Durability.SYNC)
    disk.lying = True
    storage.commit(Commit(meta={"n": b"1"}), Durability.SYNC)
    storage.commit(Commit(meta={"n": b"2"}), Durability.SYNC)
    with pytest.raises(StoreCorrupt, match="missing"):
        opened(disk)


def test_a_full_disk_refuses_whole_and_goes_on():
    """Nothing of the commit is there, and the next one finds space."""
    disk = SimDisk()
    storage = written(disk, Durability.SYNC)
    disk.full = True
    with pytest.raises(DiskFull):
        storage.commit(Commit(meta={"n": b"1"}), Durability.SYNC)
    disk.full = False
    storage.commit(Commit(meta={"n": b"2"}), Durability.SYNC)
    assert opened(disk)[1].meta == {"n": b"2"}


def test_a_failed_disk_stays_failed():
    """Until it is opened again."""
    disk = SimDisk()
    storage = written(disk, Durability.SYNC)
    disk.failing = True
    for _ in range(2):
        with pytest.raises(StoreFailed):
            storage.commit(Commit(meta={"n": b"1"}), Durability.SYNC)
    assert opened(disk)[1].meta == {"n": b"0"}


def test_a_copy_holds_what_was_committed():
    """Not what was under way; and it is put back as it was."""
    disk = SimDisk()
    storage = written(disk, Durability.SYNC)
    storage.write(Commit(meta={"n": b"1"}), Durability.SYNC)
    copy = disk.copy()
    storage.finish(Durability.SYNC)
    disk.restore(copy, "restored")
    _, loaded = opened(disk)
    assert (loaded.meta, loaded.doubt) == ({"n": b"0"}, "restored")


def test_the_dead_write_no_more():
    """A storage whose disk was opened by another life is closed."""
    disk = SimDisk()
    first = written(disk, Durability.SYNC)
    opened(disk)
    with pytest.raises(ClosedError):
        first.commit(Commit(), Durability.SYNC)
    with pytest.raises(UsageError):
        first.backup("elsewhere")
