"""
Where a function or a resolver can be found again: by an import in a test, or in another process.

A function is found by module and name; a resolver by the name of a variable that holds it, by its class when that
takes no arguments, or by its class and its fields. What is found in this process must *be* (or equal) what was looked
for, or it is no address. Lambdas, closures and partials have none.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from typing import Any, TypeAlias

import attrs
from attrs import field, frozen

from mmrepl.errors import InvalidValue
from mmrepl.resolvers import Callback, KeepSiblings, LastWriterWins, Resolver
from mmrepl.testing.history import literal
from mmrepl.values import encode

Plain: TypeAlias = dict[str, Any]
"""What can be sent to another process: values only."""


@frozen
class Address:
    """A name in a module, and how to get from there to the thing itself."""

    module: str
    path: str  # of attributes, from the module
    file: str | None = None  # of the module
    call: str = "nothing"  # nothing: it is the thing; class: call it; callback: hand it to Callback
    options: Plain = field(factory=dict)  # keyword arguments of that call; values only

    def source(self) -> tuple[list[str], str]:
        """Import lines, and the expression that gives the thing."""
        module = "__main__" if self.module == "__main__" and self.file is None else self.importable
        first = self.path.partition(".")[0]
        lines = [f"from {module} import {first}"]
        options = ", ".join(f"{name}={literal(value)}" for name, value in self.options.items())
        if self.call == "callback":
            options = f", {options}" if options else ""
            return ["from mmrepl.resolvers import Callback", *lines], f"Callback({self.path}{options})"
        return lines, f"{self.path}({options})" if self.call == "class" else self.path

    @property
    def importable(self) -> str:
        """The module's name for whoever imports it: that of a program is its file's."""
        if self.module == "__main__" and self.file is not None:
            return self.file.replace("\\", "/").rpartition("/")[2].removesuffix(".py")
        return self.module

    def plain(self) -> Plain:
        """As values."""
        return attrs.asdict(self)


def address_of(thing: Any) -> Address | None:
    """Where *thing*, a function or a resolver, is found; None when it cannot be."""
    if isinstance(thing, Callback):
        found = address_of(thing.function)
        if found is None or found.call != "nothing":
            return _variable(thing)
        return attrs.evolve(found, call="callback", options=_callback_options(thing))
    if isinstance(thing, Resolver):
        return _variable(thing) or _class(thing)
    module, path = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if isinstance(module, str) and isinstance(path, str) and "<" not in path:
        address = Address(module, path, _file(module))
        if _walk(address) is thing:
            return address
    return None


def build(address: Address, module: Any) -> Any:
    """The thing at *address*, whose module is *module*."""
    thing = module
    for name in address.path.split("."):
        thing = getattr(thing, name)
    if address.call == "nothing":
        return thing
    return Callback(thing, **address.options) if address.call == "callback" else thing(**address.options)


def _walk(address: Address) -> Any:
    try:
        return build(address, sys.modules[address.module])
    except (AttributeError, KeyError):
        return None


def _file(module: str) -> str | None:
    return getattr(sys.modules.get(module), "__file__", None)


def _callback_options(callback: Callback) -> Plain:
    defaults = {"name": f"{callback.function.__module__}:{callback.function.__qualname__}", "with_siblings": False}
    given = {"name": callback.name, "with_siblings": callback.with_siblings}
    return {name: value for name, value in given.items() if value != defaults[name]}


def _variable(thing: Resolver) -> Address | None:
    """A module-level variable of the module of its class, or of its function, that holds *thing*."""
    owner = thing.function if isinstance(thing, Callback) else type(thing)
    module = getattr(owner, "__module__", "")
    for name, value in list(vars(sys.modules.get(module, object)).items()) if module in sys.modules else ():
        if value is thing:
            return Address(module, name, _file(module))
    return None


def _class(thing: Resolver) -> Address | None:
    """Its class, when calling that gives an equal resolver."""
    kind = type(thing)
    if "<" in kind.__qualname__:
        return None
    module = kind.__module__
    if kind in {LastWriterWins, KeepSiblings}:
        module = "mmrepl.resolvers"
    options: Plain = {}
    if attrs.has(kind):
        options = {part.alias: getattr(thing, part.name) for part in attrs.fields(kind) if part.init and part.alias}
        with contextlib.suppress(AttributeError):
            options = {
                part.alias: options[part.alias]
                for part in attrs.fields(kind)
                if part.alias in options and options[part.alias] != part.default
            }
    elif inspect.signature(kind).parameters and vars(thing) if hasattr(thing, "__dict__") else False:
        return None
    try:
        encode(options)
        address = Address(module, kind.__qualname__, _file(module), "class", options)
        again = build(address, sys.modules[module])
    except (InvalidValue, TypeError, ValueError, KeyError, AttributeError):
        return None
    same = again == thing or (not options and getattr(again, "__dict__", {}) == getattr(thing, "__dict__", {}))
    return address if same and again.policy == thing.policy else None
