"""How late an event loop is, seen from another thread."""

from __future__ import annotations

import asyncio
import time

EVERY_S = 0.5
"""Two wake-ups a second cost nothing, and half a second is far below every limit."""


class LoopWatch:
    """A timer on a loop; whoever reads it from elsewhere sees how long the loop has not come to it."""

    def __init__(self) -> None:
        """Begin, on the running loop, with which it ends."""
        self._loop = asyncio.get_running_loop()
        self._tick()

    @property
    def lag_s(self) -> float:
        """Seconds by which the loop is late; 0 while it is not. Safe from any thread."""
        return max(0.0, time.monotonic() - self._ticked_at_s - EVERY_S)

    def _tick(self) -> None:
        self._ticked_at_s = time.monotonic()
        self._loop.call_later(EVERY_S, self._tick)
