"""Following jobs: whoever looks at one learns of each change, and all who look in one process share one reply channel.

The record is the truth. What is pushed is a hint to read it again; whatever a hint missed is found by the look that is
taken at all of them each two seconds.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from arq_web.errors import StoreError, StoreFull, StoreUnavailable
from arq_web.job import JobInfo
from arq_web.store.record import UnreadableRecord, read_info
from arq_web.store.reply_channel import ReplyChannel

if TYPE_CHECKING:
    from arq_web.store.store import Store

LOOK_AGAIN_S = 2.0
"""What a lost push costs at most, a tenth more or less: processes that were started together spread out."""
PAUSE_S = 0.02
"""Between two looks: under load many changes are read in one round trip."""
RETRY_S = 1.0
"""After Redis did not answer."""
PROMISE_S = 30.0
"""The promise to publish lasts a minute (watch.lua); it is renewed at half of that."""
READ_AT_ONCE: Final = 100


class Follow:
    """One who looks at one job. Made by ``Follower.follow``; belongs to its loop."""

    __slots__ = ("_future", "_job", "_seen", "_wanted", "is_stopped", "loop")

    def __init__(self, job: _Followed) -> None:
        self.loop = asyncio.get_running_loop()
        self.is_stopped = False
        self._job = job
        # A look that is on its way was begun before we came: what it finds may be older than what we know already.
        self._wanted = job.begun + 1
        self._seen = -1
        self._future: asyncio.Future[None] | None = None

    async def next(self) -> JobInfo | None:
        """The job as it is; from the second call on, as soon as it is different. None: there is none (any more).

        Waits for ever, also for a Redis that is gone: the caller sets the limit. When ``is_stopped`` it returns at
        once, with what is known.

        Raises:
            StoreRefused, StoreCorrupt: waiting would not help.
        """
        job = self._job
        while not self.is_stopped and (job.answered < self._wanted or job.version == self._seen):
            self._future = self.loop.create_future()
            try:
                await self._future
            finally:
                self._future = None
        self._seen = job.version
        if job.error is not None:
            raise type(job.error)(job.error.address, job.error.why)
        return job.info

    def stop(self) -> None:
        """Wait no more, whatever happens to the job."""
        self.is_stopped = True
        self.wake()

    def wake(self) -> None:
        """Something may be new."""
        if self._future is not None and not self._future.done():
            self._future.set_result(None)


class _Followed:
    """One job that somebody here looks at, and what is known of it."""

    __slots__ = (
        *("answered", "begun", "error", "follows", "info", "job_id", "promised_at", "raw_hash", "store", "version"),
    )

    def __init__(self, store: Store, job_id: str) -> None:
        self.store, self.job_id = store, job_id
        self.follows: set[Follow] = set()
        self.info: JobInfo | None = None
        self.error: StoreError | None = None
        self.version = 0
        self.begun = self.answered = 0
        """Looks, counted: all but the last that was begun have been answered, or never will be."""
        self.promised_at = float("-inf")
        self.raw_hash: int | None = None

    def learn(self, info: JobInfo | None, error: StoreError | None = None) -> None:
        """Take what a look has found; the looks at one job follow one another, so it is never older than the last."""
        self.answered = self.begun
        if self.version == 0 or info != self.info or error is not None:
            self.info, self.error = info, error
            self.version += 1
        for follow in self.follows:
            follow.wake()

    def learn_raw(self, raw: bytes | None) -> None:
        """The same, as Redis has it. Most looks find nothing new: that is seen without reading the record."""
        if raw is not None and self.error is None and hash(raw) == self.raw_hash:
            return self.learn(self.info)
        self.raw_hash = None if raw is None else hash(raw)
        try:
            return self.learn(None if raw is None else read_info(self.job_id, self.store.queue, raw))
        except UnreadableRecord as error:
            return self.learn(None, self.store.corrupt_record(self.job_id, error))


class Follower:
    """Keeps those who follow jobs up to date. Belongs to one running loop; does nothing while nobody follows."""

    def __init__(self, replies: ReplyChannel) -> None:
        self._replies = replies
        self._jobs: dict[tuple[bytes, str], _Followed] = {}
        self._due: set[_Followed] = set()
        self._stirred = asyncio.Event()
        self._look_at_all_at = 0.0
        self._runner: asyncio.Task[None] | None = None
        self._opening: asyncio.Task[None] | None = None
        replies.attach(self._received, self._missed_some)

    @contextmanager
    def follow(self, store: Store, job_id: str) -> Iterator[Follow]:
        """Follow a job for as long as the context lasts; nothing is asked of Redis before the loop runs on."""
        key = (store.base, job_id)
        job = self._jobs.get(key)
        if job is None:
            job = self._jobs[key] = _Followed(store, job_id)
        follow = Follow(job)
        job.follows.add(follow)
        self._look_soon((job,))
        if self._runner is None:
            self._runner = asyncio.create_task(self._run(), name="arq_web.follower")
        try:
            yield follow
        finally:
            job.follows.discard(follow)
            if not job.follows and self._jobs.get(key) is job:
                del self._jobs[key]
                self._due.discard(job)
                self._stirred.set()

    def stop(self) -> None:
        """Stop all who follow now, and ask nothing more of Redis for them: the app's connections are about to close."""
        for job in self._jobs.values():
            for follow in job.follows:
                follow.stop()
        self._jobs.clear()
        self._due.clear()
        self._stirred.set()
        if self._opening is not None:
            self._opening.cancel()

    def _look_soon(self, jobs: Iterable[_Followed]) -> None:
        self._due.update(jobs)
        self._stirred.set()

    # -- hints ----------------------------------------------------------------------------

    def _received(self, base: bytes, job_id: str, raw: bytes) -> None:
        job = self._jobs.get((base, job_id))
        if job is not None:
            self._look_soon((job,))

    def _missed_some(self) -> None:
        """What was published is not said twice, and what was promised may be forgotten."""
        for job in self._jobs.values():
            job.promised_at = float("-inf")
        self._look_soon(self._jobs.values())

    # -- looking --------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            while self._jobs:
                await self._until_due()
                due, self._due = self._due, set()
                pause_s = PAUSE_S if await self._look(due) else _about(RETRY_S)
                await asyncio.sleep(pause_s)
        finally:
            self._runner = None
            self._due.clear()

    async def _until_due(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._look_at_all_at):
                while not self._due and self._jobs:
                    self._stirred.clear()
                    await self._stirred.wait()
        now = asyncio.get_running_loop().time()
        if now >= self._look_at_all_at:
            self._look_at_all_at = now + _about(LOOK_AGAIN_S)
            self._due.update(self._jobs.values())

    async def _look(self, jobs: set[_Followed]) -> bool:
        """Look at all of ``jobs``, in one round trip. False when Redis did not answer for some: they remain due."""
        self._open_channel()
        now = time.monotonic()
        unread: dict[bytes, list[_Followed]] = {}
        looks = []
        for job in jobs:
            job.begun += 1
            if now - job.promised_at >= PROMISE_S:
                looks.append(self._watch(job))
            else:
                unread.setdefault(job.store.base, []).append(job)
        for group in unread.values():
            looks += [self._read(group[i : i + READ_AT_ONCE]) for i in range(0, len(group), READ_AT_ONCE)]
        return all(await asyncio.gather(*looks))

    async def _watch(self, job: _Followed) -> bool:
        try:
            word, info = await job.store.watch(job.job_id, self._replies.name, follow=True)
        except StoreFull:  # then changes are found by looking
            return await self._read([job])
        except StoreUnavailable:
            return self._failed([job])
        except StoreError as error:
            job.learn(None, error)
            return True
        if word == "watching":
            job.promised_at = time.monotonic()
        job.raw_hash = None
        job.learn(info)
        return True

    async def _read(self, jobs: Sequence[_Followed]) -> bool:
        try:
            raws = await jobs[0].store.records([job.job_id for job in jobs])
        except StoreUnavailable:
            return self._failed(jobs)
        except StoreError as error:
            for job in jobs:
                job.learn(None, error)
            return True
        for job, raw in zip(jobs, raws, strict=True):
            job.learn_raw(raw)
        return True

    def _failed(self, jobs: Iterable[_Followed]) -> bool:
        self._due.update(job for job in jobs if job.follows)
        return False

    def _open_channel(self) -> None:
        """In the background: what is missed until it is open is looked for then."""
        if not self._replies.is_open and (self._opening is None or self._opening.done()):
            self._opening = asyncio.create_task(self._open(), name="arq_web.follower.open")

    async def _open(self) -> None:
        # Without the right to subscribe there are no hints, and changes are found by looking.
        with suppress(StoreError):
            await self._replies.open()
            self._look_soon(self._jobs.values())


def _about(pause_s: float) -> float:
    return pause_s * random.uniform(0.9, 1.1)  # noqa: S311 - jitter, not a secret
