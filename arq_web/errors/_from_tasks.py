"""What a task raises to say how its attempt ends."""

from __future__ import annotations

from datetime import timedelta

_LONGEST_DELAY_S = 10 * 366 * 86_400


class Retry(Exception):
    """Raise in a task: run this job again. Spends one failure; dead when ``max_tries`` is reached.

    Args:
        delay: how long to wait, seconds or timedelta; None lets the task's retry policy choose.
        reason: shown in the job's record and in the log.

    Raises:
        ValueError: the delay is not a finite time.
    """

    def __init__(self, reason: str = "", *, delay: timedelta | float | None = None) -> None:
        if delay is not None:
            _check_delay(delay)
        self.delay, self.reason = delay, reason
        super().__init__(reason)


class Snooze(Exception):
    """Raise in a task: run this job again later. Spends nothing.

    Args:
        delay: how long to wait, seconds or timedelta.
        reason: shown in the job's record and in the log.

    Raises:
        ValueError: the delay is not a finite time.
    """

    def __init__(self, reason: str = "", *, delay: timedelta | float) -> None:
        _check_delay(delay)
        self.delay, self.reason = delay, reason
        super().__init__(reason)


class DoNotRetry(Exception):
    """Raise in a task (or derive from it): the job is dead at once, whatever tries are left."""


def _check_delay(delay: object) -> None:
    delay_s = delay.total_seconds() if isinstance(delay, timedelta) else delay
    # nan is within no range. A delay that has passed already (a negative one) means: at once.
    if not isinstance(delay_s, (int, float)) or not abs(delay_s) <= _LONGEST_DELAY_S:
        raise ValueError(f"delay={delay!r} is not a delay: give seconds or a timedelta, at most ten years.")
