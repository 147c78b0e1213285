"""Commands about keys: put, get, read, delete, scan. Each talks to a running node over its client port."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter
from rich.table import Table as Grid
from rich.text import Text

from mmrepl.cli import output
from mmrepl.cli.exits import Exit
from mmrepl.cli.options import ANSWER, REACH, Answer, Flag, Key, Level, Reach, Table
from mmrepl.cli.remote import KeyRead, Receipt, Remote
from mmrepl.cli.values import As, as_text, typed
from mmrepl.clock import hlc
from mmrepl.clock.instants import utc_text
from mmrepl.errors import UsageError

Context = Annotated[
    str | None,
    Parameter(allow_leading_hyphen=True, help="A context token, as `read` shows it: replace exactly what was read."),
]
Durability = Annotated[Level | None, Parameter(help="What the write waits for. Default: as the node is set.")]
Acks = Annotated[
    str | None,
    Parameter(help="Wait until so many members have it, the node included: a number, `majority` or `all`."),
]
Within = Annotated[float, Parameter(help="Seconds to wait for the members that `--acks` asks for.")]


def put(
    key: Key,
    value: Annotated[str, Parameter(allow_leading_hyphen=True, help="The value; `-` reads it from standard input.")],
    /,
    *,
    as_: Annotated[
        As, Parameter(name="--as", help="How VALUE is understood; `auto`: as JSON if it is JSON, otherwise as text.")
    ] = "auto",
    table: Table = "",
    context: Context = None,
    blind: Annotated[
        Flag, Parameter(help="Replace nothing: the value becomes a sibling of whatever is there.")
    ] = False,
    durability: Durability = None,
    acks: Acks = None,
    within: Within = 5.0,
    reach: Reach = REACH,
    answer: Answer = ANSWER,
) -> None:
    """
    Write a value over what the node shows, or over exactly what a context covers.

    Answers with the write's dot. Without `--acks`, the write is on its way to the other members when this ends.
    """
    if blind and context is not None:
        raise UsageError("--blind and --context exclude each other: a blind write has seen nothing")
    meant = typed(value, as_)
    with Remote(reach) as remote:
        remote.use(table)
        wanted = _wanted(remote, acks)
        receipt = remote.put(key, meant, context=context, blind=blind, level=durability)
        _tell(remote, receipt, wanted, within, answer)


def delete(
    key: Key,
    /,
    *,
    table: Table = "",
    context: Context = None,
    durability: Durability = None,
    acks: Acks = None,
    within: Within = 5.0,
    reach: Reach = REACH,
    answer: Answer = ANSWER,
) -> Exit:
    """
    Delete what the node shows of a key, or exactly what a context covers.

    Ends with 1 when there was nothing to delete.
    """
    with Remote(reach) as remote:
        remote.use(table)
        wanted = _wanted(remote, acks)
        receipt = remote.delete(key, context=context, level=durability)
        if receipt is not None:
            _tell(remote, receipt, wanted, within, answer)
            return Exit.OK
    _absent(key, table, answer, {"dot": None, "context": None})
    return Exit.NO


def get(
    key: Key,
    /,
    *,
    table: Table = "",
    raw: Annotated[Flag, Parameter(help="Exactly the value's bytes: no newline behind them.")] = False,
    reach: Reach = REACH,
    answer: Answer = ANSWER,
) -> Exit:
    """
    The value of a key, as the node shows it: text and bytes as they are, anything else as JSON.

    Ends with 1 when the key is absent.
    """
    with Remote(reach) as remote:
        remote.use(table)
        found = remote.read(key)
    if answer.json:
        shape = found.plain()
        shape["siblings"] = len(found.siblings)
        output.document(shape)
    elif found.shown is None:
        _absent(key, table, answer, {})
    else:
        output.raw(found.shown if raw else found.shown + b"\n")
    if found.present and len(found.siblings) > 1:
        output.hint(f"{len(found.siblings)} siblings meet in this key; `mmrepl read` shows them")
    return Exit.OK if found.present else Exit.NO


def read(key: Key, /, *, table: Table = "", reach: Reach = REACH, answer: Answer = ANSWER) -> Exit:
    """
    All that the node knows of a key: its value, each sibling with its dot and time, the context token.

    Ends with 1 when the key is absent; deletions that are still remembered are shown all the same.
    """
    with Remote(reach) as remote:
        remote.use(table)
        found = remote.read(key)
    if answer.json:
        output.document(found.plain())
    else:
        _show(found)
    return Exit.OK if found.present else Exit.NO


def scan(
    pattern: Annotated[str, Parameter(help="Which keys, as in a shell: `user:*`, `?`, `[a-c]`.")] = "*",
    /,
    *,
    table: Table = "",
    values: Annotated[Flag, Parameter(help="The values too.")] = False,
    limit: Annotated[int | None, Parameter(help="So many keys at most.")] = None,
    reach: Reach = REACH,
    answer: Answer = ANSWER,
) -> None:
    """
    The keys that are present, in key order. In JSON, a line for each.

    Keys that come and go meanwhile may be listed or not; all others are, once.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"--limit must be at least 1, not {limit}")
    with Remote(reach) as remote, Remote(reach) as beside:
        remote.use(table)
        beside.use(table)
        count = 0
        for key in remote.keys(None if pattern == "*" else pattern):
            found = beside.read(key) if values else None
            if found is not None and not found.present:
                continue
            if answer.json:
                output.line_of_json(_entry(key, table, found))
            else:
                shown = "" if found is None else f"\t{as_text(found.value)}"
                output.say(output.safe(key) + shown)
            count += 1
            if count == limit:
                return


