"""
The second act: faults that are aimed at the moment in which they do most harm.

When the faults of a mix are over and a leader is there again, each of these is played in its turn, as a story: a
generator that does something to the world, and yields what it waits for, so many milliseconds or something to become
true. What it asks the nodes is who leads, how far logs go and what is on disk: to know the moment, not to judge. A
story that waits in vain is given up; it puts back in order what it has changed, in any case.

They are where a rule of the protocol counts: who was voted for is not on disk yet, and the voter dies; an entry is held
by a majority, and must not be committed (figure 8 of the Raft paper); an old leader has not heard that it is one.
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
from mmrepl.single_master.options import Failover, Role
from mmrepl.single_master.quorum import majority

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
    "promoted twice": ("M7", 0.35, 1, 1),
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


class LateFaults(LogFaults):
    """The faults of a mix, and after them the stories that it has drawn."""

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

    def _enough_remember(self) -> bool:
        """In the second act nobody's disk is lost: that those who vote are there is enough."""
        if not self._is_late:
            return super()._enough_remember()
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

    def _kill(self, node: LogNode) -> None:
        """Its process dies; it is started when the story ends, unless that is done before."""
        self.logs.crash(node.name)
        self._tidy.append(lambda: self._rise(node))

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

    # -- stories of both

    def _left_behind(self) -> Tale | None:
        """Who leads is cut off, and does not know; clients read and write on both sides."""
        cast = self._cast()
        return None if cast is None else self._tell_left_behind(*cast)

    def _tell_left_behind(self, leader: LogNode, others: list[str]) -> Tale:
        rng = self._rng
        self._workload.crowd(leader.name)
        yield rng.randrange(20, 200)
        self._apart([leader.name], self._beside([leader.name]))
        if self._is_manual:
            yield rng.choice((50, 300, 800))
            for name in others:
                self._promote(name)
                yield 250
                if self.logs.leader() not in {"", leader.name}:
                    break
        yield rng.randrange(800, 1_500)

    def _confirmer_dies(self) -> Tale | None:
        """Who has just confirmed an entry that only a bare majority holds dies, and others go on without the leader."""
        cast = self._cast()
        if cast is None or len(cast[1]) % 2:  # of an even number, those who are left are too few
            return None
        return self._tell_confirmer_dies(*cast)

    def _tell_confirmer_dies(self, leader: LogNode, others: list[str]) -> Tale:
        rng = self._rng
        count = majority(len(others) + 1) - 1
        pivot = self.logs.node(others[0])
        ours = [leader.name, *others[:count]]
        first = self._apart(ours, self._beside(ours))
        self._slow(others[:count], 40)
        self._slow([leader.name], 0)
        self._workload.crowd(leader.name)
        yield rng.randrange(60, 250)
        yield lambda: pivot.running.log.last > pivot.running.durable_end
        yield rng.randrange(5, 40)
        self._kill(pivot)
        ours.remove(pivot.name)
        self._apart(ours, self._beside(ours))
        first()
        self._slow([pivot.name], 1)
        yield 10
        self._rise(pivot)
        if self._is_manual:
            for name in (pivot.name, others[-1]):
                yield rng.randrange(100, 400)
                self._promote(name)
        yield rng.randrange(1_000, 1_800)

    def _voters_exchanged(self) -> Tale | None:
        """As `_voters_changed`."""
        return self._tell_done("voters changed", self._voters_changed)

    def _member_taken_out(self) -> Tale | None:
        """A member is removed, with elections the leader as well."""
        first = self._rng.random() < 0.5 and not self._is_manual
        return self._tell_done(*(("leader removed", self._leader_removed) if first else ("removed", self._removed)))

    def _medium_fails(self) -> Tale | None:
        """The disk of one fails at its next commit."""
        leader = self._leading()
        return self._tell_done("disk fails", self._disk_fails if leader is None or self._rng.random() < 0.5
                               else lambda: self._fail(leader))  # fmt: skip

    def _fail(self, node: LogNode) -> bool:
        node.disk.failing = True
        return True

    def _tell_done(self, counter: str, act: Callable[[], bool]) -> Tale:
        """Try until it could be done, and see what comes of it; somebody writes meanwhile."""

        def done() -> bool:
            found = act()
            self.logs.fired[counter] += found
            return found

        for _ in range(20):
            self._workload.one()
        yield done
        for _ in range(20):
            self._workload.one()
        yield self._rng.randrange(400, 1_200)

    # -- stories of elections

    def _voter_dies(self) -> Tale | None:
        """Whose vote decides dies before it is on disk, and comes back to those who have not heard of the election."""
        cast = self._cast()
        if cast is None or len(cast[1]) % 2:
            return None
        return self._tell_voter_dies(*cast)

    def _tell_voter_dies(self, leader: LogNode, others: list[str]) -> Tale:
        nodes, term = self.logs.nodes, leader.running.term
        ours = others[: majority(len(others) + 1)]
        first = self._apart(ours, self._beside(ours))
        self._slow(ours, 60)

        def elected() -> list[LogNode]:
            for name in ours:  # who asks is fast, who answers is slow
                nodes[name].disk_ms = 1 if nodes[name].running.role is Role.CANDIDATE else 60
            return [nodes[name] for name in ours if nodes[name].running.role is Role.LEADER
                    and nodes[name].running.term > term]  # fmt: skip

        yield elected
        new = elected()[0]
        pivot = nodes[self._rng.choice([name for name in ours if name != new.name])]
        self._kill(pivot)
        ours.remove(pivot.name)
        self._apart(ours, self._beside(ours))
        first()
        pivot.disk_ms = 1
        yield 10
        self._rise(pivot)
        yield lambda: self.logs.leader() not in {"", new.name}
        yield 300

    def _figure_8(self) -> Tale | None:
        """An entry of an older term comes to be held by a majority, and who could still overwrite it comes back."""
        cast = self._cast()
        return None if cast is None else self._tell_figure_8(*cast)

    def _tell_figure_8(self, first: LogNode, others: list[str]) -> Tale:
        nodes, rng = self.logs.nodes, self._rng
        term = first.running.term
        alone = self._apart([first.name], self._beside([first.name]))
        for number in range(rng.randint(1, 3)):
            self._workload.scribble(first, f"8.{number}")
        yield lambda: first.running.durable_end == first.running.log.last
        last = first.running.log.last
        self._kill(first)
        self._slow(others, 5)

        def led(among: Iterable[str], above: int) -> LogNode | None:
            return next((nodes[name] for name in among if nodes[name].is_up and nodes[name].running.role is Role.LEADER
                         and nodes[name].running.term > above), None)  # fmt: skip

        yield lambda: led(others, term)
        second = led(others, term)
        assert second is not None
        mute = self._apart([second.name], self._beside([second.name]))  # before its first entry has left
        yield lambda: second.running.durable_end == second.running.log.last > 0
        middle = second.running.term
        self._kill(second)
        self._slow([first.name], 150)
        alone()
        mute()
        self._rise(first)
        yield lambda: led([first.name], middle)

        def held() -> bool:
            tenure = first.running.tenure
            here = sum(tenure.match(name) >= last for name in others) if tenure is not None else 0
            return here + 1 >= majority(len(others) + 1)

        yield held
        yield rng.choice((1, 1, 5, 60))
        self._kill(first)
        self._rise(second)
        yield lambda: led(self.logs.names, middle)
        yield rng.randrange(100, 400)
        self._rise(first)
        yield 300

    def _transfer_unheard(self) -> Tale | None:
        """The office is handed over, and who had it hears nothing of what comes of that."""
        cast = self._cast()
        return None if cast is None else self._tell_transfer_unheard(*cast)

    def _tell_transfer_unheard(self, leader: LogNode, others: list[str]) -> Tale:
        to, rng = self.logs.node(others[0]), self._rng
        term = leader.running.term
        self._workload.crowd(leader.name, every_ms=6)
        self._slow([to.name], 4)
        yield rng.randrange(20, 150)
        leader.ask(lambda core, token: core.transfer(to.name, leader.now()[0], token=token), self._transferred)
        self.logs.fired["transfer"] += 1
        yield lambda: to.running.term > term
        self._apart(self._beside([leader.name]), [leader.name], both=False)
        yield rng.randrange(400, 900)

    # -- stories of promotions

    def _promoted_alone(self) -> Tale | None:
        """A replica that sees too few others is promoted, while the primary goes on."""
        cast = self._cast()
        return None if cast is None else self._tell_promoted_alone(*cast)

    def _tell_promoted_alone(self, leader: LogNode, others: list[str]) -> Tale:
        count = self._rng.randint(1, len(others) + 1 - majority(len(others) + 1))
        self._apart(others[:count], self._beside(others[:count]))
        self._workload.crowd(leader.name)
        yield self._rng.randrange(50, 400)
        self._promote(others[0])
        yield self._rng.randrange(1_000, 1_800)

    def _promoted_twice(self) -> Tale | None:
        """Two are promoted at once that do not see each other; by force, where that is allowed."""
        cast = self._cast()
        return None if cast is None else self._tell_promoted_twice(*cast)

    def _tell_promoted_twice(self, leader: LogNode, others: list[str]) -> Tale:
        rng = self._rng
        one, other = others[:2]
        if rng.random() < 0.5:
            self._kill(leader)
        else:
            self._workload.crowd(leader.name)
            self._apart([leader.name], self._beside([leader.name]))
        if self.may_force or rng.random() < 0.5:
            half = [one, *(name for name in self._beside([one, other, leader.name]) if rng.random() < 0.5)]
            self._apart(half, self._beside(half))
        yield rng.randrange(10, 100)
        for name in (one, other):
            self._promote(name, force=self.may_force)
        yield rng.randrange(1_000, 1_800)
