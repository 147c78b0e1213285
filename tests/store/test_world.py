"""
Stores that write, exchange, crash, are cut and forget hold what plain models hold; and the models find planted bugs.

`World` (tests/store/world.py) compares after every step and opens every disk anew at the end. Here it is given random
scripts, and then stores with one thing done wrong each: a bug that survives its scripts is a hole in the tests.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings

from mmrepl.causality.dot import COUNTER_BITS, COUNTER_MAX
from mmrepl.log.columns import Columns, Segment
from mmrepl.log.oplog import OpLog
from mmrepl.replication import local as local_module
from mmrepl.replication.local import LocalCore
from mmrepl.storage.memory import MemoryDisk
from mmrepl.store.journal import Journal
from mmrepl.store.keyspace import Keyspace
from mmrepl.store.snapshot import install
from mmrepl.store.store import Store
from tests.store.world import FORGETTING, LOSING, Script, fails, random_script, run, scripts

SEEDS = int(os.environ.get("MMREPL_HISTORIES", "250")) // 10
"""Scripts by seed for each way of running; the environment variable is that of tests/properties."""


@pytest.mark.parametrize("retain", [False, True])
def test_stores_under_losses_hold_what_the_models_hold(retain: bool):
    """Siblings, payloads, contexts and reads are exact after every step, whatever was lost, repeated, cut or reopened."""
    for seed in range(SEEDS):
        run(random_script(LOSING, seed), retain=retain)


@pytest.mark.parametrize("retain", [False, True])
def test_stores_that_forget_read_what_the_models_read(retain: bool):
    """Forgetting what is stable changes no read, at no store, at no time."""
    for seed in range(SEEDS):
        run(random_script(FORGETTING, seed), retain=retain, forgets=True)


@settings(max_examples=30)
@given(script=scripts(LOSING))
def test_any_script_with_losses(script: Script):
    """As above, looked for by Hypothesis."""
    run(script)


@settings(max_examples=30)
@given(script=scripts(FORGETTING))
def test_any_script_with_forgetting(script: Script):
    """As above, looked for by Hypothesis."""
    run(script, retain=True, forgets=True)


# -- planted bugs: a class, a method, and what takes its place, made from the original

Plant = tuple[object, str, Callable[[Any], Any]]


def _forget_by_dot(original: Callable[..., int]) -> Callable[..., int]:
    """Stable is what has stable dots; the context is not asked."""

    def forget(self: Keyspace, table: Any, key: str, watermark: dict[int, int]) -> int:
        dots = self.live(table, key)
        if all(watermark.get(dot >> COUNTER_BITS, 0) >= dot & COUNTER_MAX for dot in dots):
            watermark = dict.fromkeys(range(64), COUNTER_MAX)
        return original(self, table, key, watermark)

    return forget


def _forgets_uncut(_original: object) -> Callable[..., int]:
    def forget(self: Store) -> int:
        known = ((self.log.known(origin), counter) for origin, counter in self.watermark.items())
        return self.keyspace.forget({columns.index: counter for columns, counter in known if columns is not None})

    return forget


def _first_sibling_alone(original: Callable[..., None]) -> Callable[..., None]:
    return lambda self, table, key, dots, context: original(self, table, key, dots[:1], context)


def _context_of_dots_alone(original: Callable[..., None]) -> Callable[..., None]:
    def set_(self: Keyspace, table: Any, key: str, dots: list[int], context: dict[int, int]) -> None:
        origins = {dot >> COUNTER_BITS for dot in dots}
        original(self, table, key, dots, {index: counter for index, counter in context.items() if index in origins})

    return set_


def _void_whatever_died(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, slices, _until: original(self, slices, self.end)


def _deaths_unsaved(original: Callable[..., None]) -> Callable[..., None]:
    return lambda self, key, value: None if key.startswith("dead/") and value else original(self, key, value)


def _pasted(_original: object) -> Callable[..., int]:
    """The snapshot takes the place of what is here."""

    def paste(store: Store, clock: Any, batches: list[Any]) -> int:
        theirs = {
            (nodes[run.origin], counter)
            for batch in batches
            for nodes in (batch.node_ids(),)
            for run in batch.iter_runs()
            for counter in range(run.first, run.first + run.size)
        }
        for table in store.keyspace.tables.values():
            for key in list(table.states):
                gone = {dot for dot in store.keyspace.live(table, key) if store.log.dot(dot) not in theirs}
                if gone:
                    store.keyspace.drop(table, key, gone, store.log.end)
        return install(store, clock, batches)

    return paste


def _compacted_under_new_numbers(original: Callable[..., Any]) -> Callable[..., Any]:
    numbers = count(1_000)

    def compact(self: Columns) -> tuple[list[Segment], list[int]]:
        fresh, gone = original(self)
        for segment in fresh:
            segment.number = next(numbers)
        return fresh, gone

    return compact


def _durable_at_once(original: Callable[..., Any]) -> Callable[..., Any]:
    def take_persist(self: LocalCore) -> Any:
        persist = original(self)
        if persist is not None:
            self.persisted(persist.position)
        return persist

    return take_persist


def _trusts_its_memory(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self: evolve(original(self), doubt=None)


PLANTS: dict[str, tuple[dict[str, int], bool, Plant]] = {
    "forgets by the dot alone": (FORGETTING, False, (Keyspace, "_forget_key", _forget_by_dot)),
    "forgets what the log still holds": (FORGETTING, True, (Store, "forget_settled", _forgets_uncut)),
    "pastes snapshots": (LOSING, False, (local_module, "install", _pasted)),
    "joins snapshots plainly": (FORGETTING, True, (Keyspace, "drop", lambda _: lambda *_args: None)),
    "loses a sibling in the merge": (LOSING, False, (Keyspace, "_set", _first_sibling_alone)),
    "does not join contexts": (LOSING, False, (Keyspace, "_set", _context_of_dots_alone)),
    "voids without the overwriting operation": (LOSING, True, (OpLog, "batch", _void_whatever_died)),
    "does not save the deaths in segments": (FORGETTING, False, (Journal, "note", _deaths_unsaved)),
    "numbers compacted segments anew": (LOSING, False, (Columns, "compact", _compacted_under_new_numbers)),
    "loads voids as if nobody buried them": (LOSING, False, (OpLog, "bury_voids", lambda _: lambda *_args: None)),
    "takes for durable what was handed out": (LOSING, True, (LocalCore, "take_persist", _durable_at_once)),
    "mints on after a power failure": (LOSING, False, (MemoryDisk, "loaded", _trusts_its_memory)),
}


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch):
    """Each of these has lost or revived somebody's write somewhere."""
    weights, retain, (owner, attribute, make) = PLANTS[name]
    monkeypatch.setattr(owner, attribute, make(getattr(owner, attribute)))
    forgets = "forget" in weights
    assert any(fails(random_script(weights, seed), retain=retain, forgets=forgets) for seed in range(150)), name
