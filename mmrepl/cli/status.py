"""A node's status, laid out for people. What there is to show is told in docs/reference/node.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mmrepl.cli.output import cell
from mmrepl.clock.instants import duration_text

STYLES = {
    "self": "bold",
    "live": "green",
    "catching up": "yellow",
    "connecting": "yellow",
    "suspect": "red",
    "failing": "red",
    "disconnected": "red",
    "gone": "red",
}
"""How the state of a member looks."""

ROLES = {"leader": "bold cyan", "primary": "bold cyan", "learner": "dim", "no member": "yellow"}
"""How the role of a member looks, in single-master mode."""


def seconds_text(seconds: float | None) -> str:
    """A duration in seconds, to what matters; a dash for what is not known."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    return duration_text(round(seconds) * 1000)


def _number(count: int | None) -> str:
    return "–" if count is None else f"{count:,}"


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def members_grid(members: Sequence[Mapping[str, Any]]) -> Table:
    """The members, a row each; with their roles, where they have any."""
    roles = any("role" in member for member in members)
    grid = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("member", *(("role",) if roles else ()), "state", "address"):
        grid.add_column(name, no_wrap=True)
    for name in ("behind", "ahead", "lag", "last contact"):
        grid.add_column(name, justify="right", no_wrap=True)
    for member in members:
        state = str(member["state"])
        own = state == "self"
        grid.add_row(
            cell(member["name"] or "?", "bold" if own else ""),
            *((cell(member["role"], ROLES.get(member["role"], "")),) if roles else ()),
            cell(state, STYLES.get(state, "")),
            cell(member["address"] or "–"),
            cell("" if own else _number(member["behind"])),
            cell("" if own else _number(member["ahead"])),
            cell("" if own else seconds_text(member["lag_seconds"])),
            cell("" if own else seconds_text(member["last_contact_seconds"])),
        )
    return grid


def status_page(found: Mapping[str, Any]) -> RenderableType:
    """All of it."""
    if found.get("mode") == "single-master":
        from mmrepl.cli.single_master_status import single_master_page

        return single_master_page(found)
    parts: list[RenderableType] = [_title(found), Text(), members_grid(found["members"]), Text(), _tables(found)]
    parts += [Text(), _facts(found)]
    warnings = [*found["warnings"], *found["complaints"]]
    if warnings:
        parts += [Text(), *(cell(f"! {warning}", "bold yellow") for warning in warnings)]
    return Group(*parts)


def _title(found: Mapping[str, Any]) -> Text:
    title = cell(found["name"], "bold")
    title.append_text(cell(f"  {found['node']}  of cluster {found['cluster']}", "dim"))
    if found["removed"]:
        title.append("  removed from the cluster", style="bold red")
    return title


def _tables(found: Mapping[str, Any]) -> Table:
    grid = Table(box=None, pad_edge=False, header_style="dim")
    grid.add_column("table", no_wrap=True)
    grid.add_column("policy")
    grid.add_column("keys", justify="right")
    for name, table in found["tables"].items():
        grid.add_row(
            cell(name or "(default)", "" if name else "dim"), cell(table["policy"]), cell(_number(table["keys"]))
        )
    return grid


def _facts(found: Mapping[str, Any]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()

    def fact(name: str, text: str, style: str = "") -> None:
        grid.add_row(cell(name), cell(text, style))

    siblings, log, storage = found["siblings"], found["log"], found["storage"]
    fact("siblings", _siblings(siblings) + f"; {_number(found['lost'])} values have met another")
    fact("version", _vector(found["version"]))
    fact("stable", _vector(found["stable"]))
    waiting = f", {_number(log['durable_lag'])} of them on their way to the disk" if log["durable_lag"] else ""
    fact("log", f"{_count(log['operations'], 'operation')}{waiting}, {_count(log['segments'], 'settled segment')}")
    if storage["failure"] is not None:
        fact("storage", f"{storage['path']}: failed, {storage['failure']}", "bold red")
    elif storage["full"] is not None:
        fact("storage", f"{storage['path']}: {storage['full']}", "bold red")
    else:
        fact("storage", storage["path"] or "in memory")
    fact("ports", f"peers {found['address'] or 'nowhere'}, clients {found['client_address'] or 'nowhere'}")
    snapshots = found["snapshots"]
    if any(snapshots.values()):
        fact("snapshots", f"{snapshots['sent']} sent, {snapshots['installed']} installed")
    if found["holding_back"]:
        fact("forgetting", f"waits for {', '.join(found['holding_back'])}", "yellow")
    if found["held_origins"]:
        fact("held", ", ".join(found["held_origins"]), "yellow")
    if found["blocked"]:
        fact("partition", f"cut off from {', '.join(found['blocked'])}: a drill, ended by `mmrepl heal`", "yellow")
    if found["doubt"]:
        fact("doubt", f"took a new incarnation: {found['doubt']}", "yellow")
    return grid


def _siblings(siblings: Mapping[str, int]) -> str:
    if not siblings["keys"]:
        return "no key has several"
    keys = "1 key has" if siblings["keys"] == 1 else f"{_number(siblings['keys'])} keys have"
    return f"{keys} several, up to {siblings['most']}"


def _vector(vector: Mapping[str, int]) -> str:
    return ", ".join(f"{origin}: {counter:,}" for origin, counter in vector.items()) or "nothing yet"
