"""A single-master cluster in virtual time, for the demo: see `mmrepl.cli.demo.simulated`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmrepl.causality.version_vector import VersionVector
from mmrepl.cli.demo.virtual import STEP_MS, Virtual
from mmrepl.cli.demo.world import NAMES, View
from mmrepl.cli.remote import KeyRead
from mmrepl.errors import Unavailable
from mmrepl.resolvers import KeepSiblings
from mmrepl.runtime.resp.shown import kind, shown
from mmrepl.runtime.single_master_status import branch_row
from mmrepl.sim.single_master.cluster import LogSettings, SingleMasterCluster
from mmrepl.single_master import events
from mmrepl.types import DEFAULT_TABLE, Value
from mmrepl.values import decode, encode


class OneWriterSimulated(Virtual):
    """See `mmrepl.cli.demo.one_writer.OneWriterWorld`. Its time begins at *began_ms*."""

    def __init__(self, seed: int, began_ms: int, *, real_time: bool) -> None:
        self.facts: Mapping[str, Any] = {"seed": seed}
        self._began_ms = began_ms
        super().__init__(real_time=real_time)
        self._seed = seed
        self._cluster: SingleMasterCluster | None = None

    @property
    def cluster(self) -> SingleMasterCluster:
        """The nodes, once they have begun."""
        assert self._cluster is not None
        return self._cluster

    def begin(self) -> Sequence[str]:
        """Nodes on a network with some delay."""
        self._cluster = SingleMasterCluster(NAMES, seed=self._seed, settings=LogSettings(disk_ms=1))
        return ("Three other nodes begin, in single-master mode, in virtual time as well.",)

    def close(self) -> None:
        """Nothing was started that would have to end."""

    def now_ms(self) -> int:
        """Virtual time."""
        return self._began_ms + (self._cluster.now_ms if self._cluster is not None else 0)

    def put(self, node: str, key: str, value: Value, *, alone: bool) -> None:
        """At a simulated node; time passes until it is answered."""
        monotonic, wall = self.cluster.node(node).now()
        ack = "async" if alone else None
        payload = encode(value)
        self._answer(
            node, lambda core, token: core.propose(DEFAULT_TABLE, key, payload, monotonic, wall, token=token, ack=ack)
        )

    def _answer(self, name: str, start: Callable[[Any, object], object]) -> Any:
        got: list[Any] = []
        self.cluster.node(name).ask(start, got.append)
        while not got:
            self.cluster.run(STEP_MS)
        if isinstance(got[0], events.Failed):
            raise got[0].error
        if got[0] is None:
            raise Unavailable(f"{name} died before it could answer")
        return got[0]

    def look(self, node: str, key: str) -> View:
        """A simulated node, from inside."""
        core = self.cluster.core(node)
        members = core.members_now(self.cluster.node(node).now()[0])
        peers = {one.name: one.state.value for one in members if one.name != node}
        found = core.get(DEFAULT_TABLE, key)
        value = None if found is None else decode(found[0])
        present = found is not None
        read = KeyRead(
            key, DEFAULT_TABLE, present, kind(value) if present else None, value, shown(value) if present else None,
            "one writer", "-", (),
        )  # fmt: skip
        return View(
            node, peers, VersionVector(), {(DEFAULT_TABLE, key): read}, role=core.role.value, term=core.term,
            leader=core.leader, entries=core.applied,
        )  # fmt: skip

    def cut(self, one: Sequence[str], other: Sequence[str]) -> None:
        """What is sent across waits."""
        self.cluster.partition(set(one), set(other))

    def branches(self, node: str) -> Sequence[Mapping[str, Any]]:
        """From inside."""
        return [branch_row(branch) for branch in self.cluster.core(node).branches()]

    def merge(self, node: str, branch: str) -> Mapping[str, Any]:
        """Both values of a key become siblings."""
        now = self.cluster.node(node).now()[0]
        merged = self._answer(node, lambda core, token: core.merge_branch(branch, KeepSiblings(), now, token=token))
        return {"written": merged.written, "skipped": merged.skipped}
