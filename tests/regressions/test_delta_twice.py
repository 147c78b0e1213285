"""A delta that was repeated once wiped a column of the log: ``buried[-0:]`` is all of it."""

from __future__ import annotations

from mmrepl.runtime.replica import Replica


def test_a_repeated_delta_with_overwritten_operations_changes_nothing():
    """Operations of which only the dots travel are passed over like others when they are known."""
    paris, tokyo = Replica("paris"), Replica("tokyo")
    paris["cake"] = 1
    del paris["cake"]
    paris["tea"] = 2
    delta = paris.delta(since=tokyo.version)
    tokyo.merge(delta)
    assert tokyo.merge(delta).fresh == 0
    tokyo.check()
    assert tokyo["tea"] == 2
