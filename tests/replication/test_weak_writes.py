"""Weak writes: answered before they are on disk, and still no dot is minted twice (law L2)."""

from __future__ import annotations

import random

import pytest

from mmrepl.ports import Durability
from mmrepl.replication.mark import CALM_MS, Mark
from mmrepl.replication.opening import open_core
from mmrepl.storage.memory import MemoryDisk, MemoryStorage
from tests.replication.world import World

SYNC, BATCH, NONE = Durability.SYNC, Durability.BATCH, Durability.NONE
DICE = random.Random(1)


class Host:
    """A core over a disk, whose host commits when it is told to."""

    def __init__(self, disk: MemoryDisk) -> None:
        self.disk = disk
        self.storage = MemoryStorage(disk)
        self.core, _, self.doubt = open_core("paris", self.storage, DICE)
        self.commit()

    def put(self, level: Durability) -> bool:
        """Whether the writer is answered at once."""
        self.core.put(self.core.store.table(""), "k", b"\x01", 1, None, level)
        return self.core.answers_at_once(level)

    def commit(self) -> Durability | None:
        persist = self.core.take_persist()
        if persist is None:
            return None
        self.storage.commit(persist.commit, persist.durability)
        self.core.persisted(persist.position)
        return persist.durability

    def killed(self) -> Host:
        self.disk.crash()
        return Host(self.disk)


@pytest.mark.parametrize("level", [BATCH, NONE])
def test_the_first_weak_write_waits_for_the_mark_and_the_next_ones_do_not(level):
    """It costs one sync a run of weak writes."""
    host = Host(MemoryDisk())
    assert not host.put(level)
    assert not host.put(level), "the mark is not on disk yet"
    assert host.commit() is SYNC
    assert host.put(level)
    assert host.put(level)
    assert host.commit() is level
    assert not host.put(SYNC)


def test_who_is_killed_under_weak_writes_comes_back_as_another():
    """Whether or not any of them was lost: the disk cannot tell."""
    host = Host(MemoryDisk())
    node = host.core.store.node
    host.put(NONE)
    host.commit()
    host.put(NONE)
    again = host.killed()
    assert again.core.store.node != node
    assert "level batch or none" in again.doubt
    third = again.killed()
    assert third.doubt is None, "said once"
    assert third.core.store.node == again.core.store.node


def test_who_is_killed_before_the_mark_is_on_disk_has_answered_nobody():
    """So nothing is doubted."""
    host = Host(MemoryDisk())
    host.put(NONE)
    assert host.killed().doubt is None


def test_a_doubt_lasts_until_it_was_answered():
    """Killed again before the new incarnation is on disk, the node doubts again."""
    host = Host(MemoryDisk())
    host.put(NONE)
    host.commit()
    host.disk.crash()
    open_core("paris", MemoryStorage(host.disk), DICE)
    assert host.killed().doubt is not None


def test_the_mark_is_taken_back_when_it_has_become_calm():
    """By a commit that is synced, and holds all there is; the next weak write needs a new one."""
    host = Host(MemoryDisk())
    host.put(NONE)
    host.commit()
    host.put(NONE)
    for now_ms in (0, CALM_MS - 1):
        host.core.rest(now_ms)
    assert host.commit() is NONE
    host.core.rest(CALM_MS)
    assert host.commit() is SYNC
    assert host.killed().doubt is None
    assert not host.put(NONE)


def test_the_mark_stays_while_a_commit_is_under_way():
    """What is written meanwhile is not in it."""
    host = Host(MemoryDisk())
    host.put(NONE)
    host.commit()
    host.put(NONE)
    under_way = host.core.take_persist()
    host.core.calm_down()
    assert host.put(NONE), "it is on disk still"
    host.storage.commit(under_way.commit, under_way.durability)
    host.core.persisted(under_way.position)
    assert host.killed().doubt is not None


def test_a_weak_write_while_the_mark_is_being_taken_back_waits_for_a_new_one():
    """Be it before the commit is handed out, or after."""
    for handed_out in (False, True):
        host = Host(MemoryDisk())
        host.put(NONE)
        host.commit()
        host.core.calm_down()
        under_way = host.core.take_persist() if handed_out else None
        assert not host.put(NONE)
        if under_way is not None:
            host.storage.commit(under_way.commit, under_way.durability)
            host.core.persisted(under_way.position)
            assert not host.core.answers_at_once(NONE)
        assert host.commit() is SYNC
        assert host.core.answers_at_once(NONE)
        assert host.killed().doubt is not None


def test_a_node_that_starts_over_is_marked_anew():
    """What it was before it will not be again, so the old mark goes with the old log."""
    host = Host(MemoryDisk())
    host.put(NONE)
    host.commit()
    host.core.start_over(host.core.store.node._replace(incarnation=77))
    assert not host.core.answers_at_once(NONE)
    host.commit()
    assert host.killed().doubt is None
    host = host.killed()
    assert not host.put(NONE)
    host.commit()
    assert host.put(NONE)


def test_a_member_that_was_killed_under_weak_writes_goes_on_as_another():
    """What had reached its disk stays, what had not is gone, and what it writes next hides nothing from anybody."""
    world = World("paris", "tokyo")
    world.mesh()
    world["paris"].put("k", "kept", durability=NONE)
    world.run(500)
    world["paris"].put("k", "lost", durability=NONE)
    lost = world["paris"].read("k").context
    node = world["paris"].core.local.store.node
    world["paris"].restart()
    world.mesh()
    world.run(3000)
    assert world["paris"].core.local.store.node != node
    assert world["tokyo"].get("k") == "kept"
    world["paris"].put("k", "other")
    world["paris"].put("k", "late", context=lost)
    world.run(3000)
    assert [s.value for s in world["tokyo"].read("k").siblings] == ["other", "late"], "it had not seen the other"


def test_without_the_mark_a_write_would_be_covered_by_somebody_who_has_not_seen_it(monkeypatch):
    """Planted: the dot is minted again, and the test above would fail."""

    def no_mark(mark, _journal):
        mark.is_on_disk = mark.is_noted = True
        return False

    monkeypatch.setattr(Mark, "put", no_mark)
    with pytest.raises(AssertionError):
        test_a_member_that_was_killed_under_weak_writes_goes_on_as_another()
    with pytest.raises(AssertionError):
        test_who_is_killed_under_weak_writes_comes_back_as_another()
