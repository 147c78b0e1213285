"""
Where the story is told: a terminal with the three nodes always in view, plain text, or nowhere.

On a terminal the sentences scroll and the nodes stand below them, each with whom it sees and what it reads. Without
one there are the sentences, and after each chapter a line for each node.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from mmrepl.cli.demo.world import Place, View
from mmrepl.cli.output import safe, say
from mmrepl.cli.remote import KeyRead
from mmrepl.cli.values import as_text


class Theatre(Protocol):
    """A stage that is opened and closed, and shows the diagram at the end."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def chapter(self, title: str) -> None:
        """A new part begins."""

    def say(self, sentence: str, *, good: bool = True) -> None:
        """One sentence."""

    def show(self, views: Sequence[View]) -> None:
        """The nodes, as they are now."""

    def finale(self, diagram: str, last: str, *, good: bool) -> None:
        """What happened as a picture, and the last word."""


def place_text(place: Place) -> str:
    """A key with its table."""
    table, key = place
    return f"{table}/{key}" if table else key


class Nowhere:
    """Nothing is shown."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def chapter(self, title: str) -> None:
        """Nothing."""

    def say(self, sentence: str, *, good: bool = True) -> None:
        """Nothing."""

    def show(self, views: Sequence[View]) -> None:
        """Nothing."""

    def finale(self, diagram: str, last: str, *, good: bool) -> None:
        """Nothing."""


class Plain(Nowhere):
    """Text, for a pipe or a file."""

    def __init__(self) -> None:
        self._views: Sequence[View] = ()
        self._begun = False

    def chapter(self, title: str) -> None:
        """After the state of the nodes at the end of the chapter before."""
        self._states()
        if self._begun:
            say("")
        self._begun = True
        say(f"== {title}")

    def say(self, sentence: str, *, good: bool = True) -> None:
        """A line."""
        say(safe(sentence) if good else f"!! {safe(sentence)}")

    def show(self, views: Sequence[View]) -> None:
        """Kept until the chapter ends."""
        self._views = views

    def _states(self) -> None:
        for view in self._views:
            reads = "  ".join(f"{place_text(place)} {_short(read)}" for place, read in view.reads.items())
            role = f" ({view.role} in term {view.term})" if view.role else ""
            say(f"   {view.name}{role}: {safe(reads)}")
        self._views = ()

    def finale(self, diagram: str, last: str, *, good: bool) -> None:
        """The diagram and the last word."""
        self._states()
        say("")
        say(diagram)
        say("")
        self.say(last, good=good)


class Terminal:
    """The sentences above, the three nodes below, always as they are."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def chapter(self, title: str) -> None:
        """A rule across."""
        self._console.print(Text())
        self._console.print(Rule(Text(title, style="bold"), align="left", style="blue"))

    def say(self, sentence: str, *, good: bool = True) -> None:
        """Above the nodes; what is between quotes or brackets stands out."""
        aside = sentence.startswith("  ")
        text = Text(safe(sentence), style="bold red" if not good else "dim" if aside else "")
        if good and not aside:
            text.highlight_regex(r'"[^"]*"', style="green")
            text.highlight_regex(r"\b(paris|tokyo|lima)\b", style="bold cyan")
        self._console.print(text)

    def show(self, views: Sequence[View]) -> None:
        """The nodes, side by side."""
        width = max(24, (self._console.width - len(views) + 1) // max(1, len(views)) - 1)
        panels: list[RenderableType] = [node_panel(view, width) for view in views]
        self._live.update(Group(Text(), Columns(panels, padding=(0, 1), expand=False)), refresh=True)

    def finale(self, diagram: str, last: str, *, good: bool) -> None:
        """The nodes give way to the diagram."""
        self._live.update(Text(), refresh=True)
        self._live.stop()
        self._console.print(Text())
        self._console.print(paint(diagram))
        self._console.print(Text())
        self._console.print(Text(last, style="bold green" if good else "bold red"))


def node_panel(view: View, width: int) -> Panel:
    """One node: whom it sees, what it reads, how much it has heard."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    peers = Text()
    for name, state in sorted(view.peers.items()):
        live = state == "live"
        peers.append(f"{name} ", style="" if live else "dim")
        peers.append("●  " if live else "✕  " if state == "gone" else f"{state}  ", style="green" if live else "red")
    grid.add_row("sees", peers)
    if view.role:
        grid.add_row("role", Text(f"{view.role}, term {view.term}", style="bold" if view.role == "leader" else ""))
        grid.add_row("applied", f"{view.entries} entries")
    else:
        grid.add_row("applied", f"{view.operations} operations")
    for place, read in view.reads.items():
        several = len(read.siblings) > 1
        grid.add_row(Text(place_text(place)), Text(_short(read), style="magenta" if several else ""))
    alone = all(state != "live" for state in view.peers.values())
    style = "red" if alone else "green" if all(state == "live" for state in view.peers.values()) else "yellow"
    return Panel(grid, title=Text(view.name, style="bold"), width=width, height=10, border_style=style)


def paint(diagram: str) -> Text:
    """The diagram with colours."""
    text = Text(diagram, no_wrap=True)
    text.highlight_regex(r"●[^│┼├┤]*", style="green")
    text.highlight_regex(r"○[^│┼├┤]*", style="cyan")
    text.highlight_regex(r"(?m)^.*══.*$", style="red")
    return text


def _short(read: KeyRead) -> str:
    if not read.present:
        return "–"
    count = len(read.siblings)
    return as_text(read.value) + (f" ({count} siblings)" if count > 1 else "")
