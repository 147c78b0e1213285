"""
One seed of a single-master world: safety under faults, then liveness without them.

When the faults are over, a leader has to be there within ten election timeouts, and take a write; then all nodes have
to become equal, and the history is judged.
"""

from __future__ import annotations

from collections import Counter
from time import perf_counter
from typing import Literal

from attrs import evolve, field, frozen

from mmrepl.errors import MmreplError, Unavailable, WaitTimeout
from mmrepl.sim.chance import dice
from mmrepl.sim.mix import Mix, draw
from mmrepl.sim.mix import Options as MixOptions
from mmrepl.sim.rules import Violation
from mmrepl.sim.single_master.checkers import check_log_history
from mmrepl.sim.single_master.clients import LogWorkload
from mmrepl.sim.single_master.cluster import LogSettings, SingleMasterCluster
from mmrepl.sim.single_master.faults import LogFaults, draw_log_faults
from mmrepl.single_master.options import Failover

Mode = Literal["automatic", "manual"]

NOT_HERE = frozenset(
    {"swapped addresses", "removed for good", "set back", "lost write", "clock far ahead", "join twice"}
)
"""Faults of the other mode that this one does not claim to survive, or that mean nothing here."""

ELECTION_MS = (300, 600)


@frozen(kw_only=True)
class LogOptions:
    """What the caller fixes; None leaves it to the seed."""

    failover: Mode = "automatic"
    nodes: int | None = None
    operations: int = 150
    duration_ms: int = 6_000
    faults: tuple[str, ...] | None = None
    may_force: bool | None = None  # manual: whether the operator may promote by force


@frozen
class LogOutcome:
    """What came of one seed."""

    seed: int
    options: LogOptions
    violations: tuple[Violation, ...]
    fired: Counter[str]
    outcomes: Counter[str]  # of the clients' calls
    terms: int
    virtual_ms: int
    led_ms: int | None  # how long after the faults somebody led
    trace_digest: str = ""
    seconds: float = field(default=0.0, eq=False)

    @property
    def ok(self) -> bool:
        """Whether nothing was wrong."""
        return not self.violations

    @property
    def command(self) -> str:
        """The line that reproduces it."""
        options = self.options
        words = [f"mmrepl sim --seed {self.seed} --mode {options.failover}"]
        words.append(f"--operations {options.operations} --duration-ms {options.duration_ms}")
        if options.nodes is not None:
            words.append(f"--nodes {options.nodes}")
        if options.faults is not None:
            words.append(f"--faults {','.join(options.faults).replace(' ', '-') or 'none'}")
        return " ".join(words)


class LogRun:
    """One seed, and what is left to look at afterwards: cluster, history, trace."""

    def __init__(self, seed: int, options: LogOptions | None = None) -> None:
        self.seed = seed
        self.options = options or LogOptions()
        self.mix = self._draw()
        self.cluster = self._make()

    def _draw(self) -> Mix:
        options = self.options
        mix = draw(
            seed=self.seed,
            options=MixOptions(
                nodes=options.nodes, operations=options.operations, duration_ms=options.duration_ms,
                faults=options.faults, topology="mesh",
            ),
        )  # fmt: skip
        names = mix.names if options.nodes is not None or len(mix.names) > 2 else (*mix.names, "zed")
        faults = {name: times for name, times in mix.faults.items() if name not in NOT_HERE}
        if options.faults is not None or len(mix.faults) > 2 or self.seed % 2:  # some of the quiet seeds stay quiet
            faults |= draw_log_faults(dice(self.seed, "mix", "log"), options.faults, options.duration_ms)
        return evolve(mix, names=names, faults=faults)

    def _make(self) -> SingleMasterCluster:
        mix, options = self.mix, self.options
        short = mix.log_operations < 10_000
        drawn = dice(self.seed, "mix", "limits")
        disk_ms = max(mix.disk_ms, drawn.choice((0, 0, 5, 20)))
        settings = LogSettings(
            failover=Failover(options.failover), election_ms=ELECTION_MS, limits=mix.limits,
            secret=b"swordfish" if mix.secret else None, compression=mix.compression, disk_ms=disk_ms,
            log_entries=20 if short else 100_000, log_margin=5 if short else 10_000,
            rest={
                "ack_timeout_ms": 2_000, "read_timeout_ms": 1_500,
                "sessions_max": drawn.choice((10_000, 10_000, 6, 3)),
                "append_entries": drawn.choice((4_096, 4_096, 2, 1)),
                "inflight_messages": drawn.choice((64, 64, 2, 1)),
            },
        )  # fmt: skip
        cluster = SingleMasterCluster(mix.names, seed=self.seed, datagrams=mix.datagrams, settings=settings)
        cluster.run_until_led()  # a cluster is founded in peace, when all its first members are there
        cluster.run_until_equal()
        cluster.under(mix.weather)
        for name, skew in mix.skew_ms.items():
            cluster.nodes[name].clock.jump(skew)
        return cluster

    def go(self) -> LogOutcome:
        """Run it through."""
        begun = perf_counter()
        options, cluster, mix = self.options, self.cluster, self.mix
        found: list[Violation] = []
        drifts = {"clock drifts", "clock jumps", "clock stands"} & mix.faults.keys()
        workload = LogWorkload(cluster, mix, options.operations, options.duration_ms, leases=not drifts)
        may_force = self.seed % 4 == 0 if options.may_force is None else options.may_force
        faults = LogFaults(cluster, mix, options.duration_ms, may_force=may_force, gather=workload.gather)
        led: int | None = None
        try:
            cluster.run(options.duration_ms)
            faults.end()
            led = self._live(found)
        except AssertionError as error:
            found.append(Violation("assertion", f"a core asserts: {error or 'see the traceback'}", cluster.now_ms))
        found += check_log_history(cluster.history)
        terms = max((node.running.term for node in cluster.up()), default=0)
        return LogOutcome(
            self.seed, options, tuple(found), Counter(cluster.fired), Counter(workload.outcomes), terms,
            cluster.now_ms, led, cluster.trace.digest(), perf_counter() - begun,
        )  # fmt: skip

    def _live(self, found: list[Violation]) -> int | None:
        cluster = self.cluster
        since = cluster.now_ms
        patience = 10 * ELECTION_MS[1] + (4_000 if self.options.failover == "manual" else 0)
        try:
            cluster.run_until_led(patience)
            led = cluster.now_ms - since
            self._write_once(since + patience)
        except MmreplError as error:
            found.append(Violation("progress", f"{patience} ms after the faults: {error}", cluster.now_ms))
            return None
        cluster.run(8_000)  # clients that still try give up, nodes that came back are added again
        try:
            cluster.run_until_equal(30_000)
        except WaitTimeout as error:
            found.append(Violation("progress", str(error), cluster.now_ms))
        for final in cluster.finals():
            cluster.history.add(final)
        cluster.check()
        return led

    def _write_once(self, until_ms: int) -> None:
        """Get one write acknowledged; who is deposed meanwhile has a successor."""
        while True:
            try:
                self.cluster.put("progress", self.seed)
                return
            except (Unavailable, WaitTimeout):
                if self.cluster.now_ms >= until_ms:
                    raise
                self.cluster.run(50)


def run_log_seed(seed: int, options: LogOptions | None = None) -> LogOutcome:
    """The outcome of one seed."""
    return LogRun(seed, options).go()
