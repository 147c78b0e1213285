"""
A batch on file: what was done is not done again.

The first line of a record says what the batch is; each of the others what came of one seed, in JSON, written as soon as
it is known. So whatever ends the process, even in the middle of a line, costs that line and nothing else. A record
belongs to one version of mmrepl and to one set of options: others would mix what cannot be compared.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
from attrs import asdict, frozen

import mmrepl
from mmrepl.errors import UsageError
from mmrepl.sim.kinds import Judged, World, kind_named, kind_of
from mmrepl.sim.rules import Violation

KIND = "mmrepl sim"


@frozen(kw_only=True)
class Plan:
    """Which seeds a batch runs, and how; *defects* are those that are hunted, None in a plain batch."""

    options: World
    first: int = 0
    seeds: int = 1_000
    defects: tuple[str, ...] | None = None

    def numbers(self) -> range:
        """The seeds."""
        return range(self.first, self.first + self.seeds)

    def line(self) -> bytes:
        """The first line of its record."""
        shape = {
            "kind": KIND,
            "version": mmrepl.__version__,
            "mode": kind_of(self.options).mode,
            "options": asdict(self.options),  # type: ignore[arg-type]
            "first": self.first,
            "seeds": self.seeds,
            "defects": self.defects,
        }
        return msgspec.json.encode(shape) + b"\n"

    @classmethod
    def of(cls, line: bytes, path: Path) -> Plan:
        """The plan of a first line. Raises UsageError for what is none, or of another version."""
        try:
            shape = msgspec.json.decode(line, type=dict[str, Any])
            kind, version = shape["kind"], shape["version"]
        except (msgspec.DecodeError, KeyError, UnicodeDecodeError):
            kind = version = None
        if kind != KIND:
            raise UsageError(f"{path} is no record of a batch")
        if version != mmrepl.__version__:
            raise UsageError(f"{path} was made by mmrepl {version}, this is {mmrepl.__version__}: begin anew")
        defects = shape["defects"]
        return cls(
            options=_options(shape),
            first=shape["first"],
            seeds=shape["seeds"],
            defects=None if defects is None else tuple(defects),
        )


class Record:
    """The file of a batch, to be read once and then written to. A context manager."""

    def __init__(self, path: Path, plan: Plan) -> None:
        self.path = path
        self.plan = plan
        self.entries: list[dict[str, Any]] = []  # what had been done when it was opened
        self._file = path.open("ab")

    @classmethod
    def create(cls, path: Path, plan: Plan, entries: Iterable[dict[str, Any]] = ()) -> Record:
        """A new file. Raises FileExistsError rather than to overwrite one."""
        with path.open("xb") as file:
            file.write(plan.line())
            for entry in entries:
                file.write(msgspec.json.encode(entry) + b"\n")
        return cls(path, plan)

    @classmethod
    def resume(cls, path: Path) -> Record:
        """Open one that is there. A line that was cut short is dropped. Raises UsageError, OSError."""
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        first, *others = whole.splitlines() or [b""]
        plan = Plan.of(first, path)
        try:
            entries = [msgspec.json.decode(line, type=dict[str, Any]) for line in others]
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} is damaged: {error}") from None
        if whole != data:
            os.truncate(path, len(whole))
        record = cls(path, plan)
        record.entries = entries
        return record

    def add(self, entry: dict[str, Any]) -> None:
        """Note what was done; it is with the operating system when this returns."""
        self._file.write(msgspec.json.encode(entry) + b"\n")
        self._file.flush()

    def close(self) -> None:
        """No more is noted. Idempotent."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def free_path(folder: Path, stem: str) -> Path:
    """A path in *folder* at which nothing stands yet: ``stem.record``, else ``stem-2.record`` and so on."""
    number = 1
    while True:
        path = folder / (f"{stem}.record" if number == 1 else f"{stem}-{number}.record")
        with contextlib.suppress(FileNotFoundError):
            path.lstat()
            number += 1
            continue
        return path


def entry_of(outcome: Judged) -> dict[str, Any]:
    """An outcome, for a record."""
    return {
        "seed": outcome.seed,
        "violations": [
            [v.checker, v.text, v.at_ms, v.node, None if v.place is None else list(v.place)] for v in outcome.violations
        ],
        "fired": dict(outcome.fired),
        "operations": outcome.operations,
        "refused": outcome.refused,
        "messages": outcome.messages,
        "virtual_ms": outcome.virtual_ms,
        "rounds": outcome.settled,
        "trace": outcome.trace_digest,
        "seconds": outcome.seconds,
    }


def outcome_of(entry: dict[str, Any], options: World) -> Judged:
    """An outcome of a record. Raises KeyError or ValueError for what is none."""
    violations = tuple(
        Violation(checker, text, at_ms, node, None if place is None else (place[0], place[1]))
        for checker, text, at_ms, node, place in entry["violations"]
    )
    return kind_of(options).outcome(
        entry["seed"], options, violations, Counter(entry["fired"]), operations=entry["operations"],
        refused=entry["refused"], messages=entry["messages"], virtual_ms=entry["virtual_ms"], settled=entry["rounds"],
        trace=entry["trace"], seconds=entry["seconds"],
    )  # fmt: skip


def _options(shape: dict[str, Any]) -> World:
    options = dict(shape["options"])
    options.pop("failover", None)
    faults = options["faults"]
    made: World = kind_named(shape["mode"]).options(**{**options, "faults": None if faults is None else tuple(faults)})
    return made
