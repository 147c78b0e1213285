"""
One seed: a cluster under faults, then peace, then the judgement.

The safety phase runs the workload of the mix while its faults happen. Then they stop, and within a stated number of
gossip rounds all nodes must have become equal; then nothing may be said but heartbeats. The checkers read the history
of the whole.
"""

from __future__ import annotations

import traceback
from collections import Counter
from pathlib import PurePath
from time import perf_counter

from attrs import field, frozen

from mmrepl.errors import WaitTimeout
from mmrepl.ports import Durability
from mmrepl.sim.checkers import check_all
from mmrepl.sim.cluster import Cluster
from mmrepl.sim.diagram import Diagram
from mmrepl.sim.faults import Faults
from mmrepl.sim.history import Jumped, Place, Queues, Quiet
from mmrepl.sim.mix import Mix, Options, draw
from mmrepl.sim.node import Settings, SimNode
from mmrepl.sim.rules import Violation
from mmrepl.sim.topology import diameter
from mmrepl.sim.workload import Workload, tables

STANDARD = Options()

SETTLE_MS = 2_500
"""After it has become equal: what is told about that, and what may be forgotten for it, takes a few heartbeats."""


@frozen
class Outcome:
    """What came of one seed."""

    seed: int
    options: Options
    violations: tuple[Violation, ...]
    fired: Counter[str]
    operations: int
    refused: int
    messages: int
    virtual_ms: int
    converged_rounds: int | None  # gossip rounds from the end of the faults; None: it did not
    trace_digest: str = ""
    seconds: float = field(default=0.0, eq=False)

    @property
    def ok(self) -> bool:
        """Whether nothing was wrong."""
        return not self.violations

    @property
    def settled(self) -> int | None:
        """As `converged_rounds`."""
        return self.converged_rounds

    @property
    def principal(self) -> Violation | None:
        """The violation that says most: one that names a key, else one that names a node; the earliest of them."""
        return min(self.violations, key=lambda v: (v.place is None, not v.node, v.at_ms), default=None)

    @property
    def command(self) -> str:
        """The line that reproduces it."""
        return command_of(self.seed, self.options)


def command_of(seed: int, options: Options) -> str:
    """The line that runs a seed under these options."""
    words = [f"mmrepl sim --seed {seed}", f"--operations {options.operations}"]
    words.append(f"--duration-ms {options.duration_ms}")
    if options.calm:
        words.append("--calm")
    if options.nodes is not None:
        words.append(f"--nodes {options.nodes}")
    if options.topology is not None:
        words.append(f"--topology {options.topology}")
    if options.datagrams is not None:
        words.append("--datagrams" if options.datagrams else "--no-datagrams")
    if options.faults is not None:
        words.append(f"--faults {','.join(options.faults).replace(' ', '-') or 'none'}")
    if options.liveness_rounds != STANDARD.liveness_rounds:
        words.append(f"--liveness-rounds {options.liveness_rounds}")
    if options.quiet_ms != STANDARD.quiet_ms:
        words.append(f"--quiet-ms {options.quiet_ms}")
    return " ".join(words)


