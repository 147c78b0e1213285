"""The two resolvers that come without a function: last-writer-wins and keep-siblings, each beside its plain twin."""

from __future__ import annotations

import pytest
from hypothesis import given

from mmrepl.resolvers import KeepSiblings, LastWriterWins, Sibling
from mmrepl.types import DEPTH_MAX, Limits
from mmrepl.values import decode, encode
from tests.resolvers.strategies import sibling_sets


@given(sibling_sets(least=1))
def test_last_writer_wins_takes_the_greatest_of_timestamp_origin_counter(siblings):
    """A total order, spelled out; deletions take part in it like updates."""
    by_hand = {(s.timestamp, s.dot.origin.name, s.dot.origin.incarnation, s.dot.counter): s for s in siblings}
    winner = by_hand[max(by_hand)]
    resolution = LastWriterWins().resolve(siblings)
    assert resolution.winner == winner.dot
    assert resolution.payload == winner.payload
    assert len(resolution.losers) == len(siblings) - 1


@given(sibling_sets(least=1))
def test_keep_siblings_reads_as_the_list_of_values(siblings):
    """In canonical order, tombstones left out, equal values of different writers kept apart; to the byte."""
    ordered = sorted(siblings, key=lambda sibling: sibling.rank)
    values = [sibling.value for sibling in ordered if not sibling.is_tombstone]
    resolution = KeepSiblings().resolve(siblings)
    assert resolution.payload == (encode(values) if values else None)
    assert resolution.winner is None


@pytest.mark.parametrize("count", [1, 2, 15, 16, 255, 256, 65_535, 65_536])
def test_keep_siblings_counts_as_far_as_it_takes(count):
    """The header of the list grows with the number of siblings."""
    siblings = [Sibling.of(n, timestamp=n, origin="a", counter=n + 1) for n in range(count)]
    assert KeepSiblings().resolve(siblings).value == list(range(count))


def test_the_deepest_value_can_still_be_read_as_a_sibling():
    """A list of siblings is one level deeper than a value may be, and is read all the same."""
    limits = Limits(depth=DEPTH_MAX)
    deep: list = [b"x"]
    for _ in range(DEPTH_MAX - 1):
        deep = [deep]
    dot = Sibling.tombstone(timestamp=1, origin="a").dot
    resolution = KeepSiblings().resolve([Sibling(dot, 1, encode(deep, limits))])
    assert resolution.value == [deep]
    assert decode(encode(deep, limits)) == deep
