"""``ArqWeb`` for Litestar: one plugin, which brings queues, the status route, the embedded worker and the command."""

from __future__ import annotations

import asyncio
import inspect
import keyword
import os
import sys
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from litestar import Litestar
from litestar.config.app import AppConfig
from litestar.constants import RESERVED_KWARGS
from litestar.datastructures import State
from litestar.di import Provide
from litestar.handlers import HTTPRouteHandler
from litestar.plugins import CLIPlugin, InitPlugin, ReceiveRoutePlugin
from litestar.routes import BaseRoute
from litestar.types import Guard, Middleware
from litestar.utils import join_paths

from arq_web import queue as core_queue
from arq_web import sync_queue as core_sync_queue
from arq_web.config import Config, EmbeddedMode
from arq_web.errors import InvalidConfig
from arq_web.http.access import Authorize, OwnerOf
from arq_web.http.after_response import AfterResponse
from arq_web.http.front import Front
from arq_web.http.paths import DEFAULT_ROUTES, RouteName
from arq_web.http.waiting import MAX_WAITING_COUNT
from arq_web.hub import OutboxOfHub, calling_directory
from arq_web.middleware import AttemptMiddleware, EnqueueMiddleware, Instrument
from arq_web.registry import TaskSource
from arq_web.schedule import Schedule
from arq_web_litestar._compat import controller_of, function_of, handlers_of, providers_of, reads_body
from arq_web_litestar.checks import check_job, check_queues
from arq_web_litestar.depends import STATE_KEY, AppHub, FromQueue
from arq_web_litestar.health import health_handlers
from arq_web_litestar.job_routes import job_handlers
from arq_web_litestar.openapi import JobsDocument
from arq_web_litestar.replay import LitestarReplayer
from arq_web_litestar.resolver import Bound, LitestarResolver
from arq_web_litestar.routes import JobRoute

if TYPE_CHECKING:
    from click import Group
    from litestar.cli._utils import LitestarEnv

DEFAULT_JOBS_PATH = "/jobs"


