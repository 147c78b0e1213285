"""Times and durations for people."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmrepl.clock.instants import duration_text, utc_text


@pytest.mark.parametrize(
    ("duration_ms", "text"),
    [
        (0, "0 ms"),
        (999, "999 ms"),
        (1_000, "1 s"),
        (59_999, "59.999 s"),
        (60_000, "1 min"),
        (3_599_999, "59 min 59 s"),
        (3_600_000, "1 h"),
        (3_605_000, "1 h"),
        (86_400_000 * 400 + 3_600_000, "400 d 1 h"),
        (-1_500, "-1.5 s"),
    ],
)
def test_a_duration_is_told_in_two_units(duration_ms: int, text: str):
    """The rest is noise."""
    assert duration_text(duration_ms) == text


@pytest.mark.parametrize(
    ("wall_ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (2**31 * 1000, "2038-01-19T03:14:08.000Z"),
        (2**47 - 1, "6429-10-17T02:45:55.327Z"),
        (2**60, f"{2**60} ms"),
        (-(2**60), f"{-(2**60)} ms"),
    ],
)
def test_an_instant_is_told_in_utc(wall_ms: int, text: str):
    """To the millisecond, and as a number where the calendar ends."""
    assert utc_text(wall_ms) == text


@given(st.integers(-(2**80), 2**80))
def test_no_number_is_refused(number: int):
    """People may be shown anything that a broken clock says."""
    assert utc_text(number)
    assert duration_text(number)
