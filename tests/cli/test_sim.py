"""`mmrepl sim`: seeds, batches that are interrupted and go on, planted defects."""

from __future__ import annotations

import json
import shlex
import signal

import pytest

from mmrepl.cli import sim_batch
from mmrepl.cli.sim_record import Record
from mmrepl.sim import FAULTS, Options, run_seed
from mmrepl.sim.campaign import run_campaign
from mmrepl.sim.defects import DEFECTS
from mmrepl.sim.hunt import hunt
from mmrepl.sim.shrink import shrink

SMALL = ("--operations", "40", "--duration-ms", "800", "--jobs", "1")
SIZE = ("--operations", "60", "--duration-ms", "1500")
FOUND = "stamps fall"


def test_one_seed_tells_what_happened(run):
    """The line, the world, the faults, the judgement."""
    done = run("sim", "--seed", "3", "--operations", "40", "--duration-ms", "800")
    assert done.code == 0
    first, world, *_ = done.out.splitlines()
    assert first == "mmrepl sim --seed 3 --operations 40 --duration-ms 800"
    assert "nodes" in world
    assert "nothing was violated" in done.out
    assert "●" not in done.out
    assert "●" in run("sim", "--seed", "3", "--operations", "40", "--duration-ms", "800", "--diagram").out


@pytest.mark.parametrize(
    "options",
    [
        Options(operations=40, duration_ms=800),
        Options(operations=30, duration_ms=700, nodes=4, topology="line", datagrams=True, calm=True),
        Options(operations=30, duration_ms=700, faults=("one way", "crash"), datagrams=False, quiet_ms=2_000),
        Options(operations=30, duration_ms=700, faults=(), liveness_rounds=99),
        Options(operations=20, duration_ms=900, faults=("set back", "lost write")),
    ],
)
def test_the_printed_line_reproduces_the_run(run, options):
    """To the byte: the same trace."""
    outcome = run_seed(5, options)
    program, *words = shlex.split(outcome.command)
    assert program == "mmrepl"
    told = run(*words, "--json", "--no-shrink").json
    assert told["trace"] == outcome.trace_digest
    assert told["command"] == outcome.command


def test_a_failing_seed_tells_its_story(run, tmp_path):
    """What was violated, a shorter run, a diagram; and the line of the shorter run fails as well."""
    picture = tmp_path / "story.svg"
    options = Options(operations=60, duration_ms=1_500)
    failing = hunt(DEFECTS[FOUND], range(30), options).seeds - 1
    done = run("sim", "--seed", str(failing), "--defect", FOUND, "--svg", str(picture), *SIZE)
    assert done.code == 1
    assert "VIOLATED stamps_rise" in done.out
    assert "●" in done.out
    assert picture.read_text(encoding="utf-8").startswith("<svg")
    shorter = [line for line in done.out.splitlines() if line.startswith("mmrepl sim")][1]
    again = run(*shlex.split(shorter)[1:], "--json", "--no-shrink")
    assert again.code == 1
    assert "stamps_rise" in {violation["checker"] for violation in again.json["violations"]}
    with DEFECTS[FOUND].planted():
        outcome = run_seed(failing, options)
        assert again.json["operations"] == shrink(outcome).operations < outcome.operations


def test_minutes_bring_operations_with_them(run):
    """As many in a second as by default."""
    done = run("sim", "--seed", "1", "--minutes", "0.02", "--nodes", "2", "--json")
    assert done.json["command"] == "mmrepl sim --seed 1 --operations 48 --duration-ms 1200 --nodes 2"


def test_a_batch_ends_with_a_table(run):
    """Each row of the catalogue, against its floor; in few seeds a floor that is missed does not count."""
    done = run("sim", "--seeds", "3", *SMALL)
    assert done.code == 0
    assert "3 seeds, 0 with violations." in done.out
    for name in ("partition", "swapped addresses", "M5", "tests/wire/test_framing.py"):
        assert name in done.out
    assert "FLOOR MISSED N14" not in done.out  # 50 in 1,000 is less than one in three
    assert "may be chance" in done.out


