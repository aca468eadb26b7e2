"""Everything that arq_web raises, in one tree.

    ArqWebError
    ├── ConfigError                what you set up cannot work
    │   ├── InvalidConfig          a setting is outside its range
    │   ├── InvalidRedisUrl        the URL is not one we understand
    │   ├── NoRedisUrl             no Redis named, and none may be started here
    │   ├── MissingExtra           an optional dependency is not installed
    │   ├── ImportFailed           ``app-worker module:name`` found nothing to work for
    │   └── DevBrokerFailed        the development Redis did not start
    ├── DefinitionError            a task, route or schedule is not well defined
    │   ├── InvalidTask            a function that cannot be a task
    │   ├── DuplicateTask          two tasks under one name
    │   ├── InvalidMiddleware      a middleware did what none may
    │   ├── InvalidSchedule        a cron expression or period that means nothing
    │   └── InvalidRoute           a route that cannot become a job
    ├── EnqueueError               this call was not enqueued; nothing was written
    │   ├── InvalidArguments       the arguments do not fit the function
    │   ├── NotSerializable        an argument would not arrive as it was sent
    │   ├── PayloadTooLarge        the arguments are over the limit
    │   ├── InvalidHeaders         a middleware gave the job headers that cannot be
    │   ├── InvalidOption          an option of the call is outside its range
    │   ├── InvalidJobId           an id that cannot be one
    │   ├── JobIdConflict          the id belongs to a job of another task
    │   ├── QueueFull              as many jobs wait as may (``max_queued``)
    │   ├── IdempotencyKeyReused   a request's Idempotency-Key came with other values before
    │   ├── IdempotentJobGone      the job of an Idempotency-Key is gone, and its key is not
    │   ├── NothingToTieTo         there is no response, transaction or outbox here
    │   └── UnknownTask            no task of that name is registered
    ├── JobError                   what a job came to
    │   ├── JobNotFound            there is no such job (any more)
    │   ├── JobFailed              it is dead; carries the last error
    │   ├── JobCancelled           it was cancelled
    │   ├── JobExpired             it could not start in time
    │   └── ResultNotKept          it succeeded, but its result was not stored
    ├── CodecError                 bytes that are not what their type says
    │   ├── UndecodablePayload     a worker could not read a job's arguments
    │   ├── UnstorableResult       a task returned what cannot be stored
    │   └── UndecodableResult      a stored result is not of the expected type
    └── StoreError                 Redis said no, or nothing
        ├── StoreUnavailable       Redis did not answer in time
        ├── StoreRefused           Redis refused the connection's credentials
        ├── StoreFull              Redis has no memory left (``noeviction``)
        └── StoreCorrupt           a key of ours holds something that is not ours

    Retry, Snooze, DoNotRetry      raised *by* a task to say how its attempt ends

A message says what happened, why, and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection
from datetime import timedelta

_TWICE = "twice, as __main__ and by its own name: move the tasks into a module that is only imported"
_LONGEST_DELAY_S = 10 * 366 * 86_400


class ArqWebError(Exception):
    """Base of every error that arq_web raises."""


# -- configuration ------------------------------------------------------------------------


class ConfigError(ArqWebError):
    """What you set up cannot work."""


class InvalidConfig(ConfigError):
    """A setting is outside its range."""

    def __init__(self, field: str, value: object, allowed: str, env: str | None = None) -> None:
        self.field, self.value, self.allowed, self.env = field, value, allowed, env
        super().__init__(field, value, allowed, env)

    def __str__(self) -> str:
        source = f" (environment variable {self.env})" if self.env else ""
        return f"{self.field}={self.value!r}{source} is not valid: it must be {self.allowed}."


class InvalidRedisUrl(ConfigError):
    """The URL is not one we understand. Never shows the URL's credentials."""

    def __init__(self, masked_url: str, why: str) -> None:
        self.masked_url, self.why = masked_url, why
        super().__init__(masked_url, why)

    def __str__(self) -> str:
        return (
            f"{self.masked_url!r} is not a Redis URL: {self.why}. Use for example redis://host:6379/0, "
            "rediss://user:password@host:6379/0 (TLS), unix:///path/redis.sock?db=0, "
            "redis+sentinel://host:26379,host2:26379/mymaster/0 or redis+cluster://host:6379."
        )


