"""The suite that every transport passes, over each of ours; and that it finds transports which are broken."""

from __future__ import annotations

import asyncio
import gc
import socket

import pytest
import uvloop

from mmrepl.testing import transport_kit
from mmrepl.testing import transport_suite as conformance
from mmrepl.transport import tcp
from mmrepl.transport.guard import Guard
from mmrepl.transport.loopback import LoopbackNetwork
from mmrepl.transport.tcp import TcpTransport


class TcpKit:
    address = "127.0.0.1:0"

    def __init__(self, **options):
        self.made, self._options = [], options

    def transport(self):
        self.made.append(TcpTransport(**self._options))
        return self.made[-1]


class Tcp6Kit(TcpKit):
    address = "[::1]:0"

    def __init__(self):
        super().__init__()
        try:
            with socket.socket(socket.AF_INET6) as sock:
                sock.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 loopback on this machine")


class LoopbackKit:
    address = "paris:0"

    def __init__(self, **options):
        self._network = LoopbackNetwork(seed=5, **options)
        self._count = 0

    def transport(self):
        self._count += 1
        return self._network.transport(f"node {self._count}")


KITS = {
    "tcp": lambda _: TcpKit(),
    "tcp6": lambda _: Tcp6Kit(),
    "tls": lambda request: TcpKit(
        **dict(zip(("server_ssl", "client_ssl"), request.getfixturevalue("tls"), strict=True))
    ),
    "loopback": lambda _: LoopbackKit(),
    "loopback, slow and chopped": lambda _: LoopbackKit(delay_turns_max=5, piece_bytes_max=60_000),
}


@pytest.mark.parametrize("case", conformance.CASES, ids=lambda case: case.__name__)
@pytest.mark.parametrize("kit", KITS)
async def test_conformance(kit, case, request):
    """Each fact of the suite holds for each transport."""
    await conformance.run(KITS[kit](request), case)


@pytest.mark.parametrize("case", conformance.CASES, ids=lambda case: case.__name__)
@pytest.mark.parametrize("kit", ["tcp", "tls"])
def test_conformance_on_uvloop(kit, case, request):
    """Whoever runs the program's loop may have chosen another one than asyncio's."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(conformance.run(KITS[kit](request), case))
    gc.collect()  # a socket that was forgotten is a ResourceWarning, which is an error


class TestAsUsersRunIt(conformance.TransportSuite):
    """The class for users, which needs no plugin for asyncio, over one transport."""

    def kit(self):
        return LoopbackKit()


# -- planted bugs: a suite that cannot fail proves nothing


async def fails(kit, case):
    """Whether the case notices; with little patience, since what is broken may never come."""
    old, transport_kit.PATIENCE_S = transport_kit.PATIENCE_S, 0.3
    try:
        await conformance.run(kit, case)
    except (AssertionError, pytest.fail.Exception, TimeoutError):
        return True
    finally:
        transport_kit.PATIENCE_S = old
        for transport in getattr(kit, "made", ()):
            await transport.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
    return False


async def test_planted_received_after_close(monkeypatch):
    """A transport that goes on calling received() after close() is found."""
    monkeypatch.setattr(Guard, "stop_listening", lambda self: None)
    assert await fails(LoopbackKit(), conformance.after_close_nothing_is_sent_or_received)


async def test_planted_lost_twice(monkeypatch):
    """A transport that calls lost() twice is found."""
    once = Guard.lost

    def lost(self, reason):
        once(self, reason)
        self._handler.lost(reason)

    monkeypatch.setattr(Guard, "lost", lost)
    assert await fails(LoopbackKit(), conformance.both_sides_may_close_at_once)


async def test_planted_handler_errors_escape(monkeypatch):
    """A transport that lets a handler's exception pass without closing the connection is found."""
    monkeypatch.setattr(Guard, "_report", lambda self, verb, error: True)
    assert await fails(LoopbackKit(), conformance.a_handler_that_raises_costs_only_its_own_connection)


async def test_planted_close_drops_the_queue(monkeypatch):
    """A transport that drops on close() what was sent before is found."""

    def close(self):
        self._drop_queue()
        honest(self)

    honest = tcp._Connection.close
    monkeypatch.setattr(tcp._Connection, "close", close)
    assert await fails(TcpKit(), conformance.close_lets_the_queue_leave_and_both_sides_hear_of_it)
