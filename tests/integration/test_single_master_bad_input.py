"""What operators and clients do wrong to a single-master cluster: a clear error each time, nothing lost, nothing hung."""

from __future__ import annotations

import asyncio

import pytest

from mmrepl.errors import AckTimeout, LeadershipLost, MmreplError, NotPrimary, PromotionRefused, RemovedMember
from mmrepl.runtime.single_master_node import SingleMasterNode
from mmrepl.transport.loopback import LoopbackNetwork

NAMES = ("paris", "tokyo", "lima")
SOON_S = 10


class House:
    """Nodes on one in-memory network; all are closed in the end."""

    def __init__(self, tmp_path):
        self.network = LoopbackNetwork()
        self.tmp_path = tmp_path
        self.made = []

    def make(self, name, peers, *, at=None, file=None, **more):
        at = at or name
        node = SingleMasterNode(
            name, self.tmp_path / f"{file or at}.db", listen=f"{at}:1", peers=[f"{peer}:1" for peer in peers],
            transport=self.network.transport(at), **({"election_ms": (150, 300)} | more),
        )  # fmt: skip
        self.made.append(node)
        return node

    async def three(self, **more):
        manual = more.get("failover") == "manual"
        nodes = {}
        for name in NAMES:
            first = {"primary": name == "paris"} if manual else {}
            nodes[name] = await self.make(name, [other for other in NAMES if other != name], **(more | first)).start()
        leader = nodes[await nodes["paris"].wait_for_leader()]
        for node in nodes.values():
            await node.wait_until(lambda node=node: node.leader == leader.name, "a leader that all know")
        await leader.put("k", "kept", ack="all")
        return nodes, leader

    async def close(self):
        for node in self.made:
            await node.close()


@pytest.fixture
async def house(tmp_path):
    found = House(tmp_path)
    async with asyncio.timeout(3 * SOON_S):
        yield found
        await found.close()


def complaints(node):
    """What a node says of its peers, in one text."""
    return "\n".join(node.status()["complaints"])


def state(node, other):
    """Of another member, as *node* sees it."""
    return next(row["state"] for row in node.status()["members"] if row["name"] == other)


async def complains(node, text):
    """Wait until *node* says so."""
    try:
        await node.wait_until(lambda: text in complaints(node), f"{text!r} among its complaints", timeout=SOON_S)
    except MmreplError as error:
        raise AssertionError(f"{node.name} never said {text!r}, but: {complaints(node)}") from error


async def test_a_second_node_of_a_used_name_is_turned_away(house):
    """It is told that the name is taken, counts for nobody, and the cluster goes on with the first one."""
    _, leader = await house.three()
    taken = next(name for name in NAMES if name != leader.name)
    second = await house.make(taken, NAMES, at="elsewhere").start()
    await complains(second, f"{taken!r}")
    assert not second.takes_writes
    with pytest.raises(NotPrimary):
        await second.put("k", "stolen")
    await leader.put("k", "goes on", ack="all")
    assert await leader.read("k") == "goes on"


async def test_two_clusters_of_one_name_do_not_become_one(house):
    """Each was founded by itself: they refuse each other, say why, and keep what they have."""
    one = await house.make("paris", [], failover="manual", primary=True).start()
    await one.wait_for_leader()
    await one.put("k", "ours")
    founded = await house.make("rome", [], failover="manual", primary=True).start()
    await founded.wait_for_leader()
    await founded.put("k", "theirs")
    await founded.close()
    other = await house.make("rome", ["paris"], failover="manual").start()
    await complains(other, "each founded by itself")
    assert (one.get("k"), other.get("k")) == ("ours", "theirs")
    assert one.leader == "paris"
    await one.put("k", "still ours")


async def test_a_removed_node_that_returns_is_told_so(house):
    """It takes no writes, disturbs no term, and is told how it may come back."""
    nodes, leader = await house.three()
    gone = next(node for node in nodes.values() if node is not leader)
    await leader.change_members(remove=[gone.name])
    await gone.close()
    term = leader.term
    again = await house.make(gone.name, [name for name in NAMES if name != gone.name]).start()
    await complains(again, "was removed from the cluster")
    assert "to return it has to start with an empty store" in complaints(again)
    with pytest.raises(RemovedMember, match="does not belong to the cluster any more") as caught:
        await again.put("k", "from the past")
    assert caught.value.definite
    await leader.put("k", "present")
    assert leader.term == term


async def test_a_stale_replica_is_not_promoted(house):
    """Who has more is named; nothing changes hands, and whoever has all of it can be promoted."""
    nodes, paris = await house.three(failover="manual")
    lima, tokyo = nodes["lima"], nodes["tokyo"]
    house.network.partition(["lima"], ["paris", "tokyo"])
    await paris.put("k", "newer", ack="one")
    await paris.close()
    house.network.heal()
    for node, other in ((lima, "tokyo"), (tokyo, "lima")):
        await node.wait_until(lambda node=node, other=other: state(node, other) != "disconnected", f"{other} at a link")
    with pytest.raises(PromotionRefused, match="tokyo") as caught:
        await asyncio.wait_for(lima.promote(), SOON_S)
    assert caught.value.definite
    assert set(caught.value.ahead) == {"tokyo"}
    await asyncio.wait_for(tokyo.promote(), SOON_S)
    assert await tokyo.read("k") == "newer"


async def test_a_client_that_retries_for_ever_is_answered_each_time(house):
    """Without a quorum each try ends with an error; afterwards the cluster holds one of the values, and takes more."""
    nodes, leader = await house.three(options={"ack_timeout_ms": 200, "pending_max": 8})
    others = [name for name in NAMES if name != leader.name]
    house.network.partition([leader.name], [others[0]], [others[1]])
    fates = []
    for number in range(40):
        try:
            async with asyncio.timeout(SOON_S):
                await leader.put("k", number)
        except MmreplError as error:
            fates.append(error)
    assert len(fates) == 40
    assert {type(error) for error in fates} <= {AckTimeout, LeadershipLost, NotPrimary}
    assert all(error.definite for error in fates if isinstance(error, NotPrimary))
    house.network.heal()
    new = nodes[await leader.wait_for_leader()]
    await new.wait_until(lambda: new.takes_writes, "that it takes writes")
    await new.put("k", "after")
    assert await new.read("k") == "after"


async def test_more_writes_than_may_wait_are_refused_at_once(house):
    """The bound of what waits for a quorum is a definite refusal, not a queue that grows."""
    nodes, leader = await house.three(options={"ack_timeout_ms": 400, "pending_max": 4}, election_ms=(1_000, 2_000))
    others = [name for name in nodes if name != leader.name]
    house.network.partition([leader.name], others)
    tries = [asyncio.ensure_future(leader.put("k", number)) for number in range(12)]
    async with asyncio.timeout(SOON_S):
        fates = await asyncio.gather(*tries, return_exceptions=True)
    assert all(isinstance(fate, MmreplError) for fate in fates)
    refused = [fate for fate in fates if fate.definite]
    assert len(refused) >= 8
    house.network.heal()
    assert await leader.wait_for_leader() in NAMES
