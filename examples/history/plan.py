"""
Where each commit happens: a history as steps of replicas.

Every commit needs a replica that shows the state of its parents at that moment. A replica goes on with the last of the
children of the commit that it stands at; for the other children it is *forked*, before it goes on: another replica is
brought everything that it has. So whoever merges finds each parent's replica as it was at the parent, and not as it
became later.

Who has been merged, and whom nobody needs any more, is spare: it may be brought up to date for a later fork, as
people do who come back. So a history needs as many replicas as it was ever wide, and not as many as it has forks.
"""

from __future__ import annotations

from typing import TypeAlias

from attrs import field, frozen

from history.graph import Graph


@frozen
class Bring:
    """Bring to replica *target* what replica *source* has."""

    target: int
    source: int


@frozen
class Write:
    """Make the writes of a commit at a replica."""

    replica: int
    commit: int


@frozen
class Check:
    """Compare a replica with the graph: it stands at this commit."""

    replica: int
    commit: int


Step: TypeAlias = Bring | Write | Check


@frozen
class Plan:
    """The steps in order, and how many replicas they need."""

    steps: list[Step] = field(factory=list)
    replica_count: int = 0


class Planner:
    """
    Makes the plan of a history. With *mutual*, bringing is an exchange: afterwards both sides have everything, as when
    two nodes are connected; then what is merged is a copy, unless nobody else needs the original.
    """

    def __init__(self, graph: Graph, *, mutual: bool) -> None:
        self._graph = graph
        self._mutual = mutual
        self._steps: list[Step] = []
        self._replica_of: dict[int, int] = {}  # commit that somebody still needs -> the replica that stands at it
        self._needed = [len(children) for children in graph.children]  # children that have not happened yet
        self._spare: list[tuple[int, int]] = []  # (commit whose ancestors include all that it has, replica)
        self._count = 0

    def plan(self) -> Plan:
        """All steps, in order."""
        heads = set(self._graph.heads())
        for commit in self._graph.commits:
            replica = self._prepare(commit.number, commit.parents)
            self._steps.append(Write(replica, commit.number))
            if commit.is_merge or commit.number in heads:
                self._steps.append(Check(replica, commit.number))
            self._replica_of[commit.number] = replica
        return Plan(self._steps, self._count)

    def _prepare(self, number: int, parents: tuple[int, ...]) -> int:
        """A replica that shows the state of all *parents*."""
        if not parents:
            return self._new()
        for parent in parents:
            self._needed[parent] -= 1
        first = next((parent for parent in parents if self._is_free(parent)), parents[0])
        replica = self._replica_of.pop(first) if self._is_free(first) else self._fork(first)
        for parent in parents:
            if parent != first:
                self._merge(replica, parent, number)
        return replica

    def _is_free(self, commit: int) -> bool:
        """Whether nobody needs the replica at *commit* to stay there."""
        return self._needed[commit] == 0

    def _merge(self, replica: int, parent: int, number: int) -> None:
        free = self._is_free(parent)
        source = self._replica_of.pop(parent) if free else self._replica_of[parent]
        if self._mutual and not free:
            source, free = self._fork(parent), True
        self._steps.append(Bring(replica, source))
        if free:
            self._spare.append((number if self._mutual else parent, source))

    def _fork(self, commit: int) -> int:
        """Another replica at *commit*: a spare one that has nothing beyond it, or a new one."""
        known = [(at, replica) for at, replica in self._spare if self._graph.is_ancestor(at, commit)]
        if known:
            self._spare.remove(max(known))
        replica = max(known)[1] if known else self._new()
        self._steps.append(Bring(replica, self._replica_of[commit]))
        return replica

    def _new(self) -> int:
        self._count += 1
        return self._count - 1
