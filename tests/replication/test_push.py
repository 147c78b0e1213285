"""What is pushed: what frames stand on (law L4), what may be left out of them, and how often anything crosses."""

from __future__ import annotations

import random

import pytest
from attrs import evolve
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmrepl.causality.context import BLIND
from mmrepl.causality.version_vector import VersionVector
from mmrepl.log.policy import LogPolicy
from mmrepl.replication import local as local_module
from mmrepl.replication.push import Pusher
from mmrepl.resolvers import KeepSiblings
from mmrepl.types import DEFAULT_LIMITS
from mmrepl.wire.messages import Delta, Digest, Members, from_wire
from tests.replication.world import World

NAMES = ("a", "b", "c")
KEYS = ("k", "l")


class Writes:
    """Every write, as its writer saw the world: what should be live follows from that alone."""

    def __init__(self):
        self.all = {}  # dot -> (key, value, vector that it overwrote)

    def put(self, site, key, value, *, blind=False):
        store = site.core.local.store
        table = store.table("")
        seen = VersionVector() if blind else store.context(table, key).vector
        counter = site.put(key, value, context=BLIND if blind else None)
        self.all[site.node, counter] = (key, value, seen)

    def live(self, version):
        """What somebody at *version* shows: key -> values, sorted."""
        known = {dot: write for dot, write in self.all.items() if version.counter(dot[0]) >= dot[1]}
        shown = {}
        for dot, (key, value, _) in known.items():
            over = any(
                k == key and other != dot and seen.counter(dot[0]) >= dot[1]
                for other, (k, _, seen) in known.items()
            )  # fmt: skip
            if not over and value is not ...:
                shown.setdefault(key, []).append(value)
        return {key: sorted(values) for key, values in shown.items()}


def shows(site):
    return {key: sorted(found) for key in KEYS if (found := [v for v in site.values(key) if v is not None])}


