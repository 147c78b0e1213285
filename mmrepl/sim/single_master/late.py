"""
The second act: faults that are aimed at the moment in which they do most harm.

When the faults of a mix are over and a leader is there again, each of these is played in its turn, as a story: a
generator that does something to the world, and yields what it waits for, so many milliseconds or something to become
true. What it asks the nodes is who leads, how far logs go and what is on disk: to know the moment, not to judge. A
story that waits in vain is given up; it puts back in order what it has changed, in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from random import Random
from typing import TYPE_CHECKING, TypeAlias

from attrs import evolve

from mmrepl.errors import MmreplError
from mmrepl.sim.mix import Mix
from mmrepl.sim.network import Weather
from mmrepl.sim.single_master.faults import STANDARD_MS, LogFaults
from mmrepl.sim.single_master.history import Forced
from mmrepl.sim.single_master.node import WRITERS, LogNode
from mmrepl.single_master import events
from mmrepl.single_master.options import Failover

if TYPE_CHECKING:
    from mmrepl.sim.single_master.clients import LogWorkload
    from mmrepl.sim.single_master.cluster import SingleMasterCluster

LATE: Mapping[str, tuple[str, float, int, int]] = {
    # name: (row of the catalogue, share of seeds that draw it, least and most times a run), as `mmrepl.sim.mix.FAULTS`
    "left behind": ("N5", 0.40, 1, 1),
    "confirmer dies": ("P1", 0.35, 1, 1),
    "voter dies": ("P1", 0.35, 1, 2),
    "figure 8": ("M7", 0.35, 1, 2),
    "transfer unheard": ("M7", 0.30, 1, 2),
    "voters exchanged": ("M4", 0.35, 1, 2),
    "promoted alone": ("M7", 0.35, 1, 1),
    "promoted twice": ("M7", 0.50, 1, 1),
    "member taken out": ("M2", 0.25, 1, 1),
    "medium fails": ("D6", 0.30, 1, 1),
}
"""What may happen in the second act."""

ONLY_IN = {
    Failover.AUTOMATIC: frozenset({"voter dies", "figure 8", "transfer unheard"}),
    Failover.MANUAL: frozenset({"promoted alone", "promoted twice"}),
}
"""Stories of one way of failover."""

PATIENCE_MS = 3_000
"""A story that waits longer than this is given up."""

Wait: TypeAlias = int | Callable[[], object]
Tale: TypeAlias = Generator[Wait, None, None]
Undo: TypeAlias = Callable[[], None]


def draw_late(rng: Random, failover: Failover, names: tuple[str, ...] | None, duration_ms: int) -> dict[str, int]:
    """How often each is played in a run; of those *names* only, and then surely, if any are given."""
    longer = max(1, duration_ms // STANDARD_MS)
    elsewhere = ONLY_IN[Failover.MANUAL if failover is Failover.AUTOMATIC else Failover.AUTOMATIC]
    drawn = {}
    for name, (_, share, least, most) in LATE.items():
        chosen, times = rng.random() < share, rng.randint(least, most) * longer
        if name not in elsewhere and (chosen if names is None else name in names):
            drawn[name] = times
    return drawn


class SecondAct(LogFaults):
    """The faults of a mix, and after them the stories that it has drawn; `LateFaults` tells them."""

    def __init__(
        self,
        cluster: SingleMasterCluster,
        mix: Mix,
        duration_ms: int,
        workload: LogWorkload,
        *,
        may_force: bool,
    ) -> None:
        early = {name: times for name, times in mix.faults.items() if name not in LATE}
        super().__init__(cluster, evolve(mix, faults=early), duration_ms, may_force=may_force, gather=workload.gather)
        self._workload = workload
        self._tales = [name for name, times in mix.faults.items() if name in LATE for _ in range(times)]
        self._playing: Tale | None = None
        self._tidy: list[Undo] = []  # what a story has to put back in order
        self._is_late = False

    # -- playing

    def play(self) -> None:
        """Let the world come to rest, and play every story in its turn. Time passes."""
        if not self._tales:
            return
        cluster = self.logs
        self._rng = rng = cluster.world.dice("late")
        self._calm_down()
        cluster.run(400)  # longer than a lease that was taken by a clock that drifted
        self._wait_for_peace()
        self._workload.come_back()
        rng.shuffle(self._tales)
        for name in self._tales:
            self._rng = rng = cluster.world.dice("late", name, str(cluster.now_ms))
            self._wait_for_peace()
            self._dice[name] = rng
            tale: Tale | None = getattr(self, "_" + name.replace(" ", "_"))()
            if tale is None:
                continue
            cluster.fired[name] += 1
            cluster.note(f"story: {name}")
            self._follow(tale)
            cluster.run(rng.choice((50, 400)))

    def _follow(self, tale: Tale) -> None:
        """Play one to its end."""
        cluster = self.logs
        wait: Wait = 0
        began = cluster.now_ms
        try:
            while cluster.now_ms - began < PATIENCE_MS:
                if isinstance(wait, int):
                    cluster.run(wait)
                elif not wait():
                    cluster.run(1)
                    continue
                wait = next(tale)
        except (StopIteration, MmreplError):
            pass  # it is told; or somebody is down of whom it went on to tell
        finally:
            tale.close()
            self._put_in_order()

    def _put_in_order(self) -> None:
        tidy, self._tidy = self._tidy, []
        for undo in tidy:
            undo()

    def _calm_down(self) -> None:
        """The faults of the mix are over, but for those that still wait for their moment; the weather is mild."""
        cluster = self.logs
        self._is_late = True
        undo, self._undo = self._undo, []
        for each in undo:
            each()
        mild = self._rng.choice((Weather("constant", 1), Weather("uniform", 3), Weather("exponential", 5)))
        cluster.under(mild)
        for node in cluster.nodes.values():
            node.die_after = None
            node.slow_ms = 0
            node.disk.full = node.disk.failing = node.disk.lying = False
            node.clock.drift(0)
            node.resume()

    def _wait_for_peace(self) -> None:
        """Until somebody leads, and all voters are up and hold what is committed; not for ever."""
        began = self.logs.now_ms
        while self.logs.now_ms - began < PATIENCE_MS and not self._is_peace():
            self.logs.run(20)

    def _is_peace(self) -> bool:
        leader = self._leading()
        if leader is None or leader.running.tenure is None or not leader.running.tenure.has_committed:
            return False
        members = leader.running.history.current
        return not members.is_joint and all(map(self._is_with_us, members.voters))

    def _is_with_us(self, name: str) -> bool:
        leader, node = self._leading(), self.logs.nodes.get(name)
        return (
            leader is not None and node is not None and node.is_up and not node.paused
            and leader.running.history.current.has(node.running.node)
            and node.running.applied >= leader.running.committed
        )  # fmt: skip

    def _members_may_change(self) -> bool:
        """In the second act it is enough that those who vote are there: the protocol sees to the rest."""
        if not self._is_late:
            return super()._members_may_change()
        leader = self._leading()
        if leader is None:
            return False
        members = leader.running.history.current
        there = [self.logs.nodes.get(name) for name in members.voters]
        return (
            not members.is_joint and len(there) >= 3
            and all(node is not None and node.is_up and members.has(node.running.node) for node in there)
            and all(map(self._may_forget, self.logs.nodes.values()))
        )  # fmt: skip

    # -- what stories do

    def _apart(self, ours: Collection[str], theirs: Collection[str], *, both: bool = True) -> Undo:
        """Hold what ours send to theirs, and the other way too; returns what lets it go."""
        network = self.logs.network
        pairs = [(one, other) for one in sorted(ours) for other in sorted(theirs) if one != other]
        if both:
            pairs += [(other, one) for one, other in pairs]
        for pair in pairs:
            network.hold(*pair)
        held = [pairs]

        def undo() -> None:
            for pair in held.pop() if held else ():
                network.let_go(*pair)

        self._tidy.append(undo)
        return undo

    def _slow(self, names: Iterable[str], disk_ms: int) -> None:
        """Commits of these take so long, until the story ends."""
        for node in map(self.logs.node, names):

            def undo(node: LogNode = node, before: int = node.disk_ms) -> None:
                node.disk_ms = before

            self._tidy.insert(0, undo)  # the first change of a disk is the last that is undone
            node.disk_ms = disk_ms

    def _kill(self, node: LogNode, *, forgets: bool = False) -> None:
        """Its process dies; it is started when the story ends. If it *forgets*, what it was writing is not there."""
        if forgets and node.is_writing:
            node.disk.unwrite()
        self.logs.crash(node.name)
        self._tidy.append(lambda: self._rise(node))

    def _hush(self, name: str) -> Undo:
        """What *name* has sent and nobody heard is lost, until what this returns is called."""
        paths = [self.logs.network.path(name, other) for other in self._beside([name])]
        for path in paths:
            path.down = True

        def undo() -> None:
            for path in paths:
                path.down = False

        self._tidy.append(undo)
        return undo

    def _rise(self, node: LogNode) -> None:
        if not node.is_up and node.name not in self.gone:
            node.start()

    def _promote(self, name: str, *, force: bool = False) -> None:
        """Somebody promotes *name*, whatever goes on elsewhere."""
        node = self.logs.node(name)
        if not node.is_up or node.paused or node.running.role in WRITERS or not self._has_vote(node):
            return
        try:
            node.ask(lambda core, token: core.promote(node.now()[0], token=token, force=force), self._told)
        except MmreplError:
            return
        self.logs.note(f"somebody promotes {name}{' by force' if force else ''}")
        if force:
            self.logs.fired["forced promotion"] += 1
            self.logs.history.add(Forced(self.logs.world.now_ms, name))

    def _told(self, event: object) -> None:
        self.logs.fired["promotion" if isinstance(event, events.Promoted) else "promotion refused"] += 1

    @property
    def _is_manual(self) -> bool:
        return self.logs.settings.failover is Failover.MANUAL

    def _cast(self, least: int = 3) -> tuple[LogNode, list[str]] | None:
        """Who leads, and the other voters in any order; None where there are fewer than *least*, or not all are up."""
        leader = self._leading()
        if leader is None or not self._is_peace():
            return None
        others = [name for name in leader.running.history.current.voters if name != leader.name]
        self._rng.shuffle(others)
        return (leader, others) if len(others) + 1 >= least else None

    def _beside(self, names: Collection[str]) -> list[str]:
        """All other nodes, members or not."""
        return [name for name in self.logs.names if name not in names]
