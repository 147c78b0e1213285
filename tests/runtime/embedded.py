"""What the tests of embedded replicas have in common."""

from __future__ import annotations

from typing import Any

from mmrepl.resolvers import Callback, KeepSiblings
from mmrepl.runtime.replica import Replica


class FakeClock:
    """A wall clock that is set by hand."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self.now_ms = now_ms

    def wall_ms(self) -> int:
        return self.now_ms

    def monotonic_ms(self) -> int:
        return self.now_ms


def exchange(*replicas: Replica) -> None:
    """Everybody is given everything."""
    for source in replicas:
        for target in replicas:
            if source is not target:
                target.merge(source.delta(since=target.version))


def siblings_of(paris: Replica, tokyo: Replica, key: str, ours: Any, theirs: Any, table: str = "") -> None:
    """Two concurrent values of one key, at both."""
    paris.table(table)[key] = ours
    tokyo.table(table)[key] = theirs
    exchange(paris, tokyo)


def merge_carts(carts: list[list[str]]) -> list[str]:
    return sorted(set().union(*carts))


def concatenate(values: list[Any]) -> Any:
    return values[0] + values[1]  # a str and an int do not add up


TABLES = {"carts": Callback(merge_carts), "drafts": KeepSiblings(), "odd": Callback(concatenate)}
