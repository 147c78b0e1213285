"""
A consumer that follows the changes, dies, comes back, moves to another node, and misses nothing.

An index of words is kept up to date from the feed of a node. What it has taken in is one small token, saved with the
index: a version vector, valid at every node. The consumer is killed in the middle and begins again from what it saved;
then its node is closed, and it goes on at the other one from the same token. Beside it, the word index is built anew
from the keys at the end: both are the same.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections import defaultdict
from itertools import islice
from pathlib import Path

import mmrepl

LINES = [
    "the owl and the pussycat went to sea", "in a beautiful pea green boat", "they took some honey and plenty of money",
    "wrapped up in a five pound note", "the owl looked up to the stars above", "and sang to a small guitar",
]  # fmt: skip


class Index:
    """Which keys hold a word, and up to where the changes have been taken in: one file, replaced whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.words: dict[str, set[str]] = defaultdict(set)
        self.token: mmrepl.VersionVector | None = None
        if path.exists():
            saved = json.loads(path.read_text())
            self.words.update({word: set(keys) for word, keys in saved["words"].items()})
            self.token = mmrepl.VersionVector(
                {mmrepl.NodeId.parse(origin): counter for origin, counter in saved["token"].items()}
            )

    def take_in(self, key: str, text: object) -> None:
        """The key holds *text* from now on; None: nothing."""
        for keys in self.words.values():
            keys.discard(key)
        for word in str(text or "").split():
            self.words[word].add(key)

    def save(self) -> None:
        """The words and the token together, so that they always belong to each other."""
        content = {
            "words": {word: sorted(keys) for word, keys in sorted(self.words.items()) if keys},
            "token": {str(origin): counter for origin, counter in (self.token or {}).items()},
        }
        draft = self._path.with_suffix(".draft")
        draft.write_text(json.dumps(content))
        draft.replace(self._path)

    def content(self) -> dict[str, list[str]]:
        """For comparing."""
        return {word: sorted(keys) for word, keys in sorted(self.words.items()) if keys}


def follow(node: mmrepl.BlockingNode, path: Path, *, dies_after: int | None = None, save_every: int = 3) -> int:
    """Take in what *node* tells, until it has nothing more to tell; how many changes that were."""
    index, count = Index(path), 0
    feed = node.changes(index.token, timeout=0.2)
    for change in islice(feed, dies_after):
        # The change says that something was written; what the key shows is the resolver's business: ask.
        index.take_in(change.key, node.get(change.key))
        index.token, count = change.token, count + 1
        if count % save_every == 0:
            index.save()
    if dies_after is None:
        index.save()
    return count


def main(folder: Path) -> None:
    path = folder / "index.json"
    with mmrepl.BlockingNode("paris") as paris:
        with mmrepl.BlockingNode("tokyo", peers=[paris.address]) as tokyo:
            tokyo.wait_connected("paris")
            paris.wait_connected("tokyo")

            writers = [
                threading.Thread(target=lambda node=node, first=first: write(node, first))
                for node, first in ((paris, 0), (tokyo, 1))
            ]
            for writer in writers:
                writer.start()
            for writer in writers:
                writer.join()
            paris.put("last", "and hand in hand on the edge of the sand", acks=2)

            count = follow(tokyo, path, dies_after=7)
            print(f"at tokyo: took in {count} changes and died; the last {count % 3} were not saved")
            print(f"  saved: {len(Index(path).content())} words, and the token {Index(path).token}")
            count = follow(tokyo, path)
            print(f"at tokyo: came back, took in {count} changes, no more to come")
            tokyo.put("late", "they danced by the light of the moon", acks=2)
            del tokyo["line-0"]
            tokyo.put("fence", "for the moon", acks=2)
            print("tokyo writes three times more, and is gone; the index goes on at paris, with the same token")

        count = follow(paris, path)
        print(f"at paris: took in {count} changes")

        anew = Index(folder / "anew.json")
        for key in paris:
            anew.take_in(key, paris[key])
        assert Index(path).content() == anew.content(), "the index has missed something"
        moon = Index(path).content()["moon"]
        print(f"\n{len(anew.content())} words; the index built anew from {len(paris)} keys is the same; moon: {moon}")


def write(node: mmrepl.BlockingNode, first: int) -> None:
    """Every second line of the poem."""
    for number in range(first, len(LINES), 2):
        node[f"line-{number}"] = LINES[number]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        main(Path(scratch))