def test_a_batch_that_misses_a_floor_fails(run, monkeypatch):
    """From a thousand seeds on; here from three."""
    monkeypatch.setattr(sim_batch, "FLOORS_FROM", 3)
    done = run("sim", "--seeds", "3", *SMALL)
    assert done.code == 1
    assert "FLOOR MISSED" in done.out
    assert "may be chance" not in done.out


def test_a_batch_of_chosen_faults_has_no_floors(run):
    """But says what fired."""
    done = run("sim", "--seeds", "3", "--faults", "crash,one-way", "--json", *SMALL)
    assert done.code == 0
    assert done.json["floors"] == []
    assert set(done.json["fired"]) & set(FAULTS) <= {"crash", "one way"}
    assert done.json["fired"]["crash"] > 0


def test_a_batch_with_violations_fails_and_tells_them(run, monkeypatch):
    """The story of the first ones, a line for the others."""
    monkeypatch.setattr(sim_batch, "STORIES_MAX", 1)
    with DEFECTS[FOUND].planted():
        done = run("sim", "--seeds", "6", *SIZE, "--jobs", "1", "--no-shrink")
    assert done.code == 1
    assert done.out.count("VIOLATED") >= 1
    assert "failing seeds more:" in done.out
    assert "stamps_rise" in done.err


class Stops:
    """Stands for somebody who presses Ctrl-C after some seeds."""

    def __init__(self, monkeypatch, after: int) -> None:
        self.left = after
        plain = sim_batch.Lines.advance

        def advance(meter, count, text):
            plain(meter, count, text)
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

        monkeypatch.setattr(sim_batch.Lines, "advance", advance)


def test_an_interrupted_batch_goes_on_where_it_was(run, monkeypatch, tmp_path):
    """It ends with 130 and a record; resumed, it comes to what one run comes to."""
    monkeypatch.chdir(tmp_path)
    whole = run("sim", "--seeds", "6", "--first", "20", "--json", *SMALL).json
    with monkeypatch.context() as patch:
        Stops(patch, after=2)
        done = run("sim", "--seeds", "6", "--first", "20", *SMALL)
    assert done.code == 130
    assert done.out == ""
    assert "interrupted after 2 of 6 seeds; go on with: mmrepl sim --resume" in done.err
    record = tmp_path / "mmrepl-sim.record"
    assert len(record.read_bytes().splitlines()) == 3
    with monkeypatch.context() as patch:
        Stops(patch, after=1)
        assert run("sim", "--resume", str(record), "--jobs", "1").code == 130
    assert len(record.read_bytes().splitlines()) == 4
    with record.open("ab") as file:
        file.write(b'{"seed":')  # and then the lights went out
    resumed = run("sim", "--resume", str(record), "--json", "--jobs", "1").json
    assert resumed | {"seconds": 0} == whole | {"seconds": 0}


def test_a_record_is_kept_from_the_beginning_where_one_is_named(run, tmp_path):
    """A second run of it has nothing left to do; another batch is refused."""
    record = tmp_path / "batch.record"
    first = run("sim", "--seeds", "3", "--resume", str(record), "--json", *SMALL)
    again = run("sim", "--resume", str(record), "--json", "--jobs", "1")
    assert first.json | {"seconds": 0} == again.json | {"seconds": 0}
    for words in (("--seeds", "4"), ("--first", "1"), ("--nodes", "3"), ("--defects",)):
        done = run("sim", "--resume", str(record), *words)
        assert done.code == 2
        assert "the record of another batch" in done.err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no record of a batch"),
        (b"hello\n", "no record of a batch"),
        (b'{"kind":"other"}\n', "no record of a batch"),
        (b'{"kind":"mmrepl sim","version":"0.0.1"}\n', "made by mmrepl 0.0.1"),
    ],
)
def test_what_is_no_record_is_left_alone(run, tmp_path, content, message):
    """Refused, and not a byte of it changed."""
    path = tmp_path / "file"
    path.write_bytes(content)
    done = run("sim", "--resume", str(path))
    assert done.code == 2
    assert message in done.err
    assert path.read_bytes() == content


