"""
Law 2 where no store can know it by itself: an old copy of a store, put back without a trace.

Somebody sets a machine back to an image of last week. The store opens without a doubt and would mint dots that others
know already, with another content. The first delta that shows it must end that.
"""

from __future__ import annotations

import random

import pytest

from mmrepl.causality.context import CausalContext
from mmrepl.causality.version_vector import EMPTY, VersionVector
from mmrepl.errors import DeltaGap, IdentityLost, PeerError, WrongContext
from mmrepl.log.policy import LogPolicy
from mmrepl.ports import Durability
from mmrepl.replication.local import LocalCore, claimed_counter
from mmrepl.replication.opening import open_core
from mmrepl.runtime.replica import Replica
from mmrepl.runtime.system import SYSTEM_CLOCK
from mmrepl.storage.memory import MemoryDisk, MemoryStorage
from mmrepl.types import NodeId
from mmrepl.wire.messages import Delta, Snapshot


def image(disk: MemoryDisk) -> MemoryDisk:
    """The disk as it is now, bit by bit: nothing on it says that it is a copy."""
    copy = MemoryDisk()
    copy._synced = disk._synced.copy()
    return copy


def replica(name: str, disk: MemoryDisk | None = None, **options: object) -> Replica:
    storage = None if disk is None else MemoryStorage(disk)
    return Replica(name, storage=storage, **options)  # type: ignore[arg-type]


class Later:
    """The clock of the machine that was set back: a minute on, so that no stamp repeats by chance."""

    def wall_ms(self) -> int:
        return SYSTEM_CLOCK.wall_ms() + 60_000

    def monotonic_ms(self) -> int:
        return SYSTEM_CLOCK.monotonic_ms()


class Restored:
    """paris wrote two operations, was imaged, wrote three more, which tokyo has; now the image runs."""

    def __init__(self, *, log: LogPolicy | None = None) -> None:
        disk = MemoryDisk()
        paris = replica("paris", disk)
        paris["a"], paris["b"] = 1, 2
        old = image(disk)
        self.tokyo = replica("tokyo", **({} if log is None else {"log": log}))
        for key in ("c", "d", "e"):
            paris[key] = key
        self.tokyo.merge(paris.delta())
        self.node, self.latest = paris.node, paris.version
        paris.close()
        self.disk = old
        self.paris = replica("paris", old, clock=Later())
        assert self.paris.node == self.node
        assert self.paris.doubt is None


def test_an_old_copy_that_has_written_nothing_becomes_somebody_else():
    """It takes a new incarnation, learns what it had written, says so, and nothing is lost or minted twice."""
    world = Restored()
    paris, tokyo = world.paris, world.tokyo
    paris.merge(tokyo.delta(since=paris.version))
    assert paris.node != world.node
    assert paris.doubt is not None
    assert "old copy" in paris.doubt
    assert dict(paris) == {"a": 1, "b": 2, "c": "c", "d": "d", "e": "e"}
    paris["f"] = "new"
    tokyo.merge(paris.delta(since=tokyo.version))
    assert dict(tokyo) == dict(paris)
    paris.check()
    tokyo.check()


def test_an_old_copy_that_goes_on_unnoticed_is_found_out(monkeypatch: pytest.MonkeyPatch):
    """The bug that all this is about, planted: the same dots with other contents."""
    monkeypatch.setattr(LocalCore, "recover_identity", lambda _core, _claimed: None)
    world = Restored()
    with pytest.raises(PeerError):
        world.paris.merge(world.tokyo.delta(since=world.paris.version))
    world.paris["mine"] = 1
    with pytest.raises(PeerError):
        world.tokyo.merge(world.paris.delta())


def test_the_new_incarnation_is_durable():
    """And the old one, which is a stranger by then, goes on as far as others know it."""
    world = Restored()
    world.paris.merge(world.tokyo.delta(since=world.paris.version))
    node, version = world.paris.node, world.paris.version
    world.paris.close()
    with replica("paris", world.disk) as again:
        assert (again.node, again.version, again.doubt) == (node, version, None)
        assert again.version.counter(NodeId.parse(world.node)) == 5


def test_a_delta_for_what_was_remembered_of_it_is_a_gap():
    """Tokyo believes paris to have what it once had. Told what paris has now, it sends what shows the truth."""
    world = Restored()
    world.tokyo["t"] = 1
    with pytest.raises(DeltaGap):
        world.paris.merge(world.tokyo.delta(since=world.latest))
    world.paris.merge(world.tokyo.delta(since=world.paris.version))
    assert world.paris.node != world.node
    assert dict(world.paris) == dict(world.tokyo)


