"""
What a mode did, in plain words: a sentence or two, made of its figures.

Nothing is said that was not counted. What went well is said as well as what did not, in the order in which people ask:
could I go on, is anything gone, was what I read true, and when was all well again.
"""

from __future__ import annotations

from mmrepl.compare.figures import Fates, Figures
from mmrepl.compare.modes import Compared


def in_words(one: Compared) -> str:
    """
    One mode's run, as you would tell it.

    Of writes it says accepted (acknowledged), refused (certainly not done) and unanswered (the fate is unknown).
    """
    figures, run = one.figures, one.run
    parts = []
    if run.at("isolate") is not None:
        parts.append(f"{_cut_off(one)}; the others {_went(figures.others)}")
    parts += [_harm(figures), _reads(figures)]
    if run.at("heal") is not None:
        parts.append(_agreement(figures))
    return ". ".join(part[0].upper() + part[1:] for part in parts) + "."


def _cut_off(one: Compared) -> str:
    """What the primary's side could do while it was alone."""
    fates = one.figures.cut_off
    if sum((fates.ok, fates.refused, fates.unknown)):
        return f"cut off, the primary's side {_went(fates)}"
    run = one.run
    begin, end = run.at("isolate") or 0, run.at("heal")
    failed = sum(
        record.kind == "read"
        and record.outcome != "ok"
        and record.home in run.isolated
        and begin <= record.called_ms
        and (end is None or record.called_ms < end)
        for record in run.records
    )
    why = f", for {_count(failed, 'read')} before it failed" if failed else ""
    return f"cut off, the primary's side did not get as far as writing{why}"


def _went(fates: Fates) -> str:
    asked = fates.ok + fates.refused + fates.unknown
    if not asked:
        return "asked for no write"
    failed = [f"{fates.refused:,} refused"] * bool(fates.refused) + [f"{fates.unknown:,} unanswered"] * bool(
        fates.unknown
    )
    if not failed:
        return f"went on ({_count(fates.ok, 'write')} accepted, none refused)"
    if not fates.ok:
        return f"could write nothing ({', '.join(failed)})"
    return f"had {fates.ok:,} of {_count(asked, 'write')} accepted ({', '.join(failed)})"


def _harm(figures: Figures) -> str:
    lost, over = figures.lost, figures.overwritten_unseen
    first = f"{_count(lost, 'acknowledged write')} {_was(lost)} lost" if lost else "no acknowledged write was lost"
    if over:
        return (
            f"{first}, {over:,} {_was(over)} written over by somebody who had not seen {'it' if over == 1 else 'them'}"
        )
    return f"{first}, {'and' if not lost else 'but'} none was written over unseen"


def _reads(figures: Figures) -> str:
    stale, broken = figures.stale_reads, figures.broken.total
    first = f"{stale:,} of {_count(figures.reads_ok, 'read')} {_was(stale)} stale" if stale else "no read was stale"
    if not broken:
        return f"{first}, and no client's own view ever went backwards" if not stale else (
            f"{first}, but no client's own view went backwards"
        )  # fmt: skip
    return f"{first}, and {_count(broken, 'call')} broke what a session may expect"


def _agreement(figures: Figures) -> str:
    took = "the nodes did not agree by the end" if figures.converged_ms is None else (
        f"{figures.converged_ms:,} ms after the heal all nodes agreed"
    )  # fmt: skip
    if figures.siblings_left:
        return f"{took}, with siblings of {_count(figures.siblings_left, 'key')} left to merge"
    return took


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _was(number: int) -> str:
    return "was" if number == 1 else "were"
