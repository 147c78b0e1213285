"""
Callback: the application's own function merges concurrent values.

The function is given the live values as a list, in canonical order, decoded afresh for each call, and answers with
the value to be read. It is called on *reading* a key that has two or more values; one value alone is read as it is,
and deletions are not shown to it (an update survives a concurrent deletion). It never writes: its answer is stored
only when somebody puts it.

So it need not be associative or commutative. It must be a function: the same values, the same answer, in every
process. What it must not depend on: time, dice, the order of a set of str (sort it), anything outside of its
arguments. It must leave its arguments as they are. Here nothing would come of changing them, for each call is given
values of its own; but such a function is a trap for everybody else who calls it, and `mmrepl.testing.check_resolver`
refuses it.

A function that depends on such things is a bug that shows up as nodes that disagree, far from its cause. So by
default each answer is made twice and the bytes are compared. That catches dice, clocks and counters, not the order of
a set, which is the same within a process: ``mmrepl.testing.check_resolver`` looks for that.
"""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Callable
from typing import Any, Literal

from attrs import Factory, field, frozen, validators

from mmrepl.errors import InvalidValue, UsageError
from mmrepl.resolvers.base import VIEW_LIMITS, Resolution, Resolver
from mmrepl.resolvers.sibling import Sibling
from mmrepl.values import encode

SAMPLE_SIZE = 16  # of so many sets of siblings, one is checked when sampling


def _named(function: Callable[[list[Any]], Any]) -> str:
    """Module and name of a function. What has none must be given one: its repr holds an address."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not (isinstance(module, str) and isinstance(name, str)):
        raise UsageError(f"{function!r} has no name of its own: say Callback(..., name='...'), the same on all nodes")
    return f"{module}:{name}"


def _plain_function(function: Callable[[list[Any]], Any]) -> Callable[[list[Any]], Any]:
    """*function*, if it is one. Raises UsageError."""
    given: Any = function  # whatever its type says
    if not callable(given):
        raise UsageError(f"Callback needs a function of a list of values, not a {type(given).__name__}")
    if inspect.iscoroutinefunction(function):
        raise UsageError(f"Callback needs a plain function, not a coroutine function: {function!r}")
    return function


@frozen
class Callback(Resolver):
    """
    Concurrent values are merged by *function*.

    >>> def merge_carts(carts: list[list[str]]) -> list[str]:
    ...     return sorted(set().union(*carts))
    >>> Callback(merge_carts, name="carts").resolve([Sibling.of(["tea"], timestamp=1, origin="paris"),
    ...                                              Sibling.of(["milk"], timestamp=2, origin="lima")])
    Resolution(['milk', 'tea'])

    A function that raises, answers what cannot be stored, or gives two answers for the same siblings, makes
    ``resolve`` raise `ResolverError` with its name and the siblings that did it. The siblings stay as they are.
    """

    function: Callable[[list[Any]], Any] = field(converter=_plain_function)
    name: str = field(
        kw_only=True,
        default=Factory(lambda self: _named(self.function), takes_self=True),
        validator=validators.instance_of(str),
    )
    """
    What nodes compare. By default the function's module and name: say one where nodes may find the function in
    different modules (``__main__``), where it is a lambda, or to tell versions of it apart.
    """
    with_siblings: bool = field(kw_only=True, default=False)
    """Whether the function gets `Sibling` objects (dot, timestamp, value) in place of the values alone."""
    check: Literal["always", "sample", "never"] = field(
        kw_only=True, default="always", validator=validators.in_(("always", "sample", "never"))
    )
    """
    How often an answer is made twice to see whether it is the same. Always: reading a key that has siblings costs two
    calls. Sample: for one set of siblings in 16, chosen by their dots, so that it is the same ones everywhere.
    """

    @property
    def policy(self) -> str:
        """``callback`` and the name."""
        return f"callback {self.name}"

    def decide(self, siblings: tuple[Sibling, ...]) -> Resolution:
        """The answer of the function, encoded once. Raises ResolverError."""
        payload = self._answer(siblings)
        if self._is_checked(siblings):
            again = self._answer(siblings)
            if again != payload:
                raise self.failure("gave two answers for the same siblings", siblings)
        return Resolution.merge_payload(payload, siblings)

    def _answer(self, siblings: tuple[Sibling, ...]) -> bytes:
        values: list[Any] = [sibling for sibling in siblings if sibling.payload is not None]
        if not self.with_siblings:
            try:
                values = [sibling.value for sibling in values]
            except InvalidValue as error:
                raise self.failure(f"cannot be asked, for a sibling cannot be read: {error}", siblings) from error
        try:
            answer: Any = self.function(values)
        except Exception as error:
            raise self.failure(f"raised {type(error).__name__}: {error}", siblings) from error
        try:
            return encode(answer, VIEW_LIMITS)
        except InvalidValue as error:
            if inspect.iscoroutine(answer):
                answer.close()
            raise self.failure(f"answered what cannot be stored: {error}", siblings) from error

    def _is_checked(self, siblings: tuple[Sibling, ...]) -> bool:
        if self.check == "sample":
            return zlib.crc32(" ".join(str(sibling.dot) for sibling in siblings).encode()) % SAMPLE_SIZE == 0
        return self.check == "always"
