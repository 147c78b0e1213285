"""
The command that puts worlds under faults: sim.

One seed, a batch of them, or a hunt for planted defects; the work is that of `mmrepl.sim`. Here is what turns words
into its options, what shows how far it has come, and what says at the end whether it was enough.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from attrs import frozen
from cyclopts import Group, Parameter

from mmrepl.cli import output
from mmrepl.cli.exits import Exit
from mmrepl.cli.options import ANSWER, Answer, Flag
from mmrepl.errors import UsageError

if TYPE_CHECKING:
    from mmrepl.sim.kinds import Kind

Mode: TypeAlias = Literal["multi", "automatic", "manual"]

WORLD_GROUP = Group("World", sort_key=7)

Shape: TypeAlias = Literal["mesh", "star", "line", "ring", "random"]


def _world(help: str, **more: Any) -> Parameter:
    return Parameter(group=WORLD_GROUP, help=help, show_default=False, **more)


@Parameter(name="*")
@frozen(kw_only=True)
class Worlds:
    """What is fixed of the worlds; the seed draws the rest."""

    mode: Annotated[
        Mode | None,
        _world("`multi`-master; or single-master with `automatic` or `manual` failover. Default: multi."),
    ] = None
    nodes: Annotated[int | None, _world("So many nodes. Default: the seed draws.")] = None
    topology: Annotated[Shape | None, _world("Who is connected to whom. Default: the seed draws.")] = None
    operations: Annotated[int | None, _world("Operations in a run. Default: 200, or 2400 a minute.")] = None
    minutes: Annotated[float | None, _world("Minutes of virtual time under faults. Default: 5 seconds.")] = None
    duration_ms: Annotated[int | None, _world("The same in milliseconds.")] = None
    faults: Annotated[
        str | None, _world("Only these kinds, with commas between them; `none`; `all`, the rare ones too.")
    ] = None
    calm: Annotated[
        bool | None, _world("No bad weather: messages are a little late, and that is all.", negative="")
    ] = None
    datagrams: Annotated[
        bool | None,
        _world("Each frame fares for itself; with `--no-datagrams` none overtakes another. Default: as drawn."),
    ] = None
    liveness_rounds: Annotated[
        int | None, _world("Gossip rounds after the faults in which all must be equal. Default: 250.")
    ] = None
    quiet_ms: Annotated[int | None, _world("Milliseconds after that in which all must be quiet. Default: 3000.")] = None

    def given(self) -> dict[str, Any]:
        """What was said, as options of that kind of worlds. Raises UsageError."""
        kind = self.kind()
        standard = kind.options()
        said: dict[str, Any] = {}
        for name in (
            "nodes",
            "topology",
            "operations",
            "duration_ms",
            "calm",
            "datagrams",
            "liveness_rounds",
            "quiet_ms",
        ):
            value = getattr(self, name)
            if value is not None:
                if not hasattr(standard, name):
                    raise UsageError(
                        f"--{name.replace('_', '-')} is for multi-master worlds, not for {self.mode} failover"
                    )
                if not isinstance(value, bool | str) and value < (0 if name == "operations" else 1):
                    raise UsageError(f"--{name.replace('_', '-')} must be positive, not {value}")
                said[name] = value
        if self.minutes is not None:
            if self.duration_ms is not None:
                raise UsageError("--minutes and --duration-ms say the same: give one of them")
            if not 0 < self.minutes <= 24 * 60:
                raise UsageError(f"--minutes must be more than 0 and at most a day, not {self.minutes}")
            said["duration_ms"] = max(1, round(self.minutes * 60_000))
        if "duration_ms" in said and self.operations is None:
            said["operations"] = max(1, standard.operations * said["duration_ms"] // standard.duration_ms)
        if self.faults is not None:
            said["faults"] = faults_of(self.faults, kind)
        return said

    def kind(self) -> Kind:
        """The kind of worlds that was asked for."""
        from mmrepl.sim.kinds import kind_named

        return kind_named(self.mode or "multi")


WORLDS = Worlds()


def sim(
    *,
    seeds: Annotated[int | None, Parameter(help="So many seeds. Default: 1000; of `--defects` at most 2000.")] = None,
    first: Annotated[int | None, Parameter(help="The first of them. Default: 0.")] = None,
    seed: Annotated[int | None, Parameter(help="Only this one; tell its story.")] = None,
    defects: Annotated[
        Flag, Parameter(help="Hunt every planted defect, and tell in how many seeds each is found.")
    ] = False,
    defect: Annotated[
        list[str] | None, Parameter(negative="", help="Plant this one, by its name; several times for several.")
    ] = None,
    worlds: Worlds = WORLDS,
    jobs: Annotated[int | None, Parameter(help="Processes. Default: one for each core.")] = None,
    resume: Annotated[
        Path | None, Parameter(help="Keep the record of the batch in this file; go on with it if it is there.")
    ] = None,
    no_shrink: Annotated[Flag, Parameter(help="Do not look for a shorter run that fails as well.")] = False,
    diagram: Annotated[Flag, Parameter(help="Print the diagram of a seed, also if nothing is wrong.")] = False,
    svg: Annotated[Path | None, Parameter(help="Write the diagram of the (first failing) seed into this file.")] = None,
    answer: Answer = ANSWER,
) -> Exit:
    """
    Run the whole store under faults in a simulated world, seed by seed, and judge every run.

    A failing seed tells its story: a line that reproduces it, what was violated, and a diagram of what led to it. Ends
    with 1 when something was violated, or when in 1000 seeds or more a kind of fault happened too rarely to count.
    With Ctrl-C a batch leaves a record, with which `--resume` goes on. With `--defects` it ends with 1 when a planted
    defect is not found, or half of them need more than 100 seeds.
    """
    from mmrepl.cli import sim_batch, sim_defects, sim_seed

    if jobs is not None and jobs < 1:
        raise UsageError(f"--jobs must be at least 1, not {jobs}")
    if seeds is not None and seeds < 1:
        raise UsageError(f"--seeds must be at least 1, not {seeds}")
    kind = worlds.kind()
    planted = defects_of(defect or (), kind)
    given = worlds.given()
    if seed is not None:
        if seeds is not None or first is not None or resume is not None or defects:
            raise UsageError("--seed is for one seed: without --seeds, --first, --resume and --defects")
        if len(planted) > 1:
            raise UsageError("--seed runs against one planted defect at most")
        options = kind.options(**given)
        return sim_seed.one(seed, options, planted, shrinks=not no_shrink, diagram=diagram, svg=svg, answer=answer)
    if diagram:
        raise UsageError("--diagram shows one seed: say which with --seed")
    hunted = planted or (tuple(kind.defects()) if defects else None)
    request = sim_batch.Request(seeds, first, worlds.mode, given, hunted, jobs, resume, not no_shrink, svg, answer)
    return sim_defects.campaign(request) if sim_batch.is_hunt(request) else sim_batch.batch(request)


def faults_of(text: str, kind: Kind) -> tuple[str, ...]:
    """
    The names of faults in a list with commas; a hyphen stands for a blank.

    Raises UsageError for one that does not exist; says which do.
    """
    known = kind.faults
    if text == "none":
        return ()
    if text == "all":
        return tuple(known)
    names = tuple(dict.fromkeys(word.strip().replace("-", " ") for word in text.split(",") if word.strip()))
    for name in names:
        if name not in known:
            there = ", ".join(each.replace(" ", "-") for each in sorted(known))
            raise UsageError(f"there is no fault {output.safe(name)!r}; there are {there}")
    if not names:
        raise UsageError("--faults needs names with commas between them, `none` or `all`")
    return names


def defects_of(names: list[str] | tuple[str, ...], kind: Kind) -> tuple[str, ...]:
    """Planted defects by name. Raises UsageError for one that does not exist; says which do."""
    if not names:
        return ()
    there = tuple(kind.defects())
    for name in names:
        if name not in there:
            raise UsageError(f"there is no planted defect {output.safe(name)!r}; there are: {', '.join(there)}")
    return tuple(dict.fromkeys(names))
