"""
A limit on how long somebody else's function may take.

One thread watches the clock for the whole of a check. When a call has taken too long, it interrupts the thread that
makes it: the main thread by a signal, which also ends a sleep or a runaway regular expression; any other thread by an
exception that Python raises there at its next instruction.
"""

from __future__ import annotations

import ctypes
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

Answer = TypeVar("Answer")


class OverTime(BaseException):
    """The call took too long. No `Exception`, so that the function does not catch it."""


class TimeLimit:
    """
    A context manager; inside, `run` makes calls of at most *seconds* each. To be used by the thread that enters it.

    HAZARD: code that never returns to the interpreter (a loop in C) is not interrupted.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._deadline: float | None = None  # of the call under way; None between calls
        self._guard = threading.Lock()
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="mmrepl-time-limit", daemon=True)
        self._thread_id = 0
        self._by_signal = False
        self._sent = False  # whether this call was interrupted
        self._handler_before: Any = None

    def __enter__(self) -> Self:
        self._thread_id = threading.get_ident()
        self._by_signal = hasattr(signal, "pthread_kill") and threading.current_thread() is threading.main_thread()
        if self._by_signal:
            self._handler_before = signal.signal(signal.SIGVTALRM, self._on_signal)
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._watcher.join()
        if self._by_signal:
            signal.signal(signal.SIGVTALRM, self._handler_before or signal.SIG_DFL)

    def run(self, function: Callable[..., Answer], *arguments: Any) -> Answer:
        """What *function* answers. Raises OverTime when it does not in time, and whatever the function raises."""
        self._sent = False
        self._deadline = time.monotonic() + self.seconds
        try:
            answer = function(*arguments)
        except OverTime:
            self._deadline = None
            raise
        except BaseException:
            self._disarm()
            raise
        self._disarm()
        return answer

    def _disarm(self) -> None:
        """Nothing is sent from here on. Raises OverTime if something was, and has not arrived."""
        with self._guard:
            self._deadline = None
        while self._sent and not self._by_signal:
            # Taking it back with a null exception leaves CPython 3.11 in its slow path for good, and lets it spin
            # without end under a profile function. It arrives within an instruction or two.
            time.sleep(0)

    def _is_over(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._is_over():
            raise OverTime

    def _watch(self) -> None:
        while not self._ended.wait(self.seconds / 4):
            with self._guard:
                if not self._is_over():
                    continue
                if self._by_signal:  # again and again: what arrives after the call is ignored
                    signal.pthread_kill(self._thread_id, signal.SIGVTALRM)
                elif not self._sent:
                    self._sent = True
                    exception = ctypes.py_object(OverTime)
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread_id), exception)
