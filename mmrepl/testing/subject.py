"""
A resolver under examination: questions about one group of siblings, in the order in which people go wrong.

`Subject.examine` asks everything that one group can show in this process: does it answer at all, in time, with a
value; does it leave what it is given alone; what does it touch while it runs; does it answer again alike, and for
another order of arrival? What needs more than one group, or another process, is asked by
`mmrepl.testing.play`.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from pathlib import PurePath
from types import TracebackType
from typing import Any, Self

from mmrepl import Read, Replica
from mmrepl.errors import InvalidValue, MmreplError, ResolverError, UsageError
from mmrepl.resolvers import Callback, Resolver, Sibling
from mmrepl.resolvers.base import VIEW_LIMITS
from mmrepl.resolvers.sibling import value_text
from mmrepl.testing.address import Address, address_of
from mmrepl.testing.mends import Found, found
from mmrepl.testing.salted import SALTS, salted, unsalted
from mmrepl.testing.time_limit import OverTime, TimeLimit
from mmrepl.testing.traps import Touch, watched
from mmrepl.values import encode

Group = tuple[Sibling, ...]
"""Siblings in canonical order."""


class Subject:
    """
    *given* is a `Resolver`, or a function as `Callback` takes one. A context manager, for its time limit of *seconds*.

    Raises:
        UsageError: it is neither.
    """

    def __init__(self, given: Resolver | Callable[[list[Any]], Any], seconds: float) -> None:
        self.resolver = as_resolver(given)
        self.name = name_of(given)
        self.address: Address | None = address_of(given)
        self.worker_address = self.address if self.resolver is given else address_of(self.resolver)
        self.questions: dict[Group, bytes | None] = {}  # what it was asked about, in order, and its first answers
        self.memory: Found | None = None  # set when an answer was seen to depend on questions of earlier plays
        self._limit = TimeLimit(seconds)
        self._hints: dict[str, Touch] = {}

    def __enter__(self) -> Self:
        self._limit.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._limit.__exit__(kind, error, trace)

    @property
    def function(self) -> Callable[[list[Any]], Any] | None:
        """The application's function, if it is one."""
        return self.resolver.function if isinstance(self.resolver, Callback) else None

    def meets(self, group: Group) -> bool:
        """Whether the resolver has anything to say about *group*."""
        live = sum(sibling.payload is not None for sibling in group)
        return live >= 2 or (live == 1 and self.resolver.wraps) or (bool(group) and self.resolver.selects)

    # -- questions

    def answer(self, group: Group) -> bytes | None:
        """The bytes of its answer. Raises Found when it has none."""
        return self._answer(group, watch=False)[0]

    def examine(self, group: Group) -> bytes | None:
        """As `answer`, having tried all that this one group can show. Raises Found."""
        payload, touches = self._answer(group, watch=True)
        self._judge_touches(group, touches)
        again = self.answer(group)
        if again != payload:
            self._differ("two answers", "gives two answers for the same siblings", ("first", payload), ("then", again))
        if self.function is None:
            self._try_orders(group, payload)
        self.questions.setdefault(group, payload)
        return payload

    def try_hashes(self, group: Group) -> None:
        """
        Raises Found where answers depend on hashes, and so on the order of a set.

        To be asked last: a function that remembers what it is given would remember strange things.
        """
        if self.function is None or self._with_siblings:
            return
        answers = [self._salted_answer(group, salt) for salt in SALTS]
        for other in answers[1:]:
            if other != answers[0]:
                self._differ(
                    "hash order",
                    "depends on the order of a set, or on hashes: two processes give different answers for the same"
                    " siblings",
                    ("one process", answers[0]),
                    ("another", other),
                )

    def guarded_read(self, replica: Replica, key: str) -> Read:
        """What *replica* reads, within the time limit. Raises Found, or what the replica raises."""
        try:
            return self._limit.run(replica.read, key)
        except OverTime:
            raise found("hangs", f"{self.name} does not answer in time.") from None

    def shown(self, group: Group) -> tuple[str, ...]:
        """*group* for people, a line for each sibling."""
        return tuple(
            f"{value_text(sibling.payload, 'deleted', 200)}  from {sibling.dot.origin.name}" for sibling in group
        )

    def hint(self) -> str:
        """What it was seen to do that may explain different answers; empty when nothing."""
        return "It calls " + ", ".join(map(str, self._hints.values())) + "." if self._hints else ""

    # -- one answer

    @property
    def _with_siblings(self) -> bool:
        return isinstance(self.resolver, Callback) and self.resolver.with_siblings

    def _answer(self, group: Group, *, watch: bool) -> tuple[bytes | None, list[Touch]]:
        function = self.function
        if function is None:
            return self._call(group, self._resolve, group, watch=watch)
        values: list[Any] = [sibling for sibling in group if sibling.payload is not None]
        if not self._with_siblings:
            values = [sibling.value for sibling in values]
        before = _fingerprint(values)
        answer, touches = self._call(group, function, values, watch=watch)
        try:
            payload = encode(unsalted(answer), VIEW_LIMITS)  # it may remember a salted part
        except InvalidValue as error:
            if inspect.iscoroutine(answer):
                answer.close()
            text = str(error).removeprefix("value ")
            raise found(
                "not a value", f"{self.name} answers what cannot be stored: its answer {text}.", given=self.shown(group)
            ) from None
        if _fingerprint(values) != before:
            raise found(
                "mutates",
                f"{self.name} changes what it is given: the values, or the list of them, are others afterwards.",
                answers=(("given", before), ("left", _fingerprint(values))),
                remark="mmrepl gives each call values of its own; anybody else who calls it is harmed.",
            )
        return payload, touches

    def _resolve(self, group: Group) -> bytes | None:
        resolution: Any = self.resolver.resolve(group)
        if not hasattr(resolution, "payload"):
            raise ResolverError(f"answers a {type(resolution).__name__}, not a Resolution")
        return resolution.payload  # type: ignore[no-any-return]

    def _call(
        self, group: Group, function: Callable[..., Any], argument: Any, *, watch: bool
    ) -> tuple[Any, list[Touch]]:
        try:
            if watch:
                return self._limit.run(watched, function, argument)
            return self._limit.run(function, argument), []
        except OverTime:
            raise found(
                "hangs",
                f"{self.name} does not answer: it was stopped after {self._limit.seconds:g} seconds.",
                given=self.shown(group),
            ) from None
        except Exception as error:
            raise self._raised(group, error) from error

    def _raised(self, group: Group, error: Exception) -> Found:
        cause = error.__cause__ if isinstance(error, ResolverError) and error.__cause__ is not None else error
        if isinstance(cause, MmreplError):
            return found("raises", f"{self.name}: {cause}", given=self.shown(group))
        last = traceback.extract_tb(cause.__traceback__)[-1]
        where = f"{PurePath(last.filename).name}:{last.lineno}"
        what = f"{type(cause).__name__}: {cause}".rstrip(": ")
        return found("raises", f"{self.name} raises {what} ({where}).", given=self.shown(group))

    # -- what one group can show

    def _judge_touches(self, group: Group, touches: list[Touch]) -> None:
        for touch in touches:
            if touch.kind == "hint":
                self._hints.setdefault(touch.name, touch)
                continue
            why = {
                "clock": "its answer may depend on when it is asked",
                "dice": "its answer may depend on dice",
                "locale": "its answer may depend on the language that the machine is set to",
                "outside": "its answer may depend on the process or the machine that asks",
            }[touch.kind]
            raise found(touch.kind, f"{self.name} calls {touch.name} ({touch.where}): {why}.", given=self.shown(group))

    def _try_orders(self, group: Group, payload: bytes | None) -> None:
        for other in (group[::-1], group + group[:1]):
            answer = self._call(group, self._resolve, other, watch=False)[0]
            if answer != payload:
                self._differ(
                    "order of arrival",
                    "answers otherwise when the same siblings come in another order, or twice",
                    ("one order", payload),
                    ("another", answer),
                )

    def _salted_answer(self, group: Group, salt: int) -> bytes:
        function = self.function
        assert function is not None
        values = [salted(sibling.value, salt) for sibling in group if sibling.payload is not None]
        try:
            return encode(unsalted(self._limit.run(function, values)), VIEW_LIMITS)
        except OverTime:
            raise found("hangs", f"{self.name} does not answer in time.", given=self.shown(group)) from None
        except Exception as error:  # noqa: BLE001 - raising is an answer here: only whether they are alike counts
            return encode(f"raised {type(error).__name__}")

    def _differ(self, kind: str, what: str, *answers: tuple[str, bytes | None]) -> None:
        raise found(
            kind,
            f"{self.name} {what}.",
            answers=answers,
            remark="\n".join(filter(None, [alike(*answers), self.hint()])),
        )


