"""
What multi-master nodes compare beyond the hello of `mmrepl.wire.greeting`: the policies of their tables.
"""

from __future__ import annotations

from mmrepl.wire.messages import Hello


def policy_differences(ours: Hello, theirs: Hello) -> list[str]:
    """Tables whose policies do not agree: what they show differs for ever. A sentence each; default under ''."""
    found = []
    for table in sorted(ours.policies.keys() | theirs.policies.keys()):
        here = ours.policies.get(table, ours.policies.get("", ""))
        there = theirs.policies.get(table, theirs.policies.get("", ""))
        if here != there:
            found.append(f"table {table!r} is {here} at {ours.name!r} and {there} at {theirs.name!r}")
    return found
