"""
The comparison as a report: rows for a terminal, plain data for programs.

One list of rows says what is shown, in which words and order; the terminal, the JSON and the page all follow it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from attrs import asdict, frozen

from mmrepl.compare.figures import Fates, Figures
from mmrepl.compare.modes import Compared
from mmrepl.compare.script import Script
from mmrepl.compare.workload import Workload

Verdict = Literal["good", "bad", "plain"]


@frozen
class Row:
    """
    One figure of the report: its title, an explanation, how it is said, and whether more than nothing is bad.

    *short* heads a narrow column, *brief* says the figure there; *part* is which of the `PARTS` it belongs to.
    """

    title: str
    meaning: str
    short: str
    part: int
    say: Callable[[Figures], str]
    number: Callable[[Figures], float | None]
    brief: Callable[[Figures], str] | None = None
    counts_harm: bool = False

    def said(self, figures: Figures) -> str:
        """The figure in few characters."""
        return (self.brief or self.say)(figures)

    def verdict(self, figures: Figures) -> Verdict:
        """Whether a reader should be pleased."""
        if not self.counts_harm:
            return "plain"
        number = self.number(figures)
        return "plain" if number is None else ("bad" if number else "good")


def _count(name: str) -> Callable[[Figures], str]:
    return lambda figures: f"{getattr(figures, name):,}"


def _number(name: str) -> Callable[[Figures], float | None]:
    def number(figures: Figures) -> float | None:
        value = getattr(figures, name)
        return None if value is None else float(value)

    return number


def _fates(fates: Fates) -> str:
    return f"{fates.ok} / {fates.refused} / {fates.unknown}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _closely(fates: Fates) -> str:
    return f"{fates.ok}/{fates.refused}/{fates.unknown}"


PARTS = ("What the partition did", "What it cost")
"""The two halves of the figures, as they are shown."""


ROWS: tuple[Row, ...] = (
    Row(
        "cut off: accepted / refused / unknown",
        "writes by clients on the primary's side, while it was cut off",
        "cut off\na/r/u",
        0,
        lambda f: _fates(f.cut_off),
        lambda f: float(f.cut_off.ok),
        lambda f: _closely(f.cut_off),
    ),
    Row(
        "others: accepted / refused / unknown",
        "writes by clients on the other side, in the same time",
        "others\na/r/u",
        0,
        lambda f: _fates(f.others),
        lambda f: float(f.others.ok),
        lambda f: _closely(f.others),
    ),
    Row(
        "writes: p50 / p99 ms",
        "from the call to the answer, of writes that were acknowledged",
        "writes\nms",
        1,
        lambda f: f"{_ms(f.writes.p50)} / {_ms(f.writes.p99)}",
        lambda f: f.writes.p50,
        lambda f: f"{_ms(f.writes.p50)}/{_ms(f.writes.p99)}",
    ),
    Row(
        "reads: p50 / p99 ms",
        "from the call to the answer",
        "reads\nms",
        1,
        lambda f: f"{_ms(f.reads.p50)} / {_ms(f.reads.p99)}",
        lambda f: f.reads.p50,
        lambda f: f"{_ms(f.reads.p50)}/{_ms(f.reads.p99)}",
    ),
    Row(
        "acknowledged writes lost",
        "no trace is left of them in the history that the cluster agreed on",
        "lost",
        0,
        _count("lost"),
        _number("lost"),
        counts_harm=True,
    ),
    Row(
        "overwritten unseen",
        "acknowledged, and written over by somebody who had not seen them",
        "over-\nwritten",
        0,
        _count("overwritten_unseen"),
        _number("overwritten_unseen"),
        counts_harm=True,
    ),
    Row(
        "most siblings of a key",
        "live values beside each other, as a read found them",
        "siblings\nmost",
        1,
        _count("siblings_most"),
        _number("siblings_most"),
    ),
    Row(
        "keys with siblings left",
        "at the end, waiting for somebody to merge them",
        "siblings\nleft",
        1,
        _count("siblings_left"),
        _number("siblings_left"),
    ),
    Row(
        "stale reads",
        "by a node that lacked a write which had been acknowledged before",
        "stale\nreads",
        0,
        lambda f: f"{f.stale_reads:,} of {f.reads_ok:,}",
        _number("stale_reads"),
        _count("stale_reads"),
        counts_harm=True,
    ),
    Row(
        "session guarantees broken",
        "read your writes, monotonic reads, monotonic writes, writes follow reads",
        "sessions\nbroken",
        0,
        lambda f: (
            f"{f.broken.total} ({f.broken.read_your_writes}, {f.broken.monotonic_reads},"
            f" {f.broken.monotonic_writes}, {f.broken.writes_follow_reads})"
        ),
        lambda f: float(f.broken.total),
        lambda f: f"{f.broken.total}",
        counts_harm=True,
    ),
    Row(
        "keys not linearizable",
        "no single copy could have answered their calls like this; only asked where there is one writer",
        "not lin-\nearizable",
        0,
        lambda f: "-" if f.nonlinear_keys is None else f"{f.nonlinear_keys}",
        _number("nonlinear_keys"),
        counts_harm=True,
    ),
    Row(
        "agreement after the heal, ms",
        "until every node had what any of them had when the network was whole again",
        "agreed\nms",
        1,
        lambda f: _ms(f.converged_ms),
        _number("converged_ms"),
    ),
    Row(
        "bytes sent per useful byte",
        "between nodes, heartbeats included, for each byte of accepted keys and values",
        "sent per\nbyte",
        1,
        lambda f: "-" if f.bytes_per_useful is None else f"{f.bytes_per_useful:.1f}",
        _number("bytes_per_useful"),
    ),
    Row(
        "KiB on all disks",
        "at the end of the run",
        "disks\nKiB",
        1,
        lambda f: f"{f.stored_bytes / 1024:,.0f}",
        _number("stored_bytes"),
    ),
)
"""What is shown, in this order."""


def as_data(compared: Sequence[Compared], workload: Workload, script: Script, seed: int) -> dict[str, Any]:
    """The whole comparison as plain data."""
    return {
        "seed": seed,
        "workload": {name: value for name, value in asdict(workload).items() if isinstance(value, str | int | float)},
        "script": str(script),
        "modes": [
            {
                "mode": one.mode.name,
                "text": one.mode.text,
                "figures": asdict(one.figures),
                "events": [asdict(event) for event in one.run.events],
                "calls": len(one.run.records),
            }
            for one in compared
        ],
    }
