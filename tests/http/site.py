"""What the suite talks to: the same app in both frameworks. Each test here runs on each; some ask both, byte for byte.

An app of either has these routes (``fastapi_site.py`` and ``litestar_site.py``), the tasks of the same names, and the
queues "default" and "emails". Each ``POST /X`` that is a job has a plain twin, ``POST /plain/X``, of the same function:
what that answers is what the job's result must be. These, and ``/hang``, let a client wait for 5 s (``max_wait``).

``/double/{number}``         a ``def`` that returns an int
``/greet``                   takes a ``Greeting``, returns a ``Greeted``
``/nothing``                 returns None, ``result_status=204``
``/refuse/{status}``         raises the framework's HTTPException: "no such image", with the header ``X-Why: gone``
``/crash``                   raises ``ValueError("broken pixel at 10.0.0.7")``
``/hang``                    runs until it is cancelled; no twin
``/step``                    reports progress 0.5, "half", and runs until ``Site.go_on`` is set; no twin
``/note``                    a job of the queue "emails"
``/unkept``                  ``keep_result=0``
``/order/{size}``            ``idempotency="required"``; query ``colour``, header ``X-Note``, body ``Greeting``; no twin
``/loose``                   ``idempotency="off"``
``/mine``                    no job: enqueues ``http.noted`` with the id ``order:1``, answers ``{"job": id}``
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx

from arq_web import Config, Hub, Job, JobState, task
from arq_web.http.front import Front
from tests.support.waiting import wait_until

ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass
class Greeting:
    name: str
    loud: bool = False


@dataclass
class Greeted:
    words: str
    length: int


@task(name="http.noted")
async def noted(text: str) -> str:
    return text


def greeted(greeting: Greeting) -> Greeted:
    words = f"Hello, {greeting.name}{'!' if greeting.loud else '.'}"
    return Greeted(words, len(words))


@dataclass
class Site:
    """One framework's app, and a client of it."""

    name: str
    app: ASGIApp
    hub: Hub
    front: Front
    client: httpx.AsyncClient = field(init=False)
    openapi_path: str
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://web")

    async def ask(self, method: str, url: str, **options: Any) -> httpx.Response:
        """One request."""
        return await self.client.request(method, url, **options)

    async def submit(self, url: str, **options: Any) -> httpx.Response:
        """A request that becomes a job."""
        response = await self.client.post(url, **options)
        assert response.status_code == 202, response.text
        return response

    def job(self, response: httpx.Response) -> Job[Any]:
        """The job of a 202."""
        return self.hub.queue(response.json()["queue"]).job(response.json()["id"])

    async def finished(self, url: str, **options: Any) -> httpx.Response:
        """A request that became a job, whose job has ended."""
        response = await self.submit(url, **options)
        await self.run()
        return response

    async def run(self) -> None:
        """Run what is queued, to its end."""
        await self.hub.worker(burst=True).run()

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """A worker of this app, on this loop."""
        worker = self.hub.worker(drain_s=1)
        running = asyncio.create_task(worker.run())
        try:
            yield
        finally:
            worker.stop()
            await running

    async def reach(self, response: httpx.Response, state: JobState) -> None:
        """Wait for a state of the job of a 202."""
        job = self.job(response)

        async def is_there() -> bool:
            return await job.status() is state

        await wait_until(is_there, description=f"the job is {state.value}")

    async def aclose(self) -> None:
        await self.client.aclose()
        await self.hub.aclose()


class BuildSite(Protocol):
    def __call__(self, *, url: str, config: Config, options: Mapping[str, Any]) -> Site:
        """A fresh app; ``options`` go to ``ArqWeb``."""
        ...


MakeSite = Callable[..., Site]
"""``make_site(**options)``: a fresh app with these options of ``ArqWeb``; closed after the test."""


def said(response: httpx.Response) -> tuple[int, MutableMapping[str, str], bytes]:
    """All of an answer: what must be the same in every framework."""
    return response.status_code, dict(response.headers), response.content


def slug(response: httpx.Response) -> str:
    """The type of a problem, without what all of them begin with."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    problem = response.json()
    assert problem["status"] == response.status_code
    assert problem["title"]
    assert problem["detail"]
    return str(problem["type"]).rpartition("/")[2]
