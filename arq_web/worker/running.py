"""The attempts that this worker holds: one table, shared by the loop and the renewal thread."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from arq_web.store.record import ClaimedJob

if TYPE_CHECKING:
    from arq_web.progress import Progress
    from arq_web.store.store import Settled, Store
    from arq_web.worker.outcome import Outcome

OVERDUE_GRACE_S = 10.0
"""An attempt that has not ended so long after its timeout is not renewed any more: a hung one must not be immortal."""


UNANSWERED_S = 1.0
"""A claim without an answer for so long: what it may have taken is renewed for, or handed back (renew.lua)."""


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
    has_returned: bool = False
    """Said by the thread itself, when nobody may be left to hear what it returns."""
    started_at_s: float = field(default_factory=time.monotonic)
    task: asyncio.Task[None] | None = None
    reason: StopReason | None = None
    may_be_cancelled: bool = True
    """False for an attempt that goes on although the job's cancellation was asked for; and before it begins, for only
    its runner knows. The next renewal says it again."""
    is_settling: bool = False
    ended_at_s: float = 0.0
    """When it began to settle: what comes then is no more of the attempt's time."""
    is_reported_stuck: bool = False
    stop: threading.Event | None = None
    """Set for a thread that should return; made only where somebody may look."""
    progress: Progress | None = None
    """Made only for a task that asks for it."""
    settle: Callable[[Running, Outcome], None] | None = None
    answer: Settled | None = None
    """What Redis said to its settlement."""
    acknowledged: asyncio.Future[None] | None = None

    async def settle_now(self, outcome: Outcome) -> Settled | None:
        """End the attempt before its runner returns: for one that has something to do when the end is recorded.

        Returns:
            What Redis said; None where it was not asked, or the worker ends without hearing from it.
        """
        assert self.settle is not None
        self.acknowledged = asyncio.get_running_loop().create_future()
        self.settle(self, outcome)
        await self.acknowledged
        return self.answer

    def let_go(self) -> None:
        """Whoever waits in ``settle_now`` waits no longer."""
        if self.acknowledged is not None and not self.acknowledged.done():
            self.acknowledged.set_result(None)

    @property
    def overdue_s(self) -> float:
        """Seconds past its timeout; negative before."""
        return time.monotonic() - self.started_at_s - self.timeout_s

    @property
    def ran_ms(self) -> int:
        """Milliseconds since the attempt began, or from then to its end; not those of its settling."""
        return max(0, int(((self.ended_at_s or time.monotonic()) - self.started_at_s) * 1000))

    def end_early(self, reason: StopReason) -> None:
        """Cancel the attempt, once, for ``reason``; one that settles already is left alone."""
        if self.reason is not None or self.is_settling:
            return
        if reason is StopReason.CANCEL and not self.may_be_cancelled:
            return
        self.reason = reason
        if self.stop is not None:
            self.stop.set()
        if self.task is not None:  # else it has not begun, and will not
            self.task.cancel()


@dataclass(frozen=True, slots=True)
class HeldInQueue:
    """What a worker knows to hold in one queue; ``last_token`` is that of the newest claim whose answer it has read."""

    store: Store
    last_token: str
    attempts: list[Running]


class RunningTable:
    """All attempts of one worker. Changed by the loop only; the renewal thread takes copies."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._running: dict[tuple[str, str, int, str], Running] = {}
        self._last_tokens: dict[str, str] = {}
        self._unanswered: dict[str, tuple[Store, float]] = {}
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

    def expect_claim(self, store: Store) -> None:
        """A claim is on its way: should the loop be blocked before its answer is read, renewals must name its queue."""
        with self._lock:
            self._unanswered[store.queue] = store, time.monotonic()

    def forget_claim(self, store: Store) -> None:
        """No answer will come: the claim has failed."""
        with self._lock:
            self._unanswered.pop(store.queue, None)

    def add_claimed(self, queue: str, token: str, claimed: list[Running]) -> None:
        """Take over what a claim brought: all of it at once, with the claim's token (renew.lua compares it)."""
        with self._lock:
            self._unanswered.pop(queue, None)
            self._last_tokens[queue] = token
            for running in claimed:
                self._running[self._key(running)] = running
        if claimed:
            self._empty.clear()

    def remove(self, running: Running) -> None:
        """The attempt is over and acknowledged: its slot is free."""
        with self._lock:
            self._running.pop(self._key(running), None)
        running.let_go()
        self._freed.set()
        if not self._running:
            self._empty.set()

    def give_up(self) -> None:
        """The worker ends: who waits for an acknowledgement waits no longer."""
        for running in self._running.values():
            running.let_go()

    def all(self) -> list[Running]:
        """A copy, safe in any thread."""
        with self._lock:
            return list(self._running.values())

    def held_by_queue(self) -> list[HeldInQueue]:
        """What is held, queue by queue: one consistent picture, safe in any thread."""
        with self._lock:
            held: dict[str, HeldInQueue] = {}
            for running in self._running.values():
                queue = running.job.queue
                if queue not in held:
                    held[queue] = HeldInQueue(running.store, self._last_tokens.get(queue, ""), [])
                held[queue].attempts.append(running)
            for queue, (store, since_s) in self._unanswered.items():
                if queue not in held and time.monotonic() - since_s > UNANSWERED_S:
                    held[queue] = HeldInQueue(store, self._last_tokens.get(queue, ""), [])
            return list(held.values())

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
