"""
Batches: many seeds on all cores, with a bar that shows how far they have come, and a record to go on with.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from attrs import frozen
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from mmrepl.cli import output
from mmrepl.cli.exits import Exit
from mmrepl.cli.options import Answer
from mmrepl.cli.sim_record import Plan, Record, entry_of, free_path, outcome_of
from mmrepl.cli.sim_seed import command, outcome_facts, tell_outcome
from mmrepl.errors import UsageError
from mmrepl.sim.batch import Batch, run_batch
from mmrepl.sim.kinds import Judged, Mode, kind_named, kind_of
from mmrepl.sim.mix import RARE
from mmrepl.sim.shrink import shrink

FLOORS_FROM = 1_000
"""In fewer seeds a floor that is missed may be chance: it is told, and not held against the batch."""

STORIES_MAX = 3
"""Of so many failing seeds the whole story is told."""

EVERY_SECONDS = 30.0
"""How often a line says how far it has come, where nobody looks at a bar."""


@frozen
class Request:
    """What was asked for. None: not said."""

    seeds: int | None
    first: int | None
    mode: Mode | None
    given: dict[str, Any]  # of the options of the worlds
    defects: tuple[str, ...] | None
    jobs: int | None
    resume: Path | None
    shrinks: bool
    svg: Path | None
    answer: Answer


def batch(request: Request) -> Exit:
    """Run a batch, or the rest of one; tell what came of it."""
    record, plan = opened(request, seeds=1_000)
    done = [outcome_of(entry, plan.options) for entry in record.entries] if record is not None else []
    sums = Batch(plan.options)
    for outcome in done:
        sums.add(outcome)
        sums.seconds += outcome.seconds
    fresh: list[Judged] = []
    try:
        with ExitStack() as stack:
            if record is not None:
                stack.enter_context(record)
            meter = stack.enter_context(metered("seeds", plan.seeds, len(done)))

            def note(outcome: Judged) -> None:
                fresh.append(outcome)
                sums.add(outcome)
                if record is not None:
                    record.add(entry_of(outcome))
                if not outcome.ok:
                    meter.say(f"seed {outcome.seed}: {output.brief(str(outcome.violations[0]), 160)}")
                meter.advance(1, failed_text(len(sums.failed)))

            known = {outcome.seed for outcome in done}
            left = [seed for seed in plan.numbers() if seed not in known]
            sums.seconds += run_batch(left, plan.options, processes=request.jobs, progress=note).seconds
    except KeyboardInterrupt:
        leave(
            request, plan, record, [entry_of(outcome) for outcome in fresh], f"{sums.seed_count} of {plan.seeds} seeds"
        )
        return Exit.INTERRUPTED
    tell_batch(sums, request)
    short = bool(sums.missed_floors) and sums.seed_count >= FLOORS_FROM
    return Exit.NO if sums.failed or short else Exit.OK


def is_hunt(request: Request) -> bool:
    """Whether it is about planted defects: as was said, or as the record says that it goes on with."""
    if request.defects is None and request.resume is not None and request.resume.exists():
        with Record.resume(request.resume) as record:
            return record.plan.defects is not None
    return request.defects is not None


# -- records


def opened(request: Request, *, seeds: int) -> tuple[Record | None, Plan]:
    """The record and the plan of a request. Raises UsageError when a record is of something else than was asked for."""
    plan = Plan(
        options=kind_named(request.mode or "multi").options(**request.given),
        first=request.first or 0,
        seeds=request.seeds or seeds,
        defects=request.defects,
    )
    if request.resume is None:
        return None, plan
    if not request.resume.exists():
        return Record.create(request.resume, plan), plan
    record = Record.resume(request.resume)
    there = record.plan
    said = {"seeds": request.seeds, "first": request.first, "defects": request.defects}
    differs = [name for name, value in said.items() if value is not None and value != getattr(there, name)]
    differs += [name for name, value in request.given.items() if value != getattr(there.options, name, None)]
    if request.mode not in {None, kind_of(there.options).mode}:
        differs.append("mode")
    if differs:
        record.close()
        words = ", ".join(f"--{name.replace('_', '-')}" for name in differs)
        raise UsageError(f"{request.resume} is the record of another batch: it differs in {words}; leave them out")
    return record, there


def leave(request: Request, plan: Plan, record: Record | None, entries: list[dict[str, Any]], how_far: str) -> None:
    """After Ctrl-C: see that there is a record, and say how to go on."""
    if record is None and not entries:
        output.hint("interrupted before anything was done")
        return
    if record is None:
        record = Record.create(free_path(Path.cwd(), "mmrepl-sim"), plan, entries)
        record.close()
    jobs = f" --jobs {request.jobs}" if request.jobs is not None else ""
    output.hint(f"interrupted after {how_far}; go on with: mmrepl sim --resume {record.path}{jobs}")


# -- how far it has come


class Meter(Protocol):
    """Shows how far it has come."""

    def advance(self, count: int, text: str) -> None:
        """So many more are done; *text* says what was found so far."""

    def say(self, text: str) -> None:
        """A line beside it."""


class Bar:
    """A bar on a terminal."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self, count: int, text: str) -> None:
        self._progress.advance(self._task, count)
        speed = self._progress.tasks[0].speed
        self._progress.update(self._task, found=text, rate="" if speed is None else f"{speed:.1f}/s")

    def say(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False, style="red")


