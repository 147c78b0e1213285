"""
What clients do, in any mode: steps drawn from a seed.

A step is *add* (read a list, put an item of one's own into it, write it back), *put* (write a value over whatever is
there), *read* or *delete*. The default workload draws them in given proportions; a file may change the proportions, a
Python function may yield the steps itself.
"""

from __future__ import annotations

import importlib
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, Literal, TypeAlias, get_args

from attrs import field, fields, frozen, validators

from mmrepl.errors import UsageError
from mmrepl.sim.chance import dice
from mmrepl.values import check_key

Kind: TypeAlias = Literal["add", "put", "read", "delete"]


@frozen
class Step:
    """One thing that a client does, *pause_ms* after the answer to the one before."""

    pause_ms: int = field(validator=validators.ge(0))
    kind: Kind = field(validator=validators.in_(get_args(Kind)))
    key: str


Steps: TypeAlias = "Callable[[Random, int], Iterator[Step]]"
"""A workload as people write it: given dice and the number of a client, its steps, as many as will be asked for."""


@frozen(kw_only=True)
class Workload:
    """
    Clients and what they do. Each node is the home of the same number of them.

    Proportions (*adds*, *puts*, *reads*, *deletes*) are weights. With *steps*, these, the keys and the pauses are its
    affair. Raises UsageError for what cannot be.
    """

    name: str = "baskets"
    clients_a_node: int = field(default=2, validator=validators.and_(validators.ge(1), validators.le(64)))
    keys: int = field(default=24, validator=validators.and_(validators.ge(1), validators.le(10_000)))
    pause_ms: int = field(default=60, validator=validators.and_(validators.ge(1), validators.le(60_000)))  # on average
    adds: float = field(default=4.0, validator=validators.ge(0))
    puts: float = field(default=0.0, validator=validators.ge(0))
    reads: float = field(default=5.5, validator=validators.ge(0))
    deletes: float = field(default=0.5, validator=validators.ge(0))
    duration_ms: int = field(default=24_000, validator=validators.and_(validators.ge(1_000), validators.le(3_600_000)))
    steps: Steps | None = field(default=None, eq=False)

    def __attrs_post_init__(self) -> None:
        if self.steps is None and not self.adds + self.puts + self.reads + self.deletes > 0:
            raise UsageError("a workload in which nobody does anything: give adds, puts, reads or deletes a weight")

    def of(self, seed: int, client: int) -> Iterator[Step]:
        """The steps of one client: the same for the same seed, in every mode."""
        rng = dice(seed, "compare", self.name, str(client))
        return self._drawn(rng) if self.steps is None else _checked(self.steps(rng, client))

    def _drawn(self, rng: Random) -> Iterator[Step]:
        kinds: list[Kind] = ["add", "put", "read", "delete"]
        weights = [self.adds, self.puts, self.reads, self.deletes]
        while True:
            pause = 1 + int(rng.expovariate(1.0) * self.pause_ms)
            # two draws: some keys are more popular than others
            key = f"basket-{min(rng.randrange(self.keys), rng.randrange(self.keys)):02d}"
            yield Step(min(pause, 10 * self.pause_ms), rng.choices(kinds, weights)[0], key)


def _checked(steps: Iterator[Any]) -> Iterator[Step]:
    for step in steps:
        if not isinstance(step, Step):
            raise UsageError(f"a workload yields mmrepl.compare.Step, not {step!r}")
        check_key(step.key)
        yield step


DEFAULT_WORKLOAD = Workload()
"""Baskets: six clients on three nodes, two fifths of what they do is adding."""


def load_workload(source: str) -> Workload:
    """
    A workload from ``file.toml`` (the fields of `Workload`) or ``package.module:function`` (see `Steps`).

    Raises UsageError: neither, not there, or not what a workload can be.
    """
    if source.endswith(".toml"):
        return _from_file(Path(source))
    module, colon, name = source.partition(":")
    if not colon:
        raise UsageError(f"{source!r} is no workload: expected a .toml file, or package.module:function")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"the workload {source!r} cannot be loaded: {error}") from error
    if isinstance(function, Workload):
        return function
    if not callable(function):
        raise UsageError(f"{source!r} is not a function: it is {function!r}")
    return Workload(name=source, steps=function)


def _from_file(path: Path) -> Workload:
    try:
        table = tomllib.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"the workload cannot be read from {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from None
    known = {one.name for one in fields(Workload)} - {"steps"}
    unknown = sorted(table.keys() - known)
    if unknown:
        raise UsageError(f"{path}: unknown {', '.join(unknown)}; a workload has {', '.join(sorted(known))}")
    try:
        return Workload(**{"name": path.stem, **table})
    except (TypeError, ValueError) as error:
        raise UsageError(f"{path}: {error}") from error
