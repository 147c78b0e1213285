"""
Changes as an iterator that waits, for threads.

A page of changes is fetched at a time, so that a long log is not one long call; the token moves with each change that
was handed out, never with what is still in the page. So whoever stops, or is stopped, goes on from the token and misses
nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import CancelledError
from types import TracebackType
from typing import Self

from mmrepl.errors import ClosedError, WaitTimeout
from mmrepl.loop_thread import LoopThread, Pending
from mmrepl.runtime.node import Node
from mmrepl.runtime.outcomes import Change, Token


class ChangeFeed(Iterator[Change]):
    """
    See `BlockingNode.changes`. Iterated by one thread; `stop` may be called from any.

    A context manager as well, that stops when it is left.
    """

    def __init__(self, thread: LoopThread, node: Node, token: Token, timeout: float | None, grace: float) -> None:
        self._thread = thread
        self._node = node
        self._token = token
        self._timeout = timeout
        self._grace = grace  # more seconds, for the loop to answer
        self._page: deque[Change] = deque()
        self._pending: Pending[list[Change]] | None = None
        self._stopped = False

    @property
    def token(self) -> Token:
        """From where to go on: it covers what was handed out, and nothing that was not."""
        return self._token

    def __next__(self) -> Change:
        if not self._page and not self._stopped:
            self._page.extend(self._fetch())
        if self._stopped or not self._page:
            raise StopIteration
        try:
            change = self._page.popleft()
            token = change.token
        except BaseException:  # Ctrl-C: what was on the page is fetched again
            self._page.clear()
            raise
        self._token = token
        return change

    def _fetch(self) -> list[Change]:
        """At least one change; none when time is up or somebody has stopped us."""
        what = "changes"
        pending = self._pending = self._thread.submit(lambda: self._node.next_changes(self._token, self._timeout), what)
        if self._stopped:  # between the look and the submission
            pending.cancel()
        try:
            return pending.result(None if self._timeout is None else self._timeout + self._grace)
        except CancelledError:
            if self._stopped:
                return []
            raise ClosedError(f"node {self._node.name!r} was closed while somebody waited for {what}") from None
        except TimeoutError:
            if pending.done():
                return pending.result()
            raise WaitTimeout(f"node {self._node.name!r}: it did not answer within {self._grace:g} s") from None
        finally:
            pending.cancel()  # Ctrl-C

    def stop(self) -> None:
        """End the iteration, also one that waits just now. Idempotent."""
        self._stopped = True
        pending = self._pending
        if pending is not None:
            pending.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
