"""
Check a merge function from the shell: `mmrepl check shop:merge_carts --values texts`.

The work is that of `mmrepl.testing`; here is only what turns words into a function and into values. The toolkit is
loaded when the command runs, so that the others do not wait for it.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from mmrepl.cli import output
from mmrepl.cli.exits import Exit
from mmrepl.cli.options import ANSWER, Answer, Flag
from mmrepl.cli.values import typed
from mmrepl.errors import UsageError

KINDS: dict[str, Any] = {
    "json": None,  # the toolkit's own
    "texts": list[str],
    "counts": dict[str, int],
    "text": str,
    "int": int,
    "float": float,
    "bytes": bytes,
    "bool": bool,
}
"""Values by a word."""


def check(
    what: Annotated[str, Parameter(help="`MODULE:FUNCTION`, or the name of a resolver in the module.")],
    /,
    *,
    values: Annotated[
        str | None,
        Parameter(
            help="What is written: `json`, `texts`, `counts`, `text`, `int`, `float`, `bytes`, `bool`, or a list of"
            " examples in JSON. Default: as the function is annotated, or `json`."
        ),
    ] = None,
    merge: Annotated[
        Flag, Parameter(help="The function takes two values: check that it is idempotent, commutative, associative.")
    ] = False,
    examples: Annotated[int, Parameter(help="So many histories in each round.")] = 100,
    seconds: Annotated[float, Parameter(help="How long one answer may take.")] = 5.0,
    seed: Annotated[int, Parameter(help="The same seed, the same histories.")] = 0,
    answer: Answer = ANSWER,
) -> Exit:
    """
    Try to refute a merge function or a resolver, on real replicas; show the smallest history that does.

    Ends with 1 when it is refuted. Needs the extra `testing`.
    """
    if examples < 1:
        raise UsageError(f"--examples must be at least 1, not {examples}")
    if seconds <= 0:
        raise UsageError(f"--seconds must be more than 0, not {seconds}")
    subject, drawn = _found(what), _values(values)
    try:
        from mmrepl.testing import Refuted, check_merge, check_resolver
    except ModuleNotFoundError as error:
        raise UsageError(str(error)) from None
    try:
        if merge:
            told = check_merge(subject, drawn, max_examples=examples, seconds=seconds, seed=seed)
        else:
            told = check_resolver(subject, drawn, max_examples=examples, seconds=seconds, seed=seed)
    except Refuted as refuted:
        _tell_refuted(what, refuted, answer)
        return Exit.NO
    if answer.json:
        shape = {"checked": what, "refuted": False, "histories": told.plays, "questions": told.questions}
        output.document(shape | {"notes": list(told.notes)})
    else:
        output.say(str(told))
    return Exit.OK


def _tell_refuted(what: str, refuted: Any, answer: Answer) -> None:
    if not answer.json:
        output.say(str(refuted))
        return
    output.document(
        {
            "checked": what,
            "refuted": True,
            "kind": refuted.kind,
            "sentence": refuted.sentence,
            "diagram": refuted.diagram,
            "answers": [[who, None if payload is None else payload.hex()] for who, payload in refuted.answers],
            "mend": refuted.mend,
            "regression": refuted.regression,
        }
    )


def _values(text: str | None) -> Any:
    """What is to be written, of what somebody typed. Raises UsageError."""
    if text is None:
        return None
    if text == "json":
        try:
            from mmrepl.testing.strategies import json_values
        except ModuleNotFoundError as error:
            raise UsageError(f'values need {error.name}: pip install "mmrepl[testing]"') from None
        return json_values()  # by its own name, so that the function's annotation does not count
    if text in KINDS:
        return KINDS[text]
    if text.lstrip().startswith("["):
        return typed(text, "json")
    raise UsageError(f"--values takes {', '.join(KINDS)}, or a list of examples in JSON, not {text!r}")


def _found(what: str) -> Any:
    """The function or resolver at ``MODULE:NAME``. Raises UsageError."""
    module_name, colon, name = what.partition(":")
    if not (module_name and colon and name):
        raise UsageError(f"what to check is MODULE:FUNCTION, as in shop:merge_carts, not {what!r}")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:  # `python -m mmrepl` has it already, the installed command has not
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        raise UsageError(f"{module_name} cannot be imported: {type(error).__name__}: {error}") from error
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise UsageError(f"there is no {name!r} in module {module_name!r}") from None
    return found
