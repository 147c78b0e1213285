"""
The thread that brings an embedded replica's weak writes to its disk, some milliseconds after they were answered.

When no more of them come it has the mark taken back that they needed (`mmrepl.replication.mark`). A program that ends
without closing its replica closes it here, so that it loses nothing and is not doubted when it begins again.
"""

from __future__ import annotations

import atexit
import threading
from typing import TYPE_CHECKING

from mmrepl.ports import Durability
from mmrepl.replication.mark import CALM_MS

if TYPE_CHECKING:
    from mmrepl.runtime.replica import Replica

FLUSH_SECONDS = 0.004
"""How long a write of level ``batch`` or ``none`` waits for others before it is committed."""


class Flusher:
    """One beside each replica that makes weak writes; started with the first."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._wanted = threading.Event()
        self._stopped = threading.Event()
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="mmrepl-flusher", daemon=True)
        self._thread.start()
        atexit.register(replica.close)

    def wake(self) -> None:
        """There is something to commit. Raises what the last attempt met."""
        if self.failure is not None:
            raise self.failure
        if not self._wanted.is_set():
            self._wanted.set()

    def stop(self) -> None:
        """Return when the thread has ended; it commits once more if asked to."""
        atexit.unregister(self._replica.close)
        self._stopped.set()
        self._wanted.set()
        self._thread.join()

    def _run(self) -> None:
        replica = self._replica
        while not self._stopped.is_set():
            wanted = self._wanted.wait(CALM_MS / 1000 if replica._core.mark.is_on_disk else None)
            try:
                if wanted:
                    self._stopped.wait(FLUSH_SECONDS)
                    self._wanted.clear()
                    replica._commit(replica._store.log.end, Durability.NONE)
                else:
                    replica._calm_down()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next writer is told
                self.failure = error
                return