class Run:
    """One seed, and what is left to look at afterwards: cluster, history, trace."""

    def __init__(self, seed: int, options: Options | None = None) -> None:
        self.seed = seed
        self.options = options if options is not None else Options()
        self.mix: Mix = draw(seed, self.options)
        self.cluster = self._make()
        self.outcome: Outcome | None = None

    def _make(self) -> Cluster:
        mix = self.mix
        settings = Settings(
            limits=mix.limits, log_operations=mix.log_operations, cut_operations=mix.cut_operations,
            disk_ms=mix.disk_ms, secret=b"swordfish" if mix.secret else None, compression=mix.compression,
            durability=Durability.NONE if mix.weak_share == 1.0 else Durability.SYNC,
        )  # fmt: skip
        cluster = Cluster(
            mix.names, seed=self.seed, tables=tables(), topology=mix.topology, weather=mix.weather,
            datagrams=mix.datagrams, settings=settings, settle=False,
        )  # fmt: skip
        for name, skew in mix.skew_ms.items():
            cluster.nodes[name].clock.jump(skew)
        return cluster

    def go(self, *, guarded: bool = False) -> Outcome:
        """Run it through. If *guarded*, what a core raises is a violation as well; else it flies."""
        begun = perf_counter()
        options, cluster = self.options, self.cluster
        found: list[Violation] = []
        workload = Workload(cluster, self.mix, options.operations, options.duration_ms)
        faults = Faults(cluster, self.mix, options.duration_ms)
        rounds: int | None = None
        try:
            cluster.run(options.duration_ms)
            faults.end()
            rounds = self._live(faults, found)
        except AssertionError as error:
            found.append(Violation("assertion", f"a core asserts: {error or where(error)}", cluster.now_ms))
        except Exception as error:
            if not guarded:
                raise
            found.append(Violation("raised", f"{type(error).__name__}: {error} ({where(error)})", cluster.now_ms))
        cluster.forgive_what_was_left_to_the_lost()
        self._count()
        found += check_all(cluster.history)
        self.outcome = Outcome(
            self.seed, options, tuple(found), Counter(cluster.fired), workload.done_count, workload.refused_count,
            sum(cluster.messages.values()), cluster.now_ms, rounds, cluster.trace.digest(), perf_counter() - begun,
        )  # fmt: skip
        return self.outcome

    def _count(self) -> None:
        """What is in the nature of the whole run counts as well."""
        cluster, mix, fired = self.cluster, self.mix, self.cluster.fired
        fired["snapshot joined"] += sum(isinstance(event, Jumped) for event in cluster.history.events)
        fired["delayed"] += cluster.network.sent_count
        for node in cluster.nodes.values():
            fired["torn tail"] += node.disk.torn_count
            fired["hole"] += node.disk.hole_count
        fired["skewed clocks"] += sum(skew != 0 for skew in mix.skew_ms.values())
        fired[f"{len(mix.names)} nodes"] += 1
        fired[f"{mix.topology} of nodes"] += 1

    def _live(self, faults: Faults[SimNode], found: list[Violation]) -> int | None:
        cluster, options = self.cluster, self.options
        tick = self.mix.limits.gossip_tick_ms
        try:
            took = cluster.run_until_converged(options.liveness_rounds * tick)
        except WaitTimeout as error:
            if self._are_two_clusters():
                cluster.fired["two clusters"] += 1
            else:
                text = f"{options.liveness_rounds} gossip rounds after the faults: {error}"
                found.append(Violation("liveness", text, place=self._differing_place()))
            cluster.check()
            return None
        cluster.run(SETTLE_MS + 500 * diameter(cluster.names, cluster.edges))
        before = Counter(cluster.messages)
        cluster.run(options.quiet_ms)
        messages = Counter(cluster.messages)
        messages.subtract(before)
        history = cluster.history
        said = {name: count for name, count in messages.items() if count}
        history.add(Quiet(options.quiet_ms, self.mix.limits.heartbeat_ms, cluster.network.connection_count, said))
        for final in cluster.finals():
            history.add(final)
        limits = self.mix.limits
        for node in cluster.nodes.values():
            slack = limits.outbound_bytes + 8 * limits.delta_bytes + 1_000_000
            most = cluster.network.buffered_bytes_max
            history.add(Queues(node.name, node.held_bytes_max, limits.held_bytes, most, slack))
        cluster.check()
        del faults
        return -(-took // tick)

    def _differing_place(self) -> Place | None:
        """A key that nodes show differently."""
        finals = self.cluster.finals()
        places = sorted({place for final in finals for place in final.payloads})
        return next((place for place in places if len({final.payloads.get(place) for final in finals}) > 1), None)

    def _are_two_clusters(self) -> bool:
        """
        Whether nodes refuse each other as strangers.

        Parts of a cluster that met late, and of which one had lost its memory, may hold each other for two clusters;
        then neither obeys the other, and people have to settle it. Such seeds are counted, and judged for safety only.
        """
        since = self.cluster.now_ms - 5_000
        late = (line for line in reversed(self.cluster.trace.lines) if line.what == "closed")
        return any(line.at_ms >= since and str(line.rest[0]).startswith(("rejoin:", "removed:")) for line in late)

    def diagram(self, violation: Violation | None = None) -> Diagram:
        """The whole run as a diagram, or the part around a violation."""
        whole = self.cluster.diagram(width=120)
        if violation is None or violation.at_ms < 0:
            return whole
        return whole.about(violation.at_ms)


def where(error: BaseException) -> str:
    """File and line that raised it."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{PurePath(last.filename).name}:{last.lineno}"


def run_seed(seed: int, options: Options | None = None) -> Outcome:
    """The outcome of one seed."""
    return Run(seed, options).go()
