"""`mmrepl sim --mode`: the same command about single-master worlds."""

from __future__ import annotations

import shlex

import pytest

from mmrepl.sim.hunt import hunt
from mmrepl.sim.single_master import LogOptions, run_log_seed
from mmrepl.sim.single_master.defects import LOG_DEFECTS
from tests.cli.test_sim import Stops

SMALL = ("--operations", "30", "--duration-ms", "1500", "--jobs", "1")
FOUND = "half is a quorum"


@pytest.mark.parametrize(
    "options",
    [
        LogOptions(operations=30, duration_ms=1_500),
        LogOptions(failover="manual", operations=30, duration_ms=1_500, nodes=4, calm=True),
        LogOptions(operations=30, duration_ms=1_500, faults=("leader isolated", "crash")),
        LogOptions(failover="manual", operations=20, duration_ms=1_000, faults=()),
    ],
)
def test_the_printed_line_reproduces_the_run(run, options):
    """To the byte: the same trace."""
    outcome = run_log_seed(5, options)
    program, *words = shlex.split(outcome.command)
    assert program == "mmrepl"
    told = run(*words, "--json", "--no-shrink").json
    assert told["trace"] == outcome.trace_digest
    assert told["command"] == outcome.command
    assert told["ok"]


def test_a_seed_tells_what_happened_and_draws_it(run, tmp_path):
    """Who led, what was logged, committed and acknowledged; as text and as a picture."""
    picture = tmp_path / "story.svg"
    words = ("--operations", "30", "--duration-ms", "1500", "--diagram", "--svg", str(picture))
    done = run("sim", "--seed", "3", "--mode", "automatic", *words)
    assert done.code == 0
    assert "somebody led" in done.out
    for text in ("LEADS in term", "logs entry", "committed", "acknowledges"):
        assert text in done.out
    assert picture.read_text(encoding="utf-8").startswith("<svg")


@pytest.mark.parametrize("mode", ["automatic", "manual"])
def test_a_batch_ends_with_a_table_of_this_mode(run, mode):
    """Rows of the leader with their floors; milliseconds until somebody led."""
    done = run("sim", "--mode", mode, "--seeds", "4", *SMALL)
    assert done.code == 0
    assert "4 seeds, 0 with violations." in done.out
    assert "Somebody led again after" in done.out
    for name in ("isolation of the leader", "quorum lost and back", "pause of the leader"):
        assert name in done.out
    assert "swapped addresses" not in done.out


def test_an_interrupted_batch_goes_on_in_its_mode(run, monkeypatch, tmp_path):
    """The record knows the mode, and comes to what one run comes to."""
    monkeypatch.chdir(tmp_path)
    words = ("sim", "--mode", "manual", "--seeds", "4")
    whole = run(*words, "--json", *SMALL).json
    with monkeypatch.context() as patch:
        Stops(patch, after=2)
        assert run(*words, *SMALL).code == 130
    resumed = run("sim", "--resume", "mmrepl-sim.record", "--json", "--jobs", "1")
    assert resumed.code == 0
    assert {**resumed.json, "seconds": 0} == {**whole, "seconds": 0}
    other = run("sim", "--resume", "mmrepl-sim.record", "--mode", "automatic")
    assert other.code == 2
    assert "--mode" in other.err


def test_defects_of_this_mode_are_hunted(run):
    """In the very seed in which it is found alone."""
    options = LogOptions(operations=60, duration_ms=2_000)
    words = ("--operations", "60", "--duration-ms", "2000", "--seeds", "30", "--jobs", "1", "--json")
    done = run("sim", "--mode", "automatic", "--defect", FOUND, *words)
    assert done.code == 0
    assert done.json["defects"][0]["seeds"] == hunt(LOG_DEFECTS["automatic"][FOUND], range(30), options).seeds
    assert done.json["defects"][0]["checkers"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mode", "manual", "--topology", "ring"], "--topology is for multi-master worlds"),
        (["--mode", "automatic", "--faults", "set-back"], "there is no fault 'set back'"),
        (["--mode", "automatic", "--defect", "stamps fall"], "there is no planted defect 'stamps fall'"),
        (["--faults", "leader-isolated"], "there is no fault 'leader isolated'"),
        (["--mode", "raft"], "raft"),
    ],
)
def test_what_was_asked_wrongly_ends_with_2(run, words, message):
    """What belongs to another mode is told."""
    done = run("sim", *words)
    assert done.code == 2
    assert message in done.err
