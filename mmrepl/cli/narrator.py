"""
What a running node tells its terminal or its log: who comes and goes, siblings, held clocks, trouble.

Two sources: the node's events, told as they happen, and its status, looked at a few times a second for what has no
event. However much happens, what is printed is bounded: siblings are told one by one while they are few, and counted
when they are many.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Any, Final

from rich.text import Text

from mmrepl.cli import output
from mmrepl.clock.instants import utc_text
from mmrepl.replication.peer import PeerChanged, PeerState
from mmrepl.runtime.node import Node
from mmrepl.runtime.outcomes import SiblingsEvent
from mmrepl.runtime.single_master_node import SingleMasterNode
from mmrepl.single_master.events import RoleChanged

LOOK_S: Final = 0.25
"""How often the status is looked at."""

SIBLINGS_TOLD: Final = 5
"""So many keys with new siblings are told by name between two looks; the rest is counted."""

STYLES: Final = {"warning": "yellow", "gone": "red", "suspect": "red", "live": "green", "siblings": "magenta"}


class Narrator:
    """Tells of one node. Create it before the node starts, `follow` it once it runs."""

    def __init__(self, *, json: bool) -> None:
        self._json = json
        self._console = output.console()
        self._mute = False  # nobody reads any more
        self._states: dict[str, str] = {}
        self._warned: set[str] = set()
        self._siblings: list[SiblingsEvent] = []
        self._policies: Mapping[str, Any] = {}

    def tell(self, event: str, text: str, /, **facts: object) -> None:
        """One line: *text* for people, *event* and *facts* for programs."""
        if self._mute:
            return
        now = utc_text(time.time_ns() // 1_000_000)
        try:
            if self._json:
                output.line_of_json({"time": now, "event": event} | facts)
            else:
                line = Text.assemble((now, "dim"), "  ", (output.safe(text), STYLES.get(event, "")))
                self._console.print(line, soft_wrap=True)
        except OSError:  # the log has nowhere to go; the node goes on
            self._mute = True

    def listen(self, node: Node | SingleMasterNode) -> None:
        """Hear of peers, siblings and roles from now on. Before the node starts, so that nothing is missed."""
        if isinstance(node, SingleMasterNode):
            node.on_role(lambda change: self._role(node, change))
            return
        node.on_peer(lambda change: self._peer(node, change))
        node.on_siblings(self._siblings.append)

    def _role(self, node: SingleMasterNode, change: RoleChanged) -> None:
        who = f", {change.leader} takes writes" if change.leader not in {"", node.name} else ""
        text = f"{node.name} is {change.role.value} in term {change.term}{who}"
        self.tell("role", text, role=change.role.value, term=change.term, leader=change.leader, why=change.text)

    async def follow(self, node: Node | SingleMasterNode) -> None:
        """Look at the node until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)  # first: peers that are there at once are met before anybody misses them
            self.look(node)

    def look(self, node: Node | SingleMasterNode) -> None:
        """Tell what has changed since the last look."""
        found = node.status()
        self._policies = {name: table.get("policy", "") for name, table in found["tables"].items()}
        for member in found["members"]:
            self._member(member)
        self._tell_siblings()
        complaints = [*found["warnings"], *found["complaints"]]
        if found["storage"]["failure"] is not None:
            complaints.append(f"the disk failed, nothing is acknowledged any more: {found['storage']['failure']}")
        if found["storage"]["full"] is not None:
            complaints.append(f"{found['storage']['full']}")
        for text in complaints:
            if text not in self._warned:
                self.tell("warning", text, text=text)
        self._warned = set(complaints)

    # -- members

    def _peer(self, node: Node, change: PeerChanged) -> None:
        """
        That somebody went is told at once, with the reason. That somebody came, at the next look, if they are there.

        Else a peer that is refused, and dials again and again, would be told of again and again.
        """
        if change.state is not PeerState.GONE:
            return
        with contextlib.suppress(KeyError):
            if node.core.peers[change.name].link is not None:
                return  # one connection of two was given up
        self._became(change.name, change.state.value, change.text)

    def _member(self, member: Mapping[str, Any]) -> None:
        name, state = member["name"], member["state"]
        if name is None or state in {"self", PeerState.CONNECTING.value}:
            return
        facts = {} if state != PeerState.LIVE.value else {"address": member["address"]}
        self._became(name, state, **facts)

    def _became(self, name: str, state: str, why: str = "", **facts: object) -> None:
        if self._states.get(name) == state:
            return
        if state == PeerState.GONE.value and name not in self._states and not why:
            return  # it was gone when we began
        self._states[name] = state
        text = f"{name} is {state}" + (f": {why}" if why else "")
        told = {"live": "live", "gone": "gone", "suspect": "suspect"}.get(state, "peer")
        self.tell(told, text, peer=name, state=state, why=why, **facts)

    # -- siblings

    def _tell_siblings(self) -> None:
        events, self._siblings[:] = list(self._siblings), []
        latest = {(event.table, event.key): event for event in events}
        for (table, key), event in sorted(latest.items())[:SIBLINGS_TOLD]:
            place = f"{table}/{key}" if table else key
            policy = self._policies.get(table, "the default policy")
            if event.kind == "appeared":
                text = f"{place}: {len(event.dots)} siblings meet ({', '.join(map(str, event.dots))}), under {policy}"
            else:
                text = f"{place}: its siblings are one again"
            self.tell("siblings", text, table=table, key=key, kind=event.kind, dots=[str(dot) for dot in event.dots])
        if len(latest) > SIBLINGS_TOLD:
            more = len(latest) - SIBLINGS_TOLD
            self.tell("siblings", f"siblings came or went in {more} more keys", more=more)
