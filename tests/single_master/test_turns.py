"""What the host of a leader need not take a turn for."""

from __future__ import annotations

import pytest

from mmrepl.single_master.options import ReadLevel
from mmrepl.wire.single_master import Appended
from tests.single_master.bench import Bench


def test_the_last_confirmation_of_what_is_committed_asks_for_no_turn():
    """The first one does, for it commits; the last one of three changes nothing that somebody waits for."""
    leader, asked = _confirmations("quorum")
    assert asked == [True, False]
    assert leader.core.committed == leader.core.log.last


@pytest.mark.parametrize("ack", ["all", 2])
def test_a_confirmation_that_somebody_waits_for_asks_for_a_turn(ack):
    """Who wants all replicas, or so many, waits for the last one too."""
    _, asked = _confirmations(ack)
    assert asked == [True, True]


def test_a_confirmation_that_a_read_waits_for_asks_for_a_turn():
    """A heartbeat that is echoed may be the quorum of a read."""
    bench = Bench()
    leader = bench.elect()
    leader.core.read(ReadLevel.LINEARIZABLE, leader.now_ms, token=object())
    bench.turn(leader)
    assert _deliver_watched(bench, leader)[0] is True


def _confirmations(ack):
    bench = Bench()
    leader = bench.elect()
    leader.put("k", 1, ack=ack)
    for _ in range(3):  # commit, send, and tell of it at once what is left to tell
        bench.turn(leader)
    return leader, _deliver_watched(bench, leader)


def _deliver_watched(bench, leader):
    """Everything arrives; what the leader said to each confirmation, one turn after each."""
    asked, receive = [], leader.core.receive

    def watched(link, message, now_ms, wall_ms):
        wanted = receive(link, message, now_ms, wall_ms)
        if isinstance(message, Appended):
            asked.append(wanted)
            bench.turn(leader)
        return wanted

    leader.core.receive = watched
    bench.settle()
    return asked
