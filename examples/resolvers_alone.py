"""
The resolvers with nothing else of mmrepl: no replica, no network, no event loop.

An application that keeps its records itself, here in an SQLite table of its own, and gets concurrent versions from
somewhere, makes siblings of them and asks a resolver. What it has to know of a version is who wrote it, the how-manieth
write of theirs it was, and when.
"""

from __future__ import annotations

import sqlite3
import sys
from typing import Any

from mmrepl.errors import ResolverError
from mmrepl.resolvers import Callback, KeepSiblings, LastWriterWins, Resolution, Resolver, Sibling

VERSIONS = [
    # field, device, the how-manieth write of the device, seconds, value (None: cleared)
    ("phone", "office", 7, 1_700_000_300, "555-0100"),
    ("phone", "mobile", 3, 1_700_000_100, "555-0199"),
    ("tags", "office", 8, 1_700_000_310, "customer,berlin"),
    ("tags", "mobile", 4, 1_700_000_120, "customer,friend"),
    ("note", "office", 9, 1_700_000_320, None),
    ("note", "mobile", 5, 1_700_000_130, "call back on Monday"),
]


def all_tags(values: list[str]) -> str:
    """Every tag that is in any of the values."""
    return ",".join(sorted({tag for value in values for tag in value.split(",")}))


class TrustTheOffice(Resolver):
    """A policy of our own: what the office wrote counts, if it wrote anything."""

    def decide(self, siblings: tuple[Sibling, ...]) -> Resolution:
        values = [sibling for sibling in siblings if not sibling.is_tombstone]
        office = [sibling for sibling in values if sibling.dot.origin.name == "office"]
        return Resolution.select((office or values)[-1], siblings)


def siblings_of(database: sqlite3.Connection, field: str) -> list[Sibling]:
    """The versions of a field, as siblings. The stamp is any integer: milliseconds do."""
    rows = database.execute("SELECT device, number, seconds, value FROM version WHERE field = ?", (field,))
    return [
        Sibling.tombstone(timestamp=seconds * 1000, origin=device, counter=number)
        if value is None
        else Sibling.of(value, timestamp=seconds * 1000, origin=device, counter=number)
        for device, number, seconds, value in rows
    ]


def main() -> None:
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE version (field TEXT, device TEXT, number INTEGER, seconds INTEGER, value TEXT)")
    database.executemany("INSERT INTO version VALUES (?, ?, ?, ?, ?)", VERSIONS)

    for field in ("phone", "tags", "note"):
        siblings = siblings_of(database, field)
        print(f"{field}:")
        for sibling in siblings:
            print(f"    {sibling}")
        for resolver in (LastWriterWins(), KeepSiblings(), Callback(all_tags), TrustTheOffice()):
            answer = resolver.resolve(siblings)
            assert answer == resolver.resolve(reversed(siblings)), "the order of arrival must not matter"
            print(f"  {resolver.policy:26} {answer.value!r}" if answer.present else f"  {resolver.policy:26} absent")
            for sentence in answer.explain():
                print(f"  {'':26} {sentence}")
    database.close()

    answers = iter(range(10))

    def unsteady(_values: list[Any]) -> int:
        return next(answers)

    try:
        Callback(unsteady, name="unsteady").resolve(
            [Sibling.of(1, timestamp=1, origin="a"), Sibling.of(2, timestamp=2, origin="b")]
        )
    except ResolverError as error:
        print(f"\nA function that answers differently each time is found out:\n  {error}")

    loaded = {name for name in sys.modules if name.split(".")[0] == "mmrepl"}
    assert "asyncio" not in sys.modules
    assert not any("runtime" in name or "storage" in name for name in loaded)
    print(f"\nFor this {len(loaded)} modules of mmrepl were loaded, no event loop and no store among them.")


if __name__ == "__main__":
    main()
