"""Seeds, batches, planted defects."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmrepl.sim import FAULTS, RARE, Options, Run, run_batch, run_seed, shrink
from mmrepl.sim.catalogue import ROWS, counted, levels
from mmrepl.sim.defects import DEFECTS
from mmrepl.sim.hunt import hunt
from mmrepl.sim.mix import draw
from mmrepl.sim.topology import SHAPES, diameter, edges_of, is_connected

ROOT = Path(__file__).resolve().parents[2]
SHORT = Options(operations=60, duration_ms=1_500)


@pytest.mark.parametrize("seed", range(20))
def test_the_core_survives(seed):
    """Short runs under all faults: nothing is violated."""
    outcome = run_seed(seed, SHORT)
    assert outcome.ok, (outcome.command, [str(violation) for violation in outcome.violations])


def test_without_faults_nothing_fires():
    """And everything is equal at once."""
    outcome = run_seed(3, Options(faults=(), operations=100, duration_ms=2_000))
    assert outcome.ok
    assert not sum(outcome.fired[name] for name in FAULTS)
    assert outcome.converged_rounds <= 10


def test_a_seed_is_an_outcome():
    """The same one each time."""
    assert run_seed(5, SHORT) == run_seed(5, SHORT)


def test_a_batch_on_two_processes_is_a_batch_on_one():
    """And says what came of it, with the floors that it missed."""
    here = run_batch(range(6), SHORT, processes=1)
    elsewhere = run_batch(range(6), SHORT, processes=2)
    assert here.fired == elsewhere.fired
    assert (here.seed_count, here.operations) == (elsewhere.seed_count, elsewhere.operations)
    assert "6 seeds, 0 with violations" in here.table()


def test_a_floor_that_is_missed_is_told():
    """A batch in which a fault never fired proves nothing about it."""
    batch = run_batch(range(2), Options(faults=(), operations=10, duration_ms=300), processes=1)
    assert batch.missed_floors == []  # somebody chose the faults
    missed = [level.row for level in levels({}, {}, 1_000) if level.missed]
    assert missed == list(counted())
    everything = {name: 1_000_000 for row in ROWS for name in row.counters}
    assert not any(level.missed for level in levels(everything, everything, 1_000))


def test_every_fault_and_its_row_stand_in_the_catalogue():
    """And whatever is covered elsewhere names tests that exist."""
    told = {name: row.id for row in reversed(ROWS) for name in row.counters}
    for name, (row_id, *_) in {**FAULTS, **RARE}.items():
        fired = {"disk fails": "disk failed"}.get(name, name)
        assert fired in told, name
        assert any(row.id == row_id and fired in row.counters for row in ROWS), name
    for row in ROWS:
        assert bool(row.counters) != bool(row.elsewhere), row
        for path in filter(None, row.elsewhere.split(", ")):
            assert (ROOT / path).is_file(), path


def test_every_seed_draws_another_mix():
    """Sizes, topologies and faults all vary, and all occur."""
    mixes = [draw(seed, Options()) for seed in range(300)]
    assert {mix.topology for mix in mixes} == set(SHAPES)
    assert {len(mix.names) for mix in mixes} == {2, 3, 4, 5, 7}
    assert {name for mix in mixes for name in mix.faults} == set(FAULTS)


def test_graphs():
    """Rings close, stars have a middle, random graphs are connected."""
    names = list("abcde")
    for seed in range(30):
        run = Run(seed, SHORT)
        assert is_connected(run.cluster.names, run.cluster.edges)
        del run
    rng = Run(1, SHORT).cluster.world.dice("x")
    assert diameter(names, edges_of(names, "line", rng)) == 4
    assert diameter(names, edges_of(names, "ring", rng)) == 2
    assert diameter(names, edges_of(names, "star", rng)) == 2
    assert diameter(names, edges_of(names, "mesh", rng)) == 1


FOUND_SOON = [
    "delta applied over a gap", "delta stands on nothing", "context not joined", "stamps fall", "never quiet",
    "acknowledged by one too few", "peer believed beyond what it proved", "tie broken by arrival",
]  # fmt: skip


@pytest.mark.parametrize("name", FOUND_SOON)
def test_a_planted_defect_is_found(name):
    """In a few seeds; and it is gone afterwards."""
    found = hunt(DEFECTS[name], range(30), Options(operations=120, duration_ms=3_000))
    assert found.found, name
    assert run_seed(0, SHORT).ok


def test_there_are_enough_defects():
    """Each with a sentence on what is wrong, and a place in the code where it can be planted, and taken out again."""
    assert len(DEFECTS) >= 25
    for defect in DEFECTS.values():
        assert defect.text
        before = [place.__dict__[attribute] for place, attribute, _ in defect.patches]
        with defect.planted():
            planted = [place.__dict__[attribute] for place, attribute, _ in defect.patches]
            assert all(mutant is not right for mutant, right in zip(planted, before, strict=True)), defect.name
        assert [place.__dict__[attribute] for place, attribute, _ in defect.patches] == before


def test_a_failing_run_becomes_smaller():
    """The same checker finds the same defect in fewer operations."""
    with DEFECTS["delta stands on nothing"].planted():
        failing = next(outcome for outcome in map(run_seed, range(10)) if not outcome.ok)
        smaller = shrink(failing, tries=12)
        assert not smaller.ok
        assert smaller.options.operations < failing.options.operations
        assert f"--seed {failing.seed}" in smaller.command
