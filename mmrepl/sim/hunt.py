"""
Hunting a planted defect: how many seeds does it take until the world finds it?
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias

from attrs import frozen

from mmrepl.sim.batch import guarded
from mmrepl.sim.kinds import World
from mmrepl.sim.mix import Options
from mmrepl.sim.rules import Violation

Patch: TypeAlias = tuple[Any, str, Callable[[Any], Any]]
"""Where, which attribute, and what to make of it."""


@frozen
class Defect:
    """One mistake. *text* says what is wrong."""

    name: str
    text: str
    patches: tuple[Patch, ...]

    @contextmanager
    def planted(self) -> Iterator[None]:
        """The code has the defect while this lasts."""
        with ExitStack() as stack:
            for place, attribute, make in self.patches:
                stack.enter_context(_patched(place, attribute, make))
            yield


@contextmanager
def _patched(place: Any, attribute: str, make: Callable[[Any], Any]) -> Iterator[None]:
    before = place.__dict__[attribute]
    setattr(place, attribute, make(before))
    try:
        yield
    finally:
        setattr(place, attribute, before)


@frozen
class Hunt:
    """What a hunt brought: the seed that found the defect, after how many, and how it showed."""

    defect: str
    seeds: int
    found: tuple[Violation, ...]


def hunt(defect: Defect, seeds: range, options: World | None = None) -> Hunt:
    """Run seeds against a defect until one finds it: fails with the defect, and does not without."""
    options = options if options is not None else Options()
    for count, seed in enumerate(seeds, 1):
        with defect.planted():
            outcome = guarded(seed, options)
        if not outcome.ok and guarded(seed, options).ok:
            return Hunt(defect.name, count, outcome.violations)
    return Hunt(defect.name, len(seeds), ())