# -- the words of these commands


def _entry(key: str, table: str, found: KeyRead | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"key": key, "table": table}
    if found is not None:
        entry |= {"type": found.type, "value": found.value, "siblings": len(found.siblings)}
    return entry


def _wanted(remote: Remote, acks: str | None) -> int | None:
    """How many members *acks* means now. Asked before writing, so that a mistake in it writes nothing."""
    if acks is None:
        return None
    if acks.isdecimal() and int(acks) > 0:
        return int(acks)
    if acks not in {"majority", "all"}:
        raise UsageError(f"--acks takes a number of members, `majority` or `all`, not {acks!r}")
    members = sum(member["name"] is not None for member in remote.members())
    return members if acks == "all" else members // 2 + 1


def _tell(remote: Remote, receipt: Receipt, wanted: int | None, within: float, answer: Answer) -> None:
    confirmed = None if wanted is None else remote.confirmed(receipt, wanted, within)
    if answer.json:
        shape: dict[str, Any] = {"dot": receipt.dot, "context": receipt.context}
        output.document(shape if confirmed is None else shape | {"confirmed": confirmed})
    else:
        output.say(receipt.dot if confirmed is None else f"{receipt.dot} confirmed by {_members(confirmed)}")


def _members(count: int) -> str:
    return "1 member" if count == 1 else f"{count} members"


def _absent(key: str, table: str, answer: Answer, shape: dict[str, Any]) -> None:
    if answer.json:
        output.document({"key": key, "table": table, "present": False} | shape)
    else:
        where = f" in table {output.safe(table)}" if table else ""
        output.hint(f"{output.safe(key)} is absent{where}")


def _show(found: KeyRead) -> None:
    output.say(f"value     {as_text(found.value) if found.present else 'absent'}")
    output.say(f"resolver  {found.resolver}")
    output.say(f"context   {found.context}")
    if not found.siblings:
        return
    grid = Grid("dot", "written", "value", "", box=None, pad_edge=False)
    for sibling in found.siblings:
        value = "deleted" if sibling.deleted else as_text(sibling.value)
        style = "" if sibling.shown or not found.present else "dim"
        fate = _fate(found, sibling.shown)
        grid.add_row(
            output.cell(sibling.dot),
            output.cell(utc_text(hlc.ms_of(sibling.timestamp)) if sibling.timestamp else "–"),
            Text(value, style=style),
            output.cell(fate, style),
        )
    output.say("")
    output.console().print(grid)


def _fate(found: KeyRead, shown: bool) -> str:
    if not found.present:
        return ""
    if not shown:
        return "lost"
    return "shown" if sum(sibling.shown for sibling in found.siblings) == 1 else "part of the value"
