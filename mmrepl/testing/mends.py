"""
What goes wrong with merge functions, in the order in which people go wrong, and what usually mends it.

The order counts: of several faults, the first in this list is told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mmrepl.testing.refuted import Fault

MENDS: Final[dict[str, str]] = {
    "hangs": "look for a loop that does not end for these values, or for something that it waits for.",
    "raises": "let it answer for every value that can be written. If it is not made for such values, say which it is"
    " made for: values=st.lists(st.text()), or a list of examples.",
    "not a value": "answer with None, bool, int, float, str, bytes, list, or dict with str keys: a set becomes a sorted"
    " list, a tuple a list.",
    "mutates": "leave what you are given as it is and build something new: sorted(values) in place of values.sort(),"
    " [*a, *b] in place of a.extend(b), {**a, **b} in place of a.update(b).",
    "clock": "take no time from the clock. If times matter, write them into the value, or use"
    " Callback(..., with_siblings=True) and the siblings' timestamps.",
    "dice": "choose by something in the values: min, max, or the first in canonical order.",
    "locale": "compare text as it is (str sorts by code point everywhere), or with str.casefold.",
    "outside": "decide by the values alone; read configuration once, when the resolver is made, alike on all nodes.",
    "two answers": "look for something that changes between two calls: a counter, a cache, an iterator used up.",
    "order of arrival": "define `decide` and leave `resolve` as it is: that one sorts the siblings.",
    "hash order": "sort what comes out of a set before its order can matter: sorted(items), or"
    " list(dict.fromkeys(items)) to keep the first order.",
    "memory": "keep nothing between calls: no list of the module, no cache that shows in the answer, no attribute.",
    "other process": "look for what differs between processes: the order of a set, hash(), id(), the locale, the time"
    " zone, an environment variable.",
    "replicas differ": "look for what differs between two calls with the same siblings.",
    "invariant": "look at how the function treats these writes; if the invariant does not hold for what was overwritten"
    " or deleted on purpose, weaken it.",
    "grows": "make merging a value with itself give that value: drop duplicates, take the maximum in place of the sum,"
    " keep counts per writer.",
    "never rests": "make merging a value with itself give that value: merge([x, x]) == x.",
    "not idempotent": "make merging a value with itself give that value: drop duplicates, take the maximum in place of"
    " the sum.",
    "not commutative": "let no argument come first: sort, or take the maximum of what tells all values apart.",
    "not associative": "keep enough in the merged value to go on merging (a set of parts, not their average), and add"
    " floats in no order that can differ: use math.fsum over the parts, or integers.",
}
KINDS: Final = tuple(MENDS)


def fault(
    kind: str,
    sentence: str,
    *,
    answers: tuple[tuple[str, bytes | None], ...] = (),
    given: tuple[str, ...] = (),
    remark: str = "",
) -> Fault:
    """A fault with the mend of its kind."""
    return Fault(kind=kind, sentence=sentence, mend=MENDS[kind], answers=answers, given=given, remark=remark)


class Found(Exception):
    """A fault was found. Each kind is a class of its own, so that a shrinker keeps them apart."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.sentence)
        self.fault = fault
        self.told: Callable[[], str] = str  # gives the diagram of the play in which it was found


_FOUND: Final[dict[str, type[Found]]] = {kind: type(f"Found_{kind.replace(' ', '_')}", (Found,), {}) for kind in KINDS}


def found(
    kind: str,
    sentence: str,
    *,
    answers: tuple[tuple[str, bytes | None], ...] = (),
    given: tuple[str, ...] = (),
    remark: str = "",
) -> Found:
    """The exception for a fault."""
    return _FOUND[kind](fault(kind, sentence, answers=answers, given=given, remark=remark))
