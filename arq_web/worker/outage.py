"""Waiting for a lost Redis: backoff for everybody, one log line for the loss and one for the return."""

from __future__ import annotations

import asyncio
import random
import time

from arq_web import events
from arq_web.errors import StoreError, StoreUnavailable
from arq_web.events import emit

FIRST_S, LONGEST_S = 0.05, 0.5
WRONG_TYPE = "WRONGTYPE"
"""In Redis' words: a key holds another type. Scripts say so of a queue's indexes only, and before they write."""


class Outage:
    """The state of the link as the worker's loops see it."""

    def __init__(self) -> None:
        self._since_s: float | None = None
        self._tries = 0
        self._address = ""
        self._kind: type[StoreError] | None = None

    async def wait(self, error: StoreError) -> None:
        """Note a failure (logged when its kind is new), and wait a little: longer each time, at most half a second."""
        if self._since_s is None or type(error) is not self._kind:
            self._since_s, self._address = self._since_s or time.monotonic(), error.address
            self._kind = type(error)
            event = events.STORE_LOST if isinstance(error, StoreUnavailable) else events.STORE_TROUBLE
            emit(event, redis=error.address, error=str(error))
        delay_s = min(LONGEST_S, FIRST_S * 2 ** min(self._tries, 10))
        self._tries += 1
        await asyncio.sleep(delay_s * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, not a secret

    def over(self) -> None:
        """Note that a command passed."""
        if self._since_s is not None:
            emit(events.STORE_BACK, redis=self._address, after_s=time.monotonic() - self._since_s)
            self._since_s, self._kind, self._tries = None, None, 0
