"""Waiting for a change of one job, for long polls, submits with ``Prefer: wait``, and event streams."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final

from arq_web.errors import JobNotFound
from arq_web.http import answers
from arq_web.http.stopping import server_is_stopping
from arq_web.job import JobInfo
from arq_web.queue import Job
from arq_web.store.follower import Follow

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

MAX_WAITING_COUNT = 1000
CHECK_STOPPING_S: Final = 0.2


class TooManyWaiting(Exception):
    """This process holds as many streams and long polls as it may."""

    def __init__(self, limit_count: int) -> None:
        self.limit_count = limit_count
        super().__init__(f"{limit_count} streams and long polls are open already")


class Waiters:
    """Those who wait, in one process: long polls and open streams. Opens nothing before somebody waits.

    However many there are, Redis sees one subscription of the process, and one look at all their jobs each two seconds.
    """

    def __init__(self, limit_count: int = MAX_WAITING_COUNT) -> None:
        self.limit_count = limit_count
        self._open: set[Follow] = set()
        self._checked: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()

    @property
    def open_count(self) -> int:
        """How many wait now."""
        return len(self._open)

    async def changed(self, job: Job[Any], seen_etag: str, within_s: float, receive: Receive) -> JobInfo:
        """The job, as soon as its entity tag is another than ``seen_etag``, or as it is after ``within_s``.

        Earlier, unchanged, when the server is told to stop, or when ``receive`` tells that the client is gone.

        Raises:
            TooManyWaiting: this process has no place left.
            JobNotFound: it is gone.
            StoreUnavailable: Redis did not answer, all the time.
        """

        def is_awaited(info: JobInfo) -> bool:
            return info.is_finished or answers.etag_of(info) != seen_etag

        return await self._wait(job, is_awaited, within_s, receive)

    async def ended(self, job: Job[Any], within_s: float, receive: Receive) -> JobInfo:
        """The job, as soon as it has ended, or as it is after ``within_s``. Else as ``changed``."""
        return await self._wait(job, lambda info: info.is_finished, within_s, receive)

    @contextmanager
    def follow(self, job: Job[Any]) -> Iterator[Follow]:
        """Hold one of the places, and follow a job there. It is stopped when the server is told to stop.

        Raises:
            TooManyWaiting: there is no place left.
        """
        if self.open_count >= self.limit_count:
            raise TooManyWaiting(self.limit_count)
        with job.queue.queues.follower().follow(job.queue.store, job.id) as follow:
            self._open.add(follow)
            if follow.loop not in self._checked:
                self._checked.add(follow.loop)
                self._check_stopping(follow.loop)
            try:
                yield follow
            finally:
                self._open.discard(follow)

    async def _wait(
        self, job: Job[Any], is_awaited: Callable[[JobInfo], bool], within_s: float, receive: Receive
    ) -> JobInfo:
        known: JobInfo | None = None
        with self.follow(job) as follow, suppress(TimeoutError):
            async with stopped_when_gone(follow, receive), asyncio.timeout(within_s):
                while not follow.is_stopped:
                    info = await follow.next()
                    if follow.is_stopped:
                        break
                    if info is None or info.is_dismissed:
                        raise JobNotFound(job.id)
                    if is_awaited(info):
                        return info
                    known = info
        return known or await job.info()

    def _check_stopping(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look at the server now and then, for as long as somebody waits in this loop."""
        ours = [follow for follow in self._open if follow.loop is loop]
        if server_is_stopping():
            for follow in ours:
                follow.stop()
        if ours:
            loop.call_later(CHECK_STOPPING_S, self._check_stopping, loop)
        else:
            self._checked.discard(loop)


@asynccontextmanager
async def stopped_when_gone(follow: Follow, receive: Receive) -> AsyncIterator[None]:
    """Stop ``follow`` as soon as its client is gone: nobody hears the answer, and others want the place.

    Args:
        follow: the client's place.
        receive: the request's ASGI channel; what is left of the body is read from it, and dropped.
    """
    listening = asyncio.create_task(_stop_when_gone(follow, receive), name="arq_web.http.client")
    try:
        yield
    finally:
        listening.cancel()
        await asyncio.wait((listening,))


async def _stop_when_gone(follow: Follow, receive: Receive) -> None:
    is_read = False
    with suppress(OSError):
        while (message := await receive())["type"] != "http.disconnect":
            if is_read:  # a middleware that gives the body again and again; its receive never tells, and never waits
                return
            is_read = not message.get("more_body", False)
    follow.stop()
