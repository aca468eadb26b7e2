"""What every worker does beside its jobs: take back what silent workers held, and fire schedules."""

from __future__ import annotations

import asyncio
import functools
import secrets
import time
from collections.abc import Sequence
from typing import Any, Protocol

from arq_web import events
from arq_web.enqueuing import Passage
from arq_web.errors import JobIdConflict, StoreError
from arq_web.events import emit
from arq_web.queue import Job, Queue
from arq_web.schedule import Schedule, Ticks
from arq_web.store.store import FireReply, NewJob, Reclaimed, Store
from arq_web.worker.clock import ServerClock
from arq_web.worker.neighbours import Neighbours
from arq_web.worker.observing import Observing
from arq_web.worker.outage import Outage

LOOK_EVERY_S = 0.5
"""For neighbours that died."""
RECLAIM_EVERY_S = 1.0
RECLAIM_COUNT = 100
LONGEST_SLEEP_S = 60.0
LOOK_AGAIN_S = 60.0
"""Between looks at a schedule that another version of the app has declared as its own."""
STATE_WORDS = {"q": "queued", "d": "dead", "x": "cancelled"}
LONGEST_REFUSAL_S = 2.0
"""How long a tick that this worker's middleware refuses is left to the others; at most half the way to the next one."""
SKIP_LATE_MS = 60_000
"""A tick later than this counts as missed for ``misfire="skip"``."""


class Reclaimer:
    """Looks for leases that have passed, in the queues that have any lease at all, and for neighbours that died."""

    def __init__(
        self,
        stores: Sequence[Store],
        lease_counts: dict[str, int],
        neighbours: Neighbours,
        outage: Outage,
        clock: ServerClock,
        observing: Observing | None = None,
    ) -> None:
        self._stores, self._lease_counts, self._neighbours = stores, lease_counts, neighbours
        self._outage, self._clock, self._observing = outage, clock, observing

    async def run(self) -> None:
        """Work until cancelled. The first look is now: a worker that is started again comes for its own jobs."""
        due_s = time.monotonic() + RECLAIM_EVERY_S
        while True:
            dead, is_due = self._neighbours.dead(), time.monotonic() >= due_s
            for store in self._stores:
                if dead or (is_due and self._lease_counts.get(store.queue)):
                    await self._reclaim(store, dead)
            if is_due:
                due_s = time.monotonic() + RECLAIM_EVERY_S
            await asyncio.sleep(LOOK_EVERY_S)

    async def _reclaim(self, store: Store, dead: Sequence[str]) -> None:
        try:
            reply = await store.reclaim(RECLAIM_COUNT, dead=dead)
            while len(reply.jobs) >= RECLAIM_COUNT:
                self._report(store.queue, reply.jobs)
                reply = await store.reclaim(RECLAIM_COUNT)
        except StoreError as error:
            await self._outage.wait(error)
            return
        self._clock.saw(reply.now_ms)
        self._report(store.queue, reply.jobs)
        if not reply.earliest_lease_ms:
            self._lease_counts[store.queue] = 0

    def _report(self, queue: str, jobs: Sequence[Reclaimed]) -> None:
        for job in jobs:
            state = STATE_WORDS.get(job.state, job.state)
            facts = {"job": job.id, "task": job.task, "queue": queue, "crashes": job.crashes, "worker": job.worker}
            emit(events.JOB_RECLAIMED, **facts, state=state)
        if jobs and self._observing is not None:
            self._observing.reclaimed(queue, jobs)


class Firing(Protocol):
    """What a Scheduler needs of a recurring job: its times, where it is fired, and the job of a tick."""

    @property
    def name(self) -> str:
        """Unique in its queue."""
        ...

    @property
    def store(self) -> Store:
        """Where its jobs go."""
        ...

    @property
    def schedule(self) -> Ticks:
        """When, and what becomes of missed runs."""
        ...

    def new_job(self, tick_ms: int) -> NewJob:
        """The job of one tick."""
        ...

    async def fire(self, tick_ms: int, next_tick_ms: int, new: NewJob) -> FireReply | Exception:
        """Enqueue the job of a tick. An exception: it is not to be, and nothing was sent.

        Raises:
            StoreError: Redis did not answer.
        """
        ...

    def conflict(self, tick_ms: int, existing_task: str) -> Exception | None:
        """What it means that the tick's id belongs to a job of another task; None: the tick is skipped."""
        ...


