"""
`check_resolver`: one call that tries to refute a resolver.

Four rounds: values that meet once; any history, with late and repeated deltas, partitions and restarts; values that
meet under other hashes (only now, because that leaves traces in functions that remember); and read-merge-put loops, in
which what is read is written back by everybody until it comes to rest. What fails is shrunk, writes and deliveries
together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

from mmrepl.resolvers import Resolver
from mmrepl.testing.history import Deliver, Exchange, Put, Settle, Step, checked_history
from mmrepl.testing.mends import Found
from mmrepl.testing.other_process import OtherProcess
from mmrepl.testing.play import Invariant, Play
from mmrepl.testing.refuted import Checked, ResolverRefuted
from mmrepl.testing.regression import history_test
from mmrepl.testing.search import smallest_failure
from mmrepl.testing.seeds import default_seed
from mmrepl.testing.strategies import histories, meetings, values_for
from mmrepl.testing.subject import Subject
from mmrepl.testing.worker import StopImport, inside


def check_resolver(
    resolver: Resolver | Callable[[list[Any]], Any],
    values: st.SearchStrategy[Any] | Sequence[Any] | type | None = None,
    *,
    invariant: Invariant | None = None,
    max_examples: int = 100,
    seconds: float = 5.0,
    seed: int | None = None,
    other_process: bool = True,
) -> Checked:
    """
    Try to refute *resolver*, or a function as `Callback` takes one; returns what was tried when that did not succeed.

    *values* are what is written: a Hypothesis strategy, a list of examples, or a type (``list[str]``). None takes the
    type from the function's annotation where there is one, otherwise anything JSON-like. *invariant* is called for
    every state reached, with the values of all the writes behind it (each once, merged before or not) and with what
    is read: false or an AssertionError says that it is wrong. *max_examples* histories are played in each of the first
    two rounds; one answer may take *seconds*. *seed* draws other histories; the same seed, the same run. With
    *other_process* a second process answers too.

    Takes a second or two, and a multiple of the resolver's own time: each state asks for some ten answers.

    Raises:
        ResolverRefuted: it failed; the message shows the smallest history found.
        UsageError: it is no resolver, or *values* gives nothing that can be stored.
    """
    _stop_in_worker()
    drawn = values_for(values, resolver)
    seeded = default_seed() if seed is None else seed
    plays, hashes, few = 0, False, max(1, max_examples // 4)
    last: Sequence[Step] = ()  # the history that was played when it was seen that the subject remembers
    with Subject(resolver, seconds) as subject, _other(subject, seconds, wanted=other_process) as other:

        def attempt(history: Sequence[Step]) -> None:
            nonlocal plays, last
            plays += 1
            known = subject.memory
            _play(subject, other, invariant, history, hashes=hashes)
            last = history if subject.memory is not known else last

        def look(cases: st.SearchStrategy[list[Step]], count: int) -> None:
            failure = smallest_failure(cases, attempt, max_examples=count, seeded=seeded)
            if failure is not None:
                raise _refuted(subject, failure.found, failure.told, failure.case, invariant) from _cause(failure.found)

        look(meetings(drawn).map(_meet), max_examples)
        look(histories(drawn), max_examples)
        if subject.memory is not None:  # over all these plays; it remains to find one that shows it by itself
            look(meetings(drawn).map(_meet), 5 * max_examples)
            raise _refuted(subject, subject.memory, subject.memory.told(), last, invariant)
        hashes = True
        look(meetings(drawn).map(_meet), few)
        hashes = False
        if not subject.resolver.wraps:
            look(meetings(drawn).map(_settle), few)
        return Checked(subject.name, plays, len(subject.questions), tuple(_notes(subject, other, wanted=other_process)))


def check_history(
    resolver: Resolver | Callable[[list[Any]], Any],
    history: Sequence[Step],
    *,
    invariant: Invariant | None = None,
    seconds: float = 5.0,
    other_process: bool = True,
) -> Checked:
    """
    Play one history, and try to refute *resolver* on the states that it reaches. For regression tests.

    Arguments, result and errors as for `check_resolver`.
    """
    _stop_in_worker()
    steps = checked_history(history)
    with Subject(resolver, seconds) as subject, _other(subject, seconds, wanted=other_process) as other:
        try:
            _play(subject, other, invariant, steps, hashes=True)
        except Found as found:
            raise _refuted(subject, found, found.told(), steps, invariant) from _cause(found)
        return Checked(subject.name, 1, len(subject.questions), tuple(_notes(subject, other, wanted=other_process)))


def _other(subject: Subject, seconds: float, *, wanted: bool) -> OtherProcess:
    return OtherProcess(subject.worker_address, seconds, "" if wanted else "it was not wanted")


def _play(
    subject: Subject, other: OtherProcess, invariant: Invariant | None, history: Sequence[Step], *, hashes: bool
) -> None:
    play = Play(subject, invariant, other, hashes=hashes)
    try:
        play.run(history)
    except Found as found:
        found.told = play.diagram
        raise


def _meet(values: list[tuple[str, Any]]) -> list[Step]:
    """Everybody writes one value, and tells the first."""
    first = values[0][0]
    return [*(Put(at, value) for at, value in values), *(Deliver(at, first) for at, _ in values[1:])]


def _settle(values: list[tuple[str, Any]]) -> list[Step]:
    return [*(Put(at, value) for at, value in values), Exchange(), Settle()]


def _refuted(
    subject: Subject, found: Found, diagram: str, history: Any, invariant: Invariant | None
) -> ResolverRefuted:
    fault = found.fault
    regression = history_test(subject.name, fault.kind, subject.address, history, invariant)
    return ResolverRefuted(fault, diagram, regression, history)


def _cause(found: Found) -> BaseException | None:
    """What the resolver itself raised, for its traceback."""
    return found.__cause__


def _notes(subject: Subject, other: OtherProcess, *, wanted: bool) -> list[str]:
    notes = []
    if other.trouble and wanted:
        instead = "" if subject.function is None else "; the order of sets was tried with other hashes in this one"
        notes.append(f"{subject.name} was not asked in another process: {other.trouble}{instead}")
    if subject.resolver.wraps:
        notes.append("writing back what is read was not tried: what is read is a view of several values")
    return notes


def _stop_in_worker() -> None:
    if inside():
        raise StopImport
