"""
Tells Hypothesis how mmrepl's public values are drawn, so that ``st.from_type(mmrepl.Dot)`` works.

Hypothesis calls `register` when it is imported, in every program that does so, whether or not it has to do with mmrepl.
So nothing is loaded for it: where mmrepl's types are not loaded yet, an import hook waits for the module of each, and
goes when all have come.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, Final

TYPES: Final[dict[str, dict[str, str]]] = {
    "mmrepl.types": {"NodeId": "node_ids", "Limits": "limits"},
    "mmrepl.causality.dot": {"Dot": "dots"},
    "mmrepl.causality.version_vector": {"VersionVector": "version_vectors"},
    "mmrepl.causality.context": {"CausalContext": "contexts"},
    "mmrepl.causality.container": {"CausalContainer": "containers"},
    "mmrepl.resolvers.sibling": {"Sibling": "siblings"},
    "mmrepl.resolvers.base": {"Resolution": "resolutions", "Resolver": "resolvers"},
    "mmrepl.log.operation": {"Operation": "operations"},
    "mmrepl.log.policy": {"LogPolicy": "log_policies"},
    "mmrepl.ports": {"Commit": "commits"},
    "mmrepl.replication.local": {"Merged": "merged"},
    "mmrepl.wire.seen": {"LogPosition": "log_positions"},
    "mmrepl.runtime.log_feed": {"LogChange": "log_changes"},
    "mmrepl.runtime.outcomes": {"Change": "changes", "SiblingsEvent": "siblings_events", "Written": "receipts"},
    "mmrepl.store.read": {"Read": "reads"},
}
"""Module → type → strategy, in `mmrepl.testing.strategies`."""


def register() -> None:
    """The entry point."""
    waiting = set(TYPES)
    for name in sorted(waiting):
        module = sys.modules.get(name)
        if module is not None and not getattr(getattr(module, "__spec__", None), "_initializing", False):
            _register(module)
            waiting.discard(name)
    if waiting and not any(isinstance(finder, _Waiting) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Waiting(waiting))


def _register(module: ModuleType) -> None:
    from hypothesis import strategies as st

    for type_name, strategy in TYPES[module.__name__].items():
        st.register_type_strategy(getattr(module, type_name), _drawn_by(strategy))


def _drawn_by(strategy: str) -> Any:
    """Something that finds the strategy when a value is asked for, not before."""

    def draw(_: type) -> Any:
        from mmrepl.testing import strategies

        return getattr(strategies, strategy)()

    return draw


class _Waiting(importlib.abc.MetaPathFinder):
    """Registers the types of a module when that has been loaded."""

    def __init__(self, waiting: set[str]) -> None:
        self._waiting = waiting

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,  # noqa: ARG002 - the protocol's
    ) -> importlib.machinery.ModuleSpec | None:
        """The usual spec, its loader wrapped; None for all modules that are not waited for."""
        if name not in self._waiting:
            return None
        self._waiting.discard(name)
        if not self._waiting and self in sys.meta_path:
            sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            _register_after(spec.loader)
        return spec


def _register_after(loader: Any) -> None:
    """Have *loader*, which loads one module, register its types when it is done."""
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        execute(module)
        _register(module)

    loader.exec_module = exec_module
