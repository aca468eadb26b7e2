"""The worker: its contents page. What it does, in order; each part has a file of its own.

claimer      takes ready jobs for all free slots at once         (claimer.py)
attempts     one asyncio task per job, running the task          (attempt.py → outcome.py)
settler      ends attempts in groups, fenced                     (settler.py)
leases       a thread that renews what is held                   (leases.py)
maintenance  takes back what silent workers held; schedules      (maintenance.py)
companions   what else the app has to do in each process        (companion.py)
neighbours   a sign of life for the other workers of this host   (neighbours.py)
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from arq_web import events
from arq_web.config import Config
from arq_web.errors import InvalidConfig, StoreError
from arq_web.events import emit
from arq_web.middleware import AttemptMiddleware, Observer, inside_worker
from arq_web.queue import DEFAULT_QUEUE, Queue, QueueSet
from arq_web.registry import Registry
from arq_web.retry import Backoff, to_ms
from arq_web.schedule import Schedule
from arq_web.store.record import ClaimedJob
from arq_web.store.store import Settled, Settlement, Store
from arq_web.worker.attempt import AttemptLimits, AttemptRunner, Resolver, Runner, ended_early
from arq_web.worker.claimer import Claimer
from arq_web.worker.clock import ServerClock
from arq_web.worker.companion import Companion
from arq_web.worker.garbage import spare_what_lives
from arq_web.worker.isolation import Isolation
from arq_web.worker.leases import LeaseKeeper
from arq_web.worker.maintenance import Firing, QueueFiring, Reclaimer, Scheduler
from arq_web.worker.neighbours import Neighbours
from arq_web.worker.observing import WorkerCounts, observing
from arq_web.worker.options import WorkerOptions
from arq_web.worker.outage import Outage
from arq_web.worker.outcome import Failed, Outcome, decide, error_info
from arq_web.worker.report import report, report_claimed
from arq_web.worker.running import Running, RunningTable, StopReason
from arq_web.worker.settler import Settler
from arq_web.worker.supervision import supervised
from arq_web.worker.vitals import Vitals

CLAIM_LIMIT_S = 3.0
"""A stopping worker waits so long for the answer of its last claim."""
INTERRUPT_LIMIT_S = 0.5
"""Interrupted attempts have so long to clean up and be handed back: the process ends within a second of its drain."""
LEAVE_LIMIT_S = 0.5
"""For the last words to Redis, which may be away."""


PART = 50
"""Of a claim's attempts begin at once."""


