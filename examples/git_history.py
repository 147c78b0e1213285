"""
A version-control history, replayed as a multi-master one and checked against its own graph.

Whoever worked on a branch was a replica that took writes by itself; a merge was an exchange; files are keys, hashes of
their contents are values. So every repository is the record of a multi-master system with people as its network. This
program makes every commit again with mmrepl, and looks at each merge and each head: are the siblings of every key
exactly the writes that the commit graph says, no more and no fewer? The graph is asked without version vectors: see
history/graph.py. How replicas are laid over branches stands in history/plan.py.

    python git_history.py .                             any local git repository; nothing in it is changed
    python git_history.py antidote-history.jsonl.gz     or a trace
    python git_history.py . --processes                 by nodes in other processes, over TCP

It exits with 1 if anything is wrong.
"""

# run: {root} --limit 300
# run: {root} --limit 60 --json
# run: {root} --limit 60 --processes
# needs: git

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from attrs import asdict, define, field, frozen
from history.graph import Graph
from history.nodes import Nodes
from history.plan import Bring, Check, Plan, Planner, Write
from history.replicas import Live, Replicas
from history.source import Commit, Unreadable, read_history

import mmrepl
from mmrepl.types import Value

SHOWN = 5  # wrong keys that are told in full


class Places(Protocol):
    """Where the history happens."""

    mutual: bool
    delta_bytes: int

    def bring(self, target: int, source: int) -> None: ...
    def write(self, number: int, commit: Commit) -> Mapping[str, mmrepl.Dot]: ...
    def siblings(self, number: int, keys: Iterable[str]) -> Iterator[tuple[str, Live]]: ...
    def close(self) -> None: ...


@frozen
class Wrong:
    """A key whose siblings are not what the graph says."""

    commit: str
    key: str
    missing: list[str]  # commits whose writes should live and do not
    extra: list[str]  # writes that live and should not
    changed: list[str]  # writes that live with another value than they were made with


@define
class Report:
    """What was found."""

    source: str
    commits: int
    merges: int
    octopus: int  # merges of more than two
    heads: int
    writes: int
    deletes: int
    keys: int
    backwards: int  # commits that are stamped before one of their parents
    replicas: int
    how: str
    exchanges: int = 0
    delta_bytes: int = 0  # of embedded replicas
    checked_states: int = 0
    checked_keys: int = 0
    with_siblings: int = 0  # keys with more than one sibling, over all states that were checked
    tombstone_siblings: int = 0  # of them, those where a deletion stands beside something else
    live_at_heads: int = 0
    siblings_at_heads: int = 0
    most: int = 0
    most_where: str = ""
    wrong: int = 0
    examples: list[Wrong] = field(factory=list)
    seconds: float = 0.0


class Replay:
    """Carries a plan out, and compares."""

    def __init__(self, graph: Graph, plan: Plan, places: Places, report: Report) -> None:
        self._graph, self._plan, self._places, self._report = graph, plan, places, report
        self._commit_of: dict[mmrepl.Dot, int] = {}
        self._heads = set(graph.heads())

    def run(self, progress: Callable[[int, int], None]) -> None:
        """All steps, in order."""
        commits = self._graph.commits
        for step in self._plan.steps:
            match step:
                case Bring(target, source):
                    self._places.bring(target, source)
                    self._report.exchanges += 1
                case Write(replica, number):
                    dots = self._places.write(replica, commits[number])
                    self._commit_of.update((dot, number) for dot in dots.values())
                    progress(number + 1, self._report.wrong)
                case Check(replica, number):
                    self._check(replica, number)
        self._report.delta_bytes = self._places.delta_bytes

    def _check(self, replica: int, number: int) -> None:
        """Every key that anybody has ever written: also those that nobody may have heard of here."""
        self._report.checked_states += 1
        for key, live in self._places.siblings(replica, self._graph.writers):
            self._report.checked_keys += 1
            expected = self._graph.siblings(key, number)
            found = {self._commit_of.get(dot, -1): value for dot, value in live.items()}
            if len(found) != len(live) or set(found) != set(expected) or not self._same_values(key, found):
                self._tell_wrong(key, number, expected, found)
            self._count(key, number, expected)

    def _same_values(self, key: str, found: Mapping[int, Value]) -> bool:
        commits = self._graph.commits
        return all(commits[writer].writes[key] == value for writer, value in found.items())

    def _tell_wrong(self, key: str, number: int, expected: list[int], found: Mapping[int, Value]) -> None:
        report, commits = self._report, self._graph.commits
        report.wrong += 1
        if len(report.examples) < SHOWN:
            both = set(expected) & set(found)
            report.examples.append(
                Wrong(
                    commit=commits[number].name,
                    key=key,
                    missing=[commits[n].name for n in sorted(set(expected) - both)],
                    extra=["nobody" if n < 0 else commits[n].name for n in sorted(set(found) - both)],
                    changed=[commits[n].name for n in sorted(both) if commits[n].writes[key] != found[n]],
                )
            )

    def _count(self, key: str, number: int, live: list[int]) -> None:
        report, commits = self._report, self._graph.commits
        values = [commits[writer].writes[key] for writer in live]
        at_head = number in self._heads
        report.live_at_heads += at_head and any(value is not None for value in values)
        if len(live) > 1:
            report.with_siblings += 1
            report.siblings_at_heads += at_head
            report.tombstone_siblings += None in values
            if len(live) > report.most:
                report.most = len(live)
                report.most_where = f"{key} at {commits[number].name[:12]}"


