"""The attempts that this worker holds: one table, shared by the loop and the renewal thread."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from arq_web.store.record import ClaimedJob

if TYPE_CHECKING:
    from arq_web.store.store import Store

OVERDUE_GRACE_S = 10.0
"""An attempt that has not ended so long after its timeout is not renewed any more: a hung one must not be immortal."""


class StopReason(Enum):
    """Why an attempt was told to end before its time."""

    CANCEL = "cancel"
    SHUTDOWN = "shutdown"
    LEASE_LOST = "lease_lost"


@dataclass(slots=True, eq=False)
class Running:
    """One attempt, from claim to acknowledged settle. It keeps its slot and its lease for all of that time."""

    job: ClaimedJob
    store: Store
    timeout_s: float
    in_thread: bool = False
    """A thread cannot be stopped: its lease is kept until it returns."""
    started_at_s: float = field(default_factory=time.monotonic)
    task: asyncio.Task[None] | None = None
    reason: StopReason | None = None
    is_settling: bool = False
    is_reported_stuck: bool = False
    stop: threading.Event | None = None
    """Set for a thread that should return; made only where somebody may look."""

    @property
    def overdue_s(self) -> float:
        """Seconds past its timeout; negative before."""
        return time.monotonic() - self.started_at_s - self.timeout_s

    @property
    def ran_ms(self) -> int:
        """Milliseconds since the attempt began."""
        return int((time.monotonic() - self.started_at_s) * 1000)

    def end_early(self, reason: StopReason) -> None:
        """Cancel the attempt, once, for ``reason``; one that settles already is left alone."""
        if self.reason is not None or self.is_settling or self.task is None:
            return
        self.reason = reason
        if self.stop is not None:
            self.stop.set()
        self.task.cancel()


class RunningTable:
    """All attempts of one worker. Changed by the loop only; the renewal thread takes copies."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._running: dict[tuple[str, str, int, str], Running] = {}
        self._last_tokens: dict[str, str] = {}
        self._lock = threading.Lock()
        self._freed = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._running)

    @property
    def free(self) -> int:
        """Slots that are free now."""
        return self.slots - len(self._running)

    def add_claimed(self, queue: str, token: str, claimed: list[Running]) -> None:
        """Take over what a claim brought: all of it at once, with the claim's token (renew.lua compares it)."""
        with self._lock:
            self._last_tokens[queue] = token
            for running in claimed:
                self._running[self._key(running)] = running
        if claimed:
            self._empty.clear()

    def remove(self, running: Running) -> None:
        """The attempt is over and acknowledged: its slot is free."""
        with self._lock:
            self._running.pop(self._key(running), None)
        self._freed.set()
        if not self._running:
            self._empty.set()

    def all(self) -> list[Running]:
        """A copy, safe in any thread."""
        with self._lock:
            return list(self._running.values())

    def held_by_queue(self) -> dict[str, tuple[str, list[Running]]]:
        """Queue → (newest claim token, attempts): one consistent picture, safe in any thread."""
        with self._lock:
            held: dict[str, tuple[str, list[Running]]] = {}
            for running in self._running.values():
                queue = running.job.queue
                held.setdefault(queue, (self._last_tokens.get(queue, ""), []))[1].append(running)
            return held

    async def wait_for_slot(self) -> None:
        """Return when a slot is free."""
        while self.free <= 0:
            self._freed.clear()
            await self._freed.wait()

    async def wait_until_empty(self) -> None:
        """Return when no attempt is left."""
        await self._empty.wait()

    @staticmethod
    def _key(running: Running) -> tuple[str, str, int, str]:
        # With the token: after a loss of data the same id may begin again at attempt 1 while the old one still runs.
        return running.job.queue, running.job.id, running.job.attempt, running.job.token
