"""``ArqWeb(app)``: background jobs for a FastAPI application."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, FastAPI, params

from arq_web.config import Config, EmbeddedMode
from arq_web.errors import InvalidConfig
from arq_web.http.access import Authorize, OwnerOf
from arq_web.http.after_response import AfterResponse
from arq_web.http.front import Front
from arq_web.http.paths import DEFAULT_ROUTES, RouteName
from arq_web.http.waiting import MAX_WAITING_COUNT
from arq_web.hub import Hub, OutboxOfHub, calling_directory
from arq_web.middleware import AttemptMiddleware, EnqueueMiddleware, Instrument
from arq_web.queue import DEFAULT_QUEUE
from arq_web.registry import TaskSource
from arq_web.schedule import Schedule
from arq_web_fastapi.checks import collect_routes
from arq_web_fastapi.depends import STATE
from arq_web_fastapi.health import add_health_routes
from arq_web_fastapi.job_routes import FRONT_STATE, add_job_routes
from arq_web_fastapi.openapi import document_jobs
from arq_web_fastapi.replay import FastAPIReplayer
from arq_web_fastapi.resolver import FastAPIResolver

DEFAULT_JOBS_PATH = "/jobs"


class ArqWeb:
    """Gives an app its queues, its jobs and, while developing, its embedded worker.

    The routes may be added before or after it; one for each app, mounted ones included.
    """

    def __init__(  # noqa: PLR0913 - options, all of them by keyword
        self,
        app: FastAPI,
        *,
        url: str | None = None,
        tasks: Iterable[TaskSource] = (),
        schedules: Iterable[Schedule] = (),
        queues: Sequence[str] = (DEFAULT_QUEUE,),
        config: Config | None = None,
        outbox: OutboxOfHub | None = None,
        embedded: EmbeddedMode | None = None,
        jobs_path: str | None = DEFAULT_JOBS_PATH,
        routes: Collection[RouteName] = DEFAULT_ROUTES,
        dependencies: Sequence[params.Depends] = (),
        authorize: Authorize | None = None,
        owner: OwnerOf | None = None,
        max_streams: int = MAX_WAITING_COUNT,
        max_queued: Mapping[str, int] | int | None = None,
        health_path: str | None = None,
        health_dependencies: Sequence[params.Depends] = (),
        middleware: Iterable[AttemptMiddleware] = (),
        enqueue_middleware: Iterable[EnqueueMiddleware] = (),
        metrics: bool | Instrument = False,
        tracing: bool | Instrument = False,
    ) -> None:
        """Attach to ``app``; nothing is opened yet.

        Args:
            app: the application; ``app.state.arq_web`` is its hub from now on.
            url: of Redis; default the environment's REDIS_URL, else (while developing) a private Redis.
            tasks: tasks, modules of tasks, or dotted names of either; those of routes are found by themselves.
            schedules: recurring jobs.
            queues: the names of the app's queues, in the order in which a worker serves them.
            config: settings; default from the environment (``ARQ_WEB_...``).
            outbox: an ``arq_web.outbox.Outbox``, for ``queue.outbox(session)``.
            embedded: a worker in the web process: ``auto`` (while developing), ``always``, ``never``.
            jobs_path: where the routes of jobs are: ``GET {jobs_path}/{job_id}`` tells a job's status; None for none.
            routes: which of them: status, result, events, cancel; list and delete only if they are named here.
            dependencies: of all of them, as for a router: ``[Depends(current_user)]``.
            authorize: ``(request, job) -> bool``, who may see a job; default: whoever knows its random id.
            owner: ``(request) -> str``, who submits a job and alone may see it (or None).
            max_streams: event streams and long polls that this process holds open at the same time.
            max_queued: how many jobs may wait for a worker in each queue, or queue → number: over it a submit gets
                503; default the configuration's (any number).
            middleware: what stands around each attempt of a job; the first is the outermost.
            enqueue_middleware: what stands around each enqueue; the first is the outermost.
            metrics: for Prometheus: True, or an ``arq_web.metrics.Metrics`` that you made.
            tracing: with OpenTelemetry: True, or an ``arq_web.tracing.Tracing`` that you made.
            health_path: where ``/livez``, ``/readyz``, ``/startupz``, ``/metrics`` and ``/scale`` are: ``/-/jobs``, for
                example; default nowhere.
            health_dependencies: of all of them.

        Raises:
            InvalidConfig: the app has an ArqWeb already, or an option is outside its range.
            InvalidTask, DuplicateTask: what was given cannot be.
            MissingExtra: what metrics or tracing need is not installed.
        """
        if hasattr(app.state, STATE):
            raise InvalidConfig("app", app, "an app without an ArqWeb: one is enough")
        config = config or Config.from_env()
        self.hub = hub = Hub(
            url=url,
            tasks=tasks,
            schedules=schedules,
            queues=queues,
            config=config if embedded is None else replace(config, embedded=embedded),
            outbox=outbox,
            max_queued=max_queued,
            app_directory=calling_directory(__name__),
            middleware=middleware,
            enqueue_middleware=enqueue_middleware,
            metrics=metrics,
            tracing=tracing,
        )
        replayer = FastAPIReplayer()
        front = Front.of(
            hub, replayer, jobs_path=jobs_path, routes=routes, authorize=authorize, owner=owner, max_streams=max_streams
        )
        self._attach(app, front, replayer, dependencies)
        add_health_routes(app, self.hub, health_path, health_dependencies)

    def _attach(
        self, app: FastAPI, front: Front, replayer: FastAPIReplayer, dependencies: Sequence[params.Depends]
    ) -> None:
        self.hub.resolver = FastAPIResolver(app, self.hub)
        self.hub.on_first_use.append(functools.partial(collect_routes, app, self.hub, replayer))
        setattr(app.state, STATE, self.hub)
        setattr(app.state, FRONT_STATE, front)
        router = APIRouter(lifespan=self._lifespan)
        add_job_routes(router, front, dependencies)
        app.include_router(router)
        app.add_middleware(AfterResponse)
        document_jobs(app, front)

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
        async with self.hub.lifespan():
            yield {}
