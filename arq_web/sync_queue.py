"""The queue for code that cannot await: ``def`` routes, scripts, other people's callbacks."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, ClassVar, Generic, Literal, ParamSpec, TypeVar

from anyio.from_thread import start_blocking_portal

from arq_web.config import Config
from arq_web.job import JobInfo, JobState
from arq_web.middleware import EnqueueMiddleware
from arq_web.queue import DEFAULT_QUEUE, Job, Queue
from arq_web.task import Call, Enqueueable
from arq_web.tied.ties import Ties

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")

LOOK_EVERY_S = 1.0
"""A loop that stops answers nobody, and says so to nobody: who waits for it looks now and then."""
LOOP_ENDED = (
    "SyncQueue was called, but the event loop that does its work does not run (any more): its app has ended. "
    "In a script use it within `with SyncQueue.connect(url) as queue:`."
)


class SyncQueue(Ties):
    """The same queue, called from a thread: the work is done on the app's own loop and connection."""

    __arq_web_inject__: ClassVar[str] = "sync_queue"

    def __init__(self, queue: Queue, loop: asyncio.AbstractEventLoop) -> None:
        """Made by the plugin or by ``SyncQueue.connect``; ``loop`` is the one that runs meanwhile."""
        self._queue, self._loop = queue, loop

    def __repr__(self) -> str:
        return f"<SyncQueue {self._queue.name}>"

    @property
    def name(self) -> str:
        """The queue's name."""
        return self._queue.name

    @classmethod
    @contextmanager
    def connect(
        cls,
        url: str,
        name: str = DEFAULT_QUEUE,
        *,
        config: Config | None = None,
        enqueue_middleware: Iterable[EnqueueMiddleware] = (),
    ) -> Iterator[SyncQueue]:
        """A queue for a script: ``with SyncQueue.connect(url) as queue: ...``; runs a loop in a thread meanwhile.

        Its arguments are those of ``Queue.connect``.

        Raises:
            InvalidRedisUrl: the URL is not one.
            InvalidConfig: one of the middleware cannot be called.
        """
        connecting = Queue.connect(url, name, config=config, enqueue_middleware=enqueue_middleware)
        with start_blocking_portal() as portal, portal.wrap_async_context_manager(connecting) as queue:
            yield cls(queue, portal.call(_running_loop))

    def enqueue(self, task: Enqueueable[P, R], *args: P.args, **kwargs: P.kwargs) -> SyncJob[R]:
        """As ``Queue.enqueue``."""
        return SyncJob(self.run(self._queue.enqueue(task, *args, **kwargs)), self)

    def enqueue_many(self, calls: Sequence[Call[R_co]]) -> list[SyncJob[R_co]]:
        """As ``Queue.enqueue_many``."""
        return [SyncJob(job, self) for job in self.run(self._queue.enqueue_many(calls))]

    def job(self, job_id: str, task: Enqueueable[..., R_co] | None = None) -> SyncJob[R_co]:
        """As ``Queue.job``."""
        return SyncJob(self._queue.job(job_id, task), self)

    def _anchor(self) -> tuple[Queue, asyncio.AbstractEventLoop | None]:
        return self._queue, self._loop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the app's loop and wait for it.

        Raises:
            RuntimeError: called on that loop itself, or the loop does not run (any more).
        """
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            work.close()
            raise RuntimeError(
                "SyncQueue was called on the event loop itself, which it would block for ever. "
                "In an async function use Queue and await it."
            )
        if not self._loop.is_running():
            work.close()
            raise RuntimeError(LOOP_ENDED)
        answer = asyncio.run_coroutine_threadsafe(work, self._loop)
        while not concurrent.futures.wait((answer,), LOOK_EVERY_S).done:
            if not self._loop.is_running():
                raise RuntimeError(LOOP_ENDED)
        return answer.result()


class SyncJob(Generic[R_co]):
    """A handle for code that cannot await."""

    def __init__(self, job: Job[R_co], queue: SyncQueue) -> None:
        self._job, self._queue = job, queue

    def __repr__(self) -> str:
        return repr(self._job)

    @property
    def id(self) -> str:
        """The job's id."""
        return self._job.id

    @property
    def created(self) -> bool:
        """False when the job existed already."""
        return self._job.created

    def info(self) -> JobInfo:
        """As ``Job.info``."""
        return self._queue.run(self._job.info())

    def status(self) -> JobState:
        """As ``Job.status``."""
        return self._queue.run(self._job.status())

    def result(self, timeout: timedelta | float | None = None) -> R_co:
        """As ``Job.result``."""
        return self._queue.run(self._job.result(timeout))

    def cancel(self) -> Literal["cancelled", "requested", "finished"]:
        """As ``Job.cancel``."""
        return self._queue.run(self._job.cancel())


async def _running_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()
