"""
One side of a comparison, in a process of its own: ``python -m benchmarks.side MODULE:FUNCTION < ARGUMENTS``.

A fresh process has nobody else's garbage, caches or threads; its resident memory is its own. The function gets the
arguments (a JSON object on stdin) as keywords and answers with numbers; the last line on stdout is its answer in
JSON. What cannot be measured (a package or a method that is not there) answers ``{"unavailable": why}``.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

Reading = dict[str, Any]
"""What a side answers: numbers by name."""

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Unavailable(Exception):
    """The thing to measure is not there; the message says what is missing."""


def settle() -> None:
    """Forget the garbage of the preparations, and keep the collector from visiting the workload while we measure."""
    gc.collect()
    gc.freeze()


clock: Callable[[], float] = time.process_time if os.environ.get("MMREPL_BENCH_CPU") else time.perf_counter
"""
Seconds, for work that only computes: of the wall's clock, or with ``--cpu`` of this process's share of the processors,
which on a busy machine says more. What waits for disks or other processes never uses this.
"""


def timed(work: Callable[[], object]) -> float:
    """Seconds that *work* takes, by `clock`."""
    started = clock()
    work()
    return clock() - started


def resident_bytes() -> int:
    """Memory of this process that is really there, as Linux counts it."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def answer(target: str, arguments: dict[str, Any], profile: str | None) -> Reading:
    """The reading of ``module:function``; an exception becomes the reason why there is none."""
    module, _, function = target.partition(":")
    try:
        work = getattr(importlib.import_module(module), function)
        if profile is None:
            reading: Reading = work(**arguments)
            return reading
        import cProfile

        profiler = cProfile.Profile()
        reading = profiler.runcall(work, **arguments)
        profiler.dump_stats(profile)
        return reading
    except Exception as error:  # noqa: BLE001 — whatever it is, the table says it
        traceback.print_exc()
        return {"unavailable": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    reading = answer(sys.argv[1], json.load(sys.stdin), sys.argv[2] if len(sys.argv) > 2 else None)
    sys.stdout.write("\n" + json.dumps(reading) + "\n")
