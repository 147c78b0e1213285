"""Single-master nodes on loopback: real sockets, real files, the client port."""

from __future__ import annotations

import asyncio

import pytest

import mmrepl
from mmrepl.errors import (
    AckTimeout,
    ClosedError,
    InvalidKey,
    LeadershipLost,
    MembersChanging,
    NotPrimary,
    PromotionRefused,
    StoreForeign,
    UnknownBranch,
    UsageError,
)
from mmrepl.runtime.resp.client import Client
from mmrepl.runtime.single_master_node import SingleMasterNode
from mmrepl.single_master.options import Role
from mmrepl.transport.loopback import LoopbackNetwork

NAMES = ("paris", "tokyo", "lima")
QUICK = (150, 300)


class Three:
    """Three nodes on one in-memory network."""

    def __init__(self, tmp_path=None, **options):
        self.network = LoopbackNetwork()
        self.tmp_path = tmp_path
        self.options = {"election_ms": QUICK} | options
        self.nodes = {}

    def make(self, name, **more):
        path = None if self.tmp_path is None else self.tmp_path / f"{name}.db"
        peers = [f"{other}:1" for other in NAMES if other != name]
        node = SingleMasterNode(
            name, path, listen=f"{name}:1", peers=peers, transport=self.network.transport(name),
            **({"client": "127.0.0.1:0"} | self.options | more),
        )  # fmt: skip
        self.nodes[name] = node
        return node

    async def __aenter__(self):
        for name in NAMES:
            manual = self.options.get("failover") == "manual"
            await self.make(name, **({"primary": name == "paris"} if manual else {})).start()
        return self

    async def __aexit__(self, *_):
        for node in self.nodes.values():
            await node.close()

    async def leader(self):
        """The node that takes writes, once all know it."""
        name = await self.nodes["paris"].wait_for_leader()
        for node in self.nodes.values():
            await node.wait_until(lambda node=node: node.leader == name, "a leader known by all")
        return self.nodes[name]

    def follower(self, leader):
        return next(node for node in self.nodes.values() if node is not leader)


class Running:
    """A node that runs already, as an asynchronous context manager."""

    def __init__(self, node):
        self.node = node

    async def __aenter__(self):
        return self.node

    async def __aexit__(self, *error):
        return await self.node.__aexit__(*error)


async def test_a_write_is_applied_everywhere_and_read_at_every_level(tmp_path):
    """Quorum writes, and reads of the four levels."""
    async with Three(tmp_path) as three:
        leader = await three.leader()
        accepted = await leader.put("k", {"v": 1})
        assert accepted.applied
        assert leader.get("k") == {"v": 1}
        follower = three.follower(leader)
        assert await follower.read("k", level="linearizable") == {"v": 1}
        assert await leader.read("k", level="leader") == {"v": 1}
        assert await follower.read("k", level="bounded", max_entries=100) == {"v": 1}
        assert follower.get("k") == {"v": 1}
        await leader.delete("k")
        assert await follower.read("k", "gone") == "gone"


async def test_a_follower_says_who_takes_writes():
    """A definite refusal, with the primary's name and client address."""
    async with Three() as three:
        leader = await three.leader()
        follower = three.follower(leader)
        with pytest.raises(NotPrimary) as caught:
            await follower.put("k", 1)
        assert caught.value.definite
        assert caught.value.name == leader.name
        assert caught.value.primary == leader.client_address


async def test_what_was_written_outlives_all_nodes(tmp_path):
    """All members are closed and started again: the log, the term and the values are there."""
    async with Three(tmp_path) as three:
        leader = await three.leader()
        for number in range(20):
            await leader.put(f"k{number}", number)
        term = leader.term
    async with Three(tmp_path) as again:
        leader = await again.leader()
        assert leader.term > term
        assert [await leader.read(f"k{number}") for number in range(20)] == list(range(20))


