"""Commands about a store's file: verify and backup."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mmrepl.cli import output
from mmrepl.cli.exits import Exit
from mmrepl.cli.options import ANSWER, REACH, Answer, Flag, Reach
from mmrepl.cli.remote import Remote
from mmrepl.errors import StorageError, StoreLocked

StorePath = Annotated[Path, Parameter(help="The file of the store.")]


def verify(
    path: StorePath,
    /,
    *,
    quick: Annotated[Flag, Parameter(help="Only look at each row; do not load the whole to see whether it opens.")] = (
        False
    ),
    answer: Answer = ANSWER,
) -> Exit:
    """
    Look for damage in a store that is not in use, and say where it is. Changes nothing.

    Reads the whole file, checks every row, and loads it into memory as a node would. Ends with 4 when it finds
    damage. A store of a running node is refused: verify a backup of it.
    """
    from mmrepl.cli.file_log import examine

    report, found = examine(path, thorough=not quick)
    if answer.json:
        output.document(
            {
                "path": report.path,
                "sound": report.sound,
                "damage": [{"table": d.table, "row": d.key, "what": d.what} for d in report.damage],
                "doubt": report.doubt,
                "node": None if found.node is None else str(found.node),
                "rows": report.counts,
                "bytes": report.body_bytes,
                "operations": found.operation_count,
                "keys": found.key_count,
                "mode": "single-master" if found.entry_count else "multi-master",
                "entries": found.entry_count,
                "version": {str(origin): counter for origin, counter in found.version.items()},
            }
        )
        return Exit.OK if report.sound else Exit.STORAGE
    for damage in report.damage:
        output.say(f"damaged  {output.safe(str(damage))}")
    rows = ", ".join(f"{count} {table}" for table, count in report.counts.items())
    whose = "" if found.node is None else f" of {output.safe(str(found.node))}"
    keys = "" if found.key_count is None else f", {found.key_count} keys"
    verdict = "sound" if report.sound else f"{len(report.damage)} places are damaged"
    held = f"{found.operation_count} operations"
    if found.entry_count:
        log = found.entries
        held = f"{found.entry_count} entries of a single-master log"
        held += "" if log is None else f", in term {log.term}, the last one {log.last}"
    output.say(f"{output.safe(report.path)}{whose}: {verdict}; {rows}, {held}{keys}")
    if found.entries is not None and found.entries.branches:
        output.say(f"branches that are kept: {found.entries.branches}; see `mmrepl branches` when the node runs")
    if report.doubt is not None:
        output.say(f"opened here, the node would take a new incarnation: {output.safe(report.doubt)}")
    return Exit.OK if report.sound else Exit.STORAGE


def backup(
    target: Annotated[
        Path, Parameter(help="The file to write; an older backup there is replaced. Of a running node: its name alone.")
    ],
    /,
    *,
    path: Annotated[
        Path | None, Parameter(help="The file of a store that is not in use; without it, the node is asked.")
    ] = None,
    reach: Reach = REACH,
    answer: Answer = ANSWER,
) -> None:
    """
    Copy a store, while it runs or while it does not, into a file which knows that it is a copy.

    A running node writes the copy itself, beside its own file. To restore one, stop the node and put the copy in the
    place of its file: the node comes back as a new incarnation, and learns from its peers what happened since. Do not
    copy a store with `cp`.
    """
    if path is None:
        with Remote(reach) as remote:
            written = remote.backup(str(target))
    else:
        written = _copy(path, target)
    if answer.json:
        output.document({"target": written})
    else:
        output.say(f"a backup stands in {written}")


def _copy(path: Path, target: Path) -> str:
    """Without a node. Raises StorageError, UsageError."""
    from mmrepl.storage.sqlite import SqliteStorage

    if not path.is_file() or not path.stat().st_size:  # else opening it would make one
        raise StorageError(f"cannot back up {path}: there is no store in it")
    storage = SqliteStorage(path)
    try:
        storage.load()
        storage.backup(str(target))
    except StoreLocked:
        raise StoreLocked(f"{path} is in use: ask its node for a backup, without --path") from None
    finally:
        storage.close()
    return str(target.resolve())
