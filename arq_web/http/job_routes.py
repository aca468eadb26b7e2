"""The routes of a job: status, result, events, cancel; and, where the app wants them, the list and the dismissal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from arq_web.errors import InvalidOption, JobNotFound, StoreError
from arq_web.http import answers, events, listing, problems, result
from arq_web.http.answers import Answer
from arq_web.http.asked import Asked
from arq_web.http.events import EventStream
from arq_web.http.front import Front
from arq_web.http.paths import RouteName
from arq_web.http.waiting import TooManyWaiting
from arq_web.job import JobInfo
from arq_web.queue import Job

A = TypeVar("A")
Verb = Callable[[Asked], Awaitable[Answer | EventStream]]


@dataclass(frozen=True, slots=True)
class Route:
    """One route: its methods, and its path below the app's path of jobs."""

    name: RouteName
    methods: tuple[str, ...]
    path: str
    verb: Verb

    async def answer(self, asked: Asked) -> Answer | EventStream:
        """Answer a request; one for the head alone gets no body."""
        answer = await self.verb(asked)
        return answer.without_body() if asked.method == "HEAD" and isinstance(answer, Answer) else answer


class JobRoutes:
    """One method per route. Each raises only what the app's ``owner`` or ``authorize`` raises, or what is replayed."""

    def __init__(self, front: Front) -> None:
        self.front = front

    def table(self) -> list[Route]:
        """The routes that the app has."""
        look, one = ("GET", "HEAD"), "/{job_id}"
        routes = (
            Route("list", look, "", self.listing),
            Route("status", look, one, self.status),
            Route("result", look, one + "/result", self.result),
            Route("events", look, one + "/events", self.events),
            Route("cancel", ("POST",), one + "/cancel", self.cancel),
            Route("delete", ("DELETE",), one, self.dismiss),
        )
        return [route for route in routes if route.name in self.front.routes]

    async def status(self, asked: Asked) -> Answer:
        """``GET /jobs/{id}``: 200 while it exists; 304 for ``If-None-Match``; ``Prefer: wait=N`` waits for a change."""
        return await self._of_job(asked, self._status)

    async def result(self, asked: Asked) -> Answer:
        """``GET /jobs/{id}/result``: the handler's own answer; 202 with the status until there is one.

        ``Prefer: wait=N`` waits for it.
        """
        return await self._of_job(asked, self._result)

    async def events(self, asked: Asked) -> Answer | EventStream:
        """``GET /jobs/{id}/events``: what happens to the job, as it happens."""
        return await self._of_job(asked, self._events)

    async def cancel(self, asked: Asked) -> Answer:
        """``POST /jobs/{id}/cancel``: 200 when it has ended by this, 202 when that was asked for, 409 when too late."""
        return await self._of_job(asked, self._cancel)

    async def dismiss(self, asked: Asked) -> Answer:
        """``DELETE /jobs/{id}``: 204; the job is cancelled where it must be, and unknown from now on."""
        return await self._of_job(asked, self._dismiss)

    async def listing(self, asked: Asked) -> Answer:
        """``GET /jobs``: those that the caller may see, a page at a time."""
        return await _answered(listing.page(self.front, asked))

    async def _of_job(self, asked: Asked, answer: Callable[[Asked, Job[Any], JobInfo], Awaitable[A]]) -> A | Answer:
        """Find the job, if it is the caller's to see."""

        async def found() -> A | Answer:
            access = self.front.access
            looker = await access.looker(asked)
            try:
                if access.may_exist(asked.job_id):
                    job: Job[Any] = self.front.hub.queue(asked.queue).job(asked.job_id)
                    info = await job.info()
                    if not info.is_dismissed and await access.may_look(asked, info, looker):
                        return await answer(asked, job, info)
            except (JobNotFound, InvalidOption):
                pass  # gone meanwhile, or a queue that is not one of this app
            return problems.not_found(asked.job_id)

        return await _answered(found())

    async def _status(self, asked: Asked, job: Job[Any], info: JobInfo) -> Answer:
        etag, wait_s = answers.etag_of(info), self._wait_s(asked)
        is_news = "if-none-match" in asked.headers and not asked.has_seen(etag)
        if wait_s is not None and not is_news and not info.is_finished:
            info = await self.front.waiters.changed(job, etag, wait_s, asked.request.receive)
        if asked.has_seen(answers.etag_of(info)):
            return answers.not_modified(info).with_headers(_applied(wait_s))
        return (await self._shown(asked, job, info)).with_headers(_applied(wait_s))

    async def _result(self, asked: Asked, job: Job[Any], info: JobInfo) -> Answer:
        wait_s = self._wait_s(asked)
        if wait_s is not None and not info.is_finished:
            info = await self.front.waiters.ended(job, wait_s, asked.request.receive)
        if not info.is_finished:
            pending = answers.pending(info, self.front.paths(asked), detailed=self.front.is_detailed)
            return pending.with_headers(_applied(wait_s))
        return await result.replay(self.front, asked, job, info, _applied(wait_s))

    async def _events(self, asked: Asked, job: Job[Any], info: JobInfo) -> Answer | EventStream:
        return await events.open_stream(self.front, asked, job, info)

    async def _cancel(self, asked: Asked, job: Job[Any], info: JobInfo) -> Answer:
        word = await job.cancel()
        info = await job.info()
        if word == "finished":
            path = self.front.paths(asked).job(info.id, info.queue)
            return problems.already_finished(info.id, path, info.state.value)
        return await self._shown(asked, job, info, code=200 if word == "cancelled" else 202)

    async def _dismiss(self, asked: Asked, job: Job[Any], info: JobInfo) -> Answer:
        await job.dismiss()
        return answers.dismissed()

    async def _shown(self, asked: Asked, job: Job[Any], info: JobInfo, *, code: int = 200) -> Answer:
        shown = await result.inline(self.front, asked, job, info)
        paths, detailed = self.front.paths(asked), self.front.is_detailed
        return answers.status(info, paths, code=code, detailed=detailed, result=shown)

    def _wait_s(self, asked: Asked) -> int | None:
        """The wait that is granted, whole seconds; None when none was asked for."""
        asked_s = asked.prefer.wait_s
        return None if asked_s is None else min(asked_s, int(self.front.longest_wait_s))


async def _answered(answer: Awaitable[A | Answer]) -> A | Answer:
    """The answer, or why there is none now."""
    try:
        return await answer
    except StoreError as error:
        return problems.of_store(error)
    except TooManyWaiting as error:
        return problems.too_many_waiting(error.limit_count)


def _applied(wait_s: int | None) -> dict[str, str]:
    """``Preference-Applied`` (RFC 7240), with what was granted: the client sees where it was cut."""
    return {} if wait_s is None else {"preference-applied": f"wait={wait_s}"}
