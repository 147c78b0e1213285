"""Whole comparisons in virtual time: what theory says of each mode is what comes out."""

from __future__ import annotations

import re
from html import escape
from itertools import pairwise

import orjson
import pytest
from attrs import evolve

from mmrepl.compare import MODES, ROWS, Script, Workload, as_data, chosen, compare, page
from mmrepl.compare.figures import Fates
from mmrepl.compare.page import LETTER, timeline
from mmrepl.compare.words import in_words
from mmrepl.errors import UsageError

WORK = Workload(duration_ms=12_000, pause_ms=80)
SCRIPT = Script.usual(WORK.duration_ms)
NODES = ("paris", "tokyo", "lima", "oslo", "cairo")


@pytest.fixture(scope="module")
def played():
    """Every mode, once."""
    return {mode.name: compare(mode, WORK, SCRIPT, NODES, 3) for mode in MODES}


def test_with_many_writers_both_sides_go_on_and_nothing_is_lost(played):
    """The partition refuses nobody; every acknowledged write is in the history."""
    for name in ("lww", "siblings", "callback"):
        figures = played[name].figures
        assert figures.cut_off.ok > 0
        assert figures.cut_off.refused == 0
        assert figures.lost == 0
        assert figures.broken.total == 0
        assert figures.converged_ms is not None


def test_siblings_and_a_callback_overwrite_nothing_unseen(played):
    """And the last writer does."""
    assert played["siblings"].figures.overwritten_unseen == 0
    assert played["callback"].figures.overwritten_unseen == 0
    assert played["lww"].figures.overwritten_unseen > 0


def test_an_asynchronous_primary_loses_what_it_accepted_alone(played):
    """While it was cut off it went on acknowledging; all of that is gone from the history, and kept as a branch."""
    one = played["async"]
    assert one.figures.cut_off.ok > 0
    assert one.figures.lost >= one.figures.cut_off.ok


def test_whoever_waits_for_replicas_loses_nothing(played):
    """A primary that is cut off acknowledges nothing."""
    for name in ("one-ack", "all-ack", *(mode.name for mode in MODES if mode.name.startswith("elected"))):
        figures = played[name].figures
        healed = played[name].run.at("heal")
        for record in played[name].run.records:
            parted = record.home in played[name].run.isolated and SCRIPT.moments[0].at_ms <= record.called_ms < healed
            if record.kind == "write" and record.outcome == "ok" and parted:
                assert record.answered_ms >= healed, name
        assert figures.lost == 0, name


def test_an_elected_leader_is_replaced_and_its_reads_are_as_promised(played):
    """Reads at the leader and linearizable ones are never stale; local ones may be."""
    for name in ("elected-leader", "elected-linearizable"):
        figures = played[name].figures
        assert figures.others.ok > 0
        assert (figures.stale_reads, figures.nonlinear_keys, figures.broken.total) == (0, 0, 0), name
    assert played["elected-local"].figures.stale_reads > 0


def test_the_same_seed_gives_the_same_figures(played):
    """To the last one."""
    for name in ("callback", "elected-linearizable"):
        (mode,) = chosen([name])
        assert compare(mode, WORK, SCRIPT, NODES, 3).figures == played[name].figures


def test_every_figure_is_told_in_the_data_and_on_the_page(played):
    """The page stands alone: nothing is loaded from elsewhere."""
    compared = list(played.values())
    data = orjson.loads(orjson.dumps(as_data(compared, WORK, SCRIPT, 3)))
    assert [mode["mode"] for mode in data["modes"]] == [mode.name for mode in MODES]
    text = page(compared, WORK, SCRIPT, 3)
    for row in ROWS:
        assert row.title in text
        for one in compared:
            assert row.say(one.figures) in text
            assert f">{row.said(one.figures)}<" in text
    for one in compared:
        assert escape(in_words(one)) in text
    assert text.count('aria-label="timeline"') == len(compared)
    assert "http" not in text
    assert "<script" not in text


def test_what_is_said_of_a_run_is_what_was_counted(played):
    """An asynchronous primary went on and lost; a leader that was cut off could write nothing and lost nothing."""
    one = played["async"]
    words = in_words(one)
    assert f"went on ({one.figures.cut_off.ok} writes accepted, none refused)" in words
    assert f"{one.figures.lost} acknowledged writes were lost" in words
    words = in_words(played["elected-local"])
    assert "the primary's side could write nothing" in words
    assert "no acknowledged write was lost" in words.lower()


def test_what_is_said_follows_the_figures(played):
    """One is said as one, and what did not happen is not said to have."""
    one = played["async"]
    few = evolve(one.figures, lost=1, overwritten_unseen=1, converged_ms=None, siblings_left=2, cut_off=Fates(1, 1, 0))
    words = in_words(evolve(one, figures=few))
    assert "1 acknowledged write was lost, 1 was written over by somebody who had not seen it" in words
    assert "had 1 of 2 writes accepted (1 refused)" in words
    assert "did not agree by the end, with siblings of 2 keys left to merge" in words
    none = in_words(evolve(one, figures=evolve(few, cut_off=Fates(0, 0, 0))))
    assert "did not get as far as writing" in none


def test_labels_of_a_timeline_do_not_collide(played):
    """Two labels in one row have room for all their letters."""
    for one in played.values():
        labels = re.findall(r'<text class="soft" x="([\d.]+)" y="(\d+)">([^<]+)<title>', timeline(one.run, 12_000))
        rows = {}
        for x, y, text in labels:
            rows.setdefault(y, []).append((float(x), float(x) + LETTER * len(text)))
        assert rows
        for row in rows.values():
            assert all(left[1] < right[0] for left, right in pairwise(row)), one.mode.name


def test_an_unknown_mode_is_named():
    """With those that there are."""
    with pytest.raises(UsageError, match="no mode is called 'raft'; there are lww"):
        chosen(["raft"])