def survey(source: str, graph: Graph, plan: Plan, how: str) -> Report:
    """What can be said of a history before it is replayed."""
    commits = graph.commits
    values = [value for commit in commits for value in commit.writes.values()]
    return Report(
        source=source,
        commits=len(commits),
        merges=sum(commit.is_merge for commit in commits),
        octopus=sum(len(commit.parents) > 2 for commit in commits),
        heads=len(graph.heads()),
        writes=len(values),
        deletes=sum(value is None for value in values),
        keys=len(graph.writers),
        backwards=sum(any(commits[p].time > commit.time for p in commit.parents) for commit in commits),
        replicas=plan.replica_count,
        how=how,
    )


def replay(
    source: str,
    commits: list[Commit],
    make: Callable[[int], Places],
    how: str,
    progress: Callable[[int, int], None] = lambda _done, _wrong: None,
    *,
    mutual: bool = False,
    planner: type[Planner] = Planner,  # tests plant a wrong one
) -> Report:
    """Replay *commits* at the places that *make* makes, and compare them with the graph."""
    began = time.monotonic()
    graph = Graph(commits)
    plan = planner(graph, mutual=mutual).plan()
    report = survey(source, graph, plan, how)
    places = make(plan.replica_count)
    try:
        Replay(graph, plan, places, report).run(progress)
    finally:
        places.close()
    report.seconds = time.monotonic() - began
    return report


# -- for people


def tell(report: Report) -> str:
    """The report as text."""
    r = report
    wrong = f"{r.wrong:,} WRONG" if r.wrong else "nothing wrong"
    lines = [
        f"{r.source}, replayed by {r.replicas} {r.how}",
        "",
        f"  commits    {r.commits:>9,}   {r.merges:,} of them merges, {r.octopus:,} of 3 or more; {r.heads:,} heads",
        f"  writes     {r.writes:>9,}   to {r.keys:,} files; {r.deletes:,} of them deletions",
        f"  exchanges  {r.exchanges:>9,}   " + (f"{r.delta_bytes:,} bytes of deltas" if r.delta_bytes else ""),
        f"  clocks     {r.backwards:>9,}   commits are stamped before one of their parents, which has to do no harm",
        "",
        f"  checked    {r.checked_states:>9,}   states, every merge and every head, each with {r.keys:,} files",
        f"  siblings   {r.with_siblings:>9,}   times a file had several, {r.tombstone_siblings:,} with a deletion",
        f"  the most   {r.most:>9,}   {r.most_where or 'siblings of a file'}",
        f"  in the end {r.live_at_heads:>9,}   files at the heads; {r.siblings_at_heads:,} have several siblings",
        "",
        f"  {wrong} among {r.checked_keys:,} sets of siblings, compared with the commit graph in {r.seconds:.1f} s",
    ]
    for each in r.examples:
        lines.append(f"  {each.key} at {each.commit[:12]}:")
        lines += [f"    does not live and should: the write of {name[:12]}" for name in each.missing]
        lines += [f"    lives and should not:     the write of {name[:12]}" for name in each.extra]
        lines += [f"    lives with another value: the write of {name[:12]}" for name in each.changed]
    return "\n".join(line.rstrip() for line in lines)


@contextmanager
def showing_progress(total: int, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """What shows how far we are, on the error stream: a bar with rich, a line now and then without, or nothing."""
    if quiet or not sys.stderr.isatty():
        yield lambda _done, _wrong: None
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        told = [time.monotonic()]

        def show(done: int, wrong: int) -> None:
            if time.monotonic() - told[0] > 2:
                told[0] = time.monotonic()
                print(f"{done:,} of {total:,} commits, {wrong:,} wrong", file=sys.stderr)

        yield show
        return
    columns = (TextColumn("commits"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda done, wrong: bar.update(task, completed=done, description=f"[red]{wrong} wrong" if wrong else "")


def main(arguments: list[str] | None = None) -> int:
    """Replay what the command line says; 0: nothing was wrong, 1: something was, 2: nothing could be read."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("source", metavar="REPOSITORY_OR_TRACE")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N commits")
    parser.add_argument(
        "--processes", type=int, nargs="?", const=2, metavar="N", help="replay by nodes in N processes, over TCP (2)"
    )
    parser.add_argument("--json", action="store_true", help="the report as JSON")
    options = parser.parse_args(arguments)
    if any(number is not None and number < 1 for number in (options.limit, options.processes)):
        parser.error("--limit and --processes need a number from 1 on")
    try:
        commits = read_history(options.source, options.limit)
        if not commits:
            raise Unreadable(f"there are no commits in {options.source}")
    except Unreadable as error:
        print(error, file=sys.stderr)
        return 2
    with showing_progress(len(commits), quiet=options.json) as progress:
        if options.processes is not None:
            how = f"nodes in {options.processes} processes, over TCP"
            report = replay(
                options.source, commits, lambda count: Nodes(count, options.processes), how, progress, mutual=True
            )
        else:
            report = replay(options.source, commits, Replicas, "embedded replicas", progress)
    print(json.dumps(asdict(report), indent=2) if options.json else tell(report))
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
