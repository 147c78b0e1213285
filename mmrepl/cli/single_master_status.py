"""
The status of a node of a single-master cluster, laid out for people.

What there is to show is told in docs/reference/single-master-node.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mmrepl.cli.output import cell
from mmrepl.cli.status import ROLES, members_grid


def single_master_page(found: Mapping[str, Any]) -> RenderableType:
    """All of it."""
    parts: list[RenderableType] = [_title(found), Text(), members_grid(found["members"]), Text(), _facts(found)]
    warnings = [*found["warnings"], *found["complaints"]]
    if warnings:
        parts += [Text(), *(cell(f"! {warning}", "bold yellow") for warning in warnings)]
    return Group(*parts)


def _title(found: Mapping[str, Any]) -> Text:
    title = cell(found["name"], "bold")
    title.append_text(cell(f"  {found['role']}", ROLES.get(found["role"], "yellow")))
    title.append_text(cell(f"  {found['node']}  of cluster {found['cluster']}", "dim"))
    return title


def _facts(found: Mapping[str, Any]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()

    def fact(name: str, text: str, style: str = "") -> None:
        grid.add_row(cell(name), cell(text, style))

    log, storage = found["log"], found["storage"]
    who = found["leader"]
    fact("term", f"{found['term']:,}; " + (f"{who} takes writes" if who else "nobody is known to take writes"),
         "" if who else "yellow")  # fmt: skip
    fact("failover", found["failover"])
    fact("a write", _answered(found["ack"]))
    fact("log", f"entries {log['first']:,} to {log['last']:,}" if log["last"] >= log["first"] else _cut(log))
    fact("", f"{log['committed']:,} committed, {log['applied']:,} applied, {log['durable']:,} on disk")
    tables = ", ".join(f"{name or '(default)'} {table['keys']:,}" for name, table in found["tables"].items())
    fact("keys", f"{found['keys']:,}" + (f": {tables}" if len(found["tables"]) > 1 else ""))
    if storage["failure"] is not None:
        fact("storage", f"{storage['path']}: failed, {storage['failure']}", "bold red")
    elif storage["full"] is not None:
        fact("storage", f"{storage['path']}: {storage['full']}", "bold red")
    else:
        fact("storage", storage["path"] or "in memory")
    fact("ports", f"peers {found['address'] or 'nowhere'}, clients {found['client_address'] or 'nowhere'}")
    for branch in found["branches"]:
        fact("branch", f"{branch['branch']}: {branch['writes']:,} writes to {branch['keys']:,} keys, kept"
             f" {branch['kept']}", "yellow")  # fmt: skip
    if found["blocked"]:
        fact("partition", f"cut off from {', '.join(found['blocked'])}: a drill, ended by `mmrepl heal`", "yellow")
    if found["doubt"]:
        fact("doubt", f"took a new incarnation: {found['doubt']}", "yellow")
    return grid


def _answered(ack: int | str) -> str:
    """When a write is answered that does not say."""
    if ack in {"async", 0}:
        return "is answered when it stands in the log of the one who takes writes"
    if ack in {"quorum", "all"}:
        return f"is answered when {'a quorum' if ack == 'quorum' else 'every voter'} has it on disk"
    return f"is answered when {ack} {'replica has' if ack in {1, 'one'} else 'replicas have'} it on disk"


def _cut(log: Mapping[str, int]) -> str:
    return f"empty, cut after entry {log['last']:,}" if log["last"] else "empty"
