"""Bare sockets, for peers that misbehave."""

from __future__ import annotations

import asyncio
import socket


async def raw_client(listener):
    """A bare socket connected to *listener*."""
    host, port = listener.address.rsplit(":", 1)
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
    return sock
