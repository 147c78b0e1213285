"""
What the keeper of a node does over its client port: take members out, make backups.

A backup is written by the node, on the node's machine, so a client may say how it is called and not where it goes: it
stands beside the node's own file, and replaces nothing but an older backup.
"""

from __future__ import annotations

from mmrepl.runtime.resp.commands import command
from mmrepl.runtime.resp.protocol import Command
from mmrepl.runtime.resp.session import Answer, Pending, Refused, Session
from mmrepl.wire.resp import OK, bulk

NAME_CHARACTERS_MAX = 200


@command("MM.REMOVE member", group="cluster", flags="admin blocking", words=(2, 2))
def remove(session: Session, words: Command) -> Answer:
    """Take a member out of the cluster, or give up an address that never answered. What it wrote stays."""
    removing = session.backend.remove(words[1].decode())
    return OK if removing is None else Pending(removing, lambda _: OK)


@command("MM.BACKUP name", group="server", flags="admin blocking", words=(2, 2))
def backup(session: Session, words: Command) -> Answer:
    """Copy the node's file, while it runs, to a file of that name beside it; answers with the path of the copy."""
    name = words[1].decode()
    if not name.isprintable() or name in {"", ".", ".."} or not {"/", "\\"}.isdisjoint(name):
        raise Refused("a backup stands beside the node's file: give the name of a file, without a folder")
    if len(name) > NAME_CHARACTERS_MAX:
        raise Refused(f"the name of a backup has at most {NAME_CHARACTERS_MAX} characters")
    return Pending(session.backend.backup(name), lambda path: bulk(path.encode()))
