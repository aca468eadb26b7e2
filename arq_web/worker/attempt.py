"""Runs one attempt of a job and says how it ended. No Redis in here (but what the task itself asks for)."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import anyio.to_thread
import msgspec
from anyio import CapacityLimiter

from arq_web.context import JobContext
from arq_web.errors import InvalidMiddleware, StoreError, UndecodablePayload, UnknownTask, UnstorableResult
from arq_web.job import ErrorInfo, ProgressInfo
from arq_web.log_context import bind_job
from arq_web.middleware import AttemptMiddleware, CallNext, IncomingJob, Selective, StopWord, beside, name_of, outside
from arq_web.progress import Progress
from arq_web.queue import Queue
from arq_web.registry import Registry
from arq_web.store.record import ClaimedJob, Note, ProgressNote, encode_note
from arq_web.store.store import Settlement
from arq_web.sync_queue import SyncQueue
from arq_web.task import Task
from arq_web.worker.deadlines import Deadline, Deadlines, current_task
from arq_web.worker.outcome import (
    Cancelled,
    Failed,
    Interrupted,
    Outcome,
    Parked,
    Succeeded,
    Superseded,
    error_info,
    outcome_of_error,
    storable,
    timed_out,
)
from arq_web.worker.report import report_end
from arq_web.worker.running import Running, StopReason

_NO_HEADERS: Mapping[str, str] = {}
OWN_KINDS = frozenset({"context", "progress", "queue", "sync_queue"})
"""What the engine itself fills in; everything else is the framework's (a Resolver's)."""


class Resolver(Protocol):
    """A framework's part in an attempt: its own dependencies, and what its exceptions mean."""

    def resolve(self, task: Task[..., Any], ctx: JobContext) -> AbstractAsyncContextManager[Mapping[str, object]]:
        """The values of the task's parameters that are the framework's to fill in; cleaned up when the block ends."""
        ...

    def describe(self, error: BaseException) -> dict[str, object] | None:
        """What to store of an exception beside type and message (an HTTPException's status), or None."""
        ...


class Runner(Protocol):
    """Runs attempts: the tasks of an app (AttemptRunner), or what another API understands by a job."""

    def timeout_s(self, job: ClaimedJob) -> float:
        """Seconds that one attempt of this job may take."""
        ...

    def max_tries(self, job: ClaimedJob) -> int:
        """Attempts of this job that may end in a failure, the first included."""
        ...

    async def run(self, running: Running, limits: AttemptLimits) -> Outcome:
        """One attempt, from stored arguments to outcome. Raises only where it was cancelled before it began."""
        ...

    def ended(self, running: Running, outcome: Outcome, settlement: Settlement) -> None:
        """Redis has recorded this end: write the line, tell who must know."""
        ...


class AttemptLimits(msgspec.Struct, frozen=True, gc=False):
    """What an attempt may take."""

    timeout_s: float
    max_result_bytes: int