async def test_the_others_go_on_without_the_leader():
    """The leader is gone; another one is elected and takes writes."""
    async with Three() as three:
        old = await three.leader()
        await old.put("k", "before")
        await old.close()
        rest = [node for node in three.nodes.values() if node is not old]
        await rest[0].wait_until(lambda: rest[0].leader not in {"", old.name}, "a new leader")
        new = three.nodes[rest[0].leader]
        await new.wait_until(lambda: new.takes_writes, "that it takes writes")
        await new.put("k", "after")
        assert await new.read("k") == "after"


async def test_a_leader_cut_off_refuses_in_the_end_and_keeps_a_branch():
    """A write that nobody confirmed is in doubt; after the heal it is a branch, which can be merged."""
    async with Three(options={"ack_timeout_ms": 2_000}) as three:
        old = await three.leader()
        await old.put("k", "before")
        others = [node for node in three.nodes.values() if node is not old]
        for node in others:
            old.block(node.name)
            node.block(old.name)
        with pytest.raises((LeadershipLost, AckTimeout)) as caught:
            await old.put("alone", 1)
        assert not caught.value.definite
        await others[0].wait_until(lambda: others[0].leader not in {"", old.name}, "a new leader")
        new = three.nodes[others[0].leader]
        await new.wait_until(lambda: new.takes_writes, "that it takes writes")
        await new.put("k", "after")
        for node in others:
            node.unblock()
        old.unblock()
        await old.wait_until(lambda: old.get("k") == "after", "that it follows")
        await old.wait_until(lambda: len(old.branches()) == 1, "a branch")
        merged = await old.merge_branch(old.branches()[0].id)
        assert merged.written == 1
        assert await old.read("alone") == 1
        assert old.branches() == []
        with pytest.raises(UnknownBranch):
            old.drop_branch("nonsense")


async def test_manual_failover_promotes_whoever_is_furthest_and_fences_the_old_primary():
    """People promote; nobody is elected."""
    async with Three(failover="manual", ack="one") as three:
        paris = await three.leader()
        assert (paris.name, paris.role) == ("paris", Role.PRIMARY)
        await paris.put("k", 1, ack="all")
        tokyo = three.nodes["tokyo"]
        promoted = await tokyo.promote()
        assert promoted.term > 0
        await paris.wait_until(lambda: paris.role is Role.REPLICA, "that it is fenced")
        with pytest.raises(NotPrimary):
            await paris.put("k", 2)
        await tokyo.put("k", 3)
        assert await paris.read("k") == 3


async def test_promotion_of_whoever_cannot_know_is_refused():
    """Alone, nobody can tell what the others have."""
    async with Three(failover="manual", options={"read_timeout_ms": 300}) as three:
        paris = await three.leader()
        await paris.put("k", 1, ack="all")
        lima = three.nodes["lima"]
        await paris.close()
        await three.nodes["tokyo"].close()
        with pytest.raises(PromotionRefused):
            await lima.promote()


async def test_status_warns_of_what_would_be_in_no_branch():
    """A primary that was left alone has cut off its log what nobody else holds."""
    small = {"log_entries": 10, "log_margin": 2, "log_bytes": 300}
    async with Three(failover="manual", ack="async", options=small) as three:
        paris = await three.leader()
        assert paris.status()["warnings"] == []
        await three.nodes["tokyo"].close()
        await three.nodes["lima"].close()
        for number in range(200):
            await paris.put("k", number)
        [warning] = paris.status()["warnings"]
        first, last = paris.core.unkept
        assert warning.startswith(f"entries {first} to {last} were cut off the log")


async def test_a_conditional_write_happens_only_where_nothing_came_between():
    """``expect`` is the index at which the key was last written."""
    async with Three() as three:
        leader = await three.leader()
        first = await leader.put("k", 1)
        assert (await leader.put("k", 2, expect=first.index)).applied
        assert not (await leader.put("k", 3, expect=first.index)).applied
        assert await leader.read("k") == 2


async def test_a_retry_in_a_session_is_applied_once():
    """The same session and request: the same answer, and one application."""
    async with Three() as three:
        leader = await three.leader()
        session = await leader.open_session()
        first = await leader.put("k", 1, session=session, request=1)
        await leader.put("k", 2)
        again = await leader.put("k", 1, session=session, request=1)
        assert again.index == first.index
        assert await leader.read("k") == 2


