"""Runs arq's jobs for the engine: through ``Worker.run_job``, since that is what people wrap; and one job by hand."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from typing import TYPE_CHECKING, Any

from arq_web.arq._attempt import Attempt
from arq_web.arq._records import JobExecutionFailed
from arq_web.arq._translate import function_of, job_id_of, score_of, stored_id
from arq_web.log_context import bind_job
from arq_web.store.record import ClaimedJob
from arq_web.store.store import Settlement, Store, WorkerKind
from arq_web.worker.attempt import AttemptLimits
from arq_web.worker.outcome import Failed, Interrupted, Outcome, decide, error_info
from arq_web.worker.running import Running

if TYPE_CHECKING:
    from arq_web.arq.worker import Worker

logger = logging.getLogger("arq.worker")
LEASE_MARGIN_S = 10.0
MOST_CLAIMED = 1000


class ArqRunner:
    """The engine's runner of one worker."""

    def __init__(self, worker: Worker) -> None:
        """Run nothing yet."""
        self._worker = worker
        self._attempts: dict[asyncio.Task[Any], Attempt] = {}

    def timeout_s(self, job: ClaimedJob) -> float:
        """Seconds that one attempt may take: the job's own option, its function's, or the worker's."""
        return timeout_s_of(self._worker, job)

    def max_tries(self, job: ClaimedJob) -> int:
        """Its function's, or the worker's. Its attempts count for themselves; this bounds what fails around them."""
        return max_tries_of(self._worker, job)

    async def run(self, running: Running, limits: AttemptLimits) -> Outcome:
        """One attempt, through ``run_job``."""
        del limits
        worker, job = self._worker, running.job
        bind_job(job)
        if worker.is_cutting_short:
            return Interrupted()
        job_id, score = job_id_of(job.id), score_of(job)
        attempt = worker.attempts[job_id] = Attempt(worker, running, job_id, score)
        running.may_be_cancelled = worker.allow_abort_jobs
        task = asyncio.current_task()
        assert task is not None
        worker.tasks[job_id], self._attempts[task] = task, attempt
        try:
            await worker.run_job(job_id, score)
        except asyncio.CancelledError:
            if attempt.outcome is None:
                raise
        except Exception as error:
            logger.exception("run_job of %s failed", job_id)
            if attempt.outcome is None:
                attempt.outcome = _failed(attempt, error)
        finally:
            del self._attempts[task]
            if worker.attempts.get(job_id) is attempt:  # its next attempt may have begun already
                del worker.attempts[job_id]
            if worker.tasks.get(job_id) is task:
                del worker.tasks[job_id]
        return attempt.outcome or _failed(attempt, JobExecutionFailed("run_job did not run the job"))

    def ended(self, running: Running, outcome: Outcome, settlement: Settlement) -> None:
        """Whoever is to know awaits it: see Attempt.record."""

    async def wait(self) -> None:
        """Return when what is done after jobs' ends (``after_job_end``, wrappers of ``run_job``) is done."""
        while tasks := [task for task, attempt in self._attempts.items() if attempt.outcome is not None]:
            await asyncio.wait(tasks)


async def run_by_hand(worker: Worker, job_id: str, store: Store) -> None:
    """Run one job of a worker that does not work: it must be ready."""
    me = f"{socket.gethostname().replace(' ', '-')}:{os.getpid()}:{secrets.token_hex(4)}"
    longest_s = max(timeout for timeout in _timeouts(worker))
    lease_ms = int((longest_s + LEASE_MARGIN_S) * 1000)
    found = await _claim_one(store, me, stored_id(job_id), lease_ms)
    if found is not None:
        await _run_claimed(worker, Running(found, store, timeout_s_of(worker, found)), me)
    else:
        logger.warning("job %s expired", job_id)
        worker.jobs_failed += 1
    await store.leave(me, WorkerKind.EXTERNAL)


def timeout_s_of(worker: Worker, job: ClaimedJob) -> float:
    """Seconds that one attempt may take; infinite where nothing limits it."""
    own = job.extra.get("timeout_ms")
    if isinstance(own, int):
        return own / 1000
    function = worker.functions.get(function_of(job.task))
    timeout_s = None if function is None else function.timeout_s
    timeout_s = worker.job_timeout_s if timeout_s is None else timeout_s
    return float("inf") if timeout_s is None else timeout_s


def max_tries_of(worker: Worker, job: ClaimedJob) -> int:
    """Attempts, the first included."""
    function = worker.functions.get(function_of(job.task))
    own = None if function is None else function.max_tries
    return int(worker.max_tries if own is None else own)


def _failed(attempt: Attempt, error: BaseException) -> Failed:
    """The end of the job; without a result where that cannot be written: a job must not run for ever for it."""
    try:
        return attempt.failed(error)
    except Exception:
        logger.exception("the result of %s cannot be kept", attempt.job_id)
        attempt.worker.jobs_failed += 1
        return Failed(error_info(error, "failed"), None)


async def _claim_one(store: Store, me: str, wanted: str, lease_ms: int) -> ClaimedJob | None:
    """The queue's order cannot be passed by: take what is before it, too, and put that back afterwards."""
    others: list[list[ClaimedJob]] = []
    found: ClaimedJob | None = None
    while found is None:
        token = f"{len(others) + 1}.{secrets.token_urlsafe(8)}"
        reply = await store.claim(me, WorkerKind.EXTERNAL, token, MOST_CLAIMED, lease_ms)
        if not reply.jobs and not reply.unreadable:
            break
        found = next((job for job in reply.jobs if job.id == wanted), None)
        others.append([job for job in reply.jobs if job.id != wanted])
    for jobs in filter(None, others):
        await store.settle(me, [Settlement(job.id, job.attempt, job.token, "release") for job in jobs])
    return found


async def _run_claimed(worker: Worker, running: Running, me: str) -> None:
    job, store = running.job, running.store
    attempt = Attempt(worker, running, job_id_of(job.id), score_of(job))
    await attempt.run()
    assert attempt.outcome is not None
    now_ms = await store.server_now_ms()
    most = max_tries_of(worker, job)
    settlement = decide(attempt.outcome, job, max_tries=most, keep_result_ms=job.keep_result_ms, now_ms=now_ms)
    if settlement is not None:
        await store.settle(me, [settlement])
    await attempt.after_end()


def _timeouts(worker: Worker) -> list[float]:
    known = [worker.job_timeout_s, *(function.timeout_s for function in worker.functions.values())]
    return [timeout for timeout in known if timeout is not None] or [0.0]
