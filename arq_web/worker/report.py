"""The one log line at the end of an attempt."""

from __future__ import annotations

from arq_web import events
from arq_web.events import emit
from arq_web.store.store import Settlement
from arq_web.worker.outcome import Crashed, Failed, Interrupted, Outcome, Parked, Snoozed, Succeeded
from arq_web.worker.running import Running


def report_end(running: Running, outcome: Outcome, settlement: Settlement) -> None:
    """The one line at the end of an attempt."""
    job, ran_ms = running.job, running.ran_ms
    facts = {"job": job.id, "task": job.task}
    match outcome:
        case Succeeded():
            emit(events.JOB_SUCCEEDED, **facts, attempt=job.attempt, ran_ms=ran_ms)
        case Failed(error) if settlement.outcome == "retry":
            emit(
                events.JOB_RETRYING,
                **facts,
                attempt=job.attempt,
                failures=job.failures + 1,
                ran_ms=ran_ms,
                next_s=settlement.ms / 1000,
                error=f"{error.type}: {error.message}",
            )
        case Failed(error) | Parked(error) if settlement.outcome == "bury":
            emit(
                events.JOB_DEAD,
                **facts,
                attempt=job.attempt,
                failures=job.failures + 1,
                crashes=job.crashes,
                reason=error.reason,
                error=f"{error.type}: {error.message}\n{error.traceback}".rstrip(),
            )
        case Snoozed(error):
            emit(events.JOB_SNOOZED, **facts, attempt=job.attempt, next_s=settlement.ms / 1000, error=error.message)
        case Parked(error):
            emit(events.JOB_PARKED, **facts, next_s=settlement.ms / 1000, error=error.message)
        case Interrupted():
            emit(events.JOB_RELEASED, **facts, attempt=job.attempt)
        case Crashed(error):
            emit(events.JOB_CRASHED, **facts, attempt=job.attempt, error=error.message)
        case _:
            pass
