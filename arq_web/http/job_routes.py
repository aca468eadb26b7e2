"""The routes of a job: status, result, events, cancel; and, where the app wants them, the list and the dismissal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from arq_web.errors import InvalidOption, JobNotFound, StoreFull, StoreUnavailable
from arq_web.http import answers, events, problems, result
from arq_web.http.answers import Answer
from arq_web.http.asked import Asked
from arq_web.http.events import EventStream
from arq_web.http.front import Front
from arq_web.http.waiting import TooManyWaiting
from arq_web.job import JobInfo
from arq_web.queue import Job

A = TypeVar("A")


class JobRoutes:
    """One method per route. Each raises only what the app's ``authorize`` raises, or an exception to be replayed."""

    def __init__(self, front: Front) -> None:
        self.front = front

    async def status(self, asked: Asked) -> Answer:
        """``GET /jobs/{id}``: 200 while it exists; 304 for ``If-None-Match``; ``Prefer: wait=N`` waits for a change."""
        return await self._of_job(asked, self._status)

    async def result(self, asked: Asked) -> Answer:
        """``GET /jobs/{id}/result``: the handler's own answer; 202 with the status until there is one."""
        return await self._of_job(asked, self._result)

    async def events(self, asked: Asked) -> Answer | EventStream:
        """``GET /jobs/{id}/events``: what happens to the job, as it happens."""
        return await self._of_job(asked, self._events)

    async def cancel(self, asked: Asked) -> Answer:
        """``POST /jobs/{id}/cancel``: 200 when it has ended by this, 202 when that was asked for, 409 when too late."""
        return await self._of_job(asked, self._cancel)

    async def _of_job(self, asked: Asked, answer: Callable[[Asked, Job[Any], JobInfo], Awaitable[A]]) -> A | Answer:
        """Find the job, if it is the caller's to see."""
        access = self.front.access
        try:
            if access.may_exist(asked.job_id):
                job: Job[Any] = self.front.hub.queue(asked.queue).job(asked.job_id)
                info = await job.info()
                if await access.may_look(asked, info):
                    return await answer(asked, job, info)
        except (JobNotFound, InvalidOption):
            pass  # an undeclared queue, or gone meanwhile
        except (StoreUnavailable, StoreFull):
            return problems.unavailable()
        except TooManyWaiting as error:
            return problems.too_many_waiting(error.limit_count)
        return problems.not_found(asked.job_id)

    async def _status(self, asked: Asked, job: Job[Any], info: JobInfo) -> Answer:
        return answers.status(info, self.front.paths(asked), detailed=self.front.hub.is_development)

    async def _result(self, asked: Asked, job: Job[Any], info: JobInfo) -> Answer:
        if not info.is_finished:
            return answers.status(info, self.front.paths(asked), code=202, detailed=self.front.hub.is_development)
        return await result.replay(self.front, asked, job, info, {})

    async def _events(self, asked: Asked, job: Job[Any], info: JobInfo) -> Answer | EventStream:
        return await events.open_stream(self.front, asked, job, info)

    async def _cancel(self, asked: Asked, job: Job[Any], info: JobInfo) -> Answer:
        word = await job.cancel()
        paths = self.front.paths(asked)
        if word == "finished":
            return problems.already_finished(info.id, paths.job(info.id, info.queue), info.state.value)
        code = 200 if word == "cancelled" else 202
        return answers.status(await job.info(), paths, code=code, detailed=self.front.hub.is_development)
