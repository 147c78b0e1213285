"""Workloads and scripts, as people write them."""

from __future__ import annotations

from itertools import islice

import pytest

from mmrepl.compare import DEFAULT_WORKLOAD, Moment, Script, Step, Workload, load_workload
from mmrepl.errors import UsageError


def impatient(rng, client):
    """A workload as a function: client 1 reads, the others add."""
    while True:
        yield Step(rng.randrange(1, 5), "read" if client == 1 else "add", "k")


def wrong(rng, client):
    del rng, client
    yield "add k"


READY = Workload(name="ready", reads=1.0)


def test_the_same_seed_and_client_give_the_same_steps():
    """In every mode and process."""
    first, again, other = (list(islice(DEFAULT_WORKLOAD.of(7, client), 50)) for client in (1, 1, 2))
    assert first == again
    assert first != other
    assert {step.kind for step in first} <= {"add", "read", "delete"}


def test_a_file_changes_the_proportions(tmp_path):
    """Unknown entries and impossible values are named."""
    path = tmp_path / "busy.toml"
    path.write_text("adds = 1\nreads = 0\ndeletes = 0\nkeys = 3\n")
    work = load_workload(str(path))
    assert work.name == "busy"
    assert {step.kind for step in islice(work.of(1, 1), 30)} == {"add"}
    path.write_text("speed = 9\n")
    with pytest.raises(UsageError, match="unknown speed"):
        load_workload(str(path))
    path.write_text("keys = 0\n")
    with pytest.raises(UsageError, match="keys"):
        load_workload(str(path))
    path.write_text("keys = \n")
    with pytest.raises(UsageError, match="is not TOML"):
        load_workload(str(path))
    with pytest.raises(UsageError, match="cannot be read"):
        load_workload(str(tmp_path / "none.toml"))


def test_a_function_yields_steps():
    """By its place: package.module:function."""
    work = load_workload(f"{__name__}:impatient")
    assert {step.kind for step in islice(work.of(1, 1), 9)} == {"read"}
    assert {step.kind for step in islice(work.of(1, 2), 9)} == {"add"}
    assert load_workload(f"{__name__}:READY") is READY
    with pytest.raises(UsageError, match="yields"):
        next(load_workload(f"{__name__}:wrong").of(1, 1))


@pytest.mark.parametrize("source", ["nothing", "no.such.module:f", f"{__name__}:missing", f"{__name__}:__name__"])
def test_what_is_no_workload_is_refused(source):
    """With its name."""
    with pytest.raises(UsageError, match=source.partition(":")[0]):
        load_workload(source)


def test_nobody_does_nothing():
    """Weights of nought."""
    with pytest.raises(UsageError, match="nobody does anything"):
        Workload(adds=0, puts=0, reads=0, deletes=0)


def test_scripts_are_read_and_told_in_one_form():
    """Moments in order."""
    script = Script.parse("9000 heal, 4000 isolate")
    assert script.moments == (Moment(4_000, "isolate"), Moment(9_000, "heal"))
    assert Script.parse(str(script)) == script
    for text in ("heal", "5 sleep", "-1 heal", "x isolate"):
        with pytest.raises(UsageError, match="fault script"):
            Script.parse(text)