class AttemptRunner:
    """Runs attempts of the tasks of one app. Stateless between attempts."""

    def __init__(
        self,
        registry: Registry,
        queue_of: Callable[[str], Queue],
        *,
        worker: str,
        threads: int,
        resolver: Resolver | None = None,
        timeout_s: float = 300.0,
        middleware: Sequence[AttemptMiddleware] = (),
    ) -> None:
        """Know the tasks; run nothing yet.

        Args:
            registry: the app's tasks.
            queue_of: queue name → queue, for tasks that ask for one.
            worker: the worker's id, for the job's context.
            threads: ``def`` tasks at the same time.
            resolver: the framework's part, if there is one.
            timeout_s: of an attempt, where neither call nor task names one.
            middleware: what stands around each attempt; the first is the outermost.
        """
        self._layered = _chain(middleware)
        self._lone = middleware[0] if len(middleware) == 1 and isinstance(middleware[0], Selective) else None
        self.registry = registry
        self._default_timeout_s = timeout_s
        self._queue_of, self._worker, self._resolver = queue_of, worker, resolver
        self._threads = threads
        self._limiter: CapacityLimiter | None = None  # made on the loop that uses it, as the deadlines are
        self._deadlines: Deadlines | None = None

    def timeout_s(self, job: ClaimedJob) -> float:
        """Seconds that one attempt of this job may take: the call's own option, or the task's policy."""
        own, task = job.extra.get("timeout_ms"), self.registry.find(job.task)
        if isinstance(own, int):
            return own / 1000
        if task is not None and task.policy.timeout_ms is not None:
            return task.policy.timeout_ms / 1000
        return self._default_timeout_s

    def max_tries(self, job: ClaimedJob) -> int:
        """Attempts of this job that may end in a failure: the call's own option, or the task's policy."""
        return _max_tries_of(self.registry.find(job.task), job)

    def ended(self, running: Running, outcome: Outcome, settlement: Settlement) -> None:
        """The one line at the end of an attempt."""
        report_end(running, outcome, settlement, self._worker, self.registry.find(running.job.task))

    async def run(self, running: Running, limits: AttemptLimits) -> Outcome:
        """One attempt, from stored arguments to outcome. Never raises but when the loop itself is cancelled."""
        job = running.job
        bind_job(job)
        if job.cancel_requested:
            return Cancelled()
        task = self.registry.find(job.task)
        if task is None:
            unknown = UnknownTask(job.task, [known.name for known in self.registry])
            return Parked(error_info(unknown, "unknown_task"))
        self._deadlines = self._deadlines or Deadlines()
        deadline = self._deadlines.begin(running.task or current_task(), limits.timeout_s)
        try:
            value = await self._work(task, running, deadline)
        except _Undecodable as error:
            return Parked(error_info(error.__cause__ or error, "undecodable"))
        except (asyncio.CancelledError, TimeoutError) as error:  # some libraries make the one of the other
            if deadline.has_passed and running.reason is None:
                deadline.task.uncancel()
                return timed_out(task, job, int(limits.timeout_s * 1000))
            if isinstance(error, TimeoutError):
                return self._failed(error, task, job)
            return _outcome_of_cancellation(error, running, task)
        except GeneratorExit:  # the loop is torn down under us
            raise
        except BaseException as error:  # noqa: BLE001 - whatever a task raises is its outcome, sys.exit() too
            return self._failed(error, task, job)
        finally:
            self._deadlines.end(deadline)
        if running.progress is not None:
            running.progress.close()
        return _succeeded(task, value, limits.max_result_bytes)

    def _work(self, task: Task[..., Any], running: Running, deadline: Deadline) -> Awaitable[object]:
        """The task's value, or that of the layers around it. No ``async def`` here and below: they would be frames."""
        job, lone = running.job, self._lone
        if self._layered is None or (lone is not None and lone.passes_by(job.headers if job.extra else _NO_HEADERS)):
            return self._call_with(job.payload, task, running)
        return self._layered(self._incoming(task, running, deadline))

    def _call_with(self, payload: bytes, task: Task[..., Any], running: Running) -> Awaitable[object]:
        try:
            args, kwargs = task.codec.decode_call(payload)
        except UndecodablePayload as error:
            raise _Undecodable(*error.args) from error
        return (self._inject if task.injected else self._invoke)(task, running, args, kwargs)

    def _incoming(self, task: Task[..., Any], running: Running, deadline: Deadline) -> IncomingJob:
        job = running.job

        def stopped_by() -> StopWord | None:
            if running.reason is not None:
                return running.reason.value
            return "timeout" if deadline.has_passed else None

        def call_task(incoming: IncomingJob) -> Awaitable[object]:
            return self._call_with(incoming.payload, task, running)

        # By position, for this is done for each job; in the order of the class.
        return IncomingJob(
            job.id,
            task.name,
            job.queue,
            job.attempt,
            job.failures,
            job.crashes,
            _max_tries_of(task, job),
            job.enqueued_at_ms,
            job.claimed_at_ms,
            self._worker,
            job.headers,
            job.payload,
            stopped_by,
            call_task,
        )

    async def _inject(
        self, task: Task[..., Any], running: Running, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> object:
        ctx = self._context(task, running)
        filled = {name: self._own(kind, ctx, running) for name, kind in task.injected.items() if kind in OWN_KINDS}
        if len(filled) == len(task.injected):
            args, kwargs = task.codec.place(args, kwargs, filled)
            return await self._invoke(task, running, args, kwargs)
        if self._resolver is None:
            raise RuntimeError(
                f"{task.name!r} has parameters that only its web app can fill in; run the app's own worker"
            )
        async with self._resolver.resolve(task, ctx) as values:
            args, kwargs = task.codec.place(args, kwargs, {**filled, **values})
            return await self._invoke(task, running, args, kwargs)

    def _invoke(
        self, task: Task[..., Any], running: Running, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> Awaitable[object]:
        if task.is_async:
            return task.fn(*args, **kwargs)  # type: ignore[return-value]
        return self._in_thread(functools.partial(task.fn, *args, **kwargs), running)

    async def _in_thread(self, call: Callable[[], object], running: Running) -> object:
        """Run a ``def``. A thread cannot be stopped: at a cancellation it is asked, and waited for."""
        running.in_thread = True
        self._limiter = self._limiter or CapacityLimiter(self._threads)
        stop = running.stop = running.stop or threading.Event()
        without_exit = functools.partial(_without_exit, call, running)
        inner = asyncio.ensure_future(anyio.to_thread.run_sync(without_exit, limiter=self._limiter))
        cancelled: asyncio.CancelledError | None = None
        while not inner.done():
            try:
                await asyncio.shield(inner)
            except asyncio.CancelledError as error:
                if inner.cancelled():
                    raise
                cancelled = error
                stop.set()
            except BaseException:  # noqa: BLE001 - the thread's own error: raised below, where its result is read
                break
        if cancelled is not None:
            inner.exception()  # what it came to after that is nobody's any more
            raise cancelled
        value = inner.result()
        if isinstance(value, _Exit):
            raise value.error
        return value

    def _context(self, task: Task[..., Any], running: Running) -> JobContext:
        job = running.job
        running.stop = running.stop or threading.Event()
        return JobContext(
            job_id=job.id,
            task=task.name,
            queue=job.queue,
            attempt=job.attempt,
            failures=job.failures,
            crashes=job.crashes,
            max_tries=_max_tries_of(task, job),
            enqueued_at_ms=job.enqueued_at_ms,
            worker=self._worker,
            _stop=running.stop,
            headers=job.headers,
        )

    def _own(self, kind: str, ctx: JobContext, running: Running) -> object:
        if kind == "context":
            return ctx
        if kind == "progress":
            running.progress = Progress(functools.partial(_report, running))
            return running.progress
        queue = self._queue_of(running.job.queue)
        return queue if kind == "queue" else SyncQueue(queue, asyncio.get_running_loop())

    def _failed(self, error: BaseException, task: Task[..., Any], job: ClaimedJob) -> Outcome:
        data: dict[str, object] | None = None
        if self._resolver is not None:
            with contextlib.suppress(Exception):  # it is only more about the error
                data = self._resolver.describe(error)
        return outcome_of_error(error, task, job, data)


def _chain(middleware: Sequence[AttemptMiddleware]) -> CallNext[IncomingJob] | None:
    """All layers as one function; None where there are none. A single one has been asked whether it passes by."""
    if not middleware:
        return None
    chain: CallNext[IncomingJob] = functools.partial(_call_task, " or ".join(map(name_of, middleware)))
    for layer in reversed(middleware):
        within, chain = chain, outside(layer, chain)
        if isinstance(layer, Selective) and len(middleware) > 1:
            chain = beside(layer, chain, within)
    return chain


def _call_task(layers: str, job: IncomingJob) -> Awaitable[object]:
    """What stands inside of all ``layers``.

    Raises:
        InvalidMiddleware: one of them has passed on something else than it was given.
    """
    call_task = job.call_task if isinstance(job, IncomingJob) else None  # whatever a layer has passed on
    if call_task is None:
        why = f"called call_next with {type(job).__name__} of its own making"
        raise InvalidMiddleware(layers, why, "Pass on the job that you were given; its headers and payload may change.")
    return call_task(job)


def lost_child(reason: str) -> ErrorInfo:
    """What is stored of a child process that died."""
    return ErrorInfo("ChildProcessDied", reason, reason="crashed")


def _max_tries_of(task: Task[..., Any] | None, job: ClaimedJob) -> int:
    own = job.extra.get("max_tries")
    if isinstance(own, int):
        return own
    return task.policy.max_tries if task is not None else 1


class _Undecodable(UndecodablePayload):
    """Said by us of the job's own arguments: the task may raise its base of something else."""


@dataclass(frozen=True, slots=True)
class _Exit:
    """A thread's ``sys.exit()``: as an exception of an asyncio task it would end the whole worker."""

    error: SystemExit | KeyboardInterrupt


def _without_exit(call: Callable[[], object], running: Running) -> object:
    try:
        return call()
    except (SystemExit, KeyboardInterrupt) as error:
        return _Exit(error)
    finally:
        running.has_returned = True


async def _report(running: Running, said: ProgressInfo) -> None:
    """Store progress beside what was noted before (the last error). A superseded attempt's report is dropped.

    So is one that Redis does not take: a hint must not cost an attempt.
    """
    job = running.job
    before = job.note
    progress = ProgressNote(said.fraction, storable(said.message), job.attempt, said.current, said.total, said.eta_s)
    note = Note(before.reason, before.type, before.message, before.traceback, before.since_ms, progress)
    with contextlib.suppress(StoreError):
        await running.store.progress(job.id, job.attempt, job.token, encode_note(note))


def ended_early(reason: StopReason | None) -> Outcome:
    """What becomes of an attempt that was told to end before its time; without a reason the worker stops."""
    match reason:
        case StopReason.CANCEL:
            return Cancelled()
        case StopReason.LEASE_LOST:
            return Superseded()
        case _:
            return Interrupted()


def _outcome_of_cancellation(error: asyncio.CancelledError, running: Running, task: Task[..., Any]) -> Outcome:
    if running.reason is None:  # nobody asked for it: the task (or a library in it) raised it, and that is a failure
        return outcome_of_error(error, task, running.job, None)
    return ended_early(running.reason)


def _succeeded(task: Task[..., Any], value: object, max_result_bytes: int) -> Outcome:
    try:
        body = task.codec.encode_result(value)
    except UnstorableResult as error:
        return Failed(error_info(error, "unstorable_result"), None)
    if len(body) > max_result_bytes:
        why = f"it takes {len(body):,} bytes; the limit is {max_result_bytes:,} (max_payload_bytes)"
        return Failed(error_info(UnstorableResult(task.name, why), "unstorable_result"), None)
    return Succeeded(body)
