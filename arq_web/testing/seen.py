"""A job as a test sees it: read from the store, its arguments and result decoded by the task's own codec."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from arq_web.errors import UndecodablePayload, UndecodableResult
from arq_web.job import ErrorInfo, JobInfo, JobState, to_datetime
from arq_web.registry import Registry
from arq_web.store.store import NewJob
from arq_web.task import Task
from arq_web.testing.text import call_text, table

PARKED = frozenset({"unknown_task", "undecodable"})
"""Why a worker puts a job aside that it cannot run."""


@dataclass(frozen=True, slots=True)
class EnqueuedJob:
    """One job of the test, as it is now. Prints as its call: ``send_welcome(user_id=42)``."""

    id: str
    task: str
    queue: str
    args: tuple[object, ...]
    """As the worker gets them: decoded, of the types that the task's annotations say."""
    kwargs: Mapping[str, object]
    """What can only be given by name."""
    arguments: Mapping[str, object] = field(repr=False)
    """All arguments by the names of their parameters, defaults too."""
    state: JobState
    delay: timedelta
    """From the enqueue to the time asked for by ``delay=`` or ``at=``; zero for at once."""
    due_at: datetime | None
    """When it is to start (next); None when it waits for no time."""
    expires_at: datetime | None
    priority: int
    unique: str | None
    attempts: int
    failures: int
    crashes: int
    error: ErrorInfo | None
    """Of the last attempt, if that went wrong."""
    result: object = None
    """What the task returned, once it has succeeded."""
    enqueued_at: datetime = field(repr=False, kw_only=True)
    """Time that a test lets pass does not move it."""
    expires_in: timedelta | None = field(repr=False, kw_only=True)
    """From the enqueue to the time given by ``expires=``."""
    max_tries: int | None = field(repr=False, kw_only=True)
    """As its call says, or its task. None: its task is not registered."""
    timeout: timedelta | None = field(repr=False, kw_only=True)
    """As its call says, or its task; None: as the worker's configuration says."""
    keep_result: timedelta = field(repr=False, kw_only=True)
    owner: str | None = field(repr=False, kw_only=True)
    unreadable: str = field(repr=False, default="", kw_only=True)
    """Why the arguments could not be decoded; then they are shown as none."""

    def __str__(self) -> str:
        """Its call."""
        return f"{self.task}(<{self.unreadable}>)" if self.unreadable else call_text(self.task, self.arguments)

    @property
    def is_parked(self) -> bool:
        """True when no worker here can run it: its task is unknown, or its arguments are of another version."""
        return self.state is JobState.SCHEDULED and self.error is not None and self.error.reason in PARKED


@dataclass(frozen=True, slots=True)
class Asked:
    """What an enqueue asked for, as it was then: time that passes by command moves what is stored."""

    enqueued_at_ms: int
    delay_ms: int
    expires_in_ms: int | None

    @classmethod
    def by(cls, new: NewJob, now_ms: int) -> Asked:
        """Read what was sent, at the server's time."""
        return cls(now_ms, _ms_from_now(new.due, now_ms) or 0, _ms_from_now(new.expires, now_ms))

    @classmethod
    def as_stored(cls, info: JobInfo) -> Asked:
        """What can be said of a job of which nobody has noted it: a relay's."""
        delay_ms = info.due_at_ms - info.enqueued_at_ms if info.due_at_ms and not info.attempt else 0
        expires_in_ms = None if info.expires_at_ms is None else info.expires_at_ms - info.enqueued_at_ms
        return cls(info.enqueued_at_ms, delay_ms, expires_in_ms)


@dataclass(frozen=True, slots=True)
class RunSummary:
    """The jobs that had an attempt (or came to an end), as they are afterwards. Prints as a table."""

    jobs: tuple[EnqueuedJob, ...]

    def __getitem__(self, index: int) -> EnqueuedJob:
        """The job at that place."""
        return self.jobs[index]

    def __len__(self) -> int:
        """How many there are."""
        return len(self.jobs)

    def __iter__(self) -> Iterator[EnqueuedJob]:
        """One after the other, as they were enqueued."""
        return iter(self.jobs)

    def __str__(self) -> str:
        """A table."""
        return table(("job", "state", "attempts", "result or error"), [_summary_row(job) for job in self.jobs])


