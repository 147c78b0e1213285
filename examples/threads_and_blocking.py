"""
A web application of threads on two nodes: no asyncio anywhere in it.

Two web servers, as two machines would have them, each with a node of its own: `mmrepl.BlockingNode`, which the
handlers of all requests share. The same works in Flask, Django, or any program of threads: make one node when the
program starts, close it when it ends, and use it from wherever you are.

    GET  /KEY      the values (all siblings), and in X-Context what was read
    PUT  /KEY      a value; with the X-Context of a read it replaces what was read, and nothing else
                   with X-Acks it returns when so many members have it
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import mmrepl
from mmrepl.resolvers import KeepSiblings


class Handler(BaseHTTPRequestHandler):
    """Each request runs in a thread of its own; they all use the node of their server."""

    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        read = self.server.node.read(unquote(self.path[1:]))
        self._answer(200 if read.present else 404, read.value, read.context)

    def do_PUT(self) -> None:
        node, key = self.server.node, unquote(self.path[1:])
        token, acks = self.headers.get("X-Context"), self.headers.get("X-Acks")
        try:
            context = mmrepl.CausalContext.from_bytes(bytes.fromhex(token)) if token else None
            value = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            written = node.put(key, value, context=context, acks=int(acks) if acks else None, timeout=0.5)
        except (mmrepl.MmreplError, ValueError) as error:
            definite = getattr(error, "definite", True)
            self._answer(400 if definite else 504, {"error": str(error), "certainly not written": definite}, None)
            return
        self._answer(200, {"written": str(written.dot)}, written.context)

    def _answer(self, status: int, body: Any, context: mmrepl.CausalContext | None) -> None:
        payload = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        if context is not None:
            self.send_header("X-Context", context.to_bytes().hex())
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """A web server with a node."""

    daemon_threads = False  # closing waits for the requests that are under way

    def __init__(self, node: mmrepl.BlockingNode) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.node = node


@contextmanager
def serving(node: mmrepl.BlockingNode) -> Iterator[int]:
    """A server in a thread; gives its port."""
    with Server(node) as server:
        thread = threading.Thread(target=server.serve_forever, name=f"web-{node.name}", kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def request(port: int, verb: str, key: str, value: Any = None, **headers: str) -> tuple[Any, str]:
    """One request: what came back, and the context."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        names = {name.replace("_", "-"): text for name, text in headers.items()}
        connection.request(
            verb, f"/{key}", None if verb == "GET" else json.dumps(value), names | {"Connection": "close"}
        )
        answer = connection.getresponse()
        return json.loads(answer.read()), answer.headers.get("X-Context", "")
    finally:
        connection.close()


def main() -> None:
    with ExitStack() as stack:
        paris = stack.enter_context(mmrepl.BlockingNode("paris", default=KeepSiblings()))
        tokyo = stack.enter_context(mmrepl.BlockingNode("tokyo", default=KeepSiblings(), peers=[paris.address]))
        tokyo.wait_connected("paris")
        paris_web, tokyo_web = stack.enter_context(serving(paris)), stack.enter_context(serving(tokyo))
        workers = stack.enter_context(ThreadPoolExecutor(8))

        print("Forty requests from eight threads, to both servers, each write confirmed by both nodes:")
        ports = [paris_web, tokyo_web] * 20
        answers = list(
            workers.map(lambda n: request(ports[n], "PUT", f"visit-{n}", {"number": n}, X_Acks="2")[0], range(40))
        )
        assert len({answer["written"] for answer in answers}) == 40, answers
        print(f"  paris has {len(paris)} keys, tokyo {len(tokyo)}")
        assert len(paris) == len(tokyo) == 40

        print("Two people open the same page, one at each server, and both send it in:")
        _, seen_in_paris = request(paris_web, "GET", "page")
        _, seen_in_tokyo = request(tokyo_web, "GET", "page")
        request(paris_web, "PUT", "page", "written in Paris", X_Context=seen_in_paris, X_Acks="2")
        request(tokyo_web, "PUT", "page", "written in Tokyo", X_Context=seen_in_tokyo, X_Acks="2")
        values, context = request(paris_web, "GET", "page")
        print(f"  both are there: {values}")
        assert sorted(values) == ["written in Paris", "written in Tokyo"]

        print("A third person reads both, and makes one of them:")
        request(paris_web, "PUT", "page", "written together", X_Context=context, X_Acks="2")
        print(f"  tokyo shows {request(tokyo_web, 'GET', 'page')[0]}")
        assert tokyo["page"] == ["written together"]

        print("The context of another key is refused, and three members there are not:")
        print(f"  {request(paris_web, 'PUT', 'other', 1, X_Context=context)[0]}")
        print(f"  {request(paris_web, 'PUT', 'other', 1, X_Acks='3')[0]}")

        with paris.changes(timeout=0) as feed:
            count = sum(1 for _ in feed)
        print(f"The change feed of paris has told {count} writes, and goes on from {feed.token}")


if __name__ == "__main__":
    main()
