"""How long to wait after a failure. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

Seconds = timedelta | float
RetryDelay = Callable[[int, BaseException], Seconds | None]
"""Own policy: ``(failures, error) -> delay``, the failure at hand included; None means: do not retry."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Wait ``base_s * factor ** (failures - 1)`` seconds, at most ``cap_s``, give or take ``jitter``.

    The default waits 2 s, 4 s, 8 s, ... up to 10 minutes, each within 20 %: growing visibly, never in step with others.
    """

    base_s: float = 2.0
    factor: float = 2.0
    cap_s: float = 600.0
    jitter: float = 0.2

    def __call__(self, failures: int, error: BaseException) -> float:
        """Seconds to wait after the ``failures``-th failure."""
        exponent = min(failures - 1, 64)  # beyond that a float would overflow long after the cap was reached
        delay_s = min(self.cap_s, self.base_s * self.factor**exponent)
        return delay_s * random.uniform(1 - self.jitter, 1 + self.jitter)


def to_ms(value: Seconds) -> int:
    """Seconds or timedelta as whole milliseconds, rounded up: never earlier than asked."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    return -int(-seconds * 1000 // 1)
