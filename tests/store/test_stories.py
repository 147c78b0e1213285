"""
What must not happen, as short stories of a few stores; each is told twice, with the store as it is and with one bug.

A story ends in an assertion. Told with the bug that it is about, it must end badly: so it is known to be able to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any
from unittest import mock

import pytest
from attrs import evolve

from mmrepl.causality.context import BLIND, CausalContext
from mmrepl.causality.dot import COUNTER_BITS, COUNTER_MAX
from mmrepl.causality.version_vector import EMPTY, VersionVector
from mmrepl.errors import LogTruncated, MmreplError
from mmrepl.log import columns as columns_module
from mmrepl.log.columns import Columns, Segment
from mmrepl.log.oplog import OpLog
from mmrepl.ports import Durability
from mmrepl.replication import local as local_module
from mmrepl.replication.local import LocalCore
from mmrepl.storage.memory import MemoryDisk
from mmrepl.store.journal import Journal
from mmrepl.store.keyspace import Keyspace
from mmrepl.store.read import read
from mmrepl.store.store import Store
from mmrepl.values import decode, encode
from tests.store.world import Site, borders

NOW_MS = 1_000_000


class Teller:
    """Verbs of the stories, over sites that are called by their names."""

    def __init__(self, *, retain: bool = False) -> None:
        self._retain = retain
        self._sites: dict[str, Site] = {}
        self._now_ms = count(NOW_MS)

    def __getitem__(self, name: str) -> Site:
        if name not in self._sites:
            self._sites[name] = Site(name, retain=self._retain)
        return self._sites[name]

    def put(
        self, name: str, key: str, value: object, context: CausalContext | None = None, *,
        table: str = "all", level: Durability | None = Durability.SYNC, at_ms: int | None = None,
    ) -> None:  # fmt: skip
        """Write (None deletes) and commit, unless *level* is None."""
        site = self[name]
        payload = None if value is None else encode(value)  # type: ignore[arg-type]
        when = next(self._now_ms) if at_ms is None else at_ms
        site.core.store.put(site.core.store.table(table), key, payload, when, context)
        if level is not None:
            site.commit(level)

    def context(self, name: str, key: str, table: str = "all") -> CausalContext:
        store = self[name].core.store
        return store.context(store.table(table), key)

    def values(self, name: str, key: str, table: str = "all") -> object:
        """What is read: None where the key is absent."""
        store = self[name].core.store
        store.check()
        outcome = read(store, store.table(table), key)
        return None if outcome.payload is None else decode(outcome.payload)

    def give(self, source: str, target: str) -> None:
        """All that is durable at one and lacking at the other."""
        for message in self[source].core.blob(self[target].version):
            self[target].core.merge([message], NOW_MS + 10_000)
        self[target].commit(Durability.SYNC)

    def snapshot(self, source: str, target: str) -> None:
        core = self[source].core
        taken = core.capture("x")
        self[target].core.merge([core.snapshot_chunk(taken, i) for i in range(len(taken))], NOW_MS + 10_000)
        self[target].commit(Durability.SYNC)

    def cut(self, name: str, position: int | None = None) -> None:
        """Settle the log before a position, or all of it, and commit that."""
        site = self[name]
        site.begin(Durability.SYNC)  # rows that are to be merged come first
        site.finish()
        assert site.core.upkeep(position=site.core.store.log.end if position is None else position)
        site.commit(Durability.SYNC)

    def forget(self, name: str, *stable: str) -> None:
        """What all of *stable* have is known to be with everybody."""
        vector = self[stable[0]].version
        for other in stable[1:]:
            vector = vector.meet(self[other].version)
        self[name].core.store.forget(vector)

    def reopen(self, name: str) -> None:
        self[name].disk.crash()
        self[name].open()


Story = Callable[[Teller], None]


def a_tombstone_over_what_is_still_on_its_way(tell: Teller) -> None:
    """Law 7: a deletion at paris covers what paris has not got yet. Its dot is stable before its context is."""
    tell.put("rome", "cake", "old")
    tell.give("rome", "oslo")
    tell.put("paris", "cake", None, tell.context("oslo", "cake"))
    tell.give("paris", "oslo")
    tell.give("paris", "rome")
    tell.cut("paris")
    tell.forget("paris", "paris", "oslo", "rome")
    tell.give("rome", "paris")
    assert tell.values("paris", "cake") is None


def a_newcomer_is_given_what_was_deleted_and_forgotten(tell: Teller) -> None:
    """The value comes with one frame, what deleted it with another."""
    tell.put("paris", "cake", "old")
    for number in range(5):
        tell.put("paris", f"other {number}", number)
    tell.put("paris", "cake", None)
    tell.forget("paris", "paris")
    tell.give("paris", "oslo")
    assert tell.values("oslo", "cake") is None


def a_loser_stands_behind_the_tombstone_that_won(tell: Teller) -> None:
    """The cut takes the tombstone, the loser stays in the log, and is alone after a restart."""
    tell.put("oslo", "cake", "early", table="latest", at_ms=1_000)
    tell.put("paris", "cake", None, BLIND, table="latest", at_ms=2_000)
    tell.give("oslo", "paris")
    tell.forget("paris", "paris")
    tell.cut("paris", 2)
    tell.reopen("paris")
    assert tell.values("paris", "cake", "latest") is None


def a_death_in_a_segment_outlives_who_brought_it(tell: Teller) -> None:
    """The segment of the tombstone is gone, the segment of the value is not."""
    for key in ("cake", "tea", "milk"):
        tell.put("paris", key, "old")
    tell.cut("paris")
    tell.put("paris", "cake", None)
    tell.cut("paris")
    tell.forget("paris", "paris")
    tell.put("oslo", "sugar", 1)
    tell.give("oslo", "paris")
    tell.cut("paris")
    tell.reopen("paris")
    assert tell.values("paris", "cake") is None
    assert tell.values("paris", "tea") == ["old"]


def a_traveller_comes_back_with_what_was_deleted(tell: Teller) -> None:
    """Law 8: the others have forgotten the tombstone; the snapshot kills by saying nothing."""
    tell.put("paris", "cake", "old")
    tell.give("paris", "rome")
    tell.put("rome", "tea", "written on the way")
    tell.put("paris", "cake", None)
    tell.cut("paris")
    tell.forget("paris", "paris")
    tell.snapshot("paris", "rome")
    assert tell.values("rome", "cake") is None
    assert tell.values("rome", "tea") == ["written on the way"]


def deleted_as_read_elsewhere(tell: Teller) -> None:
    """Paris deletes what it has not got, as rome shows it."""
    tell.put("rome", "cake", "old")
    tell.put("paris", "cake", None, tell.context("rome", "cake"))


def written_over_a_receipt(tell: Teller) -> None:
    """Paris writes without looking, and then over that. It covers the deletion, and not what this had covered."""
    tell.put("paris", "cake", "unseen", BLIND)
    node, head = tell["paris"].core.store.node, tell["paris"].core.store.own.head
    tell.put("paris", "cake", "new", CausalContext("all", "cake", VersionVector({node: head})))


def nobody_else_covers_what_comes_after_the_snapshot(tell: Teller) -> None:
    """The clock says nothing of what paris has not got, and the deletion does not live: its husk has to tell."""
    deleted_as_read_elsewhere(tell)
    written_over_a_receipt(tell)
    tell.snapshot("paris", "oslo")
    tell.give("rome", "oslo")
    assert tell.values("oslo", "cake") == ["new"]


def what_was_here_before_the_snapshot_is_covered_by_a_husk(tell: Teller) -> None:
    """Oslo has it already; and what oslo sends on as a snapshot is right as well."""
    deleted_as_read_elsewhere(tell)
    tell.give("rome", "oslo")
    written_over_a_receipt(tell)
    tell.snapshot("paris", "oslo")
    assert tell.values("oslo", "cake") == ["new"]
    tell.snapshot("paris", "lima")
    tell.snapshot("lima", "tokyo")
    tell.give("rome", "tokyo")
    assert tell.values("tokyo", "cake") == ["new"]


def nobody_else_covers_what_comes_after_the_cut(tell: Teller) -> None:
    """The log that had the deletion is gone, and paris is started again."""
    deleted_as_read_elsewhere(tell)
    written_over_a_receipt(tell)
    tell.cut("paris")
    for _ in range(2):
        tell.reopen("paris")
        tell.put("paris", "tea", 1)
        tell.cut("paris")
    tell.snapshot("paris", "oslo")
    for name in ("paris", "oslo"):
        tell.give("rome", name)
        assert tell.values(name, "cake") == ["new"]


def a_settled_deletion_is_written_over(tell: Teller) -> None:
    """It lay in a segment, alive, when it was overwritten."""
    tell.put("paris", "milk", 1)
    deleted_as_read_elsewhere(tell)
    tell.cut("paris")
    written_over_a_receipt(tell)
    tell.snapshot("paris", "oslo")
    tell.cut("paris")
    tell.reopen("paris")
    for name in ("paris", "oslo"):
        tell.give("rome", name)
        assert tell.values(name, "cake") == ["new"]


def power_fails_under_what_others_know(tell: Teller) -> None:
    """Law 2: paris forgets a write that oslo has. Its dot is never minted again."""
    tell.put("paris", "cake", "lost", level=Durability.NONE)
    for message in tell["paris"].core.blob(EMPTY):
        tell["oslo"].core.merge([message], NOW_MS)
    tell["paris"].disk.lose_power()
    tell["paris"].open()
    tell.put("paris", "tea", "new")
    tell.give("paris", "oslo")
    tell.give("oslo", "paris")
    for name in ("paris", "oslo"):
        assert tell.values(name, "cake") == ["lost"]
        assert tell.values(name, "tea") == ["new"]


def the_process_dies_during_a_commit(tell: Teller) -> None:
    """Law 2: what the disk has not confirmed is told to nobody."""
    tell.put("paris", "cake", "lost", level=None)
    tell["paris"].begin(Durability.SYNC)
    tell.give("paris", "oslo")
    tell.reopen("paris")
    tell.put("paris", "tea", "new")
    tell.give("paris", "oslo")
    assert tell.values("oslo", "tea") == ["new"]
    assert tell["oslo"].version == tell["paris"].version


def segments_are_rewritten_and_loaded(tell: Teller) -> None:
    """Whatever was rewritten when, settled operations are found by their counters after a restart."""
    keys = [f"key {number}" for number in range(9)]
    for key in keys:
        tell.put("paris", key, "old")
    tell.cut("paris")
    for key in keys[:2]:
        tell.put("paris", key, "new")
    tell.cut("paris")
    tell.reopen("paris")
    assert [tell.values("paris", key) for key in keys] == [["new"]] * 2 + [["old"]] * 7


def a_void_is_sent_after_a_restart(tell: Teller) -> None:
    """What was overwritten in a row of the journal is sent with what overwrote it, or not at all."""
    for key, value in (("cake", "old"), ("tea", 1), ("cake", "new"), ("milk", 1), ("sugar", 1)):
        tell.put("paris", key, value)
    tell.reopen("paris")
    while (delta := tell["paris"].core.delta(tell["oslo"].version)) is not None:
        tell["oslo"].core.merge([delta], NOW_MS + 10_000)
        assert tell.values("oslo", "cake") is not None


def a_value_is_overwritten_while_a_commit_is_under_way(tell: Teller) -> None:
    """The payload is gone, what took its place is not durable: nothing is said of either."""
    tell.put("paris", "cake", "old")
    tell.put("paris", "cake", "new", level=None)
    core = tell["paris"].core
    assert not core.can_capture()
    with pytest.raises(LogTruncated):
        core.delta(EMPTY)
    tell["paris"].commit(Durability.SYNC)
    tell.give("paris", "oslo")
    assert tell.values("oslo", "cake") == ["new"]


# -- the bugs


def _by_the_dot_alone(original: Callable[..., int]) -> Callable[..., int]:
    def forget(self: Keyspace, table: Any, key: str, watermark: dict[int, int]) -> int:
        dots = self.live(table, key)
        if all(watermark.get(dot >> COUNTER_BITS, 0) >= dot & COUNTER_MAX for dot in dots):
            watermark = dict.fromkeys(range(64), COUNTER_MAX)
        return original(self, table, key, watermark)

    return forget


def _what_the_log_still_holds(_original: object) -> Callable[..., int]:
    def forget(self: Store) -> int:
        known = ((self.log.known(origin), counter) for origin, counter in self.watermark.items())
        return self.keyspace.forget({columns.index: counter for columns, counter in known if columns is not None})

    return forget


def _no_deaths(original: Callable[..., None]) -> Callable[..., None]:
    return lambda self, key, value: None if key.startswith("dead/") and value else original(self, key, value)


def _nothing(_original: object) -> Callable[..., None]:
    return lambda *_args, **_more: None


def _no_doubt(original: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self: evolve(original(self), doubt=None)


def _durable_when_handed_out(original: Callable[..., Any]) -> Callable[..., Any]:
    def take_persist(self: LocalCore) -> Any:
        persist = original(self)
        if persist is not None:
            self.persisted(persist.position)
        return persist

    return take_persist


def _new_numbers(original: Callable[..., Any]) -> Callable[..., Any]:
    numbers = count(1_000)

    def compact(self: Columns, *arguments: Any) -> tuple[list[Segment], list[int]]:
        fresh, gone = original(self, *arguments)
        for segment in fresh:
            segment.number = next(numbers)
        return fresh, gone

    return compact


def _until_the_end_of_what_is_there(_original: object) -> Callable[..., int]:
    return lambda self, slices, _budget: self.store.log.reach(slices, 1)


def _without_husks(_original: object) -> Callable[..., Segment]:
    return lambda _self, part, _husks: part


def _never(_original: object) -> Callable[..., bool]:
    return lambda *_: False


STORIES: dict[Story, tuple[bool, object, str, Callable[[Any], Any]]] = {
    a_tombstone_over_what_is_still_on_its_way: (True, Keyspace, "_forget_key", _by_the_dot_alone),
    a_newcomer_is_given_what_was_deleted_and_forgotten: (True, Store, "forget_settled", _what_the_log_still_holds),
    a_loser_stands_behind_the_tombstone_that_won: (False, Store, "forget_settled", _what_the_log_still_holds),
    a_death_in_a_segment_outlives_who_brought_it: (False, Journal, "note", _no_deaths),
    a_traveller_comes_back_with_what_was_deleted: (False, Keyspace, "drop", _nothing),
    nobody_else_covers_what_comes_after_the_snapshot: (False, Columns, "_with_husks", _without_husks),
    what_was_here_before_the_snapshot_is_covered_by_a_husk: (True, Columns, "_with_husks", _without_husks),
    nobody_else_covers_what_comes_after_the_cut: (False, columns_module, "is_open", _never),
    a_settled_deletion_is_written_over: (True, columns_module, "is_open", _never),
    power_fails_under_what_others_know: (False, MemoryDisk, "loaded", _no_doubt),
    the_process_dies_during_a_commit: (False, LocalCore, "take_persist", _durable_when_handed_out),
    segments_are_rewritten_and_loaded: (False, Columns, "compact", _new_numbers),
    a_void_is_sent_after_a_restart: (False, OpLog, "bury_voids", _nothing),
    a_value_is_overwritten_while_a_commit_is_under_way: (False, LocalCore, "_until", _until_the_end_of_what_is_there),
}


@pytest.fixture(autouse=True)
def _tiny_borders() -> Iterator[None]:
    with (
        borders(),
        mock.patch.object(local_module, "DELTA_OPERATIONS", 2),
    ):  # a monkeypatch is undone after both: a leak
        yield


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_the_story_ends_well(story: Story):
    """As it should."""
    story(Teller(retain=STORIES[story][0]))


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_the_story_ends_badly_with_the_bug_that_it_is_about(story: Story, monkeypatch: pytest.MonkeyPatch):
    """Or it would prove nothing."""
    retain, owner, attribute, plant = STORIES[story]
    monkeypatch.setattr(owner, attribute, plant(getattr(owner, attribute)))
    with pytest.raises((AssertionError, MmreplError, KeyError, pytest.fail.Exception)):
        story(Teller(retain=retain))


@pytest.mark.parametrize("retain", [False, True])
def test_a_husk_goes_when_all_has_come_that_it_covers(retain: bool):
    """Then the silence says that it is dead."""
    tell = Teller(retain=retain)
    deleted_as_read_elsewhere(tell)
    written_over_a_receipt(tell)
    tell.cut("paris")
    columns = tell["paris"].core.store.own
    assert [segment.husks for segment in columns.segments] == [{1}]
    tell.give("rome", "paris")
    tell.cut("paris")
    assert not any(segment.husks for segment in columns.segments)
    tell.reopen("paris")
    assert tell.values("paris", "cake") == ["new"]
    assert not any(segment.husks for segment in tell["paris"].core.store.own.segments)


def test_a_vector_of_nobody_forgets_nothing():
    """A watermark may name origins that this store has never heard of."""
    tell = Teller()
    tell.put("paris", "cake", None)
    tell["paris"].core.store.forget(VersionVector({tell["oslo"].core.store.node: 5}))
    tell.cut("paris")
    assert "cake" in tell["paris"].core.store.table("all").states
