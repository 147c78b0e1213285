"""The machine plays with real replicas, passes on what is right, and finds what is planted in them."""

from __future__ import annotations

from typing import ClassVar

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

import mmrepl
from mmrepl import BLIND
from mmrepl.replication.local import LocalCore
from mmrepl.resolvers import Callback
from mmrepl.storage import MemoryDisk
from mmrepl.store.store import Store
from mmrepl.testing import EmbeddedMachine
from tests.testing import wrong

TestReplication = EmbeddedMachine.TestCase


class Carts(EmbeddedMachine):
    """As users write it."""

    nodes = ("home", "train")
    tables: ClassVar = {"carts": Callback(wrong.union)}
    keys = ("ada",)
    values = st.lists(st.sampled_from(["tea", "milk", "cake"]), unique=True)

    def check_read(self, read):
        assert set(read.value) <= {"tea", "milk", "cake"}
        assert len(read.value) == len(set(read.value))


TestCarts = Carts.TestCase
TestCarts.settings = settings(max_examples=15)


_SEARCH = [Phase.generate]  # what is planted need not be shrunk


def fails(machine: type[EmbeddedMachine] = EmbeddedMachine, examples: int = 300) -> str:
    """What the machine complains of."""
    options = settings(max_examples=examples, stateful_step_count=30, report_multiple_bugs=False, phases=_SEARCH)
    with pytest.raises(Exception) as caught:
        run_state_machine_as_test(machine, settings=options)
    return str(caught.value)


def test_a_subclass_own_assertion_is_asked_of_every_read():
    """Planted: an expectation that does not hold."""

    class Wrong(Carts):
        def check_read(self, read):
            assert "cake" not in read.value, "no cake"

    assert "no cake" in fails(Wrong)


def test_a_resolver_that_counts_is_found():
    """Planted: two answers for the same siblings."""

    class Wrong(Carts):
        tables: ClassVar = {"carts": Callback(wrong.counts_calls, check="never")}
        check_read = EmbeddedMachine.check_read

    assert "two answers" in fails(Wrong)


def test_an_ignored_context_is_found(monkeypatch):
    """Planted: a blind write that overwrites."""
    honest = Store.put

    def put(self, table, key, payload, wall_ms, context=None):
        return honest(self, table, key, payload, wall_ms, None if context is BLIND else context)

    monkeypatch.setattr(Store, "put", put)
    assert "from the writes follow" in fails()


def test_a_forgotten_context_is_found(monkeypatch):
    """Planted: a write with the context of a read that leaves what was read beside it."""
    honest = Store.put

    def put(self, table, key, payload, wall_ms, context=None):
        return honest(self, table, key, payload, wall_ms, context and BLIND)

    monkeypatch.setattr(Store, "put", put)
    assert "from the writes follow" in fails()


def test_an_acknowledgement_before_the_disk_is_found(monkeypatch):
    """Planted: SYNC that is none, and a loss of power."""
    honest = MemoryDisk.commit

    def commit(self, commit, durability):
        honest(self, commit, mmrepl.Durability.NONE)

    monkeypatch.setattr(MemoryDisk, "commit", commit)
    assert "acknowledged as durable and is gone" in fails()


def test_a_dot_minted_twice_is_found(monkeypatch):
    """Planted: no doubt after a loss of power that took what had been told to others."""
    honest = MemoryDisk.commit

    def commit(self, commit, durability):
        honest(self, commit, mmrepl.Durability.NONE)

    def lose_power(self, *, keep_count=0):
        del self._unsynced[keep_count:]
        self._sync()
        self._holder = 0

    monkeypatch.setattr(MemoryDisk, "commit", commit)
    monkeypatch.setattr(MemoryDisk, "lose_power", lose_power)
    assert fails()


def test_a_merge_that_drops_something_is_found(monkeypatch):
    """Planted: a delta that is acknowledged and not applied, when it brings two operations or more."""
    honest = LocalCore.merge

    def merge(self, messages, wall_ms):
        received = list(messages)
        if sum(message.batch.dot_count for message in received) > 2:
            return honest(self, [], wall_ms)
        return honest(self, received, wall_ms)

    monkeypatch.setattr(LocalCore, "merge", merge)
    assert fails()


def test_a_delta_over_a_gap_is_found(monkeypatch):
    """Planted: the check of what a delta stands on, left out."""
    monkeypatch.setattr(LocalCore, "_check_deltas", lambda self, deltas: None)
    assert fails()