class QueueFiring:
    """A schedule of a task, in one of the app's queues."""

    def __init__(self, schedule: Schedule, queue: Queue) -> None:
        self.name, self.schedule, self.store, self._queue = schedule.name, schedule, queue.store, queue

    def new_job(self, tick_ms: int) -> NewJob:
        """The call of one tick, encoded."""
        return self._queue.new_job(self.schedule.job_call(tick_ms))

    async def fire(self, tick_ms: int, next_tick_ms: int, new: NewJob) -> FireReply | Exception:
        """Enqueue the job of a tick, through the app's middleware. An exception: it refuses the job of this tick.

        Raises:
            StoreError: Redis did not answer.
        """
        fire = functools.partial(self.store.fire, self.name, self.schedule.fingerprint, tick_ms, next_tick_ms)
        if not self._queue.queues.enqueue_middleware:
            return await fire(new)
        replies: list[FireReply] = []
        outages: list[StoreError] = []

        async def send(passed: NewJob) -> Job[Any]:
            try:
                reply = await fire(passed)
            except StoreError as error:
                outages.append(error)
                raise
            replies.append(reply)
            job_id = reply.job_id if reply.outcome == "fired" else passed.id  # or another process has fired it
            created = reply.outcome == "fired" and job_id == passed.id
            return Job(self._queue, job_id, self.schedule.call.task, created=created)

        try:
            await Passage[Job[Any]](self._queue, new).through(send)
        except Exception as error:  # noqa: BLE001 - the app's own word: once more would be the same, for ever
            if not replies and outages:
                raise outages[-1] from None  # whatever the layers say: when Redis is back, the tick is still to come
            if not replies:
                return error  # a StoreError too, if it is a layer's own
            say_refused(self.name, error)
        return replies[0]

    def conflict(self, tick_ms: int, existing_task: str) -> Exception | None:
        """Somebody gave one of our ids to a job of his own."""
        return JobIdConflict(self.new_job(tick_ms).id, self.schedule.call.task.name, existing_task)


def say_refused(schedule: str, error: Exception) -> None:
    """Log what a layer raised around a tick that has its job, or had its time."""
    emit(events.HELPER_FAILED, helper=f"middleware of schedule {schedule}", error=repr(error))


