"""
Stores that write, exchange, crash, are cut and forget hold what plain models hold; and the models find planted bugs.

`World` (tests/store/world.py) compares after every step and opens every disk anew at the end. Here it is given random
scripts, and then stores with one thing done wrong each: a bug that survives its scripts is a hole in the tests.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings

from mmrepl.causality.dot import COUNTER_BITS
from mmrepl.log.oplog import OpLog
from mmrepl.replication import local as local_module
from mmrepl.store.keyspace import Keyspace
from mmrepl.store.snapshot import install
from mmrepl.store.store import Store
from tests.store.world import FORGETTING, LOSING, Script, fails, random_script, run, scripts

SEEDS = int(os.environ.get("MMREPL_HISTORIES", "250")) // 10
"""Scripts by seed for each way of running; the environment variable is that of tests/properties."""

LENGTH = 110


@pytest.mark.parametrize("retain", [False, True])
def test_stores_under_losses_hold_what_the_models_hold(retain: bool):
    """Siblings, payloads, contexts and reads are exact after every step, whatever was lost, repeated, cut or reopened."""
    for seed in range(SEEDS):
        run(random_script(LOSING, seed, LENGTH), retain=retain)


@pytest.mark.parametrize("retain", [False, True])
def test_stores_that_forget_read_what_the_models_read(retain: bool):
    """Forgetting what is stable changes no read, at no store, at no time."""
    for seed in range(SEEDS):
        run(random_script(FORGETTING, seed, LENGTH), retain=retain, forgets=True)


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


def _first_sibling_alone(original: Callable[..., None]) -> Callable[..., None]:
    return lambda self, table, key, dots, context: original(self, table, key, dots[:1], context)


def _context_of_dots_alone(original: Callable[..., None]) -> Callable[..., None]:
    def set_(self: Keyspace, table: Any, key: str, dots: list[int], context: dict[int, int]) -> None:
        origins = {dot >> COUNTER_BITS for dot in dots}
        original(self, table, key, dots, {index: counter for index, counter in context.items() if index in origins})

    return set_


def _void_whatever_died(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, slices, _until: original(self, slices, self.end)


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


PLANTS: dict[str, Plant] = {
    "pastes snapshots": (local_module, "install", _pasted),
    "loses a sibling in the merge": (Keyspace, "_set", _first_sibling_alone),
    "does not join contexts": (Keyspace, "_set", _context_of_dots_alone),
    "voids without the overwriting operation": (OpLog, "batch", _void_whatever_died),
}


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch):
    """Random scripts find the coarse ones; the fine ones have stories of their own, in test_stories."""
    owner, attribute, make = PLANTS[name]
    monkeypatch.setattr(owner, attribute, make(getattr(owner, attribute)))
    assert any(fails(random_script(LOSING, seed, LENGTH), retain=True) for seed in range(60)), name


@pytest.mark.parametrize(("seed", "retain"), [(150, True), (222, True), (270, True), (309, False), (586, True)])
def test_what_a_receipt_was_written_over_stays_dead(seed: int, retain: bool):
    """
    Five scripts in which an overwritten operation was a void, or lay in the journal as if it lived.

    The one that overwrote it covered its dot and not its past (a receipt covers all earlier writes of its node), so what
    it had overwritten itself rose at another store, or after a restart. Now it is a husk: its context without a value.
    """
    run(random_script(LOSING, seed, 160), retain=retain)


def test_rows_that_are_merged_do_not_revive_what_a_snapshot_killed():
    """The rows were rewritten when the snapshot was joined, without it; merging them wrote it once more."""
    run(random_script(FORGETTING, 711, 160), retain=True, forgets=True)
