"""
Linearizability: could one copy of the store, serving one call at a time, have answered like this?

A history is a set of `Call`s, each with the moment at which it was made and the moment at which it was answered. It is
linearizable when every call can be given one instant between the two, so that each read shows what the latest write
before it wrote (Herlihy & Wing, 1990). A call whose fate nobody knows may take its instant at any time after it was
made, or never.

The search is that of Wing & Gong (1993) with the memory of Lowe (2017): take any call that no answer precedes, see
whether the store could have done it now, go on from there, take it back when stuck; a set of calls done that left the
same value is looked at once. Keys are judged one by one, for linearizability is a local property. The search may take
time and memory exponential in the number of calls that overlap on one key; it is bounded by *states_max*.

What is found is told by the shortest beginning of the key's calls that no order explains: whatever came later has
nothing to do with it, for the beginnings of a linearizable history are linearizable.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from attrs import evolve, field, frozen, validators

from mmrepl.errors import UsageError
from mmrepl.resolvers.sibling import value_text
from mmrepl.sim.history import Place
from mmrepl.sim.rules import Violation, place_text

STATES_MAX = 1_000_000
"""How many states of one key are looked at before the search is given up."""


@frozen
class Call:
    """
    One call of a client, as the client saw it.

    Moments are integers of any unit that rise with time; calls whose spans touch are taken to overlap. *payload* is
    the encoded value that was written or shown; None: a deletion, or no value. A read that failed says nothing, and
    has no place in a history.
    """

    client: str
    place: Place
    is_write: bool
    payload: bytes | None
    called: int
    answered: int | None = field(validator=validators.optional(validators.instance_of(int)))  # None: fate unknown
    node: str = ""  # who answered, for people

    def __str__(self) -> str:
        value = value_text(self.payload, "nothing")
        did = ("deletes" if self.payload is None else f"writes {value}") if self.is_write else f"reads {value}"
        where = f" at {self.node}" if self.node else ""
        until = "?" if self.answered is None else self.answered
        return f"{self.client} {did}{where} [{self.called}..{until}]"


class Undecided(UsageError):
    """The search of a key was given up: too many calls overlap. Judge a shorter history, or raise *states_max*."""


def linearizability(
    calls: Iterable[Call],
    *,
    initial: Mapping[Place, bytes | None] | None = None,
    states_max: int = STATES_MAX,
) -> list[Violation]:
    """
    A violation for each key whose calls no single copy of the store could have answered; empty when there is none.

    *initial* holds what keys showed before the first call; nothing, where they are not named.

    Raises:
        UsageError: a call was answered before it was made.
        Undecided: more than *states_max* states of one key.
    """
    by_place: dict[Place, list[Call]] = {}
    for call in calls:
        if call.answered is not None and call.answered < call.called:
            raise UsageError(f"{call}: answered before it was made")
        if call.is_write or call.answered is not None:
            by_place.setdefault(call.place, []).append(call)
    found = []
    for place, of_key in sorted(by_place.items()):
        first = None if initial is None else initial.get(place)
        if _order(of_key, first, states_max) is None:
            found.append(_violation(place, _shortest(of_key, first, states_max), first))
    return found


def linear_order(
    calls: Iterable[Call], *, initial: bytes | None = None, states_max: int = STATES_MAX
) -> list[Call] | None:
    """
    The calls of one key in an order that explains them, those of unknown fate only where they are needed; None when
    there is no such order. Raises Undecided.
    """
    return _order(list(calls), initial, states_max)


# -- the search


class _Node:
    """A call or its answer, in a list of all of them by time, from which it can be lifted and to which it returns."""

    __slots__ = ("answer", "index", "next", "previous")

    def __init__(self, index: int, previous: _Node | None) -> None:
        self.index = index
        self.answer: _Node | None = None  # of a call; None in an answer
        self.previous = previous
        self.next: _Node | None = None
        if previous is not None:
            previous.next = self

    def lift(self) -> None:
        """Take the call and its answer out of the list."""
        assert self.answer is not None
        self._unlink()
        self.answer._unlink()

    def put_back(self) -> None:
        """Undo the latest `lift` that was not undone."""
        assert self.answer is not None
        self.answer._link()
        self._link()

    def _unlink(self) -> None:
        assert self.previous is not None
        self.previous.next = self.next
        if self.next is not None:
            self.next.previous = self.previous

    def _link(self) -> None:
        assert self.previous is not None
        self.previous.next = self
        if self.next is not None:
            self.next.previous = self


def _timeline(calls: list[Call]) -> _Node:
    """The head of the list. Of one moment, calls stand before answers; answers of unknown time stand last."""
    moments = []
    for index, call in enumerate(calls):
        moments.append((0, call.called, 0, index))
        moments.append((1, 0, 1, index) if call.answered is None else (0, call.answered, 1, index))
    head = last = _Node(-1, None)
    made: dict[int, _Node] = {}
    for _, _, is_answer, index in sorted(moments):
        last = _Node(index, last)
        if is_answer:
            made[index].answer = last
        else:
            made[index] = last
    return head


def _order(calls: list[Call], initial: bytes | None, states_max: int) -> list[Call] | None:
    head = _timeline(calls)
    state, done = initial, 0
    seen: set[tuple[int, bytes | None]] = set()
    taken: list[tuple[_Node, bytes | None]] = []  # calls in their order, each with the value before it
    to_answer = sum(call.answered is not None for call in calls)
    node = head.next
    while to_answer:
        assert node is not None, "an answer stands behind every call that is left"
        if node.answer is not None:
            call = calls[node.index]
            after = call.payload if call.is_write else state
            reached = (done | 1 << node.index, after)
            if (call.is_write or call.payload == state) and reached not in seen:
                if len(seen) >= states_max:
                    raise Undecided(f"{place_text(call.place)}: no verdict after {states_max} states (states_max)")
                seen.add(reached)
                taken.append((node, state))
                done, state = reached
                to_answer -= call.answered is not None
                node.lift()
                node = head.next
            else:
                node = node.next
        elif taken:  # this one was answered here, and no instant for it was found: the latest choice was wrong
            node, state = taken.pop()
            done ^= 1 << node.index
            to_answer += calls[node.index].answered is not None
            node.put_back()
            node = node.next
        else:
            return None
    return [calls[node.index] for node, _ in taken]


# -- telling what was found


def _shortest(calls: list[Call], initial: bytes | None, states_max: int) -> list[Call]:
    """The shortest beginning of *calls*, cut after an answer, that has no order."""
    answers = sorted({call.answered for call in calls if call.answered is not None})
    low, high = 0, len(answers) - 1
    while low < high:
        middle = (low + high) // 2
        if _order(list(_until(calls, answers[middle])), initial, states_max) is None:
            high = middle
        else:
            low = middle + 1
    return list(_until(calls, answers[low]))


def _until(calls: Iterable[Call], moment: int) -> Iterator[Call]:
    for call in calls:
        if call.answered is not None and call.answered <= moment:
            yield call
        elif call.is_write and call.called <= moment:
            yield evolve(call, answered=None)


def _violation(place: Place, calls: list[Call], initial: bytes | None) -> Violation:
    answered = [call for call in calls if call.answered is not None]
    last = max(answered, key=lambda call: (call.answered or 0, call.called))
    near = sorted(
        (call for call in calls if call is not last and (call.answered is None or call.answered >= last.called)),
        key=lambda call: call.called,
    )
    before = [call for call in answered if call.is_write and call is not last and call not in near]
    newest = max(before, key=lambda call: call.answered or 0, default=None)
    since = newest if newest is not None else value_text(initial, "nothing")
    told = "; ".join(str(call) for call in near[:8]) or "nothing"
    text = (
        f"{place_text(place)}: no order of {len(calls)} calls explains that {last}: the latest write answered before it"
        f" is {since}, and beside it there is {told}"
    )
    return Violation("linearizability", text, last.answered or 0, last.node, place)
