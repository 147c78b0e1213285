"""A cluster in a script or a notebook: what a person does with it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mmrepl.causality.context import BLIND
from mmrepl.errors import ClosedError, UsageError, WaitTimeout
from mmrepl.resolvers import KeepSiblings
from mmrepl.sim import Cluster, Weather


def three(**options):
    return Cluster(["paris", "tokyo", "lima"], seed=7, **options)


def test_the_face():
    """The program of the design: partition, write on both sides, heal, converge, look."""
    cluster = three()
    cluster.partition({"paris"}, {"tokyo", "lima"})
    cluster["paris"].put("k", 1)
    cluster.run(10)
    cluster["lima"].put("k", 2)
    cluster.run(500)
    assert [node.get("k") for node in cluster] == [1, 2, 2]
    cluster.heal()
    cluster.run_until_converged()
    assert [node.get("k") for node in cluster] == [2, 2, 2]
    text = str(cluster.diagram())
    for told in ("paris", "put k=1", "partition paris | lima tokyo", "heal", "latest 2"):
        assert told in text
    cluster.check()


def test_a_node_is_a_mapping():
    """Put, get, delete, in, len, iteration in key order, other tables."""
    cluster = three(tables={"drafts": KeepSiblings()})
    paris = cluster["paris"]
    paris["b"], paris["a"] = 2, 1
    assert (list(paris), len(paris), "a" in paris, paris["a"]) == (["a", "b"], 2, True, 1)
    del paris["a"]
    assert paris.get("a", "none") == "none"
    with pytest.raises(KeyError):
        del paris["a"]
    with pytest.raises(KeyError):
        _ = paris["a"]
    drafts = paris.table("drafts")
    drafts.put("k", "one", context=BLIND)
    drafts.put("k", "two", context=BLIND)
    read = drafts.read("k")
    assert read.value == ["one", "two"]
    receipt = drafts.put("k", "both", context=read.context)
    assert drafts.get("k") == ["both"]
    assert receipt.dot.origin.name == "paris"


def test_what_does_not_converge_says_what_differs():
    """Held for ever, the error names a node and what it lacks."""
    cluster = three()
    cluster.hold("paris", "tokyo", both=True)
    cluster.hold("paris", "lima", both=True)
    cluster["paris"].put("k", 1)
    with pytest.raises(WaitTimeout, match="tokyo lacks writes 1 to 1 of paris"):
        cluster.run_until_converged(2_000)


@pytest.mark.parametrize(
    "topology", ["mesh", "star", "line", "ring", "random", [("paris", "tokyo"), ("tokyo", "lima")]]
)
def test_every_topology_relays(topology):
    """What one end writes comes to the other."""
    cluster = three(topology=topology)
    cluster["paris"].put("k", 1)
    cluster.run_until_converged()
    assert cluster["lima"].get("k") == 1


def test_a_topology_that_is_none():
    """Refused, with the name."""
    with pytest.raises(UsageError, match="star"):
        three(topology="torus")
    with pytest.raises(UsageError, match="oslo"):
        three(topology=[("paris", "oslo")])


def test_crash_and_restart():
    """What was acknowledged is there after a crash, and catches up."""
    cluster = three()
    cluster["paris"].put("k", 1)
    cluster.crash("paris")
    with pytest.raises(ClosedError, match="paris is down"):
        cluster["paris"].put("k", 2)
    cluster["lima"].put("j", 3)
    cluster.run(1_000)
    cluster.restart("paris")
    cluster.run_until_converged()
    assert (cluster["paris"].get("k"), cluster["paris"].get("j")) == (1, 3)


def test_a_loss_of_power_forgets_what_was_not_synced_and_takes_a_new_incarnation():
    """Law L2: the dots that others know of are not minted again."""
    for seed in range(20):
        cluster = Cluster(["paris", "tokyo"], seed=seed)
        first = cluster["paris"].put("k", 1, durability="none")
        cluster.run(50)  # tokyo has it
        cluster.crash("paris", power=True)
        cluster.restart("paris")
        second = cluster["paris"].put("k", 2)
        assert first.dot != second.dot
        cluster.run_until_converged()
        assert cluster["tokyo"].get("k") == 2


def test_a_pause_is_no_crash():
    """What is sent to a node that stands still waits there."""
    cluster = three()
    cluster.pause("lima")
    cluster["paris"].put("k", 1)
    cluster.run(3_000)
    with pytest.raises(ClosedError):
        cluster["lima"].put("k", 2)
    cluster.resume("lima")
    cluster.run_until_converged()
    assert cluster["lima"].get("k") == 1


def test_a_wiped_disk_comes_back_from_the_others():
    """As another incarnation, with everything that others had."""
    cluster = three()
    cluster["paris"].put("k", 1)
    cluster.run_until_converged()
    with pytest.raises(UsageError, match="crash it first"):
        cluster.wipe("paris")
    before = cluster.core("paris").local.store.node
    cluster.crash("paris")
    cluster.wipe("paris")
    cluster.restart("paris")
    cluster.run_until_converged()
    assert cluster["paris"].get("k") == 1
    assert cluster.core("paris").local.store.node != before


def test_a_node_joins_and_one_is_removed():
    """A newcomer gets everything; who is removed is no member any more."""
    cluster = three()
    cluster["paris"].put("k", 1)
    cluster.join("oslo")
    cluster.run_until_converged()
    assert cluster["oslo"].get("k") == 1
    cluster.crash("lima")
    cluster.remove("lima", at="paris")
    cluster.run(2_000)
    assert cluster.core("oslo").members.names() == ["oslo", "paris", "tokyo"]


def test_a_clock_far_ahead_is_told_so():
    """Its writes are refused before they are made, once it knows the others' clocks."""
    cluster = three()
    cluster.skew("paris", 3_600_000)
    cluster.run(1_000)
    with pytest.raises(Exception, match="ahead"):
        cluster["paris"].put("k", 1)


def test_the_network_may_be_worse():
    """Loss, repetition and disorder of single frames delay, and change nothing."""
    weather = Weather("uniform", 5, loss=0.2, repeat=0.3, reorder=0.3)
    cluster = three(weather=weather, datagrams=True)
    for number in range(20):
        cluster["paris"].put("k", number)
        cluster.run(20)
    cluster.run_until_converged(120_000)
    assert [node.get("k") for node in cluster] == [19] * 3


def test_the_picture_is_a_document():
    """SVG with a lane for each node; a notebook shows it by itself."""
    cluster = three()
    cluster["paris"].put("<k>", "&")
    cluster.run_until_converged()
    picture = cluster.diagram()._repr_svg_()
    assert picture.startswith("<svg")
    assert picture.endswith("</svg>")
    assert "&lt;k&gt;" in picture
    assert "<k>" not in picture


PROGRAM = """
from mmrepl.sim import Options, Run
run = Run(11, Options(operations=60, duration_ms=1500))
run.go()
print(run.cluster.trace.digest(), len(run.cluster.trace))
"""


def test_one_seed_is_one_run():
    """Law L12: to the byte, in another process, under another PYTHONHASHSEED."""
    told = set()
    for salt in ("0", "1", "random"):
        environment = {**os.environ, "PYTHONHASHSEED": salt, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
        )
        told.add(done.stdout)
    assert len(told) == 1, told
