"""What holds for every resolver."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from mmrepl.resolvers import Callback, KeepSiblings, LastWriterWins, Resolution, Resolver, Sibling
from mmrepl.values import encode
from tests.resolvers.strategies import payloads, shuffled, sibling_sets


def first_come(values):
    """Neither associative nor commutative, and it need not be."""
    return values[0]


def gathered(values):
    return {"seen": values, "first": repr(values[0])}


def ranked(siblings):
    return [[str(sibling.dot), sibling.timestamp, sibling.value] for sibling in siblings]


RESOLVERS = [
    LastWriterWins(),
    KeepSiblings(),
    Callback(first_come),
    Callback(gathered),
    Callback(ranked, with_siblings=True),
    Callback(gathered, check="sample"),
    Callback(gathered, check="never"),
]
unshrunk = settings(phases=[Phase.generate])
each_resolver = pytest.mark.parametrize("resolver", RESOLVERS, ids=lambda resolver: f"{resolver.policy}")


@each_resolver
@given(shuffled())
def test_the_order_of_arrival_does_not_matter(resolver, both):
    """The same siblings, the same answer, to the byte; also when some were heard of twice."""
    ours, theirs = both
    assert resolver.resolve(ours) == resolver.resolve(theirs) == resolver.resolve([*theirs, *ours])


@each_resolver
@given(sibling_sets())
def test_an_answer_accounts_for_every_sibling(resolver, siblings):
    """Losers are siblings, the winner is none of them, and its bytes are the answer; there is a reason for each loss."""
    resolution = resolver.resolve(siblings)
    assert sorted(resolution.siblings, key=hash) == sorted(siblings, key=hash)
    assert set(resolution.losers) <= set(siblings)
    assert resolution.present == (resolution.payload is not None)
    assert len(resolution.explain()) == len(resolution.losers)
    if resolution.winner is not None:
        (winner,) = (sibling for sibling in siblings if sibling.dot == resolution.winner)
        assert resolution.payload == winner.payload
        assert set(resolution.losers) == set(siblings) - {winner}
    if resolution.present:
        assert encode(resolution.value) == resolution.payload
    repr(resolution)


@each_resolver
@given(sibling_sets(payload=st.none()))
def test_a_key_of_tombstones_is_absent(resolver, siblings):
    """And so is one without siblings."""
    resolution = resolver.resolve(siblings)
    assert not resolution.present
    assert resolution.value is None
    assert resolver.resolve([]) == Resolution.absent(())


@each_resolver
@given(sibling_sets(least=1))
def test_under_all_but_last_writer_wins_an_update_survives_a_concurrent_deletion(resolver, siblings):
    """Tombstones change nothing about the answer of the values beside them, whatever their stamps."""
    values = [sibling for sibling in siblings if not sibling.is_tombstone]
    if resolver.selects or not values:
        return
    assert resolver.resolve(siblings).payload == resolver.resolve(values).payload
    assert [sibling for sibling in resolver.resolve(siblings).losers if not sibling.is_tombstone] == []


@each_resolver
@given(payloads.filter(bool))
def test_one_value_alone_is_read_as_it_is_unless_wrapped(resolver, payload):
    """`wraps` says truly whether a store may skip the resolver for a key with one live write."""
    sibling = Sibling(Sibling.tombstone(timestamp=1, origin="a").dot, 1, payload)
    resolution = resolver.resolve([sibling])
    assert (resolution.payload == payload) == (not resolver.wraps)


@each_resolver
@given(sibling_sets(least=1))
def test_a_resolver_that_selects_takes_the_last(resolver, siblings):
    """`selects` says truly whether a store may forget all but the last in canonical order, or ask only it."""
    if resolver.selects:
        last = max(siblings, key=lambda sibling: sibling.rank)
        assert resolver.resolve(siblings).payload == resolver.resolve([last]).payload == last.payload


class FirstHeard(Resolver):
    """Planted: a tie of timestamps is broken by arrival."""

    selects = True

    def decide(self, siblings):
        return self.resolve(siblings)

    def resolve(self, siblings):
        return Resolution.select(max(siblings, key=lambda sibling: sibling.timestamp), tuple(siblings))


def test_a_tie_broken_by_arrival_is_found():
    """The law above has teeth."""
    assert find(
        shuffled(least=1),
        lambda both: FirstHeard().resolve(both[0]).winner != FirstHeard().resolve(both[1]).winner,
        settings=unshrunk,
    )


class Unsorted(Callback):
    """Planted: the function is handed the values in the order of arrival."""

    __slots__ = ()

    def resolve(self, siblings):
        return self.decide(tuple(siblings))


def test_values_in_order_of_arrival_are_found():
    """So does a function that looks at the order, when nobody sorts for it."""
    resolver = Unsorted(first_come)
    assert find(
        shuffled(least=2, payload=payloads.filter(bool)),
        lambda both: resolver.resolve(both[0]).payload != resolver.resolve(both[1]).payload,
        settings=unshrunk,
    )


def test_policies_tell_resolvers_apart():
    """Nodes compare them: the same for the same policy, different for different ones."""
    assert LastWriterWins().policy == "last-writer-wins"
    assert KeepSiblings().policy == "keep-siblings"
    assert Callback(first_come).policy == "callback tests.resolvers.test_laws:first_come"
    assert Callback(first_come, name="carts 2").policy == "callback carts 2"
    assert FirstHeard().policy == "tests.resolvers.test_laws:FirstHeard"
    assert LastWriterWins() == LastWriterWins() != KeepSiblings()
    assert Callback(first_come) == Callback(first_come) != Callback(gathered)
    assert len({LastWriterWins(), LastWriterWins(), KeepSiblings(), Callback(first_come)}) == 3


def test_resolvers_need_nothing_else_of_mmrepl():
    """Importing them brings in no store, no network, no database and no event loop; and they work."""
    program = (
        "import sys\n"
        "from mmrepl.resolvers import Callback, KeepSiblings, LastWriterWins, Sibling\n"
        "heard = [Sibling.of('a', timestamp=2, origin='x'), Sibling.of('b', timestamp=1, origin='y')]\n"
        "print(LastWriterWins().resolve(heard).value, KeepSiblings().resolve(heard).value, end=' ')\n"
        "print(Callback(sorted).resolve(heard).value)\n"
        "heavy = ['sqlite3', 'asyncio', 'socket', 'selectors', 'logging', 'orjson', 'mmrepl.store', 'mmrepl.log',"
        " 'mmrepl.wire', 'mmrepl.runtime', 'mmrepl.replication', 'mmrepl.storage', 'mmrepl.transport']\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "a ['b', 'a'] ['a', 'b']\n[]\n", done.stderr
