"""
`check_merge`: the three laws of merging, for a plain function of two values that is used outside mmrepl.

There, merged values are merged again, in whatever groups and order messages bring about. All replicas end up alike if
the function is idempotent, commutative and associative (a *join-semilattice*; Shapiro et al., 2011), and not otherwise.
A resolver of mmrepl needs none of this: it is always handed the whole set of siblings.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hypothesis import strategies as st

from mmrepl.errors import UsageError
from mmrepl.resolvers import Callback, Sibling
from mmrepl.testing.diagram import Event, Message, Note, diagram, shortened
from mmrepl.testing.history import NAMES, literal
from mmrepl.testing.mends import Found, found
from mmrepl.testing.refuted import Checked, MergeRefuted
from mmrepl.testing.regression import merge_test
from mmrepl.testing.search import smallest_failure
from mmrepl.testing.seeds import default_seed
from mmrepl.testing.strategies import values_for
from mmrepl.testing.subject import Subject, alike, name_of
from mmrepl.testing.worker import StopImport, inside
from mmrepl.values import decode, encode

T = TypeVar("T")


def check_merge(
    function: Callable[[T, T], T],
    values: st.SearchStrategy[T] | Sequence[T] | type | None = None,
    *,
    max_examples: int = 200,
    seconds: float = 5.0,
    seed: int | None = None,
) -> Checked:
    """
    Try to refute that *function* is a merge: idempotent, commutative and associative, byte by byte.

    *values*, *max_examples*, *seconds* and *seed* are as for `check_resolver`. Before the laws come the manners: it
    answers, in time, with a value that can be stored, changes nothing that it is given, touches no clock or dice, and
    does not depend on the order of a set. What it gives is compared as the bytes that mmrepl would store.

    Raises:
        MergeRefuted: it breaks a law; the message shows the smallest values that do.
        UsageError: it cannot be called with two values, or *values* gives nothing that can be stored.
    """
    if inside():
        raise StopImport
    _check_callable(function)
    drawn = values_for(values)
    attempts = 0

    with Subject(Callback(_Paired(function), name=name_of(function)), seconds) as subject:
        subject.name = name_of(function)
        laws = _Laws(subject)

        def attempt(case: list[Any]) -> None:
            nonlocal attempts
            attempts += 1
            laws.check(case)

        triples = st.lists(drawn, min_size=1, max_size=3)
        failure = smallest_failure(
            triples, attempt, max_examples=max_examples, seeded=default_seed() if seed is None else seed
        )
        if failure is None:
            return Checked(subject.name, attempts, len(subject.questions), tuple(_notes(laws)))
        fault, case = failure.found.fault, list(failure.case)  # type: ignore[call-overload]
        test = merge_test(subject.name, fault.kind, function, case)
        raise MergeRefuted(fault, failure.told, test, case) from failure.found.__cause__


def _notes(laws: _Laws) -> list[str]:
    if not laws.rewrites:
        return []
    note = (
        f"it rewrites some values when it first meets them, such as {shortened(laws.rewrites)}: write them in the form"
        " that it gives, or replicas show two forms of one value until they merge"
    )
    return [note]


class _Paired:
    """A function of two values as one of a list of two."""

    def __init__(self, function: Callable[[Any, Any], Any]) -> None:
        self._function = function

    def __call__(self, pair: list[Any]) -> Any:
        return self._function(*pair)


class _Laws:
    """The laws, asked of one function, with the events that led to each answer."""

    def __init__(self, subject: Subject) -> None:
        self.rewrites: str = ""  # a value that it does not leave as it was drawn, though it does its own answers
        self._subject = subject
        self._events: list[Event] = []
        self._has: dict[str, Any] = {}

    def check(self, case: Sequence[Any]) -> None:
        """All three laws on one, two or three values. Raises Found, with the diagram."""
        self._start(*case[:1])
        try:
            self._try_idempotent(case[0])
            if len(case) > 1:
                self._start(*case[:2])
                self._try_commutative()
            if len(case) > 2:
                self._start(*case[:3])
                self._try_associative(case[0])
        except Found as fault:
            picture = diagram(list(self._has), self._events)
            fault.told = lambda: picture
            raise

    def _start(self, *case: Any) -> None:
        self._has = dict(zip(NAMES, case, strict=False))
        self._events = [Note(name, f"has {literal(value)}") for name, value in self._has.items()]

    def _try_idempotent(self, value: Any) -> None:
        """Its own answers it must leave as they are; what was drawn it may first bring into a form of its own."""
        self._has["tokyo"] = value
        self._events.append(Note("tokyo", f"has {literal(value)}"))
        once = self._hear("tokyo", "paris")
        if once == encode(value):
            return
        self._hear("paris", "tokyo", decode(once))
        self._has["tokyo"] = decode(once)
        twice = self._hear("tokyo", "paris")
        if twice != once:
            self._broken(
                "not idempotent", "merging a value with itself gives another one", ("x", once), ("x with x", twice)
            )
        self.rewrites = self.rewrites or literal(value)

    def _try_commutative(self) -> None:
        paris, tokyo = self._has["paris"], self._has["tokyo"]
        one = self._hear("tokyo", "paris", tokyo)
        other = self._hear("paris", "tokyo", paris)
        if one != other:
            self._broken(
                "not commutative",
                "merging a with b, and b with a, gives different answers",
                ("a with b", one),
                ("b with a", other),
            )

    def _try_associative(self, first: Any) -> None:
        self._hear("tokyo", "paris", self._has["tokyo"])
        left = self._hear("lima", "paris")
        self._hear("lima", "tokyo")
        right = self._hear("paris", "tokyo", first, ours_last=True)
        if left != right:
            self._broken(
                "not associative",
                "merging the same three values in other groups gives different answers",
                ("(a with b) with c", left),
                ("a with (b with c)", right),
            )

    def _hear(self, source: str, target: str, value: Any = None, *, ours_last: bool = False) -> bytes:
        """*target* merges what *source* has, or had. What it had comes first, or last."""
        theirs = self._has[source] if value is None else value
        ours = self._has[target]
        self._events.append(
            Message(source, target, "" if theirs is self._has[source] else shortened(literal(theirs), 20))
        )
        pair = (theirs, ours) if ours_last else (ours, theirs)
        group = tuple(
            Sibling.of(value, timestamp=place, origin=name)
            for place, (name, value) in enumerate(zip("ab", pair, strict=True))
        )
        payload = self._subject.examine(group)
        self._subject.try_hashes(group)
        assert payload is not None
        self._has[target] = decode(payload)
        self._events.append(Note(target, f"has {literal(self._has[target])}"))
        return payload

    def _broken(self, kind: str, what: str, *answers: tuple[str, bytes | None]) -> None:
        name = self._subject.name
        raise found(kind, f"{name} is {kind}: {what}.", answers=answers, remark=alike(*answers))


def _check_callable(function: Any) -> None:
    if not callable(function):
        raise UsageError(
            f"check_merge needs a function of two values, not {function!r} of type {type(function).__name__}"
        )
    if inspect.iscoroutinefunction(function):
        raise UsageError(f"check_merge needs a plain function, not the coroutine function {name_of(function)}")
    try:
        inspect.signature(function).bind(None, None)
    except TypeError as error:
        raise UsageError(
            f"{name_of(function)} cannot be called with two values ({error}); a function of a list of values is checked"
            " by check_resolver"
        ) from None
    except ValueError:
        pass  # a built-in function without a signature
