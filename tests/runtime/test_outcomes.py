"""Changes are the log's operations, in its order, and each token says where to go on."""

from hypothesis import given, settings
from hypothesis import strategies as st

import mmrepl
from mmrepl.causality.version_vector import VersionVector
from mmrepl.runtime import outcomes
from mmrepl.runtime.outcomes import changes_since
from mmrepl.store.store import Store

STEPS = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from("abc"), st.sampled_from(["", "t"]), st.booleans()), max_size=30
)


def history(steps: list[tuple[int, str, str, bool]]) -> Store:
    """What the first of two replicas holds that write few keys of two tables, and meet now and then."""
    both = mmrepl.Replica("a"), mmrepl.Replica("b")
    for number, (who, key, table, meets) in enumerate(steps):
        if number % 7 == 6:
            both[who].table(table).delete(key)
        else:
            both[who].table(table).put(key, number)
        if meets:
            both[1 - who].merge(both[who].delta(since=both[1 - who].version))
    return both[0]._store


@given(STEPS, st.integers(1, 5))
@settings(max_examples=60)
def test_changes_are_the_operations_that_are_held_in_log_order(steps, page):
    """Columns become changes a page at a time, and nothing is lost, repeated or exchanged where a page ends."""
    store = history(steps)
    expected = [
        (op.dot, op.table, op.key, op.timestamp, op.payload) for op in store.log.operations(store.log.missing({}))
    ]
    before, outcomes.PAGE_OPERATIONS = outcomes.PAGE_OPERATIONS, page
    try:
        found = list(changes_since(store, VersionVector()))
    finally:
        outcomes.PAGE_OPERATIONS = before
    assert [(each.dot, each.table, each.key, each.timestamp, each.payload) for each in found] == expected


@given(STEPS)
@settings(max_examples=40)
def test_the_token_of_a_change_continues_behind_it(steps):
    """Whoever goes on from any token sees exactly what followed; after the last one there is nothing left."""
    store = history(steps)
    found = list(changes_since(store, VersionVector()))
    for number, change in enumerate(found):
        assert change.token.covers(change.dot)
        assert list(changes_since(store, change.token)) == found[number + 1 :]
    if found:
        assert found[-1].token == store.version
