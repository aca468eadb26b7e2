"""One attempt of a job as arq runs it: context, hooks, log lines, and what its end means to the engine."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from arq_web.arq._envelope import SerializationError, deserialize_job_raw, serialize_result
from arq_web.arq._functions import Function, Retry, RetryJob
from arq_web.arq._records import JobExecutionFailed, error_data
from arq_web.arq._translate import FOR_EVER_MS, has_expired, is_ours, retry_data
from arq_web.arq.cron import CronJob
from arq_web.arq.utils import args_to_string, ms_to_datetime, timestamp_ms, to_ms, truncate
from arq_web.errors import UnknownTask
from arq_web.retry import Backoff
from arq_web.retry import to_ms as rounded_up_ms
from arq_web.store.store import Settled
from arq_web.worker.outcome import Cancelled, Failed, Interrupted, Outcome, Parked, Succeeded, Superseded, error_info
from arq_web.worker.running import Running, StopReason

if TYPE_CHECKING:
    from arq_web.arq.worker import Worker

logger = logging.getLogger("arq.worker")
BACKOFF = Backoff(base_s=1.0)
"""Between the tries of a function whose ``max_tries`` somebody has set."""
_UNKNOWN = "<unknown>"


class Attempt:
    """From the stored job to the outcome of one attempt."""

    def __init__(self, worker: Worker, running: Running, job_id: str, score: int) -> None:
        """Begin nothing yet.

        Args:
            worker: whose functions, hooks, settings and counters these are.
            running: the attempt as the engine knows it.
            job_id: arq's id of the job.
            score: when it was due, ms since the epoch.
        """
        self.outcome: Outcome | None = None
        self.ctx: dict[Any, Any] | None = None
        """The context, once the job's function was known."""
        self.worker, self.job_id = worker, job_id
        self._running, self._score = running, score
        self._function: Function | CronJob | None = None
        self._name, self._ref = _UNKNOWN, f"{job_id}:{_UNKNOWN}"
        self._args: tuple[Any, ...] = ()
        self._kwargs: dict[str, Any] = {}
        self._job_try, self._enqueue_ms, self._start_ms = running.job.failures + 1, 0, timestamp_ms()

    async def run(self) -> None:
        """Run it and set ``outcome``. Raises only where the attempt was cancelled before it began."""
        worker, job_id = self.worker, self.job_id
        if not is_ours(self._running.job):
            self.outcome = self._not_ours()
            return
        try:
            payload = self._running.job.payload
            name, args, kwargs, seed, self._enqueue_ms = deserialize_job_raw(
                payload, deserializer=worker.job_deserializer
            )
        except SerializationError as error:
            logger.exception("deserializing job %s failed", job_id)
            self.outcome = self.failed(error)
            return
        self._name, self._args, self._kwargs = name, args, kwargs
        self._job_try = (seed or 1) + self._running.job.failures
        function = self._function = worker.functions.get(name)
        self._ref = name if isinstance(function, CronJob) else f"{job_id}:{name}"
        if self._running.job.cancel_requested:
            waited_s = (timestamp_ms() - self._enqueue_ms) / 1000
            logger.info("%6.2fs ⊘ %s:%s aborted before start", waited_s, job_id, name)
            worker.jobs_failed += 1
            self.outcome = Cancelled(self._keep_ms)
        elif has_expired(self._running.job):
            logger.warning("job %s expired", job_id)
            self.outcome = self.failed(JobExecutionFailed("job expired"))
        elif function is None:
            logger.warning("job %s, function %r not found", job_id, name)
            self.outcome = self.failed(JobExecutionFailed(f"function {name!r} not found"))
        elif self._job_try > self._max_tries:
            self.outcome = self._exhausted((timestamp_ms() - self._enqueue_ms) / 1000)
        else:
            self.outcome = await self._call(function)

    async def record(self) -> None:
        """Let the engine record its end, and return when Redis has acknowledged it and ``after_job_end`` was called."""
        assert self.outcome is not None
        self.worker.tasks.pop(self.job_id, None)  # it has ended: a signal must not cancel what is left to do
        answer = await self._running.settle_now(self.outcome)
        if answer not in (None, Settled.LOST):
            await self.after_end()

    async def after_end(self) -> None:
        """Its result is recorded: now is the time of ``after_job_end``."""
        if self.ctx is None:
            return
        try:
            await call_hook(self.worker.after_job_end, self.ctx)
        except Exception:
            logger.exception("after_job_end of %s failed", self._ref)

    def failed(self, error: BaseException) -> Failed:
        """The end of the job: what it raised, kept as its result."""
        keep_ms = self._keep_ms
        raw = self._envelope(error, is_success=False) if keep_ms else None
        data = None if raw is None else error_data(raw)
        outcome = Failed(error_info(error, "failed", data), None, keep_ms)
        self.worker.jobs_failed += 1
        return outcome

    def _not_ours(self) -> Outcome:
        """Another API's job in the same queue: its payload is not for our deserializer, but for a worker of its own."""
        job = self._running.job
        if job.cancel_requested:
            return Cancelled()
        logger.warning("job %s was not enqueued with arq's API: left for a worker of %r", self.job_id, job.task)
        return Parked(error_info(UnknownTask(job.task, self.worker.functions), "unknown_task"))

    async def _call(self, function: Function | CronJob) -> Outcome:
        worker, scope = self.worker, None
        ctx = self.ctx = {
            **worker.ctx,
            "job_id": self.job_id,
            "job_try": self._job_try,
            "enqueue_time": ms_to_datetime(self._enqueue_ms),
            "score": self._score,
        }
        try:
            await call_hook(worker.on_job_start, ctx)
            self._start_ms = timestamp_ms()
            self._say_started()
            task = asyncio.current_task()
            assert task is not None
            worker.job_tasks[self.job_id] = task
            try:
                limit_s = self._running.timeout_s
                scope = asyncio.timeout(None if limit_s == float("inf") else limit_s)
                async with scope:
                    result = await function.coroutine(ctx, *self._args, **self._kwargs)
            finally:
                worker.job_tasks.pop(self.job_id, None)
        except GeneratorExit:  # the loop is torn down under us
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a job raises is its outcome, sys.exit() too
            outcome = self._of_error(error, is_timeout=scope is not None and scope.expired())
        else:
            outcome = self._of_result(result)
        await self._end_hook(ctx)
        return outcome

    def _of_result(self, result: object) -> Outcome:
        keep_ms = self._keep_ms
        self.worker.jobs_complete += 1
        if logger.isEnabledFor(logging.INFO):
            text = "" if result is None or not self.worker.log_results else truncate(_shown(result))
            logger.info("%6.2fs ← %s ● %s", self._ran_s, self._ref, text)
        raw = self._envelope(result, is_success=True) if keep_ms else None
        return Succeeded(b"", 0) if raw is None else Succeeded(raw, keep_ms)

    def _of_error(self, error: BaseException, *, is_timeout: bool) -> Outcome:
        may_retry = self.worker.retry_jobs
        if isinstance(error, asyncio.CancelledError):
            return self._of_cancellation(error)
        if may_retry and isinstance(error, Retry):
            delay_ms = error.defer_score or 0
            logger.info("%6.2fs ↻ %s retrying job in %0.2fs", self._ran_s, self._ref, delay_ms / 1000)
            return self._retry(error, delay_ms)
        if may_retry and isinstance(error, RetryJob):
            return self._run_again(error)
        if may_retry and not is_timeout and isinstance(error, Exception) and self._retries_exceptions:
            delay_ms = rounded_up_ms(BACKOFF(self._running.job.failures + 1, error))
            logger.info(
                "%6.2fs ↻ %s retrying job in %0.2fs, %s: %s",
                *(self._ran_s, self._ref, delay_ms / 1000, type(error).__name__, error),
            )
            return self._retry(error, delay_ms)
        return self._say_failed(error)

    def _of_cancellation(self, error: asyncio.CancelledError) -> Outcome:
        match self._running.reason:
            case StopReason.LEASE_LOST:
                return Superseded()
            case StopReason.CANCEL:
                logger.info("%6.2fs ⊘ %s aborted", self._ran_s, self._ref)
                self.worker.jobs_failed += 1
                return Cancelled(self._keep_ms)
            case _ if not self.worker.retry_jobs:
                return self._say_failed(error)
            case reason:
                task = asyncio.current_task()
                if reason is None and not (task and task.cancelling()):
                    return self._run_again(error)  # nobody asked for it: the job raised it itself
                logger.info("%6.2fs ↻ %s cancelled, will be run again", self._ran_s, self._ref)
                self.worker.jobs_retried += 1
                return Interrupted()

    def _run_again(self, error: BaseException) -> Outcome:
        logger.info("%6.2fs ↻ %s cancelled, will be run again", self._ran_s, self._ref)
        return self._retry(error, 0)

    def _retry(self, error: BaseException, delay_ms: int) -> Outcome:
        self.worker.jobs_retried += 1
        if self._job_try >= self._max_tries:
            return self._exhausted(self._ran_s)
        data = retry_data(timestamp_ms() + delay_ms)
        return Failed(error_info(error, "retry", data), max(0, delay_ms))

    def _exhausted(self, after_s: float) -> Failed:
        logger.warning("%6.2fs ! %s max retries %d exceeded", after_s, self._ref, self._max_tries)
        return self.failed(JobExecutionFailed(f"max {self._max_tries} retries exceeded"))

    def _say_failed(self, error: BaseException) -> Failed:
        extra = {"extra": _extra_of(error)}
        words = (self._ran_s, self._ref, type(error).__name__, _shown(error, str))
        logger.error("%6.2fs ! %s failed, %s: %s", *words, exc_info=error, extra=extra)
        return self.failed(error)

    def _say_started(self) -> None:
        if not logger.isEnabledFor(logging.INFO):
            return
        more = f" try={self._job_try}" if self._job_try > 1 else ""
        late_ms = self._start_ms - self._score
        if late_ms > 1200:
            more += f" delayed={late_ms / 1000:0.2f}s"
        text = _shown((self._args, self._kwargs), lambda pair: args_to_string(*pair))
        logger.info("%6.2fs → %s(%s)%s", (self._start_ms - self._enqueue_ms) / 1000, self._ref, text, more)

    def _envelope(self, result: object, *, is_success: bool) -> bytes | None:
        worker = self.worker
        return serialize_result(
            *(self._name, self._args, self._kwargs, self._job_try, self._enqueue_ms, is_success, result),
            start_ms=self._start_ms,
            finished_ms=timestamp_ms(),
            ref=self._ref,
            queue_name=worker.queue_name,
            job_id=self.job_id,
            serializer=worker.job_serializer,
        )

    async def _end_hook(self, ctx: dict[Any, Any]) -> None:
        try:
            await call_hook(self.worker.on_job_end, ctx)
        except (Exception, asyncio.CancelledError):  # the job has ended, whatever its hook says
            logger.exception("on_job_end of %s failed", self._ref)

    @property
    def _ran_s(self) -> float:
        return (timestamp_ms() - self._start_ms) / 1000

    @property
    def _max_tries(self) -> int:
        own = None if self._function is None else self._function.max_tries
        return int(self.worker.max_tries if own is None else own)

    @property
    def _retries_exceptions(self) -> bool:
        """Whether somebody has said how often this is to be tried, and it was not tried so often yet."""
        own = None if self._function is None else self._function.max_tries
        is_set = own is not None or self.worker.is_max_tries_set
        return is_set and self._job_try < self._max_tries

    @property
    def _keep_ms(self) -> int:
        worker, function = self.worker, self._function
        for_ever = None if function is None else function.keep_result_forever
        if worker.keep_result_forever if for_ever is None else for_ever:
            return FOR_EVER_MS
        keep_s = None if function is None else function.keep_result_s
        return min(max(0, to_ms(worker.keep_result_s if keep_s is None else keep_s)), FOR_EVER_MS)


async def call_hook(hook: Callable[..., Any] | None, ctx: dict[Any, Any]) -> None:
    """Call a hook, if there is one; a plain ``def`` is fine too."""
    if hook is not None:
        answer = hook(ctx)
        if inspect.isawaitable(answer):
            await answer


def _shown(value: Any, show: Callable[[Any], str] = repr) -> str:
    """For a log line: somebody's ``__repr__`` that raises must not fail his job."""
    try:
        return show(value)
    except Exception as error:  # noqa: BLE001 - see above
        return f"<{type(value).__name__} that cannot be shown: {type(error).__name__}>"


def _extra_of(error: BaseException) -> object:
    extra = getattr(error, "extra", None)
    if not callable(extra):
        return extra
    with contextlib.suppress(Exception):  # it is only more about the error
        return extra()
    return None
