"""The hello: who may talk to whom, and that nothing is believed before."""

from __future__ import annotations

import random
from inspect import getsource

import msgspec
import pytest

from mmrepl.causality.version_vector import VersionVector
from mmrepl.log.batch import Batch
from mmrepl.replication.greeting import policy_differences
from mmrepl.resolvers import KeepSiblings, LastWriterWins
from mmrepl.types import NodeId
from mmrepl.wire import greeting
from mmrepl.wire.greeting import check_hello, prove, proven
from mmrepl.wire.messages import PROTOCOL, Delta, Digest, Hello, Members, Proof, Refuse, to_wire
from tests.replication.world import World

SECRET = b"correct horse"


def hello(name="paris", **changes):
    plain = Hello(
        protocol=PROTOCOL, cluster="default", name=name, incarnation=1, instance=random.Random(name).getrandbits(60),
        address=f"{name}:1", nonce=name.encode().ljust(16)[:16], vector=[], policies={"": "last-writer-wins"},
        wall_ms=0, hlc=0, head_stamp=0, compressions=[], max_drift_ms=300_000, secured=False,
        members=[(name, 1)], admitted=False,
    )  # fmt: skip
    return msgspec.structs.replace(plain, **changes)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, None),
        ({"protocol": PROTOCOL + 1}, "protocol"),
        ({"protocol": 0}, "protocol"),
        ({"cluster": "another"}, "cluster"),
        ({"mode": "single-master"}, "mode"),
        ({"secured": True}, "secret"),
        ({"name": "paris", "instance": 7}, "name-in-use"),
        ({"name": ""}, "protocol"),
        ({"name": "n" * 2000}, "protocol"),
        ({"nonce": b"short"}, "protocol"),
        ({"incarnation": -1}, "protocol"),
        ({"incarnation": 1 << 63}, "protocol"),
    ],
)
def test_a_hello_is_refused_for_what_does_not_fit(changes, code):
    """Protocol, cluster, secret or none, name, and shape are looked at before anything else."""
    refusal = check_hello(hello("paris"), hello(**{"name": "tokyo", **changes}))
    assert (refusal.code if refusal else None) == code


def test_a_node_that_reaches_itself_says_so():
    """The same name and the same run of the process is not a clash of names."""
    assert check_hello(hello(), hello()).code == "self"


def test_the_other_protocol_is_named_before_the_other_cluster():
    """Of two reasons the one is told without which the other means nothing."""
    assert check_hello(hello(), hello("tokyo", protocol=9, cluster="x")).code == "protocol"


def test_a_refusal_does_not_repeat_a_peers_text_raw():
    """What a peer calls itself reaches logs and terminals only escaped, and cut."""
    refusal = check_hello(hello(), hello("\x1b[2J\u202e\nroot", cluster="\x07" * 5000))
    assert refusal.text.isprintable()
    assert len(refusal.text) < 1000


def test_a_proof_is_for_one_prover_one_asker_one_meeting():
    """It fits the two hellos in this order, with these nonces, under this secret, and nothing else."""
    paris, tokyo = hello("paris"), hello("tokyo")
    proof = prove(SECRET, paris, tokyo)
    assert proven(SECRET, proof, paris, tokyo)
    assert not proven(SECRET, proof, tokyo, paris), "reflected"
    assert not proven(b"wrong", proof, paris, tokyo)
    assert not proven(SECRET, proof, paris, msgspec.structs.replace(tokyo, nonce=b"n" * 16)), "replayed"
    assert not proven(SECRET, proof, msgspec.structs.replace(paris, address="evil:1"), tokyo), "altered"
    assert not proven(SECRET, b"", paris, tokyo)


def test_proofs_are_compared_in_constant_time():
    """By `hmac.compare_digest`, as time is the one thing that a test cannot measure reliably."""
    assert "compare_digest" in getsource(greeting.proven)


def test_policies_are_compared_with_the_default_filled_in():
    """A table that one side declares and the other does not has the other's default there."""
    ours = hello(policies={"": "last-writer-wins", "carts": "callback a.b"})
    theirs = hello("tokyo", policies={"": "last-writer-wins", "drafts": "keep-siblings"})
    found = policy_differences(ours, theirs)
    assert [text.split(" is ")[0] for text in found] == ["table 'carts'", "table 'drafts'"]
    assert policy_differences(ours, msgspec.structs.replace(ours, name="tokyo")) == []


# -- through the core


def refusals(site):
    return [text.split(":")[0] for text in site.core.complaints]


def two(**options):
    world = World("paris", **options)
    world.add("tokyo", **options)
    return world