class NoRedisUrl(ConfigError):
    """No Redis was named, and a private one may not be started here."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)

    def __str__(self) -> str:
        return (
            f"No Redis URL, and no private development Redis here: {self.why}. "
            "Set REDIS_URL (for example REDIS_URL=redis://localhost:6379/0) or pass url= to ArqWeb."
        )


class MissingExtra(ConfigError):
    """An optional dependency is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        self.feature, self.extra = feature, extra
        super().__init__(feature, extra)

    def __str__(self) -> str:
        return f"{self.feature} is not installed. Run: pip install 'arq-web[{self.extra}]'"


class ImportFailed(ConfigError):
    """``module:name`` led to nothing to work for."""

    def __init__(self, target: str, why: str) -> None:
        self.target, self.why = target, why
        super().__init__(target, why)

    def __str__(self) -> str:
        return (
            f"Cannot load {self.target!r}: {self.why}. Give the app as module:name, as for uvicorn "
            "(for example main:app), from the directory in which the module can be imported."
        )


class DevBrokerFailed(ConfigError):
    """The development Redis did not start."""

    def __init__(self, why: str, log_path: str) -> None:
        self.why, self.log_path = why, log_path
        super().__init__(why, log_path)

    def __str__(self) -> str:
        return (
            f"The private development Redis did not start: {self.why}. See {self.log_path}; "
            "or start a Redis yourself and set REDIS_URL."
        )


# -- definitions --------------------------------------------------------------------------


class DefinitionError(ArqWebError):
    """A task, route or schedule is not well defined."""


class InvalidTask(DefinitionError):
    """A function that cannot be a task."""

    def __init__(self, name: str, why: str, remedy: str) -> None:
        self.name, self.why, self.remedy = name, why, remedy
        super().__init__(name, why, remedy)

    def __str__(self) -> str:
        return f"{self.name!r} cannot be a task: {self.why}. {self.remedy}"


class DuplicateTask(DefinitionError):
    """Two tasks under one name (or alias)."""

    def __init__(self, name: str, first: str, second: str) -> None:
        self.name, self.first, self.second = name, first, second
        super().__init__(name, first, second)

    def __str__(self) -> str:
        if self.first == self.second:
            return f"{self.first} made {self.name!r} twice: its module was imported {_TWICE}."
        return (
            f"Two tasks are named {self.name!r}: {self.first} and {self.second}. "
            "A queued job carries only this name, so give one of them another: @task(name=...)."
        )


class InvalidMiddleware(DefinitionError):
    """A middleware did what none may."""

    def __init__(self, middleware: str, why: str, remedy: str) -> None:
        self.middleware, self.why, self.remedy = middleware, why, remedy
        super().__init__(middleware, why, remedy)

    def __str__(self) -> str:
        return f"The middleware {self.middleware} {self.why}. {self.remedy}"


class InvalidSchedule(DefinitionError):
    """A cron expression or period that means nothing."""

    def __init__(self, spec: str, why: str) -> None:
        self.spec, self.why = spec, why
        super().__init__(spec, why)

    def __str__(self) -> str:
        return (
            f"{self.spec!r} is not a schedule: {self.why}. "
            "Write five cron fields (minute hour day month weekday, for example '0 8 * * *'), six with seconds "
            "first, a word such as '@daily', or every(timedelta(...))."
        )


class InvalidRoute(DefinitionError):
    """A route that cannot become a job."""

    def __init__(self, route: str, why: str, remedy: str, parameter: str | None = None) -> None:
        self.route, self.why, self.remedy, self.parameter = route, why, remedy, parameter
        super().__init__(route, why, remedy, parameter)

    def __str__(self) -> str:
        where = f"parameter {self.parameter!r} of {self.route!r}" if self.parameter else f"{self.route!r}"
        return f"{where} cannot be part of a background job: {self.why}. {self.remedy}"


