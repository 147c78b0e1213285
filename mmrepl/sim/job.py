"""
Work that other processes can be given: a function, and what goes there and comes back as bytes.

Both are attrs classes and builtins, and their types are agreed upon before: so they travel as MessagePack, and no
process makes code of what it reads. A job is made by a function of a module from one word, and that is how another
process finds it.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from typing import IO, Any, Generic, TypeVar, get_origin

import msgspec
from attrs import field, frozen

T = TypeVar("T")
R = TypeVar("R")

LENGTH = struct.Struct(">I")


@frozen
class Job(Generic[T, R]):
    """*do*, with the types of what it takes and gives; ``MODULE:FUNCTION`` of *maker*, called with *word*, makes it."""

    maker: str
    word: str
    do: Callable[[T], R]
    task: Any = field(repr=False)  # a type
    result: Any = field(repr=False)

    @classmethod
    def found(cls, maker: str, word: str) -> Job[Any, Any]:
        """The job that is made there."""
        module, _, name = maker.partition(":")
        job: Job[Any, Any] = getattr(import_module(module), name)(word)
        return job

    def task_of(self, body: bytes) -> T:
        """A task that travelled."""
        task: T = msgspec.msgpack.decode(body, type=self.task, dec_hook=_counter)
        return task

    def result_of(self, body: bytes) -> R:
        """A result that travelled."""
        result: R = msgspec.msgpack.decode(body, type=self.result, dec_hook=_counter)
        return result


def write(stream: IO[bytes], what: object) -> None:
    """Send a task, or a result. Raises OSError when nobody reads."""
    body = msgspec.msgpack.encode(what)
    stream.write(LENGTH.pack(len(body)) + body)
    stream.flush()


def read(stream: IO[bytes]) -> bytes | None:
    """What was sent next; None when there is no more, or what there is was cut short."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (size,) = LENGTH.unpack(head)
    body = stream.read(size)
    return body if len(body) == size else None


def _counter(kind: Any, value: Any) -> Any:
    """For msgspec, which does not know this one class."""
    if get_origin(kind) is not Counter:
        raise NotImplementedError(f"{kind} does not travel")
    return Counter(value)