def test_a_snapshot_shows_it_as_well():
    """By its clock."""
    world = Restored(log=LogPolicy(operations=1))
    for number in range(30):
        world.tokyo[f"t{number % 5}"] = number
    world.paris.merge(world.tokyo.delta(since=world.paris.version))
    assert world.paris.node != world.node
    assert dict(world.paris) == dict(world.tokyo)
    world.paris.check()


def test_an_old_copy_that_has_written_on_is_told_so():
    """Dots exist twice: which ones, and what to do, is in the error. Nothing is taken in."""
    world = Restored()
    world.paris["mine"] = 1
    world.paris["also mine"] = 2
    before = world.paris.version
    with pytest.raises(IdentityLost, match="Operations 3 to 4") as caught:
        world.paris.merge(world.tokyo.delta(since=VersionVector({NodeId.parse(world.node): 4})))
    assert (str(caught.value.node), caught.value.first, caught.value.last) == (world.node, 3, 4)
    assert "new store" in str(caught.value)
    assert world.paris.version == before
    assert world.paris.node == world.node
    world.paris.check()


def test_what_was_written_since_can_be_carried_over():
    """The way out that the error names."""
    world = Restored()
    world.paris["mine"] = 1
    with pytest.raises(PeerError):
        world.paris.merge(world.tokyo.delta(since=world.paris.version))
    mine = {change.key: change.value for change in world.paris.changes() if change.dot.counter >= 3}
    fresh = replica("paris")
    fresh.merge(world.tokyo.delta())
    fresh.update(mine)
    world.tokyo.merge(fresh.delta(since=world.tokyo.version))
    assert dict(world.tokyo) == {"a": 1, "b": 2, "c": "c", "d": "d", "e": "e", "mine": 1}


def test_in_memory_too():
    """Whoever keeps a replica's deltas and feeds them to a new one of the same incarnation."""
    paris, twin = (replica("paris", rng=random.Random(7)) for _ in range(2))
    paris["a"] = 1
    assert paris.node == twin.node
    twin.merge(paris.delta())
    assert twin.node != paris.node
    assert twin["a"] == 1
    third = replica("paris", rng=random.Random(7))
    third["a"] = 2
    paris["b"] = 2
    with pytest.raises(PeerError):
        third.merge(paris.delta())


def test_another_writer_who_has_read_more_of_us_shows_it():
    """Even where none of our operations come: a context that covers them is proof enough."""
    world = Restored()
    lima = replica("lima")
    read = CausalContext("", "e", VersionVector({NodeId.parse(world.node): 5}))
    lima.put("e", "over it", context=read)
    world.paris.merge(lima.delta())
    assert world.paris.node != world.node
    world.paris["e"] = "still seen"
    assert world.paris["e"] == "still seen"


def test_what_a_delta_assumes_is_no_proof():
    """We may have said it ourselves, before it was durable here."""
    node = NodeId("paris", 1)
    lima = replica("lima")
    lima["k"] = 1
    core: LocalCore = lima._core
    delta = core.delta(EMPTY)
    assert delta is not None
    assuming = Delta([("paris", 1, 99)], delta.batch)
    assert claimed_counter(node, assuming) == 0
    assert claimed_counter(node, Snapshot("x", 0, 1, [("paris", 1, 99)], delta.batch)) == 99


def test_a_context_of_our_own_future_is_refused_at_put():
    """A client has read at the original what the old copy has not got; writing with it would lose the write."""
    world = Restored()
    ahead = CausalContext("", "e", world.latest)
    with pytest.raises(WrongContext, match="old copy"):
        world.paris.put("e", 1, context=ahead)
    world.paris.merge(world.tokyo.delta(since=world.paris.version))
    world.paris.put("e", 1, context=ahead)
    assert world.paris["e"] == 1


def test_without_dice_there_is_no_new_incarnation():
    """A core that was made without is told so, rather than going on as it was."""
    disk = MemoryDisk()
    core, _, _ = open_core("paris", MemoryStorage(disk), random.Random(1))
    bare = LocalCore(core.store, core.journal)
    with pytest.raises(IdentityLost):
        bare.recover_identity(1)
    core.recover_identity(0)
    core.recover_identity(1)
    assert core.minted_count == 0
    core.put(core.store.table(""), "k", b"\x01", 1, None, Durability.SYNC)
    assert core.minted_count == 1
    core.recover_identity(1)
    with pytest.raises(IdentityLost):
        core.recover_identity(2)
