"""
Looking for the smallest thing that refutes: Hypothesis draws and shrinks, and what was seen is never forgotten.

A function that answers differently each time defeats a shrinker, which expects a failure to come back. So every failure
is noted when it is seen; the one to tell is the first in the order of `mends.MENDS`, in its smallest case.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeVar

from attrs import frozen
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException, Unsatisfiable

from mmrepl.errors import UsageError
from mmrepl.testing.mends import KINDS, Found

Case = TypeVar("Case")


@frozen
class Failure:
    """The smallest case that failed."""

    case: object
    found: Found
    told: str  # what its play had to tell: a diagram


class _Enough(BaseException):
    """The search is over: each further case would cost its whole time limit."""


def smallest_failure(
    cases: st.SearchStrategy[Case],
    attempt: Callable[[Case], Callable[[], str] | None],
    *,
    max_examples: int,
    seeded: int,
) -> Failure | None:
    """
    The smallest of *cases* on which *attempt* raises Found; None when it did not within *max_examples*.

    A `Found` may carry ``told``, which is called for what else is to be kept.

    Raises:
        UsageError: there are no cases.
    """
    failures: dict[str, Failure] = {}

    def note(case: Case, found: Found) -> None:
        kind = found.fault.kind
        before = failures.get(kind)
        if before is None or _size(case) <= _size(before.case):
            failures[kind] = Failure(case, found, found.told())

    def trial(case: Case) -> None:
        try:
            attempt(case)
        except Found as found:
            note(case, found)
            if found.fault.kind == "hangs":
                raise _Enough from None
            raise

    search = settings(
        max_examples=max_examples,
        database=None,
        deadline=None,
        derandomize=False,
        print_blob=False,
        report_multiple_bugs=False,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    run = seed(seeded)(search(given(cases)(trial)))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run()
    except (Found, _Enough):
        pass
    except Unsatisfiable as error:
        raise UsageError(f"no example came out of these values: {error}") from None
    except (HypothesisException, BaseExceptionGroup):
        if not failures:
            raise
    return min(failures.values(), key=lambda failure: KINDS.index(failure.found.fault.kind)) if failures else None


def _size(case: object) -> tuple[int, int]:
    return (len(case) if hasattr(case, "__len__") else 0, len(repr(case)))
