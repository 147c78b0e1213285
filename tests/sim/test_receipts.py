"""Writes over receipts, which cover less than a read does: what they demand of the core, and that seeds make them."""

from __future__ import annotations

import pytest

from mmrepl.causality.context import BLIND, CausalContext
from mmrepl.errors import WaitTimeout
from mmrepl.resolvers import KeepSiblings
from mmrepl.sim import Cluster, Options, Run
from mmrepl.sim.checkers import check_all
from mmrepl.sim.defects import DEFECTS
from mmrepl.sim.history import Wrote
from mmrepl.sim.mix import draw


def written_over_a_receipt() -> Cluster:
    """
    Paris overwrites what tokyo wrote and lima has, writes without looking, and then over the receipt of that.

    The receipt covers what paris wrote before, and not what *that* had overwritten. All this lima is told in one frame.
    """
    cluster = Cluster(["paris", "tokyo", "lima"], default=KeepSiblings())
    cluster["tokyo"].put("k", "first")
    cluster.run_until_converged()
    cluster.crash("lima")
    paris = cluster["paris"]
    paris.put("k", "second")
    blind = paris.put("k", "unseen", context=BLIND)
    paris.put("k", "third", context=CausalContext("", "k", BLIND.vector.including(blind.dot)))
    cluster.restart("lima")
    cluster.run_until_converged(10_000)
    return cluster


def test_what_only_an_overwritten_write_had_seen_stays_dead():
    """At a node that is given the write as a void: it is a husk, with its context."""
    cluster = written_over_a_receipt()
    assert [node.get("k") for node in cluster] == [["third"]] * 3
    assert check_all(cluster.history) == []


def test_a_void_where_a_husk_was_needed_does_harm():
    """What tokyo wrote rises in lima, for ever."""
    with DEFECTS["void that was needed"].planted(), pytest.raises(WaitTimeout, match="'first', 'third'"):
        written_over_a_receipt()


def test_some_seeds_write_over_receipts():
    """A part of them, to few keys; the others never do."""
    mixes = {seed: draw(seed, Options()) for seed in range(400)}
    drew = [seed for seed, mix in mixes.items() if mix.receipt_share]
    assert 60 < len(drew) < 140
    assert all(mixes[seed].key_count <= 3 for seed in drew)
    run = Run(drew[0], Options(operations=120, duration_ms=2_000))
    assert run.go().ok
    wrote = [event for event in run.cluster.history.events if isinstance(event, Wrote) and event.session]
    minted = {event.dot for event in wrote}
    over = [event for event in wrote if any(event.context.covers(dot) for dot in minted)]
    assert len([event for event in over if not event.before.descends(event.context)]) > 0, "also where it is not known"
