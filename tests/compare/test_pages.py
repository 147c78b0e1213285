"""What the pages say of the modes is what ``mmrepl compare --seed 1`` says today."""

from __future__ import annotations

from pathlib import Path

from mmrepl.compare import DEFAULT_WORKLOAD, NODES, Script, chosen, compare
from mmrepl.compare.figures import Fates

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "what-each-knob-can-lose.md"


def asked(fates: Fates) -> str:
    """Accepted of all that were asked for."""
    count = fates.ok + fates.refused + fates.unknown
    return f"{fates.ok} of {count}" if count else "none asked"


def test_the_figures_of_the_page_are_those_of_the_command():
    """Each row of the table is computed again; on a difference, put the figures of today there, and into the text."""
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    told = {line.split("`")[1]: line.partition(" | ")[2] for line in rows}
    script = Script.usual(DEFAULT_WORKLOAD.duration_ms)
    lost = {}
    for mode in chosen(list(told)):
        found = compare(mode, DEFAULT_WORKLOAD, script, NODES, 1).figures
        lost[mode.name] = found.lost
        cells = [asked(found.cut_off), asked(found.others), f"{found.lost}", f"{found.stale_reads:,}",
                 f"{found.broken.total}", f"{found.writes.p50} / {found.writes.p99} ms",
                 f"{found.reads.p50} / {found.reads.p99} ms"]  # fmt: skip
        assert told[mode.name] == " | ".join(cells) + " |", mode.name
    assert f"{lost['async']}, kept as a branch to merge" in (ROOT / "README.md").read_text(encoding="utf-8")
