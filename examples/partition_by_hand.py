"""
Partition and heal by hand, on virtual time: who wrote, who heard, who won.

A simulated cluster does nothing by itself: time passes when you say so, and the same seed gives the same run, to the
byte, everywhere. The nodes are the real ones; network, disks and clocks are made of the seed.
"""

from __future__ import annotations

from mmrepl.resolvers import Callback
from mmrepl.sim import Cluster, check_all


def union(carts: list[list[str]]) -> list[str]:
    """All that is in any cart."""
    return sorted({item for cart in carts for item in cart})


def show(cluster: Cluster, what: str) -> None:
    """What each node answers."""
    print(f"\n{what}:")
    for node in cluster:
        if node.is_up:
            print(f"  {node.name:6} greeting: {node.get('greeting')!s:14} cart: {node.table('carts').get('ada')}")
        else:
            print(f"  {node.name:6} is down")


def main() -> None:
    cluster = Cluster(["paris", "tokyo", "lima"], seed=7, tables={"carts": Callback(union)})
    paris, tokyo, lima = cluster
    paris["greeting"] = "bonjour"
    paris.table("carts")["ada"] = ["tea"]
    cluster.run_until_converged()
    show(cluster, "All three are connected")

    cluster.partition({"paris"}, {"tokyo", "lima"})
    paris["greeting"] = "salut"
    paris.table("carts")["ada"] = ["tea", "jam"]
    cluster.run(30)
    lima["greeting"] = "buenos días"
    tokyo.table("carts")["ada"] = ["tea", "cake"]
    cluster.run(200)
    show(cluster, "Paris is cut off, and both sides have written")

    cluster.crash("tokyo", power=True)
    cluster.run(100)
    cluster.heal()
    took_ms = cluster.run_until_converged()
    show(cluster, f"Tokyo has lost power, the partition has healed; those who are up agree after {took_ms} ms")

    cluster.restart("tokyo")
    took_ms = cluster.run_until_converged()
    show(cluster, f"Tokyo is back, and has caught up after {took_ms} ms")

    print("\nWho lost to whom, as Tokyo tells it:")
    for sentence in tokyo.read("greeting").resolution.explain():
        print(f"  {sentence}")
    print("\nAnd so it happened:\n")
    print(cluster.diagram())

    found = check_all(cluster.history)
    print(f"\n{len(cluster.history.events)} events, judged from outside: {len(found)} violations")
    assert not found


if __name__ == "__main__":
    main()
