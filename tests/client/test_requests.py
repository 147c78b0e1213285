"""How a call is sent, and what an error means for it."""

from __future__ import annotations

import pytest

from mmrepl import errors
from mmrepl.client.requests import ConnectionBroken, Request, Verdict, tell, verdict
from mmrepl.runtime.resp.protocol import RequestParser
from mmrepl.wire.seen import LogPosition


def request(**changes):
    plain = {"words": (b"MM.PUT", b"k", b"v"), "key": "k", "writes": True, "repeatable": False, "reads": "nearest"}
    return Request(**plain | changes)


READ = request(words=(b"MM.GET", b"k"), writes=False, repeatable=True)


def test_table_and_precondition_travel_with_the_command():
    """In one command, so that nothing can come between."""
    sent = request(table="carts", needs=LogPosition(3, 17)).encoded(250)
    assert RequestParser().feed(sent) == [[b"MM.AFTER", b"3.17", b"250", b"MM.IN", b"carts", b"MM.PUT", b"k", b"v"]]
    assert RequestParser().feed(request().encoded(250)) == [[b"MM.PUT", b"k", b"v"]]


def indefinite(error):
    error.definite = False
    return error


@pytest.mark.parametrize(
    ("error", "write", "read"),
    [
        (errors.NotPrimary("x"), Verdict.MOVE, Verdict.MOVE),
        (errors.NodeBehind("x"), Verdict.WAIT, Verdict.WAIT),
        (ConnectionBroken("x", definite=True), Verdict.NEXT, Verdict.NEXT),
        (ConnectionBroken("x", definite=False), Verdict.RAISE, Verdict.NEXT),
        (errors.ClosedError("x"), Verdict.NEXT, Verdict.NEXT),
        (errors.ClockAhead("x"), Verdict.NEXT, Verdict.NEXT),
        (errors.StorageError("x"), Verdict.NEXT, Verdict.NEXT),
        (indefinite(errors.StorageError("x")), Verdict.RAISE, Verdict.NEXT),
        (indefinite(errors.FrameError("x")), Verdict.RAISE, Verdict.NEXT),
        (errors.InvalidValue("x"), Verdict.RAISE, Verdict.RAISE),
        (errors.ResolverError("x"), Verdict.RAISE, Verdict.RAISE),
        (errors.UsageError("x"), Verdict.RAISE, Verdict.RAISE),
    ],
)
def test_what_to_do_after_an_error(error, write, read):
    """A write that may have been made is asked of nobody else; at-least-once has to be chosen."""
    assert verdict(error, request()) is write
    assert verdict(error, READ) is read
    if write is Verdict.RAISE and read is Verdict.NEXT:
        assert verdict(error, request(repeatable=True)) is Verdict.NEXT


@pytest.mark.parametrize("kind", [errors.WaitTimeout, errors.UnknownTable, errors.InvalidValue, errors.NotPrimary])
def test_an_error_tells_the_call(kind):
    """Node, command and key, once, whatever the kind."""
    error = tell(tell(kind("why"), "127.0.0.1:1", request()), "elsewhere", READ)
    assert error.call == errors.Call("127.0.0.1:1", "MM.PUT", "k")
    assert str(error) == "127.0.0.1:1: MM.PUT 'k': why"
