"""
What clients and operators ask of a node in single-master mode, beyond what both modes have.

MM.AT reads at a level: it executes a command as soon as this node may serve such a read. The rest is an operator's:
promote, hand over, change the members, look after branches. A node of multi-master mode refuses all of it.
"""

from __future__ import annotations

from typing import Any

from mmrepl.runtime.resp.backend import SingleWriter
from mmrepl.runtime.resp.commands import COMMANDS, MANY, command, number
from mmrepl.runtime.resp.protocol import Command
from mmrepl.runtime.resp.session import Answer, Pending, Refused, Session
from mmrepl.wire.resp import OK

LEVELS = ("local", "bounded", "leader", "linearizable")


def _writer(session: Session) -> SingleWriter:
    writer = session.backend.single_writer
    if writer is None:
        raise Refused("this node is of multi-master mode: every node takes writes, and nobody is promoted")
    return writer


@command("MM.AT level command [argument …]", group="sessions", flags="blocking", words=(3, MANY))
def at(session: Session, words: Command) -> Answer:
    """
    Execute a reading command as soon as this node may serve a read of that level.

    A level is local, bounded:ENTRIES (at most so many entries behind), leader or linearizable. If it may not, the
    answer is an error that says why, and nothing was executed.
    """
    level, _, bound = words[1].decode().lower().partition(":")
    inner = words[2:]
    if level not in LEVELS or (level == "bounded") != bool(bound):
        raise Refused("a level is local, bounded:ENTRIES, leader or linearizable")
    name = inner[0].decode("utf-8", "replace").upper()
    spec = COMMANDS.get(name)
    if spec is None or "readonly" not in spec.flags or "blocking" in spec.flags:
        raise Refused(f"{name} cannot be executed at a level: only what reads, and at once")
    entries = number(bound.encode(), 0) if bound else None
    if session.backend.single_writer is None and level == "local":
        return session.execute(inner)

    def finish(_index: Any) -> bytes:
        answer = session.execute(inner)
        assert isinstance(answer, bytes), name
        return answer

    return Pending(_writer(session).fresh(level, entries), finish)


@command("MM.PROMOTE [FORCE]", group="cluster", flags="admin blocking", words=(1, 2))
def promote(session: Session, words: Command) -> Answer:
    """
    Make this node the primary; where leaders are elected, ask for an election now.

    Refused when another node is further, or too few answer to know: FORCE goes on, and says what is lost.
    """
    if len(words) == 2 and words[1].upper() != b"FORCE":
        raise Refused("syntax error")
    return Pending(_writer(session).promote(force=len(words) == 2), session.reply)


@command("MM.TRANSFER member", group="cluster", flags="admin blocking", words=(2, 2))
def transfer(session: Session, words: Command) -> Answer:
    """Hand over to a voter, which is brought up to date first."""
    return Pending(_writer(session).transfer(words[1].decode()), session.reply)


@command("MM.ADD member [LEARNER]", group="cluster", flags="admin blocking", words=(2, 3))
def add(session: Session, words: Command) -> Answer:
    """Make a node that is connected a member: a voter as soon as it has caught up, or a learner without a vote."""
    if len(words) == 3 and words[2].upper() != b"LEARNER":
        raise Refused("syntax error")
    return Pending(_writer(session).add(words[1].decode(), learner=len(words) == 3), session.reply)


@command("MM.BRANCHES", group="cluster", flags="readonly", words=(1, 1))
def branches(session: Session, _words: Command) -> Answer:
    """What was cut off this node's log and is kept, oldest first."""
    return session.reply([dict(branch) for branch in _writer(session).branches()])


@command("MM.MERGE branch [policy]", group="cluster", flags="admin blocking", words=(2, 3))
def merge(session: Session, words: Command) -> Answer:
    """Merge a branch into the cluster, keys that both wrote by a policy: lww, or siblings."""
    policy = words[2].decode().lower() if len(words) == 3 else "lww"
    return Pending(_writer(session).merge(words[1].decode(), policy), session.reply)


@command("MM.DROP branch", group="cluster", flags="admin", words=(2, 2))
def drop(session: Session, words: Command) -> Answer:
    """Forget a branch."""
    _writer(session).drop(words[1].decode())
    return OK