async def test_leadership_is_handed_over():
    """The successor leads, the old leader follows."""
    async with Three() as three:
        leader = await three.leader()
        follower = three.follower(leader)
        transferred = await leader.transfer(follower.name)
        assert transferred.name == follower.name
        await leader.wait_until(lambda: leader.leader == follower.name, "that it knows")
        assert leader.role is Role.FOLLOWER


async def test_a_leader_that_is_stopped_hands_over_first():
    """To whoever is furthest: when it is gone another one leads already, and has lost nothing."""
    async with Three() as three:
        leader = await three.leader()
        behind, ahead = (node for node in three.nodes.values() if node is not leader)
        leader.block(behind.name)
        await leader.wait_until(lambda: all(peer.name != behind.name for peer in leader.core.up()), "its absence")
        await leader.put("k", 1)
        term = leader.term
        assert await leader.stop() == ahead.name
        assert ahead.role is Role.LEADER
        assert ahead.term == term + 1
        assert ahead.get("k") == 1
        assert await leader.stop() is None  # closed already


async def test_leaving_a_node_in_good_order_hands_over_and_an_error_does_not():
    """``async with`` ends by `stop`; what went wrong in it ends the node at once."""
    async with Three() as three:
        leader = await three.leader()
        await leader.put("k", 1, ack="all")  # the cluster is founded, as all of them know
        term, others = leader.term, [node for node in three.nodes.values() if node is not leader]
        handed = []
        hand_over = leader.hand_over
        leader.hand_over = lambda timeout=None: handed.append(timeout) or hand_over(timeout)
        with pytest.raises(ZeroDivisionError):
            async with Running(leader):
                raise ZeroDivisionError
        assert not handed
        for node in others:
            await node.wait_until(lambda node=node: node.leader not in {"", leader.name}, "another leader")
        assert others[0].term > term
        follower = next(node for node in others if node.role is Role.FOLLOWER)
        async with Running(follower):
            pass
        assert follower._driver is None


async def test_there_is_not_always_somebody_to_hand_over_to():
    """A follower, a primary that people appointed, and a leader without a quorum hand nothing over, at once."""
    async with Three() as three:
        leader = await three.leader()
        others = [node for node in three.nodes.values() if node is not leader]
        assert await others[0].hand_over() is None
        for node in others:
            await node.close()
        await leader.wait_until(lambda: not leader.core.up(), "that they are gone")
        assert await leader.hand_over() is None
    async with Three(failover="manual") as three:
        primary = await three.leader()
        await primary.put("k", 1, ack="all")
        assert await primary.hand_over() is None
        assert primary.role is Role.PRIMARY


async def test_whoever_does_not_take_over_in_time_keeps_nobody_from_stopping():
    """The wait is bounded; who was not stopped after all leads on, and takes writes again."""
    async with Three() as three:
        leader = await three.leader()
        for node in three.nodes.values():
            node.core.promotion.take_over = lambda *_: None
        assert await leader.hand_over(timeout=0.02) is None
        assert leader.role is Role.LEADER
        assert (await leader.put("k", 1)).applied
        assert await leader.hand_over() is None  # within an election timeout


async def test_members_may_be_changed_as_soon_as_somebody_leads(tmp_path):
    """Before the leader has committed anything a change has to wait, and does."""
    begun = []

    def changes(node, event):
        if event.role is Role.LEADER and not begun:
            gone = next(name for name in NAMES if name != node.name)
            begun.append(
                (node.core.tenure.has_committed, gone, asyncio.ensure_future(node.change_members(remove=[gone])))
            )

    three = Three(tmp_path)
    for name in NAMES:
        node = three.make(name)
        node.on_role(lambda event, node=node: changes(node, event))
    three.make = lambda name, **_: three.nodes[name]
    async with three:
        leader = await three.leader()
        [(had_committed, gone, changing)] = begun
        assert not had_committed
        assert await changing > 1
        assert gone not in leader.core.history.current.voters


