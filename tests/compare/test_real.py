"""The comparison as processes: the same script, clients and figures, on loopback and in real time."""

from __future__ import annotations

import pytest

from mmrepl.compare import Script, Workload, chosen
from mmrepl.compare.real import compare_real

NODES = ("paris", "tokyo", "lima")


@pytest.mark.timeout(60)
def test_a_short_run_as_processes():
    """Three seconds: the partition is made and healed, clients were answered, and no acknowledged write was lost."""
    work = Workload(duration_ms=3_000, pause_ms=60, clients_a_node=1, keys=6, deletes=3.0)
    one = compare_real(*chosen(["callback"]), work, Script.parse("600 isolate, 1800 heal"), NODES, 1)
    figures, run = one.figures, one.run
    assert {"isolate", "heal"} <= {event.kind for event in run.events}
    assert figures.whole.ok > 0
    assert figures.reads_ok > 0
    assert figures.lost == 0
    assert figures.bytes_per_useful is None  # nobody counts on real wires
    assert figures.stored_bytes > 0
    assert set(run.nodes) == set(NODES)
    assert len(run.isolated) == 1
    assert figures.cut_off.refused == 0
    # A deletion of what is not there is accepted, and writes nothing.
    assert any(record.outcome == "ok" and record.wrote_nothing for record in run.records)
    assert figures.overwritten_unseen == 0
