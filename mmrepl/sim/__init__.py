"""
A whole cluster in one process, on virtual time, reproducible from one seed.

    >>> from mmrepl.sim import Cluster
    >>> cluster = Cluster(["paris", "tokyo", "lima"], seed=7)
    >>> cluster.partition({"paris"}, {"tokyo", "lima"})
    >>> _ = cluster["paris"].put("k", 1), cluster["lima"].put("k", 2)
    >>> cluster.heal()
    >>> took_ms = cluster.run_until_converged()

`Cluster` is for people and their tests; `run_seed` and `run_batch` put a cluster under faults and judge what came of
it; `check_all` judges any recorded `History`.
"""

from mmrepl.sim.batch import Batch, run_batch
from mmrepl.sim.campaign import Campaign, run_campaign
from mmrepl.sim.checkers import CHECKERS, check_all
from mmrepl.sim.cluster import Cluster
from mmrepl.sim.diagram import Diagram
from mmrepl.sim.disk import SimDisk, SimStorage
from mmrepl.sim.history import History
from mmrepl.sim.mix import FAULTS, RARE, Options
from mmrepl.sim.network import Weather
from mmrepl.sim.node import Settings
from mmrepl.sim.rules import Violation
from mmrepl.sim.run import Outcome, Run, run_seed
from mmrepl.sim.shrink import shrink
from mmrepl.sim.story import Story, tell
from mmrepl.sim.trace import Trace
from mmrepl.sim.wing_gong import Call, Undecided, linear_order, linearizability

__all__ = [
    "CHECKERS",
    "FAULTS",
    "RARE",
    "Batch",
    "Call",
    "Campaign",
    "Cluster",
    "Diagram",
    "History",
    "Options",
    "Outcome",
    "Run",
    "Settings",
    "SimDisk",
    "SimStorage",
    "Story",
    "Trace",
    "Undecided",
    "Violation",
    "Weather",
    "check_all",
    "linear_order",
    "linearizability",
    "run_batch",
    "run_campaign",
    "run_seed",
    "shrink",
    "tell",
]
