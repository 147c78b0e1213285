"""The command table, complete: importing this module has imported every group."""

from __future__ import annotations

from mmrepl.runtime.resp import administration, causal, connection, introspection, keys, moving, single_writer, strings
from mmrepl.runtime.resp.commands import COMMANDS, CommandSpec
from mmrepl.runtime.resp.refused import REFUSED
from mmrepl.runtime.resp.session import Entry, Lookup

_GROUPS = (strings, keys, causal, administration, moving, single_writer, connection, introspection)


def _entries(specs: list[CommandSpec]) -> dict[bytes, Entry]:
    entries: dict[bytes, Entry] = {}
    for spec in specs:
        entry = (spec.run, spec.least, spec.most)
        entries[spec.name.encode()] = entries[spec.name.lower().encode()] = entry
    return entries


LOOKUP = Lookup(
    everybody=_entries(list(COMMANDS.values())),
    strangers=_entries([spec for spec in COMMANDS.values() if "no_auth" in spec.flags]),
    writing=frozenset(spec.name for spec in COMMANDS.values() if "write" in spec.flags),
    refused=REFUSED,
)


def reference() -> str:
    """The command table as Markdown, for the reference page: a section a group, a row a command, by name."""
    lines: list[str] = []
    for group in sorted({spec.group for spec in COMMANDS.values()}):
        lines += [f"### {group.capitalize()}", "", "| Command | Meaning |", "|---|---|"]
        for spec in sorted(COMMANDS.values(), key=lambda spec: spec.name):
            if spec.group == group:
                syntax = f"{spec.name} {spec.syntax}".rstrip().replace("|", "\\|")
                lines.append(f"| `{syntax}` | {spec.summary} |")
        lines.append("")
    return "\n".join(lines)
