"""What one app shares: its tasks, settings, connections and queues. The plugins wrap it; ``app-worker`` finds it."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from arq_web import events
from arq_web.config import Config
from arq_web.dev_broker import DevBroker, dev_broker, development_allowed
from arq_web.errors import DuplicateTask, InvalidConfig, NoRedisUrl, StoreError
from arq_web.events import emit
from arq_web.instruments import instrument
from arq_web.middleware import AttemptMiddleware, EnqueueMiddleware, Instrument, Observer, checked_layers
from arq_web.queue import DEFAULT_QUEUE, Queue, QueueSet
from arq_web.registry import Registry, TaskSource
from arq_web.schedule import Schedule
from arq_web.store.connection import Connections
from arq_web.store.store import WorkerKind
from arq_web.store.target import RedisTarget
from arq_web.task import Task
from arq_web.tied import delivery
from arq_web.tied.tie import Target
from arq_web.worker.attempt import Resolver
from arq_web.worker.claimer import Burst
from arq_web.worker.companion import Companion
from arq_web.worker.embedded import EmbeddedWorker
from arq_web.worker.options import WorkerOptions
from arq_web.worker.supervision import supervised
from arq_web.worker.vitals import Vitals
from arq_web.worker.worker import Worker

if TYPE_CHECKING:
    from arq_web.tied.transaction import AnySession

ROLE_ENV = "ARQ_WEB_ROLE"


def role() -> Literal["web", "worker"]:
    """What this process is: ``worker`` under ``app-worker``, else ``web``. The worker runs the app's lifespan too."""
    return "worker" if os.environ.get(ROLE_ENV) == "worker" else "web"


def calling_directory(plugin_module: str) -> Path | None:
    """The directory of the module that calls ``ArqWeb(...)``: the development Redis is the project's.

    Args:
        plugin_module: the module of the plugin itself, whose frames are not the caller's.
    """
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__") in (__name__, plugin_module):
        frame = frame.f_back
    file = None if frame is None else frame.f_globals.get("__file__")
    return Path(file).resolve().parent if file else None


class OutboxOfHub(Protocol):
    """What a hub needs of ``arq_web.outbox.Outbox``, which it does not know: SQLAlchemy is optional."""

    def target(self, session: AnySession) -> Target:
        """Where ``queue.outbox(session)`` puts its jobs."""
        ...

    def relay(self, queues: QueueSet) -> Companion:
        """What enqueues them, in one process."""
        ...


