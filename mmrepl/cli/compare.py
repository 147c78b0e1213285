"""
The command that compares the modes: compare.

One workload and one fault script, played under each mode; a table in the terminal, JSON, and a page to look at.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from mmrepl.cli import output
from mmrepl.cli.exits import Exit
from mmrepl.cli.options import ANSWER, Answer, Flag
from mmrepl.errors import UsageError

if TYPE_CHECKING:  # loaded by those who compare: the simulator is slow to load
    from mmrepl.compare import Compared, Mode, Script, Workload

STYLES = {"good": "green", "bad": "bold red", "plain": ""}


def compare(
    *,
    mode: Annotated[
        list[str] | None,
        Parameter(negative="", help="This mode; several times for several. `--names` tells them."),
    ] = None,
    nodes: Annotated[int, Parameter(help="How many nodes, 3 to 5.")] = 5,
    seed: Annotated[int, Parameter(help="Chance; the same seed gives the same runs.")] = 1,
    workload: Annotated[
        str | None, Parameter(help="A TOML file, or MODULE:FUNCTION that yields steps; without it, baskets.")
    ] = None,
    duration: Annotated[float | None, Parameter(help="Seconds that the clients work.")] = None,
    script: Annotated[
        str | None, Parameter(help="Faults, as in '4000 isolate, 6000 promote, 8000 crash, 9000 restart, 12000 heal'.")
    ] = None,
    real: Annotated[Flag, Parameter(help="As processes on loopback, in real time, instead of virtual time.")] = False,
    html: Annotated[Path | None, Parameter(help="Write a page with plots and timelines to this file.")] = None,
    names: Annotated[Flag, Parameter(help="Name the modes, and do nothing.")] = False,
    answer: Answer = ANSWER,
) -> Exit:
    """
    Play one workload with one fault script under every mode, and show what each of them did with it.

    By default the primary is cut off from the others, one of those crashes and comes back, and the network heals.
    """
    from mmrepl.compare import DEFAULT_WORKLOAD, MODES, NODES, Script, as_data, chosen, load_workload, page

    if names:
        return _name(MODES, answer)
    if not 3 <= nodes <= len(NODES):
        raise UsageError(f"--nodes must be 3 to {len(NODES)}, not {nodes}")
    modes = chosen(mode or [])
    work = DEFAULT_WORKLOAD if workload is None else load_workload(workload)
    if duration is not None:
        work = _lasting(work, duration)
    plan = Script.usual(work.duration_ms) if script is None else Script.parse(script)
    if html is not None and not html.parent.is_dir():
        raise UsageError(f"--html {html}: there is no folder {html.parent}")
    compared = _play(modes, work, plan, NODES[:nodes], seed, real=real)
    if html is not None:
        html.write_text(page(compared, work, plan, seed))
    if answer.json:
        output.document(as_data(compared, work, plan, seed))
        return Exit.OK
    _tell(compared, work, plan, seed)
    if html is not None:
        output.say(f"\nThe page is {html}.")
    return Exit.OK


def _lasting(work: Workload, seconds: float) -> Workload:
    from attrs import evolve

    try:
        return evolve(work, duration_ms=int(seconds * 1000))
    except ValueError:
        raise UsageError(f"--duration must be 1 to 3600 seconds, not {seconds:g}") from None


def _name(modes: tuple[Mode, ...], answer: Answer) -> Exit:
    if answer.json:
        output.document([{"mode": mode.name, "text": mode.text} for mode in modes])
    else:
        for mode in modes:
            output.say(f"{mode.name:22}{mode.text}")
    return Exit.OK


def _play(
    modes: list[Mode], work: Workload, plan: Script, nodes: tuple[str, ...], seed: int, *, real: bool
) -> list[Compared]:
    from rich.console import Console

    from mmrepl.compare import compare as virtual
    from mmrepl.compare.real import compare_real

    play = compare_real if real else virtual
    compared = []
    columns = (TextColumn("{task.description:22}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=len(modes))
        for one in modes:
            progress.update(task, description=one.name)
            compared.append(play(one, work, plan, nodes, seed))
            progress.advance(task)
    return compared


def _tell(compared: list[Compared], work: Workload, plan: Script, seed: int) -> None:
    from mmrepl.compare.report import PARTS, ROWS
    from mmrepl.compare.words import in_words

    console = output.console()
    run = compared[0].run
    output.say(
        f"{len(run.nodes)} nodes, {work.clients_a_node * len(run.nodes)} clients, workload {work.name},"
        f" {work.duration_ms / 1000:g} s, seed {seed}; script: {plan}"
    )
    output.say("")
    words = Table.grid(padding=(0, 2))
    for one in compared:
        words.add_row(Text(one.mode.name, style="bold"), in_words(one))
    console.print(words)
    for part, title in enumerate(PARTS):
        rows = [row for row in ROWS if row.part == part]
        table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold", title_justify="left")
        table.add_column(f"\n{title}", no_wrap=True)
        for row in rows:
            table.add_column(row.short if "\n" in row.short else f"\n{row.short}", justify="right", no_wrap=True)
        for one in compared:
            cells = [Text(row.said(one.figures), style=STYLES[row.verdict(one.figures)]) for row in rows]
            table.add_row(one.mode.name, *cells)
        output.say("")
        console.print(table)
    output.say("")
    legend = Table.grid(padding=(0, 2))
    for row in ROWS:
        legend.add_row(Text(row.title), Text(row.meaning, style="dim"))
    console.print(legend)
