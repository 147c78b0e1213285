"""
Faults: what the world does to a cluster, each counted where it takes effect.

`Faults` plans the faults of a mix over the safety phase; each undoes itself after a while, and `end` undoes all. The
names are those of `mmrepl.sim.mix.FAULTS`; `mmrepl.sim.catalogue` says how often each must have fired in a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Generic

from attrs import evolve

from mmrepl.errors import MmreplError
from mmrepl.sim.mix import Mix
from mmrepl.sim.network import Weather
from mmrepl.sim.stage import HostT, Stage
from mmrepl.sim.topology import is_connected


class Faults(Generic[HostT]):
    """Plans the faults of *mix* within the next *duration_ms*."""

    def __init__(self, cluster: Stage[HostT], mix: Mix, duration_ms: int) -> None:
        self.cluster = cluster
        self.mix = mix
        self.over = False
        self.gone: set[str] = set()  # nodes that will not come back
        self._dice: dict[str, Random] = {}  # of each kind its own: without one kind, the others happen as before
        self._rng: Random = cluster.world.dice("faults")  # of the kind that happens now
        self._undo: list[Callable[[], None]] = []
        self._backups: dict[str, list[Any]] = {}
        self._joined = 0
        self._removals = 0
        cluster.crashed = self._died  # type: ignore[method-assign]
        start = cluster.now_ms
        for name, times in mix.faults.items():
            rng = self._dice[name] = cluster.world.dice("faults", name)
            for _ in range(times):
                cluster.world.at(start + rng.randrange(duration_ms), self._fire, name)
        if {"restored", "set back"} & mix.faults.keys():
            for _ in range(6):
                cluster.world.at(start + self._rng.randrange(duration_ms), self._back_up)

    def _fire(self, name: str) -> None:
        self._rng = self._dice[name]
        if not self.over and getattr(self, "_" + name.replace(" ", "_"))():
            self.cluster.fired[name] += 1

    def end(self) -> None:
        """No more faults: the network is calm, everybody is up, clocks are right."""
        cluster = self.cluster
        self.over = True
        for undo in self._undo:
            undo()
        self._undo.clear()
        for _, _, path in cluster.network.paths():
            path.weather = Weather("constant", 3)
        for node in list(cluster.nodes.values()):
            node.clock.set_right(500)
            node.die_after = None
            node.slow_ms = node.disk_ms = 0
            node.disk.full = node.disk.failing = node.disk.lying = False
            node.resume()
            if node.is_up and self._removals:
                node.stop("is restarted")  # two that have forgotten each other are introduced by their configuration
            if not node.is_up and node.name not in self.gone:
                node.start()
        if cluster.network.datagrams or cluster.fired["flipped"]:
            # A flipped length has a reader wait for bytes that never come; its node would notice after ten seconds.
            for one in cluster.names:
                for other in cluster.names:
                    if one < other:
                        cluster.network.cut(one, other)
        cluster.note("the faults are over")

    # -- helpers

    def _some(self, *, up: bool | None = True) -> HostT | None:
        nodes = [
            node for node in self.cluster.nodes.values()
            if node.name not in self.gone and (up is None or (node.is_up and not node.paused) == up)
        ]  # fmt: skip
        return nodes[self._rng.randrange(len(nodes))] if nodes else None

    def _some_two(self) -> tuple[HostT, HostT] | None:
        nodes = [
            node for node in self.cluster.nodes.values()
            if node.name not in self.gone and node.is_up and not node.paused
        ]  # fmt: skip
        return tuple(self._rng.sample(nodes, 2)) if len(nodes) > 1 else None  # type: ignore[return-value]

    def _two(self) -> tuple[str, str] | None:
        names = self.cluster.names
        return tuple(self._rng.sample(names, 2)) if len(names) > 1 else None  # type: ignore[return-value]

    def _for_a_while(self, undo: Callable[[], None], least_ms: int, most_ms: int) -> None:
        """Undo something once, after a while or at the end."""
        done = False

        def once() -> None:
            nonlocal done
            if not done:
                done = True
                undo()

        self._undo.append(once)
        self.cluster.world.after(self._rng.randint(least_ms, most_ms), once)

    def _hold(self, paths: list[tuple[str, str]], least_ms: int, most_ms: int) -> None:
        network = self.cluster.network
        for source, target in paths:
            network.hold(source, target)

        def undo() -> None:
            for source, target in paths:
                network.let_go(source, target)

        self._for_a_while(undo, least_ms, most_ms)

    def _died(self, node: HostT) -> None:
        """A node died by itself: somebody starts it again."""
        self._restart_later(node)

    def _restart_later(self, node: HostT, *, die_after: int | None = None) -> None:
        def restart() -> None:
            if not node.is_up and not self.over and node.name not in self.gone:
                node.start()
                node.die_after = die_after

        self.cluster.world.after(self._rng.choice((10, 200, 1_500)), restart)

    # -- the network

    def _partition(self) -> bool:
        names = list(self.cluster.names)
        if len(names) < 2:
            return False
        rng = self._rng
        rng.shuffle(names)
        shape = rng.randrange(5)
        size = 1 if shape == 0 else max(1, len(names) // 3) if shape == 4 else max(1, len(names) // 2)
        ours, theirs = names[:size], names[size:]
        if shape == 2 and len(theirs) > 1:  # a bridge: one of theirs is heard by both sides
            theirs = theirs[1:]
        if shape == 3 and len(names) > 3:  # every node loses sight of its successor's successor
            pairs = [(names[i], names[(i + 2) % len(names)]) for i in range(len(names))]
        else:
            pairs = [(one, other) for one in ours for other in theirs]
        self.cluster.note("partition of " + ", ".join(f"{a}|{b}" for a, b in pairs))
        self._hold(pairs + [(b, a) for a, b in pairs], 100, 4_000)
        return True

    def _one_way(self) -> bool:
        pair = self._two()
        if pair is None:
            return False
        self.cluster.note(f"{pair[0]} no longer reaches {pair[1]}")
        self._hold([pair], 300, 4_000)
        return True

    def _flapping(self) -> bool:
        pair = self._two()
        if pair is None:
            return False
        for beat in range(8):
            self.cluster.world.after(beat * 150, self._flap, pair)
        return True

    def _flap(self, pair: tuple[str, str]) -> None:
        if not self.over:
            self._hold([pair, pair[::-1]], 40, 100)

    def _jam(self) -> bool:
        node = self._some()
        if node is None:
            return False
        others = [name for name in self.cluster.names if name != node.name]
        self.cluster.note(f"what is sent to {node.name} jams")
        for other in others:
            self._hold([(other, node.name)], 100, 1_500)
        return bool(others)

    def _cut(self) -> bool:
        pair = self._two()
        return pair is not None and self.cluster.network.cut(*pair) > 0

    def _replayed(self) -> bool:
        return self.cluster.network.datagrams and self.cluster.network.replay(self._rng)

    def _swapped_addresses(self) -> bool:
        nodes = [node for node in self.cluster.nodes.values() if node.name not in self.gone]
        if len(nodes) < 2 or self.mix.topology != "mesh":
            return False  # where not everybody dials everybody, nobody might find them
        one, other = self._rng.sample(nodes, 2)
        for node in (one, other):
            node.stop("moves")
        swap = {one.address: other.address, other.address: one.address}
        for node in (one, other):
            node.address = swap[node.address]
            node.expected = tuple(swap.get(address, address) for address in node.expected)
        self.cluster.note(f"{one.name} and {other.name} swap addresses")
        for node in (one, other):
            self._restart_later(node)
        return True

    # -- processes

    def _crash(self) -> bool:
        node = self._some()
        if node is None:
            return False
        if self._rng.random() < 0.6:
            node.die_after = self._rng.randrange(12)
            return True
        self.cluster.crash(node.name)
        self._restart_later(node)
        return True

    def _crash_of_all(self) -> bool:
        for node in self.cluster.up():
            self.cluster.crash(node.name)
            self._restart_later(node)
        return True

    def _crash_in_recovery(self) -> bool:
        node = self._some()
        if node is None:
            return False
        self.cluster.crash(node.name)
        self._restart_later(node, die_after=self._rng.randrange(4))
        return True

    def _pause(self) -> bool:
        node = self._some()
        if node is None:
            return False
        self.cluster.pause(node.name)
        self._for_a_while(node.resume, 50, 3_000)
        return True

    def _slow_process(self) -> bool:
        node = self._some()
        if node is None:
            return False
        node.slow_ms = self._rng.choice((100, 1_000))

        def undo() -> None:
            node.slow_ms = 0

        self._for_a_while(undo, 500, 3_000)
        return True

    # -- disks

    def _loss_of_power(self) -> bool:
        node = self._some()
        if node is None:
            return False
        self.cluster.crash(node.name, power=True)
        self._restart_later(node)
        return True

    def _disk_fails(self) -> bool:
        node = self._some()
        if node is None:
            return False
        node.disk.failing = True
        return True

    def _disk_full(self) -> bool:
        node = self._some()
        if node is None:
            return False
        node.disk.full = True

        def undo() -> None:
            node.disk.full = False

        self._for_a_while(undo, 200, 1_500)
        return True

    def _slow_disk(self) -> bool:
        node = self._some()
        if node is None:
            return False
        before, node.disk_ms = node.disk_ms, self._rng.choice((200, 2_000))

        def undo() -> None:
            node.disk_ms = before

        self._for_a_while(undo, 500, 2_000)
        return True

    def _rot(self) -> bool:
        node = self._some()
        if node is None or node.disk.is_blank:
            return False
        self.cluster.crash(node.name)
        if not node.disk.is_blank:  # its first record was under way
            self.cluster.note(f"{node.disk.rot(self._rng)} of {node.name} rots")
        self._restart_later(node)
        return True

    def _wiped(self) -> bool:
        node = self._some()
        if node is None:
            return False
        self.cluster.crash(node.name)
        self.cluster.wipe(node.name)
        self._restart_later(node)
        return True

    def _back_up(self) -> None:
        node = self._some()
        if node is not None and not node.disk.is_blank:
            self._backups.setdefault(node.name, []).append(node.copied())

    def _restored(self) -> bool:
        return self._put_back("restored from a backup")

    def _set_back(self) -> bool:
        return self._put_back(None)

    def _put_back(self, doubt: str | None) -> bool:
        candidates = [name for name in sorted(self._backups) if self.cluster.nodes[name].is_up]
        if not candidates:
            return False
        node = self.cluster.nodes[candidates[self._rng.randrange(len(candidates))]]
        backups = self._backups[node.name]
        copy = backups[self._rng.randrange(len(backups))]
        self.cluster.crash(node.name)
        node.put_back(copy, doubt)
        self.cluster.note(f"the disk of {node.name} is {doubt or 'set back to an earlier state'}")
        self.cluster.forgive(node.name, doubt or "set back")
        self._restart_later(node)
        return True

    def _lost_write(self) -> bool:
        node = self._some()
        if node is None:
            return False
        node.disk.lying = True
        return True

    # -- clocks

    def _clock_jumps(self) -> bool:
        node = self._some()
        if node is None:
            return False
        most = min(self.mix.limits.max_drift_ms, 10_000) // 2
        node.clock.jump(self._rng.choice((-3_600_000, -5_000, -50, 50, most)))
        return True

    def _clock_stands(self) -> bool:
        node = self._some()
        if node is None:
            return False
        node.clock.freeze()
        self._for_a_while(node.clock.thaw, 300, 3_000)
        return True

    def _clock_drifts(self) -> bool:
        node = self._some()
        if node is None:
            return False
        node.clock.drift(self._rng.choice((-100_000, -20_000, 20_000, 100_000)))
        return True

    def _clock_far_ahead(self) -> bool:
        node = self._some()
        if node is None or self.mix.limits.max_drift_ms > 60_000:
            return False
        by = self.mix.limits.max_drift_ms + self._rng.randrange(500, 8_000)
        node.clock.jump(by)
        self._for_a_while(lambda: node.clock.jump(-by), 200, 2_000)
        return True

    # -- members

    def _join(self) -> bool:
        self._joined += 1
        cluster = self.cluster
        known = None
        if self.mix.topology != "mesh":
            there = [name for name in cluster.names if name not in self.gone]
            known = [there[self._rng.randrange(len(there))]]
        name = f"zoe{self._joined}"
        cluster.add(name, known)
        for other in cluster.names:
            for path in (cluster.network.path(name, other), cluster.network.path(other, name)):
                path.weather = evolve(self.mix.weather)
        return True

    def _join_twice(self) -> bool:
        return self._join() and self._join()

    def _removed(self) -> bool:
        pair = self._some_two()
        if pair is None:
            return False
        node, other = pair
        try:
            self.cluster.remove(node.name, at=other.name)
        except MmreplError:
            return False  # it does not know it
        self._removals += 1
        return True

    def _goes(self, node: HostT) -> None:
        """A node does not come back, nor does its disk."""
        self.cluster.crash(node.name)
        self.gone.add(node.name)
        node.wiped()
        self.cluster.forgive(node.name, "gone for good")

    def _is_dispensable(self, node: HostT) -> bool:
        left = [name for name in self.cluster.names if name != node.name and name not in self.gone]
        return len(left) > 1 and is_connected(left, self.cluster.edges)

    def _left(self) -> bool:
        node = self._some()
        if node is None or not self._is_dispensable(node) or not node.leaves():
            return False
        self.cluster.note(f"{node.name} leaves")
        self.gone.add(node.name)
        self.cluster.world.after(self._rng.choice((0, 20, 500)), self._goes, node)
        return True

    def _removed_for_good(self) -> bool:
        pair = self._some_two()
        if pair is None:
            return False
        node, other = pair
        if not self._is_dispensable(node):
            return False
        self._goes(node)
        try:
            self.cluster.remove(node.name, at=other.name)
        except MmreplError:
            return True
        return True
