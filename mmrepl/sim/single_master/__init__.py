"""
Single-master clusters in virtual time, under the same faults as the others, judged by checkers of their own.

    >>> from mmrepl.sim.single_master import SingleMasterCluster
    >>> cluster = SingleMasterCluster(["paris", "tokyo", "lima"], seed=7)
    >>> leader = cluster.run_until_led()
"""

from mmrepl.sim.single_master.checkers import LOG_CHECKERS, check_log_history
from mmrepl.sim.single_master.cluster import LogSettings, SingleMasterCluster
from mmrepl.sim.single_master.history import LogHistory
from mmrepl.sim.single_master.run import LogOptions, LogOutcome, LogRun, run_log_seed

__all__ = [
    "LOG_CHECKERS",
    "LogHistory",
    "LogOptions",
    "LogOutcome",
    "LogRun",
    "LogSettings",
    "SingleMasterCluster",
    "check_log_history",
    "run_log_seed",
]
