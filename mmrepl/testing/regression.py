"""The source of a regression test, to be pasted: what a check found, without the searching."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from mmrepl.testing.address import Address, address_of
from mmrepl.testing.history import Step, literal

CLAIMS: Final = {
    "hangs": "answers",
    "raises": "does not raise",
    "not a value": "answers with a value",
    "mutates": "leaves alone what it is given",
    "clock": "asks no clock",
    "dice": "throws no dice",
    "locale": "asks for no locale",
    "outside": "asks nothing but its values",
    "two answers": "answers twice alike",
    "order of arrival": "does not depend on the order of arrival",
    "hash order": "does not depend on the order of a set",
    "memory": "remembers nothing",
    "other process": "answers alike in every process",
    "replicas differ": "answers alike at every replica",
    "invariant": "keeps the invariant",
    "grows": "does not grow",
    "never rests": "comes to rest",
    "not idempotent": "is idempotent",
    "not commutative": "is commutative",
    "not associative": "is associative",
}
"""What a test claims, of each kind of fault."""


def history_test(name: str, kind: str, address: Address | None, history: Sequence[Step], invariant: Any) -> str:
    """A test that plays *history* on the resolver at *address*."""
    used = sorted({type(step).__name__ for step in history} | {"check_history"})
    lines, expression = _expression(address, "resolver", name)
    options = ""
    if invariant is not None:
        more, named = _expression(address_of(invariant), "invariant", "the invariant")
        lines += more
        options = f", invariant={named}"
    body = [f"    check_history({expression}, [", *(f"        {step!r}," for step in history), f"    ]{options})"]
    return _test(name, kind, [f"from mmrepl.testing import {', '.join(used)}", *lines], body)


def merge_test(name: str, kind: str, function: Any, values: Sequence[Any]) -> str:
    """A test that checks *function* with *values* alone."""
    lines, expression = _expression(address_of(function), "merge", name)
    body = [f"    check_merge({expression}, values=[{', '.join(map(literal, values))}])"]
    return _test(name, kind, ["from mmrepl.testing import check_merge", *lines], body)


def _expression(address: Address | None, role: str, name: str) -> tuple[list[str], str]:
    if address is None:
        return [f"{role} = ...  # put {name} here: it has no name that could be imported"], role
    return address.source()


def _test(name: str, kind: str, head: Sequence[str], body: Sequence[str]) -> str:
    names: dict[str, set[str]] = {}
    for line in head:
        if line.startswith("from "):
            module, _, name = line.removeprefix("from ").partition(" import ")
            names.setdefault(module, set()).update(name.split(", "))
    imports = [f"from {module} import {', '.join(sorted(names[module]))}" for module in sorted(names)]
    rest = [line for line in head if not line.startswith("from ")]
    function = re.sub(r"\W+", "_", f"test_{name.removeprefix('the ')}_{CLAIMS[kind]}").lower()
    return "\n".join([*imports, *rest, "", "", f"def {function}():", *body])
