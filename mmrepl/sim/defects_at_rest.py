"""
Planted defects of what rests: durability, damage, stability, snapshots (see `mmrepl.sim.defects`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import mmrepl.replication.local as local_module
import mmrepl.sim.disk as disk_module
import mmrepl.store.snapshot as snapshot_module
from mmrepl.causality.dot import COUNTER_BITS, COUNTER_MAX
from mmrepl.causality.stability import AckMatrix
from mmrepl.causality.version_vector import VersionVector
from mmrepl.replication.local import LocalCore
from mmrepl.sim.hunt import Defect, Patch
from mmrepl.store.journal import Journal
from mmrepl.store.keyspace import Keyspace, Record
from mmrepl.store.store import Store

AT_REST: dict[str, Defect] = {}


def _defect(name: str, text: str, *patches: Patch) -> None:
    AT_REST[name] = Defect(name, text, patches)


def _always(value: Any) -> Callable[[Any], Any]:
    return lambda _before: lambda *_arguments, **_options: value


# -- durability


def _durable_at_once(before: Any) -> Any:
    def take_persist(self: LocalCore) -> Any:
        persist = before(self)
        if persist is not None:
            self.durable, self._durable_vector = persist.position, self.store.version
        return persist

    return take_persist


_defect(
    "acknowledged before synced",
    "what is handed to the disk is taken for durable",
    (LocalCore, "take_persist", _durable_at_once),
)


def _applied_is_durable(_before: Any) -> Any:
    return property(lambda self: self.store.version)


_defect(
    "sent before synced",
    "what is applied is told to peers before it is on disk",
    (LocalCore, "durable_vector", _applied_is_durable),
)


def _loses_the_last(before: Any) -> Any:
    def take(self: Journal) -> Any:
        commit = before(self)
        if commit is not None and self.persisted % 7 == 0:
            object.__setattr__(commit, "batches", dict(list(commit.batches.items())[:-1]))
        return commit

    return take


_defect("batch left out of a commit", "now and then a commit lacks its last batch", (Journal, "take", _loses_the_last))


def _segments_not_saved(_before: Any) -> Any:
    def save(self: Journal, _columns: Any, segment: Any) -> None:
        segment.dead_saved = segment.dead
        self._saved_segments.add(segment.number)

    return save


_defect(
    "settled operations not saved",
    "a cut drops batches and does not write what lives of them",
    (Journal, "_save_segment", _segments_not_saved),
)


def _any_record(before: Any) -> Any:
    def record_at(data: bytes, at: int) -> bytes | None:
        record: bytes | None = before(data, at)
        if record is None and len(data) - at >= disk_module.HEAD_BYTES:
            length = disk_module._HEAD.unpack_from(data, at)[1]
            if at + disk_module.HEAD_BYTES + length <= len(data):
                return data[at : at + disk_module.HEAD_BYTES + length]
        return record

    return record_at


_defect("torn tail accepted", "a record counts whatever its checksum", (disk_module, "_record_at", _any_record))


def _end_quietly(_before: Any) -> Any:
    def end_at(self: disk_module.SimDisk, data: bytes, at: int, serial: int) -> None:
        del self, data, at, serial  # no damage, and no doubt either

    return end_at


_defect(
    "middle damage skipped",
    "what stands behind a damaged record is dropped without a word",
    (disk_module.SimDisk, "_end_at", _end_quietly),
)


# -- stability and snapshots


def _stable_at_once(_before: Any) -> Any:
    return lambda self: self._own_vector


_defect("stable at once", "what we have applied is taken for stable everywhere", (AckMatrix, "stable", _stable_at_once))


def _dot_alone(before: Any) -> Any:
    def forget_key(self: Keyspace, table: Any, key: str, watermark: Mapping[int, int]) -> int:
        state = table.states[key]
        dots = state.dots if isinstance(state, Record) else [state]
        if any(watermark.get(dot >> COUNTER_BITS, 0) < dot & COUNTER_MAX for dot in dots):
            return 0
        result: int = before(self, table, key, _Everything())
        return result

    return forget_key


class _Everything(dict[int, int]):
    def get(self, _key: int, _default: Any = None) -> int:
        return COUNTER_MAX


def _any_view(_before: Any) -> Any:
    return lambda self, ack: bool(ack.view == self.view)


_defect(
    "tombstone dropped on its dot alone",
    "what is forgotten need only be stable itself, by the word of members who have seen more than we have",
    (Keyspace, "_forget_key", _dot_alone),
    (AckMatrix, "_is_usable", _any_view),
)


class _Anything(set[int]):
    def __contains__(self, _dot: object) -> bool:
        return True


_defect(
    "snapshot joined plainly",
    "what a snapshot does not hold is not taken for dead",
    (snapshot_module, "_dots", _always(_Anything())),
)


def _pasted(before: Any) -> Any:
    def install(store: Store, clock: VersionVector, batches: Any) -> int:
        wide = VersionVector({**store.version, **{o: max(n, store.version.counter(o)) for o, n in clock.items()}})
        result: int = before(store, wide, batches)
        return result

    return install


_defect(
    "snapshot pasted",
    "whatever a snapshot does not hold is dead, seen by its sender or not",
    (local_module, "install", _pasted),
)