class Lines:
    """A line now and then, for logs."""

    def __init__(self, what: str, total: int, done: int) -> None:
        self._what, self._total = what, total
        self._done = self._before = done
        self._begun = self._told = time.monotonic()

    def advance(self, count: int, text: str) -> None:
        self._done += count
        now = time.monotonic()
        if now - self._told >= EVERY_SECONDS:
            self._told = now
            rate = (self._done - self._before) / (now - self._begun)
            left = (self._total - self._done) / rate
            told = f"{self._done} of {self._total} {self._what}, {rate:.1f}/s, {left:.0f} s to go"
            output.hint(told + (f", {text}" if text else ""))

    def say(self, text: str) -> None:
        output.hint(text)


@contextmanager
def metered(what: str, total: int, done: int) -> Iterator[Meter]:
    """A meter on standard error: a bar on a terminal, else lines."""
    if not sys.stderr.isatty():
        yield Lines(what, total, done)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(elapsed_when_finished=True), TextColumn("[red]{task.fields[found]}"),
    )  # fmt: skip
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as progress:
        yield Bar(progress, progress.add_task(what, total=total, completed=done, rate="", found=""))


def failed_text(count: int) -> str:
    """So many violations so far."""
    return "" if not count else "1 seed failed" if count == 1 else f"{count} seeds failed"


# -- what came of it


def tell_batch(sums: Batch, request: Request) -> None:
    """The table, the failing seeds, the stories of the first."""
    if request.answer.json:
        output.document(batch_facts(sums))
        return
    console = output.console()
    for count, (seed, outcome) in enumerate(sorted(sums.failed.items())):
        if count == STORIES_MAX:
            output.say(f"and {len(sums.failed) - count} failing seeds more:")
        if count >= STORIES_MAX:
            output.say(f"  {command(sums.options, seed)}   {output.brief(str(outcome.violations[0]), 100)}")
            continue
        smaller = shrink(outcome) if request.shrinks else outcome
        story = sums.kind.tell(seed, smaller.options)
        if count == 0 and request.svg is not None and story.diagram is not None:
            request.svg.write_text(story.diagram.svg(), encoding="utf-8")
        tell_outcome(outcome, smaller, story, ())
        output.say("")
    console.print(levels_grid(sums))
    output.say(summary(sums))
    for level in sums.missed_floors:
        words = f"{level.row.id} {level.row.what}: {level.fired}, and at least {level.floor} are needed"
        output.say(f"FLOOR MISSED {words}")
    if sums.missed_floors and sums.seed_count < FLOORS_FROM:
        output.say(f"In fewer than {FLOORS_FROM} seeds that may be chance, and does not count.")


def summary(sums: Batch) -> str:
    """The batch in three lines."""
    return (
        f"{sums.seed_count} seeds, {len(sums.failed)} with violations.\n"
        f"{sums.operations} operations, {sums.refused} refused, {sums.messages} messages,"
        f" {sums.virtual_ms / 1000:.0f} s of virtual time in {sums.seconds:.0f} s.\n"
        f"{sums.settled_text()}"
    )


def levels_grid(sums: Batch) -> Table:
    """How often each fault fired, against its floor; if somebody chose the faults, how often they fired."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    levels = sums.levels
    if not levels:
        grid.add_column("fault")
        grid.add_column("fired", justify="right")
        grid.add_column("in seeds", justify="right")
        for name, count in sorted(sums.fired.items()):
            if count:
                grid.add_row(name, str(count), f"{sums.seeds_with[name] / sums.seed_count:.0%}")
        return grid
    for name in ("row", "fault"):
        grid.add_column(name)
    for name in ("fired", "floor", "in seeds"):
        grid.add_column(name, justify="right")
    grid.add_column("")
    for level in levels:
        told, floor = str(level.fired), str(level.floor)
        if level.row.share:
            told, floor = f"{level.fired / sums.seed_count:.0%}", f"{level.row.share:.0%}"
        share = f"{level.seeds / sums.seed_count:.0%}"
        grid.add_row(
            level.row.id, level.row.what, told, floor, share, output.cell("MISSED", "red") if level.missed else ""
        )
    for row in sums.kind.rows:
        if any(name in RARE for name in row.counters):
            told = str(sum(sums.fired[name] for name in row.counters))
            grid.add_row(row.id, row.what, told, "", "", output.cell("drawn only if asked for: --faults", "dim"))
        if row.elsewhere:
            grid.add_row(row.id, row.what, "", "", "", output.cell(row.elsewhere, "dim"))
    return grid


def batch_facts(sums: Batch) -> dict[str, Any]:
    """The batch, for programs."""
    return {
        "seeds": sums.seed_count,
        "failed": [outcome_facts(o) | {"command": o.command} for _, o in sorted(sums.failed.items())],
        "operations": sums.operations,
        "refused": sums.refused,
        "messages": sums.messages,
        "virtual_ms": sums.virtual_ms,
        "seconds": round(sums.seconds, 3),
        "fired": {name: count for name, count in sorted(sums.fired.items()) if count},
        "rounds" if sums.kind.mode == "multi" else "led_ms": {
            "median": sums.rounds_at(0.5),
            "p99": sums.rounds_at(0.99),
            "max": max(sums.rounds, default=0),
        },
        "floors": [
            {
                "row": level.row.id,
                "fault": level.row.what,
                "fired": level.fired,
                "floor": level.floor,
                "seeds": level.seeds,
                "missed": level.missed,
            }
            for level in sums.levels
        ],
    }
