"""Work for all cores: everything is done once, in any order; a process that dies costs its task; leaving is at once."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from contextlib import closing

import pytest

from mmrepl.sim.workers import spread


def double(number: int) -> int:
    if number < 0:
        os._exit(3)
    return 2 * number


def linger(number: int) -> int:
    if number:
        signal.pause()
    return number


def lost(number: int) -> int:
    return 1_000 + number


@pytest.mark.parametrize("processes", [1, 3])
def test_everything_is_done_once(processes):
    """Here, or elsewhere."""
    assert sorted(spread(deque(range(20)), double, lost, processes)) == list(range(0, 40, 2))


def test_nothing_to_do():
    """Is done at once."""
    assert list(spread(deque(), double, lost, 2)) == []


def test_tasks_may_be_added_while_results_are_read():
    """Until nothing is left and nothing is under way."""
    tasks, done = deque([3, 2]), []
    for result in spread(tasks, double, lost, 2, ahead=1):
        done.append(result)
        if result > 2:
            tasks.append(result // 2 - 1)
    assert sorted(done) == [2, 2, 4, 4, 6]


def test_a_process_that_dies_costs_its_task_and_no_other():
    """It is told as lost, and replaced."""
    done = sorted(spread(deque([1, -5, 2, 3, -6, 4]), double, lost, 2))
    assert done == [2, 4, 6, 8, 994, 995]


def test_whoever_stops_reading_waits_for_nobody():
    """Processes are ended in the middle of what they do."""
    begun = time.monotonic()
    with closing(spread(deque([0, 1, 2, 3]), linger, lost, 2)) as results:
        assert next(results) == 0
    assert time.monotonic() - begun < 30