class Worker:
    """Runs the jobs of some queues until it is told to stop."""

    def __init__(
        self,
        queues: QueueSet,
        registry: Registry,
        options: WorkerOptions,
        *,
        schedules: Sequence[Schedule] = (),
        resolver: Resolver | None = None,
        runner: Runner | None = None,
        firings: Sequence[Firing] = (),
        companions: Sequence[Companion] = (),
        middleware: Sequence[AttemptMiddleware] = (),
        observers: Sequence[Observer] = (),
    ) -> None:
        """Know what to do; begin nothing yet.

        Args:
            queues: the app's queues and connections; the worker closes none of them.
            registry: the tasks it can run.
            options: queues, concurrency, ...
            schedules: recurring jobs that it fires.
            resolver: the framework's part in an attempt.
            runner: runs the attempts in the place of the registry's tasks.
            firings: recurring jobs that are no calls of tasks.
            companions: what else runs beside the jobs.
            middleware: what stands around each attempt of the registry's tasks; the first is the outermost.
            observers: who counts what happens here.

        Raises:
            InvalidTask: a task that runs in a process of its own cannot be imported there.
            InvalidOption: a schedule's queue is not declared.
            InvalidConfig: ``lock_dir`` cannot be used.
        """
        self.id = f"{socket.gethostname().replace(' ', '-')}:{os.getpid()}:{secrets.token_hex(4)}"
        self.options, self.counts = options, WorkerCounts()
        self._queues, self._registry, self._config = queues, registry, queues.config
        self._table = RunningTable(options.concurrency)
        self._firings = [*(QueueFiring(each, self._queue_of(each)) for each in schedules), *firings]
        self._companions = companions
        self._stores = [queues.store(name) for name in options.queues]
        self._runner: Runner = runner or AttemptRunner(
            registry,
            queues.queue,
            worker=self.id,
            threads=options.concurrency,
            resolver=resolver,
            timeout_s=self._config.timeout_s,
            middleware=middleware,
        )
        self._neighbours = Neighbours(queues.config.namespace, self.id, queues.config.lock_dir)
        if self._config.lock_dir and not self._neighbours.has_place():
            raise InvalidConfig("lock_dir", self._config.lock_dir, "a folder where this user may make a private one")
        self._isolation = Isolation(
            registry,
            queues,
            self._neighbours,
            worker=self.id,
            app_target=options.app_target,
            has_middleware=bool(middleware or queues.enqueue_middleware),
        )
        for task in registry if options.isolates else ():
            self._isolation.check_importable(task)
        self._stopping = asyncio.Event()
        self._drained = asyncio.Event()
        self._observers, self._middleware = observers, middleware
        self.vitals = Vitals(self._table, self._stores, self._stopping, task_count=len(registry))

    async def run(self) -> None:
        """Work until told to stop (in a burst: until nothing is left), then drain. Returns when every attempt ended."""
        with inside_worker(self._middleware):
            await self._run()
        done = self.counts
        ends = {"succeeded": done.succeeded, "failed": done.failed, "released": done.released}
        emit(events.WORKER_STOPPED, worker=self.id, **ends)

    async def _run(self) -> None:
        async with self._running_parts() as claimer:
            if self.options.owns_process:
                spare_what_lives(self.options.concurrency)
            self._say_started()
            if self.options.burst is not None:
                await asyncio.gather(*(each.catch_up() for each in self._companions))
            await self._claim_until_stopped(claimer)  # from here: no new jobs
            await claimer.aclose()  # its outstanding wait would take a wake marker from the others
            await self._drain()  # leases are still renewed; leftovers are released
            await self._leave()

    def stop(self) -> None:
        """Begin to stop: no new claims, drain, hand back leftovers. Again: do not wait for running jobs any longer."""
        if self._stopping.is_set():
            self._drained.set()
        self._stopping.set()

    @property
    def running_count(self) -> int:
        """Jobs that run now."""
        return len(self._table)

    @property
    def only_settles(self) -> bool:
        """Jobs are left, and all of them have ended: what is missing is the word of Redis."""
        attempts = self._table.all()
        return bool(attempts) and all(running.is_settling for running in attempts)

    @asynccontextmanager
    async def _running_parts(self) -> AsyncIterator[Claimer]:
        """Everything that runs beside the claimer; what keeps the drain safe ends last."""
        config = self._config
        self._clock, self._outage = ServerClock(), Outage()
        self._observing = observing(self._observers, self._clock)
        self._leases = self._make_leases(config)
        self._settler = Settler(self.id, self._leases, self._outage)
        claimer = self._claimer = self._make_claimer(config)
        reclaimer = Reclaimer(
            self._stores, claimer.lease_counts, self._neighbours, self._outage, self._clock, self._observing
        )
        helpers: list[asyncio.Task[None]] = []
        try:
            self._neighbours.appear()
            self._leases.start()
            self.vitals.begin(self._leases)
            helpers.append(supervised("settler", self._settler.run))
            helpers.append(supervised("reclaimer", reclaimer.run))
            for firing in self._firings:
                scheduler = Scheduler(firing, self._outage, self._clock)
                helpers.append(supervised(f"schedule {firing.name}", scheduler.run))
            helpers += [supervised(each.name, each.run) for each in self._companions]
            yield claimer
        except BaseException:
            await self._interrupt()  # cancelled from outside: attempts must not outlive their leases
            raise
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            self._table.give_up()
            await self._isolation.aclose()
            # Last: it kept the drain safe. A web process may live on with a thread of ours: then its lease is kept too.
            await self._leases.stop(with_threads=self.options.owns_process)
            await claimer.aclose()
            if self._observing is not None:
                self._observing.tell()
            if not len(self._table):  # else a thread runs on, and our neighbours may take its job when the process ends
                self._neighbours.disappear()

    def _make_leases(self, config: Config) -> LeaseKeeper:
        return LeaseKeeper(
            self._table,
            self._queues.connections.target,
            worker=self.id,
            kind=self.options.kind,
            lease_ms=int(config.lease_s * 1000),
            deadline_s=config.command_deadline_s,
            clock=self._clock,
            may_exit=self.options.owns_process,
            observing=self._observing,
        )

    def _make_claimer(self, config: Config) -> Claimer:
        return Claimer(
            self._stores,
            self._table,
            self._queues.connections.waiter,
            worker=self.id,
            kind=self.options.kind,
            lease_ms=int(config.lease_s * 1000),
            settler=self._settler,
            leases=self._leases,
            outage=self._outage,
            clock=self._clock,
            on_claimed=self._start_attempts,
            most_jobs=self.options.most_jobs,
        )

    async def _claim_until_stopped(self, claimer: Claimer) -> None:
        claiming = asyncio.create_task(claimer.run(burst=self.options.burst), name="arq_web.claimer")
        stopping = asyncio.create_task(self._stopping.wait(), name="arq_web.stopping")
        try:
            await asyncio.wait((claiming, stopping), return_when=asyncio.FIRST_COMPLETED)
            claimer.stop()
            await claiming  # it ends by itself, with no claim left unanswered
        finally:
            self._stopping.set()
            claimer.stop()
            stopping.cancel()
            # Also when we are cancelled: a claim that is on its way is better answered than orphaned.
            await asyncio.wait((claiming,), timeout=CLAIM_LIMIT_S)
            claiming.cancel()

    async def _drain(self) -> None:
        """Wait for the running attempts, at most the drain time; then interrupt and release them."""
        if len(self._table):
            emit(events.WORKER_DRAINING, worker=self.id, running=len(self._table), drain_s=self.options.drain_s)
        await self._wait_for_attempts(0 if self._drained.is_set() else self.options.drain_s)
        if not len(self._table):
            return
        await self._interrupt()
        abandoned = self._table.all()  # they end with the process
        emit(events.WORKER_CUT_SHORT, worker=self.id, released=self.counts.released, abandoned=len(abandoned))
        with contextlib.suppress(StoreError, TimeoutError):
            async with asyncio.timeout(LEAVE_LIMIT_S):
                jobs = [(running.store, running.job) for running in abandoned]
                await asyncio.gather(*(store.abandon(job.id, job.attempt, job.token) for store, job in jobs))

    async def _interrupt(self) -> None:
        """End what still runs and hand it back, as far as that goes within a moment."""
        for running in self._table.all():
            running.end_early(StopReason.SHUTDOWN)
        await self._wait_for_attempts(INTERRUPT_LIMIT_S, impatient=False)

    async def _leave(self) -> None:
        """Nobody may think for another ten seconds that somebody listens. A Redis that is away is not waited for."""
        with contextlib.suppress(StoreError, TimeoutError):
            async with asyncio.timeout(LEAVE_LIMIT_S):
                for store in self._stores:
                    await store.leave(self.id, self.options.kind, slots=self.options.concurrency)

    async def _wait_for_attempts(self, limit_s: float, *, impatient: bool = True) -> None:
        empty = asyncio.create_task(self._table.wait_until_empty())
        hurry = asyncio.create_task(self._drained.wait())
        waits = (empty, hurry) if impatient else (empty,)
        await asyncio.wait(waits, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
        empty.cancel()
        hurry.cancel()

    def _start_attempts(self, store: Store, token: str, jobs: list[ClaimedJob]) -> None:
        """Take over what a claim brought: nothing may come between the claim's reply and this."""
        claimed = [Running(job, store, self._runner.timeout_s(job), may_be_cancelled=False) for job in jobs]
        self._table.add_claimed(store.queue, token, claimed)
        if jobs:
            self._claimer.lease_counts[store.queue] = max(1, self._claimer.lease_counts.get(store.queue, 0))
            if self._observing is not None:
                self._observing.begun(claimed)
        self._begin_attempts(claimed)

    def _begin_attempts(self, claimed: list[Running]) -> None:
        """Begin a part of them, and the others a moment later: so Redis settles the first while the next ones run."""
        for running in claimed[:PART]:
            if self._stopping.is_set() or running.reason is not None:
                self._settle(running, ended_early(running.reason))
            else:
                running.settle = self._settle
                running.task = asyncio.create_task(self._attempt(running))
                running.task.add_done_callback(functools.partial(self._ended, running))
        if len(claimed) > PART:
            loop = asyncio.get_running_loop()
            # Not in the very next round of the loop, but in the one in which the first part's settle is written.
            loop.call_soon(loop.call_soon, self._begin_attempts, claimed[PART:])

    async def _attempt(self, running: Running) -> None:
        """One attempt, from its start to its settlement."""
        job = running.job
        running.may_be_cancelled = True
        if events.JOB_CLAIMED.is_logged:  # asked here, for each job
            report_claimed(running, self.id, self._registry.find(job.task))
        limits = AttemptLimits(running.timeout_s, self._config.max_payload_bytes)
        outcome: Outcome
        try:
            if self.options.isolates and self._isolation.wants(job):
                outcome = await self._isolation.run(running, limits)
            else:
                if job.crashes:
                    await self._isolation.forgo(running)
                outcome = await self._runner.run(running, limits)
        except asyncio.CancelledError:  # before the task itself began
            outcome = ended_early(running.reason)
        except Exception as error:  # noqa: BLE001 - a fault of ours is a failure of the attempt: it must cost a try
            emit(events.HELPER_FAILED, helper=f"attempt of {job.task}", error=repr(error))
            outcome = Failed(error_info(error, "internal"), to_ms(Backoff()(job.failures + 1, error)))
        if not running.is_settling:  # else its runner has settled it before it returned
            self._settle(running, outcome)

    def _ended(self, running: Running, task: asyncio.Task[None]) -> None:
        """An attempt that ended without a settlement (a fault of ours) must not keep its slot and lease for ever."""
        if not running.is_settling:
            self._free(running, None, None, Settled.LOST)
        if not task.cancelled() and (error := task.exception()) is not None:
            emit(events.HELPER_FAILED, helper=f"attempt of {running.job.task}", error=repr(error))

    def _settle(self, running: Running, outcome: Outcome) -> None:
        job = running.job
        keep_ms = job.extra.get("keep_ms", job.keep_result_ms)
        settlement = decide(
            outcome,
            job,
            max_tries=self._runner.max_tries(job),
            keep_result_ms=keep_ms if isinstance(keep_ms, int) else job.keep_result_ms,
            now_ms=self._clock.now_ms,
        )
        running.is_settling, running.ended_at_s = True, time.monotonic()  # only now: what fails above is seen by _ended
        if settlement is None:
            report(events.LEASE_LOST, running, self.id, ran_ms=running.ran_ms)
            self._free(running, outcome, None, Settled.LOST)
            return
        done = functools.partial(self._settled, running, outcome, settlement)
        self._settler.put(running.store, settlement, done)

    def _settled(self, running: Running, outcome: Outcome, settlement: Settlement, answer: Settled) -> None:
        """Redis has acknowledged: the slot is free, the line is logged."""
        running.answer = answer
        self._free(running, outcome, settlement, answer)
        if answer is Settled.LOST:
            report(events.LEASE_LOST, running, self.id, ran_ms=running.ran_ms)
            return
        if settlement.outcome in ("retry", "snooze"):
            self._claimer.expect_retry(settlement.ms)
        if answer is Settled.CANCELLED:
            report(events.JOB_CANCELLED, running, self.id, ran_ms=running.ran_ms)
            return
        self.counts.add(settlement)
        self._runner.ended(running, outcome, settlement)

    def _free(self, running: Running, outcome: Outcome | None, settlement: Settlement | None, answer: Settled) -> None:
        """The attempt is over: its slot is free, and whoever counts is told."""
        self._table.remove(running)
        if self._observing is not None:
            self._observing.ended(running, outcome, settlement, answer)

    def _queue_of(self, schedule: Schedule) -> Queue:
        """The schedule's own queue, or the app's first: the same in every worker, whichever queues it serves."""
        first = (self._queues.names or (DEFAULT_QUEUE,))[0]
        return self._queues.queue(schedule.call.options.queue or schedule.call.task.policy.queue or first)

    def _say_started(self) -> None:
        emit(
            events.WORKER_STARTED,
            worker=self.id,
            queues=",".join(self.options.queues),
            concurrency=self.options.concurrency,
            tasks=len(self._registry),
            redis=self._queues.connections.target.address,
        )
