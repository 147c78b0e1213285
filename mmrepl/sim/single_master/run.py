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
from mmrepl.sim.run import where
from mmrepl.sim.single_master.checkers import check_log_history
from mmrepl.sim.single_master.clients import LogWorkload
from mmrepl.sim.single_master.cluster import LogSettings, SingleMasterCluster
from mmrepl.sim.single_master.faults import draw_log_faults
from mmrepl.sim.single_master.late import draw_late
from mmrepl.sim.single_master.stories import LateFaults
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
    calm: bool = False  # no bad weather: messages are only a little late
    may_force: bool | None = None  # manual: whether the operator may promote by force


@frozen
class LogOutcome:
    """What came of one seed."""

    seed: int
    options: LogOptions
    violations: tuple[Violation, ...]
    fired: Counter[str]
    outcomes: Counter[str]  # of the clients' calls
    messages: int
    virtual_ms: int
    led_ms: int | None  # how long after the faults somebody led
    trace_digest: str = ""
    seconds: float = field(default=0.0, eq=False)

    @property
    def ok(self) -> bool:
        """Whether nothing was wrong."""
        return not self.violations

    @property
    def operations(self) -> int:
        """Calls of clients that came to an end."""
        return self.outcomes.total()

    @property
    def refused(self) -> int:
        """Of these, the ones that were not even begun."""
        return self.outcomes["read refused"] + self.outcomes["never sent"]

    @property
    def settled(self) -> int | None:
        """As `led_ms`."""
        return self.led_ms

    @property
    def principal(self) -> Violation | None:
        """The violation that says most: one that names a node, the earliest of them."""
        return min(self.violations, key=lambda v: (not v.node, v.at_ms < 0, v.at_ms), default=None)

    @property
    def command(self) -> str:
        """The line that reproduces it."""
        return command_of(self.seed, self.options)


def command_of(seed: int, options: LogOptions) -> str:
    """The line that runs a seed under these options."""
    words = [f"mmrepl sim --seed {seed} --mode {options.failover}"]
    words.append(f"--operations {options.operations} --duration-ms {options.duration_ms}")
    if options.calm:
        words.append("--calm")
    if options.nodes is not None:
        words.append(f"--nodes {options.nodes}")
    if options.faults is not None:
        words.append(f"--faults {','.join(options.faults).replace(' ', '-') or 'none'}")
    return " ".join(words)


def draw_log(seed: int, options: LogOptions) -> Mix:
    """The mix of a seed."""
    mix = draw(
        seed=seed,
        options=MixOptions(
            nodes=options.nodes, operations=options.operations, duration_ms=options.duration_ms,
            faults=options.faults, calm=options.calm, topology="mesh",
        ),
    )  # fmt: skip
    names = mix.names if options.nodes is not None or len(mix.names) > 2 else (*mix.names, "zed")
    faults = {name: times for name, times in mix.faults.items() if name not in NOT_HERE}
    is_quiet = options.faults is None and len(mix.faults) <= 2 and not seed % 2  # some of the quiet seeds stay quiet
    if not is_quiet:
        faults |= draw_log_faults(dice(seed, "mix", "log"), options.faults, options.duration_ms)
        faults |= draw_late(dice(seed, "mix", "late"), Failover(options.failover), options.faults, options.duration_ms)
    return evolve(mix, names=names, faults=faults)


class LogRun:
    """
    One seed, and what is left to look at afterwards: cluster, history, trace.

    If *guarded*, what a core raises is a violation as well; else it flies.
    """

    def __init__(self, seed: int, options: LogOptions | None = None, *, guarded: bool = False) -> None:
        self.seed = seed
        self.options = options or LogOptions()
        self.mix = draw_log(self.seed, self.options)
        self._guarded = guarded
        self.cluster = self._make()

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
        return SingleMasterCluster(mix.names, seed=self.seed, datagrams=mix.datagrams, settings=settings)

    def _found(self) -> None:
        """A cluster is founded in peace, when all its first members are there."""
        cluster = self.cluster
        cluster.run_until_led()
        cluster.run_until_equal()
        cluster.under(self.mix.weather)
        for name, skew in self.mix.skew_ms.items():
            cluster.nodes[name].clock.jump(skew)

    def go(self) -> LogOutcome:
        """Run it through."""
        begun = perf_counter()
        options, cluster = self.options, self.cluster
        found: list[Violation] = []
        outcomes: Counter[str] = Counter()
        led: int | None = None
        try:
            self._found()
            workload, faults = self._plan()
            outcomes = workload.outcomes
            cluster.run(options.duration_ms)
            faults.play()
            faults.end()
            led = self._live(found)
        except AssertionError as error:
            found.append(Violation("assertion", f"a core asserts: {error or where(error)}", cluster.now_ms))
        except Exception as error:
            if not self._guarded:
                raise
            found.append(Violation("raised", f"{type(error).__name__}: {error} ({where(error)})", cluster.now_ms))
        found += check_log_history(cluster.history)
        return LogOutcome(
            self.seed, options, tuple(found), Counter(cluster.fired), Counter(outcomes),
            sum(cluster.messages.values()), cluster.now_ms, led, cluster.trace.digest(), perf_counter() - begun,
        )  # fmt: skip

    def _plan(self) -> tuple[LogWorkload, LateFaults]:
        options, cluster, mix = self.options, self.cluster, self.mix
        drifts = "clock drifts" in mix.faults  # leases know nothing of wall clocks
        workload = LogWorkload(cluster, mix, options.operations, options.duration_ms, leases=not drifts)
        may_force = self.seed % 4 == 0 if options.may_force is None else options.may_force
        faults = LateFaults(cluster, mix, options.duration_ms, workload, may_force=may_force)
        return workload, faults

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
