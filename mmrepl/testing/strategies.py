"""
Hypothesis strategies for every public value of mmrepl, and for the histories that `check_resolver` plays.

They keep to a handful of names, counters and stamps, so that things collide: most of what goes wrong in replication
goes wrong when two things meet. Values are drawn from the whole domain, its awkward corners included.

With the extra ``testing`` installed, ``st.from_type(mmrepl.Dot)`` and its like use these by themselves.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from mmrepl.causality.container import CausalContainer
from mmrepl.causality.context import BLIND, CausalContext
from mmrepl.causality.dot import Dot
from mmrepl.causality.version_vector import VersionVector
from mmrepl.clock import hlc
from mmrepl.errors import InvalidValue, UsageError
from mmrepl.log.operation import Operation
from mmrepl.log.policy import LogPolicy
from mmrepl.ports import Commit
from mmrepl.replication.local import Merged
from mmrepl.resolvers import Callback, KeepSiblings, LastWriterWins, Resolution, Resolver, Sibling, canonical
from mmrepl.runtime.log_feed import LogChange
from mmrepl.runtime.outcomes import Change, SiblingsEvent, Written
from mmrepl.single_master.entry import WRITE, Entry
from mmrepl.store.read import Read
from mmrepl.testing import history as steps
from mmrepl.testing.history import NAMES, Step
from mmrepl.types import Limits, NodeId, Value
from mmrepl.values import INT_MAX, INT_MIN, encode
from mmrepl.wire.seen import LogPosition

# -- values


def scalars() -> st.SearchStrategy[Value]:
    """None, bools, 64-bit ints, floats with NaN and the infinities, text and bytes."""
    return st.one_of(
        st.none(),
        st.booleans(),
        st.integers(INT_MIN, INT_MAX),
        st.floats(),
        st.text(max_size=20),
        st.binary(max_size=20),
    )


def values(max_leaves: int = 8) -> st.SearchStrategy[Value]:
    """Everything that may be stored: scalars, lists, dicts with str keys, inside each other."""
    return st.recursive(scalars(), _containers, max_leaves=max_leaves)


def json_values(max_leaves: int = 8) -> st.SearchStrategy[Value]:
    """What JSON can say as well: no bytes, no NaN or infinities, ints within 53 bits."""
    leaves = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**53) + 1, 2**53 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=20),
    )
    return st.recursive(leaves, _containers, max_leaves=max_leaves)


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4)


def payloads(*, tombstones: bool = True) -> st.SearchStrategy[bytes | None]:
    """Encoded values; with *tombstones*, None too."""
    encoded: st.SearchStrategy[bytes | None] = values().map(encode)
    return st.none() | encoded if tombstones else encoded


# -- names, dots, vectors


def keys() -> st.SearchStrategy[str]:
    """Keys: a few that collide, and any text that a key may be."""
    return st.sampled_from(["a", "b", "c"]) | st.text(min_size=1, max_size=12)


def tables() -> st.SearchStrategy[str]:
    """Table names: the default table, a few that collide, any text."""
    return st.sampled_from(["", "carts", "drafts"]) | st.text(max_size=12)


def node_ids() -> st.SearchStrategy[NodeId]:
    """A few names, and incarnations small and large."""
    return st.builds(NodeId, st.sampled_from([*NAMES[:3], "Ω"]), st.sampled_from([0, 1]) | st.integers(0, 2**63 - 1))


def counters() -> st.SearchStrategy[int]:
    """Counters of dots, mostly small."""
    return st.integers(1, 5) | st.integers(1, 2**47 - 1)


def dots() -> st.SearchStrategy[Dot]:
    """Dots."""
    return st.builds(Dot, node_ids(), counters())


def version_vectors() -> st.SearchStrategy[VersionVector]:
    """Version vectors, the empty one included."""
    return st.dictionaries(node_ids(), counters(), max_size=4).map(VersionVector)


def contexts(table: str | None = None, key: str | None = None) -> st.SearchStrategy[CausalContext]:
    """Causal contexts, of *table* and *key* where given."""
    bound = st.builds(
        CausalContext,
        tables() if table is None else st.just(table),
        keys() if key is None else st.just(key),
        version_vectors(),
    )
    return st.just(BLIND) | bound


def timestamps() -> st.SearchStrategy[int]:
    """Hybrid timestamps: a few that tie, and any."""
    return st.integers(0, 3) | st.builds(hlc.pack, st.integers(0, hlc.MS_MAX), st.integers(0, hlc.COUNTER_MAX))


# -- siblings and operations


def siblings(*, tombstones: bool = True) -> st.SearchStrategy[Sibling]:
    """One sibling."""
    return st.builds(Sibling, dots(), timestamps(), payloads(tombstones=tombstones))


@st.composite
def sibling_groups(
    draw: st.DrawFn, min_size: int = 0, max_size: int = 6, *, tombstones: bool = True
) -> tuple[Sibling, ...]:
    """Siblings as a resolver is shown them: different dots, canonical order."""
    names = draw(st.lists(dots(), unique=True, min_size=min_size, max_size=max_size))
    payload = payloads(tombstones=tombstones)
    return canonical(Sibling(dot, draw(timestamps()), draw(payload)) for dot in names)


def resolvers() -> st.SearchStrategy[Resolver]:
    """Resolvers that keep what a resolver must."""
    return st.sampled_from([LastWriterWins(), KeepSiblings(), Callback(_count, name="count")])


def _count(group: list[Any]) -> int:
    return len(group)


def resolutions() -> st.SearchStrategy[Resolution]:
    """What resolvers make of siblings."""
    return st.builds(lambda resolver, group: resolver.resolve(group), resolvers(), sibling_groups())


def operations() -> st.SearchStrategy[Operation]:
    """One operation. Its context does not cover its own dot."""

    def uncovered(op: Operation) -> bool:
        return not op.context.covers(op.dot)

    return st.builds(Operation, dots(), tables(), keys(), timestamps(), payloads(), version_vectors()).filter(uncovered)


@st.composite
def containers(draw: st.DrawFn) -> CausalContainer[bytes]:
    """The state of a key: some siblings, and a context that covers at least their dots."""
    container: CausalContainer[bytes] = CausalContainer()
    for counter in range(1, draw(st.integers(0, 5)) + 1):
        seen = draw(st.sampled_from([VersionVector(), container.context]))
        origin = NodeId(draw(st.sampled_from(NAMES[:3])), 0)
        container = container.apply(Dot(origin, counter), seen, draw(timestamps()), draw(payloads()))
    return container


# -- what replicas hand out


def merged() -> st.SearchStrategy[Merged]:
    """What a merge did."""
    return st.builds(Merged, st.integers(0, 100), st.integers(0, 100))


@st.composite
def reads(draw: st.DrawFn) -> Read:
    """The outcome of reading a key."""
    group = draw(sibling_groups())
    seen = VersionVector()
    for sibling in group:
        seen = seen.including(sibling.dot)
    table, key = draw(tables()), draw(keys())
    resolution = draw(resolvers()).resolve(group)
    return Read(table, key, resolution, group, CausalContext(table, key, seen))


@st.composite
def receipts(draw: st.DrawFn) -> Written:
    """The receipt of a write: its dot, and a context that covers it."""
    dot, seen = draw(dots()), draw(version_vectors())
    return Written(dot.origin, dot.counter, draw(tables()), draw(keys()), seen.including(dot))


def changes() -> st.SearchStrategy[Change]:
    """One operation as a subscriber sees it."""
    return st.builds(
        lambda op, seen: Change(
            op.dot.origin, op.dot.counter, op.table, op.key, op.timestamp, op.payload, seen.including(op.dot)
        ),
        operations(),
        version_vectors(),
    )


def log_positions() -> st.SearchStrategy[LogPosition]:
    """Places in the log of a single-master cluster."""
    return st.builds(LogPosition, st.integers(1, 1 << 20), st.integers(1, 1 << 40))


def log_changes() -> st.SearchStrategy[LogChange]:
    """One write of a single-master cluster as a subscriber sees it."""
    stamps = st.integers(0, hlc.MS_MAX)
    writes = st.builds(Entry, st.just(WRITE), stamps, tables(), keys(), payloads())
    return st.builds(LogChange, log_positions(), writes)


def siblings_events() -> st.SearchStrategy[SiblingsEvent]:
    """Siblings appeared or vanished."""
    live = st.lists(dots(), unique=True, max_size=4).map(lambda found: tuple(sorted(found)))
    return st.builds(SiblingsEvent, st.sampled_from(["appeared", "vanished"]), tables(), keys(), live)


def limits() -> st.SearchStrategy[Limits]:
    """Limits, from tight ones to the default."""
    return st.builds(
        Limits,
        depth=st.integers(4, 64),
        key_bytes=st.integers(64, 1024),
        value_bytes=st.integers(1024, 1024 * 1024),
        siblings_max=st.integers(2, 256),
    )


def log_policies() -> st.SearchStrategy[LogPolicy]:
    """How far back a log reaches."""
    bounds = st.none() | st.integers(1, 1_000_000)
    return st.builds(LogPolicy, operations=bounds, bytes=bounds, age_ms=bounds)


def commits() -> st.SearchStrategy[Commit]:
    """Commits for a storage, over few keys."""
    numbers, bodies = st.integers(0, 6), st.binary(max_size=4)
    return st.builds(
        Commit,
        batches=st.dictionaries(numbers, bodies, max_size=3),
        drop_batches=st.none() | st.tuples(numbers, numbers),
        segments=st.dictionaries(numbers, st.none() | bodies, max_size=2),
        meta=st.dictionaries(st.sampled_from("abc"), st.none() | bodies, max_size=2),
    )


# -- what somebody means by "values"


def values_for(given: Any, function: Any = None) -> st.SearchStrategy[Any]:
    """
    A strategy of values that can be stored, out of what somebody gave: a strategy, a list of examples, a type, None.

    None means what *function* (or that of a `Callback`) is annotated with, or else JSON-like values.

    Raises UsageError for examples that cannot be stored, and for what is none of these.
    """
    if given is None:
        told = _annotated(function)
        return json_values() if told is None else told
    if isinstance(given, st.SearchStrategy):
        return _stored(given)
    if isinstance(given, type | types.GenericAlias | types.UnionType) or typing.get_origin(given) is not None:
        known = of_type(given)
        return _stored(st.from_type(given)) if known is None else known
    if isinstance(given, Sequence) and not isinstance(given, str | bytes):
        return _examples(list(given))
    raise UsageError(f"values must be a Hypothesis strategy, a list of examples or a type, not {given!r}")


def _examples(given: list[Any]) -> st.SearchStrategy[Any]:
    if not given:
        raise UsageError("values is an empty list: give some examples")
    for position, value in enumerate(given):
        try:
            encode(value)
        except InvalidValue as error:
            raise UsageError(f"values[{position}] cannot be stored: {error}") from None
    return st.sampled_from(given)


@st.composite
def _stored(draw: st.DrawFn, given: st.SearchStrategy[Any]) -> Any:
    value = draw(given)
    try:
        encode(value)
    except InvalidValue as error:
        if type(value) is not int:
            raise UsageError(f"values gave {value!r}, which cannot be stored: {error}") from None
        assume(False)
    return value


def of_type(annotation: Any) -> st.SearchStrategy[Any] | None:
    """Values of a type, as far as values can be: ``dict[str, list[int]]``. None when it is none of ours."""
    plain = {
        type(None): st.none(),
        None: st.none(),
        bool: st.booleans(),
        int: st.integers(INT_MIN, INT_MAX),
        float: st.floats(),
        str: st.text(max_size=20),
        bytes: st.binary(max_size=20),
        list: st.lists(json_values(), max_size=4),
        dict: st.dictionaries(st.text(max_size=5), json_values(), max_size=4),
    }
    if annotation is Any or annotation is object:
        return json_values()
    if isinstance(annotation, type) and typing.get_origin(annotation) is None:
        return plain.get(annotation)
    origin, inside = typing.get_origin(annotation), [of_type(part) for part in typing.get_args(annotation)]
    if origin is None or any(part is None for part in inside):
        return plain.get(annotation) if annotation is None else None
    if origin is list:
        return st.lists(inside[0], max_size=5)  # type: ignore[arg-type]
    if origin is dict and typing.get_args(annotation)[0] is str:
        return st.dictionaries(st.text(max_size=5), inside[1], max_size=4)  # type: ignore[arg-type]
    if origin in {typing.Union, types.UnionType}:
        return st.one_of(*inside)  # type: ignore[arg-type]
    return None


def _annotated(given: Any) -> st.SearchStrategy[Any] | None:
    """By the annotation of the one parameter of a function: ``list[T]`` means values of T."""
    function: Callable[..., Any] = given.function if isinstance(given, Callback) else given
    if isinstance(function, Resolver) or function is None or (isinstance(given, Callback) and given.with_siblings):
        return None
    try:
        hints = typing.get_type_hints(function)
        first = next(iter(inspect.signature(function).parameters))
    except (TypeError, NameError, StopIteration, ValueError, AttributeError):
        return None
    hint = hints.get(first)
    return of_type(typing.get_args(hint)[0]) if typing.get_origin(hint) is list else None


# -- histories


@st.composite
def meetings(draw: st.DrawFn, drawn: st.SearchStrategy[Any]) -> list[tuple[str, Any]]:
    """Two to four replicas and a value for each; often the same value twice."""
    pool = draw(st.lists(drawn, min_size=1, max_size=4))
    count = draw(st.integers(2, len(NAMES)))
    return [(name, draw(st.sampled_from(pool))) for name in NAMES[:count]]


@st.composite
def histories(draw: st.DrawFn, drawn: st.SearchStrategy[Any], max_steps: int = 12) -> list[Step]:
    """Any history of two or three replicas, with a full exchange at its end."""
    names = st.sampled_from(NAMES[: draw(st.integers(2, 3))])
    pairs = st.permutations(NAMES[:3]).map(lambda shuffled: (shuffled[0], shuffled[1]))
    pool = draw(st.lists(drawn, min_size=1, max_size=4))
    value = st.sampled_from(pool)
    step: st.SearchStrategy[Step] = st.one_of(
        st.builds(steps.Put, names, value),
        pairs.map(lambda pair: steps.Deliver(*pair)),
        st.builds(steps.WriteBack, names),
        st.builds(steps.Put, names, value, blind=st.just(True)),
        st.builds(steps.Delete, names),
        pairs.map(lambda pair: steps.Send(*pair)),
        pairs.map(lambda pair: steps.Arrive(*pair)),
        pairs.map(lambda pair: steps.Repeat(*pair)),
        st.builds(steps.Restart, names),
    )
    return [*draw(st.lists(step, min_size=1, max_size=max_steps)), steps.Exchange()]
