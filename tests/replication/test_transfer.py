"""Snapshots between peers: whole or not at all, whatever breaks off, whoever else sends one."""

from __future__ import annotations

import pytest
from attrs import evolve

from mmrepl.log.batch import Batch
from mmrepl.log.policy import LogPolicy
from mmrepl.types import DEFAULT_LIMITS
from mmrepl.wire.codec import encode
from mmrepl.wire.messages import Ask, Delta, Refuse, Snapshot
from tests.replication.world import World

SMALL = evolve(DEFAULT_LIMITS, delta_bytes=1024)  # chunks of some ten operations
CUTTING = {"log": LogPolicy(operations=10), "cut_operations": 1}
YEAR_MS = 365 * 24 * 3600 * 1000


def behind(*, keys=100, names=("paris",)):
    """A world in which tokyo lacks what has been cut from the logs of the others."""
    world = World("tokyo", *names, limits=SMALL, options=CUTTING)
    world.mesh()
    world.run(500)
    world[names[0]].put("deleted", "x")
    world["tokyo"].put("ours", "overwritten")
    world.settle()
    for name in names:
        world.cut("tokyo", name)
    site = world[names[0]]
    site.delete("deleted")
    site.put("ours", "new")
    for i in range(keys):
        site.put(f"k{i:04}", "v" * 100)
        world.run()
    world["tokyo"].put("mine", "unseen")
    world.run(1000)
    assert site.core.local.store.log.floor().counter(site.node) > 50
    return world


def chunks(world, mark, target="tokyo"):
    return [message for a, b, message in world.said[mark:] if isinstance(message, Snapshot) and b == target]


def stopped(world, index):
    """Tokyo is being sent a snapshot by paris; the line goes silent after that chunk."""

    def stop(source, target, message):
        if isinstance(message, Snapshot) and message.index == index:
            world.hold("paris", "tokyo")
            world.told = None

    world.told = stop
    world.connect("tokyo", "paris")
    world.run()
    assert world.told is None
    return world


def test_who_lacks_what_was_cut_is_sent_a_snapshot():
    """In chunks, once each; what only the receiver has stays, what is dead by silence goes."""
    world = behind()
    mark = len(world.said)
    world.connect("tokyo", "paris")
    world.settle()
    got = chunks(world, mark)
    assert len(got) > 4
    assert [chunk.index for chunk in got] == list(range(got[0].count))
    assert world["tokyo"].get("deleted") is None
    assert world["tokyo"].get("ours") == "new"
    assert world["paris"].get("mine") == "unseen"
    assert world["tokyo"].core.transfers.installed_count == 1


def test_the_live_stream_goes_on_meanwhile():
    """What is written during the transfer follows, once."""
    world = behind()
    world.connect("tokyo", "paris")
    world.hold("paris", "tokyo")
    world.run(100)
    world["paris"].put("late", 1)
    world.release("paris", "tokyo")
    world.settle()
    assert world["tokyo"].get("late") == 1


def test_a_broken_transfer_goes_on_where_it_was():
    """After a reconnect only the chunks that are missing travel."""
    world = behind(keys=200)
    mark = len(world.said)
    stopped(world, 10)
    before = chunks(world, mark)
    assert 10 < len(before) < before[0].count
    world.cut("tokyo", "paris")
    world.release("paris", "tokyo")
    mark = len(world.said)
    world.connect("tokyo", "paris")
    world.settle()
    after = chunks(world, mark)
    assert {chunk.id for chunk in after} == {before[0].id}
    assert len(before) + len(after) <= before[0].count + 4
    assert world["paris"].core.transfers.sent_count == 1


def test_a_sender_that_has_restarted_begins_one_new_snapshot():
    """Not one for each chunk that is asked for."""
    world = stopped(behind(keys=200), 10)
    world["paris"].restart()
    world.release("paris", "tokyo")
    mark = len(world.said)
    world.connect("tokyo", "paris")
    world.settle()
    assert len({chunk.id for chunk in chunks(world, mark)}) == 1
    assert world["paris"].core.transfers.sent_count == 1


def test_a_sender_that_is_gone_is_replaced_by_another():
    """Its chunks are let go when the other's come."""
    world = stopped(behind(names=("paris", "lima"), keys=200), 10)
    world.cut("tokyo", "paris")
    world.connect("tokyo", "lima")
    world.settle()
    assert world["tokyo"].core.transfers.installed_count == 1


def test_two_senders_do_not_push_each_others_chunks_out():
    """A sponsor that was given up for slow, and goes on when another is sending: its chunks are passed over."""
    world = behind(names=("paris", "lima"), keys=200)
    world.connect("tokyo", "paris")
    world.connect("tokyo", "lima")

    def stop(source, target, message):
        if isinstance(message, Snapshot) and message.index == 2:
            world.hold(source, "tokyo")
            world.told = None

    world.told = stop
    world.run(4000)
    for name in ("paris", "lima"):
        world.release(name, "tokyo")
    world.settle()
    assert world["tokyo"].core.transfers.installed_count == 1


def test_chunks_of_two_snapshots_are_never_mixed():
    """A chunk of another id, clock or count is not part of this one."""
    world = World("tokyo", "paris")
    world.mesh()
    world.run(300)
    nothing = Batch([], [], [], [], [], [], [], [])
    world.inject("paris", "tokyo", Snapshot("a", 0, 3, [], nothing))
    world.inject("paris", "tokyo", Snapshot("a", 1, 4, [], nothing))
    world.run()
    assert not world.between("tokyo", "paris")
    assert any("does not belong" in text for text in world["tokyo"].core.complaints)


