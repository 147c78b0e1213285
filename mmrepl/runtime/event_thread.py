"""
Events, told in a thread that is there for nothing else.

A listener of a node runs on its event loop, where it must not wait. Here it may: events go into a bounded queue and
are told from a thread that does nothing else. The thread begins with the first listener.
"""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable

from mmrepl.errors import WaitTimeout
from mmrepl.runtime.outcomes import SiblingsEvent

EVENTS = 10_000
"""So many events wait for slow listeners; what comes beyond is dropped and counted."""

Listener = Callable[[SiblingsEvent], None]


class EventThread:
    """Whoever wants to hear of siblings. `tell` never blocks."""

    def __init__(self, name: str, events_max: int = EVENTS) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._listeners: list[Listener] = []
        self._events: queue.Queue[SiblingsEvent | None] = queue.Queue()  # bounded by `tell`; None ends
        self._events_max = events_max
        self._thread: threading.Thread | None = None
        self._closed = False
        self.dropped_count = 0  # events that nobody was told of, for want of room

    def add(self, listener: Listener) -> Callable[[], None]:
        """Tell *listener* of every event from now on; returns what ends that, and may be called more than once."""
        with self._lock:
            self._listeners = [*self._listeners, listener]
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
        return lambda: self._remove(listener)

    def _remove(self, listener: Listener) -> None:
        with self._lock:
            self._listeners = [other for other in self._listeners if other is not listener]

    def tell(self, event: SiblingsEvent) -> None:
        """Have *event* told, some time soon."""
        if not self._listeners:
            return
        if self._events.qsize() >= self._events_max:
            self.dropped_count += 1
        else:
            self._events.put(event)

    def close(self, timeout: float) -> None:
        """Tell what is waiting, and end. Idempotent; does not wait for itself when a listener calls it."""
        with self._lock:
            thread, ended = self._thread, self._closed
            self._closed = True
        if thread is None:
            return
        if not ended:
            self._events.put(None)
        if thread is threading.current_thread():
            return
        thread.join(timeout)
        if thread.is_alive():
            raise WaitTimeout(f"{self._name}: a listener did not return within {timeout:g} s")

    def _run(self) -> None:
        while (event := self._events.get()) is not None:
            for listener in self._listeners:
                try:
                    listener(event)
                except Exception:  # noqa: BLE001 - the application's; the others are told all the same
                    threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
