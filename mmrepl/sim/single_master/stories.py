"""
The stories of the second act; see `mmrepl.sim.single_master.late`.

They are where a rule of the protocol counts: who was voted for is not on disk yet, and the voter dies; an entry is held
by a majority, and must not be committed (figure 8 of the Raft paper); an old leader has not heard that it is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mmrepl.sim.single_master.late import SecondAct, Tale
from mmrepl.sim.single_master.node import LogNode
from mmrepl.single_master.options import Role
from mmrepl.single_master.quorum import majority


class LateFaults(SecondAct):
    """The faults of a mix, and the stories after them. Each method gives a story, or None where it cannot be told."""

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
        self._kill(pivot, forgets=rng.random() < 0.8)
        ours.remove(pivot.name)
        self._apart(ours, self._beside(ours))
        hushed = self._hush(pivot.name)
        first()
        self._slow([pivot.name], 1)
        yield 10
        hushed()
        self._rise(pivot)
        if self._is_manual:
            for name in (pivot.name, others[-1]):
                yield rng.randrange(100, 400)
                self._promote(name)
        yield rng.randrange(1_000, 1_800)

    def _voters_exchanged(self) -> Tale | None:
        """So many voters become learners that the others would be enough for each other; then they are voters again."""
        cast = self._cast()
        return None if cast is None else self._tell_voters_exchanged(*cast)

    def _tell_voters_exchanged(self, leader: LogNode, others: list[str]) -> Tale:
        rng = self._rng
        count = len(others) + 1
        left = count - majority(count)  # so many do not hear of it, and are a majority of the old ones with one more
        stay = others[: rng.randint(0, max(0, 2 * left - 2))]
        there = [leader.name, *stay[: majority(len(stay) + 1) - 1]]
        gone = tuple(name for name in others if name not in stay)
        self._change(leader, learners=gone)
        self._workload.crowd(leader.name)
        yield rng.randrange(4)
        self._apart(there, self._beside(there))
        if self._is_manual:
            yield rng.randrange(100, 500)
            self._promote(gone[0])
        yield rng.randrange(900, 1_600)
        self._put_in_order()
        yield self._is_peace
        now = self._leading()
        if now is not None:
            self._change(now, add=now.running.history.current.learners)
        yield 300

    def _change(self, leader: LogNode, *, add: tuple[str, ...] = (), learners: tuple[str, ...] = ()) -> None:
        leader.ask(
            lambda core, token: core.change_members(*leader.now(), token=token, add=add, learners=learners),
            lambda _event: None,
        )
        self.logs.fired["voters changed"] += 1
        self.logs.note(f"{leader.name} makes voters of {add}, learners of {learners}")

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
        nodes, rng, term = self.logs.nodes, self._rng, leader.running.term
        if rng.random() < 0.7:  # else it may go on in its term, if the one who forgets follows it again
            self._kill(leader)
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
        pivot = nodes[rng.choice([name for name in ours if name != new.name])]
        self._kill(pivot, forgets=rng.random() < 0.8)
        ours.remove(pivot.name)
        self._apart(ours, self._beside(ours))
        hushed = self._hush(pivot.name)
        first()
        pivot.disk_ms = 1
        yield 10
        hushed()
        self._rise(pivot)
        self._rise(leader)
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