# -- enqueue ------------------------------------------------------------------------------


class EnqueueError(ArqWebError):
    """This call was not enqueued; nothing was written."""


class InvalidArguments(EnqueueError):
    """The arguments do not fit the task's signature."""

    def __init__(self, task: str, why: str, signature: str) -> None:
        self.task, self.why, self.signature = task, why, signature
        super().__init__(task, why, signature)

    def __str__(self) -> str:
        return f"{self.task!r} cannot be called like this: {self.why}. Its signature is {self.task}{self.signature}."


class NotSerializable(EnqueueError):
    """An argument would not arrive in the worker as it was sent."""

    def __init__(self, task: str, argument: str, why: str, remedy: str) -> None:
        self.task, self.argument, self.why, self.remedy = task, argument, why, remedy
        super().__init__(task, argument, why, remedy)

    def __str__(self) -> str:
        return f"Argument {self.argument!r} of {self.task!r} cannot travel to a worker: {self.why}. {self.remedy}"


class PayloadTooLarge(EnqueueError):
    """The encoded arguments are over the limit."""

    def __init__(self, task: str, size_bytes: int, limit_bytes: int) -> None:
        self.task, self.size_bytes, self.limit_bytes = task, size_bytes, limit_bytes
        super().__init__(task, size_bytes, limit_bytes)

    def __str__(self) -> str:
        return (
            f"The arguments of {self.task!r} are {self.size_bytes:,} bytes; the limit is {self.limit_bytes:,}. "
            "Store large data elsewhere and pass its key, or raise max_payload_bytes (ARQ_WEB_MAX_PAYLOAD_BYTES)."
        )


class InvalidHeaders(EnqueueError):
    """A middleware gave the job headers that cannot be."""

    def __init__(self, task: str, why: str) -> None:
        self.task, self.why = task, why
        super().__init__(task, why)

    def __str__(self) -> str:
        return (
            f"The headers of this job of {self.task!r} cannot be stored: {self.why}. "
            "They are a dict of str to str, of 4 KiB in all: put names and ids there, and data into the arguments."
        )


class InvalidOption(EnqueueError):
    """An option of the call is outside its range."""

    def __init__(self, option: str, value: object, allowed: str) -> None:
        self.option, self.value, self.allowed = option, value, allowed
        super().__init__(option, value, allowed)

    def __str__(self) -> str:
        return f"options({self.option}={self.value!r}) is not valid: it must be {self.allowed}."


class InvalidJobId(EnqueueError):
    """An id (or unique key) that cannot be one."""

    def __init__(self, value: object, what: str = "job id") -> None:
        self.value, self.what = value, what
        super().__init__(value, what)

    def __str__(self) -> str:
        return (
            f"{self.value!r} cannot be a {self.what}: use 1 to 128 of the characters A-Z a-z 0-9 . _ : @ - "
            "(an id is part of a URL and of a Redis key)."
        )


class JobIdConflict(EnqueueError):
    """The id belongs to a job of another task."""

    def __init__(self, job_id: str, task: str, existing_task: str) -> None:
        self.job_id, self.task, self.existing_task = job_id, task, existing_task
        super().__init__(job_id, task, existing_task)

    def __str__(self) -> str:
        return (
            f"Job {self.job_id!r} exists already and runs {self.existing_task!r}, not {self.task!r}. "
            "Put the task's purpose into the id (for example 'welcome:42'), or let arq_web choose it."
        )


