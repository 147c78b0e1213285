"""A process that commits without end and says which commits were acknowledged. Run by test_crash.py, which kills it."""

import sys

from mmrepl.ports import Commit, Durability
from mmrepl.storage import SqliteStorage


def body(position: int) -> bytes:
    """Of different sizes, some of several pages; recognizable."""
    return b"%d " % position * (position % 50 * (40 if position % 7 == 0 else 1))


def main(path: str, levels: list[str]) -> None:
    storage = SqliteStorage(path)
    loaded = storage.load()
    position = max([-1, *dict(loaded.batches())]) + 1
    print("doubt", loaded.doubt, flush=True)
    while True:
        level = Durability.parse(levels[position % len(levels)])
        meta = {"end": b"%d" % position} if position % 5 == 0 else {}
        storage.commit(Commit(batches={position: body(position)}, meta=meta), level)
        print(position, flush=True)
        position += 1


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
