"""What every worker does beside its jobs: take back what silent workers held, and fire schedules."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from arq_web import events
from arq_web.errors import JobIdConflict, StoreError
from arq_web.events import emit
from arq_web.queue import Queue
from arq_web.schedule import Schedule
from arq_web.store.store import FireReply, Reclaimed, Store
from arq_web.worker.clock import ServerClock
from arq_web.worker.outage import Outage

RECLAIM_EVERY_S = 1.0
RECLAIM_COUNT = 100
LONGEST_SLEEP_S = 60.0
LOOK_AGAIN_S = 60.0
"""Between looks at a schedule that another version of the app has declared as its own."""
STATE_WORDS = {"q": "queued", "d": "dead", "x": "cancelled"}
SKIP_LATE_MS = 60_000
"""A tick later than this counts as missed for ``misfire="skip"``."""


class Reclaimer:
    """Looks each second for leases that have passed, in the queues that have any lease at all."""

    def __init__(
        self, stores: Sequence[Store], lease_counts: dict[str, int], outage: Outage, clock: ServerClock
    ) -> None:
        self._stores, self._lease_counts = stores, lease_counts
        self._outage, self._clock = outage, clock

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await asyncio.sleep(RECLAIM_EVERY_S)
            for store in self._stores:
                if self._lease_counts.get(store.queue):
                    await self._reclaim(store)

    async def _reclaim(self, store: Store) -> None:
        try:
            reply = await store.reclaim(RECLAIM_COUNT)
            while len(reply.jobs) == RECLAIM_COUNT:
                self._report(reply.jobs)
                reply = await store.reclaim(RECLAIM_COUNT)
        except StoreError as error:
            await self._outage.wait(error)
            return
        self._clock.saw(reply.now_ms)
        self._report(reply.jobs)
        if not reply.earliest_lease_ms:
            self._lease_counts[store.queue] = 0

    @staticmethod
    def _report(jobs: Sequence[Reclaimed]) -> None:
        for job in jobs:
            state = STATE_WORDS.get(job.state, job.state)
            emit(events.JOB_RECLAIMED, job=job.id, task=job.task, crashes=job.crashes, worker=job.worker, state=state)


class Scheduler:
    """Fires one schedule at its ticks. Any number of processes do; the script lets each tick pass once."""

    def __init__(self, schedule: Schedule, queue: Queue, outage: Outage, clock: ServerClock) -> None:
        self._schedule, self._queue, self._outage, self._clock = schedule, queue, outage, clock

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
                now_ms = await self._queue.store.server_now_ms()
                first_ms = missed_ms or self._schedule.times.next_after_ms(now_ms)
                now_ms, tick_ms = await self._queue.store.declare(
                    self._schedule.name, self._schedule.fingerprint, first_ms
                )
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
        new = None if skipped else self._queue.new_job(schedule.job_call(tick_ms))
        reply = await self._queue.store.fire(schedule.name, schedule.fingerprint, tick_ms, following_ms, new)
        self._clock.saw(reply.now_ms)
        return await self._next_tick(reply, tick_ms, skipped)

    async def _next_tick(self, reply: FireReply, tick_ms: int, skipped: bool) -> int:
        name = self._schedule.name
        match reply.outcome:
            case "fired":
                if skipped:
                    emit(events.SCHEDULE_SKIPPED, schedule=name, tick=tick_ms, reason="missed")
                elif reply.job_id != f"cron:{name}:{tick_ms}":
                    emit(events.SCHEDULE_SKIPPED, schedule=name, tick=tick_ms, reason=f"job {reply.job_id} still lives")
                else:
                    emit(
                        events.SCHEDULE_FIRED,
                        schedule=name,
                        job=reply.job_id,
                        tick=tick_ms,
                        late_ms=reply.now_ms - tick_ms,
                    )
                return reply.tick_ms
            case "moved" | "early":
                return reply.tick_ms
            case "foreign":  # another version of the app declared its own spec: it fires, we look again now and then
                reason = "another version of the app has declared it"
                emit(events.SCHEDULE_SKIPPED, schedule=name, tick=tick_ms, reason=reason)
                return await self._wait_for_ours(tick_ms, reply.tick_ms)
            case "conflict":
                error = JobIdConflict(f"cron:{name}:{tick_ms}", self._schedule.call.task.name, reply.job_id)
                emit(events.STORE_TROUBLE, redis=self._queue.store.connections.target.address, error=str(error))
                await asyncio.sleep(LOOK_AGAIN_S)
                return await self._declare()
            case _:  # the database was flushed, or the schedule has not been declared for long
                return await self._declare()

    async def _wait_for_ours(self, missed_ms: int, theirs_ms: int) -> int:
        """Wait until nobody of the other version is left: its stored tick then stays in the past, and we declare again.

        Args:
            missed_ms: our tick that found the other version there.
            theirs_ms: the tick that the other version had stored then.
        """
        while True:
            await asyncio.sleep(LOOK_AGAIN_S)
            try:
                reply = await self._queue.store.fire(self._schedule.name, self._schedule.fingerprint, 0, 0, None)
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
