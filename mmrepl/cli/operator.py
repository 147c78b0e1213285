"""Commands for whoever operates a single-master cluster: promote, transfer, add and branches."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter
from rich.table import Table

from mmrepl.cli import output
from mmrepl.cli.options import ANSWER, REACH, Answer, Flag, Reach
from mmrepl.cli.remote import Remote
from mmrepl.errors import UsageError


def promote(
    *,
    force: Annotated[Flag, Parameter(help="Go on although writes are lost, or nobody can tell.")] = False,
    reach: Reach = REACH,
    answer: Answer = ANSWER,
) -> None:
    """
    Make the node the primary of its single-master cluster; where leaders are elected, ask for an election.

    Refused when another node's log goes further, or too few members answer to know; what would be lost is said. The
    old primary is fenced as soon as it hears of it, and keeps what it never shipped as a branch.
    """
    with Remote(reach) as remote:
        found = remote.promote(force=force)
    if answer.json:
        output.document(found)
        return
    lost = ", ".join(f"{count} entries of {output.safe(str(name))}" for name, count in found["lost"].items())
    output.say(f"{reach.node} is the primary of term {found['term']}" + (f"; cut off: {lost}" if lost else ""))


def transfer(
    to: Annotated[str, Parameter(help="The name of a voter.")], /, *, reach: Reach = REACH, answer: Answer = ANSWER
) -> None:
    """Hand leadership over to another member, which is brought up to date first. Any node knows whom to ask."""
    with Remote(reach) as remote:
        found = remote.transfer(to)
    if answer.json:
        output.document(found)
    else:
        output.say(f"{output.safe(found['name'])} leads in term {found['term']}")


def add(
    member: Annotated[str, Parameter(help="The name of a node that runs and is connected.")],
    /,
    *,
    learner: Annotated[Flag, Parameter(help="Without a vote.")] = False,
    reach: Reach = REACH,
    answer: Answer = ANSWER,
) -> None:
    """Make a node a member of the single-master cluster, or again one, if it came back without its memory."""
    with Remote(reach) as remote:
        index = remote.add(member, learner=learner)
    if answer.json:
        output.document({"added": member, "learner": learner, "index": index})
    else:
        output.say(f"{output.safe(member)} is a member since entry {index}")


def branches(
    *,
    merge: Annotated[str | None, Parameter(help="Merge this one into the cluster.")] = None,
    drop: Annotated[str | None, Parameter(help="Forget this one.")] = None,
    policy: Annotated[Literal["lww", "siblings"], Parameter(help="By which keys are merged that both wrote.")] = "lww",
    reach: Reach = REACH,
    answer: Answer = ANSWER,
) -> None:
    """
    What a deposed primary had accepted and never shipped: list it, merge it into the cluster, or forget it.

    Keys that the cluster has not written since are written as the branch has them; of the others the policy decides.
    """
    if merge is not None and drop is not None:
        raise UsageError("--merge and --drop are two things: say one of them")
    with Remote(reach) as remote:
        if merge is not None:
            found = remote.merge(merge, policy)
            if answer.json:
                output.document(found)
            else:
                output.say(
                    f"branch {merge} is merged: {found['written']} keys written, {found['skipped']} needed nothing"
                )
            return
        if drop is not None:
            remote.drop(drop)
        rows = remote.branches()
    if answer.json:
        output.document(rows)
    elif not rows:
        output.say("no branch is kept here")
    else:
        output.console().print(_grid(rows))


def _grid(rows: list[dict[str, object]]) -> Table:
    grid = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("branch", "kept"):
        grid.add_column(name, no_wrap=True)
    for name in ("after entry", "writes", "keys", "terms"):
        grid.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        terms = row["terms"]
        assert isinstance(terms, list)
        grid.add_row(
            output.cell(str(row["branch"])), str(row["kept"]), str(row["fork"]), str(row["writes"]), str(row["keys"]),
            " ".join(map(str, terms)),
        )  # fmt: skip
    return grid
