"""
What a socket is told before asyncio has it, and what its errors say to people.
"""

from __future__ import annotations

import os
import socket
import ssl

from mmrepl.transport.address import Address

BACKLOG = 128
"""So many connections may wait to be accepted."""

DEAD_AFTER_S = 30
"""After so long a silent peer is given up by the operating system, where that can be told to."""


def listening_socket(family: int, kind: int, protocol: int, place: tuple[object, ...]) -> socket.socket:
    """A socket that listens and does not block. Raises OSError; nothing is left open then."""
    sock = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # elsewhere it would let two processes have one port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(place)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def watch_for_death(sock: socket.socket | None) -> None:
    """Have the operating system notice a silent peer in about `DEAD_AFTER_S`, as far as it can."""
    if sock is None:
        return
    options = [(socket.SOL_SOCKET, "SO_KEEPALIVE", 1)]
    options += [(socket.IPPROTO_TCP, "TCP_KEEPIDLE", DEAD_AFTER_S // 2)]
    options += [(socket.IPPROTO_TCP, "TCP_KEEPINTVL", 5), (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3)]
    options += [(socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", DEAD_AFTER_S * 1000)]
    for level, name, value in options:
        option = getattr(socket, name, None)  # not every system has them all
        if option is not None:
            try:
                sock.setsockopt(level, option, value)
            except OSError:  # the peer is gone already: connection_lost will say so
                return


def address_of(place: tuple[object, ...]) -> Address:
    """The address that the operating system calls *place*."""
    return Address(str(place[0]), int(str(place[1])))


def why(error: BaseException) -> str:
    """What happened, in the system's own words."""
    if isinstance(error, OSError) and error.errno and error.errno > 0 and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno)  # asyncio's own text names the call that failed
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def told(error: OSError, what: str) -> OSError:
    """The same kind of error with a text for people."""
    if isinstance(error, (ssl.SSLError, socket.gaierror)) or not error.errno:
        return OSError(f"{what}: {why(error)}")
    return OSError(error.errno, f"{what}: {why(error)}")
