"""The server's clock, as this process may estimate it between two replies."""

from __future__ import annotations

import time


class ServerClock:
    """Server time = monotonic time + offset; each reply that carries server time corrects the offset."""

    def __init__(self) -> None:
        self._offset_ms: float | None = None

    def saw(self, now_ms: int) -> None:
        """A reply that was just read says that it is ``now_ms`` on the server (up to one round trip ago)."""
        self._offset_ms = now_ms - time.monotonic() * 1000

    @property
    def now_ms(self) -> int:
        """Server time, ms; 0 while no reply was seen."""
        return 0 if self._offset_ms is None else int(time.monotonic() * 1000 + self._offset_ms)

    def seconds_until(self, at_ms: int) -> float:
        """Seconds from now to ``at_ms`` (negative when it has passed)."""
        return (at_ms - self.now_ms) / 1000