class QueueFull(EnqueueError):
    """As many jobs wait for a worker as may."""

    def __init__(self, queue: str, waiting: int, max_queued: int) -> None:
        self.queue, self.waiting, self.max_queued = queue, waiting, max_queued
        super().__init__(queue, waiting, max_queued)

    def __str__(self) -> str:
        return (
            f"Queue {self.queue!r} is full: {self.waiting:,} jobs wait for a worker, and max_queued is "
            f"{self.max_queued:,}. Try again later, start more workers, or raise the limit (ARQ_WEB_MAX_QUEUED, "
            "ArqWeb(max_queued=...))."
        )


class IdempotencyKeyReused(EnqueueError):
    """A request's Idempotency-Key came with other values before; ``job_id`` is the job that these made."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(job_id)

    def __str__(self) -> str:
        return (
            f"This Idempotency-Key was used for a request with other values, which became job {self.job_id!r}. "
            "Use a new key for each new request, and the same one only to repeat a request."
        )


class IdempotentJobGone(EnqueueError):
    """A request's Idempotency-Key made ``job_id``, whose record is gone: what became of it is not known any more."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(job_id)

    def __str__(self) -> str:
        return (
            f"This request became job {self.job_id!r}, which has ended, and the time for which it was kept has passed. "
            "It is not run again; use a new Idempotency-Key to ask for it anew, or keep results longer (keep_result)."
        )


class NothingToTieTo(EnqueueError):
    """What an enqueue was to wait for (``what``: after_response, after_commit, outbox) is not there."""

    def __init__(self, what: str, why: str, remedy: str) -> None:
        self.what, self.why, self.remedy = what, why, remedy
        super().__init__(what, why, remedy)

    def __str__(self) -> str:
        return f"queue.{self.what} has nothing to tie a job to: {self.why}. {self.remedy}"


