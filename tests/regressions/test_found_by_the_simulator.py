"""
Defects of the core that the simulator found, each by the shortest story that shows it.

The seeds that found them are of no use here: what a seed draws changes with the simulator.
"""

from __future__ import annotations

from random import Random

from mmrepl.causality.context import BLIND, CausalContext
from mmrepl.causality.version_vector import VersionVector
from mmrepl.replication.local import LocalCore
from mmrepl.replication.membership import Membership
from mmrepl.replication.multi_master import MultiMaster, Options
from mmrepl.replication.rejoin import Rejoin
from mmrepl.store.read import read_payload
from mmrepl.store.store import Store
from mmrepl.types import Limits, NodeId
from mmrepl.values import encode
from mmrepl.wire.messages import MemberEntry, Members

PARIS, TOKYO = NodeId("paris", 1), NodeId("tokyo", 1)
ONE, TWO = encode(1), encode(2)


def context(store, key):
    return store.context(store.table(""), key)


def test_a_node_that_starts_over_carries_its_deletions():
    """Tokyo had deleted a key, and nobody else knew: the deletion is written again, over what it had deleted."""
    paris, tokyo = Store(PARIS), Store(TOKYO)
    paris.put(paris.table(""), "k", ONE, 1)
    core = LocalCore(tokyo)
    for message in LocalCore(paris).blob(VersionVector()):
        core.merge([message], 1)
    tokyo.put(tokyo.table(""), "k", None, 2)
    rejoin = Rejoin(core, {})
    rejoin.start_over(paris.version, NodeId("tokyo", 2), is_old_copy=False)
    core.merge(LocalCore(paris).blob(VersionVector()), 3)
    assert rejoin.carry_on(caught_up=True) == 1
    assert [sibling.is_tombstone for sibling in tokyo.siblings(tokyo.table(""), "k")] == [True]


def test_what_has_come_back_by_another_way_is_not_written_again():
    """Lima had tokyo's write, and somebody who had seen it deleted it there: it does not rise when tokyo carries on."""
    tokyo, lima = Store(TOKYO), Store(NodeId("lima", 1))
    tokyo.put(tokyo.table(""), "k", ONE, 1)
    core, others = LocalCore(tokyo), LocalCore(lima)
    others.merge(core.blob(VersionVector()), 1)
    lima.put(lima.table(""), "k", None, 2)
    rejoin = Rejoin(core, {})
    rejoin.start_over(VersionVector(), NodeId("tokyo", 2), is_old_copy=False)  # whom it met had not heard of it
    core.merge(others.blob(VersionVector()), 3)
    assert rejoin.carry_on(caught_up=True) == 0
    assert [sibling.is_tombstone for sibling in tokyo.siblings(tokyo.table(""), "k")] == [True]


def test_what_is_written_again_covers_deletions_that_were_forgotten():
    """
    A carried write keeps its old stamp. Where a younger deletion of the key is still held it would lose to it, where that
    is forgotten it would live: so it covers all that is dead here, whether or not it is still to be seen.
    """
    tokyo, lima = Store(TOKYO), Store(NodeId("lima", 1))
    lima.put(lima.table(""), "k", None, 50, BLIND)
    lima_again = LocalCore(lima)
    tokyo.put(tokyo.table(""), "k", ONE, 1)
    core = LocalCore(tokyo)
    rejoin = Rejoin(core, {})
    rejoin.start_over(VersionVector(), NodeId("tokyo", 2), is_old_copy=False)
    core.merge(lima_again.blob(VersionVector()), 60)
    tokyo.keyspace.tables[0].remove("k")  # forgotten: the clock covers it, and nothing is left of it
    rejoin.carry_on(caught_up=True)
    lima_again.merge(core.blob(lima.version), 60)
    for store in (tokyo, lima):
        assert [sibling.payload for sibling in store.siblings(store.table(""), "k")] == [ONE]


def test_what_would_lose_at_once_is_not_written_again():
    """
    Lima's deletion is younger than what tokyo carries, and stands beside a value of lima's own, so that no context can
    cover the one without the other. Where both are forgotten what tokyo carries would live, where not it would lose.
    """
    lima, paris, tokyo = Store(NodeId("lima", 1)), Store(PARIS), Store(TOKYO)
    lima.put(lima.table(""), "k", TWO, 5)
    lima.put(lima.table(""), "k", None, 50, BLIND)
    others, forgetful, core = LocalCore(lima), LocalCore(paris), LocalCore(tokyo)
    forgetful.merge(others.blob(VersionVector()), 60)
    tokyo.put(tokyo.table(""), "k", ONE, 10)
    rejoin = Rejoin(core, {})
    rejoin.start_over(VersionVector(), NodeId("tokyo", 2), is_old_copy=False)
    core.merge(others.blob(VersionVector()), 60)
    forgetful.upkeep(position=paris.log.end)
    paris.forget(paris.version)
    assert not paris.siblings(paris.table(""), "k")
    rejoin.carry_on(caught_up=True)
    for member in (others, forgetful):
        member.merge(core.blob(lima.version), 60)
    assert [read_payload(store, store.table(""), "k") for store in (lima, paris, tokyo)] == [None, None, None]


