"""Defects planted in the single-master code are found by whole worlds; `mmrepl sim --defects --mode …` hunts all."""

from __future__ import annotations

import pytest

from mmrepl.sim.hunt import hunt
from mmrepl.sim.single_master import LogOptions
from mmrepl.sim.single_master.defects import LOG_DEFECTS

SOON = [
    ("automatic", "vote given twice"),
    ("automatic", "half is a quorum"),
    ("automatic", "acknowledged by the fastest"),
    ("automatic", "snapshot over a longer log"),
    ("automatic", "older term's entry committed by counting"),
    ("automatic", "lease kept at a transfer"),
    ("automatic", "branch thrown away"),
    ("automatic", "vote said before it is on disk"),
    ("manual", "one term, two primaries"),
    ("manual", "retry acknowledged when applied"),
    ("manual", "retry applied twice"),
    ("manual", "promoted without a majority"),
]


@pytest.mark.parametrize(("mode", "name"), SOON)
def test_found_within_a_few_seeds(mode, name):
    """By this defect alone: the same seed passes without it."""
    found = hunt(LOG_DEFECTS[mode][name], range(80), LogOptions(failover=mode))
    assert found.found


@pytest.mark.parametrize("mode", ["automatic", "manual"])
def test_what_is_planted_is_taken_out_again(mode):
    """Every defect changes something while it is planted, and nothing afterwards."""
    for defect in LOG_DEFECTS[mode].values():
        before = [place.__dict__[attribute] for place, attribute, _ in defect.patches]
        with defect.planted():
            during = [place.__dict__[attribute] for place, attribute, _ in defect.patches]
            assert all(now is not old for now, old in zip(during, before, strict=True))
        assert [place.__dict__[attribute] for place, attribute, _ in defect.patches] == before
