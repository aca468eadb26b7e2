"""A worker's cron jobs: schedules of the engine, one job per tick for all workers; and what each worker does itself."""

from __future__ import annotations

import zoneinfo
from collections import Counter
from datetime import datetime, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING
from uuid import uuid4

from arq_web.arq._cron_times import CronTimes, system_zone
from arq_web.arq._envelope import serialize_job
from arq_web.arq._link import as_redis_errors
from arq_web.arq._translate import Terms, new_job, task_word
from arq_web.arq.cron import CronJob
from arq_web.arq.utils import timestamp_ms, to_unix_ms
from arq_web.errors import JobIdConflict
from arq_web.schedule import Ticks
from arq_web.store.store import FireReply, NewJob, Store

if TYPE_CHECKING:
    from arq_web.arq.worker import Worker


class CronFiring:
    """One cron job as a schedule: exactly one job per tick among all workers of the queue."""

    def __init__(self, worker: Worker, cron_job: CronJob, name: str, store: Store) -> None:
        self.name, self.store = name, store
        self.schedule = Ticks(CronTimes(cron_job.fields, cron_zone(worker)), "skip")
        self._worker, self._cron_job = worker, cron_job

    def new_job(self, tick_ms: int) -> NewJob:
        """The job of one tick; its id is the tick's, unless the cron job has one of its own."""
        job_id = self._cron_job.job_id or f"{self._cron_job.name}:{tick_ms}"
        return _cron_job(self._worker, self._cron_job, job_id, tick_ms)

    async def fire(self, tick_ms: int, next_tick_ms: int, new: NewJob) -> FireReply:
        """Enqueue the job of a tick.

        Raises:
            StoreError: Redis did not answer.
        """
        return await self.store.fire(self.name, self.schedule.fingerprint, tick_ms, next_tick_ms, new)

    def conflict(self, tick_ms: int, existing_task: str) -> None:
        """Another cron job has the same ``job_id``: only one of them runs, as with an enqueue."""
        del tick_ms, existing_task


def firings_of(worker: Worker, store: Store) -> list[CronFiring]:
    """The schedules of a worker. Several cron jobs of one name are several schedules."""
    seen, firings = Counter[str](), list[CronFiring]()
    for cron_job in worker.cron_jobs:
        if not cron_job.unique and not cron_job.job_id:
            continue
        word = task_word(cron_job.name)
        seen[word] += 1
        name = word if seen[word] == 1 else f"{word}#{seen[word]}"
        firings.append(CronFiring(worker, cron_job, name, store))
    return firings


async def run_crons(worker: Worker, store: Store, now: datetime, ahead: timedelta, started: set[int]) -> None:
    """What each worker does itself: the runs at its start, and the jobs that each worker is to run.

    Args:
        worker: the worker.
        store: its queue.
        now: with a zone.
        ahead: jobs that are due so soon are enqueued, deferred.
        started: of which cron jobs (by identity) this worker has seen its start.
    """
    now = now.astimezone(cron_zone(worker)) if worker.cron_jobs else now
    for cron_job in worker.cron_jobs:
        if id(cron_job) not in started:
            started.add(id(cron_job))
            if cron_job.run_at_startup:
                own = f"{cron_job.name}:{to_unix_ms(now)}" if cron_job.unique else uuid4().hex
                await _enqueue(store, _cron_job(worker, cron_job, cron_job.job_id or own, to_unix_ms(now)))
            cron_job.calculate_next(now)
        while cron_job.next_run is not None and cron_job.next_run < now + ahead:
            if not cron_job.unique and not cron_job.job_id:
                due_ms = to_unix_ms(cron_job.next_run)
                await _enqueue(store, _cron_job(worker, cron_job, uuid4().hex, due_ms))
            cron_job.calculate_next(max(cron_job.next_run, now))


def cron_zone(worker: Worker) -> tzinfo:
    """The zone of a worker's cron jobs: the one it was given, or the host's by name, so that its rules are known."""
    given: object = worker.given_timezone
    if given is None:
        return system_zone()
    if isinstance(given, (timezone, zoneinfo.ZoneInfo)):
        return given
    # pytz and others: the same zone by its name.
    name = given if isinstance(given, str) else getattr(given, "zone", None) or getattr(given, "key", None)
    if isinstance(name, str):
        return zoneinfo.ZoneInfo(name)
    assert isinstance(given, tzinfo)
    return given


def _cron_job(worker: Worker, cron_job: CronJob, job_id: str, due_ms: int) -> NewJob:
    payload = serialize_job(cron_job.name, (), {}, None, timestamp_ms(), serializer=worker.job_serializer)
    terms = Terms(due_ms, f"a{due_ms}")
    return new_job(job_id, cron_job.name, payload, terms, is_chosen_id=True)


async def _enqueue(store: Store, job: NewJob) -> None:
    with as_redis_errors():
        try:
            await store.enqueue([job])
        except JobIdConflict:  # another cron job has the same job_id
            return