def test_a_damaged_line_in_the_middle_is_told(run, tmp_path):
    """What stood there is not known, so neither is what is left to do."""
    path = tmp_path / "batch.record"
    assert run("sim", "--seeds", "2", "--resume", str(path), *SMALL).code == 0
    path.write_bytes(path.read_bytes().replace(b'{"seed"', b'{"seed', 1))
    assert "is damaged" in run("sim", "--resume", str(path)).err


def test_defects_are_hunted_side_by_side(run, tmp_path):
    """Each is found in the very seed in which it is found alone; the hunt goes on from its record."""
    names = [FOUND, "never quiet"]
    record = tmp_path / "hunt.record"
    words = [word for name in names for word in ("--defect", name)]
    done = run("sim", *words, "--seeds", "30", "--jobs", "2", "--resume", str(record), "--json", *SIZE)
    assert done.code == 0
    assert done.json["ok"]
    told = {row["defect"]: row["seeds"] for row in done.json["defects"]}
    options = Options(operations=60, duration_ms=1_500)
    assert told == {name: hunt(DEFECTS[name], range(30), options).seeds for name in names}
    again = run("sim", "--resume", str(record), "--json")
    assert again.json == done.json
    table = run("sim", "--resume", str(record)).out
    assert "stamps_rise" in table
    assert "2 of 2 planted defects found" in table


def test_a_defect_that_is_not_found_fails():
    """And it counts as found later than all seeds."""
    done = run_campaign(["never quiet"], Options(operations=5, duration_ms=100, quiet_ms=1), limit=2, processes=1)
    if done.found:
        pytest.skip("it was found at once")
    assert not done.ok
    assert done.missed == ["never quiet"]
    assert done.median == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seed", "1", "--seeds", "3"], "--seed is for one seed"),
        (["--seed", "1", "--defect", FOUND, "--defect", "never quiet"], "one planted defect at most"),
        (["--seeds", "0"], "--seeds must be at least 1"),
        (["--jobs", "0"], "--jobs must be at least 1"),
        (["--nodes", "0"], "--nodes must be positive"),
        (["--minutes", "0"], "--minutes must be more than 0"),
        (["--minutes", "1", "--duration-ms", "3"], "say the same"),
        (["--faults", "flood"], "there is no fault 'flood'; there are clock-drifts"),
        (["--faults", ","], "needs names"),
        (["--defect", "laziness"], "there is no planted defect 'laziness'"),
        (["--diagram"], "say which with --seed"),
        (["--topology", "torus"], "topology"),
    ],
)
def test_what_was_asked_wrongly_ends_with_2(run, words, message):
    """One line that says what was expected."""
    done = run("sim", *words)
    assert done.code == 2
    assert message in done.err


def test_ctrl_c_leaves_a_record_and_no_process(process, tmp_path):
    """In a real process with two workers."""
    record = tmp_path / "batch.record"
    started = process("sim", "--seeds", "100000", "--jobs", "2", "--resume", str(record), *SMALL[:4])
    while not record.exists() or record.read_bytes().count(b"\n") < 4:
        assert started.process.poll() is None
    done = started.end(signal.SIGINT)
    assert done.code == 130
    assert done.raw == b""
    assert done.err.count("\n") == 1
    assert "go on with: mmrepl sim --resume" in done.err
    resumed = Record.resume(record)
    resumed.close()
    assert len({entry["seed"] for entry in resumed.entries}) == len(resumed.entries) >= 3
    assert json.loads(record.read_bytes().splitlines()[0])["seeds"] == 100_000
