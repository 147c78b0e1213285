"""Hybrid logical timestamps: always rising, never wrapping, readable as a time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrepl.clock import hlc
from mmrepl.clock.hlc import HybridClock
from mmrepl.errors import ClockAhead

walls = st.one_of(
    st.integers(0, 3),
    st.integers(1_600_000_000_000, 1_600_000_000_003),
    st.integers(hlc.MS_MAX - 2, hlc.MS_MAX + 2),
    st.integers(-(2**70), 2**70),
)
stamps = st.one_of(st.integers(0, 3 << 16), st.integers(0, hlc.STAMP_MAX))

ODD_WALLS = [
    -(2**63),
    -1,
    0,
    1,
    2**31 * 1000 - 1,  # 2038
    2**31 * 1000,
    2**32 * 1000,
    1_483_228_799_999,  # the leap second of 2016
    1_483_228_800_000,
    2**47 - 1,
    2**47,
    2**48,
    2**53,
    2**63 - 1,
    2**63,
    2**64,
]


@given(st.integers(0, hlc.MS_MAX), st.integers(0, hlc.COUNTER_MAX))
def test_a_stamp_says_its_time_and_its_counter_and_orders_by_them(ms: int, counter: int):
    """Packing loses nothing, and fits a signed 64-bit integer."""
    stamp = hlc.pack(ms, counter)
    assert (hlc.ms_of(stamp), hlc.counter_of(stamp)) == (ms, counter)
    assert 0 <= stamp < 2**63
    assert hlc.from_json(hlc.to_json(stamp)) == stamp


@pytest.mark.parametrize("wall_ms", ODD_WALLS)
def test_no_wall_clock_raises_or_wraps(wall_ms: int):
    """Before 1970 counts as 1970, beyond the range as its end; text can be made of it."""
    clock = HybridClock()
    stamp = clock.tick(wall_ms)
    assert stamp in {hlc.pack(wall_ms), 1}
    assert hlc.ms_of(stamp) == min(max(wall_ms, 0), hlc.MS_MAX)
    assert hlc.describe(stamp)
    assert hlc.acceptable(stamp, wall_ms, 0)


@given(st.lists(st.one_of(walls.map(lambda wall: ("tick", wall)), stamps.map(lambda stamp: ("observe", stamp)))))
def test_stamps_strictly_rise_whatever_the_wall_clock_does(steps: list[tuple[str, int]]):
    """Each stamp is greater than all minted and observed before, until the range is used up; then it stays."""
    clock, highest = HybridClock(), 0
    for verb, number in steps:
        if verb == "observe":
            clock.observe(number)
            highest = max(highest, number)
        else:
            stamp = clock.tick(number)
            assert stamp > highest or stamp == hlc.STAMP_MAX
            assert stamp >= hlc.pack(number)
            highest = stamp
        clock.check()
        assert clock.last == highest


def test_a_full_counter_carries_into_the_milliseconds():
    """65,536 writes in one millisecond borrow from the next one."""
    clock = HybridClock(hlc.pack(5, hlc.COUNTER_MAX))
    assert clock.tick(5) == hlc.pack(6, 0)
    assert clock.tick(6) == hlc.pack(6, 1)


def test_a_wall_clock_that_jumps_back_is_waited_for():
    """Stamps go on rising from the last one, and follow the wall again when it has passed it."""
    clock = HybridClock()
    assert clock.tick(1_000) == hlc.pack(1_000)
    assert clock.tick(10) == hlc.pack(1_000, 1)
    assert clock.tick(999) == hlc.pack(1_000, 2)
    assert clock.tick(1_001) == hlc.pack(1_001)


def test_a_restarted_clock_goes_on_from_what_it_remembers():
    """What was `last` before is passed to the new one."""
    before = HybridClock()
    stamp = before.tick(1_000)
    assert HybridClock(before.last).tick(500) > stamp


@pytest.mark.parametrize("last", [-1, hlc.STAMP_MAX + 1])
def test_a_clock_does_not_start_from_what_is_no_stamp(last: int):
    """A damaged memory is noticed."""
    with pytest.raises(ValueError, match="no stamp"):
        HybridClock(last)


def test_the_greatest_stamp_repeats_at_the_end_of_the_range():
    """No exception and no wrap in the year 6429."""
    clock = HybridClock(hlc.STAMP_MAX - 1)
    assert [clock.tick(2**60) for _ in range(3)] == [hlc.STAMP_MAX] * 3


def test_drift_is_measured_against_the_wall_and_only_forward():
    """Exactly max_drift is let in, one millisecond more is held for that millisecond; the past is always let in."""
    stamp = hlc.pack(1_300, 9)
    assert hlc.ahead_ms(stamp, 1_000) == 300
    assert hlc.acceptable(stamp, 1_000, 300)
    assert not hlc.acceptable(stamp, 999, 300)
    assert [hlc.hold_ms(stamp, wall_ms, 300) for wall_ms in (900, 999, 1_000, 5_000)] == [100, 1, 0, 0]
    assert hlc.ahead_ms(stamp, 2_000) == -700
    assert hlc.acceptable(hlc.pack(0), 2**47 - 1, 0)


def test_a_write_above_the_ceiling_is_refused_and_leaves_nothing_behind():
    """The sender is told that its clock is ahead, certainly before the write exists."""
    clock = HybridClock()
    before = clock.tick(1_000)
    clock.ceiling = hlc.pack(400_000, hlc.COUNTER_MAX)
    with pytest.raises(ClockAhead, match=r"our wall clock is ahead .* by 2 min") as caught:
        clock.tick(520_000)
    assert caught.value.definite
    assert clock.last == before
    assert clock.tick(400_000) == hlc.pack(400_000)


def test_a_clock_that_was_dragged_ahead_says_so():
    """After an own jump forward and back it is the earlier stamp that is ahead, not the wall."""
    clock = HybridClock(hlc.pack(90_000_000))
    clock.ceiling = hlc.pack(300_000)
    with pytest.raises(ClockAhead, match="an earlier stamp of ours is ahead"):
        clock.tick(1_000)
    clock.ceiling = hlc.STAMP_MAX
    assert clock.tick(1_000) == hlc.pack(90_000_000, 1)


@pytest.mark.parametrize("text", ["", "-1", "+1", " 1", "01", "1.0", "1_0", "x", "٣", str(2**63), "9" * 30])
def test_what_is_no_stamp_is_refused(text: str):
    """Only the digits that `to_json` writes are read."""
    with pytest.raises(ValueError, match="no stamp"):
        hlc.from_json(text)


@pytest.mark.parametrize("counter", [-1, 65_536])
def test_a_counter_out_of_range_is_refused(counter: int):
    """It would silently change the time."""
    with pytest.raises(ValueError, match="counter"):
        hlc.pack(1, counter)


@given(stamps, st.lists(walls, min_size=1, max_size=8), st.booleans())
def test_many_stamps_at_once_are_those_of_one_after_another(last: int, walls_ms: list[int], same: bool):
    """Also where the time stands still, runs backwards, or is at its end."""
    if same:
        walls_ms = walls_ms[:1] * len(walls_ms)
    together, apart = HybridClock(last), HybridClock(last)
    assert list(together.ticks(walls_ms)) == [apart.tick(wall_ms) for wall_ms in walls_ms]
    assert together.last == apart.last
    together.check()


def test_many_stamps_above_the_ceiling_are_refused():
    """As one is, also if only the last of them would be above."""
    clock = HybridClock(hlc.pack(1_000))
    clock.ceiling = hlc.pack(1_000, 2)
    with pytest.raises(ClockAhead):
        clock.ticks([1_000, 1_000, 1_000])
    assert list(HybridClock(hlc.pack(1_000)).ticks([1_000, 1_000])) == [hlc.pack(1_000, 1), hlc.pack(1_000, 2)]
