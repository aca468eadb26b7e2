"""The job handle: look, wait, cancel, redrive."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

from arq_web.config import seconds
from arq_web.errors import JobCancelled, JobExpired, JobFailed, JobNotFound, ResultNotKept, UnknownTask
from arq_web.job import JobInfo, JobState
from arq_web.task import Task

if TYPE_CHECKING:
    from arq_web.queue import Queue

R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True, eq=False)
class Job(Generic[R_co]):
    """A handle: the job's id and queue, and what one can ask of it."""

    queue: Queue = field(repr=False)
    id: str
    task: Task[..., R_co] | None = field(repr=False)
    """None when only the record can say it: then the result is read by the app's task of that name."""
    created: bool = True
    """False when the job existed already."""
    _asked: Task[..., R_co] | None = field(repr=False, default=None)
    """What was enqueued, when a job of another id answered: its unique key may be held by another task."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and (self.id, self.queue.name) == (other.id, other.queue.name)

    def __hash__(self) -> int:
        return hash((self.id, self.queue.name))

    async def info(self, *, with_payload: bool = False) -> JobInfo:
        """One look at everything that is known of it.

        Raises:
            JobNotFound: it is gone, or never was.
        """
        info = await self.queue.store.read(self.id, with_payload=with_payload)
        if info is None:
            raise JobNotFound(self.id)
        return info

    async def status(self) -> JobState:
        """Where it is now.

        Raises:
            JobNotFound: it is gone, or never was.
        """
        return (await self.info()).state

    async def result(self, timeout: timedelta | float | None = None) -> R_co:
        """Wait for its end by push, and return what the task returned.

        Args:
            timeout: seconds or timedelta; None waits for ever. The job goes on either way.

        Raises:
            JobFailed, JobCancelled, JobExpired: how else it ended.
            ResultNotKept: it succeeded with ``keep_result=0``.
            JobNotFound: it is gone, or never was.
            TimeoutError: it has not ended in time.
            UndecodableResult: the stored result does not fit the task's return annotation.
        """
        limit_s = None if timeout is None else seconds(timeout)
        async with asyncio.timeout(limit_s):
            info = await self.queue.queues.watcher().wait(self.queue.store, self.id)
        return self.outcome(info)

    def outcome(self, info: JobInfo | None) -> R_co:
        """The result that ``info`` (of a finished job) holds, or the error that says how else it ended."""
        if info is None:
            raise JobNotFound(self.id)
        if info.state is JobState.CANCELLED:
            raise JobCancelled(self.id)
        if info.state is JobState.EXPIRED:
            raise JobExpired(self.id)
        if info.state is JobState.DEAD:
            error = info.error
            if error is None:
                raise JobFailed(self.id, "Unknown", "no error was stored")
            raise JobFailed(self.id, error.type, error.message, error.traceback, error.reason)
        if info.result is None:
            raise ResultNotKept(self.id)
        return cast("R_co", self._task_of(info).codec.decode_result(info.result))

    async def cancel(self) -> Literal["cancelled", "requested", "finished"]:
        """End it if it waits; ask for its end if it runs (its worker hears of it within a second or so).

        Raises:
            JobNotFound: it is gone, or never was.
        """
        word = await self.queue.store.cancel(self.id)
        if word == "absent":
            raise JobNotFound(self.id)
        return cast("Literal['cancelled', 'requested', 'finished']", word)

    async def dismiss(self) -> Literal["dismissed", "requested"]:
        """Take it out of sight: cancelled if it waits, asked to end if it runs. Over HTTP it is unknown from now on.

        Its record goes a minute after its end, its result and error at once.

        Raises:
            JobNotFound: it is gone, or never was.
        """
        word = await self.queue.store.dismiss(self.id)
        if word == "absent":
            raise JobNotFound(self.id)
        return cast("Literal['dismissed', 'requested']", word)

    async def redrive(self) -> Literal["redriven", "live", "succeeded", "held"]:
        """Put a dead, cancelled or expired job back into its queue, with fresh counters.

        Returns:
            ``live`` when it has not ended, ``succeeded`` when there is nothing to do again, ``held`` when its unique
            key belongs to another live job.

        Raises:
            JobNotFound: it is gone, or never was.
        """
        word = await self.queue.store.redrive(self.id, "R" + secrets.token_urlsafe(8))
        if word == "absent":
            raise JobNotFound(self.id)
        return cast("Literal['redriven', 'live', 'succeeded', 'held']", word)

    def _task_of(self, info: JobInfo) -> Task[..., Any]:
        if self.task is not None:
            return self.task
        if self._asked is not None and info.task in (self._asked.name, *self._asked.aliases):
            return self._asked
        registry = self.queue.queues.registry
        found = registry.find(info.task) if registry is not None else None
        if found is None:
            raise UnknownTask(info.task, [task.name for task in registry or ()])
        return found
