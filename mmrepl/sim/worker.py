"""
One process of `mmrepl.sim.workers`: ``python -m mmrepl.sim.worker MODULE:FUNCTION WORD``.

Tasks come on standard input, one by one, and results leave on standard output. It ends when there are no more, also by
the death of who started it.
"""

from __future__ import annotations

import sys

from mmrepl.sim.job import Job, read, write


def serve(maker: str, word: str) -> None:
    """Do what comes, until nothing comes."""
    tasks, results = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # what is printed by the way is no result
    job = Job.found(maker, word)
    while (body := read(tasks)) is not None:
        try:
            write(results, job.do(job.task_of(body)))
        except BrokenPipeError:
            return


if __name__ == "__main__":
    serve(*sys.argv[1:])