def bind(task: Task[..., Any], args: tuple[object, ...], kwargs: Mapping[str, object]) -> inspect.BoundArguments:
    """Arguments by the names of the task's parameters; some may be missing. Raises TypeError where they do not fit."""
    return task.codec.signature.bind_partial(*args, **kwargs)


def without_empty(task: Task[..., Any], arguments: Mapping[str, object]) -> dict[str, object]:
    """Leave out ``*args`` and ``**kwargs`` to which nothing was given."""
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    kinds = {name: parameter.kind for name, parameter in task.codec.signature.parameters.items()}
    return {name: value for name, value in arguments.items() if value or kinds[name] not in variadic}


def seen(info: JobInfo, registry: Registry, *, payload: bytes | None = None, asked: Asked | None = None) -> EnqueuedJob:
    """What a test is shown of a job.

    Args:
        info: as it is stored, with its payload.
        registry: the app's tasks.
        payload: the arguments as they were encoded, where that is known; else what is stored.
        asked: what was asked for, where that is known; else what is stored.
    """
    task = registry.find(info.task)
    args: tuple[object, ...] = ()
    kwargs: Mapping[str, object] = {}
    arguments: Mapping[str, object] = {}
    unreadable, result = "", None
    if task is None:
        unreadable = "no task of that name is registered"
    else:
        try:
            bound = bind(task, *task.codec.decode_call(payload or info.payload))
            args, kwargs = bound.args, bound.kwargs
            bound.apply_defaults()
            arguments = without_empty(task, bound.arguments)
            result = None if info.result is None else task.codec.decode_result(info.result)
        except (UndecodablePayload, UndecodableResult) as error:
            unreadable = str(error)
    asked = asked or Asked.as_stored(info)
    return EnqueuedJob(
        id=info.id,
        task=info.task,
        queue=info.queue,
        args=args,
        kwargs=kwargs,
        arguments=arguments,
        state=info.state,
        delay=timedelta(milliseconds=max(0, asked.delay_ms)),
        due_at=None if info.due_at_ms is None else to_datetime(info.due_at_ms),
        expires_at=None if info.expires_at_ms is None else to_datetime(info.expires_at_ms),
        priority=info.priority,
        unique=info.unique,
        attempts=info.attempt,
        failures=info.failures,
        crashes=info.crashes,
        error=info.error,
        result=result,
        enqueued_at=to_datetime(asked.enqueued_at_ms),
        expires_in=_timedelta(asked.expires_in_ms),
        max_tries=_whole(info.extra.get("max_tries")) or (task.policy.max_tries if task else None),
        timeout=_timedelta(_whole(info.extra.get("timeout_ms")) or (task.policy.timeout_ms if task else None)),
        keep_result=timedelta(milliseconds=_whole(info.extra.get("keep_ms")) or info.keep_result_ms),
        owner=info.owner,
        unreadable=unreadable,
    )


def _ms_from_now(moment: str, now_ms: int) -> int | None:
    """Of ``d<ms>`` (from now), ``a<ms>`` (at) or ``0`` (none)."""
    match moment[:1], moment[1:]:
        case "d", text:
            return int(text)
        case "a", text:
            return int(text) - now_ms
        case _:
            return None


def _timedelta(ms: int | None) -> timedelta | None:
    return None if ms is None else timedelta(milliseconds=ms)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _summary_row(job: EnqueuedJob) -> tuple[str, str, str, str]:
    error = f"{job.error.type}: {job.error.message}" if job.error else ""
    came_to = repr(job.result) if job.state is JobState.SUCCEEDED else error
    return str(job), job.state.value, str(job.attempts), came_to
