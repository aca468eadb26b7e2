"""The queue: enqueue, one or many. What one can ask of a job is in its handle."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar, ParamSpec, TypeAlias, TypeVar

import msgspec

from arq_web import events
from arq_web.config import Config
from arq_web.enqueuing import Passage, through_together
from arq_web.errors import InvalidOption, PayloadTooLarge, QueueFull
from arq_web.events import Event, emit
from arq_web.handle import Job
from arq_web.ids import new_ids
from arq_web.middleware import EnqueueMiddleware, checked_layers
from arq_web.registry import Registry
from arq_web.store.connection import Connections
from arq_web.store.follower import Follower
from arq_web.store.keys import is_name
from arq_web.store.reply_channel import ReplyChannel
from arq_web.store.store import Enqueued, EnqueueReply, Idempotency, NewJob, Replace, Store
from arq_web.store.target import RedisTarget
from arq_web.store.watcher import Watcher
from arq_web.task import Call, Enqueueable, Task
from arq_web.tied.ties import OutboxTarget, Ties

__all__ = ["DEFAULT_QUEUE", "Job", "Queue", "QueueSet"]

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

DEFAULT_QUEUE = "default"
WARN_EVERY_S = 60.0
_REPLACED = (
    "{!r} was taken before the test (JobTester, the fixture jobs) moved its app to another Redis, so what it enqueues "
    "would go to the real one. Take the queue where it is used: hub.queue(), or the route's own parameter."
)
OnSent: TypeAlias = "Callable[[Queue, Sequence[NewJob], EnqueueReply], Awaitable[None]]"
_options_encoder = msgspec.json.Encoder()


class QueueSet:
    """What the queues of one app share: connections, registry, settings. One per app and process."""

    def __init__(
        self,
        connections: Connections,
        config: Config,
        *,
        registry: Registry | None = None,
        names: Iterable[str] | None = None,
        max_queued: Mapping[str, int] | None = None,
        enqueue_middleware: Sequence[EnqueueMiddleware] = (),
    ) -> None:
        """Open nothing yet.

        Args:
            connections: to Redis, one per running loop.
            config: namespace, limits, defaults.
            registry: the app's tasks; None lets any task be enqueued (a client without the app).
            names: the declared queues; None lets any be used.
            max_queued: queue → how many jobs may wait there, where that is not the configuration's number.
            enqueue_middleware: what stands around each enqueue; the first is the outermost.
        """
        self.enqueue_middleware = enqueue_middleware
        self.connections, self.config, self.registry = connections, config, registry
        self.names = None if names is None else tuple(dict.fromkeys(names))
        self._max_queued = dict(max_queued or {})
        self.outbox: OutboxTarget | None = None
        """Where ``queue.outbox(session)`` puts its jobs: given by the app that has one."""
        self.on_sent: OnSent | None = None
        """Told of jobs that Redis has taken, before their enqueue returns: in tests they run then (arq_web.testing)."""
        self.is_replaced = False
        """True while the app works on others, in a test: an enqueue here would be a job in the real Redis."""
        self._queues: dict[str, Queue] = {}
        self._lookouts: dict[int, tuple[asyncio.AbstractEventLoop, Watcher, Follower]] = {}

    def queue(self, name: str = DEFAULT_QUEUE) -> Queue:
        """The queue of that name.

        Raises:
            InvalidOption: the name cannot be one, or is not declared.
        """
        queue = self._queues.get(name)
        if queue is None:
            if not is_name(name):
                raise InvalidOption("queue", name, "1 to 128 of the characters A-Z a-z 0-9 . _ : @ -")
            if self.names is not None and name not in self.names:
                raise InvalidOption(
                    "queue", name, f"one of the declared queues {list(self.names)} (ArqWeb(queues=[...]))"
                )
            queue = self._queues[name] = Queue(self, name)
        return queue

    def store(self, name: str) -> Store:
        """The verbs of the queue of that name."""
        keep_dead_ms = int(self.config.keep_dead_s * 1000)
        return Store(self.connections, self.config.namespace, name, keep_dead_ms=keep_dead_ms)

    def max_queued(self, name: str) -> int:
        """How many jobs may wait for a worker in the queue of that name; 0 for any number."""
        return self._max_queued.get(name, self.config.max_queued)

    def watcher(self) -> Watcher:
        """What waits for the ends of jobs, in the running loop."""
        return self._lookout()[1]

    def follower(self) -> Follower:
        """What follows each change of jobs, in the running loop; it listens where the watcher does."""
        return self._lookout()[2]

    def stop_following(self) -> None:
        """Let those go who follow jobs in the running loop."""
        if id(asyncio.get_running_loop()) in self._lookouts:
            self.follower().stop()

    def _lookout(self) -> tuple[asyncio.AbstractEventLoop, Watcher, Follower]:
        loop = asyncio.get_running_loop()
        known = self._lookouts.get(id(loop))
        if known is None or known[0] is not loop:
            self._lookouts = {key: known for key, known in self._lookouts.items() if not known[0].is_closed()}
            replies = ReplyChannel(self.connections, self.config.namespace)
            known = self._lookouts[id(loop)] = (loop, Watcher(replies), Follower(replies))
        return known


class Queue(Ties):
    """A named line of jobs: ``job = await queue.enqueue(send_welcome, user.id)``."""

    __arq_web_inject__: ClassVar[str] = "queue"

    def __init__(self, queues: QueueSet, name: str) -> None:
        """Made by the plugin or by ``Queue.connect``."""
        self.name, self.queues = name, queues
        self._store = queues.store(name)
        self._max_queued = queues.max_queued(name)
        self._warned_at: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"<Queue {self.name}>"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> object:
        """FastAPI gets here when a route is annotated with this class instead of the framework's own ``Queue``."""
        raise TypeError(
            "This is the framework-free Queue. In a route, annotate with the framework's own: "
            "from arq_web.fastapi import Queue (or arq_web.litestar)."
        )

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        url: str,
        name: str = DEFAULT_QUEUE,
        *,
        config: Config | None = None,
        enqueue_middleware: Iterable[EnqueueMiddleware] = (),
    ) -> AsyncIterator[Queue]:
        """A queue outside a web app: ``async with Queue.connect(url) as queue: ...``.

        Args:
            url: of Redis.
            name: the queue's.
            config: settings; default from the environment (``ARQ_WEB_...``).
            enqueue_middleware: what stands around each enqueue: as a rule what the app has, too.

        Raises:
            InvalidRedisUrl: the URL is not one.
            InvalidConfig: one of the middleware cannot be called.
        """
        layers = checked_layers("enqueue_middleware", enqueue_middleware)
        config = config or Config.from_env()
        connections = Connections(RedisTarget.from_url(url), deadline_s=config.command_deadline_s)
        try:
            yield QueueSet(connections, config, enqueue_middleware=layers).queue(name)
        finally:
            await connections.aclose()

    async def enqueue(self, task: Enqueueable[P, R], *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Enqueue one call of ``task``; one command to Redis. When this returns, the job is not lost.

        Returns:
            A handle, always. ``created`` is False when the id or the unique key belongs to an existing job.

        Raises:
            InvalidArguments, NotSerializable, PayloadTooLarge: the arguments do not fit, or do not travel.
            JobIdConflict: the id belongs to a job of another task.
            QueueFull: as many jobs wait there as may (``max_queued``).
            UnknownTask: the task is not registered in this app.
            StoreUnavailable, StoreFull: Redis did not take it; enqueueing again is safe with an id.
        """
        call = Call(task.task, task.call_options, args, kwargs)
        queue = self.queue_of(call)
        new = queue.new_job(call)
        if self.queues.enqueue_middleware:
            return (await queue.pass_on(new, call.task))[0]
        reply = await queue.send([new])
        return _handle(queue, new, call.task, reply.jobs[0])

    async def enqueue_many(self, calls: Sequence[Call[R_co]]) -> list[Job[R_co]]:
        """Enqueue many calls in one round trip per queue and thousand (or 4 MiB of arguments): all of these, or none.

        Everything is checked and encoded before anything is sent; every error of ``enqueue`` may be raised.

        Raises:
            JobIdConflict, QueueFull: nothing of its round trip was written.
        """
        queues = [self.queue_of(call) for call in calls]
        news = [
            queue.new_job(call, new_id) for queue, call, new_id in zip(queues, calls, new_ids(len(calls)), strict=True)
        ]
        tasks = [call.task for call in calls]
        if self.queues.enqueue_middleware and calls:
            passages = [Passage[Job[R_co]](queue, new, len(calls)) for queue, new in zip(queues, news, strict=True)]
            return await through_together(passages, lambda passed: _send_many(queues, passed, tasks))
        return await _send_many(queues, news, tasks)

    async def submit(self, call: Call[Any], *, once: Idempotency | None = None) -> Enqueued:
        """Enqueue a request's call here (``queue_of`` says where); with ``once`` the request may come again.

        Raises:
            IdempotencyKeyReused, IdempotentJobGone: see ``Store.enqueue``; and what ``enqueue`` raises.
        """
        new = self.new_job(call)
        if self.queues.enqueue_middleware:
            return (await self.pass_on(new, call.task, once))[1]
        return (await self.send([new], once=once)).jobs[0]

    async def pass_on(
        self, new: NewJob, task: Task[..., R_co], once: Idempotency | None = None
    ) -> tuple[Job[R_co], Enqueued]:
        """Send one job through the app's middleware: its handle, and what Redis answered."""
        answers: list[Enqueued] = []

        async def send(passed: NewJob) -> Job[R_co]:
            [answer] = (await self.send([passed], once=once)).jobs
            answers.append(answer)
            return _handle(self, passed, task, answer)

        return await Passage[Job[R_co]](self, new).through(send), answers[0]

    def job(self, job_id: str, task: Enqueueable[..., R_co] | None = None) -> Job[R_co]:
        """A handle for a known id; nothing is asked of Redis. With ``task`` its result is typed."""
        return Job(self, job_id, task.task if task else None, created=False)

    def sibling(self, name: str) -> Queue:
        """Another queue of the same app."""
        return self if name == self.name else self.queues.queue(name)

    @property
    def store(self) -> Store:
        """The verbs underneath (for tools; not part of the stable API)."""
        return self._store

    def queue_of(self, call: Call[Any]) -> Queue:
        """Where a call goes: as its options say, or its task, or else here."""
        return self.sibling(call.options.queue or call.task.policy.queue or self.name)

    def new_job(self, call: Call[Any], new_id: str | None = None) -> NewJob:
        """Check and encode a call: what would be sent for it. Raises what ``enqueue`` raises; sends nothing.

        ``new_id`` is for a call that names no id.
        """
        task, options, config = call.task, call.options, self.queues.config
        registry = self.queues.registry
        if registry is not None:
            registry.check(task)
        payload = task.codec.encode_call(call.args, call.kwargs)
        if len(payload) > config.max_payload_bytes:
            raise PayloadTooLarge(task.name, len(payload), config.max_payload_bytes)
        keep_ms = _first(options.keep_result_ms, task.policy.keep_result_ms, int(config.keep_result_s * 1000))
        return NewJob(
            id=options.id or new_id or new_ids(1)[0],
            task=task.name,
            payload=payload,
            nonce="-" if options.id is None else secrets.token_urlsafe(8),
            priority=_first(options.priority, task.policy.priority, 0),
            due=_moment(options.delay_ms, options.at_ms),
            expires=_moment(options.expires_in_ms, options.expires_at_ms),
            max_crashes=task.policy.max_crashes,
            keep_s=-(-keep_ms // 1000),
            unique=options.unique or "-",
            replace=Replace.FINISHED if options.on_finished == "replace" else Replace.NOTHING,
            owner=options.owner,
            extra=_extra(options.timeout_ms, options.max_tries, keep_ms),
        )

    async def send(
        self, jobs: Sequence[NewJob], *, once: Idempotency | None = None, max_queued: int | None = None
    ) -> EnqueueReply:
        """Create jobs that were checked already (by ``new_job``), in one script: at most a thousand.

        With ``once`` it is one job, for a request that may come again. ``max_queued``: instead of the queue's own; 0
        where it is too late to refuse.

        Raises:
            JobIdConflict, QueueFull: nothing was written.
            IdempotencyKeyReused, IdempotentJobGone: see ``Store.enqueue``.
        """
        if self.queues.is_replaced:
            raise RuntimeError(_REPLACED.format(self))
        try:
            limit = self._max_queued if max_queued is None else max_queued
            reply = await self._store.enqueue(jobs, max_queued=limit, once=once)
        except QueueFull as full:
            self._warn(events.QUEUE_FULL, waiting=full.waiting, max_queued=full.max_queued)
            raise
        if not reply.attended:
            self.warn_unattended()
        if logging.getLogger("arq_web.queue").isEnabledFor(logging.DEBUG):
            for new, answer in zip(jobs, reply.jobs, strict=True):
                emit(events.JOB_ENQUEUED, job=answer.id, task=new.task, queue=self.name, created=answer.created)
        if self.queues.on_sent is not None:
            await self.queues.on_sent(self, jobs, reply)
        return reply

    def _anchor(self) -> tuple[Queue, asyncio.AbstractEventLoop | None]:
        try:
            return self, asyncio.get_running_loop()
        except RuntimeError:
            return self, None

    def warn_unattended(self) -> None:
        """Log that nobody listens here; once a minute at most, and not in a test that runs the jobs itself."""
        if self.queues.on_sent is None:
            self._warn(events.QUEUE_UNATTENDED)

    def _warn(self, event: Event, **fields: object) -> None:
        now = time.monotonic()
        if now - self._warned_at.get(event.name, float("-inf")) >= WARN_EVERY_S:
            self._warned_at[event.name] = now
            emit(event, queue=self.name, **fields)


async def _send_many(
    queues: Sequence[Queue], news: Sequence[NewJob], tasks: Sequence[Task[..., R_co]]
) -> list[Job[R_co]]:
    """One round trip for each queue; the handles are in the order of the jobs."""
    by_queue: dict[Queue, list[int]] = {}
    for index, queue in enumerate(queues):
        by_queue.setdefault(queue, []).append(index)
    handles: dict[int, Job[R_co]] = {}
    for queue, indexes in by_queue.items():
        reply = await queue.send([news[index] for index in indexes])
        for index, answer in zip(indexes, reply.jobs, strict=True):
            handles[index] = _handle(queue, news[index], tasks[index], answer)
    return [handles[index] for index in range(len(news))]


def _handle(queue: Queue, new: NewJob, task: Task[..., R_co], answer: Enqueued) -> Job[R_co]:
    if answer.id == new.id:
        return Job(queue, answer.id, task, created=answer.created)
    return Job(queue, answer.id, None, created=answer.created, _asked=task)


def _first(own: int | None, of_task: int | None, default: int) -> int:
    if own is not None:
        return own
    return default if of_task is None else of_task


def _moment(in_ms: int | None, at_ms: int | None) -> str:
    if in_ms is not None:
        return f"d{in_ms}"
    return "0" if at_ms is None else f"a{at_ms}"


def _extra(timeout_ms: int | None, max_tries: int | None, keep_ms: int) -> bytes:
    """Options that only the worker needs, if any: most jobs have none, and then it is no byte."""
    extra: dict[str, int] = {}
    if timeout_ms is not None:
        extra["timeout_ms"] = timeout_ms
    if max_tries is not None:
        extra["max_tries"] = max_tries
    if keep_ms % 1000:
        extra["keep_ms"] = keep_ms
    return _options_encoder.encode(extra) if extra else b""
