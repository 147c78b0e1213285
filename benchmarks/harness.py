"""
Comparing two sides on a machine that does other things too.

Both sides of a comparison run in one session, in turn, each round in a fresh process (`side`): ours, theirs, ours,
theirs. What disturbs the machine for longer than a round disturbs both. (Disks need shorter turns: see `durable`.) A
figure is the median of its rounds; a ratio is the median of the ratios of the rounds, so that only neighbours in time
are compared.

Nothing here asserts a time. A target stands beside its figure, and a figure that misses it is shown as missing it.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import field, frozen, mutable

from benchmarks.side import Reading

ROOT = Path(__file__).resolve().parent.parent

# -- what is wanted, and what was found


@frozen
class Target:
    """What a figure should be: ``of`` the ratio, or of our own figure where there is no peer to compare with."""

    bound: float
    at_most: bool = False
    of: str = "ratio"  # or "ours"

    def reached(self, figure: float) -> bool:
        return figure <= self.bound if self.at_most else figure >= self.bound

    def __str__(self) -> str:
        text = f"{self.bound:g}x" if self.of == "ratio" else number(self.bound)
        return f"{'<=' if self.at_most else '>='} {text}"


@frozen
class Row:
    """One line of the table."""

    name: str
    unit: str
    ours: float | None
    peer: float | None = None
    peer_name: str = ""
    ratio: float | None = None
    spread: tuple[float, float] | None = None  # of the ratios of the rounds: see `spread_of`
    target: Target | None = None
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """None where nothing was asked for, or nothing was measured."""
        figure = self.ratio if self.target is not None and self.target.of == "ratio" else self.ours
        return None if self.target is None or figure is None else self.target.reached(figure)


@mutable
class Measured:
    """The readings of one side, a round each."""

    readings: list[Reading] = field(factory=list)
    unavailable: str = ""

    def each(self, metric: str) -> list[float]:
        return [reading[metric] for reading in self.readings if reading.get(metric) is not None]

    def median(self, metric: str) -> float | None:
        figures = self.each(metric)
        return statistics.median(figures) if figures else None


Side = Callable[[Mapping[str, Reading]], Reading]
"""One round of one side. It is told the readings that the sides before it had in this round."""

# -- the session


@mutable
class Session:
    """What a run was asked for, and where it may write."""

    directory: Path
    rounds: int = 5
    quick: bool = False
    profile: bool = False
    verbose: bool = False
    cpu: bool = False  # what only computes is timed by the processor's clock, not the wall's
    seconds_max: float = 180  # of one side in one round; then its processes are ended
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True)
    log: dict[str, dict[str, Measured]] = field(factory=dict)  # every reading, for --json

    def scaled(self, count: int, quick: int | None = None) -> int:
        """How many to measure with: *count*, or a tenth in a quick run."""
        return count if not self.quick else count // 10 if quick is None else quick

    def side(self, target: str, **arguments: Any) -> Side:
        """``module:function`` in a fresh process. An argument that is callable is given the round's readings so far."""

        def run(sofar: Mapping[str, Reading]) -> Reading:
            given = {name: value(sofar) if callable(value) else value for name, value in arguments.items()}
            return self._in_process(f"benchmarks.{target}", given)

        return run

    def alternate(
        self, name: str, sides: Mapping[str, Side], rounds: int | None = None, once: frozenset[str] = frozenset()
    ) -> dict[str, Measured]:
        """Run all *sides* in turn, *rounds* times. A side that cannot be measured is not tried again."""
        measured = {label: Measured() for label in sides}
        for turn in range(rounds or self.rounds):
            sofar: dict[str, Reading] = {}
            for label, side in sides.items():
                if measured[label].unavailable or (turn and label in once):
                    continue
                try:
                    reading = side(sofar)
                except KeyError as missing:
                    reading = {"unavailable": f"needs the reading {missing} of a side before it"}
                if "unavailable" in reading:
                    measured[label].unavailable = str(reading["unavailable"])
                    self.say(f"  {name}: {label}: not available: {reading['unavailable']}")
                    continue
                sofar[label] = reading
                measured[label].readings.append(reading)
                figures = " ".join(f"{k}={number(v)}" for k, v in reading.items() if isinstance(v, int | float))
                self.say(f"  {name} [{turn + 1}/{rounds or self.rounds}] {label}: {figures}")
        self.log[name] = measured
        return measured

    def _in_process(self, target: str, arguments: dict[str, Any]) -> Reading:
        command = [sys.executable, "-m", "benchmarks.side", target]
        stats = self.directory / "profile"
        if self.profile:
            command.append(str(stats))
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "MMREPL_BENCH_CPU": "1" if self.cpu else ""},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if self.verbose else subprocess.DEVNULL,
            start_new_session=True,  # so that what the side started can be ended with it
        )
        try:
            output, _ = process.communicate(json.dumps(arguments).encode(), timeout=self.seconds_max)
        except subprocess.TimeoutExpired:
            return {"unavailable": f"not done after {self.seconds_max:g} s"}
        finally:
            _end_group(process)
        if self.profile and stats.exists():
            _show_profile(target, stats)
        lines = output.decode().strip().splitlines()
        if not lines:
            return {"unavailable": f"the process ended with {process.returncode} and no answer"}
        reading: Reading = json.loads(lines[-1])
        return reading


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End the side and all that it started. Its group is its own: nobody else's process is in it."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _show_profile(target: str, path: Path) -> None:
    import pstats

    print(f"\n-- where the time goes: {target}", file=sys.stderr)
    pstats.Stats(str(path), stream=sys.stderr).sort_stats("tottime").print_stats(18)
    path.unlink()


