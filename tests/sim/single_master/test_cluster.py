"""A single-master cluster by hand, in virtual time."""

from __future__ import annotations

import pytest

from mmrepl.errors import LeadershipLost, NotPrimary, PromotionRefused, Unavailable
from mmrepl.sim.single_master import LogSettings, SingleMasterCluster, check_log_history
from mmrepl.single_master.options import Failover

NAMES = ["paris", "tokyo", "lima"]


def test_a_leader_is_elected_and_every_node_gets_what_it_writes():
    """Three nodes agree on a leader; a write is applied everywhere."""
    cluster = SingleMasterCluster(NAMES, seed=7)
    cluster.run_until_led()
    cluster.put("k", [1, 2])
    cluster.run_until_equal()
    assert [cluster.get(name, "k") for name in NAMES] == [[1, 2]] * 3
    assert check_log_history(cluster.history) == []


def test_a_leader_without_a_quorum_steps_down_and_its_write_is_in_doubt():
    """The side with a quorum goes on; the old leader takes nothing, and what it had taken is kept as a branch."""
    cluster = SingleMasterCluster(NAMES, seed=3)
    old = cluster.run_until_led()
    cluster.put("k", "before")
    cluster.run_until_equal()
    cluster.partition({old}, set(NAMES) - {old})
    with pytest.raises((LeadershipLost, Unavailable)) as caught:
        cluster.put("k", "alone")
    assert not caught.value.definite
    new = cluster.run_until_led()
    assert new != old
    cluster.put("k", "after")
    with pytest.raises(NotPrimary):
        cluster.core(old).propose("", "k", b"\x01", *cluster.node(old).now())
    assert cluster.get(old, "k") == "before"
    cluster.heal()
    cluster.run_until_equal()
    assert [cluster.get(name, "k") for name in NAMES] == ["after"] * 3
    (branch,) = cluster.core(old).branches()
    assert (branch.writes, branch.keys) == (1, 1)
    assert check_log_history(cluster.history) == []


def test_a_replica_that_lacks_something_is_not_promoted_unless_forced():
    """Manual failover: whoever is not the most up-to-date is refused, and told what would be lost."""
    settings = LogSettings(failover=Failover.MANUAL, ack="async")
    cluster = SingleMasterCluster(NAMES, seed=5, settings=settings)
    assert cluster.run_until_led() == "paris"
    cluster.put("k", 1, ack="all")
    cluster.hold("paris", "lima", both=True)
    cluster.put("k", 2, ack="one")
    cluster.crash("paris")
    cluster.run(100)
    with pytest.raises(PromotionRefused, match="tokyo"):
        cluster.promote("lima")
    promoted = cluster.promote("tokyo")
    assert promoted.term > 0
    cluster.heal()
    cluster.restart("paris")
    cluster.put("k", 3)
    cluster.run_until_equal()
    assert cluster.leader() == "tokyo"
    assert [cluster.get(name, "k") for name in NAMES] == [3] * 3


def test_a_linearizable_read_at_a_follower_shows_the_latest():
    """A follower asks the leader how far it has to be."""
    cluster = SingleMasterCluster(NAMES, seed=1)
    leader = cluster.run_until_led()
    cluster.put("k", 1)
    follower = next(name for name in NAMES if name != leader)
    assert cluster.read(follower, "k") == 1


def test_the_same_seed_gives_the_same_trace():
    """Same seed, same run."""

    def digest():
        cluster = SingleMasterCluster(NAMES, seed=11)
        cluster.run_until_led()
        cluster.put("k", 1)
        cluster.run_until_equal()
        return cluster.trace.digest()

    assert digest() == digest()


def test_followers_that_have_nothing_to_say_stay_connected():
    """Nothing is written for a minute: no connection is given up for silence, and nobody complains."""
    cluster = SingleMasterCluster(NAMES, seed=2)
    cluster.run_until_led()
    cluster.run(2_000)
    before = cluster.messages["Hello"]
    cluster.run(60_000)
    assert cluster.messages["Hello"] == before
    assert all(not cluster.core(name).complaints for name in NAMES)