@pytest.mark.parametrize("chunk", [("a", -1, 3), ("a", 3, 3), ("a", 0, 0), ("a", 2**62, 2**61)])
def test_chunks_out_of_range_cost_the_connection(chunk):
    """Before anything is kept."""
    world = World("tokyo", "paris")
    world.mesh()
    world.run(300)
    world.inject("paris", "tokyo", Snapshot(*chunk, [], Batch([], [], [], [], [], [], [], [])))
    world.run()
    assert not world.between("tokyo", "paris")


@pytest.mark.parametrize("index", [-1, -(2**62)])
def test_asking_for_a_chunk_below_the_first_costs_the_connection(index):
    """And nothing else."""
    world = stopped(behind(), 2)
    world.inject("tokyo", "paris", Ask(world["paris"].core.peers["tokyo"].capture.id, index))
    world.run()
    assert not any(peer.name == "tokyo" for peer in world["paris"].core.up())


def test_a_snapshot_in_which_nothing_fits_costs_its_sender_the_connection():
    """It was refused whole; the store is what it was."""
    world = World("tokyo", "paris", "lima")
    world.mesh()
    world.run(300)
    world["tokyo"].put("k", 1)
    world.settle()
    before = world["tokyo"].content()
    uncovered = Batch([("paris", 1)], [""], [0, 1, 1], [], ["x"], [1], [b"\x01"], [])
    world.inject("paris", "tokyo", Snapshot("a", 0, 1, [], uncovered))
    world.run()
    assert {peer.name for peer in world["tokyo"].core.up()} == {"lima"}
    assert world["tokyo"].content() == before
    world["tokyo"].core.check()


def test_a_snapshot_with_stamps_too_far_ahead_waits_for_its_time():
    """It is neither thrown away nor asked for again; its origin is named."""
    world = World("paris", limits=SMALL, options=CUTTING)
    tokyo = world.add("tokyo", limits=SMALL, options=CUTTING)
    world["paris"].skew_ms = YEAR_MS
    for i in range(100):
        world["paris"].put(f"k{i}", "v" * 100)
        world.run()
    world.run(1000)
    world.connect("tokyo", "paris")
    world.run(3000)
    mark = len(world.said)
    world.run(30_000)
    assert not chunks(world, mark)
    assert not any(isinstance(message, Refuse) for *_, message in world.said)
    (held,) = tokyo.core.holds()
    assert held.startswith(str(world["paris"].node))
    tokyo.skew_ms = YEAR_MS
    world.settle()
    assert tokyo.get("k99") == "v" * 100


def test_a_capture_that_nobody_asks_about_is_let_go():
    """After a minute; the receiver begins anew then."""
    world = stopped(behind(), 2)
    paris = world["paris"].core
    assert paris.peers["tokyo"].capture is not None
    world.cut("tokyo", "paris")
    world.run(30_000)
    assert paris.peers["tokyo"].capture is not None
    world.run(31_000)
    assert paris.peers["tokyo"].capture is None


def test_nothing_is_captured_while_what_lived_is_not_on_disk():
    """Who asks meanwhile is answered by nothing, and asks again."""
    world = behind()
    paris = world["paris"]
    paris.slow = True
    paris.put("k", 1)
    paris.core.local._cut_at = paris.core.local.store.log.end  # as after a cut whose commit is under way
    paris.turn()
    world.connect("tokyo", "paris")
    world.run(1000)
    assert world["paris"].core.transfers.sent_count == 0
    paris.flush()
    world.settle()


def test_a_snapshot_is_durable_before_it_is_acknowledged():
    """Killed between the two, the receiver asks again."""
    world = behind()
    tokyo = world["tokyo"]
    tokyo.slow = True
    world.connect("tokyo", "paris")
    world.run(1000)
    assert tokyo.core.transfers.installed_count == 1
    assert not world["paris"].core.peers["tokyo"].known.descends(world["paris"].version)
    tokyo.slow = False
    tokyo.restart()
    assert tokyo.get("k0050") is None
    assert tokyo.get("mine") == "unseen"
    world.connect("tokyo", "paris")
    world.settle()


def test_values_as_large_as_frames_travel_in_snapshots_too():
    """A chunk is closed by its bytes, however few operations those are."""
    limits = evolve(DEFAULT_LIMITS, value_bytes=100_000, frame_bytes=400_000, delta_bytes=100_000)
    world = World("tokyo", "paris", limits=limits, options=CUTTING)
    for i in range(40):
        world["paris"].put(f"k{i}", "v" * 90_000)
        world.run()
    world.run(1000)
    mark = len(world.said)
    world.connect("tokyo", "paris")
    world.settle()
    assert len(chunks(world, mark)) >= 10
    assert max(len(encode(chunk)[1]) for chunk in chunks(world, mark)) <= limits.frame_bytes


def test_deltas_that_stand_on_the_snapshot_are_held_until_it_is_there():
    """Those of others arrive meanwhile and are applied after."""
    world = behind(names=("paris", "lima"))
    world.connect("tokyo", "lima")
    world.connect("tokyo", "paris")
    world.hold("lima", "tokyo")
    world.run(100)
    world["paris"].put("late", 1)
    world.run(100)
    world.release("lima", "tokyo")
    world.settle()
    assert world["tokyo"].get("late") == 1
    assert not any(isinstance(message, Delta) and message.batch.dot_count > 100 for *_, message in world.said)
