"""
What one seed draws: sizes, topology, policies, weather, workload, and which faults happen how often.

Swarm testing (Groce, Zhang, Eide, Chen & Regehr, 2012): a run with every fault at once drowns in them, and hides what
needs quiet in one place and noise in another. So each seed draws its own mix, and a batch covers all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from attrs import field, frozen

from mmrepl.sim.chance import dice
from mmrepl.sim.network import Weather
from mmrepl.sim.topology import SHAPES
from mmrepl.types import Limits

FAULTS: Mapping[str, tuple[str, float, int, int]] = {
    # name: (row of the catalogue, share of seeds that draw it, least and most times a run)
    "partition": ("N5", 0.85, 2, 5),
    "one way": ("N6", 0.40, 1, 3),
    "flapping": ("N7", 0.15, 1, 3),
    "jam": ("N8", 0.40, 1, 3),
    "cut": ("N10", 0.35, 1, 6),
    "replayed": ("N4", 0.5, 3, 10),
    "swapped addresses": ("N14", 0.25, 1, 1),
    "crash": ("P1", 0.75, 4, 12),
    "crash of all": ("P2", 0.30, 1, 2),
    "crash in recovery": ("P3", 0.30, 1, 2),
    "pause": ("P4", 0.35, 1, 3),
    "slow process": ("P5", 0.20, 1, 2),
    "loss of power": ("D1", 0.60, 1, 4),
    "disk fails": ("D6", 0.25, 1, 2),
    "disk full": ("D7", 0.25, 1, 2),
    "rot": ("D8", 0.20, 1, 2),
    "wiped": ("D11", 0.40, 1, 3),
    "restored": ("D12", 0.30, 1, 2),
    "slow disk": ("D13", 0.25, 1, 2),
    "clock jumps": ("C2", 0.40, 1, 5),
    "clock stands": ("C3", 0.30, 1, 3),
    "clock drifts": ("C4", 0.20, 1, 3),
    "clock far ahead": ("C6", 0.50, 1, 3),
    "join": ("M1", 0.42, 1, 1),
    "removed": ("M2", 0.85, 1, 1),
    "removed for good": ("M2", 0.4, 1, 1),
    "left": ("M2", 0.15, 1, 1),
}
"""Faults that are planned; the weather's come by themselves."""

RARE: Mapping[str, tuple[str, float, int, int]] = {
    "join twice": ("M1", 0.25, 1, 1),
    "set back": ("D12", 0.25, 1, 2),
    "lost write": ("D10", 0.25, 1, 2),
}
"""
Faults that are drawn only when they are asked for by name. Of the disk's something is known to be open: one that is set
back, or loses a write, may look to its node as if nothing had happened. Two that join at once are no more than one.
"""


STANDARD_MS = 5_000
"""How long a safety phase is to which the times above apply; in a longer one faults are as frequent, not as many."""

ONCE = frozenset({"join", "join twice", "left", "removed", "removed for good"})
"""But for these: a cluster does not grow and shrink without end."""


QUIET_SHARE = 0.2
"""In so many seeds only two kinds of faults happen: what shows only after much has become stable is found there."""

RECEIPTS_SHARE = 0.25
"""
In so many seeds clients write over receipts, as over reads, and to few keys. A receipt covers the write and what its
node had written before, and not what stands beside these: so a write may be overwritten by one that had seen less.
"""


@frozen(kw_only=True)
class Options:
    """What the caller fixes; None leaves it to the seed."""

    nodes: int | None = None
    operations: int = 200
    duration_ms: int = STANDARD_MS  # of the safety phase
    topology: str | None = None
    faults: tuple[str, ...] | None = None  # names of those allowed; None: all but the rare ones; (): none
    datagrams: bool | None = None
    calm: bool = False  # no bad weather: messages are only a little late
    liveness_rounds: int = 250  # gossip rounds after the faults in which it must have become equal
    quiet_ms: int = 3_000


@frozen(kw_only=True)
class Mix:
    """Everything that a seed draws."""

    names: tuple[str, ...]
    topology: str
    datagrams: bool
    weather: Weather
    limits: Limits
    log_operations: int
    cut_operations: int
    disk_ms: int
    weak_share: float  # of the writes that are not synced
    acks_share: float  # of the writes that wait for others
    key_count: int
    large_share: float
    skew_ms: Mapping[str, int]
    receipt_share: float = 0.0  # of the writes that go over what an earlier one and its receipt cover, and no more
    faults: Mapping[str, int] = field(factory=dict)
    calm: bool = False
    secret: bool = False
    compression: str | None = None


NAMES = ("ada", "bob", "cleo", "dan", "eve", "fay", "gus", "hal")


