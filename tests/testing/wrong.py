"""Merge functions that are wrong, one fault each, and some that are right. Another process imports this file."""

from __future__ import annotations

import datetime as dt
import functools
import locale
import logging
import os
import random
import threading
import time
import uuid

from attrs import frozen

from mmrepl.resolvers import Callback, KeepSiblings, LastWriterWins, Resolution, Resolver

Carts = list[list[str]]

# -- wrong, for check_resolver


def set_order(carts: Carts):
    return list(set().union(*carts))


def set_display(carts: Carts):
    return [item + "" for item in {item for cart in carts for item in cart}]


def any_of_a_set(carts: Carts):
    return {"".join(cart) for cart in carts}.pop()


def by_hash(carts: Carts):
    return max(carts, key=lambda cart: hash(tuple(cart)))


def stamps(carts: Carts):
    return [int(time.time() // 86400)]


def dates(carts: Carts):
    return dt.datetime.now().isoformat()  # noqa: DTZ005


def rolls(carts: Carts):
    return random.choice(carts)


def rolls_its_own_unseeded_dice(carts: Carts):
    return random.Random().random()


def names_anew(carts: Carts):
    return str(uuid.uuid4())


def asks_the_system(carts: Carts):
    return os.urandom(2)


def sorts_as_spoken(carts: Carts):
    return sorted({item for cart in carts for item in cart}, key=lambda item: locale.strxfrm(item.replace("\0", "")))


def reads_settings(carts: Carts):
    return os.environ.get("SHOP", "")


def knows_its_process(carts: Carts):
    return os.getpid()


def local_time(carts: Carts):
    return dt.datetime.fromtimestamp(len(carts)).isoformat()  # noqa: DTZ006


def mutates_list(carts: Carts):
    carts.sort()
    return carts[-1]


def mutates_value(carts: Carts):
    carts[0].extend(carts[1])
    return carts[0]


def returns_set(carts: Carts):
    return set().union(*carts)


def returns_tuple(carts: Carts):
    return tuple(carts[0])


def returns_nothing_storable(carts: Carts):
    return {1: carts}


def fails_on_empty(carts: Carts):
    return max(max(cart) for cart in carts)


def hangs(carts: Carts):
    while True:
        pass


def sleeps(carts: Carts):
    threading.Event().wait(1000)


calls = 0


def counts_calls(carts: Carts):
    global calls  # noqa: PLW0603
    calls += 1
    return calls


seen: set[str] = set()


def remembers(carts: Carts):
    seen.update(item for cart in carts for item in cart)
    return sorted(seen)


def concatenates(carts: Carts):
    return [item for cart in carts for item in cart]


def sums(counts: list[int]):
    return sum(counts) & (2**62 - 1)


def sums_floats(amounts: list[float]):
    return sum(amounts)


def wraps_each_time(values: list[str]):
    return "(" + ",".join(values) + ")"


def drops_one(carts: Carts):
    return sorted(set().union(*carts[:-1]))


async def waits(carts: Carts):
    return carts[0]


@frozen
class ByArrival(Resolver):
    """Overrides what sorts."""

    def decide(self, siblings):
        return Resolution.select(siblings[0], siblings)

    def resolve(self, siblings):
        found = tuple(siblings)
        return Resolution.select(found[0], found)


class Remembering(Resolver):
    """State in an attribute."""

    def __init__(self) -> None:
        self.longest = b""

    def decide(self, siblings):
        payloads = [sibling.payload for sibling in siblings if sibling.payload is not None]
        self.longest = max([self.longest, *payloads], key=len)
        return Resolution.merge_payload(self.longest, siblings)


# -- right, for check_resolver


def union(carts: Carts) -> list[str]:
    return sorted(set().union(*carts))


def union_in_order(carts: Carts):
    return list(dict.fromkeys(item for cart in carts for item in cart))


def maximum(values: list[int]):
    return max(values)


def logs(carts: Carts):
    import json

    logging.getLogger(__name__).info("merging %s", json.dumps(carts))
    return union(carts)


def rolls_seeded_dice(carts: Carts):
    return random.Random(7).choice(sorted(carts))


def keeps_a_hundred(carts: Carts):
    return [item for cart in carts for item in cart][-100:]


@functools.cache
def _expensive(items: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted(items))


def caches(carts: Carts):
    return list(_expensive(frozenset().union(*carts)))


def latest(siblings):
    return max(siblings, key=lambda sibling: sibling.rank).value


@frozen
class Longest(Resolver):
    """The longest payload, or one with a parameter."""

    least: int = 0

    @property
    def policy(self) -> str:
        return f"longest {self.least}"

    def decide(self, siblings):
        values = [sibling for sibling in siblings if not sibling.is_tombstone]
        return Resolution.select(max(values, key=lambda one: (len(one.payload), one.payload, one.rank)), siblings)


a_resolver = Callback(union, name="carts")

RIGHT = [
    union,
    union_in_order,
    maximum,
    logs,
    rolls_seeded_dice,
    keeps_a_hundred,
    caches,
    a_resolver,
    Longest(),
    Longest(least=3),
    LastWriterWins(),
    KeepSiblings(),
    Callback(latest, with_siblings=True),
    Callback(union, name="second version"),
]

# -- for check_merge


def merge_union(a, b):
    return sorted({*a, *b})


def merge_concatenation(a, b):
    return a + b


def merge_left(a, b):
    return a


def merge_mean(a, b):
    return (a + b) / 2


def merge_sum(a, b):
    return a + b


def merge_dicts(a, b):
    return {**a, **b}


def merge_dicts_by_key(a, b):
    return {key: max(found[key] for found in (a, b) if key in found) for key in sorted({*a, *b})}


def merge_set_order(a, b):
    return list({*a, *b})


def merge_in_place(a, b):
    a.update(b)
    return a


def merge_with_clock(a, b):
    return max(a, b) + 0 * time.time_ns()


def merge_sets(a, b):
    return {*a, *b}