class UnknownTask(EnqueueError):
    """No task of that name is registered; or another one is, at ``other``."""

    def __init__(self, name: str, known: Collection[str], other: str = "") -> None:
        self.name, self.known, self.other = name, sorted(known), other
        super().__init__(name, self.known, other)

    def __str__(self) -> str:
        if self.other:
            mine = f"This {self.name!r} is not the task that is registered here under its name ({self.other})"
            return f"{mine}. Either two tasks share the name, or their module was imported {_TWICE}."
        near = difflib.get_close_matches(self.name, self.known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return (
            f"No task named {self.name!r} is registered here.{hint} {len(self.known)} tasks are known; "
            "pass the module that defines it to ArqWeb(tasks=[...])."
        )


# -- jobs ---------------------------------------------------------------------------------


class JobError(ArqWebError):
    """What a job came to. ``job_id`` names it."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(job_id)


class JobNotFound(JobError):
    """There is no such job (any more)."""

    def __str__(self) -> str:
        return (
            f"There is no job {self.job_id!r} in this queue: it never was, it is in another queue, "
            "or the time for which it was kept has passed (keep_result)."
        )


class JobFailed(JobError):
    """The job is dead. ``error_type``, ``message`` and ``traceback`` are those of its last attempt."""

    def __init__(self, job_id: str, error_type: str, message: str, traceback: str = "", reason: str = "failed") -> None:
        super().__init__(job_id)
        self.error_type, self.message, self.traceback, self.reason = error_type, message, traceback, reason
        self.args = (job_id, error_type, message, traceback, reason)

    def __str__(self) -> str:
        return f"Job {self.job_id!r} is dead ({self.reason}): {self.error_type}: {self.message}"


class JobCancelled(JobError):
    """The job was cancelled."""

    def __str__(self) -> str:
        return f"Job {self.job_id!r} was cancelled."


class JobExpired(JobError):
    """The job could not start in time (``expires=``)."""

    def __str__(self) -> str:
        return f"Job {self.job_id!r} expired: no worker started it before its expires= time."


class ResultNotKept(JobError):
    """The job succeeded, but its result was not stored."""

    def __str__(self) -> str:
        return f"Job {self.job_id!r} succeeded; its result was not kept (keep_result=0)."


# -- codec --------------------------------------------------------------------------------


class CodecError(ArqWebError):
    """Bytes that are not what their type says."""

    def __init__(self, task: str, why: str) -> None:
        self.task, self.why = task, why
        super().__init__(task, why)


class UndecodablePayload(CodecError):
    """A worker could not read a job's arguments: another version of the task, or not ours."""

    def __str__(self) -> str:
        return (
            f"The stored arguments of {self.task!r} do not fit its signature here: {self.why}. "
            "A newer version of the code may have enqueued it."
        )


class UnstorableResult(CodecError):
    """A task returned what cannot be stored."""

    def __str__(self) -> str:
        return (
            f"The result of {self.task!r} cannot be stored: {self.why}. Return a value that fits the return "
            "annotation, or keep no result: @task(keep_result=0)."
        )


class UndecodableResult(CodecError):
    """A stored result is not of the expected type."""

    def __str__(self) -> str:
        return f"The stored result of {self.task!r} does not fit its return annotation here: {self.why}."


# -- store --------------------------------------------------------------------------------


class StoreError(ArqWebError):
    """Redis said no, or nothing. ``address`` never contains credentials."""

    def __init__(self, address: str, why: str) -> None:
        self.address, self.why = address, why
        super().__init__(address, why)


class StoreUnavailable(StoreError):
    """Redis did not answer in time. Sending the same thing again is safe."""

    def __str__(self) -> str:
        return (
            f"Redis at {self.address} did not answer: {self.why}. It may or may not have received the command; "
            "sending it again is safe. Check that it runs and that this host can reach it."
        )


class StoreRefused(StoreError):
    """Redis refused the connection's credentials or rights."""

    def __str__(self) -> str:
        return (
            f"Redis at {self.address} refused us: {self.why}. Check user name and password in the URL "
            "(percent-encode special characters) and the ACL of that user."
        )


class StoreFull(StoreError):
    """Redis has no memory left (``maxmemory`` with ``noeviction``)."""

    def __str__(self) -> str:
        return (
            f"Redis at {self.address} is full: {self.why}. Nothing was enqueued. Raise maxmemory, or let the "
            "workers drain the queue first."
        )


class StoreCorrupt(StoreError):
    """A key of ours holds something that is not ours, or a script failed on it."""

    def __str__(self) -> str:
        return (
            f"A key of arq_web in Redis at {self.address} is not what it should be: {self.why}. "
            "Another program may write into this namespace; give each app its own (namespace=, ARQ_WEB_NAMESPACE)."
        )


# -- raised by tasks ----------------------------------------------------------------------


class Retry(Exception):
    """Raise in a task: run this job again. Spends one failure; dead when ``max_tries`` is reached.

    Args:
        delay: how long to wait, seconds or timedelta; None lets the task's retry policy choose.
        reason: shown in the job's record and in the log.

    Raises:
        ValueError: the delay is not a finite time.
    """

    def __init__(self, reason: str = "", *, delay: timedelta | float | None = None) -> None:
        if delay is not None:
            _check_delay(delay)
        self.delay, self.reason = delay, reason
        super().__init__(reason)


class Snooze(Exception):
    """Raise in a task: run this job again later. Spends nothing.

    Args:
        delay: how long to wait, seconds or timedelta.
        reason: shown in the job's record and in the log.

    Raises:
        ValueError: the delay is not a finite time.
    """

    def __init__(self, reason: str = "", *, delay: timedelta | float) -> None:
        _check_delay(delay)
        self.delay, self.reason = delay, reason
        super().__init__(reason)


class DoNotRetry(Exception):
    """Raise in a task (or derive from it): the job is dead at once, whatever tries are left."""


def _check_delay(delay: object) -> None:
    delay_s = delay.total_seconds() if isinstance(delay, timedelta) else delay
    # nan is within no range. A delay that has passed already (a negative one) means: at once.
    if not isinstance(delay_s, (int, float)) or not abs(delay_s) <= _LONGEST_DELAY_S:
        raise ValueError(f"delay={delay!r} is not a delay: give seconds or a timedelta, at most ten years.")
