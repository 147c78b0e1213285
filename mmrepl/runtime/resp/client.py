"""
A small blocking client of the client port, for the command line and for scripts that want no other library.

One connection, one command at a time, version 3 of the protocol. An error answer is raised as the error that the node
met, of the family in `mmrepl.errors`, with ``definite`` as the node said it.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from types import TracebackType
from typing import Self

from mmrepl import errors
from mmrepl.transport.address import parse_address
from mmrepl.wire.resp import Failure, Reply, ReplyReader, Simple, array, bulk
from mmrepl.wire.resp_errors import error_of


class Client:
    """
    A connection to a node's client port.

    *address* is host:port, *timeout_s* bounds connecting and each answer. After an error of the connection itself the
    client is closed.

    Raises:
        Unavailable: nobody listens there.
        UsageError: the address is none, or the password is wrong.
    """

    def __init__(self, address: str, *, password: str | None = None, timeout_s: float = 10.0) -> None:
        self._address = address
        self._timeout_s = timeout_s
        self._reader = ReplyReader()
        self._answers: deque[Reply] = deque()
        place = parse_address(address)
        try:
            self._socket = socket.create_connection(place, timeout_s)
        except OSError as error:
            raise _definite(errors.Unavailable(f"no node answers at {address}: {error}"), definite=True) from error
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.call("HELLO", "3", *(() if password is None else ("AUTH", "default", password)))
        except BaseException:
            self.close()
            raise

    def call(self, *words: str | bytes | int, wait_s: float = 0.0) -> Reply:
        """
        Send one command and return its answer: bytes, int, str, None, lists and dicts of them.

        *wait_s* is how long the command itself may wait (WAIT, BLOCK), beyond the client's timeout.

        Raises:
            MmreplError: the node's error answer, as the error that it met.
            WaitTimeout: no answer in time; a write may have happened.
            Unavailable: the connection was lost; a write may have happened.
        """
        request = array(bulk(word if isinstance(word, bytes) else str(word).encode()) for word in words)
        deadline = time.monotonic() + self._timeout_s + wait_s
        try:
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            self._socket.sendall(request)
            while not self._answers:
                self._socket.settimeout(max(0.001, deadline - time.monotonic()))
                data = self._socket.recv(1 << 16)
                if not data:
                    raise ConnectionError("closed by the node")
                self._answers.extend(self._reader.feed(data))
        except TimeoutError:
            self.close()
            waited = self._timeout_s + wait_s
            raise errors.WaitTimeout(f"no answer from {self._address} to {words[0]!r} in {waited:g} s") from None
        except OSError as error:
            self.close()
            raise errors.Unavailable(f"the connection to {self._address} was lost: {error}") from error
        except errors.FrameError:
            self.close()
            raise
        answer = self._answers.popleft()
        if isinstance(answer, Failure):
            raise error_of(answer)
        return answer.text if isinstance(answer, Simple) else answer

    def close(self) -> None:
        """Leave. Idempotent."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _definite(error: errors.MmreplError, *, definite: bool) -> errors.MmreplError:
    error.definite = definite
    return error