def test_what_is_written_again_covers_what_the_dead_had_seen():
    """
    Lima deleted a value of paris that lima itself has not got: its context was read elsewhere. Tokyo writes over that
    deletion. Whoever has the value and is given a snapshot hears no more of the deletion, and has to hear of it by this.
    """
    lima, paris, tokyo = Store(NodeId("lima", 1)), Store(PARIS), Store(TOKYO)
    paris.put(paris.table(""), "k", TWO, 5)
    lima.put(lima.table(""), "k", None, 6, CausalContext("", "k", VersionVector({PARIS: 1})))
    others, core = LocalCore(lima), LocalCore(tokyo)
    tokyo.put(tokyo.table(""), "k", ONE, 10)
    rejoin = Rejoin(core, {})
    rejoin.start_over(VersionVector(), NodeId("tokyo", 2), is_old_copy=False)
    core.merge(others.blob(VersionVector()), 60)
    rejoin.carry_on(caught_up=True)
    apart = LocalCore(paris)
    taken = core.capture("x")
    ours = LocalCore(paris).blob(VersionVector())
    apart.merge([core.snapshot_chunk(taken, index) for index in range(len(taken))], 60)
    core.merge(ours, 60)
    for store in (paris, tokyo):
        assert [sibling.payload for sibling in store.siblings(store.table(""), "k")] == [ONE]


def test_what_is_made_again_was_let_in_before():
    """A limit of siblings refuses a client, and not a write that is made again: its refusal brought the node down."""
    store = Store(TOKYO, limits=Limits(siblings_max=2))
    for payload in (ONE, TWO):
        store.put(store.table(""), "k", payload, 1, BLIND)
    store.put(store.table(""), "k", encode(3), 0, CausalContext("", "k", VersionVector()), stamp=7)
    assert len(store.siblings(store.table(""), "k")) == 3


def test_whoever_starts_over_looks_for_whom_it_was_told_of():
    """It has left its cluster and its members; nobody may know of it: without its configuration it would be alone."""
    members = Membership(TOKYO, "tokyo:1", ["paris:1"])
    members.met(PARIS, "paris:1", "paris:1")
    members.start_over(NodeId("tokyo", 2))
    assert members.addresses() == ["paris:1"]


def test_a_hello_tells_the_address_of_this_life():
    """
    A node that came back empty, elsewhere, was told by its first peer where it had been, and told it the next ones.

    They took the map of that peer for the truth, and dialled it where it was for ever: it was not connected *there*.
    """
    core = MultiMaster(LocalCore(Store(TOKYO)), Random(1), Options(address="tokyo:2"), {}, 0)
    core.members.merge(Members([MemberEntry("tokyo", 0, "tokyo:1", 9, removed=False)]))
    core.connected(1, "paris:1", 0, 0)
    (hello,) = (envelope.message for envelope in core.ready(0, 0).send)
    assert hello.address == "tokyo:2"
    core.members.merge(Members([MemberEntry("lima", 1, "tokyo:1", 1, removed=False)]))
    assert core.wanted_addresses() == core.missing_addresses() == ["tokyo:1"]


def test_an_earlier_incarnation_is_no_company():
    """Two nodes that both lost their memories held each other's old selves for members, and refused each other for ever."""
    members = Membership(TOKYO, "tokyo:1")
    members.met(PARIS, "paris:1", "")
    assert not members.is_alone()
    assert members.is_alone("paris")


def test_a_snapshot_of_the_old_store_is_not_served_by_the_new_one():
    """Its columns are numbered otherwise: what was read from them went out under other origins, or not at all."""
    core = MultiMaster(LocalCore(Store(TOKYO)), Random(1), Options(address="tokyo:1"), {}, 0)
    other = MultiMaster(LocalCore(Store(PARIS)), Random(2), Options(address="paris:1"), {}, 0)
    core.connected(1, "", 0, 0)
    other.connected(1, "paris:1", 0, 0)
    hello = next(envelope.message for envelope in other.ready(0, 0).send)
    core.ready(0, 0)
    core.receive(1, hello, 0, 0)
    peer = core.peers["paris"]
    peer.capture = core.local.capture("x")
    core.identity.start_over(VersionVector())
    assert peer.capture is None
