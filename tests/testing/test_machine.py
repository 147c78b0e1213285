"""The machine plays with a simulated cluster, passes on what is right, and finds what is planted."""

from __future__ import annotations

from typing import ClassVar

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from mmrepl.resolvers import Callback
from mmrepl.sim.defects import DEFECTS
from mmrepl.testing import ReplicationMachine
from tests.testing import wrong

TestReplication = ReplicationMachine.TestCase
TestReplication.settings = settings(max_examples=60, stateful_step_count=30)


class Carts(ReplicationMachine):
    """As users write it."""

    nodes = ("home", "train")
    tables: ClassVar = {"carts": Callback(wrong.union)}
    keys = ("ada",)
    values = st.lists(st.sampled_from(["tea", "milk", "cake"]), unique=True)

    def check_read(self, read):
        assert set(read.value) <= {"tea", "milk", "cake"}
        assert len(read.value) == len(set(read.value))


TestCarts = Carts.TestCase
TestCarts.settings = settings(max_examples=20)


class Line(Carts):
    """Nodes that hear of each other through others."""

    nodes = ("home", "train", "office", "shop")
    topology = "line"


TestLine = Line.TestCase
TestLine.settings = settings(max_examples=10)


def fails(machine: type[ReplicationMachine] = ReplicationMachine, examples: int = 300) -> str:
    """What the machine complains of."""
    options = settings(
        max_examples=examples,
        stateful_step_count=30,
        derandomize=True,
        report_multiple_bugs=False,
        phases=[Phase.generate],
    )
    with pytest.raises(Exception) as caught:
        run_state_machine_as_test(machine, settings=options)
    return str(caught.value)


def test_a_subclass_own_assertion_is_asked():
    """Planted: an expectation that does not hold."""

    class Wrong(Carts):
        def check_read(self, read):
            assert "cake" not in read.value, "no cake"

    assert "no cake" in fails(Wrong)


def test_a_resolver_that_counts_is_found():
    """Planted: two answers for the same siblings."""

    class Wrong(Carts):
        tables: ClassVar = {"carts": Callback(wrong.counts_calls, check="never")}
        check_read = ReplicationMachine.check_read

    assert fails(Wrong)


@pytest.mark.parametrize(
    "name",
    [
        "sibling rises again", "acknowledged by one too few", "stamps fall",
        "acknowledged before synced", "delta applied over a gap", "tie broken by arrival",
        "repair never asked for", "incarnation kept after a wipe",
    ],
)  # fmt: skip
def test_a_planted_defect_is_found(name):
    """Of the core itself, by nothing but these rules."""
    with DEFECTS[name].planted():
        assert fails()


def test_a_failure_shows_what_led_to_it():
    """The judgement, and a diagram of the writes in question."""
    with DEFECTS["sibling lost in a merge"].planted():
        told = fails()
    assert "●" in told
    assert "paris" in told
