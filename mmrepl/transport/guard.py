"""
The order in which a handler is called, kept in one place for all transports.

``made`` once, then ``received`` as often as bytes come, then ``lost`` once and last; no ``received`` after our own
``close``. An exception that leaves a handler is a defect of the host: it is reported to the event loop, and costs
the connection that it happened on, nothing else.
"""

from __future__ import annotations

import asyncio

from mmrepl.ports import Connection, ConnectionHandler


class Guard:
    """One handler of one connection. Each call answers whether the connection may live on."""

    __slots__ = ("_handler", "_listening", "_loop", "_made", "_over")

    def __init__(self, handler: ConnectionHandler, loop: asyncio.AbstractEventLoop) -> None:
        self._handler, self._loop = handler, loop
        self._made = False
        self._listening = True  # false once we have closed
        self._over = False  # lost was called, or never will be

    @property
    def over(self) -> bool:
        """Nothing more will be called."""
        return self._over

    def made(self, connection: Connection) -> bool:
        """Tell the handler that the stream is open."""
        assert not self._made
        self._made = True
        try:
            self._handler.made(connection)
        except Exception as error:  # noqa: BLE001  the host's code: whatever it raises costs this connection
            return self._report("made", error)
        return True

    def received(self, data: bytes) -> bool:
        """Pass on what came, unless we have closed."""
        if not self._listening:
            return True
        try:
            self._handler.received(data)
        except Exception as error:  # noqa: BLE001
            return self._report("received", error)
        return True

    def stop_listening(self) -> None:
        """We have closed: what still comes is dropped."""
        self._listening = False

    def lost(self, reason: str) -> None:
        """Tell the handler, if it knows of the connection and was not told before."""
        if self._over:
            return
        self._over, self._listening = True, False
        if not self._made:
            return
        try:
            self._handler.lost(reason)
        except Exception as error:  # noqa: BLE001
            self._report("lost", error)

    def _report(self, verb: str, error: Exception) -> bool:
        self._listening = False
        report(self._loop, f"{verb}() of a connection handler", error)
        return False


def report(
    loop: asyncio.AbstractEventLoop, what: str, error: Exception, then: str = "its connection is closed"
) -> None:
    """Tell the event loop, which logs it or hands it to the handler that the host has set."""
    loop.call_exception_handler({"message": f"{what} raised; {then}", "exception": error})
