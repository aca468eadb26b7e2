"""How long to wait after a failure."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arq_web.retry import Backoff, to_ms

ERROR = ValueError("no")


@given(failures=st.integers(min_value=1, max_value=10_000))
def test_the_default_backoff_doubles_up_to_its_cap_within_its_jitter(failures: int) -> None:
    """Also after ten thousand failures: no overflow, never more than the cap and its jitter."""
    expected_s = min(600.0, 2.0 * 2.0 ** min(failures - 1, 20))

    delay_s = Backoff()(failures, ERROR)

    assert expected_s * 0.8 <= delay_s <= expected_s * 1.2


def test_delays_grow_visibly_even_with_the_worst_jitter() -> None:
    """20 % either way leaves each delay above the one before."""
    backoff = Backoff()

    assert max(backoff(1, ERROR) for _ in range(200)) < min(backoff(2, ERROR) for _ in range(200))


@pytest.mark.parametrize(
    ("value", "ms"), [(1, 1000), (0.0001, 1), (timedelta(seconds=1.5), 1500), (0, 0), (2.0005, 2001)]
)
def test_seconds_become_whole_milliseconds_rounded_up(value: float | timedelta, ms: int) -> None:
    """A job never runs earlier than asked."""
    assert to_ms(value) == ms
