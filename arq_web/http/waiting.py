"""Waiting for a change of one job, for long polls and event streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

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
        """Hold one of the places, for a long poll or a stream.

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

    async def changed(self, job: Job[object], since_etag: str, within_s: float) -> JobInfo:
        """The job, as soon as its entity tag is another than ``since_etag``, or as it is after ``within_s``.

        Raises:
            JobNotFound: it is gone.
            StoreUnavailable: Redis did not answer.
        """
        ends_at = asyncio.get_running_loop().time() + within_s
        while True:
            info = await job.info()
            left_s = ends_at - asyncio.get_running_loop().time()
            if answers.etag_of(info) != since_etag or info.is_finished or left_s <= 0:
                return info
            await asyncio.sleep(min(LOOK_AGAIN_S, left_s))
