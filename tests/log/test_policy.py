"""How much of the log is kept, by number, by bytes and by age."""

import pytest

from mmrepl.clock.hlc import pack
from mmrepl.log.oplog import OpLog
from mmrepl.log.policy import LogGauge, LogPolicy
from mmrepl.types import DEFAULT_LIMITS, NodeId


def log_of(count: int, *, origins: int = 1) -> OpLog:
    """A log whose operation at position n was stamped at n seconds and takes 10 bytes, key and payload."""
    log = OpLog()
    for index in range(count):
        columns = log.origin(NodeId(f"n{index % origins}", 1))
        log.append(columns, pack((index + 1) * 1000), 0, "key_x", b"12345", None)
    return log


@pytest.mark.parametrize("origins", [1, 3])
def test_each_bound_counts_from_the_end(origins):
    """The last so many operations, so many bytes, so many milliseconds stay."""
    log = log_of(100, origins=origins)
    assert LogPolicy(operations=30).position(log, 100_000) == 71
    assert LogPolicy(operations=None, bytes=305).position(log, 100_000) == 71
    assert LogPolicy(operations=None, age_ms=29_500).position(log, 100_000) == 71


def test_the_strictest_bound_wins_and_none_is_no_bound():
    """Three bounds, one cut."""
    log = log_of(100)
    assert LogPolicy(operations=90, bytes=100, age_ms=50_000).position(log, 100_000) == 91
    assert LogPolicy(operations=None).position(log, 10**12) == log.start


def test_everything_may_be_too_old():
    """A log that nobody has written to for long may be cut whole."""
    log = log_of(10)
    assert LogPolicy(age_ms=1).position(log, 10**9) == log.end


def test_a_bound_of_nothing_is_refused():
    """Zero would mean that nobody ever gets a delta."""
    with pytest.raises(ValueError, match="operations"):
        LogPolicy(operations=0)


def test_a_gauge_tells_what_its_policy_does_when_a_bound_is_passed_by_a_quarter():
    """And counts only what is new until then; also after cuts, and over another log."""
    policy = LogPolicy(operations=None, bytes=305)
    gauge = LogGauge(policy)
    for _ in range(2):
        log, positions = OpLog(), []
        columns = log.origin(NodeId("n", 1))
        for index in range(100):
            log.append(columns, pack((index + 1) * 1000), 0, "key_x", b"12345", None)
            position = gauge.position(log, 100_000)
            assert position in (log.start, policy.position(log, 100_000))
            positions.append(position - log.start)
            log.cut(position)
            assert 10 * (log.end - log.start) <= 305 * 5 // 4
        assert 5 <= sum(map(bool, positions)) <= 15, "each cut gives room for a while"


def test_a_bound_on_bytes_is_looked_at_before_large_values_pass_it():
    """Be they as large as they may be: a quarter at most comes between two looks."""
    for most in (1 << 20, 64 << 20, 1 << 30):
        policy = LogPolicy(bytes=most)
        assert (policy.slack() - 1) * DEFAULT_LIMITS.value_bytes <= most // 4
        assert LogGauge(policy).slack() == policy.slack()
    assert LogPolicy(bytes=1 << 40).slack() == LogPolicy().slack()


def test_voids_among_the_operations_do_not_hide_the_young():
    """They have no stamp: looked for by halves, what stands before many of them was taken for old."""
    log = OpLog()
    columns = log.origin(NodeId("n", 1))
    log.append(columns, pack(1_000), 0, "k", b"12345", None)
    log.append(columns, pack(99_000), 0, "k", b"12345", None)
    log.extend_void(columns, 6, log.end + 6)
    assert LogPolicy(operations=None, age_ms=5_000).position(log, 100_000) == 2
