"""The log lines of an attempt: its claim, and how it ended."""

from __future__ import annotations

from typing import Any

from arq_web import events
from arq_web.events import Event, emit
from arq_web.log_context import REQUEST_ID_HEADER
from arq_web.logged_args import logged_args
from arq_web.store.store import Settlement
from arq_web.task import Task
from arq_web.worker.outcome import Crashed, Failed, Interrupted, Outcome, Parked, Snoozed, Succeeded
from arq_web.worker.running import Running


def report(event: Event, running: Running, worker: str, **more: object) -> None:
    """Log ``event`` with what all lines of an attempt have."""
    job = running.job
    if not event.is_logged:  # most are not, and the fields cost more than the question
        return
    request_id = job.headers.get(REQUEST_ID_HEADER)
    if request_id is not None:
        more["request_id"] = request_id
    emit(event, job=job.id, task=job.task, queue=job.queue, worker=worker, attempt=job.attempt, **more)


def report_claimed(running: Running, worker: str, task: Task[..., Any] | None) -> None:
    """The attempt begins."""
    report(events.JOB_CLAIMED, running, worker, waited_ms=_waited_ms(running), **_args(running, task))


def report_end(
    running: Running, outcome: Outcome, settlement: Settlement, worker: str, task: Task[..., Any] | None
) -> None:
    """The one line at the end of an attempt."""
    if type(outcome) is Succeeded and not events.JOB_SUCCEEDED.is_logged:
        return  # this is asked for each job
    job, ran_ms, waited_ms = running.job, running.ran_ms, _waited_ms(running)
    match outcome:
        case Succeeded():
            more = _args(running, task)
            report(events.JOB_SUCCEEDED, running, worker, waited_ms=waited_ms, ran_ms=ran_ms, **more)
        case Failed(error) if settlement.outcome == "retry":
            report(
                events.JOB_RETRYING,
                running,
                worker,
                failures=job.failures + 1,
                waited_ms=waited_ms,
                ran_ms=ran_ms,
                next_s=settlement.ms / 1000,
                error=f"{error.type}: {error.message}",
            )
        case Failed(error) | Parked(error) if settlement.outcome == "bury":
            report(
                events.JOB_DEAD,
                running,
                worker,
                failures=job.failures + 1,
                crashes=job.crashes,
                waited_ms=waited_ms,
                ran_ms=ran_ms,
                reason=error.reason,
                error=f"{error.type}: {error.message}\n{error.traceback}".rstrip(),
                **_args(running, task),
            )
        case Snoozed(error):
            next_s = settlement.ms / 1000
            report(events.JOB_SNOOZED, running, worker, ran_ms=ran_ms, next_s=next_s, error=error.message)
        case Parked(error):
            report(events.JOB_PARKED, running, worker, next_s=settlement.ms / 1000, error=error.message)
        case Interrupted():
            report(events.JOB_RELEASED, running, worker, ran_ms=ran_ms)
        case Crashed(error):
            report(events.JOB_CRASHED, running, worker, ran_ms=ran_ms, error=error.message)
        case _:
            pass


def _waited_ms(running: Running) -> int:
    job = running.job
    return max(0, job.claimed_at_ms - (job.due_at_ms or job.enqueued_at_ms))


def _args(running: Running, task: Task[..., Any] | None) -> dict[str, object]:
    args = None if task is None else logged_args(task.policy.log_args, running.job.payload)
    return {} if args is None else {"args": args}