actions = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(NAMES), st.sampled_from(KEYS)),
        st.tuples(st.just("blind"), st.sampled_from(NAMES), st.sampled_from(KEYS)),
        st.tuples(st.just("delete"), st.sampled_from(NAMES), st.sampled_from(KEYS)),
        st.tuples(st.just("cut"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
        st.tuples(st.just("connect"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
        st.tuples(st.just("hold"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
        st.tuples(st.just("release"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
        st.tuples(st.sampled_from(["congest", "drain"]), st.sampled_from(NAMES), st.sampled_from(NAMES)),
        st.tuples(st.just("run"), st.sampled_from([0, 50, 200, 500]), st.just("")),
        st.tuples(st.just("restart"), st.sampled_from(NAMES), st.just("")),
    ),
    max_size=40,
)


def play(script, *, retain=True, cut=False):
    """Run a script; whatever happens, each node shows exactly what follows from the writes that it has."""
    limits = evolve(DEFAULT_LIMITS, held_bytes=1024)
    options = {"cut_operations": 1, "log": LogPolicy(operations=4)} if cut else {}
    world = World(*NAMES, default=KeepSiblings(), limits=limits, retain=retain, options=options)
    world.mesh()
    world.run(300)
    writes, serial = Writes(), 0

    def look(_source, _target, message):
        if isinstance(message, Delta):
            check_frame(message, writes)

    world.told = look
    for verb, one, two in script:
        if verb in ("put", "blind", "delete"):
            serial += 1
            writes.put(world[one], two, ... if verb == "delete" else serial, blind=verb == "blind")
            if serial % 2:
                world.run()
        elif verb == "run":
            world.run(one)
        elif verb == "restart":
            world[one].restart()
        elif one != two:
            if verb == "connect" and not world.between(one, two):
                world.connect(one, two)
            elif verb == "cut":
                world.cut(one, two)
            elif verb in ("congest", "drain"):
                peer = world[one].core.peers.get(two)
                if peer is not None and peer.link is not None:
                    world[one].core.congested(peer.link, congested=verb == "congest")
            else:
                getattr(world, verb)(one, two)
        for site in world.sites.values():
            assert shows(site) == writes.live(site.version), (site.name, verb)
    world.held.clear()
    for i, one in enumerate(NAMES):
        for two in NAMES[i + 1 :]:
            world.cut(one, two)
            world.connect(one, two)
    world.settle()
    for site in world.sites.values():
        assert shows(site) == writes.live(site.version)
    return world


def check_frame(delta, writes):
    """A void stands only where what buried it is in the frame, or in what the receiver must have."""
    assumes, nodes = from_wire(delta.assumes), delta.batch.node_ids()
    inside, voids = set(), []
    for ref, first, size, void in delta.batch.iter_runs():
        dots = [(nodes[ref], counter) for counter in range(first, first + size)]
        inside.update(dots)
        if void:
            voids += dots
    for node, counter in voids:
        key, _, _ = writes.all[node, counter]
        assert any(
            k == key and seen.counter(node) >= counter and (dot in inside or assumes.counter(dot[0]) >= dot[1])
            for dot, (k, _, seen) in writes.all.items()
        ), (node, counter)


BURIED_BY_ANOTHER = [
    ("congest", "b", "c"),
    ("hold", "a", "c"),
    ("put", "b", "k"),
    ("run", 0, ""),
    ("put", "a", "k"),  # over it; c has neither
    ("run", 0, ""),
    ("put", "b", "l"),
    ("drain", "b", "c"),  # b pushes its two writes in one frame: the first as a void, for it knows what buried it
    ("run", 0, ""),
]


@pytest.fixture(params=[1, 2, 8192])
def budget(request, monkeypatch):
    monkeypatch.setattr(local_module, "DELTA_OPERATIONS", request.param)
    return request.param


@settings(max_examples=40)
@given(actions)
@example(BURIED_BY_ANOTHER)
def small_frames(script):
    play(script)


@settings(max_examples=40)
@given(actions)
def small_frames_and_cuts(script):
    play(script, cut=True)


@settings(max_examples=25)
@given(actions)
def small_frames_without_retaining(script):
    play(script, retain=False)


def test_delivery_is_causal_whatever_is_cut_held_and_restarted(budget):
    """Every node shows what follows from the writes that its vector covers, at every step, with frames of any size."""
    small_frames()


def test_cutting_the_log_changes_nothing_that_is_shown(budget):
    """Snapshots for those behind the cut, tombstones forgotten: the same answers."""
    small_frames_and_cuts()


def test_payloads_that_are_let_go_change_nothing_that_is_shown(budget):
    """Where overwritten payloads are not retained, frames become longer or snapshots."""
    small_frames_without_retaining()


@pytest.mark.parametrize("planted", ["assumes nothing", "assumes only itself"])
def test_a_frame_that_says_too_little_of_what_it_stands_on_is_found(planted, monkeypatch):
    """The property above fails for a pusher that breaks law L4."""
    real = Pusher._assumes

    def wrong(self, batch, until):
        if planted == "assumes nothing":
            return []
        return [entry for entry in real(self, batch, until) if (entry[0], entry[1]) in batch.origins]

    monkeypatch.setattr(Pusher, "_assumes", wrong)
    with pytest.raises(AssertionError):
        play(BURIED_BY_ANOTHER)


# -- how often anything crosses


def linked(pairs, names):
    world = World(*names)
    for a, b in pairs:
        world.connect(a, b)
    world.run(3000)
    return world


def test_in_a_mesh_each_operation_crosses_once_to_each():
    """Of eight nodes that all write, concurrently and over each other."""
    names = "abcdefgh"
    world = World(*names)
    world.mesh()
    world.run(3000)
    mark, rng = len(world.said), random.Random(3)
    for i in range(100):
        for name in rng.sample(names, 3):
            world[name].put(f"k{rng.randrange(10)}", i)
        world.run(rng.choice([0, 0, 50]))
    world.settle()
    assert set(world.crossings(mark).values()) == {1}


LINE = [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e")]
TOPOLOGIES = {
    "line": LINE,
    "ring": [*LINE, ("e", "a")],
    "star": [("a", name) for name in "bcde"],
    "two stars": [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"), ("d", "e")],
    **{f"random {seed}": None for seed in range(4)},
}


def random_graph(seed):
    """Connected, with two more edges than a tree."""
    rng, names = random.Random(seed), "abcde"
    pairs = {(names[rng.randrange(i)], names[i]) for i in range(1, 5)}
    while len(pairs) < 6:
        pairs.add(tuple(sorted(rng.sample(names, 2))))
    return sorted(pairs)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_every_topology_converges_and_relays_little_more_than_once(topology):
    """After some ticks, in which each node has found out from whom it gets what, there are hardly any repetitions."""
    pairs = TOPOLOGIES[topology] or random_graph(int(topology[-1]))
    world = linked(pairs, "abcde")
    for i in range(10):
        for name in "abcde":
            world[name].put(f"{name}{i}", i)
        world.run(250)
    world.settle()
    mark = len(world.said)
    for i in range(20):
        for name in "abcde":
            world[name].put(f"{name}{i}", -i)
        world.run(100)
    world.settle()
    count = world.crossings(mark)
    assert sum(count.values()) <= 1.1 * len(count)


@pytest.mark.parametrize("topology", ["line", "ring", "star"])
def test_nothing_but_heartbeats_is_said_when_nothing_is_new(topology):
    """One digest a second each way on each link, for as long as it stays quiet."""
    pairs = TOPOLOGIES[topology]
    world = linked(pairs, "abcde")
    world["a"].put("k", 1)
    world.settle()
    world.run(3000)
    mark = len(world.said)
    world.run(20_000)
    said = world.said[mark:]
    assert {type(message) for *_, message in said} == {Digest}
    assert len(said) <= 2 * len(pairs) * 21


def test_members_are_told_when_they_change_and_not_otherwise():
    """In a mesh of eight that has come together."""
    world = World(*"abcdefgh")
    world.mesh()
    world.run(5000)
    mark = len(world.said)
    world.run(20_000)
    assert world.said_count(Members, mark) == 0


def test_a_first_operation_takes_at_most_two_ticks_a_hop():
    """In a line of five nothing is relayed before somebody has asked; from then on it flows at once."""
    world = linked(LINE, "abcde")
    world["a"].put("k", 1)
    world.run(4 * 2 * DEFAULT_LIMITS.gossip_tick_ms + 100)
    assert world["e"].get("k") == 1
    world["a"].put("k", 2)
    world.run(0)
    assert world["e"].get("k") == 2


def test_a_link_that_is_lost_is_replaced_by_another_way():
    """Pruned ways are taken up again when the one that was kept is gone."""
    world = linked(TOPOLOGIES["ring"], "abcde")
    for i in range(10):
        world["a"].put(f"k{i}", i)
        world.run(250)
    world.settle()
    world.cut("a", "b")
    world["a"].put("k", "around")
    world.run(3000)
    assert world["b"].get("k") == "around"


def test_nothing_is_pushed_to_a_peer_that_does_not_read():
    """What it missed follows when its buffer has drained; it has crossed once."""
    world = World("a", "b")
    world.connect("a", "b")
    world.run(1000)
    core = world["a"].core
    core.congested(core.peers["b"].link, congested=True)
    mark = len(world.said)
    for i in range(10):
        world["a"].put(f"k{i}", i)
    world.run(100)
    assert not world.said_count(Delta, mark)
    core.congested(core.peers["b"].link, congested=False)
    world.run()
    assert world["b"].get("k9") == 9
    assert set(world.crossings(mark).values()) == {1}


def test_nothing_is_said_of_what_is_not_durable():
    """Neither pushed, nor told in a digest, nor in a hello, nor handed to who asks (law L2)."""
    world = World("a", "b")
    world.connect("a", "b")
    world.run(1000)
    world["a"].slow = True
    world["a"].put("k", 1)
    world.run(3000)
    world.inject("b", "a", Digest([], 0, 0, want=True))
    world.run(500)
    world.cut("a", "b")
    world.connect("a", "b")
    world.run(500)
    assert world["b"].get("k") is None
    node = world["a"].node
    assert not any(
        from_wire(message.vector).counter(node)
        for a, _, message in world.said
        if a == "a" and hasattr(message, "vector")
    )
    world["a"].flush()
    world.run()
    assert world["b"].get("k") == 1
