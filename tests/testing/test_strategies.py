"""What the strategies draw can be stored, sent and told apart; and every public value has one."""

from __future__ import annotations

import typing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmrepl
from mmrepl.errors import InvalidValue, UsageError
from mmrepl.resolvers import Callback, Sibling, canonical
from mmrepl.testing import hypothesis_plugin, strategies
from mmrepl.testing.history import STEPS
from mmrepl.values import check_key, check_table, decode, encode
from tests.testing import wrong


@given(strategies.values(), strategies.json_values())
def test_values_can_be_stored(value, plain):
    """They come back as the same bytes."""
    for one in (value, plain):
        assert encode(decode(encode(one))) == encode(one)


@given(strategies.keys(), strategies.tables())
def test_keys_and_tables_are_let_in(key, table):
    """By the store's own rules."""
    check_key(key)
    check_table(table)


@given(strategies.dots(), strategies.node_ids(), strategies.contexts())
def test_names_survive_being_written_down(dot, node, context):
    """As text, and as a token."""
    assert mmrepl.Dot.parse(str(dot)) == dot
    assert mmrepl.NodeId.parse(str(node)) == node
    assert mmrepl.CausalContext.from_bytes(context.to_bytes()) == context


@given(strategies.sibling_groups(min_size=2))
def test_groups_are_in_canonical_order(group):
    """As a resolver is shown them."""
    assert canonical(group) == group
    assert len({sibling.dot for sibling in group}) == len(group) >= 2


@given(
    strategies.operations(), strategies.containers(), strategies.receipts(), strategies.changes(), strategies.reads()
)
def test_what_replicas_hand_out_fits_together(operation, container, receipt, change, read):
    """Contexts cover what they must and nothing that they must not."""
    assert not operation.context.covers(operation.dot)
    assert all(container.context.covers(sibling.dot) for sibling in container.siblings)
    assert receipt.context.vector.covers(receipt.dot)
    assert change.token.covers(change.dot)
    assert all(read.context.vector.covers(sibling.dot) for sibling in read.siblings)


@settings(max_examples=10)
@given(st.data())
def test_every_registered_strategy_gives_its_type(data):
    """The table of the Hypothesis plugin names types and strategies that exist and fit."""
    import importlib

    for module, types in hypothesis_plugin.TYPES.items():
        for name, strategy in types.items():
            kind = getattr(importlib.import_module(module), name)
            assert isinstance(data.draw(getattr(strategies, strategy)()), kind)


def test_every_public_value_is_registered():
    """Whatever ``mmrepl`` lists and can be drawn: all but hosts, views and errors."""
    registered = {name for types in hypothesis_plugin.TYPES.values() for name in types}
    hosts = {name for name in mmrepl.__all__ if not isinstance(getattr(mmrepl, name), type)}
    hosts |= {
        "MmreplError",
        "Replica",
        "Node",
        "BlockingNode",
        "SingleMasterNode",
        "Client",
        "BlockingClient",
        "TableView",
    }
    hosts |= {"Durability"}  # an enum draws itself
    assert set(mmrepl.__all__) - hosts <= registered


@given(strategies.histories(strategies.json_values()))
def test_histories_are_histories(history):
    """Steps only, and everybody meets at the end."""
    assert all(isinstance(step, STEPS) for step in history)
    assert type(history[-1]).__name__ == "Exchange"


@pytest.mark.parametrize(
    ("annotation", "example"),
    [
        (list[str], ["a"]),
        (dict[str, list[int]], {"a": [1]}),
        (int | None, None),
        (dict[str, typing.Any], {"a": None}),
        (bytes, b""),
        (list, []),
    ],
)
def test_a_type_is_understood(annotation, example):
    """What is drawn can be stored, and is of that shape."""
    assert strategies.of_type(annotation) is not None
    encode(example)

    @settings(max_examples=20)
    @given(strategies.values_for(annotation))
    def check(value):
        encode(value)

    check()


@pytest.mark.parametrize("annotation", [set[int], dict[int, str], complex, tuple[int, ...]])
def test_a_type_that_is_no_value_is_not_understood(annotation):
    """It is left to Hypothesis, and refused by what it draws."""
    assert strategies.of_type(annotation) is None


def test_values_are_guessed_from_the_annotation():
    """Of the function's one parameter."""

    def merge(counts: list[dict[str, int]]) -> dict[str, int]: ...

    def check(function, is_right):
        @settings(max_examples=30)
        @given(strategies.values_for(None, function))
        def whole(value):
            assert is_right(value)

        whole()

    check(merge, lambda value: isinstance(value, dict) and all(type(count) is int for count in value.values()))
    check(Callback(wrong.union), lambda value: isinstance(value, list))
    check(lambda values: values, lambda value: encode(value) is not None)


def test_examples_are_checked_before_they_are_used():
    """A set in the list is named by its place."""
    with pytest.raises(UsageError, match=r"values\[0\]"):
        strategies.values_for([{1}])
    with pytest.raises(InvalidValue):
        Sibling.of({1}, timestamp=1, origin="a")
