"""
Batches: many seeds on all cores, one table.

A seed is a function of its number and the options, so any process may run it. What comes back is summed up: how many
seeds, which failed and how, how often each fault fired, and which floors were missed.
"""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice
from time import perf_counter

from attrs import define, field

from mmrepl.sim.catalogue import Level, levels
from mmrepl.sim.mix import Options
from mmrepl.sim.rules import Violation
from mmrepl.sim.run import Outcome, run_seed

CHUNK = 8


@define
class Batch:
    """What came of many seeds."""

    options: Options
    seed_count: int = 0
    failed: dict[int, Outcome] = field(factory=dict)  # by seed
    fired: Counter[str] = field(factory=Counter)
    seeds_with: Counter[str] = field(factory=Counter)  # in how many seeds each fault fired
    operations: int = 0
    refused: int = 0
    messages: int = 0
    virtual_ms: int = 0
    rounds: Counter[int] = field(factory=Counter)  # gossip rounds to become equal -> seeds
    seconds: float = 0.0

    def add(self, outcome: Outcome) -> None:
        """One more seed."""
        self.seed_count += 1
        if not outcome.ok:
            self.failed[outcome.seed] = outcome
        self.fired.update(outcome.fired)
        self.seeds_with.update(name for name, count in outcome.fired.items() if count)
        self.operations += outcome.operations
        self.refused += outcome.refused
        self.messages += outcome.messages
        self.virtual_ms += outcome.virtual_ms
        if outcome.converged_rounds is not None:
            self.rounds[outcome.converged_rounds] += 1

    @property
    def levels(self) -> list[Level]:
        """How often each row of the catalogue fired, against its floor. Empty when somebody chose the faults."""
        free = Options(operations=self.options.operations, duration_ms=self.options.duration_ms)
        return levels(self.fired, self.seeds_with, self.seed_count) if self.options == free else []

    @property
    def missed_floors(self) -> list[Level]:
        """Rows that fired too rarely for the batch to count. In a few hundred seeds that may be chance."""
        return [level for level in self.levels if level.missed]

    @property
    def ok(self) -> bool:
        """No violation, and no floor missed."""
        return not self.failed and not self.missed_floors

    def rounds_at(self, share: float) -> int:
        """So many gossip rounds were enough for that share of the seeds."""
        left = share * self.rounds.total()
        for rounds, seeds in sorted(self.rounds.items()):
            left -= seeds
            if left <= 0:
                return rounds
        return max(self.rounds, default=0)

    def table(self) -> str:
        """The batch, for people."""
        lines = [
            f"{self.seed_count} seeds, {len(self.failed)} with violations",
            (
                f"{self.operations} operations, {self.refused} refused, {self.messages} messages,"
                f" {self.virtual_ms / 1000:.0f} s of virtual time in {self.seconds:.0f} s"
            ),
            (
                f"equal again after {self.rounds_at(0.5)} gossip rounds in half of the seeds,"
                f" {self.rounds_at(0.99)} in 99 %,"
                f" {max(self.rounds, default=0)} at most"
            ),
            "",
            f"{'fault':<24}{'fired':>10}",
        ]
        lines += [f"{name:<24}{count:>10}" for name, count in sorted(self.fired.items())]
        for level in self.missed_floors:
            row = f"{level.row.id} {level.row.what}"
            lines.append(f"FLOOR MISSED: {row} fired {level.fired} times, {level.floor} are needed")
        for seed, outcome in sorted(self.failed.items()):
            lines += [f"seed {seed}: {violation}" for violation in outcome.violations[:3]]
            lines.append(f"    {outcome.command}")
        return "\n".join(lines)


def guarded(seed: int, options: Options) -> Outcome:
    """`run_seed`; what a core raises is a violation as well."""
    try:
        return run_seed(seed, options)
    except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to this seed
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {error} ({os.path.basename(where.filename)}:{where.lineno})"  # noqa: PTH119
        return Outcome(seed, options, (Violation("raised", text),), Counter(), 0, 0, 0, 0, None)


def _some(seeds: list[int], options: Options) -> list[Outcome]:
    return [guarded(seed, options) for seed in seeds]


def run_batch(
    seeds: Iterable[int],
    options: Options | None = None,
    *,
    processes: int | None = None,
    progress: Callable[[Outcome], None] | None = None,
) -> Batch:
    """
    Run every seed of *seeds*; *processes* 1 runs them here, None on all cores. *progress* is told of each outcome.

    An interrupt ends the batch; what was done until then has been told to *progress*.
    """
    options = options if options is not None else Options()
    batch = Batch(options)
    begun = perf_counter()
    count = processes if processes is not None else os.cpu_count() or 1
    outcomes = _here(seeds, options) if count <= 1 else _elsewhere(seeds, options, count)
    for outcome in outcomes:
        batch.add(outcome)
        if progress is not None:
            progress(outcome)
    batch.seconds = perf_counter() - begun
    return batch


def _here(seeds: Iterable[int], options: Options) -> Iterator[Outcome]:
    for seed in seeds:
        yield guarded(seed, options)


def _elsewhere(seeds: Iterable[int], options: Options, processes: int) -> Iterator[Outcome]:
    waiting: set[Future[list[Outcome]]] = set()
    left = iter(seeds)
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            while True:
                while len(waiting) < 3 * processes and (chunk := list(islice(left, CHUNK))):
                    waiting.add(pool.submit(_some, chunk, options))
                if not waiting:
                    return
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield from future.result()
        finally:
            for future in waiting:
                future.cancel()