class Scheduler:
    """Fires one schedule at its ticks. Any number of processes do; the script lets each tick pass once."""

    def __init__(self, firing: Firing, outage: Outage, clock: ServerClock) -> None:
        self._firing, self._schedule, self._store = firing, firing.schedule, firing.store
        self._outage, self._clock = outage, clock
        self._asker = secrets.token_urlsafe(6)
        self._refused: type[Exception] | None = None
        """How the app's middleware refused the last tick."""

    async def run(self) -> None:
        """Work until cancelled."""
        tick_ms = await self._declare()
        while True:
            await asyncio.sleep(min(LONGEST_SLEEP_S, max(0.0, self._clock.seconds_until(tick_ms))))
            if self._clock.seconds_until(tick_ms) > 0:
                continue
            try:
                tick_ms = await self._fire(tick_ms)
            except StoreError as error:
                await self._outage.wait(error)

    async def _declare(self, missed_ms: int | None = None) -> int:
        """Make the schedule known, from now on or from a tick that was missed; returns its next tick, ms."""
        while True:
            try:
                now_ms = await self._store.server_now_ms()
                first_ms = missed_ms or self._schedule.times.next_after_ms(now_ms)
                now_ms, tick_ms = await self._store.declare(self._firing.name, self._schedule.fingerprint, first_ms)
            except StoreError as error:
                await self._outage.wait(error)
                continue
            self._clock.saw(now_ms)
            return tick_ms

    async def _fire(self, tick_ms: int) -> int:
        """Fire the tick that has come; returns the tick to wait for."""
        schedule, now_ms = self._schedule, self._clock.now_ms
        following_ms = schedule.tick_after(tick_ms, now_ms)
        skipped = schedule.misfire == "skip" and now_ms - tick_ms > SKIP_LATE_MS
        new = None if skipped else self._firing.new_job(tick_ms)
        reply, refused = await self._send(tick_ms, following_ms, new)
        self._clock.saw(reply.now_ms)
        if reply.outcome == "conflict":
            error = self._firing.conflict(tick_ms, reply.job_id)
            if error is None:
                self._say_skipped(tick_ms, f"its id belongs to a job of {reply.job_id}")
                return (await self._ask(tick_ms, following_ms, None)).tick_ms
            emit(events.STORE_TROUBLE, redis=self._store.connections.target.address, error=str(error))
            await asyncio.sleep(LOOK_AGAIN_S)
            return await self._declare()
        return await self._next_tick(reply, tick_ms, None if new is None or refused else new.id, refused or "missed")

    async def _send(self, tick_ms: int, following_ms: int, new: NewJob | None) -> tuple[FireReply, str]:
        """What Redis answers; and why the tick passes without its job, where the app's middleware refuses it."""
        if new is None:
            return await self._ask(tick_ms, following_ms, None), ""
        reply = await self._firing.fire(tick_ms, following_ms, new)
        if isinstance(reply, FireReply):
            self._refused = None
            return reply, ""
        # Only this worker's layers may be sick: another one gets the time to fire it.
        await asyncio.sleep(min(LONGEST_REFUSAL_S, (following_ms - tick_ms) / 2000))
        answer = await self._ask(tick_ms, following_ms, None)
        if answer.outcome == "moved" and type(reply) is not self._refused:
            say_refused(self._firing.name, reply)  # another one has had it, and this one stays sick unseen
        self._refused = type(reply)
        return answer, f"middleware refused it: {type(reply).__name__}: {reply}"

    async def _ask(self, tick_ms: int, following_ms: int, new: NewJob | None) -> FireReply:
        name, fingerprint = self._firing.name, self._schedule.fingerprint
        return await self._store.fire(name, fingerprint, tick_ms, following_ms, new, asker=self._asker)

    async def _next_tick(self, reply: FireReply, tick_ms: int, job_id: str | None, why_none: str) -> int:
        match reply.outcome:
            case "fired":
                if job_id is None:
                    self._say_skipped(tick_ms, why_none)
                elif reply.job_id != job_id:
                    self._say_skipped(tick_ms, f"job {reply.job_id} still lives")
                else:
                    emit(
                        events.SCHEDULE_FIRED,
                        schedule=self._firing.name,
                        job=reply.job_id,
                        queue=self._store.queue,
                        tick=tick_ms,
                        late_ms=reply.now_ms - tick_ms,
                    )
                return reply.tick_ms
            case "moved" | "early":
                return reply.tick_ms
            case "foreign":  # another version of the app declared its own spec: it fires, we look again now and then
                self._say_skipped(tick_ms, "another version of the app has declared it")
                return await self._wait_for_ours(tick_ms, reply.tick_ms)
            case _:  # the database was flushed, or the schedule has not been declared for long
                return await self._declare()

    def _say_skipped(self, tick_ms: int, reason: str) -> None:
        name, queue = self._firing.name, self._store.queue
        emit(events.SCHEDULE_SKIPPED, schedule=name, queue=queue, tick=tick_ms, reason=reason)

    async def _wait_for_ours(self, missed_ms: int, theirs_ms: int) -> int:
        """Wait until nobody of the other version is left: its stored tick then stays in the past, and we declare again.

        Args:
            missed_ms: our tick that found the other version there.
            theirs_ms: the tick that the other version had stored then.
        """
        while True:
            await asyncio.sleep(LOOK_AGAIN_S)
            try:
                reply = await self._ask(0, 0, None)
            except StoreError as error:
                await self._outage.wait(error)
                continue
            if reply.outcome != "foreign":
                return await self._declare()
            if reply.tick_ms != theirs_ms:  # it fires: what was due until now was its to run
                theirs_ms, missed_ms = reply.tick_ms, self._schedule.times.next_after_ms(reply.now_ms)
            if reply.now_ms - theirs_ms > 2 * LOOK_AGAIN_S * 1000:
                # A deployment that was taken back leaves no run behind: misfire= decides about the one it cost us.
                return await self._declare(missed_ms)
