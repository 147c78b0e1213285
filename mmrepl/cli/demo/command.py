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
    from mmrepl.cli.demo.one_writer import OneWriterWorld
    from mmrepl.cli.demo.world import World


def demo(
    *,
    fast: Annotated[Flag, Parameter(help="Without pauses for reading.")] = False,
    simulated: Annotated[Flag, Parameter(help="In virtual time, on a simulated network, in this process.")] = False,
    seed: Annotated[int, Parameter(help="With `--simulated`: what the network is made of.")] = 7,
    answer: Answer = ANSWER,
) -> Exit:
    """
    Three nodes, a partition, writes on both sides, a heal; then the same with one writer: told as it happens.

    Starts three real nodes on loopback, in a folder that is removed afterwards; all of it ends with the command. With
    `--simulated` the same story is told of simulated nodes, the same way each time. The last chapters play the same
    partition in single-master mode, with three other nodes. Each sentence is made of what the nodes answered. Ends
    with 1 when they do not agree in the end.
    """
    from mmrepl.cli.demo.drawing import draw
    from mmrepl.cli.demo.one_writer import OneWriter
    from mmrepl.cli.demo.stage import Nowhere, Plain, Terminal, Theatre
    from mmrepl.cli.demo.story import Story
    from mmrepl.cli.demo.world import NAMES

    console = output.console()
    stage: Theatre = Nowhere() if answer.json else Terminal(console) if console.is_terminal else Plain()
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    hurried = fast or answer.json
    pace = 0.0 if hurried else 1.0
    world = _world(simulated=simulated, seed=seed, real_time=not hurried)
    other: OneWriterWorld | None = None
    try:
        with stage:
            story = Story(world, stage, pace)
            good = story.tell()
            heard = world.heard()
            other = _other_world(world, seed=seed, real_time=not hurried)
            sequel = OneWriter(other, stage, pace)
            good = sequel.tell() and good
            took_ms = other.now_ms()
            last = _last_word(good, took_ms)
            diagram = draw(NAMES, heard, story.marks, console.width)
            stage.finale(f"The first three nodes, as a picture:\n\n{diagram}", last, good=good)
    finally:
        world.close()
        if other is not None:
            other.close()
        for number, handler in before.items():
            signal.signal(number, handler)
    if answer.json:
        facts: dict[str, Any] = {
            "world": world.kind,
            "made_of": world.facts,
            "agreed": good,
            "unexpected": story.unexpected + sequel.unexpected,
            "took_ms": took_ms,
            "one_writer_made_of": other.facts,
            "chapters": story.chapters + sequel.chapters,
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


def _other_world(world: World, *, seed: int, real_time: bool) -> OneWriterWorld:
    """The same world for the other mode; its time goes on where that of *world* is."""
    from mmrepl.cli.demo.processes import Processes

    if isinstance(world, Processes):
        from mmrepl.cli.demo.one_writer_processes import OneWriterProcesses

        return OneWriterProcesses(world.began_ms)
    from mmrepl.cli.demo.one_writer_simulated import OneWriterSimulated

    return OneWriterSimulated(seed, world.now_ms(), real_time=real_time)


def _last_word(good: bool, took_ms: int) -> str:
    seconds = f"{took_ms / 1000:.1f} s"
    if good:
        return f"{seconds}. In each mode they agree, and nothing was lost silently. Now yours: mmrepl serve --help"
    return f"{seconds}. Not everything was as it should be; see above."


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """End as on Ctrl-C, so that the nodes are ended."""
    sys.stderr.flush()
    raise KeyboardInterrupt
