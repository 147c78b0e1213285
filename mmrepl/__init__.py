"""
mmrepl: a multi-master replicated key-value store, with conflict resolution that you choose, see and can prove.

The names below are public. Each is loaded when it is first used, so that whoever wants a resolver does not load an
event loop or a database.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the same as _HOMES, for type checkers and readers; a test compares them
    from mmrepl.causality.context import BLIND, CausalContext
    from mmrepl.causality.dot import Dot
    from mmrepl.causality.version_vector import VersionVector
    from mmrepl.client.blocking import BlockingClient
    from mmrepl.client.client import Client
    from mmrepl.errors import MmreplError
    from mmrepl.log.policy import LogPolicy
    from mmrepl.ports import Durability
    from mmrepl.replication.local import Merged
    from mmrepl.runtime.blocking import BlockingNode
    from mmrepl.runtime.log_feed import LogChange
    from mmrepl.runtime.node import Node
    from mmrepl.runtime.outcomes import Change, SiblingsEvent, Written
    from mmrepl.runtime.replica import Replica
    from mmrepl.runtime.single_master_node import SingleMasterNode
    from mmrepl.runtime.table_view import TableView
    from mmrepl.store.read import Read
    from mmrepl.types import Limits, NodeId
    from mmrepl.wire.seen import LogPosition

__version__ = "0.1.0"

__all__ = [
    "BLIND",
    "BlockingClient",
    "BlockingNode",
    "CausalContext",
    "Change",
    "Client",
    "Dot",
    "Durability",
    "Limits",
    "LogChange",
    "LogPolicy",
    "LogPosition",
    "Merged",
    "MmreplError",
    "Node",
    "NodeId",
    "Read",
    "Replica",
    "SiblingsEvent",
    "SingleMasterNode",
    "TableView",
    "VersionVector",
    "Written",
]

_HOMES = {
    "BLIND": "mmrepl.causality.context",
    "BlockingClient": "mmrepl.client.blocking",
    "BlockingNode": "mmrepl.runtime.blocking",
    "CausalContext": "mmrepl.causality.context",
    "Change": "mmrepl.runtime.outcomes",
    "Client": "mmrepl.client.client",
    "Dot": "mmrepl.causality.dot",
    "Durability": "mmrepl.ports",
    "Limits": "mmrepl.types",
    "LogChange": "mmrepl.runtime.log_feed",
    "LogPolicy": "mmrepl.log.policy",
    "LogPosition": "mmrepl.wire.seen",
    "Merged": "mmrepl.replication.local",
    "MmreplError": "mmrepl.errors",
    "Node": "mmrepl.runtime.node",
    "NodeId": "mmrepl.types",
    "Read": "mmrepl.store.read",
    "Replica": "mmrepl.runtime.replica",
    "SiblingsEvent": "mmrepl.runtime.outcomes",
    "SingleMasterNode": "mmrepl.runtime.single_master_node",
    "TableView": "mmrepl.runtime.table_view",
    "VersionVector": "mmrepl.causality.version_vector",
    "Written": "mmrepl.runtime.outcomes",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
