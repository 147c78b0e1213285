"""Clusters of one and of fifty nodes: what the mixes of the seeds leave out, since it is slow."""

from __future__ import annotations

from math import log2

import pytest

from mmrepl.sim import Cluster, Options, run_seed


def test_a_cluster_of_one():
    """It serves, survives its faults, and is quiet by itself."""
    for seed in range(5):
        outcome = run_seed(seed, Options(nodes=1, operations=50, duration_ms=1_000))
        assert outcome.ok, [str(violation) for violation in outcome.violations]


@pytest.mark.parametrize("seed", range(2))
def test_fifty_nodes_on_a_random_graph(seed):
    """What each of ten nodes writes has reached all fifty within a few gossip rounds for each doubling of their number."""
    names = [f"n{number}" for number in range(50)]
    cluster = Cluster(names, seed=seed, topology="random")
    for name in names[:10]:
        cluster[name].put("k", name)
    took_ms = cluster.run_until_converged()
    assert took_ms <= 4 * log2(50) * cluster.settings.limits.gossip_tick_ms
    assert len({node.get("k") for node in cluster}) == 1
