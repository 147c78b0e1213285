"""
The simulated world: seeds a second, and how much faster than life it runs, on one core.

What is run is what ``mmrepl sim`` runs: five nodes, 200 operations, each seed with its own mix of faults, then peace,
convergence, quiet, and all checkers over the history. Times are of the processor, whatever ``--cpu`` says, for a batch
keeps every core busy. Each round runs other seeds, in a process of its own.

In a *short* run the operations come within one second, else within five, as is the default; what follows takes some
six seconds of virtual time in either.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count

from benchmarks.harness import Measured, Row, Session, Side, Target, number, row
from benchmarks.side import Reading, settle

NODES = 5
OPERATIONS = 200
WARM_UP = 1_000_000_007
"""A seed that is run before the clock starts, for what a process does once."""


def run(first: int, seeds: int, duration_ms: int, faults: bool) -> Reading:
    """So many seeds, one after the other."""
    from mmrepl.sim import Options
    from mmrepl.sim.batch import guarded

    options = Options(nodes=NODES, operations=OPERATIONS, duration_ms=duration_ms, faults=None if faults else ())
    guarded(WARM_UP, options)
    settle()
    begun = time.process_time()
    outcomes = [guarded(seed, options) for seed in range(first, first + seeds)]
    seconds = time.process_time() - begun
    virtual_ms = sum(outcome.virtual_ms for outcome in outcomes)
    return {
        "seeds_per_s": seeds / seconds,
        "times_real": virtual_ms / 1000 / seconds,
        "virtual_ms": virtual_ms / seeds,
        "messages": sum(outcome.messages for outcome in outcomes) / seeds,
        "failed": sum(not outcome.ok for outcome in outcomes),
    }


def simulator(session: Session) -> Iterator[Row]:
    """the simulated world: five nodes, 200 operations a seed"""
    seeds = session.scaled(40)
    firsts = count(0, seeds)  # other seeds in each round, the same in each run of the benchmark

    def side(duration_ms: int, *, faults: bool) -> dict[str, Side]:
        return {
            "ours": session.side(
                "simulator:run", first=lambda _: next(firsts), seeds=seeds, duration_ms=duration_ms, faults=faults
            )
        }

    short = session.alternate("short runs", side(1_000, faults=True))
    usual = session.alternate("runs", side(5_000, faults=True))
    calm = session.alternate("runs without faults", side(5_000, faults=False))
    a_second, real_time = Target(20, of="ours"), Target(100, of="ours")
    yield row("sim, 200 operations in 1 s", short, "seeds_per_s", "seeds/s", target=a_second, note=_note(short))
    yield row("sim, 200 operations in 5 s", usual, "seeds_per_s", "seeds/s", note=_note(usual))
    yield row("sim, times real time", usual, "times_real", "x", target=real_time)
    yield row("sim, times real time, no faults", calm, "times_real", "x", note=_note(calm))


def _note(measured: dict[str, Measured]) -> str:
    ours = measured["ours"]
    seconds, messages = (ours.median("virtual_ms") or 0) / 1000, ours.median("messages")
    failed = sum(ours.each("failed"))
    return f"{seconds:.1f} s of virtual time a seed, {number(messages)} messages, {failed:.0f} seeds failed"


BENCHMARKS = {"sim": simulator}
