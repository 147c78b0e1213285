"""
Proof for what you plug into mmrepl: merge functions, resolvers, transports, storages.

`check_resolver` and `check_merge` try to refute a merge function and show the smallest history that does.
`ReplicationMachine` is a simulated cluster for Hypothesis to play with, `EmbeddedMachine` one of embedded replicas.
`mmrepl.testing.strategies` draws every public value; `mmrepl.testing.storage_suite` and
`mmrepl.testing.transport_suite` hold what every storage and transport must do.

Needs the extra ``testing`` (Hypothesis, pytest). Names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the same as _HOMES, for type checkers and readers
    from mmrepl.testing.embedded import EmbeddedMachine
    from mmrepl.testing.history import (
        Arrive,
        Delete,
        Deliver,
        Exchange,
        Put,
        Repeat,
        Restart,
        Send,
        Settle,
        Step,
        WriteBack,
    )
    from mmrepl.testing.machine import ReplicationMachine
    from mmrepl.testing.merge_check import check_merge
    from mmrepl.testing.refuted import Checked, MergeRefuted, Refuted, ResolverRefuted
    from mmrepl.testing.resolver_check import check_history, check_resolver

__all__ = [
    "Arrive",
    "Checked",
    "Delete",
    "Deliver",
    "EmbeddedMachine",
    "Exchange",
    "MergeRefuted",
    "Put",
    "Refuted",
    "Repeat",
    "ReplicationMachine",
    "ResolverRefuted",
    "Restart",
    "Send",
    "Settle",
    "Step",
    "WriteBack",
    "check_history",
    "check_merge",
    "check_resolver",
]

_HOMES = {
    "Arrive": "mmrepl.testing.history",
    "Checked": "mmrepl.testing.refuted",
    "Delete": "mmrepl.testing.history",
    "Deliver": "mmrepl.testing.history",
    "EmbeddedMachine": "mmrepl.testing.embedded",
    "Exchange": "mmrepl.testing.history",
    "MergeRefuted": "mmrepl.testing.refuted",
    "Put": "mmrepl.testing.history",
    "Refuted": "mmrepl.testing.refuted",
    "Repeat": "mmrepl.testing.history",
    "ReplicationMachine": "mmrepl.testing.machine",
    "ResolverRefuted": "mmrepl.testing.refuted",
    "Restart": "mmrepl.testing.history",
    "Send": "mmrepl.testing.history",
    "Settle": "mmrepl.testing.history",
    "Step": "mmrepl.testing.history",
    "WriteBack": "mmrepl.testing.history",
    "check_history": "mmrepl.testing.resolver_check",
    "check_merge": "mmrepl.testing.merge_check",
    "check_resolver": "mmrepl.testing.resolver_check",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = globals()[name] = getattr(import_module(home), name)
    except ModuleNotFoundError as error:
        if error.name not in {"hypothesis", "pytest"}:
            raise
        message = f'mmrepl.testing.{name} needs {error.name}, which is not installed: pip install "mmrepl[testing]"'
        raise ModuleNotFoundError(message, name=error.name) from None
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
