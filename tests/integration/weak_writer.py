"""
A replica that makes weak writes in a process of its own and kills itself. Run by test_weak_writes.py.

    python -m tests.integration.weak_writer PATH LEVEL END

END is "killed" while a write was answered and has not reached the disk, "calm" the same when it has become calm, or
"unclosed": the program just ends. Prints the last write as JSON.
"""

import json
import os
import signal
import sys

import mmrepl
from mmrepl.resolvers import KeepSiblings
from mmrepl.runtime import flusher as module


def main(path: str, level: str, end: str) -> None:
    module.FLUSH_SECONDS = 3600  # the disk is slow
    replica = mmrepl.Replica("paris", path, default=KeepSiblings(), durability=level)
    replica["first"] = 1
    written = replica.put("k", "lost")
    if end == "calm":
        replica._calm_down()
    context = written.context.to_bytes().hex()
    print(json.dumps({"node": replica.node, "dot": str(written.dot), "context": context}), flush=True)
    if end != "unclosed":
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(*sys.argv[1:])
