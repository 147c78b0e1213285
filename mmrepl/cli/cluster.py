"""Commands about a node among its peers: status, members, partition, heal and remove."""

from __future__ import annotations

import time
from typing import Annotated

from cyclopts import Parameter

from mmrepl.cli import output
from mmrepl.cli.options import ANSWER, REACH, Answer, Flag, Reach
from mmrepl.cli.remote import Remote
from mmrepl.cli.status import members_grid, status_page
from mmrepl.errors import UsageError

Peer = Annotated[str, Parameter(help="The name of a member.")]


def status(
    *,
    watch: Annotated[Flag, Parameter(help="Show it anew all the time, until interrupted.")] = False,
    every: Annotated[float, Parameter(help="Seconds between two looks, with `--watch`.")] = 0.5,
    reach: Reach = REACH,
    answer: Answer = ANSWER,
) -> None:
    """
    What a node says of itself and of the others: members, lag, siblings, version, log, storage, warnings.

    Lag is counted from this node's point of view, in operations: what a member has not confirmed (behind), and what
    it has that this node lacks (ahead). With `--watch --json`, a line for each look.
    """
    if not every > 0:
        raise UsageError(f"--every must be more than 0 seconds, not {every:g}")
    with Remote(reach) as remote:
        if not watch:
            found = remote.status()
            if answer.json:
                output.document(found)
            else:
                output.console().print(status_page(found))
            return
        if answer.json:
            while True:
                output.line_of_json(remote.status())
                time.sleep(every)
        from rich.live import Live

        console = output.console()
        with Live(
            status_page(remote.status()), console=console, auto_refresh=False, screen=console.is_terminal
        ) as live:
            while True:
                time.sleep(every)
                live.update(status_page(remote.status()), refresh=True)


def members(*, reach: Reach = REACH, answer: Answer = ANSWER) -> None:
    """The members as one node knows them, and the addresses that it expects somebody at."""
    with Remote(reach) as remote:
        found = remote.members()
    if answer.json:
        output.document(found)
    else:
        output.console().print(members_grid(found))


def partition(peer: Peer, /, *more: Peer, reach: Reach = REACH, answer: Answer = ANSWER) -> None:
    """
    A drill: cut the node's connection with members, both ways, until `mmrepl heal`.

    The node goes on without them. What is written meanwhile on both sides meets when it is healed.
    """
    with Remote(reach) as remote:
        for name in (peer, *more):
            remote.partition(name)
        blocked = remote.status()["blocked"]
        name = remote.status()["name"]
    if answer.json:
        output.document({"node": name, "blocked": blocked})
    else:
        output.say(f"{output.safe(name)} is cut off from {', '.join(map(output.safe, blocked))}")


def heal(*peers: Peer, reach: Reach = REACH, answer: Answer = ANSWER) -> None:
    """End the drill with some members, or, without a name, with all."""
    with Remote(reach) as remote:
        for peer in peers:
            remote.heal(peer)
        if not peers:
            remote.heal()
        found = remote.status()
    name, blocked = found["name"], found["blocked"]
    if answer.json:
        output.document({"node": name, "blocked": blocked})
    else:
        rest = f"is still cut off from {', '.join(map(output.safe, blocked))}" if blocked else "is cut off from nobody"
        output.say(f"{output.safe(name)} {rest}")


def remove(
    member: Annotated[str, Parameter(help="The name of a member, or an expected address where nobody has answered.")],
    /,
    *,
    reach: Reach = REACH,
    answer: Answer = ANSWER,
) -> None:
    """
    Take a member out of the cluster, for good: nothing is kept for it any longer. What it wrote stays.

    Every node hears of it. The node itself, should it come back, is refused until it is started with `--rejoin`.
    """
    with Remote(reach) as remote:
        remote.remove(member)
        found = remote.members()
    names = [str(row["name"] or row["address"]) for row in found if row.get("role") != "no member"]
    if answer.json:
        output.document({"removed": member, "members": found})
    else:
        output.say(f"{output.safe(member)} is taken out; there are {', '.join(map(output.safe, names))}")
