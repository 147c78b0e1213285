"""
Hunting all planted defects: for each, how many seeds it takes until the world finds it, and which checker does.

Defects are looked for side by side, some seeds at a time, so that a few that are hard to find keep all processes busy
and not one. The outcome does not depend on that: it is the first seed, in order, that finds the defect.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from statistics import median
from typing import Any, Generic, TypeVar

from attrs import define, field, frozen

from mmrepl.sim.batch import cores
from mmrepl.sim.hunt import Hunt, hunt
from mmrepl.sim.job import Job
from mmrepl.sim.kinds import Mode, World, kind_named, kind_of
from mmrepl.sim.mix import Options
from mmrepl.sim.rules import Violation
from mmrepl.sim.workers import spread

W = TypeVar("W")

CHUNK = 20
"""Seeds of one task."""

MEDIAN_MAX = 100
"""Half of the defects have to be found within so many seeds."""


@frozen
class Stretch(Generic[W]):
    """Some seeds against one defect: *count* of them from *first* on."""

    defect: str
    first: int
    count: int
    options: W


@frozen
class Searched:
    """What came of a stretch: how many seeds were run; the last of them found the defect, if anything was *found*."""

    defect: str
    first: int
    count: int
    found: tuple[Violation, ...]


@define
class Campaign:
    """All hunts, as far as they have come."""

    options: World
    first: int
    limit: int  # seeds for each defect
    names: tuple[str, ...]
    _done: dict[str, int] = field(factory=dict)  # seeds run without a find, in order
    found: dict[str, Hunt] = field(factory=dict)

    def add(self, searched: Searched) -> None:
        """What came of one more stretch; the stretches of a defect come in order."""
        done = self._done.get(searched.defect, 0) + searched.count
        self._done[searched.defect] = done
        if searched.found:
            self.found[searched.defect] = Hunt(searched.defect, done, searched.found)

    def seeds(self, name: str) -> int:
        """How many seeds have been run against a defect."""
        return self._done.get(name, 0)

    def next(self, name: str) -> Stretch[Any] | None:
        """What is to be done next about a defect; None when it is found, or was not in all seeds."""
        done = self.seeds(name)
        if name in self.found or done >= self.limit:
            return None
        return Stretch(name, self.first + done, min(CHUNK, self.limit - done), self.options)

    @property
    def missed(self) -> list[str]:
        """Defects that no seed found, of those that all seeds were tried against."""
        return [name for name in self.names if name not in self.found and self.seeds(name) >= self.limit]

    @property
    def median(self) -> float:
        """In so many seeds half of the defects were found; those that were not count as one more than all."""
        return median(self.found[name].seeds if name in self.found else self.limit + 1 for name in self.names)

    @property
    def is_over(self) -> bool:
        """Whether each was found, or looked for in all seeds."""
        return all(self.next(name) is None for name in self.names)

    @property
    def ok(self) -> bool:
        """Whether every one was found, and half of them soon."""
        return self.is_over and not self.missed and self.median <= MEDIAN_MAX


def searching(mode: Mode) -> Job[Stretch[Any], Searched]:
    """`search`, as a job, in worlds of one kind."""
    return Job(f"{__name__}:searching", mode, search, Stretch[kind_named(mode).fixed], Searched)  # type: ignore[misc]


def search(stretch: Stretch[Any]) -> Searched:
    """Run a stretch."""
    seeds = range(stretch.first, stretch.first + stretch.count)
    done = hunt(kind_of(stretch.options).defects()[stretch.defect], seeds, stretch.options)
    return Searched(stretch.defect, stretch.first, done.seeds, done.found)


def _died(stretch: Stretch[Any]) -> Searched:
    return Searched(stretch.defect, stretch.first, 1, (Violation("died", "the process that ran it died"),))


def run_campaign(
    names: Iterable[str] | None = None,
    options: World | None = None,
    *,
    first: int = 0,
    limit: int = 2_000,
    processes: int | None = None,
    before: Iterable[Searched] = (),
    progress: Callable[[Searched, Campaign], None] | None = None,
) -> Campaign:
    """
    Hunt the defects of these *names* (all, if None), each in up to *limit* seeds from *first* on.

    *before* is what was done earlier; *progress* is told of each stretch. *processes* as for `run_batch`.
    """
    options = options if options is not None else Options()
    chosen = tuple(kind_of(options).defects() if names is None else names)
    campaign = Campaign(options, first, limit, chosen)
    for searched in before:
        campaign.add(searched)
    tasks = deque(stretch for name in chosen if (stretch := campaign.next(name)) is not None)
    with closing(
        spread(tasks, searching(kind_of(options).mode), _died, processes if processes is not None else cores(), ahead=1)
    ) as results:
        for searched in results:
            campaign.add(searched)
            following = campaign.next(searched.defect)
            if following is not None:
                tasks.append(following)
            if progress is not None:
                progress(searched, campaign)
    return campaign


def texts(options: World | None = None) -> Mapping[str, str]:
    """What each planted defect is, by name."""
    defects = kind_of(options if options is not None else Options()).defects()
    return {name: defect.text for name, defect in defects.items()}
