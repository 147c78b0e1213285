"""
Whole conversations, as files that read like stories: what is done, and every message that is said because of it.

A line that begins with ``>`` is done; what follows up to the next such line is what was said, in order, word for word.
``#`` begins a comment. To accept a change, read the difference first, then run with ``MMREPL_REWRITE_SCRIPTS=1``.

(The manner of ``testdata/*.txt`` in etcd-io/raft.)
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from attrs import evolve

from mmrepl.log.columns import VOID
from mmrepl.log.policy import LogPolicy
from mmrepl.types import DEFAULT_LIMITS
from mmrepl.values import decode as decode_value
from mmrepl.wire.messages import Acks, Ask, Delta, Digest, Hello, Leave, Members, Prune, Refuse, Snapshot
from tests.replication.world import World

SCRIPTS = sorted(Path(__file__).parent.glob("*.txt"))


class Teller:
    """Says a message in words. An incarnation is the node's name, with a stroke for each that came before it."""

    def __init__(self):
        self.incarnations = {}
        self.snapshots = {}

    def node(self, name, incarnation):
        known = self.incarnations.setdefault(name, [])
        if incarnation not in known:
            known.append(incarnation)
        return name + "'" * known.index(incarnation)

    def vector(self, entries):
        return "{" + ", ".join(f"{self.node(n, i)}: {c}" for n, i, c in sorted(entries)) + "}"

    def snapshot(self, id):
        return self.snapshots.setdefault(id, len(self.snapshots) + 1)

    def batch(self, batch):
        told, index = [], 0
        for ref, first, size, void in batch.iter_runs():
            for counter in range(first, first + size):
                dot = f"{self.node(*batch.origins[ref])}:{counter}"
                if void:
                    told.append(f"{dot} (overwritten)")
                    continue
                payload = batch.payloads[index]
                value = "deleted" if payload is None else "?" if payload is VOID else decode_value(payload)
                told.append(f"{dot} {batch.keys[index]}={value}")
                index += 1
        if len(told) > 4:
            told[2:-1] = [f"{len(told) - 3} more"]
        return ", ".join(told) or "nothing"

    def tell(self, message):
        match message:
            case Hello():
                return (
                    f"hello, I am {self.node(message.name, message.incarnation)} and have {self.vector(message.vector)}"
                )
            case Refuse():
                return f"no ({message.code}): {message.text}"
            case Delta():
                return f"{self.batch(message.batch)}; standing on {self.vector(message.assumes)}"
            case Digest():
                return f"I have {self.vector(message.vector)}" + (" and want what I lack" if message.want else "")
            case Ask():
                return f"chunk {message.index} of snapshot {self.snapshot(message.id)}, please"
            case Snapshot():
                chunk = f"chunk {message.index} of {message.count} of snapshot {self.snapshot(message.id)}"
                return f"{chunk} at {self.vector(message.clock)}: {self.batch(message.batch)}"
            case Prune():
                return f"nothing of {', '.join(self.node(*origin) for origin in message.origins)} from you any more"
            case Members():
                there = [self.node(e.name, e.incarnation) for e in message.entries if not e.removed]
                gone = [self.node(e.name, e.incarnation) for e in message.entries if e.removed]
                return f"members are {', '.join(there)}" + (f"; gone are {', '.join(gone)}" if gone else "")
            case Acks():
                return "; ".join(f"{name} has {self.vector(vector)}" for name, vector, _ in message.entries)
            case Leave():
                return "I leave"
        raise AssertionError(message)


class Play:
    """Does what a script says."""

    def __init__(self):
        self.world, self.teller, self.said = World(), Teller(), []
        self.world.told = self.hear

    def hear(self, source, target, message):
        self.said.append(f"{source} to {target}: {self.teller.tell(message)}")

    def do(self, line):
        """What was said because of it."""
        self.said = []
        match line.split():
            case ["nodes", *names]:
                for name in names:
                    self.world.add(name)
            case ["nodes-that-keep", count, *names]:
                limits = evolve(DEFAULT_LIMITS, delta_bytes=1024)
                options = {"log": LogPolicy(operations=int(count)), "cut_operations": 1}
                for name in names:
                    self.world.add(name, limits=limits, options=options)
            case [name, "puts", key, value]:
                self.world[name].put(key, value)
                self.world.run()
            case [name, "puts", key, value, "times", count]:
                for i in range(int(count)):
                    self.world[name].put(f"{key}{i}", value)
                    self.world.run()
            case [name, "deletes", key]:
                self.world[name].delete(key)
                self.world.run()
            case [one, "dials", two]:
                self.world.connect(one, two)
                self.world.run()
            case ["cut", one, two]:
                self.world.cut(one, two)
            case ["hold", one, "to", two]:
                self.world.hold(one, two)
            case ["release", one, "to", two]:
                self.world.release(one, two)
                self.world.run()
            case ["wait", ms]:
                self.world.run(int(ms))
            case ["quietly", "wait", ms]:
                self.world.run(int(ms))
                self.said = []
            case ["show", key]:
                for name, site in self.world.sites.items():
                    self.said.append(f"{name} shows {site.get(key)!r}")
            case _:
                raise ValueError(f"what is {line!r}?")
        self.world.check()
        return self.said


def played(text):
    """The script again, with what is said now."""
    play, lines = Play(), []
    for line in text.splitlines():
        if line.startswith(">"):
            lines.append(line)
            lines += [f"    {said}" for said in play.do(line[1:].strip())]
        elif line.startswith("#") or not line.strip():
            lines.append(line)
    return "\n".join(lines).rstrip("\n") + "\n"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_what_is_said_is_what_the_script_says(path):
    """Word for word: nothing more, nothing less, nothing in another order."""
    text = path.read_text()
    now = played(text)
    if os.environ.get("MMREPL_REWRITE_SCRIPTS"):
        path.write_text(now)
    assert text == now


def test_there_are_scripts():
    """A glob that finds nothing proves nothing."""
    assert len(SCRIPTS) >= 4