def draw(seed: int, options: Options) -> Mix:
    """
    The mix of a seed.

    What *options* fix changes nothing else of it, so that a failing run can be made smaller piece by piece.
    """
    rng = dice(seed, "mix")
    count = rng.choice((2, 3, 3, 3, 4, 5, 5, 7))
    count = options.nodes if options.nodes is not None else count
    names = tuple(NAMES[i] if i < len(NAMES) else f"n{i}" for i in range(count))
    datagrams = rng.random() < 0.74
    datagrams = datagrams if options.datagrams is None else options.datagrams
    topology = rng.choice(("mesh", "mesh", *SHAPES))
    quiet = dice(seed, "mix", "quiet")
    few = _few(quiet) if quiet.random() < QUIET_SHARE else ()
    faults = _faults(rng, dice(seed, "mix", "rare"), options, few)
    calm = options.calm or options.faults == () or (options.faults is None and bool(few) and quiet.random() < 0.5)
    weather = _weather(rng)
    skew = dice(seed, "mix", "skew")
    receipts = dice(seed, "mix", "receipts")
    receipt_share = receipts.choice((0.5, 0.8)) if receipts.random() < RECEIPTS_SHARE else 0.0
    few_keys = receipts.choice((1, 3))
    return Mix(
        names=names,
        topology=options.topology or topology,
        datagrams=datagrams and options.faults != (),
        weather=weather if not calm else Weather(),
        limits=_limits(rng),
        log_operations=rng.choice((1_000_000, 1_000_000, 1_000, 60, 20)),
        cut_operations=rng.choice((1, 1, 5, 40, 4096)),
        disk_ms=rng.choice((0, 0, 0, 1, 5, 30)),
        weak_share=rng.choice((0.0, 0.0, 0.3, 1.0)),
        acks_share=rng.choice((0.0, 0.1, 0.5)),
        key_count=min(rng.choice((1, 3, 10, 40)), few_keys if receipt_share else 40),
        large_share=rng.choice((0.0, 0.0, 0.05)),
        skew_ms={name: _skew(skew) for name in names} if options.faults != () else {},
        receipt_share=receipt_share,
        faults=faults,
        calm=calm,
        secret=rng.random() < 0.2,
        compression=rng.choice((None, None, "zlib")),
    )


def _few(rng: Random) -> tuple[str, ...]:
    """The kinds of faults of a quiet seed. In half of them somebody returns with what the others have forgotten."""
    first, second = rng.sample(list(FAULTS), 2)
    return ("restored", second) if rng.random() < 0.5 else (first, second)


def _faults(rng: Random, rare: Random, options: Options, few: tuple[str, ...]) -> dict[str, int]:
    """How often each fault happens; *few* are those of a seed that is quiet."""
    longer = max(1, options.duration_ms // STANDARD_MS)
    times, chosen = {}, set()
    for name, (_, share, least, most) in (*FAULTS.items(), *RARE.items()):
        own = rare if name in RARE or name == "left" else rng
        if own.random() < share and name in FAULTS:
            chosen.add(name)
        times[name] = own.randint(least, most) * (1 if name in ONCE else longer)
    if options.faults is not None:
        return {name: count for name, count in times.items() if name in options.faults}
    chosen = set(few) or chosen
    if "join" in chosen:
        # A node that is removed while a newcomer knows nobody but it makes a cluster of its own with that one. Where
        # two clusters meet, neither obeys the other: that is for people to settle.
        chosen -= {"removed", "removed for good", "left"}
    return {name: count for name, count in times.items() if name in chosen}


def _weather(rng: Random) -> Weather:
    def some(share: float, most: float) -> float:
        drawn, amount = rng.random() < share, rng.random() * most
        return amount if drawn else 0.0

    return Weather(
        latency=rng.choice(("constant", "uniform", "exponential", "tail")),
        latency_ms=rng.choice((1, 5, 20)),
        loss=some(0.75, 0.3),
        repeat=some(1.0, 0.5),
        reorder=some(1.0, 0.5),
        flip=some(0.4, 0.02),
        cut=some(0.3, 0.01),
        split=some(0.5, 0.5),
        bytes_per_ms=rng.choice((0, 0, 0, 0, 50)),
        capacity_bytes=rng.choice((0, 0, 2_000)),
    )


def _limits(rng: Random) -> Limits:
    small = rng.random() < 0.4
    return Limits(
        delta_bytes=1024 if small else 1024 * 1024,
        outbound_bytes=8 * 1024 if small else 8 * 1024 * 1024,
        held_bytes=4 * 1024 if small else 8 * 1024 * 1024,
        siblings_max=rng.choice((256, 8)),
        max_drift_ms=rng.choice((5 * 60_000, 2_000)),
        reconnect_ms_max=1_000,
    )


def _skew(rng: Random) -> int:
    kind = rng.random()
    if kind < 0.5:
        return rng.randint(-20, 20)
    if kind < 0.9:
        return rng.randint(-900, 900)
    return -rng.choice((60_000, 3_600_000, 100 * 365 * 86_400_000))