def test_wrong_secret_is_refused_by_both_and_nothing_passes():
    """Neither side learns a key of the other's."""
    world = World("paris", options={"secret": SECRET})
    world.add("tokyo", options={"secret": b"another"})
    world["paris"].put("k", 1)
    world.connect("paris", "tokyo")
    world.run(1000)
    assert not world.wires
    assert world["tokyo"].version.get(world["paris"].node) is None
    assert any("secret" in text for text in world["paris"].core.complaints)
    assert any("secret" in text for text in world["tokyo"].core.complaints)
    assert not world.said_count(Delta)
    assert not world.said_count(Members)


def test_right_secret_is_accepted():
    """And the two converge."""
    world = two(options={"secret": SECRET})
    world["paris"].put("k", 1)
    world.connect("paris", "tokyo")
    world.settle()
    assert world["tokyo"].get("k") == 1


@pytest.mark.parametrize(
    "message",
    [
        Delta([], Batch([], [], [], [], [], [], [], [])),
        Digest([], 0, 0, want=True),
        Members([]),
    ],
)
def test_nothing_is_taken_before_the_hello(message):
    """Whoever speaks of anything else first loses the connection, whatever it is."""
    world = World("paris")
    world["paris"].core.connected(99, "", world.now, 0)
    world["paris"].core.receive(99, message, world.now, 0)
    effects = world["paris"].core.ready(world.now, 0)
    assert [link for link, _ in effects.close] == [99]
    assert list(world["paris"].core.members.names()) == ["paris"]


def test_nothing_is_taken_between_hello_and_proof():
    """With a secret, the hello alone opens nothing."""
    world = World("paris", options={"secret": SECRET})
    core = world["paris"].core
    core.connected(99, "", world.now, 0)
    core.receive(99, hello("mallory", secured=True), world.now, 0)
    core.receive(99, Digest([("lima", 1, 5)], 0, 0), world.now, 0)
    assert [link for link, _ in core.ready(world.now, 0).close] == [99]
    assert core.members.names() == ["paris"]
    assert not core.peers


def test_a_reflected_hello_and_proof_open_nothing():
    """An impostor that says back what it hears is told that it is us."""
    world = World("paris", options={"secret": SECRET})
    core = world["paris"].core
    core.connected(99, "", world.now, 0)
    (ours,) = [envelope.message for envelope in core.ready(world.now, 0).send]
    core.receive(99, ours, world.now, 0)
    assert [reason.split(":")[0] for _, reason in core.ready(world.now, 0).close] == ["self"]


def test_a_replayed_conversation_opens_nothing():
    """What was said once, hello and proof, does not fit the nonce of the next time."""
    world = two(options={"secret": SECRET})
    world.connect("tokyo", "paris")
    world.run(100)
    recorded = [
        message for source, _, message in world.said if source == "tokyo" and isinstance(message, Hello | Proof)
    ]
    assert len(recorded) == 2
    world["paris"].restart()
    core = world["paris"].core
    core.connected(99, "", world.now, 0)
    for message in recorded:
        core.receive(99, message, world.now, 0)
    assert [link for link, _ in core.ready(world.now, 0).close] == [99]
    assert not list(core.up())


def test_without_its_hello_a_connection_is_closed():
    """A silent one costs a slot for seconds, not for ever."""
    world = World("paris")
    core = world["paris"].core
    core.connected(99, "", world.now, 0)
    core.ready(world.now, 0)
    world.run(4_000)
    assert 99 in core._links
    closed = []
    for _ in range(30):
        world.now += 100
        core.tick(world.now, 0)
        closed += core.ready(world.now, 0).close
    assert [link for link, _ in closed] == [99]


def test_two_nodes_of_one_name_are_told_apart():
    """The one that is connected stays, the other is named; when the first is gone the second may come."""
    world = World("paris", "tokyo")
    world.connect("tokyo", "paris")
    world.run(300)
    core = world["paris"].core
    core.connected(99, "", world.now, 0)
    core.receive(99, hello("tokyo"), world.now, 0)
    effects = core.ready(world.now, 0)
    assert [reason.split(":")[0] for _, reason in effects.close] == ["name-in-use"]
    assert any(text.startswith("name-in-use") for text in core.complaints)
    assert world.is_live("paris", "tokyo")
    world.cut("tokyo", "paris")
    core.connected(100, "", world.now, 0)
    core.receive(100, hello("tokyo"), world.now, 0)
    assert core.is_up(100)


def test_a_second_connection_to_the_same_node_is_one_too_many():
    """Both sides keep the same one of two that were dialled at once."""
    world = World("paris", "tokyo")
    world.connect("paris", "tokyo")
    world.connect("tokyo", "paris")
    world.run(500)
    (wire,) = world.wires
    assert world["paris"].core.is_up(wire.ends["paris"])
    assert world["tokyo"].core.is_up(wire.ends["tokyo"])
    assert not world["paris"].core.complaints


