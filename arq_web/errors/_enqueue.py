"""Why a call was not enqueued."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from arq_web.errors._base import TWICE, ArqWebError


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
            return f"{mine}. Either two tasks share the name, or their module was imported {TWICE}."
        near = difflib.get_close_matches(self.name, self.known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return (
            f"No task named {self.name!r} is registered here.{hint} {len(self.known)} tasks are known; "
            "pass the module that defines it to ArqWeb(tasks=[...])."
        )
