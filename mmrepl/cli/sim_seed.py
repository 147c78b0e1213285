"""
One seed, told: what happened to the cluster, what was violated, and a shorter run that fails in the same way.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mmrepl.cli import output
from mmrepl.cli.exits import Exit
from mmrepl.cli.options import Answer
from mmrepl.sim.batch import guarded
from mmrepl.sim.kinds import Judged, World, kind_of
from mmrepl.sim.shrink import shrink
from mmrepl.sim.story import Story


def one(
    seed: int,
    options: World,
    planted: tuple[str, ...],
    *,
    shrinks: bool,
    diagram: bool,
    svg: Path | None,
    answer: Answer,
) -> Exit:
    """Run one seed, with a defect planted if one is named, and tell its story."""
    kind = kind_of(options)
    with ExitStack() as stack:
        for name in planted:
            stack.enter_context(kind.defects()[name].planted())
        outcome = guarded(seed, options)
        smaller = shrink(outcome) if shrinks else outcome
        story = kind.tell(seed, smaller.options) if svg or diagram or not outcome.ok else None
    if svg is not None and story is not None and story.diagram is not None:
        svg.write_text(story.diagram.svg(), encoding="utf-8")
    if answer.json:
        output.document(facts(outcome, smaller, story, planted))
    else:
        tell_outcome(outcome, smaller, story, planted, diagram=diagram)
    return Exit.OK if outcome.ok else Exit.NO


def tell_outcome(
    outcome: Judged, smaller: Judged, story: Story | None, planted: tuple[str, ...], *, diagram: bool = False
) -> None:
    """The story of a seed, for people."""
    output.say(command(outcome.options, outcome.seed, planted))
    output.say(f"  {about(outcome)}")
    output.say(f"  faults: {fired(outcome)}")
    if outcome.ok:
        ending = "nothing was violated"
        if outcome.settled is not None and kind_of(outcome.options).mode == "multi":
            ending += f"; after the faults all were equal within {outcome.settled} gossip rounds, and then quiet"
        elif outcome.settled is not None:
            ending += f"; {outcome.settled} ms after the faults somebody led, and then all became equal"
        output.say(f"  {ending}")
    for violation in outcome.violations[:5]:
        output.say(f"  VIOLATED {output.safe(str(violation))}")
    if len(outcome.violations) > 5:
        output.say(f"  and {len(outcome.violations) - 5} violations more")
    if smaller is not outcome:
        output.say(f"\na shorter run fails as well: {about(smaller)}")
        output.say(command(smaller.options, smaller.seed, planted))
        for violation in smaller.violations[:3]:
            output.say(f"  VIOLATED {output.safe(str(violation))}")
    if story is not None and (not outcome.ok or diagram):
        output.say("")
        if story.diagram is not None:
            output.say(str(story.diagram))
        if story.messages:
            output.say("\nthe messages before it:")
            for line in story.messages:
                output.say(f"  {line}")


def command(options: World, seed: int, planted: tuple[str, ...] = ()) -> str:
    """The line that runs that seed again."""
    return " ".join([kind_of(options).command(seed, options), *(f"--defect '{name}'" for name in planted)])


def about(outcome: Judged) -> str:
    """What kind of world it was, and how much happened in it."""
    mix = kind_of(outcome.options).draw(outcome.seed, outcome.options)
    network = "datagrams" if mix.datagrams else "streams"
    return (
        f"{len(mix.names)} nodes, {mix.topology}, {network}; {outcome.operations} operations,"
        f" {outcome.refused} refused; {outcome.messages} messages; {outcome.virtual_ms / 1000:.1f} s of virtual time"
    )


def fired(outcome: Judged) -> str:
    """Which faults fired how often."""
    quiet = ("delayed", "skewed clocks", " nodes", " of nodes")
    told = [f"{count} {name}" for name, count in sorted(outcome.fired.items()) if count and not name.endswith(quiet)]
    return ", ".join(told) or "none"


def facts(outcome: Judged, smaller: Judged, story: Story | None, planted: tuple[str, ...]) -> dict[str, Any]:
    """The same, for programs."""
    told = outcome_facts(outcome) | {"command": command(outcome.options, outcome.seed, planted)}
    if smaller is not outcome:
        told["shorter"] = outcome_facts(smaller) | {"command": command(smaller.options, smaller.seed, planted)}
    if story is not None:
        told["diagram"] = None if story.diagram is None else str(story.diagram)
        told["messages_before"] = list(story.messages)
    return told


def outcome_facts(outcome: Judged) -> dict[str, Any]:
    """What came of a seed."""
    return {
        "seed": outcome.seed,
        "ok": outcome.ok,
        "violations": [
            {"checker": v.checker, "text": v.text, "at_ms": v.at_ms if v.at_ms >= 0 else None, "node": v.node or None}
            for v in outcome.violations
        ],
        "operations": outcome.operations,
        "refused": outcome.refused,
        "messages": outcome.messages,
        "virtual_ms": outcome.virtual_ms,
        "converged_rounds" if kind_of(outcome.options).mode == "multi" else "led_ms": outcome.settled,
        "fired": {name: count for name, count in sorted(outcome.fired.items()) if count},
        "trace": outcome.trace_digest,
    }
