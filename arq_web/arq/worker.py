"""``Worker``: arq's worker, on this engine. One ``main()`` is one engine at work, with arq's hooks, lines and counters.

functions and settings   _functions.py, _worker_settings.py
one attempt of a job     _attempt.py, through Worker.run_job and _runner.py
cron jobs                _crons.py
signals and the end      _shift.py
health check             _health.py
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta, tzinfo
from signal import Signals
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from arq_web.arq._attempt import call_hook
from arq_web.arq._crons import run_crons
from arq_web.arq._functions import FailedJobs, Function, Retry, RetryJob, func, job
from arq_web.arq._health import Health, async_check_health, going_on
from arq_web.arq._records import JobExecutionFailed
from arq_web.arq._runner import run_by_hand
from arq_web.arq._shift import Shifts, loop_of_this_thread, on_signals
from arq_web.arq._state import DefaultTries, WorkerState
from arq_web.arq._worker_settings import settings_of
from arq_web.arq.connections import ArqRedis, RedisSettings, create_pool, log_redis_info
from arq_web.arq.constants import default_queue_name, keep_cronjob_progress
from arq_web.arq.constants import expires_extra_ms as _expires_extra_ms
from arq_web.arq.cron import CronJob
from arq_web.arq.jobs import Deserializer, Serializer
from arq_web.arq.typing import SecondsTimedelta, StartupShutdown, WorkerCoroutine, WorkerSettingsType
from arq_web.arq.utils import import_string

__all__ = (
    "FailedJobs",
    "Function",
    "JobExecutionFailed",
    "Retry",
    "RetryJob",
    "Worker",
    "async_check_health",
    "check_health",
    "create_worker",
    "func",
    "get_kwargs",
    "import_string",
    "job",
    "keep_cronjob_progress",
    "log_redis_info",
    "logger",
    "no_result",
    "run_worker",
)

logger = logging.getLogger("arq.worker")
no_result = object()
HEART_BEAT_S = 0.5


class Worker(WorkerState):
    """Runs the jobs of a queue. Its parameters may be the attributes of a settings class (see ``create_worker``)."""

    def __init__(  # noqa: PLR0913 - arq's signature
        self,
        functions: Sequence[Function | WorkerCoroutine | str] = (),
        *,
        queue_name: str | None = default_queue_name,
        cron_jobs: Sequence[CronJob] | None = None,
        redis_settings: RedisSettings | str | Redis | None = None,
        redis_pool: ArqRedis | None = None,
        burst: bool = False,
        on_startup: StartupShutdown | None = None,
        on_shutdown: StartupShutdown | None = None,
        on_job_start: StartupShutdown | None = None,
        on_job_end: StartupShutdown | None = None,
        after_job_end: StartupShutdown | None = None,
        handle_signals: bool = True,
        job_completion_wait: int = 0,
        max_jobs: int = 10,
        job_timeout: SecondsTimedelta | None = 300,
        keep_result: SecondsTimedelta = 3600,
        keep_result_forever: bool = False,
        poll_delay: SecondsTimedelta = 0.5,
        queue_read_limit: int | None = None,
        max_tries: int = DefaultTries(5),
        health_check_interval: SecondsTimedelta = 3600,
        health_check_key: str | None = None,
        ctx: dict[Any, Any] | None = None,
        retry_jobs: bool = True,
        allow_abort_jobs: bool = True,
        max_burst_jobs: int = -1,
        job_serializer: Serializer | None = None,
        job_deserializer: Deserializer | None = None,
        expires_extra_ms: int = _expires_extra_ms,
        timezone: tzinfo | None = None,
        log_results: bool = True,
    ) -> None:
        """Know what to do; open nothing, and install nothing.

        Args:
            functions: job functions, their dotted names, or what ``func`` returns.
            queue_name: the queue to serve; None: that of ``redis_pool``.
            cron_jobs: what ``cron`` returns.
            redis_settings: where Redis is: settings, a URL, or a redis client whose address is taken.
            redis_pool: a pool to use instead; the worker does not close it.
            burst: end when nothing is left to do, deferred jobs included.
            on_startup: called with the context before the first job.
            on_shutdown: called with the context after the last one.
            on_job_start: called with the job's context before it runs; what it raises fails the job.
            on_job_end: called with the job's context when it has ended, before its result is recorded.
            after_job_end: called with the job's context after that.
            handle_signals: stop at SIGINT and SIGTERM, while the worker runs.
            job_completion_wait: seconds that running jobs get to end by themselves after a signal.
            max_jobs: jobs at the same time.
            job_timeout: of one attempt, seconds or timedelta; None: no limit.
            keep_result: how long a result is kept, seconds or timedelta; 0 keeps none.
            keep_result_forever: wins over ``keep_result``.
            poll_delay: means nothing: jobs are pushed.
            queue_read_limit: means nothing: a worker takes as many jobs as it has free slots.
            max_tries: attempts, the first included. Where it is set, here or for the function, a job is also tried
                again after any exception, with growing delays; else only after ``Retry``.
            health_check_interval: seconds between two writes of the health check's key.
            health_check_key: default that of the queue.
            ctx: what the context holds from the beginning.
            retry_jobs: False: nothing is tried again.
            allow_abort_jobs: False: ``Job.abort`` does not end running jobs.
            max_burst_jobs: how many jobs a burst runs at most; negative: all.
            job_serializer: a job's dict to bytes; default ``pickle.dumps``.
            job_deserializer: and back; default ``pickle.loads``.
            expires_extra_ms: how long after its time a job may start at the latest.
            timezone: of the cron jobs; default that of the host.
            log_results: whether results are written to the log.

        Raises:
            RuntimeError: there is no function, or something in the lists is none.
            ValueError: there is neither a queue name nor a pool, or a limit is out of range.
            TypeError: a limit is of another type.
        """
        super().__init__(locals())
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_listening = self._is_stop_asked = self._is_closed = False
        self._health, self._shifts, self._started_crons = Health(), Shifts(), set[int]()
        # app-worker --processes has another: there a signal may be a copy of one that was heard before.
        self.on_signals: Callable[[Callable[[Signals], None]], contextlib.AbstractContextManager[None]] = on_signals

    def run(self) -> None:
        """Work until told to stop, then close. For a thread that runs no event loop."""
        loop, is_own = loop_of_this_thread(self._loop)
        self._loop = loop
        try:
            loop.run_until_complete(self._run_and_close())
        finally:
            if is_own:
                loop.run_until_complete(loop.shutdown_asyncgens())
                loop.close()
                asyncio.set_event_loop(None)
                self._loop = None

    async def async_run(self) -> None:
        """Work until told to stop; ``close`` is the caller's to call."""
        self.main_task = asyncio.get_running_loop().create_task(self.main())
        await self.main_task

    async def run_check(self, retry_jobs: bool | None = None, max_burst_jobs: int | None = None) -> int:
        """Work as ``async_run`` does, and see that nothing failed.

        Args:
            retry_jobs: instead of the worker's own.
            max_burst_jobs: instead of the worker's own.

        Returns:
            How many jobs have succeeded.

        Raises:
            FailedJobs: some have not.
        """
        if retry_jobs is not None:
            self.retry_jobs = retry_jobs
        if max_burst_jobs is not None:
            self.max_burst_jobs = max_burst_jobs
        await self.async_run()
        if not self.jobs_failed:
            return self.jobs_complete
        raise FailedJobs(self.jobs_failed, [each for each in await self.pool.all_job_results() if not each.success])

    async def main(self) -> None:
        """Work until told to stop (in a burst: until nothing is left). May be awaited again: the counters go on.

        When it is cancelled from outside, no new jobs are taken; those that run go on until ``close``.
        """
        self._is_stop_asked, self._is_closed, self.allow_pick_jobs = False, False, True
        self.is_cutting_short = False
        if self._pool is None:
            self._pool = await self._make_pool()
        logger.info("Starting worker for %d functions: %s", len(self.functions), ", ".join(self.functions))
        try:
            await log_redis_info(self.pool, logger.info)
        except Exception as error:  # noqa: BLE001 - a server that does not say (a fake one) is no reason not to work
            logger.debug("the server says nothing of itself: %s", error)
        self.ctx["redis"] = self.pool
        await call_hook(self.on_startup, self.ctx)
        with self._listening():
            await self.heart_beat()
            if self._is_stop_asked:  # a library that was awaited since then may have swallowed our cancellation
                raise asyncio.CancelledError
            shift = self._shifts.begin(self)
            beating = asyncio.create_task(self._beat())
            try:
                await shift.work()
            finally:
                beating.cancel()
            await self._say_health()

    async def run_job(self, job_id: str, score: int) -> None:
        """Run one job, and return when its end is recorded. The engine calls this for each attempt.

        Called by hand it takes that job from the queue first, and those before it, which go back to the head of the
        queue at once.

        Args:
            job_id: the job's id.
            score: when it was due, ms since the epoch.
        """
        del score
        attempt = self.attempts.get(job_id)
        if attempt is not None:
            await attempt.run()
            await attempt.record()
            return
        if self._pool is None:
            self._pool = await self._make_pool()
        self.ctx.setdefault("redis", self._pool)
        await run_by_hand(self, job_id, self.pool.link.store(self.queue_name))

    async def close(self) -> None:
        """Wait for running jobs (or end them, where signals are not handled), call ``on_shutdown``, close the pool.

        A pool that the worker was given is left open: it belongs to whoever made it. Safe to repeat.
        """
        if self._is_closed:
            return
        if not self._handle_signals:
            self.handle_sig(Signals.SIGUSR1)
        if self._pool is None:
            return
        await self._shifts.end()
        with contextlib.suppress(RedisError):
            await self._health.forget(self)
        if self._is_closed:  # by another close() meanwhile
            return
        self._is_closed = True
        await call_hook(self.on_shutdown, self.ctx)
        if self._is_own_pool:
            pool, self._pool = self._pool, None
            await pool.aclose(close_connection_pool=True)

    def handle_sig(self, signum: Signals) -> None:
        """Stop now: cancel running jobs (they go back to the queue, unspent) and ``main``."""
        signal = Signals(signum)
        self.say_shutdown(f"on {signal.name}", len(self.tasks), "ongoing to cancel")
        self._cancel_all(signal)

    def handle_sig_wait_for_completion(self, signum: Signals) -> None:
        """Take no more jobs, give running ones ``job_completion_wait`` seconds, then stop."""
        signal = Signals(signum)
        logger.info("Setting allow_pick_jobs to `False`")
        self._is_stop_asked, self.allow_pick_jobs = True, False
        self.say_shutdown(f"on {signal.name}", len(self.tasks), "to be completed")
        self._shifts.stop_claiming()
        self._shifts.complete(self._wait_for_completion(signal))

    async def heart_beat(self) -> None:
        """What is to be done now and then beside the jobs: the health check, and cron jobs of this worker's own."""
        with going_on("heart beat"):
            await self.record_health()
        with going_on("heart beat"):
            await self.run_cron(datetime.now(tz=self.timezone), HEART_BEAT_S)

    async def record_health(self) -> None:
        """Write the health check's key, if it is time to."""
        await self._health.record(self)

    async def run_cron(self, n: datetime, delay: float, num_windows: int = 2) -> None:
        """Enqueue what is due within ``delay * num_windows`` seconds of ``n`` and no schedule of the engine's."""
        store, ahead = self.pool.link.store(self.queue_name), timedelta(seconds=delay * num_windows)
        await run_crons(self, store, n, ahead, self._started_crons)

    @property
    def pool(self) -> ArqRedis:
        """The worker's redis client; there is one once it runs."""
        return cast("ArqRedis", self._pool)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that ``run`` uses."""
        with contextlib.suppress(RuntimeError):
            return asyncio.get_running_loop()
        self._loop = loop_of_this_thread(self._loop)[0]
        return self._loop

    async def _make_pool(self) -> ArqRedis:
        return await create_pool(
            self.redis_settings,
            job_serializer=self.job_serializer,
            job_deserializer=self.job_deserializer,
            default_queue_name=self.queue_name,
            expires_extra_ms=self.expires_extra_ms,
        )

    async def _run_and_close(self) -> None:
        """With the signals for all of it: the second one is to hurry the end, not to kill."""
        with self._listening():
            self.main_task = asyncio.get_running_loop().create_task(self.main())
            try:
                with contextlib.suppress(asyncio.CancelledError):
                    await self.main_task
            finally:
                await self.close()

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        if self._is_listening or not self._handle_signals:
            yield
            return
        self._is_listening = True
        try:
            with self.on_signals(self._at_signal):
                yield
        finally:
            self._is_listening = False

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEART_BEAT_S)
            with going_on("heart beat"):  # it may be a subclass's
                await self.heart_beat()

    async def _say_health(self) -> None:
        with going_on("health check"):
            await self.record_health()

    def _at_signal(self, signum: Signals) -> None:
        if self._job_completion_wait and self.allow_pick_jobs:
            self.handle_sig_wait_for_completion(signum)
        else:  # at once, or asked for a second time
            self.handle_sig(signum)

    async def _wait_for_completion(self, signum: Signals) -> None:
        if self.tasks:
            await asyncio.wait(set(self.tasks.values()), timeout=self._job_completion_wait)
        ongoing = sum(not task.done() for task in self.tasks.values())
        self.say_shutdown(f"on {signum.name}, wait complete", ongoing, "ongoing to cancel")
        self._cancel_all(signum)

    def _cancel_all(self, signum: Signals) -> None:
        self._is_stop_asked = self.is_cutting_short = True
        self._shifts.stop()
        for task in list(self.tasks.values()):
            if not task.done():
                task.cancel()
        if self.main_task:
            self.main_task.cancel()
        if self.on_stop:
            self.on_stop(signum)


def get_kwargs(settings_cls: WorkerSettingsType) -> dict[str, Any]:
    """The parameters of ``Worker`` that a settings class (or object, or dict) has."""
    return settings_of(settings_cls, inspect.signature(Worker).parameters)


def create_worker(settings_cls: WorkerSettingsType, **kwargs: Any) -> Worker:
    """A worker of these settings; ``kwargs`` win.

    Raises:
        RuntimeError, ValueError: see ``Worker``.
    """
    return Worker(**{**get_kwargs(settings_cls), **kwargs})


def run_worker(settings_cls: WorkerSettingsType, **kwargs: Any) -> Worker:
    """Run a worker of these settings until it is told to stop; returns it."""
    worker = create_worker(settings_cls, **kwargs)
    worker.run()
    return worker


def check_health(settings_cls: WorkerSettingsType) -> int:
    """0 where a worker of these settings has written its key lately, else 1: an exit status."""
    given = get_kwargs(settings_cls)
    checking = async_check_health(given.get("redis_settings"), given.get("health_check_key"), given.get("queue_name"))
    return asyncio.run(checking)
