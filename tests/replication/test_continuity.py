"""Whose memory a new incarnation has: who was killed with weak writes is the member it was, who lost something is not."""

from __future__ import annotations

from mmrepl.ports import Durability
from mmrepl.replication.continuity import CONTINUED, CONTINUED_MAX, continued
from tests.replication.world import World


def meshed(*names, **options):
    world = World(*names, **options)
    world.mesh()
    world.run(1000)
    return world


def forgetful(*names):
    """A cluster whose members have all forgotten a deletion."""
    world = meshed(*names, options={"cut_operations": 1})
    world[names[0]].put("gone", 1)
    world[names[0]].delete("gone")
    world.settle()
    world.run(3000)
    assert all(site.core.rejoin.has_forgotten for site in world.sites.values())
    return world


def killed_with_weak_writes(site):
    """It answers one that is on no disk, and dies."""
    for _ in range(2):
        site.put("weak", 1, durability=Durability.BATCH)
        site.turn()
    site.put("lost", 1, durability=Durability.BATCH)
    before = site.node
    site.restart()
    assert site.node != before
    return before


def test_who_is_killed_with_weak_writes_is_the_member_it_was():
    """What nobody has seen of it comes in as it is; nothing is emptied, nothing is sent to it that it has."""
    world = forgetful("lima", "paris", "tokyo")
    for other in ("lima", "tokyo"):
        world.cut("paris", other)
    paris = world["paris"]
    paris.put("unseen", 1)
    before = killed_with_weak_writes(paris)
    now = paris.node
    for other in ("lima", "tokyo"):
        world.connect("paris", other)
    world.settle()
    assert paris.node == now
    assert before in paris.version
    for site in world.sites.values():
        assert (site.get("unseen"), site.get("weak"), site.get("lost")) == (1, 1, None)


def test_it_is_so_over_any_number_of_deaths():
    """It names as many of its incarnations as it remembers; one that a member knows is enough."""
    world = forgetful("lima", "paris", "tokyo")
    for other in ("lima", "tokyo"):
        world.cut("paris", other)
    paris = world["paris"]
    first = killed_with_weak_writes(paris)
    for _ in range(3):
        killed_with_weak_writes(paris)
    assert first in paris.core.local.continues
    now = paris.node
    paris.restart()
    assert paris.node == now
    assert first in paris.core.local.continues
    for other in ("lima", "tokyo"):
        world.connect("paris", other)
    world.settle()
    assert paris.node == now
    for _ in range(CONTINUED_MAX + 2):
        killed_with_weak_writes(paris)
    assert len(paris.core.local.continues) == CONTINUED_MAX


def test_who_lost_its_latest_commits_continues_nobody():
    """It may have told somebody of what is gone: with writes of its own it has to rejoin, as a stranger."""
    world = forgetful("lima", "paris", "tokyo")
    for other in ("lima", "tokyo"):
        world.cut("paris", other)
    paris = world["paris"]
    paris.put("unseen", 1)
    killed_with_weak_writes(paris)
    paris.turn()
    assert continued(paris.disk.loaded().meta)
    for value in (2, 3):  # the first one is synced, with the mark
        paris.put("weak", value, durability=Durability.NONE)
        paris.turn()
    paris.disk.lose_power()
    paris.restart()
    paris.turn()
    assert paris.doubt
    assert not paris.core.local.continues
    assert CONTINUED not in paris.disk.loaded().meta
    now = paris.node
    world.connect("paris", "lima")
    world.run(300)
    assert paris.node != now


def test_who_starts_over_continues_nobody():
    """It has left its memory behind."""
    world = forgetful("lima", "paris", "tokyo")
    paris = world["paris"]
    killed_with_weak_writes(paris)
    assert paris.core.local.continues
    paris.core.identity.start_over(world["lima"].version)
    world.run(100)
    assert not paris.core.local.continues
    paris.restart()
    assert not paris.core.local.continues