class ArqWeb(InitPlugin, CLIPlugin, ReceiveRoutePlugin):
    """Background jobs for a Litestar app: ``Litestar([...], plugins=[ArqWeb(tasks=[send_welcome])])``.

    Give it last among the plugins: what is set up before it outlives the embedded worker and its jobs.
    """

    def __init__(  # noqa: PLR0913 - options, all of them by keyword
        self,
        *,
        url: str | None = None,
        tasks: Iterable[TaskSource] = (),
        schedules: Iterable[Schedule] = (),
        queues: Sequence[str] = (core_queue.DEFAULT_QUEUE,),
        config: Config | None = None,
        outbox: OutboxOfHub | None = None,
        embedded: EmbeddedMode | None = None,
        jobs_path: str | None = DEFAULT_JOBS_PATH,
        routes: Collection[RouteName] = DEFAULT_ROUTES,
        guards: Sequence[Guard] = (),
        authorize: Authorize | None = None,
        owner: OwnerOf | None = None,
        max_streams: int = MAX_WAITING_COUNT,
        max_queued: Mapping[str, int] | int | None = None,
        health_path: str | None = None,
        health_guards: Sequence[Guard] = (),
        middleware: Iterable[AttemptMiddleware] = (),
        enqueue_middleware: Iterable[EnqueueMiddleware] = (),
        metrics: bool | Instrument = False,
        tracing: bool | Instrument = False,
    ) -> None:
        """Nothing is opened before it is used, or the app starts.

        Args:
            url: of Redis; default the environment's REDIS_URL, else (while developing) a private Redis.
            tasks: tasks, modules of tasks, or dotted names of either. Those of routes register themselves.
            schedules: recurring jobs; their tasks are registered too.
            queues: the names of the app's queues; each but the default one is also a dependency of its name.
            config: settings; default from the environment (``ARQ_WEB_...``).
            outbox: an ``arq_web.outbox.Outbox``, for ``queue.outbox(session)``.
            embedded: a worker in the web process: ``auto``, ``always``, ``never``; default the configuration's.
            jobs_path: where the routes of jobs are: ``GET {jobs_path}/{job_id}`` tells a job's status; None for none.
            routes: which of them: status, result, events, cancel; list and delete only if they are named here.
            guards: of all of them, as for a router.
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
            health_guards: of all of them.

        Raises:
            InvalidTask, DuplicateTask, InvalidConfig: what was given cannot be.
            MissingExtra: what metrics or tracing need is not installed.
        """
        config = config or Config.from_env()
        self.hub = hub = AppHub(
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
        self.hub.resolver = self._resolver = LitestarResolver()
        self._replayer = replayer = LitestarReplayer()
        self._front = hub.front = Front.of(
            hub, replayer, jobs_path=jobs_path, routes=routes, authorize=authorize, owner=owner, max_streams=max_streams
        )
        self._guards = list(guards)
        self._health_handlers = health_handlers(self.hub, health_path, health_guards)
        self._document = JobsDocument(self._front)
        self._state = State()
        self._lives: dict[asyncio.AbstractEventLoop, AsyncExitStack] = {}  # two test clients: two loops, one app

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Bring the app its state, dependencies, lifespan and status route.

        Raises:
            InvalidConfig: the app has an ArqWeb already.
        """
        if STATE_KEY in app_config.state:
            raise InvalidConfig("plugins", type(self).__name__, "one ArqWeb for each app")
        self._state = app_config.state
        self._state[STATE_KEY] = self.hub
        providers: dict[str, Any] = app_config.dependencies  # the user's own go first
        for name, provider in _providers(self.hub).items():
            providers.setdefault(name, provider)
        app_config.middleware.insert(0, cast("Middleware", AfterResponse))
        # Entered after the app's own and left before them; started after its on_startup hooks, which come later still.
        app_config.lifespan.append(self._lifespan)
        app_config.on_startup.append(self._start)
        app_config.route_handlers += [*job_handlers(self._front, self._guards), *self._health_handlers]
        self._front.jobs_path = join_paths([app_config.path or "", self._front.jobs_path])
        if app_config.openapi_config is not None:
            app_config.openapi_config = self._document.documented(app_config.openapi_config)
        return app_config

    def receive_route(self, route: BaseRoute) -> None:
        """Check a route that Litestar registers, and make its function a task of this app.

        Raises:
            InvalidRoute, DuplicateTask: it cannot be.
        """
        for handler in handlers_of(route):
            fn = function_of(handler)
            name = f"{','.join(sorted(handler.http_methods))} {route.path_format}"
            check_queues(name, handler, is_async=inspect.iscoroutinefunction(fn))
            if isinstance(fn, JobRoute):
                check_job(name, handler, fn, self.hub)
                self._bind(name, handler, fn)
                self._document.add(route.path_format, handler, fn)

    def on_cli_init(self, cli: Group) -> None:
        """Add ``litestar jobs worker``: what ``app-worker`` does, for the app that ``litestar`` found."""
        import click  # noqa: PLC0415 - only litestar's command line gets here

        @cli.group(name="jobs", help="Background jobs.")
        def jobs() -> None: ...

        @jobs.command(name="worker", context_settings={"ignore_unknown_options": True, "help_option_names": []})
        @click.argument("args", nargs=-1, type=click.UNPROCESSED)
        def worker(env: LitestarEnv, args: tuple[str, ...]) -> None:
            """Run the app's jobs; the options are those of app-worker."""
            _run_worker(env, args)

    def _bind(self, name: str, handler: HTTPRouteHandler, job: JobRoute[..., Any]) -> None:
        bound = Bound(name, tuple(job.plan.asked), providers_of(handler), self._state, controller_of(handler))
        bound.check()
        self._resolver.bind(job, bound)
        by_dependency = (name for name, side in job.sides.items() if side == "request (dependency)")
        reading = (name for name in by_dependency if reads_body(name, bound.providers))
        job.http = job.http.comparing(reading, query=False)
        self._replayer.bind(job, handler, job.plan.returns, job.http.result_status)
        self.hub.add_task(job)
        if name not in job.route.split(", "):
            job.route = ", ".join(filter(None, (job.route, name)))

    @asynccontextmanager
    async def _lifespan(self, _: Litestar) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        async with AsyncExitStack() as life:
            self._lives[loop] = life
            life.callback(self._lives.pop, loop, None)
            yield

    async def _start(self) -> None:
        await self._lives[asyncio.get_running_loop()].enter_async_context(self.hub.lifespan())


def _providers(hub: AppHub) -> dict[str, Provide]:
    def queue() -> core_queue.Queue:
        return hub.default_queue

    def sync_queue() -> core_sync_queue.SyncQueue:
        return core_sync_queue.SyncQueue(hub.default_queue, asyncio.get_running_loop())

    named = {name: Provide(FromQueue(name)) for name in hub.queue_names if _is_parameter_name(name)}
    return {
        **named,
        "queue": Provide(queue, sync_to_thread=False),
        "sync_queue": Provide(sync_queue, sync_to_thread=False),
    }


def _is_parameter_name(queue_name: str) -> bool:
    is_name = queue_name.isidentifier() and not keyword.iskeyword(queue_name)
    return is_name and queue_name != core_queue.DEFAULT_QUEUE and queue_name not in RESERVED_KWARGS


def _run_worker(env: LitestarEnv, args: tuple[str, ...]) -> None:
    """Become ``app-worker``: it sets the role before the app is imported, which ``litestar`` has done already."""
    factory = ["--factory"] if env.is_app_factory else []
    command = [sys.executable, "-m", "arq_web", env.app_path, *factory, "--app-dir", str(env.cwd), *args]
    os.execv(sys.executable, command)  # noqa: S606 - our own command; exec, so that signals reach the worker
