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
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, Generic, TypeVar

from mmrepl.errors import ClosedError, UsageError, WaitTimeout

T = TypeVar("T")


class Pending(Generic[T]):
    """
    What will come of a call on the loop: as a `concurrent.futures.Future`, but sound under Ctrl-C.

    A KeyboardInterrupt that strikes in ``threading.Condition.__enter__``, which is Python, leaves the lock locked, and
    the loop would wait for it for ever. Here are only locks themselves: ``with`` takes and leaves them in one step.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latch = threading.Lock()  # locked until it is settled
        self._latch.acquire()
        self._settled = False
        self._cancelled = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[Pending[T]], object]] = []

    def done(self) -> bool:
        """Whether there is an outcome, be it that it was cancelled."""
        return self._settled

    def cancelled(self) -> bool:
        """Whether it was cancelled before there was another outcome."""
        return self._cancelled

    def cancel(self) -> bool:
        """Whether there was no outcome yet; now this is it."""
        return self._settle(cancelled=True)

    def set_result(self, value: T) -> bool:
        """Whether this is the outcome now."""
        return self._settle(value)

    def set_exception(self, error: BaseException) -> bool:
        """Whether this is the outcome now."""
        return self._settle(None, error)

    def result(self, timeout: float | None = None) -> T:
        """The outcome, as soon as it is there. Raises what it is, CancelledError, or TimeoutError."""
        if not self._settled:
            if not self._latch.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
                raise TimeoutError
            self._latch.release()  # for others who wait
        if self._cancelled:
            raise CancelledError
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[no-any-return]

    def add_done_callback(self, callback: Callable[[Pending[T]], object]) -> None:
        """Call *callback* when there is an outcome, in the thread that brings it; at once, if there is one."""
        with self._lock:
            settled = self._settled
            if not settled:
                self._callbacks.append(callback)
        if settled:
            callback(self)

    def _settle(self, value: Any = None, error: BaseException | None = None, *, cancelled: bool = False) -> bool:
        with self._lock:
            if self._settled:
                return False
            self._value, self._error, self._cancelled = value, error, cancelled
            callbacks, self._callbacks = self._callbacks, []
            self._settled = True
        self._latch.release()
        for callback in callbacks:
            callback(self)
        return True


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
        self._waiting: set[Pending[Any]] = set()  # of calls whose outcome is not there yet; under _lock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._entered: Pending[None] = Pending()
        self._failure: BaseException | None = None  # what *leave* raised; told once
        self._ended: Pending[None] = Pending()  # the last thing that the thread does
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
            self._started(timeout)
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
        try:
            self._ended.result(timeout)
        except TimeoutError:
            raise WaitTimeout(f"{self._name}: its end did not come within {timeout:g} s") from None
        self._thread.join()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _started(self, timeout: float) -> None:
        try:
            self._entered.result(timeout)
        except TimeoutError:
            if self._entered.done():
                raise  # what *enter* raised
            raise WaitTimeout(f"{self._name}: its start did not come about within {timeout:g} s") from None

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
            self._ended.set_result(None)

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
        future: Pending[T] = Pending()

        def act() -> None:
            if not future.cancelled():
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

    def submit(self, make: Callable[[], Coroutine[Any, Any, T]], what: str) -> Pending[T]:
        """As `run`, without waiting. Cancelling the future cancels the coroutine."""
        future: Pending[T] = Pending()
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

    def _hand_over(self, future: Pending[Any], act: Callable[[], None], what: str) -> None:
        self._check_thread(what)
        with self._lock:
            if not self._open or self._loop is None:
                raise ClosedError(f"{self._name} is not running")
            self._waiting.add(future)
            self._loop.call_soon_threadsafe(act)
        future.add_done_callback(self._done)

    def _done(self, future: Pending[Any]) -> None:
        with self._lock:
            self._waiting.discard(future)

    def _outcome(self, future: Pending[T], what: str, timeout: float) -> T:
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


def _deliver(task: asyncio.Task[T], future: Pending[T]) -> None:
    if task.cancelled():
        future.cancel()
        return
    error = task.exception()  # retrieved in any case, or asyncio would report it
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(task.result())


def _cancel(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
    with suppress(RuntimeError):  # the loop has ended, and the task with it
        loop.call_soon_threadsafe(task.cancel)