class Hub:
    """The framework-free heart of ``ArqWeb``: one per app. Nothing is opened before it is used."""

    def __init__(
        self,
        *,
        url: str | RedisTarget | None = None,
        tasks: Iterable[TaskSource] = (),
        schedules: Iterable[Schedule] = (),
        queues: Sequence[str] = (DEFAULT_QUEUE,),
        config: Config | None = None,
        max_queued: Mapping[str, int] | int | None = None,
        outbox: OutboxOfHub | None = None,
        app_directory: Path | None = None,
        middleware: Iterable[AttemptMiddleware] = (),
        enqueue_middleware: Iterable[EnqueueMiddleware] = (),
        metrics: bool | Instrument = False,
        tracing: bool | Instrument = False,
    ) -> None:
        """Check what was given; nothing is opened.

        Args:
            url: of Redis (or what was read from one); default the environment's REDIS_URL, else (while developing) a
                private Redis.
            tasks: tasks, modules of tasks, or dotted names of either.
            schedules: recurring jobs; their tasks are registered too.
            queues: the names of the app's queues, in the order in which a worker serves them.
            config: settings; default from the environment (``ARQ_WEB_...``).
            max_queued: how many jobs may wait for a worker in each queue (or queue → number); default the config's.
            outbox: an ``arq_web.outbox.Outbox``, for ``queue.outbox(session)``.
            app_directory: where the development Redis looks for the project; default the working directory.
            middleware: what stands around each attempt; the first is the outermost.
            enqueue_middleware: what stands around each enqueue; the first is the outermost.
            metrics: True for an ``arq_web.metrics.Metrics``, or one that you made.
            tracing: True for an ``arq_web.tracing.Tracing``, or one that you made.

        Raises:
            InvalidTask, DuplicateTask, InvalidConfig: what was given cannot be.
            MissingExtra: what metrics or tracing need is not installed.
        """
        self.config = config or Config.from_env()
        self.registry = Registry(tasks)
        self.schedules = tuple(schedules)
        self._register_schedules()
        self.queue_names = _several(queues) or (DEFAULT_QUEUE,)
        if isinstance(max_queued, int):
            self.config, max_queued = replace(self.config, max_queued=max_queued), None
        self._max_queued = _limits(max_queued or {}, self.queue_names)
        self.resolver: Resolver | None = None
        self.on_first_use: list[Callable[[], None]] = []
        """What ``collect`` calls: a plugin adds the tasks of its app's routes, which may come later than itself."""
        self.companions: list[Callable[[], Companion]] = []
        """What runs beside the jobs, made for each process: in its worker, or in the web app's own lifespan."""
        self.middleware: list[AttemptMiddleware] = checked_layers("middleware", middleware)
        self.enqueue_middleware: list[EnqueueMiddleware] = checked_layers("enqueue_middleware", enqueue_middleware)
        self.observers: list[Observer] = []
        """Who counts what this app's workers do."""
        self._outbox = outbox
        if outbox is not None:
            self.companions.append(lambda: outbox.relay(self.queues))
        self._url, self._app_directory = url, app_directory
        self._queues: QueueSet | None = None
        self._embedded: list[EmbeddedWorker] = []
        self._lives = 0
        self._vitals: list[Vitals] = []
        self.metrics, self.tracing = instrument("metrics", metrics), instrument("tracing", tracing)
        for each in (self.metrics, self.tracing):
            if each is not None:
                each.install(self)

    @property
    def embedded(self) -> EmbeddedWorker | None:
        """The worker inside this process; the newest one, when the app lives more than once (two test clients)."""
        return self._embedded[-1] if self._embedded else None

    @property
    def is_alive(self) -> bool:
        """True while the app's lifespan runs, here or in another thread."""
        return self._lives > 0

    @property
    def queues(self) -> QueueSet:
        """The app's queues; the first use finds Redis (or starts the private one).

        Raises:
            NoRedisUrl, InvalidRedisUrl, DevBrokerFailed: there is none to use.
        """
        if self._queues is None:
            self.collect()
            target = self._url if isinstance(self._url, RedisTarget) else RedisTarget.from_url(self._find_url())
            connections = Connections(target, deadline_s=self.config.command_deadline_s)
            self._queues = QueueSet(
                connections,
                self.config,
                registry=self.registry,
                names=self.queue_names,
                max_queued=self._max_queued,
                enqueue_middleware=self.enqueue_middleware,
            )
            self._queues.outbox = None if self._outbox is None else self._outbox.target
        return self._queues

    @property
    def vitals(self) -> list[Vitals]:
        """Of the workers of this process; those that have ended may be among them for a while. Safe from any thread."""
        return self._vitals

    @property
    def is_limited(self) -> bool:
        """True when one of the queues may refuse an enqueue (``max_queued``)."""
        return any(self._max_queued.get(name, self.config.max_queued) for name in self.queue_names)

    @property
    def is_development(self) -> bool:
        """True where a private Redis may be started: status answers then show more."""
        return development_allowed() is None

    def queue(self, name: str = DEFAULT_QUEUE) -> Queue:
        """The queue of that name. Raises InvalidOption for one that is not declared."""
        return self.queues.queue(name)

    def add_task(self, task: Task[..., Any]) -> None:
        """Register a task (a route's). Raises DuplicateTask."""
        self.registry.add(task)

    def collect(self) -> None:
        """Let the plugin look at the app's routes: at start-up, and before the first use of queues or a worker.

        Raises:
            InvalidRoute, DuplicateTask: a route cannot be.
        """
        for look in self.on_first_use:
            look()

    def worker(
        self,
        *,
        queues: Sequence[str] | None = None,
        concurrency: int | None = None,
        drain_s: float | None = None,
        burst: bool = False,
        app_target: str | None = None,
        owns_process: bool = False,
    ) -> Worker:
        """An external worker for this app; ``await worker.run()``.

        Raises:
            InvalidOption: a queue is not declared.
            InvalidConfig: queues is one word instead of several.
        """
        self.collect()
        names = _several(queues or self.queue_names)
        for name in names:
            self.queue(name)
        options = WorkerOptions(
            queues=names,
            concurrency=concurrency or self.config.concurrency,
            drain_s=self.config.drain_s if drain_s is None else drain_s,
            burst=Burst.READY if burst else None,
            app_target=app_target,
            owns_process=owns_process,
        )
        return self._worker(options)

    def worker_of(self, options: WorkerOptions, *, schedules: Sequence[Schedule] = ()) -> Worker:
        """A worker as ``options`` say, which fires no other schedules: for tools (not part of the stable API)."""
        self.collect()
        return self._worker(options, schedules)

    @contextmanager
    def stand_in(self, url: str, config: Config) -> Iterator[None]:
        """For a while another Redis, other settings and queues of their own; tasks, companions and instruments stay.

        For tests. It begins before the app's lifespan does, which takes what it finds. Queues that somebody has taken
        before enqueue nothing meanwhile.
        """
        own = self._url, self.config, self._queues, self._vitals
        self._url, self.config, self._queues = url, config, None
        if own[2] is not None:
            own[2].is_replaced = True
        try:
            yield
        finally:
            self._url, self.config, self._queues, self._vitals = own
            if own[2] is not None:
                own[2].is_replaced = False

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """The app's life: find Redis, run the embedded worker (in a web process that has one), close what was opened.

        Raises:
            NoRedisUrl, InvalidRedisUrl, DevBrokerFailed: there is no Redis to use.
            InvalidRoute, DuplicateTask: a route cannot be.
        """
        self.collect()
        await asyncio.to_thread(lambda: self.queues)  # a private Redis may take a second to start
        beside: list[asyncio.Task[None]] = []
        embedded: EmbeddedWorker | None = None
        self._lives += 1
        try:
            if role() == "web" and (kind := self._embedded_kind()) is not None:
                embedded = EmbeddedWorker(lambda: self._embedded_worker(kind))
                self._embedded.append(embedded)
                embedded.start()
            elif role() == "web":
                beside.append(asyncio.create_task(self._warn_if_unattended(), name="arq_web.unattended"))
                beside += [supervised(each.name, each.run) for each in (make() for make in self.companions)]
            yield
        finally:
            self._lives -= 1
            for each in beside:
                each.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            if embedded is not None:
                await embedded.stop()
                self._embedded.remove(embedded)
            await self.aclose()

    async def aclose(self) -> None:
        """Close the running loop's connections. They open again when somebody uses them."""
        if self._queues is not None:
            self._queues.stop_following()
            await delivery.wait_for_all()  # what a commit on this thread left for the loop to send
            await self._queues.connections.aclose()

    def _register_schedules(self) -> None:
        for each in self.schedules:
            self.registry.add(each.call.task)
        names = [each.name for each in self.schedules]
        for name in set(names):
            if names.count(name) > 1:
                raise DuplicateTask(name, "a schedule of that name", "another one (give name=... to schedule())")

    async def _warn_if_unattended(self) -> None:
        """Say at start on which queues nobody listens; a Redis that is away is somebody else's line."""
        with contextlib.suppress(StoreError):
            for name in self.queue_names:
                if not await self.queue(name).store.workers():
                    self.queue(name).warn_unattended()

    def _embedded_kind(self) -> WorkerKind | None:
        mode = self.config.embedded
        if mode == "never" or (mode == "auto" and not self.is_development):
            return None
        return WorkerKind.EMBEDDED if mode == "always" else WorkerKind.STANDBY

    def _embedded_worker(self, kind: WorkerKind) -> Worker:
        options = WorkerOptions(
            queues=self.queue_names,
            concurrency=self.config.embedded_concurrency,
            drain_s=self.config.embedded_drain_s,
            kind=kind,
        )
        return self._worker(options)

    def _worker(self, options: WorkerOptions, schedules: Sequence[Schedule] | None = None) -> Worker:
        worker = Worker(
            self.queues,
            self.registry,
            options,
            schedules=self.schedules if schedules is None else schedules,
            resolver=self.resolver,
            companions=[make() for make in self.companions],
            middleware=self.middleware,
            observers=self.observers,
        )
        live = [each for each in self._vitals if not each.is_working or each.renewed_ago_s is not None]
        self._vitals = [*live, worker.vitals]  # a new list: other threads read the old one
        return worker

    def _find_url(self) -> str:
        url = self._url or os.environ.get("REDIS_URL")
        if isinstance(url, str) and url:
            return url
        refused = development_allowed()
        if refused is not None:
            raise NoRedisUrl(refused)
        broker: DevBroker = dev_broker(self._app_directory)
        emit(events.DEV_BROKER, sentence=broker.sentence)
        logger = logging.getLogger("arq_web.store")
        if role() == "web" and not (logger.hasHandlers() and logger.isEnabledFor(logging.INFO)):
            # uvicorn shows no library's INFO; which Redis it is must be seen once all the same.
            sys.stderr.write(f"arq_web: {broker.sentence}\n")
        return broker.url


def _limits(max_queued: Mapping[str, int], names: Sequence[str]) -> Mapping[str, int]:
    if not isinstance(max_queued, Mapping) or not set(max_queued) <= set(names):
        raise InvalidConfig("max_queued", max_queued, f"a number, or numbers for some of the queues {list(names)}")
    for limit in max_queued.values():
        Config(max_queued=limit)
    return max_queued


def _several(queues: Sequence[str]) -> tuple[str, ...]:
    if isinstance(queues, str):
        raise InvalidConfig("queues", queues, f"a list of names: queues=[{queues!r}]")
    return tuple(dict.fromkeys(queues))
