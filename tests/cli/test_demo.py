"""The demo tells the truth: in a world that works, and in worlds that do not."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

import pytest

from mmrepl import BLIND, CausalContext, Replica
from mmrepl.cli.demo.drawing import draw, letter
from mmrepl.cli.demo.one_writer import OneWriter
from mmrepl.cli.demo.one_writer_simulated import OneWriterSimulated
from mmrepl.cli.demo.resolvers import merge_carts
from mmrepl.cli.demo.stage import Nowhere, Plain
from mmrepl.cli.demo.story import Story
from mmrepl.cli.demo.world import NAMES, Heard, View
from mmrepl.cli.exits import Exit
from mmrepl.cli.remote import Found, KeyRead
from mmrepl.resolvers import Callback, KeepSiblings
from mmrepl.wire.tokens import context_token, parse_context_token

TABLES = {"drafts": KeepSiblings(), "carts": Callback(merge_carts)}


class Replicas:
    """A world of embedded replicas, obviously right: whoever can hear each other exchanges deltas at every step."""

    kind = "replicas"

    def __init__(self):
        self.replicas = {name: Replica(name, tables=TABLES) for name in NAMES}
        self.separate = set()  # pairs that do not hear each other
        self.events = []
        self.ms = 0

    def begin(self):
        return ("There are three.",)

    def close(self):
        pass

    def now_ms(self):
        return self.ms

    def put(self, node, place, value, context=None):
        table, key = place
        known = context
        if isinstance(context, str):
            known = CausalContext.from_bytes(parse_context_token(context.encode()))
        dot = self.replicas[node].table(table).put(key, value, context=known).dot
        self.events.append(Heard(self.ms, node, dot, table, key, False, value))
        return dot

    def look(self, node, places):
        replica = self.replicas[node]
        peers = {name: "gone" if (node, name) in self.separate else "live" for name in NAMES if name != node}
        return View(node, peers, replica.version, {place: self.read(replica, place) for place in places})

    def read(self, replica, place):
        table, key = place
        found = replica.table(table).read(key)
        lost = {loser.dot for loser in found.losers}
        siblings = tuple(
            Found(str(s.dot), s.timestamp, s.is_tombstone, s.dot not in lost, None, s.value) for s in found.siblings
        )
        token = context_token(found.context.to_bytes())
        policy = TABLES[table].policy if table else "last-writer-wins"
        return KeyRead(key, table, found.present, None, found.value, None, policy, token, siblings)

    def cut(self, one, other):
        self.separate = {pair for a in one for b in other for pair in ((a, b), (b, a))}

    def heal(self):
        self.separate = set()

    def hear(self, to, source):
        ours, theirs = self.replicas[to], self.replicas[source]
        before = ours.version
        ours.merge(theirs.delta(since=before))
        for op in ours.changes(before):
            self.events.append(Heard(self.ms, to, op.dot, op.table, op.key, op.is_tombstone, op.value))

    def step(self):
        self.ms += 10
        for to in NAMES:
            for source in NAMES:
                if to != source and (to, source) not in self.separate:
                    self.hear(to, source)

    def wait(self, condition, seconds):
        for count in range(20):
            if condition():
                return count * 10
            self.step()
        return None

    def sleep(self, seconds, meanwhile):
        meanwhile()

    def heard(self):
        return self.events


def test_a_world_that_works():
    """All is as promised, and the sentences name what the nodes answered."""
    story = Story(Replicas(), Nowhere())
    assert story.tell(), story.unexpected
    told = " ".join(sentence for chapter in story.chapters for sentence in chapter["sentences"])
    assert '["dinner at noon","dinner at eight"]' in told
    assert '["cake","milk","tea"]' in told
    assert "Unexpected" not in told


class NeverHeals(Replicas):
    def heal(self):
        pass


class NeverCuts(Replicas):
    def cut(self, one, other):
        pass


class LosesOnTheWay(Replicas):
    """lima hears of nothing after the heal, but says that it has."""

    def look(self, node, places):
        view = super().look(node, places)
        return View(node, view.peers, self.replicas["paris"].version, view.reads)

    def hear(self, to, source):
        if to != "lima" or not self.healed:
            super().hear(to, source)

    healed = False

    def heal(self):
        super().heal()
        self.healed = True


class Reads(Replicas):
    """Answers something else for one key."""

    place = ("", "greeting")
    value = "wrong"

    def read(self, replica, place):
        found = super().read(replica, place)
        if place != self.place or len(found.siblings) < 2:
            return found
        return KeyRead(
            found.key, found.table, True, None, self.value, None, found.resolver, found.context, found.siblings[:1]
        )


class ReadsOneDraft(Reads):
    place = ("drafts", "letter")


class ReadsOneCart(Reads):
    place = ("carts", "ada")
    value = ("tea",)


class OneReadsOtherwise(Reads):
    """Only at tokyo."""

    def read(self, replica, place):
        return super().read(replica, place) if replica.node.startswith("tokyo") else Replicas.read(self, replica, place)


class ForgetsContexts(Replicas):
    def put(self, node, place, value, context=None):
        return super().put(node, place, value, None if context is None else BLIND)


@pytest.mark.parametrize(
    ("world", "why"),
    [
        (NeverHeals, "not all have the same operations"),
        (NeverCuts, "still sees the other side"),
        (LosesOnTheWay, "do not agree"),
        (Reads, "should have a winner and a loser"),
        (ReadsOneDraft, "should read as several siblings"),
        (OneReadsOtherwise, "should be the same everywhere, but"),
        (ReadsOneCart, "should read"),
        (ForgetsContexts, "one again"),
    ],
)
def test_worlds_that_do_not_work(world, why, capsys):
    """Whatever is not as promised is said, where it happened and again at the end, and the story ends badly."""
    story = Story(world(), Plain())
    assert not story.tell()
    assert any(why in text for text in story.unexpected), story.unexpected
    shown = capsys.readouterr().out
    assert "!! Unexpected" in shown
    assert "!! Remember" in shown


def test_the_story_is_the_same_each_time():
    """The sentences are made of the answers and of nothing else: two worlds that answer alike are told alike."""

    def told():
        world = Replicas()
        story = Story(world, Nowhere())
        story.tell()
        return [chapter["sentences"] for chapter in story.chapters][:4]

    assert told() == told()


def test_virtual_time(run):
    """The same story in virtual time, to the byte the same for one seed, and not for another."""
    first, again = run("demo", "--simulated", "--fast"), run("demo", "--simulated", "--fast")
    assert (first.code, first.err) == (Exit.OK, "")
    assert first.raw == again.raw
    facts = run("demo", "--simulated", "--json", "--seed", "8").json
    assert (facts["agreed"], facts["made_of"]) == (True, {"seed": 8})
    written = {event["dot"] for event in facts["operations"]}
    assert sum(event["dot"] in written for event in facts["operations"]) == len(written) * len(NAMES)
    assert run("demo", "--simulated", "--fast", "--seed", "8").raw != first.raw


# -- one writer at a time


def test_one_writer():
    """It is told who was elected, what was refused, cut off and merged; and it ends in agreement."""
    tale = OneWriter(OneWriterSimulated(7, 100, real_time=False), Nowhere(), 0)
    assert tale.tell(), tale.unexpected
    told = " ".join(sentence for chapter in tale.chapters for sentence in chapter["sentences"])
    for text in ("They elect ", "takes no writes", "as branch ", "as siblings: 1 key written", '["salut","hola"]'):
        assert text in told
    assert "3 writes were refused, and 1 acknowledged write was cut off" in told
    assert tale.chapters[0]["at_ms"] == 100


class StaysCut(OneWriterSimulated):
    def heal(self):
        pass


class StaysWhole(OneWriterSimulated):
    def cut(self, one, other):
        pass


class KeepsNoBranch(OneWriterSimulated):
    def branches(self, node):
        return []


class MergesNothing(OneWriterSimulated):
    def merge(self, node, branch):
        return {"written": 0, "skipped": 1}


@pytest.mark.parametrize(
    ("world", "why"),
    [
        (StaysCut, "do not agree"),
        (StaysWhole, "the others have no leader"),
        (KeepsNoBranch, "keeps no branch"),
        (MergesNothing, "1 branch left"),
    ],
)
def test_worlds_with_one_writer_that_do_not_work(world, why):
    """What is not as promised is said."""
    tale = OneWriter(world(7, 0, real_time=False), Nowhere(), 0)
    assert not tale.tell()
    assert any(why in text for text in tale.unexpected), tale.unexpected


# -- the diagram


def test_the_diagram():
    """Who wrote what and who heard of it when, and what was done to the network."""
    world = Replicas()
    a = world.put("paris", ("", "k"), 1)
    b = world.put("lima", ("", "k"), 2)
    heard = [
        Heard(0, "paris", a, "", "k", False, 1),
        Heard(1, "lima", b, "", "k", True, None),
        Heard(3, "tokyo", a, "", "k", False, 1),
        Heard(4, "tokyo", b, "", "k", True, None),
        Heard(5, "lima", a, "", "k", False, 1),
        Heard(6, "paris", b, "", "k", True, None),
    ]
    expected = """\
           paris           tokyo           lima
   0.000   ● a  k = 1      │               │
   0.001   │               │               ● b  k deleted
   0.002   ══ cut ═══════════════════════════════════════
   0.003   ├──────────────▶○ a             │
   0.004   │               ○◀ b ───────────┤
   0.005   ├───────────────┼──────────────▶○ a
   0.006   ○◀ b ───────────┼───────────────┤

