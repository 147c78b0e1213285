"""A single-master cluster as three processes on loopback, for the demo: see `mmrepl.cli.demo.processes`."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from typing import Any

from mmrepl.causality.version_vector import VersionVector
from mmrepl.cli.demo.processes import Nodes
from mmrepl.cli.demo.world import NAMES, View
from mmrepl.cli.options import Reach
from mmrepl.cli.remote import Remote
from mmrepl.types import Value

ELECTION_MS = ("300", "600")
"""Short, so that nobody has to wait long for the end of the story."""


class OneWriterProcesses(Nodes):
    """See `mmrepl.cli.demo.one_writer.OneWriterWorld`."""

    def begin(self) -> Sequence[str]:
        """Start all three; each is told the addresses of the two others, for they found the cluster together."""
        addresses = dict(zip(NAMES, _free_addresses(len(NAMES)), strict=True))
        for name, address in addresses.items():
            more = ["--mode", "single-master", "--election-ms", *ELECTION_MS]
            for other in NAMES:
                if other != name:
                    more += ["--peer", addresses[other]]
            self._launch(name, address, more)
        for name in NAMES:
            self._started(name)
            self._remotes[name] = Remote(Reach(node=self.facts[name]["client"]))
        return ("Three other nodes begin, with --mode single-master; each is told where the two others are.",)

    def put(self, node: str, key: str, value: Value, *, alone: bool) -> None:
        """Through the node's client port; at the level ``none`` nobody waits for the others."""
        self._remotes[node].put(key, value, level="none" if alone else "sync")

    def look(self, node: str, key: str) -> View:
        """Through the node's client port."""
        found = self._remotes[node].status()
        peers = {str(row["name"]): str(row["state"]) for row in found["members"] if row["name"] != node}
        read = self._remotes[node].read(key)
        return View(
            node, peers, VersionVector(), {("", key): read}, role=found["role"], term=found["term"],
            leader=found["leader"], entries=found["log"]["applied"],
        )  # fmt: skip

    def branches(self, node: str) -> Sequence[Mapping[str, Any]]:
        """Through the node's client port."""
        return self._remotes[node].branches()

    def merge(self, node: str, branch: str) -> Mapping[str, Any]:
        """Through the node's client port."""
        return self._remotes[node].merge(branch, "siblings")


def _free_addresses(count: int) -> list[str]:
    """Addresses that are free now. Somebody may take one before its node does; then that one says so."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [f"127.0.0.1:{one.getsockname()[1]}" for one in held]
    finally:
        for one in held:
            one.close()
