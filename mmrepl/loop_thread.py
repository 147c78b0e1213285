"""
An event loop in a thread of its own, and a door to it for everybody else.

The asynchronous hosts are written once. Programs without an event loop get them through this door: a call goes to the
loop, runs there, and its outcome comes back to the thread that asked. Three rules keep the door honest. No wait is
without a bound, and the error says what was waited for. A wait that is broken off (Ctrl-C, the bound) cancels what it
waited for, and leaves the loop and everybody else as they were. Whoever waits while the loop ends is told so: nobody
waits for a loop that is gone.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import suppress
from typing import Any, TypeVar

from mmrepl.errors import ClosedError, UsageError, WaitTimeout

T = TypeVar("T")


class LoopThread:
    """
    One loop, one thread, one life: `start`, calls from any thread, `stop`.

    *enter* runs on the loop first, and `start` returns when it has; *leave* runs last, when `stop` is called. *name*
    stands in errors. The thread is a daemon: a program that forgets to stop it can end, without *leave*.
    """

    def __init__(
        self, name: str, enter: Callable[[], Awaitable[object]], leave: Callable[[], Awaitable[object]]
    ) -> None:
        self._name = name
        self._enter, self._leave = enter, leave
        self._lock = threading.Lock()
        self._open = False  # calls are taken; under _lock
        self._stop_asked = False  # under _lock
        self._waiting: set[Future[Any]] = set()  # of calls whose outcome is not there yet; under _lock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._entered: Future[None] = Future()
        self._entered.set_running_or_notify_cancel()  # who waits for it may give up; it does not
        self._failure: BaseException | None = None  # what *leave* raised; told once
        self._ended = threading.Event()  # the last thing that the thread does
        self._thread = threading.Thread(target=self._run, name=f"mmrepl-{name}", daemon=True)

    # -- life

    def start(self, timeout: float) -> None:
        """Return when *enter* is done. Raises what it raised; then nothing is left running. Once only."""
        with self._lock:
            if self._loop is not None:
                raise UsageError(f"{self._name} was started already")
            self._loop = asyncio.new_event_loop()
        try:
            self._thread.start()
            self._outcome(self._entered, "its start", timeout)
        except BaseException:
            with suppress(WaitTimeout):  # it goes on ending
                self.stop(timeout)
            raise

    def stop(self, timeout: float) -> None:
        """
        Run *leave*, end the loop, and return when the thread has ended. Idempotent, from any thread but its own.

        Raises what *leave* raised, once. Raises WaitTimeout when it takes longer; it goes on ending, and a further
        call waits for it again.
        """
        self._check_thread("stopping it")
        with self._lock:
            self._open, self._stop_asked = False, True
            loop = self._loop
        if loop is None:
            return
        if self._thread.ident is None:  # interrupted before the thread was there
            loop.close()
            return
        with suppress(RuntimeError):  # it has ended already
            loop.call_soon_threadsafe(self._stopping.set)
        # Do not wait in `join`: a KeyboardInterrupt in the midst of it can leave the thread's own lock released twice
        # over (CPython 3.11), and every later look at the thread raises RuntimeError.
        if not self._ended.wait(timeout):
            raise WaitTimeout(f"{self._name}: its end did not come within {timeout:g} s")
        self._thread.join()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    @property
    def is_open(self) -> bool:
        """Whether calls are taken."""
        return self._open

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=self._its_loop) as runner:
                runner.run(self._live())
        finally:
            with self._lock:
                self._open = False
                left = list(self._waiting)
            for future in left:
                future.cancel()
            self._ended.set()

    def _its_loop(self) -> asyncio.AbstractEventLoop:
        assert self._loop is not None
        return self._loop

    async def _live(self) -> None:
        try:
            await self._enter()
        except BaseException as error:  # noqa: BLE001 - it is raised by `start`
            self._entered.set_exception(error)
            return
        with self._lock:
            self._open = not self._stop_asked
        self._entered.set_result(None)
        await self._stopping.wait()
        try:
            await self._leave()
        except Exception as error:  # noqa: BLE001 - it is raised by `stop`
            self._failure = error

    # -- calls

    def call(self, do: Callable[[], T], what: str, timeout: float) -> T:
        """Run *do* on the loop; returns or raises what it did. It must not block."""
        future: Future[T] = Future()

        def act() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(do())
                except BaseException as error:  # noqa: BLE001 - it is the caller's
                    future.set_exception(error)

        self._hand_over(future, act, what)
        return self._outcome(future, what, timeout)

    def run(self, make: Callable[[], Coroutine[Any, Any, T]], what: str, timeout: float) -> T:
        """
        Run the coroutine that *make* makes on the loop; returns or raises what it did.

        Raises:
            WaitTimeout: it was not done after *timeout* seconds, and was cancelled; what it had done stays done.
            ClosedError: the loop ended meanwhile, or had before.
        """
        return self._outcome(self.submit(make, what), what, timeout)

    def submit(self, make: Callable[[], Coroutine[Any, Any, T]], what: str) -> Future[T]:
        """As `run`, without waiting. Cancelling the future cancels the coroutine."""
        future: Future[T] = Future()
        loop = self._loop

        def act() -> None:
            if future.cancelled():
                return
            assert loop is not None
            task = loop.create_task(make())
            task.add_done_callback(lambda task: _deliver(task, future))
            future.add_done_callback(lambda _: None if task.done() else _cancel(loop, task))

        self._hand_over(future, act, what)
        return future

    def post(self, do: Callable[[], object]) -> None:
        """Run *do* on the loop some time soon, unless it has ended. Nobody waits."""
        if self._loop is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(do)

    def _hand_over(self, future: Future[Any], act: Callable[[], None], what: str) -> None:
        self._check_thread(what)
        with self._lock:
            if not self._open or self._loop is None:
                raise ClosedError(f"{self._name} is not running")
            self._waiting.add(future)
            self._loop.call_soon_threadsafe(act)
        future.add_done_callback(self._done)

    def _done(self, future: Future[Any]) -> None:
        with self._lock:
            self._waiting.discard(future)

    def _outcome(self, future: Future[T], what: str, timeout: float) -> T:
        try:
            return future.result(timeout)
        except CancelledError:
            raise ClosedError(f"{self._name} was closed while somebody waited for {what}") from None
        except TimeoutError:
            if future.done():  # the call's own error, or it came at the last moment
                return future.result()
            future.cancel()
            raise WaitTimeout(f"{self._name}: {what} did not come about within {timeout:g} s") from None
        except BaseException:
            future.cancel()
            raise

    def _check_thread(self, what: str) -> None:
        if threading.current_thread() is self._thread:
            raise UsageError(f"{self._name}: {what} cannot be waited for on its own event loop; use another thread")


def _deliver(task: asyncio.Task[T], future: Future[T]) -> None:
    if task.cancelled():
        future.cancel()
        return
    error = task.exception()  # retrieved in any case, or asyncio would report it
    with suppress(InvalidStateError):  # cancelled meanwhile
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(task.result())


def _cancel(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
    with suppress(RuntimeError):  # the loop has ended, and the task with it
        loop.call_soon_threadsafe(task.cancel)
