"""Work for all cores: everything is done once, in any order; a process that dies costs its task; leaving is at once."""

from __future__ import annotations

import io
import os
import signal
import time
from collections import Counter, deque
from contextlib import closing

import pytest

from mmrepl.sim.batch import judging
from mmrepl.sim.campaign import Searched, Stretch, searching
from mmrepl.sim.job import Job, read, write
from mmrepl.sim.kinds import kind_named
from mmrepl.sim.rules import Violation
from mmrepl.sim.workers import spread


def double(number: int) -> int:
    if number < 0:
        os._exit(3)
    return 2 * number


def linger(number: int) -> int:
    if number:
        signal.pause()
    return number


def chatty(number: int) -> int:
    print("by the way", flush=True)
    return number


WORK = {"double": double, "linger": linger, "chatty": chatty}


def made(word: str) -> Job[int, int]:
    return Job(f"{__name__}:made", word, WORK[word], int, int)


def lost(number: int) -> int:
    return 1_000 + number


@pytest.mark.parametrize("processes", [1, 3])
def test_everything_is_done_once(processes):
    """Here, or elsewhere."""
    assert sorted(spread(deque(range(20)), made("double"), lost, processes)) == list(range(0, 40, 2))


def test_nothing_to_do():
    """Is done at once."""
    assert list(spread(deque(), made("double"), lost, 2)) == []


def test_tasks_may_be_added_while_results_are_read():
    """Until nothing is left and nothing is under way."""
    tasks, done = deque([3, 2]), []
    for result in spread(tasks, made("double"), lost, 2, ahead=1):
        done.append(result)
        if result > 2:
            tasks.append(result // 2 - 1)
    assert sorted(done) == [2, 2, 4, 4, 6]


def test_a_process_that_dies_costs_its_task_and_no_other():
    """It is told as lost, and replaced."""
    done = sorted(spread(deque([1, -5, 2, 3, -6, 4]), made("double"), lost, 2))
    assert done == [2, 4, 6, 8, 994, 995]


def test_whoever_stops_reading_waits_for_nobody():
    """Processes are ended in the middle of what they do."""
    begun = time.monotonic()
    with closing(spread(deque([0, 1, 2, 3]), made("linger"), lost, 2)) as results:
        assert next(results) == 0
    assert time.monotonic() - begun < 30


def bytes_of(what):
    stream = io.BytesIO()
    write(stream, what)
    return read(io.BytesIO(stream.getvalue()))


@pytest.mark.parametrize("mode", ["multi", "automatic", "manual"])
def test_what_comes_of_a_seed_travels(mode):
    """Whole: the options, a violation with its place, how often each fault fired."""
    kind, job = kind_named(mode), judging(mode)
    options = kind.options(faults=("cut",), operations=3)
    violation = Violation("order", "went back", 7, "ada", ("", "k1"))
    outcome = kind.outcome(5, options, (violation,), Counter(cut=2), operations=3, refused=1, settled=4, seconds=0.25)
    assert job.result_of(bytes_of(outcome)) == outcome
    assert job.result_of(bytes_of(outcome)).seconds == 0.25
    assert job.task_of(bytes_of((5, options))) == (5, options)
    stretch = Stretch("void", 40, 20, options)
    assert searching(mode).task_of(bytes_of(stretch)) == stretch
    searched = Searched("void", 40, 7, (violation,))
    assert searching(mode).result_of(bytes_of(searched)) == searched


def test_a_result_that_was_cut_short_is_none():
    """As if it had not come: its process died while it wrote."""
    whole = io.BytesIO()
    write(whole, [1, 2])
    for size in range(len(whole.getvalue())):
        assert read(io.BytesIO(whole.getvalue()[:size])) is None
    assert read(io.BytesIO(whole.getvalue())) is not None


def test_what_is_printed_is_no_result():
    """It goes to standard error, or a result would be lost in it."""
    assert list(spread(deque([7]), made("chatty"), lost, 2)) == [7]