● writes    ○ hears of it    seconds since the first node began to start"""
    assert draw(NAMES, heard, [(2, "cut")], 59) == expected


def test_writes_heard_together_share_a_line():
    """What a node hears of another one after the other is one arrow; more than 26 writes still have names."""
    world = Replicas()
    dots = [world.put("paris", ("", f"k{number}"), number) for number in range(3)]
    heard = [Heard(0, "paris", dot, "", dot.counter, False, 1) for dot in dots]
    heard += [Heard(1, "tokyo", dot, "", "k", False, 1) for dot in dots]
    assert "○ a, b, c" in draw(NAMES, heard, [], 100)
    assert len({letter(number) for number in range(1000)}) == 1000


# -- for real


def test_real_processes(process):
    """Three processes on loopback agree in the end, quickly; nothing of them is left."""
    one = process("demo", "--fast", "--json")
    ran = one.end()
    assert (ran.code, ran.err) == (Exit.OK, "")
    facts = ran.json
    assert facts["agreed"]
    assert facts["unexpected"] == []
    assert {event["node"] for event in facts["operations"]} == set(NAMES)
    written = {event["dot"] for event in facts["operations"] if event["dot"].startswith(event["node"] + "~")}
    assert len(written) == 10
    assert sum(event["dot"] in written for event in facts["operations"]) == 10 * len(NAMES)
    assert [chapter["title"] for chapter in facts["chapters"]][-1] == "The same heal"
    assert set(facts["one_writer_made_of"]) == set(NAMES)
    assert_gone(facts["made_of"])
    assert_gone(facts["one_writer_made_of"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(process, tmp_path, number):
    """Ctrl-C, or being told to end, ends the nodes too, and removes their files."""
    one = process("demo", env={"TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"})
    shown = b""
    while b"of nobody else" not in shown:
        line = one.process.stdout.readline()
        assert line, one.end()
        shown += line
    (folder,) = tmp_path.glob("mmrepl-demo-*")
    pids = {child: {"pid": child} for child in children(one.process.pid)}
    assert len(pids) == len(NAMES)
    ran = one.end(number)
    assert ran.code == Exit.INTERRUPTED
    assert ran.err == ""
    assert not folder.exists()
    assert_gone(pids)


def test_killed(process, tmp_path):
    """kill -9 leaves no node behind: each sees its standard input end, and ends."""
    one = process("demo", env={"TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"})
    while b"of nobody else" not in one.process.stdout.readline():
        pass
    nodes = [os.pidfd_open(child) for child in children(one.process.pid)]
    assert len(nodes) == len(NAMES)
    one.process.kill()
    for node in nodes:
        try:
            assert select.select([node], [], [], 20)[0], "it goes on without the demo"
        finally:
            os.close(node)


def test_a_node_that_does_not_start(run, monkeypatch):
    """It is one line with what the node said, and nothing stays behind."""
    monkeypatch.setattr("mmrepl.cli.demo.processes.CALLBACK", "callback:nowhere:f")
    ran = run("demo", "--fast")
    assert ran.code == Exit.UNAVAILABLE
    assert "nowhere" in ran.err
    assert ran.err.count("\n") == 1


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def assert_gone(nodes):
    for facts in nodes.values():
        with pytest.raises(ProcessLookupError):
            os.kill(facts["pid"], 0)
