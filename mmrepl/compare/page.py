"""
The comparison as one page: a table, bars, and a timeline of each run. Self-contained: no script, no font, no image from
elsewhere.

A timeline has a line for each side of the partition. Every write is a dot where it was called: what was accepted, what
was refused, what nobody knows the fate of, and, among the accepted, what was lost in the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from mmrepl.compare.figures import lost, overwritten_unseen
from mmrepl.compare.modes import Compared
from mmrepl.compare.record import Record, RunRecord
from mmrepl.compare.report import ROWS, Row
from mmrepl.compare.script import Script
from mmrepl.compare.workload import Workload

WIDTH = 920
"""Of a timeline, in pixels of its own."""

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
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .38rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child { text-align: left; font-weight: 500; position: sticky; left: 0; background: var(--paper); }
thead th { font-size: .82rem; vertical-align: bottom; white-space: normal; min-width: 6rem; }
.what { display: block; font-size: .78rem; color: var(--soft); font-weight: 400; white-space: normal; max-width: 34ch; }
.good { color: var(--good); } .bad { color: var(--bad); font-weight: 600; }
.bars { display: grid; grid-template-columns: repeat(auto-fit, minmax(380px, 1fr)); gap: 1.2rem 2rem; }
svg { width: 100%; height: auto; } svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg .soft { fill: var(--soft); font-size: 11px; } svg .grid { stroke: var(--line); } .shade { fill: var(--shade); }
.ok { fill: var(--good); } .refused { fill: var(--bad); } .unknown { fill: var(--wait); } .lost { fill: var(--lost); }
.key span { display: inline-block; width: .7rem; height: .7rem; border-radius: 50%; margin: 0 .35rem 0 1rem; }
"""


def page(compared: Sequence[Compared], workload: Workload, script: Script, seed: int) -> str:
    """The whole page, as HTML."""
    first = compared[0].run
    timelines = "".join(
        f"<h3>{escape(one.mode.name)}</h3><p>{escape(one.mode.text)}</p>{timeline(one.run, workload.duration_ms)}"
        for one in compared
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>mmrepl compare, seed {seed}</title><style>{STYLE}</style></head><body>"
        "<h1>The same clients, the same faults, every mode</h1>"
        f"<p>{len(first.nodes)} nodes ({', '.join(map(escape, first.nodes))}), "
        f"{workload.clients_a_node * len(first.nodes)} clients, workload <b>{escape(workload.name)}</b>, "
        f"{workload.duration_ms / 1000:g} s, seed {seed}. Script: {escape(str(script))}. "
        "Every figure is computed from the calls that were recorded.</p>"
        f"<h2>Figures</h2>{table(compared)}"
        f"<h2>Side by side</h2><div class=bars>{''.join(bars(row, compared) for row in ROWS if _has_bars(row))}</div>"
        f"<h2>What happened</h2>{KEY}{timelines}</body></html>"
    )


KEY = (
    "<p class=key>Each dot is a write, where it was called:"
    '<span style="background:var(--good)"></span>accepted<span style="background:var(--bad)"></span>refused'
    '<span style="background:var(--wait)"></span>fate unknown<span style="background:var(--lost)"></span>accepted, and'
    " lost or written over unseen. The shaded time is the partition.</p>"
)


def table(compared: Sequence[Compared]) -> str:
    """A row a figure, a column a mode."""
    head = "".join(
        f"<th>{escape(one.mode.name)}<span class=what>{escape(one.mode.text)}</span></th>" for one in compared
    )
    body = "".join(
        f"<tr><th>{escape(row.title)}<span class=what>{escape(row.meaning)}</span></th>"
        + "".join(f"<td class={row.verdict(one.figures)}>{escape(row.say(one.figures))}</td>" for one in compared)
        + "</tr>"
        for row in ROWS
    )
    return f"<div class=scroll><table><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table></div>"


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
    top, height = 22, 22 + lane * len(run.nodes) + 34
    scale = (WIDTH - LEFT - 10) / duration_ms

    def x(ms: int) -> float:
        return LEFT + min(ms, duration_ms) * scale

    parts = []
    begin, end = run.at("isolate"), run.at("heal")
    if begin is not None:
        width = x(duration_ms if end is None else end) - x(begin)
        parts.append(
            f'<rect class="shade" x="{x(begin):.1f}" y="{top - 8}" width="{width:.1f}" height="{height - top - 18}"/>'
        )
    for place, name in enumerate(run.nodes):
        y = top + lane * place + lane / 2
        away = " (cut off)" if name in run.isolated else ""
        parts.append(f'<text x="0" y="{y + 4}">{escape(name)}<tspan class="soft">{away}</tspan></text>')
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - 10}" y1="{y}" y2="{y}"/>')
        parts += _dots((r for r in run.records if r.home == name and r.kind == "write"), harmed, x, y)
    parts += _marks(run, x, top, height, duration_ms)
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="timeline">{"".join(parts)}</svg>'


def _dots(records: Iterable[Record], harmed: set[int], x: object, y: float) -> list[str]:
    place = x
    assert callable(place)
    parts = []
    for record in records:
        kind = "lost" if id(record) in harmed else record.outcome
        down = {"ok": 0, "lost": -6, "unknown": 3, "refused": 6}[kind]
        size = 3 if kind == "lost" else 1.8
        title = f"{record.key} by client {record.client} at {record.called_ms} ms: {kind} {record.why}".strip()
        parts.append(
            f'<circle class="{kind}" cx="{place(record.called_ms):.1f}" cy="{y + down:.1f}" r="{size}">'
            f"<title>{escape(title)}</title></circle>"
        )
    return parts


def _marks(run: RunRecord, x: object, top: int, height: int, duration_ms: int) -> list[str]:
    """What the script did, and who took writes."""
    place = x
    assert callable(place)
    parts = []
    row = 0
    for event in run.events:
        if event.kind == "end" or event.at_ms > duration_ms:
            continue
        at = place(event.at_ms)
        label = f"{event.kind} {event.node}".strip()
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{top - 8}" y2="{height - 26}" stroke="var(--soft)"'
                     ' stroke-dasharray="2 3"/>')  # fmt: skip
        parts.append(
            f'<text class="soft" x="{at + 2:.1f}" y="{height - 14 + 11 * (row % 2)}">{escape(label)}'
            f"<title>{escape(event.text)}</title></text>"
        )
        row += 1
    return parts