def test_table_policies_that_differ_are_named_at_both():
    """A difference is a warning: what is shown differs, the data are the same."""
    world = World()
    world.add("paris", tables={"drafts": KeepSiblings()})
    world.add("tokyo", tables={"drafts": LastWriterWins()})
    world["paris"].put("k", 1, table="drafts")
    world.connect("paris", "tokyo")
    world.run(500)
    for ours, theirs in (("paris", "tokyo"), ("tokyo", "paris")):
        (text,) = world[ours].core.peers[theirs].differences
        assert "drafts" in text
        assert "keep-siblings" in text
    assert world["paris"].version == world["tokyo"].version


# -- what a hello claims


def test_a_write_that_is_not_durable_yet_is_not_equivocation():
    """The hello tells the stamp of the latest *durable* write, as its vector does; else a reconnect under load
    would look like an old copy, and the node would start over."""
    world = World("paris", "tokyo")
    world["paris"].put("k", 1)
    world.connect("paris", "tokyo")
    world.settle()
    world.cut("paris", "tokyo")
    before = world["paris"].node
    world["paris"].slow = True
    world.now += 5
    world["paris"].put("k", 2)
    world.run(50)
    world.connect("paris", "tokyo")
    world.run(300)
    assert world["paris"].node == before
    assert not world["tokyo"].core.complaints
    world["paris"].flush()
    world.settle()


def test_another_content_for_the_latest_dot_is_noticed_at_the_hello():
    """A node on an old copy that has written on is told, starts over, and its write is kept."""
    world = World("paris", "tokyo")
    world["paris"].put("k", 1)
    world.connect("paris", "tokyo")
    world.settle()
    world.cut("paris", "tokyo")
    old = world["paris"].disk.loaded()
    world["paris"].put("a", "lost")
    world.connect("paris", "tokyo")
    world.settle()
    world.cut("paris", "tokyo")
    put_back(world["paris"], old)
    world["paris"].put("b", "on the copy")
    world.run(50)
    world.connect("paris", "tokyo")
    world.run(500)
    assert any(text.startswith("equivocation") for text in world["tokyo"].core.complaints)
    world.connect("paris", "tokyo")
    world.settle()
    assert world["paris"].get("a") == "lost"
    assert world["tokyo"].get("b") == "on the copy"


def put_back(site, loaded):
    """The disk is set back, without its knowing."""
    site.crash()
    contents = site.disk._synced
    for held, then in ((contents.batches, dict(loaded.batches())), (contents.segments, dict(loaded.segments()))):
        held.clear()
        held.update(then)
    contents.meta.clear()
    contents.meta.update(loaded.meta)
    site.start()


def test_a_refusal_by_somebody_unproven_changes_nothing():
    """Who does not know the secret cannot make us start over, whatever its hello claims to have."""
    world = World("paris", options={"secret": SECRET})
    core = world["paris"].core
    world["paris"].put("k", 1)
    world.run(50)
    everything = to_wire(VersionVector({world["paris"].node: 1, NodeId("mallory", 1): 5}))
    for code in ("rejoin", "equivocation", "removed"):
        core.connected(99, "mallory:1", world.now, 0)
        core.receive(99, hello("mallory", secured=True, vector=everything), world.now, 0)
        core.receive(99, Refuse(code, "go away", core._links[99].ours.nonce), world.now, 0)
        assert world["paris"].get("k") == 1
        core.disconnected(99, "", world.now)
    core.connected(99, "mallory:1", world.now, 0)
    nonce = core._links[99].ours.nonce
    core.receive(99, hello("mallory", cluster="other", vector=everything), world.now, 0)
    core.receive(99, Refuse("rejoin", "go away", nonce), world.now, 0)
    assert world["paris"].get("k") == 1


@pytest.mark.parametrize("code", ["rejoin", "equivocation", "removed"])
def test_a_refusal_that_was_for_somebody_else_is_not_believed(code):
    """A network may bring the refusal of who it was before once more: it answers another hello."""
    world = World("paris", "tokyo", options={"rejoin": True})
    tokyo = world["tokyo"]
    for nonce in (b"earlier", None):
        world.connect("paris", "tokyo")
        tokyo.put("k", 1)
        world.settle()
        before = tokyo.node
        (link,) = tokyo.core._links.values()
        tokyo.core.receive(link.number, Refuse(code, "go away", nonce or link.ours.nonce), world.now, world.now)
        assert not tokyo.core._links
        assert (tokyo.node == before) is (nonce is not None)
        world.cut("paris", "tokyo")
