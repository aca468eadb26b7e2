"""``ArqWeb(app)``: background jobs for a FastAPI application."""

from __future__ import annotations

import functools
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response

from arq_web.config import Config, EmbeddedMode
from arq_web.errors import InvalidConfig
from arq_web.http import status
from arq_web.hub import Hub, calling_directory
from arq_web.queue import DEFAULT_QUEUE
from arq_web.registry import TaskSource
from arq_web.schedule import Schedule
from arq_web_fastapi.checks import collect_routes
from arq_web_fastapi.depends import STATE, hub_of
from arq_web_fastapi.openapi import content_of, document_jobs, problem
from arq_web_fastapi.resolver import FastAPIResolver
from arq_web_fastapi.routes import JOBS_PATH_STATE

DEFAULT_JOBS_PATH = "/jobs"


class ArqWeb:
    """Gives an app its queues, its jobs and, while developing, its embedded worker.

    The routes may be added before or after it; one for each app, mounted ones included.
    """

    def __init__(
        self,
        app: FastAPI,
        *,
        url: str | None = None,
        tasks: Iterable[TaskSource] = (),
        schedules: Iterable[Schedule] = (),
        queues: Sequence[str] = (DEFAULT_QUEUE,),
        config: Config | None = None,
        embedded: EmbeddedMode | None = None,
        jobs_path: str | None = DEFAULT_JOBS_PATH,
    ) -> None:
        """Attach to ``app``; nothing is opened yet.

        Args:
            app: the application; ``app.state.arq_web`` is its hub from now on.
            url: of Redis; default the environment's REDIS_URL, else (while developing) a private Redis.
            tasks: tasks, modules of tasks, or dotted names of either; those of routes are found by themselves.
            schedules: recurring jobs.
            queues: the names of the app's queues, in the order in which a worker serves them.
            config: settings; default from the environment (``ARQ_WEB_...``).
            embedded: a worker in the web process: ``auto`` (while developing), ``always``, ``never``.
            jobs_path: where ``GET {jobs_path}/{job_id}`` tells a job's status; None for no such route.

        Raises:
            InvalidConfig: the app has an ArqWeb already, or jobs_path is no path.
            InvalidTask, DuplicateTask: what was given cannot be.
        """
        if hasattr(app.state, STATE):
            raise InvalidConfig("app", app, "an app without an ArqWeb: one is enough")
        if jobs_path is not None and not re.fullmatch(r"(/[^/{}?#]+)+", jobs_path):
            raise InvalidConfig("jobs_path", jobs_path, "a path such as '/jobs', or None")
        config = config or Config.from_env()
        self.hub = Hub(
            url=url,
            tasks=tasks,
            schedules=schedules,
            queues=queues,
            config=config if embedded is None else replace(config, embedded=embedded),
            app_directory=calling_directory(__name__),
        )
        self.hub.resolver = FastAPIResolver(app, self.hub)
        self.hub.on_first_use.append(functools.partial(collect_routes, app, self.hub))
        setattr(app.state, STATE, self.hub)
        setattr(app.state, JOBS_PATH_STATE, jobs_path or DEFAULT_JOBS_PATH)
        self._attach(app, jobs_path)

    def _attach(self, app: FastAPI, jobs_path: str | None) -> None:
        router = APIRouter(lifespan=self._lifespan)
        status_path = None if jobs_path is None else jobs_path + "/{job_id}"
        if status_path is not None:
            router.get(
                status_path,
                summary="The status of a job",
                tags=["jobs"],
                response_class=Response,
                responses={
                    200: {"description": "The job", "content": content_of("JobBody")},
                    404: problem("There is no such job (any more)"),
                    503: problem("The job store does not answer; try again"),
                },
            )(job_status)
        app.include_router(router)
        document_jobs(app, status_path)

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        async with self.hub.lifespan():
            yield {}


async def job_status(request: Request, job_id: str, queue: str = DEFAULT_QUEUE) -> Response:
    """Where the job is now; its result, when it is small."""
    base_path = request.scope.get("root_path", "") + getattr(request.app.state, JOBS_PATH_STATE)
    answer = await status.job_status(hub_of(request), job_id, queue, base_path)
    return Response(answer.body, answer.status, answer.headers, answer.media_type)
