"""Who counts what a worker does: told of it, and kept from doing harm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from arq_web.ears import Ear, ears
from arq_web.middleware import EndedAttempt, Ending, Observer
from arq_web.store.messages import Reclaimed, Settled, Settlement, SettleOutcome
from arq_web.worker.outcome import Outcome
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


class Observing:
    """All observers of one worker."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        # Looked up once: two of these are called for each job.
        self._begun = ears(observers, "attempt_begun")
        self._ended = ears(observers, "attempt_ended")
        self._reclaimed = ears(observers, "job_reclaimed")
        self._renewed = ears(observers, "leases_renewed")

    def begun(self, claimed: Sequence[Running]) -> None:
        """Attempts have taken their slots."""
        for running in claimed if self._begun else ():
            _tell(self._begun, running.job.task, running.job.queue)

    def ended(self, running: Running, ending: Ending, reason: str, now_ms: int) -> None:
        """An attempt has freed its slot; ``now_ms`` is server time."""
        job = running.job
        if ending == "crashed" and job.crashes + 1 >= job.max_crashes:
            ending = "dead"  # as the script decides, from the same numbers
        waited_ms = job.claimed_at_ms - (job.due_at_ms or job.enqueued_at_ms)
        ran_ms, total_ms = running.ran_ms, now_ms - job.enqueued_at_ms
        ended = EndedAttempt(
            job.id,
            job.task,
            job.queue,
            ending,
            reason,
            waited_ms / 1000 if waited_ms > 0 else 0.0,
            ran_ms / 1000 if ran_ms > 0 else 0.0,
            total_ms / 1000 if total_ms > 0 else 0.0,
        )
        for each in self._ended:
            try:
                each.hear(ended)
            except Exception as error:  # noqa: BLE001 - who counts must not cost a job
                each.failed(error)

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


def observing(observers: Sequence[Observer]) -> Observing | None:
    """None where nobody observes: then the worker asks nobody."""
    return Observing(observers) if observers else None


def ending_of(settlement: Settlement | None, answer: Settled) -> Ending:
    """What an attempt came to; without a settlement nothing was recorded."""
    if settlement is None or answer is Settled.LOST:
        return "lost"
    return "cancelled" if answer is Settled.CANCELLED else _ENDINGS[settlement.outcome]


def reason_of(outcome: Outcome | None) -> str:
    """One word: of the error that is stored; else empty."""
    error = getattr(outcome, "error", None)
    return "" if error is None else error.reason
