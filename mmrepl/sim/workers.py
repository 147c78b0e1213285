"""
Work for all cores: tasks go out to processes of our own, one by one, and results come back as they are ready.

A pool that can be left at once. When whoever reads the results stops, by Ctrl-C too, the processes are ended in the
middle of what they do: a task is a function of its arguments, and can be done again. A process that dies by itself
costs its task, which is told as lost, and is replaced.
"""

from __future__ import annotations

import gc
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Generic, TypeVar

from attrs import define, field

T = TypeVar("T")
R = TypeVar("R")

VERY_MANY = 500_000
"""Objects: a seed of usual size makes some twenty thousand that are not gone again at once."""


def spread(
    tasks: deque[T], work: Callable[[T], R], lost: Callable[[T], R], processes: int, *, ahead: int = 2
) -> Generator[R]:
    """
    Do all *tasks*, at *processes* 1 here, else in so many processes; yields what came of each, in any order.

    Whoever reads may add tasks. *work* must be a function of a module. *lost* makes a result of a task whose process
    died. A process is given *ahead* tasks at a time, so that it need not wait. When the iterator is
    closed, the processes are ended.
    """
    if processes <= 1:
        while tasks:
            yield work(tasks.popleft())
        return
    workers = [_Worker(work) for _ in range(min(processes, max(1, len(tasks))))]
    try:
        while True:
            for _ in range(ahead):
                for worker in workers:
                    if tasks and len(worker.under_way) < ahead:
                        worker.give(tasks.popleft())
            busy = {worker.pipe: worker for worker in workers if worker.under_way}
            if not busy:
                return
            for pipe in wait(list(busy)):
                worker = busy[pipe]  # type: ignore[index]
                try:
                    result: R = worker.pipe.recv()
                except (EOFError, OSError):
                    first = worker.under_way.popleft()
                    tasks.extendleft(reversed(worker.under_way))
                    worker.end()
                    workers[workers.index(worker)] = _Worker(work)
                    yield lost(first)
                else:
                    worker.under_way.popleft()
                    yield result
    finally:
        for worker in workers:
            worker.end()


@define(eq=False)
class _Worker(Generic[T, R]):
    """A process, and what it was given."""

    _work: Callable[[T], R]
    under_way: deque[T] = field(factory=deque)
    pipe: Connection = field(init=False)
    _process: SpawnProcess = field(init=False)

    def __attrs_post_init__(self) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._work), daemon=True)
        with _sheltered():
            self._process.start()
        theirs.close()

    def give(self, task: T) -> None:
        """One more task; if the process has died, that is seen when its result is asked for."""
        self.under_way.append(task)
        try:
            self.pipe.send(task)
        except OSError:
            return

    def end(self) -> None:
        """End the process at once. Idempotent."""
        self._process.kill()
        self._process.join()
        self.pipe.close()


@contextmanager
def _sheltered() -> Iterator[None]:
    """What is started meanwhile is born deaf to Ctrl-C, also before it can say so itself."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def tidied_up_afterwards() -> Iterator[None]:
    """
    Look for cyclic garbage once, when this is over, among what came into being meanwhile.

    For a seed: its world is one great cycle, and garbage as a whole when it has been judged. Found in the middle of the
    next ones, parts of it are looked at twice: a tenth slower, and twice the memory. A world that is very large
    is looked through all the same.
    """
    before = gc.get_threshold()
    gc.set_threshold(VERY_MANY, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.collect(0)


def _serve(pipe: Connection, work: Callable[[T], R]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started us
    try:
        while True:
            pipe.send(work(pipe.recv()))
    except (EOFError, OSError):
        return
