"""
One workload under every mode, side by side: the same clients, the same partition, the same crash.

    >>> from mmrepl.compare import DEFAULT_WORKLOAD, Script, chosen, compare
    >>> script = Script.usual(DEFAULT_WORKLOAD.duration_ms)
    >>> mode, = chosen(["lww"])
    >>> one = compare(mode, DEFAULT_WORKLOAD, script, ("paris", "tokyo", "lima"), seed=1)
    >>> one.figures.lost
    0
"""

from mmrepl.compare.figures import Figures, figures
from mmrepl.compare.modes import MODES, NODES, Compared, Mode, chosen, compare
from mmrepl.compare.page import page
from mmrepl.compare.record import Event, Record, RunRecord
from mmrepl.compare.report import ROWS, as_data
from mmrepl.compare.script import Moment, Script
from mmrepl.compare.words import in_words
from mmrepl.compare.workload import DEFAULT_WORKLOAD, Step, Workload, load_workload

__all__ = [
    "DEFAULT_WORKLOAD",
    "MODES",
    "NODES",
    "ROWS",
    "Compared",
    "Event",
    "Figures",
    "Mode",
    "Moment",
    "Record",
    "RunRecord",
    "Script",
    "Step",
    "Workload",
    "as_data",
    "chosen",
    "compare",
    "figures",
    "in_words",
    "load_workload",
    "page",
]
