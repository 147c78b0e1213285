"""
Watching a function while it runs: which clocks, dice, locales and files does it touch?

A profile function sees each call that Python code makes into C, however the callee was imported, and who made it. What
is asked of it here is only what makes an answer differ from process to process; `logging`, `import` and the like
touch clocks and files of their own accord, and are let be.
"""

from __future__ import annotations

import datetime as dt
import gc
import os
import random
import sys
from collections.abc import Callable
from pathlib import PurePath
from types import FrameType
from typing import Any, Final, TypeVar

from attrs import frozen

Answer = TypeVar("Answer")


@frozen
class Touch:
    """One thing that a function touched, and where in its source."""

    kind: str  # clock, dice, locale, outside; or hint: what may, but need not, make answers differ
    name: str  # as one would write the call: time.time
    where: str  # file and line

    def __str__(self) -> str:
        return f"{self.name} ({self.where})"


_CLOCKS: Final = frozenset(
    [
        *("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time"),
        *("process_time_ns", "thread_time", "thread_time_ns", "clock_gettime", "clock_gettime_ns", "localtime"),
        *("ctime", "sleep"),
    ]
)
_OS: Final = {
    "urandom": "dice",
    "getrandom": "dice",
    **dict.fromkeys(
        ("getpid", "getppid", "uname", "getcwd", "listdir", "scandir", "stat", "open", "getenv", "getlogin"), "outside"
    ),
}
_LET_BE: Final = frozenset(
    ["logging", "warnings", "traceback", "linecache", "importlib", "_frozen_importlib", "_frozen_importlib_external"]
)
_ENVIRONMENT: Final = type(os.environ).__getitem__.__code__
_SHARED_DICE: Final = random._inst


def watched(function: Callable[..., Answer], *arguments: Any) -> tuple[Answer, list[Touch]]:
    """
    What *function* answers, and what it touched, in order, each thing once.

    What it raises is raised. Cost: some three times that of the plain call.
    """
    touches: dict[tuple[str, str], Touch] = {}

    def look(frame: FrameType, event: str, callee: Any) -> None:
        if event == "c_call":
            found = _meaning(callee)
        elif event == "call" and frame.f_code is _ENVIRONMENT:
            found = ("outside", "os.environ")
        else:
            return
        if found is not None:
            touch = _touch(frame, *found)
            if touch is not None:
                touches.setdefault((touch.kind, touch.name), touch)

    before, collecting = sys.getprofile(), gc.isenabled()
    gc.disable()  # a collection calls whoever asked to be told of it, with clocks of their own
    sys.setprofile(look)
    try:
        answer = function(*arguments)
    finally:
        sys.setprofile(before)
        if collecting:
            gc.enable()
    return answer, list(touches.values())


def _meaning(callee: Any) -> tuple[str, str] | None:
    """Kind and name of a call into C that is of interest."""
    name, module, owner = callee.__name__, callee.__module__, getattr(callee, "__self__", None)
    match module:
        case "time" if name in _CLOCKS:
            return "clock", f"time.{name}"
        case "posix" | "nt" if name in _OS:
            return _OS[name], f"os.{name}"
        case "_locale" if name != "_get_locale_encoding":
            return "locale", f"locale.{name}"
        case "_uuid":
            return "clock", f"uuid.{name}"
        case "_socket":
            return "outside", f"socket.{name}"
        case "io" | "_io" if name in {"open", "open_code"}:
            return "outside", "open"
        case "builtins" if name in {"hash", "id"}:
            return "hint", name
        case "builtins" if name in {"input", "open"}:
            return "outside", name
    if owner is _SHARED_DICE or isinstance(owner, random.SystemRandom):
        return "dice", f"random.{name}"
    if isinstance(owner, type) and issubclass(owner, dt.date) and name in {"now", "today", "utcnow"}:
        return "clock", f"{owner.__name__}.{name}"
    if name == "pop" and type(owner) is set:
        return "hint", "set.pop"
    return None


def _touch(frame: FrameType, kind: str, name: str) -> Touch | None:
    """The touch as its author would tell it: the library function they called, at their line. None: let be."""
    here: FrameType | None = frame
    while here is not None:
        module = str(here.f_globals.get("__name__", ""))
        root = module.partition(".")[0]
        if root in _LET_BE or here.f_code is watched.__code__:
            return None
        if root not in sys.stdlib_module_names or root == "__main__":
            return Touch(kind, name, f"{PurePath(here.f_code.co_filename).name}:{here.f_lineno}")
        public = here.f_code.co_name
        if not public.startswith(("_", "<")):
            name = f"{root}.{public}"
        here = here.f_back
    return None
