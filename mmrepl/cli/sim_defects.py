"""
Hunting planted defects: a table of how many seeds it takes to find each, and who finds it.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from rich.table import Table

from mmrepl.cli import output
from mmrepl.cli.exits import Exit
from mmrepl.cli.sim_batch import Request, leave, metered, opened
from mmrepl.sim.campaign import Campaign, Searched, run_campaign
from mmrepl.sim.campaign import texts as texts_of
from mmrepl.sim.kinds import kind_of
from mmrepl.sim.rules import Violation

LIMIT = 2_000


def campaign(request: Request) -> Exit:
    """Hunt, or go on hunting; tell what came of it."""
    record, plan = opened(request, seeds=LIMIT)
    names = plan.defects or tuple(kind_of(plan.options).defects())
    before = [searched_of(entry) for entry in record.entries] if record is not None else []
    fresh: list[Searched] = []
    try:
        with ExitStack() as stack:
            if record is not None:
                stack.enter_context(record)
            known = Campaign(plan.options, plan.first, plan.seeds, names)
            for searched in before:
                known.add(searched)
            settled = sum(known.next(name) is None for name in names)
            meter = stack.enter_context(metered("defects", len(names), settled))

            def note(searched: Searched, so_far: Campaign) -> None:
                fresh.append(searched)
                if record is not None:
                    record.add(entry_of(searched))
                over = so_far.next(searched.defect) is None
                left = [name for name in names if so_far.next(name) is not None]
                deepest = max(map(so_far.seeds, left), default=0)
                meter.advance(over, f"{len(left)} not found in up to {deepest} seeds" if left else "")

            done = run_campaign(
                names, plan.options, first=plan.first, limit=plan.seeds, processes=request.jobs, before=before,
                progress=note,
            )  # fmt: skip
    except KeyboardInterrupt:
        seeds = sum(searched.count for searched in before + fresh)
        leave(request, plan, record, [entry_of(searched) for searched in fresh], f"{seeds} seeds")
        return Exit.INTERRUPTED
    if request.answer.json:
        output.document(facts(done))
    else:
        output.console().print(grid(done))
        output.say(summary(done))
    return Exit.OK if done.ok else Exit.NO


def grid(done: Campaign) -> Table:
    """Defects, those that are found soonest first."""
    texts = texts_of(done.options)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("planted defect")
    table.add_column("seeds", justify="right")
    table.add_column("found by")
    table.add_column("what is wrong", style="dim")
    for name in sorted(done.names, key=lambda name: (done.found[name].seeds if name in done.found else 10**9, name)):
        found = done.found.get(name)
        seeds = output.cell("not found", "red") if found is None else str(found.seeds)
        table.add_row(name, seeds, "" if found is None else ", ".join(checkers(found.found)), texts[name])
    return table


def checkers(violations: tuple[Violation, ...]) -> list[str]:
    """Who found it, each once."""
    return list(dict.fromkeys(violation.checker for violation in violations))[:3]


def summary(done: Campaign) -> str:
    """Whether it was enough, in a sentence."""
    found = f"{len(done.found)} of {len(done.names)} planted defects found within {done.limit} seeds each"
    return f"{found}; half of them within {done.median:g}."


def facts(done: Campaign) -> dict[str, Any]:
    """The same, for programs."""
    texts = texts_of(done.options)
    return {
        "limit": done.limit,
        "first": done.first,
        "median": done.median,
        "ok": done.ok,
        "defects": [
            {
                "defect": name,
                "text": texts[name],
                "found": name in done.found,
                "seeds": done.seeds(name),
                "seed": done.first + done.seeds(name) - 1 if name in done.found else None,
                "checkers": checkers(done.found[name].found) if name in done.found else [],
            }
            for name in done.names
        ],
    }


# -- records


def entry_of(searched: Searched) -> dict[str, Any]:
    """A stretch, for a record."""
    return {
        "defect": searched.defect,
        "first": searched.first,
        "count": searched.count,
        "found": [[v.checker, v.text, v.at_ms, v.node] for v in searched.found],
    }


def searched_of(entry: dict[str, Any]) -> Searched:
    """A stretch of a record."""
    found = tuple(Violation(*violation) for violation in entry["found"])
    return Searched(entry["defect"], entry["first"], entry["count"], found)
