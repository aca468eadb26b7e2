"""What a worker knows: its functions, its settings, its counters, the jobs that it runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from signal import Signals
from typing import TYPE_CHECKING, Any, cast

from arq_web.arq._attempt import Attempt
from arq_web.arq._functions import Function, check_limits, check_parameters, check_seconds, check_tries, func
from arq_web.arq.connections import ArqRedis, RedisSettings
from arq_web.arq.constants import health_check_key_suffix
from arq_web.arq.cron import CronJob
from arq_web.arq.utils import to_seconds

logger = logging.getLogger("arq.worker")
_NOT_HERE = {
    "start_jobs": "the engine takes jobs by itself; run_job(job_id, score) runs one",
    "finish_job": "the engine records how a job ends; after_job_end is called after that",
    "finish_failed_job": "the engine records how a job ends; after_job_end is called after that",
    "sem": "the engine counts free slots; see max_jobs and job_counter",
    "_poll_iteration": "nothing polls: jobs are pushed",
}
"""What arq's worker has, and people call or override: here it would do nothing."""


class DefaultTries(int):
    """The default of ``max_tries``: nobody has said how often a job is to be tried."""


class WorkerState:
    """The attributes of a worker, by the names that arq's users know."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        """Check and take what the worker was given, by the names of its parameters.

        Raises:
            RuntimeError: there is no function, or something in the lists is none.
            ValueError: there is neither a queue name nor a pool.
        """
        self._take_functions(given["functions"], given["cron_jobs"])
        self._take_redis(given["redis_pool"], given["redis_settings"], given["queue_name"])
        self._take_settings(given)
        self._begin()
        for name in sorted(_NOT_HERE.keys() & set(dir(type(self)))):
            logger.warning("%s.%s is never called: %s", type(self).__name__, name, _NOT_HERE[name])

    if not TYPE_CHECKING:  # a type checker finds it unknown, and is right

        def __getattr__(self, name: str) -> Any:
            why = f": {_NOT_HERE[name]}" if name in _NOT_HERE else ""
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{why}")

    @property
    def jobs_started(self) -> int:
        """Attempts that were begun so far, in all runs of this worker."""
        return self.jobs_complete + self.jobs_retried + self.jobs_failed + len(self.tasks)

    @property
    def job_counter(self) -> int:
        """Jobs that run now."""
        return len(self.tasks)

    def __repr__(self) -> str:
        ongoing = sum(not task.done() for task in self.tasks.values())
        return (
            f"<Worker j_complete={self.jobs_complete} j_failed={self.jobs_failed} j_retried={self.jobs_retried} "
            f"j_ongoing={ongoing}>"
        )

    def say_shutdown(self, when: str, count: int, what: str) -> None:
        """The line at a signal: what was done, and what becomes of the ``count`` jobs that run."""
        words = "shutdown %s ◆ %d jobs complete ◆ %d failed ◆ %d retries ◆ %d %s"
        logger.info(words, when, self.jobs_complete, self.jobs_failed, self.jobs_retried, count, what)

    def _take_functions(self, functions: Sequence[Any], cron_jobs: Sequence[CronJob] | None) -> None:
        self.functions: dict[str, Function | CronJob] = {}
        for each in map(func, functions):
            check_parameters(each)
            known = self.functions.get(each.name)
            if known is not None and known.coroutine is not each.coroutine:
                logger.warning("two functions are called %r: only the later one will run", each.name)
            self.functions[each.name] = each
        self.cron_jobs: list[CronJob] = list(cron_jobs or ())
        if not all(isinstance(each, CronJob) for each in self.cron_jobs):
            raise RuntimeError("cron_jobs, must be instances of CronJob")
        for cron_job in self.cron_jobs:
            check_limits(cron_job)
        self.functions.update({each.name: each for each in self.cron_jobs})
        if not self.functions:
            raise RuntimeError("at least one function or cron_job must be registered")

    def _take_redis(self, pool: ArqRedis | None, settings: Any, queue_name: str | None) -> None:
        if queue_name is None and pool is None:
            raise ValueError("If queue_name is absent, redis_pool must be present.")
        self.queue_name: str = queue_name or cast("ArqRedis", pool).default_queue_name
        self._pool, self._is_own_pool = pool, pool is None
        self.redis_settings = (settings or RedisSettings()) if pool is None else None

    def _take_settings(self, given: Mapping[str, Any]) -> None:
        self.burst, self.max_jobs, self.max_burst_jobs = given["burst"], given["max_jobs"], given["max_burst_jobs"]
        self.on_startup, self.on_shutdown = given["on_startup"], given["on_shutdown"]
        self.on_job_start, self.on_job_end = given["on_job_start"], given["on_job_end"]
        self.after_job_end = given["after_job_end"]
        self.job_timeout_s: float | None = to_seconds(given["job_timeout"])
        self.keep_result_s: float = to_seconds(given["keep_result"])
        check_seconds("job_timeout", self.job_timeout_s, most_s=float("inf"))
        check_seconds("keep_result", self.keep_result_s)
        check_tries("max_tries", given["max_tries"])
        self.keep_result_forever, self.log_results = given["keep_result_forever"], given["log_results"]
        self.poll_delay_s = to_seconds(given["poll_delay"])
        self.queue_read_limit = given["queue_read_limit"] or max(self.max_jobs * 5, 100)
        self.max_tries, self.is_max_tries_set = given["max_tries"], not isinstance(given["max_tries"], DefaultTries)
        self.retry_jobs, self.allow_abort_jobs = given["retry_jobs"], given["allow_abort_jobs"]
        self.health_check_interval = to_seconds(given["health_check_interval"])
        self.health_check_key = given["health_check_key"] or self.queue_name + health_check_key_suffix
        self.ctx: dict[Any, Any] = given["ctx"] or {}
        self.job_serializer, self.job_deserializer = given["job_serializer"], given["job_deserializer"]
        self.expires_extra_ms: int = given["expires_extra_ms"]
        self.given_timezone: tzinfo | None = given["timezone"]
        self.timezone = self.given_timezone or datetime.now(UTC).astimezone().tzinfo
        self._handle_signals, self._job_completion_wait = given["handle_signals"], given["job_completion_wait"]

    def _begin(self) -> None:
        self.jobs_complete, self.jobs_failed, self.jobs_retried = 0, 0, 0
        self.tasks: dict[str, asyncio.Task[Any]] = {}
        self.job_tasks: dict[str, asyncio.Task[Any]] = {}
        self.aborting_tasks: set[str] = set()
        self.attempts: dict[str, Attempt] = {}
        self.main_task: asyncio.Task[None] | None = None
        self.on_stop: Callable[[Signals], None] | None = None
        self.allow_pick_jobs = True
        self.is_cutting_short = False
        """Running jobs are cancelled: one that was claimed and has not begun must not begin."""
        self.owns_process = False
