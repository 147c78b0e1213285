"""
The other process: answers for a resolver under another PYTHONHASHSEED, locale and time zone.

It is told an address, imports the module, and then answers requests, each a list of groups of siblings: what the
resolver makes of them, in that order. Each request is served by a fork where there is one, so that the module is
untouched at its beginning. Requests and answers are MessagePack behind four bytes of length, on pipes.

A module that checks its resolver when it is imported would start another process, and that one too: `inside` tells
`check_resolver` to stop there.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import locale
import os
import sys
from typing import Any, BinaryIO, Final

import msgspec

from mmrepl.causality.dot import Dot
from mmrepl.errors import MmreplError
from mmrepl.resolvers import Resolver, Sibling
from mmrepl.testing.address import Address, build
from mmrepl.types import NodeId

VARIABLE: Final = "MMREPL_TESTING_WORKER"
"""Set in the environment of a worker."""


class StopImport(BaseException):
    """A module that is imported by a worker has come to a check. What it has defined by then is enough."""


def inside() -> bool:
    """Whether this process is a worker."""
    return VARIABLE in os.environ


def pack_group(siblings: tuple[Sibling, ...]) -> list[Any]:
    """Siblings as they are sent."""
    return [[*sibling.dot.origin, sibling.dot.counter, sibling.timestamp, sibling.payload] for sibling in siblings]


def write(stream: BinaryIO, message: Any) -> None:
    """One message."""
    data = msgspec.msgpack.encode(message)
    stream.write(len(data).to_bytes(4, "big") + data)
    stream.flush()


def read(stream: BinaryIO) -> Any:
    """The next message; None at the end."""
    head = stream.read(4)
    return msgspec.msgpack.decode(stream.read(int.from_bytes(head, "big"))) if len(head) == 4 else None


def main() -> None:
    """Serve until the input ends. The first message is the address; its answer is "" or why that cannot be served."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), 1)
    with contextlib.suppress(locale.Error):
        locale.setlocale(locale.LC_ALL, "")
    address = read(requests)
    if address is None:
        return
    try:
        resolver = _resolver(Address(**address))
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is told
        write(answers, f"{type(error).__name__}: {error}")
        return
    write(answers, "")
    while (groups := read(requests)) is not None:
        if hasattr(os, "fork"):
            child = os.fork()
            if child:
                os.waitpid(child, 0)
                continue
        write(answers, [_answer(resolver, group) for group in groups])
        if hasattr(os, "fork"):
            os._exit(0)


def _resolver(address: Address) -> Resolver:
    module = _module(address)
    thing = build(address, module)
    assert isinstance(thing, Resolver)
    return thing


def _module(address: Address) -> Any:
    """The module, imported by its name where that finds the same file, by its file otherwise."""
    name, file = address.module, address.file
    if name in sys.modules and name != "__main__":
        return sys.modules[name]
    spec = None
    if name != "__main__":
        with contextlib.suppress(ImportError, ValueError):
            spec = importlib.util.find_spec(name)
    if spec is not None and (file is None or spec.origin == file):
        with contextlib.suppress(StopImport):
            return importlib.import_module(name)
        raise ImportError(f"{name} checks a resolver while it is imported")
    if file is None:
        raise ImportError(f"there is no module {name}")
    if name == "__main__":
        name = "__mmrepl_main__"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with contextlib.suppress(StopImport):
        spec.loader.exec_module(module)
    return module


def _answer(resolver: Resolver, group: list[Any]) -> tuple[bool, bytes | None | str]:
    siblings = [
        Sibling(Dot(NodeId(name, incarnation), counter), timestamp, payload)
        for name, incarnation, counter, timestamp, payload in group
    ]
    try:
        return True, resolver.resolve(siblings).payload
    except MmreplError as error:
        return False, str(error)
