"""Who counts what a worker does: told of it, and kept from doing harm."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from arq_web.ears import Ear, ears
from arq_web.middleware import EndedAttempt, Ending, Observer
from arq_web.store.messages import Reclaimed, Settled, Settlement, SettleOutcome
from arq_web.store.record import ClaimedJob
from arq_web.worker.clock import ServerClock
from arq_web.worker.outcome import Outcome, Succeeded
from arq_web.worker.running import Running

_ENDINGS: Final[dict[SettleOutcome, Ending]] = {
    "complete": "succeeded",
    "retry": "retrying",
    "snooze": "snoozed",
    "park": "parked",
    "bury": "dead",
    "cancel": "cancelled",
    "crash": "crashed",
    "release": "released",
}
_SUCCEEDED: Final[Ending] = "succeeded"


@dataclass(slots=True)
class WorkerCounts:
    """What the worker did so far."""

    succeeded: int = 0
    failed: int = 0
    released: int = 0

    def add(self, settlement: Settlement) -> None:
        """One attempt that Redis has recorded."""
        match settlement.outcome:
            case "complete":
                self.succeeded += 1
            case "retry" | "bury" | "crash":
                self.failed += 1
            case "release":
                self.released += 1
            case _:
                pass


_End: TypeAlias = tuple[Running, Outcome | None, Settlement | None, Settled]


class Observing:
    """All observers of one worker."""

    def __init__(self, observers: Sequence[Observer], clock: ServerClock) -> None:
        # Looked up once: one of these is called for each job.
        self._begun = ears(observers, "attempt_begun")
        self._ended = ears(observers, "attempts_ended")
        self._reclaimed = ears(observers, "job_reclaimed")
        self._renewed = ears(observers, "leases_renewed")
        self._untold: list[_End] = []
        self._clock = clock

    def begun(self, claimed: Sequence[Running]) -> None:
        """Attempts have taken their slots."""
        for running in claimed if self._begun else ():
            _tell(self._begun, running.job.task, running.job.queue)

    def ended(self, running: Running, outcome: Outcome | None, settlement: Settlement | None, answer: Settled) -> None:
        """An attempt has freed its slot. Told a moment later, with all that Redis has recorded by the same command."""
        if not self._ended:
            return
        if not self._untold:
            asyncio.get_running_loop().call_soon(self.tell)
        self._untold.append((running, outcome, settlement, answer))

    def tell(self) -> None:
        """Say what is not said yet."""
        now_ms, ends, self._untold = self._clock.now_ms, self._untold, []
        told: list[EndedAttempt] = []
        for running, outcome, settlement, answer in ends:
            job, ending, reason = running.job, _SUCCEEDED, ""  # as most are: this is done for each job
            if answer is not Settled.RECORDED or type(outcome) is not Succeeded:
                ending, reason = _ending_of(job, settlement, answer), _reason_of(outcome)
            waited_ms = job.claimed_at_ms - (job.due_at_ms or job.enqueued_at_ms)
            ran_s = (running.ended_at_s or time.monotonic()) - running.started_at_s
            total_ms = now_ms - job.enqueued_at_ms
            told.append(
                EndedAttempt(
                    job.id,
                    job.task,
                    job.queue,
                    ending,
                    reason,
                    waited_ms / 1000 if waited_ms > 0 else 0.0,
                    ran_s if ran_s > 0 else 0.0,
                    total_ms / 1000 if total_ms > 0 else 0.0,
                )
            )
        if told:
            _tell(self._ended, tuple(told))

    def reclaimed(self, queue: str, jobs: Sequence[Reclaimed]) -> None:
        """Jobs were taken from workers that are gone."""
        for job in jobs:
            _tell(self._reclaimed, job.task, queue, is_dead=job.state == "d")

    def renewed(self, *, is_answered: bool) -> None:
        """The thread of the renewals has asked once."""
        _tell(self._renewed, is_answered=is_answered)


def _tell(told: Sequence[Ear], *facts: object, **words: object) -> None:
    for each in told:
        each.tell(*facts, **words)


def observing(observers: Sequence[Observer], clock: ServerClock) -> Observing | None:
    """None where nobody observes: then the worker asks nobody."""
    return Observing(observers, clock) if observers else None


def _ending_of(job: ClaimedJob, settlement: Settlement | None, answer: Settled) -> Ending:
    """What an attempt came to; without a settlement nothing was recorded."""
    if settlement is None or answer is Settled.LOST:
        return "lost"
    if answer is Settled.CANCELLED:
        return "cancelled"
    if settlement.outcome == "crash" and job.crashes + 1 >= job.max_crashes:
        return "dead"  # as the script decides, from the same numbers
    return _ENDINGS[settlement.outcome]


def _reason_of(outcome: Outcome | None) -> str:
    """One word: of the error that is stored; else empty."""
    error = getattr(outcome, "error", None)
    return "" if error is None else error.reason
