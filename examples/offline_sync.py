"""
Replicas that exchange files: a stick in a pocket is a network too.

A ship and its harbour never have a connection. Whoever travels between them carries files: a delta, and a note of
what its writer has seen, so that the other side knows what to put into the next one. Files come late, twice, in the
wrong order, or not at all; replicas are closed and opened in between. In the end both have the same.
"""

# run: {scratch}

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import mmrepl
from mmrepl.errors import DeltaGap
from mmrepl.resolvers import KeepSiblings


def version_to_text(version: mmrepl.VersionVector) -> str:
    """A version as a line of JSON: origin to counter."""
    return json.dumps({str(origin): counter for origin, counter in version.items()})


def version_from_text(text: str) -> mmrepl.VersionVector:
    """The inverse."""
    return mmrepl.VersionVector({mmrepl.NodeId.parse(origin): counter for origin, counter in json.loads(text).items()})


class Place:
    """A replica in a file, and a drawer with the notes that came from elsewhere."""

    def __init__(self, folder: Path, name: str) -> None:
        self._note = folder / f"{name}-heard.json"
        self._name = name
        self._path = folder / f"{name}.db"

    def open(self) -> mmrepl.Replica:
        """The replica; it is closed when nobody works there."""
        return mmrepl.Replica(self._name, self._path, default=KeepSiblings())

    def write(self, key: str, value: str) -> None:
        """Somebody writes an entry."""
        with self.open() as replica:
            replica[key] = value

    def pack(self, stick: Path, number: int, *, whole: bool = False) -> Path:
        """Write a file with what the other side was last known to lack, or everything, and a note of what we have."""
        since = version_from_text(self._note.read_text()) if self._note.exists() and not whole else None
        with self.open() as replica:
            path = stick / f"{self._name}-{number}.delta"
            path.write_bytes(replica.delta(since=since))
            path.with_suffix(".note").write_text(version_to_text(replica.version))
        print(f"  {self._name:8} packs {path.name}, {path.stat().st_size} bytes")
        return path

    def unpack(self, path: Path) -> None:
        """Take a file in. Whatever is wrong with it changes nothing here."""
        with self.open() as replica:
            try:
                merged = replica.merge(path.read_bytes())
            except DeltaGap as gap:
                print(f"  {self._name:8} cannot use {path.name} yet: {gap}")
                return
        print(f"  {self._name:8} takes {path.name}: {merged.fresh} new, {merged.known} known")
        self._note.write_text(path.with_suffix(".note").read_text())


def main(folder: Path) -> None:
    stick = folder / "stick"
    stick.mkdir()
    ship, harbour = Place(folder, "ship"), Place(folder, "harbour")

    print("At sea and ashore, both write.")
    ship.write("log", "all well")
    harbour.write("log", "ship has sailed")
    harbour.write("weather", "fair")
    first = harbour.pack(stick, 1)
    ship.unpack(first)

    print("The ship answers. Until it answers again, each file of the harbour holds what the one before it held.")
    answer = ship.pack(stick, 1)
    harbour.unpack(answer)
    harbour.write("weather", "storm from the west")
    second = harbour.pack(stick, 2)
    harbour.write("cargo", "tea")
    third = harbour.pack(stick, 3)

    print("Files arrive in the wrong order, and one of them twice.")
    ship.unpack(third)
    ship.unpack(second)
    ship.unpack(third)

    print("A new ship comes, for which the old files are of no use; the harbour packs everything for it.")
    newcomer = Place(folder, "newcomer")
    newcomer.unpack(third)
    newcomer.unpack(harbour.pack(stick, 4, whole=True))

    harbour.unpack(ship.pack(stick, 2))
    print("\nIn the end:")
    shown = {}
    for place in (ship, harbour, newcomer):
        with place.open() as replica:
            shown[replica.node.partition("~")[0]] = dict(replica)
    for name, content in shown.items():
        print(f"  {name:8} {content}")
    assert shown["ship"] == shown["harbour"] == shown["newcomer"]
    assert len(shown["ship"]["log"]) == 2, "both have written the log: both entries are there"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            main(Path(scratch))