async def test_a_change_waits_for_the_one_before_it_as_long_as_it_may():
    """Then it is refused by name, nothing having been done; if the first is committed in time, it takes place."""
    async with Three(election_ms=(5_000, 10_000)) as three:
        leader, *others = three.nodes.values()
        await leader.wait_until(lambda: len(leader.core.up()) == 2, "that all are there")
        await leader.promote()
        await leader.put("k", 1)
        for node in others:
            leader.block(node.name)
        first = asyncio.ensure_future(leader.change_members(remove=["lima"]))
        await asyncio.sleep(0)  # it is begun
        with pytest.raises(MembersChanging):
            await leader.change_members(remove=["tokyo"], timeout=0.02)
        second = asyncio.ensure_future(leader.change_members(remove=["tokyo"]))
        leader.unblock()
        assert await first < await second
        assert leader.core.history.current.voters == ("paris",)


async def test_the_client_port_redirects_and_reads_at_a_level():
    """Redis' own answers, and the commands of this mode."""
    async with Three() as three:
        leader = await three.leader()
        follower = three.follower(leader)
        there, here = leader.client_address, follower.client_address

        def talk():
            with Client(there) as primary, Client(here) as replica:
                assert primary.call("SET", "k", "v") == "OK"
                assert replica.call("MM.AT", "linearizable", "GET", "k") == b"v"
                with pytest.raises(NotPrimary) as caught:
                    replica.call("SET", "k", "w")
                assert caught.value.primary == there
                with pytest.raises(UsageError, match="only what reads"):
                    replica.call("MM.AT", "leader", "SET", "k", "w")
                role = replica.call("MM.ROLE")
                assert (role[b"mode"], role[b"role"]) == (b"single-master", b"replica")
                assert primary.call("WAIT", 1, 2_000) >= 1
                assert primary.call("DEL", "k", "nothing") == 1
                assert primary.call("MM.BRANCHES") == []
                assert primary.call("MM.TRANSFER", follower.name)[b"name"] == follower.name.encode()

        await asyncio.to_thread(talk)


async def test_a_multi_master_node_refuses_what_is_of_the_other_mode():
    """It says so."""
    async with mmrepl.Node("paris", listen=None, client="127.0.0.1:0") as node:

        def talk():
            with Client(node.client_address) as client:
                client.call("SET", "k", "v")
                assert client.call("MM.AT", "local", "GET", "k") == b"v"
                for words in (("MM.PROMOTE",), ("MM.AT", "leader", "GET", "k"), ("MM.BRANCHES",)):
                    with pytest.raises(UsageError, match="multi-master mode"):
                        client.call(*words)

        await asyncio.to_thread(talk)


async def test_what_waits_is_told_that_the_node_is_closed():
    """Nobody waits for ever."""
    three = Three(options={"ack_timeout_ms": 60_000})
    async with three:
        leader = await three.leader()
        for node in three.nodes.values():
            if node is not leader:
                await node.close()
        write = asyncio.ensure_future(leader.put("k", 1))
        await asyncio.sleep(0)
        await leader.close()
        with pytest.raises((ClosedError, LeadershipLost)):
            await write
        with pytest.raises(ClosedError):
            leader.get("k")


async def test_a_file_of_the_other_mode_is_refused(tmp_path):
    """Neither mode opens what the other one wrote."""
    path = tmp_path / "paris.db"
    async with mmrepl.Node("paris", path, listen=None):
        pass
    with pytest.raises(StoreForeign):
        await SingleMasterNode("paris", path, listen=None).start()


async def test_wrong_arguments_are_refused():
    """Before anything happens."""
    with pytest.raises(UsageError, match="ack"):
        SingleMasterNode("paris", ack="most")
    with pytest.raises(ValueError, match="Failover"):
        SingleMasterNode("paris", failover="sometimes")
    with pytest.raises(InvalidKey):
        SingleMasterNode("")
    node = SingleMasterNode("paris")
    assert repr(node) == "<SingleMasterNode 'paris', not running>"
    with pytest.raises(ClosedError):
        _ = node.role
