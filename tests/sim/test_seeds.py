"""The world under faults: it finds nothing in the core as it is, something where it is broken, and the same each time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmrepl.replication.local import LocalCore
from mmrepl.sim import Cluster, run_batch, run_seed
from mmrepl.store.keyspace import Keyspace

ROOT = Path(__file__).resolve().parents[2]


def test_nothing_is_wrong_with_these_seeds():
    """A small, fixed part of what batches run by the thousand."""
    batch = run_batch(range(40), processes=1)
    assert batch.failed == {}, batch.table()
    assert batch.fired["crash"]
    assert batch.fired["partition"]
    assert batch.fired["lost"]


ONCE_WRONG = (
    133, 155, 7130, 40066, 41551, 42844, 62772, 62851, 100011, 101133, 400046, 504109, 1100700, 1112402, 2004655, 2007759,
    2009486, 2010590,
)  # fmt: skip
"""Seeds that once failed. What they draw changes with the simulator; the defects have stories of their own."""


ONCE_APART = (60671, 100043, 100171, 160023, 1103590)
"""Seeds whose clusters once came apart for ever: nodes held each other for strangers, and asked each other to rejoin."""


def test_nothing_is_wrong_with_the_seeds_that_once_failed():
    """Each found a defect of the core, of the simulated disk, or of a checker."""
    batch = run_batch(ONCE_WRONG + ONCE_APART, processes=1)
    assert batch.failed == {}, batch.table()
    assert not batch.fired["two clusters"]


def test_one_seed_is_one_run_in_every_process():
    """To the byte, under another hash seed (law L12)."""
    program = "from mmrepl.sim import run_seed; print(*(run_seed(seed).trace_digest for seed in (3, 8)))"
    found = set()
    for salt in ("0", "1", "4711"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": salt, "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        )
        found.add(done.stdout)
    assert found == {" ".join(str(run_seed(seed).trace_digest) for seed in (3, 8)) + "\n"}


def lost_sibling(plan: pytest.MonkeyPatch) -> None:
    """A write that meets siblings takes the place of one of them."""
    right = Keyspace._set

    def wrong(self, table, key, dots, context):
        right(self, table, key, dots[-1:], context)

    plan.setattr(Keyspace, "_set", wrong)


def applied_over_a_gap(plan: pytest.MonkeyPatch) -> None:
    """A delta is applied although what it stands on is not here."""
    plan.setattr(LocalCore, "lacks", lambda _self, _assumes: False)


def durable_too_early(plan: pytest.MonkeyPatch) -> None:
    """What was handed out for persisting is taken for durable."""
    right = LocalCore.take_persist

    def wrong(self):
        persist = right(self)
        if persist is not None:
            self.persisted(persist.position)
        return persist

    plan.setattr(LocalCore, "take_persist", wrong)


@pytest.mark.parametrize("plant", [lost_sibling, applied_over_a_gap, durable_too_early])
def test_a_planted_defect_is_found(plant, monkeypatch):
    """A world that cannot fail proves nothing."""
    plant(monkeypatch)
    assert any(not run_seed(seed).ok for seed in range(60)), plant.__doc__


def test_partition_and_heal_by_hand():
    """The program of the design: both sides serve, and agree when they have met."""
    cluster = Cluster(["paris", "tokyo", "lima"], seed=7)
    cluster.partition({"paris"}, {"tokyo", "lima"})
    cluster["paris"].put("k", 1)
    cluster.run(5)
    cluster["lima"].put("k", 2)
    assert cluster["paris"].get("k") == 1
    cluster.heal()
    cluster.run_until_converged()
    assert {cluster[name].get("k") for name in ("paris", "tokyo", "lima")} == {2}
    told = str(cluster.diagram())
    assert "partition" in told
    assert "k=1" in told
