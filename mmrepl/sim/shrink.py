"""
Shrinking: a shorter run that fails in the same way.

A failing seed is tried again with fewer operations, less time, fewer kinds of faults, better weather and fewer nodes;
kept is whatever still fails by the same checker. What an option fixes changes nothing else that the seed draws, but the
run goes another way: so this is a search and no proof, and the result is smaller or it is what was given.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attrs import evolve

from mmrepl.sim.batch import guarded
from mmrepl.sim.kinds import Judged, kind_of

TRIES = 80


def shrink(outcome: Judged, *, tries: int = TRIES) -> Judged:
    """The smallest failing run that was found within so many tries; *outcome* itself if there is none."""
    if outcome.ok:
        return outcome
    wanted = {violation.checker for violation in outcome.violations}
    best = outcome
    left = tries
    progress = True
    while progress and left > 0:
        progress = False
        for options in _smaller(best):
            if left <= 0:
                break
            left -= 1
            tried = guarded(best.seed, options)
            if any(violation.checker in wanted for violation in tried.violations):
                best, progress = tried, True
                break
    return best


def _smaller(outcome: Judged) -> Iterator[Any]:
    """Options that make a smaller run, the boldest first."""
    options = outcome.options
    mix = kind_of(options).draw(outcome.seed, options)
    if options.faults is None:
        yield evolve(options, faults=())
        yield evolve(options, faults=tuple(mix.faults), calm=mix.calm)
    if not options.calm and options.faults != ():
        yield evolve(options, calm=True)
    for operations in (options.operations // 4, options.operations // 2, options.operations * 3 // 4):
        if 0 < operations < options.operations:
            yield evolve(options, operations=operations)
    if options.duration_ms > 500:
        yield evolve(options, duration_ms=options.duration_ms // 2)
    if options.faults:
        for name in options.faults:
            yield evolve(options, faults=tuple(other for other in options.faults if other != name))
    for nodes in sorted({2, 3, len(mix.names) - 1}):
        if 2 <= nodes < len(mix.names):
            yield evolve(options, nodes=nodes)