# -- rows


def row(
    name: str,
    measured: Mapping[str, Measured],
    metric: str,
    unit: str,
    peer: str | None = None,
    target: Target | None = None,
    ours: str = "ours",
    note: str = "",
) -> Row:
    """
    The line that sets the metric of *ours* beside the same metric of *peer*; the ratio is ours over theirs.

    So above 1 is better where more is better (rates), below 1 where less is (bytes, delays).
    """
    mine = measured[ours]
    figure = mine.median(metric)
    if mine.unavailable:
        note = f"not available: {mine.unavailable}"
    elif peer is not None and measured[peer].unavailable:
        note = f"{note} {peer} not available: {measured[peer].unavailable}".strip()
    if peer is None:
        return Row(name, unit, figure, target=target, note=note)
    theirs = measured[peer]
    pairs = list(zip(mine.each(metric), theirs.each(metric), strict=False))
    ratios = [a / b for a, b in pairs if b]
    if not ratios and figure and theirs.median(metric):
        ratios = [figure / (theirs.median(metric) or 1)]
    return Row(
        name,
        unit,
        figure,
        theirs.median(metric),
        peer,
        statistics.median(ratios) if ratios else None,
        spread_of(ratios),
        target,
        note,
    )


def spread_of(ratios: list[float]) -> tuple[float, float] | None:
    """Least and greatest; of more than eight rounds the first and the last decile."""
    if len(ratios) <= 8:
        return (min(ratios), max(ratios)) if ratios else None
    deciles = statistics.quantiles(ratios, n=10)
    return deciles[0], deciles[-1]


Group = Callable[[Session], Iterator[Row]]
"""One benchmark: yields its rows."""

# -- showing


def number(value: float | None) -> str:
    """A figure as people read it: three digits that count, thousands apart."""
    if value is None:
        return "-"
    if value and abs(value) < 0.001:
        return f"{value:.1e}"
    if abs(value) < 10:
        return f"{value:.3g}"
    return f"{value:,.1f}" if abs(value) < 100 else f"{value:,.0f}"


HEADINGS = ("benchmark", "unit", "ours", "peer", "", "ratio", "spread", "target", "reached")


def table(rows: list[Row], *, markdown: bool = False) -> str:
    """All rows, in columns; notes below, numbered."""
    lines = [list(HEADINGS)]
    notes: list[str] = []
    for each in rows:
        mark = ""
        if each.note:
            if each.note not in notes:
                notes.append(each.note)
            mark = f" [{notes.index(each.note) + 1}]"
        reached = {True: "yes", False: "NO", None: "?" if each.target else ""}[each.reached]
        lines.append(
            [
                each.name + mark,
                each.unit,
                number(each.ours),
                number(each.peer) if each.peer_name else "",
                each.peer_name,
                f"{each.ratio:.2f}" if each.ratio is not None else "",
                f"{each.spread[0]:.2f}..{each.spread[1]:.2f}" if each.spread else "",
                str(each.target or ""),
                reached,
            ]
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    right = {2, 3, 5, 7}
    text = [
        (" | " if markdown else "  ").join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    rule = ["-" * (width - 1) + (":" if column in right else "-") for column, width in enumerate(widths)]
    if markdown:
        text = [f"| {line} |" for line in text]
        text.insert(1, f"| {' | '.join(rule)} |")
    else:
        text = [line.rstrip() for line in text]
        text.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(text + [""] + [f"[{n}] {note}" for n, note in enumerate(notes, 1)])