def alike(one: tuple[str, bytes | None], other: tuple[str, bytes | None]) -> str:
    """A remark where two answers that differ in their bytes are equal in Python."""
    from mmrepl.values import decode

    if one[1] is None or other[1] is None:
        return ""
    if decode(one[1]) == decode(other[1]):
        return "The two are equal in Python and differ as bytes: 0 == False == 0.0, and dicts in any order are equal."
    return ""


def as_resolver(given: Any) -> Resolver:
    """A resolver out of what somebody wants checked. Raises UsageError."""
    if isinstance(given, Resolver):
        return given
    if isinstance(given, type) and issubclass(given, Resolver):
        raise UsageError(f"{given.__name__} is a class: give check_resolver an instance of it, {given.__name__}(...)")
    if not callable(given):
        raise UsageError(
            f"check_resolver needs a Resolver, or a function of a list of values, not {given!r} of type"
            f" {type(given).__name__}"
        )
    try:
        inspect.signature(given).bind([])
    except TypeError as error:
        raise UsageError(
            f"{name_of(given)} cannot be called with one list of values ({error}): a resolver's function takes all of"
            " them at once; a function of two values is checked by check_merge"
        ) from None
    except ValueError:
        pass  # a built-in function without a signature
    return Callback(given, name=_policy_name(given))


def _policy_name(function: Any) -> str:
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    return f"{module}:{name}" if isinstance(module, str) and isinstance(name, str) else name_of(function)


def name_of(given: Any) -> str:
    """How people call it."""
    if isinstance(given, Callback):
        return name_of(given.function)
    if isinstance(given, Resolver):
        return type(given).__name__
    function = getattr(given, "func", given)  # of a partial
    name = getattr(function, "__qualname__", None) or type(function).__name__
    name = str(name).rpartition("<locals>.")[2]
    return "the lambda" if name == "<lambda>" else name


def _fingerprint(values: list[Any]) -> bytes:
    """What tells whether values were changed; siblings, which cannot be, count by their names."""
    try:
        return encode([repr(value) if isinstance(value, Sibling) else value for value in values], VIEW_LIMITS)
    except InvalidValue as error:
        return encode(f"no values any more: {error}")
