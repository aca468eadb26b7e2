"""Waiting for a change of one job, for long polls, submits with ``Prefer: wait``, and event streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from arq_web.http import answers
from arq_web.job import JobInfo
from arq_web.queue import Job

MAX_WAITING_COUNT = 1000
LOOK_AGAIN_S = 0.5


class TooManyWaiting(Exception):
    """This process holds as many streams and long polls as it may."""

    def __init__(self, limit_count: int) -> None:
        self.limit_count = limit_count
        super().__init__(f"{limit_count} streams and long polls are open already")


class Waiters:
    """Those who wait, in one process: long polls and open streams. Opens nothing before somebody waits."""

    def __init__(self, limit_count: int = MAX_WAITING_COUNT) -> None:
        self.limit_count = limit_count
        self.open_count = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold one of the places; ``changed`` and ``ended`` do it by themselves, an event stream holds one itself.

        Raises:
            TooManyWaiting: there is none left.
        """
        if self.open_count >= self.limit_count:
            raise TooManyWaiting(self.limit_count)
        self.open_count += 1
        try:
            yield
        finally:
            self.open_count -= 1

    async def changed(self, job: Job[Any], seen_etag: str, within_s: float) -> JobInfo:
        """The job, as soon as its entity tag is another than ``seen_etag``, or as it is after ``within_s``.

        Earlier, unchanged, when the server is told to stop.

        Raises:
            TooManyWaiting: this process has no place left.
            JobNotFound: it is gone.
            StoreUnavailable: Redis did not answer.
        """
        return await self._wait(job, seen_etag, within_s)

    async def ended(self, job: Job[Any], within_s: float) -> JobInfo:
        """The job, as soon as it has ended, or as it is after ``within_s``. Else as ``changed``."""
        return await self._wait(job, None, within_s)

    async def _wait(self, job: Job[Any], seen_etag: str | None, within_s: float) -> JobInfo:
        ends_at = asyncio.get_running_loop().time() + within_s
        async with self.place():
            while True:
                info = await job.info()
                left_s = ends_at - asyncio.get_running_loop().time()
                has_changed = seen_etag is not None and answers.etag_of(info) != seen_etag
                if has_changed or info.is_finished or left_s <= 0:
                    return info
                await asyncio.sleep(min(LOOK_AGAIN_S, left_s))
