"""How late an event loop is, seen from another thread: the one timer on it that probes and metrics read."""

from __future__ import annotations

import asyncio
import time

EVERY_S = 0.25
"""Four wake-ups a second cost nothing, and a quarter of one is far below every limit."""
WINDOW_S = 15.0


class LoopWatch:
    """A timer on a loop; whoever reads it from elsewhere sees how long the loop has not come to it."""

    def __init__(self) -> None:
        """Begin, on the running loop, with which it ends."""
        self._loop = asyncio.get_running_loop()
        self._window_ends_at_s = time.monotonic() + WINDOW_S
        self._longest_s = self._longest_before_s = 0.0
        # One value, put in its place at once: read between two, a time would count twice or not at all.
        self._late_s_and_due_at_s = 0.0, time.monotonic() + EVERY_S
        self._timer = self._loop.call_later(EVERY_S, self._tick)

    @property
    def lag_s(self) -> float:
        """Seconds by which the loop is late; 0 while it is not. Safe from any thread, as all that follows."""
        return max(0.0, time.monotonic() - self._late_s_and_due_at_s[1])

    @property
    def longest_s(self) -> float:
        """In this window of time and the last one; or up to now, when the loop is blocked at this moment."""
        return max(self._longest_s, self._longest_before_s, self.lag_s)

    @property
    def blocked_s(self) -> float:
        """By how much it was late since the beginning, all together; it never falls."""
        late_s, due_at_s = self._late_s_and_due_at_s
        return late_s + max(0.0, time.monotonic() - due_at_s)

    def stop(self) -> None:
        """Do not tick any more; what is known stays, and no lag comes to it."""
        self._timer.cancel()
        self._note(time.monotonic())
        self._late_s_and_due_at_s = self._late_s_and_due_at_s[0], float("inf")

    def _tick(self) -> None:
        self._note(time.monotonic())
        self._timer = self._loop.call_later(EVERY_S, self._tick)

    def _note(self, now_s: float) -> None:
        """The timer has come, at this moment."""
        late_s, due_at_s = self._late_s_and_due_at_s
        lag_s = max(0.0, now_s - due_at_s)
        if now_s >= self._window_ends_at_s:
            self._longest_before_s, self._longest_s = self._longest_s, 0.0
            self._window_ends_at_s = now_s + WINDOW_S
        self._longest_s = max(self._longest_s, lag_s)
        self._late_s_and_due_at_s = late_s + lag_s, now_s + EVERY_S
