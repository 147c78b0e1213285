"""
Batches: many seeds on all cores, one table.

A seed is a function of its number and the options, so any process may run it. What comes back is summed up: how many
seeds, which failed and how, how often each fault fired, and which floors were missed.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Iterable
from contextlib import closing
from time import perf_counter

from attrs import define, field

from mmrepl.sim.catalogue import Level
from mmrepl.sim.job import Job
from mmrepl.sim.kinds import Judged, Kind, Mode, World, kind_named, kind_of
from mmrepl.sim.mix import Options
from mmrepl.sim.workers import spread, tidied_up_afterwards


@define
class Batch:
    """What came of many seeds."""

    options: World
    seed_count: int = 0
    failed: dict[int, Judged] = field(factory=dict)  # by seed
    fired: Counter[str] = field(factory=Counter)
    seeds_with: Counter[str] = field(factory=Counter)  # in how many seeds each fault fired
    operations: int = 0
    refused: int = 0
    messages: int = 0
    virtual_ms: int = 0
    rounds: Counter[int] = field(factory=Counter)  # until all was well again (see `Judged.settled`) -> seeds
    seconds: float = 0.0

    def add(self, outcome: Judged) -> None:
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
        if outcome.settled is not None:
            self.rounds[outcome.settled] += 1

    @property
    def kind(self) -> Kind:
        """The kind of its worlds."""
        return kind_of(self.options)

    def settled_text(self) -> str:
        """How soon all was well again, in a sentence."""
        half, most = self.rounds_at(0.5), self.rounds_at(0.99)
        return self.kind.settled.format(half=half, most=most, all=max(self.rounds, default=0))

    @property
    def levels(self) -> list[Level]:
        """How often each row of the catalogue fired, against its floor. Empty when somebody chose the faults."""
        kind = self.kind
        return kind.levels(self.fired, self.seeds_with, self.seed_count) if kind.is_free(self.options) else []

    @property
    def missed_floors(self) -> list[Level]:
        """Rows that fired too rarely for the batch to count. In a few hundred seeds that may be chance."""
        return [level for level in self.levels if level.missed]

    @property
    def ok(self) -> bool:
        """No violation, and no floor missed."""
        return not self.failed and not self.missed_floors

    def rounds_at(self, share: float) -> int:
        """So many rounds, or milliseconds, were enough for that share of the seeds."""
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
            self.settled_text(),
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


def guarded(seed: int, options: World) -> Judged:
    """Run a seed; what a core raises is a violation as well."""
    with tidied_up_afterwards():
        return kind_of(options).judge(seed, options)


def judging(mode: Mode) -> Job[tuple[int, World], Judged]:
    """`guarded`, as a job, for worlds of one kind."""
    kind = kind_named(mode)
    task = tuple[int, kind.fixed]  # type: ignore[name-defined]
    return Job(f"{__name__}:judging", mode, lambda task: guarded(*task), task, kind.judged)


def died(task: tuple[int, World]) -> Judged:
    """What comes of a seed whose process died."""
    return kind_of(task[1]).died(*task)


def run_batch(
    seeds: Iterable[int],
    options: World | None = None,
    *,
    processes: int | None = None,
    progress: Callable[[Judged], None] | None = None,
) -> Batch:
    """
    Run every seed of *seeds*; *processes* 1 runs them here, None on all cores. *progress* is told of each outcome.

    An interrupt ends the batch; what was done until then has been told to *progress*.
    """
    batch = Batch(options if options is not None else Options())
    begun = perf_counter()
    tasks = deque((seed, batch.options) for seed in seeds)
    with closing(
        spread(tasks, judging(batch.kind.mode), died, processes if processes is not None else cores())
    ) as outcomes:
        for outcome in outcomes:
            batch.add(outcome)
            if progress is not None:
                progress(outcome)
    batch.seconds = perf_counter() - begun
    return batch


def cores() -> int:
    """How many processes can run at once."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
