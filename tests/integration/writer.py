"""
A node in a process of its own that writes without end and says what was acknowledged. Run, and killed, by tests.

    python -m tests.integration.writer PATH PEER [LEVEL]

Prints a line of JSON for each acknowledged write, after one for the node itself.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys

import mmrepl
from tests.integration.nodes import QUICK


def say(**what):
    print(json.dumps(what), flush=True)


async def write(path, peer, level):
    task = asyncio.current_task()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with mmrepl.Node("paris", path, limits=QUICK, peers=[peer] if peer else [], durability=level) as node:
        say(node=str(node.core.local.store.node), doubt=node.doubt, address=node.address)

        async def writer(number):
            serial = node.count()
            while True:
                serial += 1
                key = f"{node.core.local.store.node}/{number}/{serial}"
                written = await node.put(key, serial)
                say(key=key, dot=str(written.dot), value=serial)

        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(writer(number))


if __name__ == "__main__":
    try:
        asyncio.run(write(sys.argv[1], sys.argv[2], *(sys.argv[3:] or ["sync"])))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(3)
