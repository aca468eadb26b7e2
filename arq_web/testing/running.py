"""Runs a test's jobs by a real worker, and lets time pass between them instead of waiting."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

from arq_web.errors import JobIdConflict
from arq_web.hub import Hub
from arq_web.job import JobInfo, JobState
from arq_web.queue import Queue
from arq_web.schedule import Schedule
from arq_web.store.sandbox import Sandbox
from arq_web.testing.failures import TooManyAttempts
from arq_web.testing.seen import PARKED
from arq_web.worker.claimer import Burst
from arq_web.worker.maintenance import QueueFiring
from arq_web.worker.options import WorkerOptions
from arq_web.worker.worker import Worker

LOOK_EVERY_S: Final = 0.005
"""At a job that another enqueue of the test runs meanwhile."""
DRAIN_S: Final = 86_400.0
"""An attempt has its own timeout."""
_NOT_OURS: Final = "-"
"""The fingerprint of a schedule that nobody has: who declares his own after it begins anew."""

DEEPEST: Final = 50
"""Inline, a job that enqueues another waits for it, with a worker for each: so many may wait for each other."""

Key = tuple[str, str]
"""Queue and id."""


@dataclass(slots=True)
class _Chain:
    """What one call of a test has set off: its run, and all that its jobs run inline."""

    attempts: int = 0
    workers: list[tuple[Worker, asyncio.AbstractEventLoop]] = field(default_factory=list)
    """Those that work, each (but the first) within a job of the one before it."""
    is_over: bool = False
    """It was too long: nothing more is begun."""

    def stop(self) -> None:
        """Let every worker of it end with what it runs."""
        self.is_over = True
        for worker, loop in self.workers:
            loop.call_soon_threadsafe(worker.stop)
        self.workers.clear()


_chain: ContextVar[_Chain | None] = ContextVar("arq_web.testing.chain", default=None)


class Runs:
    """Everything that makes jobs of one test run. On the loop of who calls."""

    def __init__(self, hub: Hub, *, concurrency: int, most_attempts: int) -> None:
        self._hub, self._concurrency, self._most = hub, concurrency, most_attempts
        self._sandboxes = [Sandbox(hub.queues.store(name)) for name in hub.queue_names]

    @property
    def is_nested(self) -> bool:
        """True in a job that such a run has begun."""
        return _chain.get() is not None

    async def ping(self) -> None:
        """Ask Redis whether it is there. Raises StoreUnavailable."""
        await self._sandboxes[0].store.server_now_ms()

    async def jobs(self) -> list[JobInfo]:
        """Every job of the test, finished ones too."""
        found = [await each.jobs() for each in self._sandboxes]
        return [info for queue in found for info in queue]

    async def wipe(self) -> None:
        """Delete every key."""
        for each in self._sandboxes:
            await each.wipe()

    async def catch_up(self) -> None:
        """What lies in an outbox goes to its queue now."""
        for make in self._hub.companions:
            await make().catch_up()

    async def until(self, moment_ms: int) -> int:
        """From now (server time) until then."""
        return moment_ms - await self._sandboxes[0].store.server_now_ms()

    async def run_all(self, for_ms: int | None) -> list[Key]:
        """Run what is ready, then let time pass until the next job is due, and so on.

        Args:
            for_ms: how much time may pass, and passes; None: as much as there are jobs for.

        Returns:
            The jobs that had an attempt or came to an end, parked ones too, in the order of their enqueueing.

        Raises:
            TooManyAttempts: it does not come to an end.
        """
        before = {_key(info): info for info in await self.jobs()}
        left_ms = for_ms
        while True:
            await self._burst(before)
            infos = await self.jobs()
            wait_ms = await self._next_due_in_ms()
            is_stuck = any(is_parked(info) for info in infos)
            if wait_ms is not None and (is_stuck or (left_ms is not None and wait_ms > left_ms)):
                wait_ms = None
            if wait_ms is not None or any(info.state is JobState.QUEUED for info in infos):
                self._check_limit(infos, before)
            if wait_ms is None:
                break
            await self.pass_time(wait_ms)
            left_ms = None if left_ms is None else left_ms - wait_ms
        await self.pass_time(left_ms or 0)
        return [_key(info) for info in infos if _has_moved(info, before.get(_key(info)))]

    async def pass_time(self, ms: int) -> None:
        """Let time pass for all that wait."""
        if ms > 0:
            for each in self._sandboxes:
                await each.hasten(ms)

    async def run_these(self, queue: Queue, job_ids: Sequence[str]) -> list[Key]:
        """Run jobs that were enqueued just now, and their retries at once, to their ends; those due later stay.

        Returns:
            What has ended, or is parked.

        Raises:
            TooManyAttempts: it does not come to an end. Not within a job, which would be tried again for it: the call
                that began it all raises it.
        """
        sandbox = next(each for each in self._sandboxes if each.store.queue == queue.name)
        began = {info.id: info for info in await _read(sandbox, job_ids) if info.state is not JobState.SCHEDULED}
        ended: list[Key] = []
        while began:
            infos = await _read(sandbox, list(began))
            for info in infos:
                if info.is_finished or is_parked(info):
                    del began[info.id]
                    ended.append(_key(info))
            chain = _chain.get()
            if chain is not None and chain.is_over:
                break
            if began:
                self._check_limit(infos, {})
            await self._step(sandbox, [info for info in infos if info.id in began])
        return ended

    async def fire(self, schedules: Iterable[Schedule], for_ms: int, *, runs: bool) -> tuple[list[Key], list[Key]]:
        """Let ``for_ms`` pass, and fire each schedule at each of its ticks meanwhile.

        The clock of Redis cannot be set, so each tick is declared as one of now; its job is that of the tick.

        Returns:
            The jobs of the ticks, and (where it ``runs`` what is due) all that had an attempt.
        """
        start_ms = await self._sandboxes[0].store.server_now_ms()
        by_name = {each.name: each for each in schedules}
        ticks = {name: each.times.next_after_ms(start_ms) for name, each in by_name.items()}
        passed_ms, fired, ran = 0, list[Key](), list[Key]()
        while ticks:
            name, tick_ms = min(ticks.items(), key=lambda each: each[1])
            schedule = by_name[name]
            if tick_ms > start_ms + for_ms:
                break
            ran += await self._pass_or_run(tick_ms - start_ms - passed_ms, runs=runs)
            passed_ms = tick_ms - start_ms
            key = await self._fire(schedule, tick_ms)
            fired += [key] if key else []
            ticks[name] = schedule.tick_after(tick_ms, tick_ms)
        ran += await self._pass_or_run(for_ms - passed_ms, runs=runs)
        return fired, ran

    async def _pass_or_run(self, ms: int, *, runs: bool) -> list[Key]:
        if runs:
            return await self.run_all(ms)
        await self.pass_time(ms)
        return []

    async def _fire(self, schedule: Schedule, tick_ms: int) -> Key | None:
        """The job of a tick; None where ``overlap="skip"`` skipped it."""
        call, names = schedule.call, self._hub.queue_names
        queue = self._hub.queue(call.options.queue or call.task.policy.queue or names[0])
        firing = QueueFiring(schedule, queue)
        new, store = firing.new_job(tick_ms), queue.store
        now_ms = await store.server_now_ms()
        await store.declare(firing.name, _NOT_OURS, now_ms)
        await store.declare(firing.name, schedule.fingerprint, now_ms)
        reply = await firing.fire(now_ms, tick_ms, new)
        if isinstance(reply, Exception):  # the app's own middleware refuses it
            raise reply
        if reply.outcome == "conflict":
            raise JobIdConflict(new.id, call.task.name, reply.job_id)
        return (queue.name, new.id) if reply.job_id == new.id else None

    async def _step(self, sandbox: Sandbox, infos: Sequence[JobInfo]) -> None:
        """Bring each a little further: run it, or let the time pass until its retry."""
        later = [info for info in infos if info.state in (JobState.RETRYING, JobState.SCHEDULED)]
        now_ms = await sandbox.store.server_now_ms() if later else 0
        for info in later:
            await sandbox.hasten(max(0, (info.due_at_ms or now_ms) - now_ms), [info.id])
        if later or any(info.state is JobState.QUEUED for info in infos):
            await self._burst({})
        elif infos:
            await asyncio.sleep(LOOK_EVERY_S)

    async def _burst(self, before: dict[Key, JobInfo]) -> None:
        infos = await self.jobs() if before else []
        spent = sum(_attempts(info, before.get(_key(info))) for info in infos)
        options = WorkerOptions(
            queues=self._hub.queue_names,
            concurrency=self._concurrency,
            drain_s=DRAIN_S,
            burst=Burst.NOW,
            most_jobs=max(1, self._most - spent),
            isolates=False,
        )
        outer = _chain.get()
        chain = outer or _Chain()
        if chain.attempts >= self._most or len(chain.workers) >= DEEPEST:
            chain.stop()
            return
        await self._work(chain, self._hub.worker_of(options))
        if outer is None and chain.is_over:
            raise TooManyAttempts(chain.attempts, _counted(await self.jobs(), {}), is_deep=chain.attempts < self._most)

    async def _work(self, chain: _Chain, worker: Worker) -> None:
        """Let it run; it counts at once as one attempt, for what runs within it."""
        entry = worker, asyncio.get_running_loop()
        chain.attempts += 1
        chain.workers.append(entry)
        token = _chain.set(chain)
        try:
            await worker.run()
        finally:
            _chain.reset(token)
            if entry in chain.workers:
                chain.workers.remove(entry)
            chain.attempts += max(0, worker.counts.succeeded + worker.counts.failed - 1)

    def _check_limit(self, infos: Sequence[JobInfo], before: dict[Key, JobInfo]) -> None:
        """There is more to run: may it?"""
        attempts = _counted(infos, before)
        if attempts.total() >= self._most:
            raise TooManyAttempts(self._most, attempts)

    async def _next_due_in_ms(self) -> int | None:
        found = [await each.next_due_in_ms() for each in self._sandboxes]
        return min((ms for ms in found if ms is not None), default=None)


def is_parked(info: JobInfo) -> bool:
    """True when no worker here can run it."""
    return info.state is JobState.SCHEDULED and info.error is not None and info.error.reason in PARKED


async def _read(sandbox: Sandbox, job_ids: Sequence[str]) -> list[JobInfo]:
    found = [await sandbox.store.read(each) for each in job_ids]
    return [info for info in found if info is not None]


def _key(info: JobInfo) -> Key:
    return info.queue, info.id


def _counted(infos: Sequence[JobInfo], before: dict[Key, JobInfo]) -> Counter[str]:
    """Attempts by task."""
    attempts: Counter[str] = Counter()
    for info in infos:
        attempts[info.task] += _attempts(info, before.get(_key(info)))
    return attempts


def _attempts(info: JobInfo, before: JobInfo | None) -> int:
    return info.attempt - (before.attempt if before else 0)


def _has_moved(info: JobInfo, before: JobInfo | None) -> bool:
    if before is not None and before.is_finished and before.attempt == info.attempt:
        return False
    return info.is_finished or _attempts(info, before) > 0
