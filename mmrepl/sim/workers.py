"""
Work for all cores: tasks go out to processes of our own, one by one, and results come back as they are ready.

A pool that can be left at once. When whoever reads the results stops, by Ctrl-C too, the processes are ended in the
middle of what they do: a task is a function of its arguments, and can be done again. A process that dies by itself
costs its task, which is told as lost, and is replaced.

The processes are programs of their own, not forked, and import nothing of who starts them but what the job names.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

from attrs import define, field

from mmrepl.sim.job import Job, read, write

T = TypeVar("T")
R = TypeVar("R")

VERY_MANY = 500_000
"""Objects: a seed of usual size makes some twenty thousand that are not gone again at once."""


def spread(tasks: deque[T], job: Job[T, R], lost: Callable[[T], R], processes: int, *, ahead: int = 2) -> Generator[R]:
    """
    Do all *tasks*, at *processes* 1 here, else in so many processes; yields what came of each, in any order.

    Whoever reads may add tasks. *lost* makes a result of a task whose process died. A process is given *ahead* tasks
    at a time, so that it need not wait. When the iterator is closed, the processes are ended.
    """
    if processes <= 1:
        while tasks:
            yield job.do(tasks.popleft())
        return
    back: SimpleQueue[tuple[_Worker[T, R], bytes | None]] = SimpleQueue()
    workers = [_Worker(job, back) for _ in range(min(processes, max(1, len(tasks))))]
    try:
        while True:
            if tasks and not workers:
                workers.append(_Worker(job, back))
            for _ in range(ahead):
                for worker in workers:
                    if tasks and len(worker.under_way) < ahead:
                        worker.give(tasks.popleft())
            if not any(worker.under_way for worker in workers):
                return
            worker, body = back.get()
            if body is not None:
                worker.under_way.popleft()
                yield job.result_of(body)
                continue
            worker.end()
            workers.remove(worker)
            if worker.under_way:
                first = worker.under_way.popleft()
                tasks.extendleft(reversed(worker.under_way))
                workers.append(_Worker(job, back))
                yield lost(first)
    finally:
        for worker in workers:
            worker.end()


@define(eq=False)
class _Worker(Generic[T, R]):
    """A process, and what it was given. What it says goes to *back*, None when it has died."""

    _job: Job[T, R]
    _back: SimpleQueue[tuple[_Worker[T, R], bytes | None]]
    under_way: deque[T] = field(factory=deque)
    _process: subprocess.Popen[bytes] = field(init=False)
    _listener: Thread = field(init=False)

    def __attrs_post_init__(self) -> None:
        program = [sys.executable, *["-O"] * sys.flags.optimize, "-m", "mmrepl.sim.worker"]
        self._process = subprocess.Popen(  # noqa: S603 — ourselves, with words of our own
            [*program, self._job.maker, self._job.word],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)},
            start_new_session=True,  # Ctrl-C is for whoever started it
        )
        self._listener = Thread(target=self._listen, name="mmrepl-worker", daemon=True)
        self._listener.start()

    def give(self, task: T) -> None:
        """One more task; if the process has died, that is seen when its result is waited for."""
        self.under_way.append(task)
        assert self._process.stdin is not None
        with suppress(OSError):
            write(self._process.stdin, task)

    def end(self) -> None:
        """End the process at once. Idempotent."""
        self._process.kill()
        self._process.wait()
        self._listener.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(OSError):  # a task that nobody reads any more
                pipe.close()

    def _listen(self) -> None:
        """In a thread of its own: not all systems can wait for several pipes at once."""
        assert self._process.stdout is not None
        while (body := read(self._process.stdout)) is not None:
            self._back.put((self, body))
        self._back.put((self, None))


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
