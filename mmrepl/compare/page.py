"""
The comparison as one page: a table, bars, and a timeline of each run. Self-contained: no script, no font, no image from
elsewhere.

A timeline has a line for each side of the partition. Every write is a dot where it was called: what was accepted, what
was refused, what nobody knows the fate of, and, among the accepted, what was lost in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape

from mmrepl.compare.figures import lost, overwritten_unseen
from mmrepl.compare.modes import Compared
from mmrepl.compare.record import Record, RunRecord
from mmrepl.compare.report import PARTS, ROWS, Row
from mmrepl.compare.script import Script
from mmrepl.compare.words import in_words
from mmrepl.compare.workload import Workload

WIDTH = 920
"""Of a timeline, in pixels of its own."""

LETTER = 6.2
"""How wide a letter of a label is, generously."""

LABEL = 13
"""How high a label is."""

LEFT = 96
"""Where its time begins: names stand before that."""

STYLE = """
:root { --ink: #1d2430; --soft: #667085; --line: #e3e7ee; --good: #1f8a5b; --bad: #c2352b; --wait: #d98a00;
  --lost: #7a1fa2; --shade: #f3f5f9; --bar: #5b7db8; --paper: #ffffff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7eaf0; --soft: #9aa4b5; --line: #323a48; --good: #4fc08d;
  --bad: #ff7a6e; --wait: #ffb74d; --lost: #d58cff; --shade: #1c222d; --bar: #7c9cd6; --paper: #12161d; } }
* { box-sizing: border-box; }
body { margin: 2rem auto; max-width: 1280px; padding: 0 1.5rem; color: var(--ink); background: var(--paper);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .2rem; } p { max-width: 75ch; color: var(--soft); margin: .3rem 0; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: .34rem .5rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child { text-align: left; font-weight: 600; position: sticky; left: 0; background: var(--paper); }
thead th { font-size: .8rem; line-height: 1.25; vertical-align: bottom; font-weight: 500; cursor: help; }
thead .part { border-bottom: 2px solid var(--ink); text-align: center; cursor: default; font-weight: 600; }
td.first { border-left: 1px solid var(--line); } tbody tr:hover > * { background: var(--shade); }
.what { display: block; font-size: .78rem; color: var(--soft); font-weight: 400; }
dl.words { display: grid; grid-template-columns: max-content 1fr; gap: .45rem 1.2rem; max-width: 110ch;
  margin: .6rem 0; }
dt { font-weight: 600; } dd { margin: 0; } dl.small { font-size: .82rem; gap: .2rem 1.2rem; }
dl.small dd, dl.small dt { color: var(--soft); }
@media (max-width: 640px) { dl.words { grid-template-columns: 1fr; gap: .1rem; } dd { margin-bottom: .6rem; }
  body { margin: 1rem auto; padding: 0 .8rem; } .what { display: none; } }
.good { color: var(--good); } .bad { color: var(--bad); font-weight: 600; }
.bars { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); gap: 1.2rem 2rem; }
svg { width: 100%; height: auto; } svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg .soft { fill: var(--soft); font-size: 11px; } svg .grid { stroke: var(--line); } .shade { fill: var(--shade); }
.ok { fill: var(--good); } .refused { fill: var(--bad); } .unknown { fill: var(--wait); } .lost { fill: var(--lost); }
path.ok { stroke: var(--good); stroke-width: 3.6; stroke-linecap: round; fill: none; }
.key { max-width: none; } .key b { font-weight: 400; white-space: nowrap; margin-right: 1.1rem; }
.key i { display: inline-block; width: .7rem; height: .7rem; border-radius: 50%; margin-right: .35rem; }
"""


def page(compared: Sequence[Compared], workload: Workload, script: Script, seed: int) -> str:
    """The whole page, as HTML."""
    first = compared[0].run
    timelines = "".join(
        f"<h3>{escape(one.mode.name)}</h3><p>{escape(one.mode.text)}</p>{timeline(one.run, workload.duration_ms)}"
        for one in compared
    )
    words = "".join(f"<dt>{escape(one.mode.name)}</dt><dd>{escape(in_words(one))}</dd>" for one in compared)
    figures = [row for row in ROWS if _has_bars(row) and _differs(row, compared)]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>mmrepl compare, seed {seed}</title><style>{STYLE}</style></head><body>"
        "<h1>The same clients, the same faults, every mode</h1>"
        f"<p>{len(first.nodes)} nodes ({', '.join(map(escape, first.nodes))}), "
        f"{workload.clients_a_node * len(first.nodes)} clients, workload <b>{escape(workload.name)}</b>, "
        f"{workload.duration_ms / 1000:g} s, seed {seed}. Script, in ms: {escape(str(script))}. "
        "Every figure is computed from the calls that were recorded.</p>"
        f"<h2>In plain words</h2><dl class=words>{words}</dl>"
        f"<h2>Figures</h2>{table(compared)}{MEANINGS}"
        f"<h2>Side by side</h2><div class=bars>{''.join(bars(row, compared) for row in figures)}</div>"
        f"<h2>What happened</h2>{KEY}{timelines}</body></html>"
    )


KEY = (
    "<p class=key>Each dot is a write, where it was called, in the lane of the node that its client belongs to. "
    "<b><i style='background:var(--good)'></i>accepted</b> <b><i style='background:var(--bad)'></i>refused</b> "
    "<b><i style='background:var(--wait)'></i>no answer, fate unknown</b> "
    "<b><i style='background:var(--lost)'></i>accepted, then lost or written over unseen</b> "
    "<b><i style='background:var(--shade);border:1px solid var(--line);border-radius:2px'></i>the partition</b></p>"
)

MEANINGS = (
    "<dl class='words small'>"
    + "".join(f"<dt>{escape(row.title)}</dt><dd>{escape(row.meaning)}</dd>" for row in ROWS)
    + "</dl>"
)
"""The small print: what each figure counts."""


def table(compared: Sequence[Compared]) -> str:
    """A row a mode, a column a figure."""
    parts = [[row for row in ROWS if row.part == part] for part in range(len(PARTS))]
    over = "".join(
        f"<th class=part colspan={len(rows)}>{escape(title)}</th>" for title, rows in zip(PARTS, parts, strict=True)
    )
    head = "".join(
        f'<th title="{escape(row.title)}: {escape(row.meaning)}">{_in_lines(row.short)}</th>'
        for rows in parts
        for row in rows
    )
    body = "".join(
        f"<tr><th>{escape(one.mode.name)}<span class=what>{escape(one.mode.text)}</span></th>"
        + "".join(_cell(row, one, first=row is rows[0]) for rows in parts for row in rows)
        + "</tr>"
        for one in compared
    )
    return (
        f"<div class=scroll><table><thead><tr><th></th>{over}</tr><tr><th></th>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(row: Row, one: Compared, *, first: bool) -> str:
    classes = f"{row.verdict(one.figures)}{' first' if first else ''}"
    return (
        f'<td class="{classes}" title="{escape(row.title)}: {escape(row.say(one.figures))}">'
        f"{escape(row.said(one.figures))}</td>"
    )


def _in_lines(short: str) -> str:
    return "<br>".join(map(escape, short.split("\n")))


def _differs(row: Row, compared: Sequence[Compared]) -> bool:
    """Whether there is anything to see: not the same for all."""
    return len(compared) == 1 or len({row.number(one.figures) for one in compared}) > 1


def _has_bars(row: Row) -> bool:
    return "accepted" in row.title or row.counts_harm or "ms" in row.title


def bars(row: Row, compared: Sequence[Compared]) -> str:
    """One figure as bars, a mode each."""
    numbers = [row.number(one.figures) for one in compared]
    most = max((number for number in numbers if number is not None), default=0.0) or 1.0
    parts = [f'<text x="0" y="14" font-weight="600">{escape(row.title)}</text>']
    for place, (one, number) in enumerate(zip(compared, numbers, strict=True)):
        y = 26 + 20 * place
        parts.append(f'<text x="0" y="{y + 11}" class="soft">{escape(one.mode.name)}</text>')
        if number is None:
            parts.append(f'<text x="140" y="{y + 11}" class="soft">-</text>')
            continue
        width = 200 * number / most
        fill = {"good": "--good", "bad": "--bad", "plain": "--bar"}[row.verdict(one.figures)]
        parts.append(f'<rect x="140" y="{y}" width="{max(width, 1):.1f}" height="14" rx="2" fill="var({fill})"/>')
        said = escape(row.say(one.figures))
        parts.append(f'<text x="{146 + width:.1f}" y="{y + 11}" class="soft">{said}</text>')
    height = 34 + 20 * len(compared)
    return f'<svg viewBox="0 0 480 {height}" role="img" aria-label="{escape(row.title)}">{"".join(parts)}</svg>'


def timeline(run: RunRecord, duration_ms: int) -> str:
    """The writes of one run over time, the clients of each node in a lane."""
    harmed = {id(record) for record in (*lost(run), *overwritten_unseen(run))}
    lane = 26
    top = 22
    bottom = top + lane * len(run.nodes)
    scale = (WIDTH - LEFT - 10) / duration_ms

    def x(ms: int) -> float:
        return LEFT + min(ms, duration_ms) * scale

    marks, label_rows = _marks(run, x, top, bottom, duration_ms)
    height = bottom + 12 + LABEL * label_rows
    parts = []
    begin, end = run.at("isolate"), run.at("heal")
    if begin is not None:
        width = x(duration_ms if end is None else end) - x(begin)
        parts.append(
            f'<rect class="shade" x="{x(begin):.1f}" y="{top - 8}" width="{width:.1f}" height="{bottom - top + 12}"/>'
        )
    for place, name in enumerate(run.nodes):
        y = top + lane * place + lane / 2
        away = " (cut off)" if name in run.isolated else ""
        parts.append(f'<text x="0" y="{y + 4}">{escape(name)}<tspan class="soft">{away}</tspan></text>')
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - 10}" y1="{y}" y2="{y}"/>')
        parts += _dots((r for r in run.records if r.home == name and r.kind == "write"), harmed, x, y)
    parts += marks
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="timeline">{"".join(parts)}</svg>'


def _dots(records: Iterable[Record], harmed: set[int], x: Callable[[int], float], y: float) -> list[str]:
    """What was accepted as one path, for there is much of it; each of the others tells what it was when pointed at."""
    parts, accepted = [], []
    for record in records:
        kind = "lost" if id(record) in harmed else record.outcome
        if kind == "ok":
            accepted.append(f"M{x(record.called_ms):.1f} {y:.1f}h0")
            continue
        down = {"lost": -6, "unknown": 3, "refused": 6}[kind]
        size = 3 if kind == "lost" else 2.2
        title = f"{record.key} by client {record.client} at {record.called_ms} ms: {kind} {record.why}".strip()
        parts.append(
            f'<circle class="{kind}" cx="{x(record.called_ms):.1f}" cy="{y + down:.1f}" r="{size}">'
            f"<title>{escape(title)}</title></circle>"
        )
    return [f'<path class="ok" d="{"".join(accepted)}"/>', *parts]


def _marks(run: RunRecord, x: Callable[[int], float], top: int, bottom: int, duration_ms: int) -> tuple[list[str], int]:
    """What the script did, and who took writes; each label in the first row where it has room. And how many rows."""
    parts = []
    ends: list[float] = []  # of each row of labels: up to where it is taken
    for event in run.events:
        if event.kind == "end" or event.at_ms > duration_ms:
            continue
        at = x(event.at_ms)
        label = f"{event.kind} {event.node}".strip()
        width = LETTER * len(label)
        left = min(at + 2, WIDTH - width)
        row = next((row for row, taken in enumerate(ends) if taken < left), len(ends))
        ends[row : row + 1] = [left + width + LETTER]
        y = bottom + 4 + LABEL * (row + 1)
        parts.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{top - 8}" y2="{y - 2}" stroke="var(--soft)"'
            ' stroke-dasharray="2 3"/>'
        )
        parts.append(
            f'<text class="soft" x="{left:.1f}" y="{y}">{escape(label)}<title>{escape(event.text)}</title></text>'
        )
    return parts, len(ends)
