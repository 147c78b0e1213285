"""The command: demo."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

from cyclopts import Parameter

from mmrepl.cli import output
from mmrepl.cli.exits import Exit
from mmrepl.cli.options import ANSWER, Answer, Flag

if TYPE_CHECKING:
    from mmrepl.cli.demo.world import World


def demo(
    *,
    fast: Annotated[Flag, Parameter(help="Without pauses for reading.")] = False,
    simulated: Annotated[Flag, Parameter(help="In virtual time, on a simulated network, in this process.")] = False,
    seed: Annotated[int, Parameter(help="With `--simulated`: what the network is made of.")] = 7,
    answer: Answer = ANSWER,
) -> Exit:
    """
    Three nodes, a partition, writes on both sides under three resolvers, a heal: told as it happens.

    Starts three real nodes on loopback, in a folder that is removed afterwards; all of it ends with the command. With
    `--simulated` the same story is told of simulated nodes, the same way each time. Each sentence is made of what the
    nodes answered. Ends with 1 when they do not agree in the end.
    """
    from mmrepl.cli.demo.drawing import draw
    from mmrepl.cli.demo.stage import Nowhere, Plain, Terminal, Theatre
    from mmrepl.cli.demo.story import Story
    from mmrepl.cli.demo.world import NAMES

    console = output.console()
    stage: Theatre = Nowhere() if answer.json else Terminal(console) if console.is_terminal else Plain()
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    hurried = fast or answer.json
    world = _world(simulated=simulated, seed=seed, real_time=not hurried)
    try:
        with stage:
            story = Story(world, stage, 0.0 if hurried else 1.0)
            good = story.tell()
            took_ms = world.now_ms()
            heard = world.heard()
            last = _last_word(good, took_ms)
            stage.finale(draw(NAMES, heard, story.marks, console.width), last, good=good)
    finally:
        world.close()
        for number, handler in before.items():
            signal.signal(number, handler)
    if answer.json:
        facts: dict[str, Any] = {
            "world": world.kind,
            "made_of": world.facts,
            "agreed": good,
            "unexpected": story.unexpected,
            "took_ms": took_ms,
            "chapters": story.chapters,
            "marks": [{"at_ms": at_ms, "what": text} for at_ms, text in story.marks],
            "operations": [
                {
                    "at_ms": event.at_ms,
                    "node": event.node,
                    "dot": str(event.dot),
                    "table": event.table,
                    "key": event.key,
                    "deleted": event.deleted,
                    "value": event.value,
                }
                for event in heard
            ],
        }
        output.document(facts)
    return Exit.OK if good else Exit.NO


def _world(*, simulated: bool, seed: int, real_time: bool) -> World:
    if simulated:
        from mmrepl.cli.demo.simulated import Simulated

        return Simulated(seed, real_time=real_time)
    from mmrepl.cli.demo.processes import Processes

    return Processes()


def _last_word(good: bool, took_ms: int) -> str:
    seconds = f"{took_ms / 1000:.1f} s"
    if good:
        return f"{seconds}. They agree, and nothing was lost silently. Now yours: mmrepl serve --help"
    return f"{seconds}. Not everything was as it should be; see above."


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """End as on Ctrl-C, so that the nodes are ended."""
    sys.stderr.flush()
    raise KeyboardInterrupt
