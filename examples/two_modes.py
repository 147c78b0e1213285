"""
The same partition in both modes, in virtual time: who can go on, what each side reads, and what becomes of it.

Three nodes; paris is cut off from tokyo and lima, and somebody writes on each side. With many writers both are taken,
and meet as siblings after the heal. With one writer the larger side elects a leader of its own; what the old one
had taken alone is cut off its log, kept as a branch, and merged back by the same resolver.
"""

from __future__ import annotations

from mmrepl.resolvers import KeepSiblings
from mmrepl.sim import Cluster
from mmrepl.sim.single_master import LogSettings, SingleMasterCluster
from mmrepl.single_master.core import SingleMaster
from mmrepl.single_master.events import Merged

NAMES = ["paris", "tokyo", "lima"]


def many_writers() -> None:
    """Every node takes writes."""
    print("Many writers")
    cluster = Cluster(NAMES, seed=7, default=KeepSiblings())
    cluster["paris"].put("k", "bonjour")
    cluster.run_until_converged()
    cluster.partition({"paris"}, {"tokyo", "lima"})
    cluster["paris"].put("k", "salut")
    cluster["lima"].put("k", "hola")
    cluster.run(2_000)
    print("  cut off: ", {name: cluster[name].get("k") for name in NAMES})
    cluster.heal()
    took_ms = cluster.run_until_converged()
    print(f"  {took_ms} ms after the heal:", {name: cluster[name].get("k") for name in NAMES})


def one_writer() -> None:
    """A leader is elected, and it alone takes writes."""
    print("One writer at a time")
    cluster = SingleMasterCluster(NAMES, seed=7, settings=LogSettings(disk_ms=1))
    old = cluster.run_until_led()
    cluster.put("k", "bonjour")
    cluster.run_until_equal()
    others = [name for name in NAMES if name != old]
    cluster.partition({old}, set(others))
    cluster.put("k", "salut", ack="async")  # the old leader does not know yet, and waits for nobody
    cut_ms = cluster.now_ms
    while cluster.leader() == old:
        cluster.run(5)
    new = cluster.run_until_led()
    print(f"  {old} led; {cluster.now_ms - cut_ms} ms after the cut {new} takes writes")
    cluster.put("k", "hola")
    cluster.run(2_000)
    print("  cut off: ", {name: cluster.get(name, "k") for name in NAMES})
    cluster.heal()
    took_ms = cluster.run_until_equal()
    print(f"  {took_ms} ms after the heal:", {name: cluster.get(name, "k") for name in NAMES})
    merge(cluster, old)
    print("  merged:  ", {name: cluster.get(name, "k") for name in NAMES})


def merge(cluster: SingleMasterCluster, name: str) -> None:
    """Merge what was cut off the log of node *name*: both values of a key become siblings."""
    node = cluster.node(name)
    while kept := cluster.core(name).branches():
        found = kept[0]
        print(f"  {name} keeps branch {found.id}: {found.writes} write that was acknowledged, and cut off")
        answers: list[object] = []
        now_ms, _ = node.now()

        def start(core: SingleMaster, token: object, branch: str = found.id, at: int = now_ms) -> None:
            core.merge_branch(branch, KeepSiblings(), at, token=token)

        node.ask(start, answers.append)
        while not answers:
            cluster.run(5)
        assert isinstance(answers[0], Merged), answers[0]
    cluster.run_until_equal()


many_writers()
one_writer()
