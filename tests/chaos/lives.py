"""The lives of jobs whose every command is a crash point: what is enqueued, what a user does, how it must end.

Here the worker is killed, and ``work`` is what it does; in ``web_lives`` it is the process that asks.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from arq_web import (
    INJECTED,
    Config,
    Hub,
    Job,
    JobContext,
    JobInfo,
    JobState,
    Progress,
    Queue,
    Schedule,
    Snooze,
    every,
    schedule,
    task,
)
from arq_web.store.store import Store
from arq_web.task import AsyncTask, Task
from tests.support.audit import jobs_of
from tests.support.forked import Request
from tests.support.journal import note
from tests.support.store_helpers import WORKER, claim_one, end_grace, expire_lease

LARGE = "x" * 5000
"""More than 4 KiB: kept aside, in a key of its own."""
TICK_S = 1


@task(max_tries=1)
async def add(a: int, b: int, ctx: JobContext = INJECTED) -> int:
    """Be done at once; a failure would be the end of it."""
    note("start", f"{ctx.queue}/{ctx.job_id}", ctx.attempt)
    return a + b


@task(max_tries=1)
async def measure(text: str, ctx: JobContext = INJECTED) -> int:
    """Tell how long the text is that arrived."""
    note("start", f"{ctx.queue}/{ctx.job_id}", ctx.attempt)
    return len(text)


@task(max_tries=1)
async def nap(ms: int, ctx: JobContext = INJECTED, progress: Progress = INJECTED) -> int:
    """Say how far it is, and sleep."""
    note("start", f"{ctx.queue}/{ctx.job_id}", ctx.attempt)
    await progress(0.5, "half")
    await asyncio.sleep(ms / 1000)
    return ms


@task(max_tries=2, retry=lambda failures, error: 0.05)
async def fail_once(ctx: JobContext = INJECTED) -> str:
    """Fail until that has been recorded; a crash that cost a try would be the end of it."""
    note("start", f"{ctx.queue}/{ctx.job_id}", ctx.attempt)
    if ctx.failures == 0:
        raise RuntimeError("for the first time")
    return "second time"


@task(max_tries=1, retry=lambda failures, error: None)
async def fail(ctx: JobContext = INJECTED) -> None:
    """Fail for good."""
    note("start", f"{ctx.queue}/{ctx.job_id}", ctx.attempt)
    raise RuntimeError("always")


@task(max_tries=1)
async def snooze_once(ctx: JobContext = INJECTED) -> str:
    """Come again a moment later."""
    note("start", f"{ctx.queue}/{ctx.job_id}", ctx.attempt)
    if ctx.attempt == 1:
        raise Snooze(delay=0.05)
    return "awake"


@task(max_tries=1, max_crashes=9)
async def survive(ctx: JobContext = INJECTED) -> str:
    """Be done at once, having lost a worker already. So many crashes are allowed that no child process is needed."""
    note("start", f"{ctx.queue}/{ctx.job_id}", ctx.attempt)
    return "survived"


@task(max_tries=1)
async def tick(ctx: JobContext = INJECTED) -> str:
    """Be a schedule's job."""
    note("start", f"{ctx.queue}/{ctx.job_id}", ctx.attempt)
    return "ticked"


@task(max_tries=1)
def ignore_the_end(ctx: JobContext = INJECTED) -> str:
    """Sleep in a thread, which nobody can stop, for longer than a stopping worker waits; but only the first time."""
    note("start", f"{ctx.queue}/{ctx.job_id}", ctx.attempt)
    if ctx.attempt == 1:
        time.sleep(4)
    return "ignored"


@task(max_tries=1, run_in="process")
def square(n: int, ctx: JobContext = INJECTED) -> int:
    """Compute in a child process of the worker."""
    note("start", f"{ctx.queue}/{ctx.job_id}", ctx.attempt)
    return n * n


def _unimportable() -> AsyncTask[[], str]:
    @task(name="unimportable", max_tries=1)
    async def unimportable(ctx: JobContext = INJECTED) -> str:
        """Be a task that no other process can find."""
        note("start", f"{ctx.queue}/{ctx.job_id}", ctx.attempt)
        return "here"

    return unimportable


IN_WORKER_ONLY = [_unimportable()]  # not by a name in this module
TASKS: tuple[Task[..., Any], ...] = (
    *(add, measure, nap, fail_once, fail, snooze_once, survive, tick, ignore_the_end, square),
    *IN_WORKER_ONLY,
)


@dataclass(slots=True, eq=False)
class Stage:
    """One life's own namespace, seen past the gate."""

    hub: Hub
    results: dict[str, object] = field(default_factory=dict)
    """What the jobs of these ids must return."""
    faults: list[str] = field(default_factory=list)
    past: list[JobInfo] = field(default_factory=list)
    """Jobs that ended before, and whose records are to be replaced."""
    first_tick_ms: int | None = None
    """The schedule's first tick, where it was stored and nothing was fired when the process was killed."""

    @property
    def queue(self) -> Queue:
        """The queue of this life."""
        return self.hub.queue(self.hub.queue_names[0])

    @property
    def store(self) -> Store:
        """Its verbs."""
        return self.queue.store

    async def expect(self, enqueued: Awaitable[Job[Any]], result: object = None) -> Job[Any]:
        """Enqueue a job that must return ``result`` in the end."""
        job = await enqueued
        self.results[job.id] = result
        return job

    def require(self, fact: object, otherwise: str) -> None:
        """Note a fault unless ``fact`` is true; the other checks go on."""
        if not fact:
            self.faults.append(otherwise)


async def nothing(stage: Stage) -> None:
    """No user does anything."""


async def all_ended(stage: Stage) -> bool:
    """Every job of the life has come to its end."""
    jobs = await jobs_of(stage.store)
    return {job.id for job in jobs} >= stage.results.keys() and all(job.is_finished for job in jobs)


# -- lives of a worker --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WorkerLife:
    """A worker is started, runs the jobs that ``prepare`` left, and stops when ``is_over``."""

    name: str
    prepare: Callable[[Stage], Awaitable[object]]
    names: frozenset[str] = frozenset()
    """Commands that must be among its crash points, beside claim, settle and ZREM (it leaves)."""
    state: JobState = JobState.SUCCEEDED
    failures: int = 0
    meanwhile: Callable[[Stage], Coroutine[Any, Any, None]] = nothing
    is_over: Callable[[Stage], Awaitable[bool]] = all_ended
    afterwards: Callable[[Stage], Awaitable[None]] = nothing
    schedules: tuple[Schedule, ...] = ()
    drain_s: float = 2.0
    unknown: str = ""
    """The name of a task that the worker's version of the app has not."""
    superseded: bool = False
    """Before another worker comes, an attempt of somebody else's hears the last words of the dead one."""
    at_once: int = 6
    """So many lives at the same time: most of a life is waiting."""


async def _enqueue_unique(stage: Stage) -> None:
    await stage.expect(stage.queue.enqueue(add.options(unique="order-7"), 1, 2), 3)


async def _key_is_free(stage: Stage) -> None:
    """The unique key of the job that ended must be free for another, which ends too."""
    job = await stage.expect(stage.queue.enqueue(add.options(unique="order-7"), 2, 2), 4)
    stage.require(job.created, "the unique key was not free after the end")


async def _enqueue_several(stage: Stage) -> None:
    """One claim takes them all; some of them end together, and one goes on."""
    for n in range(5):
        await stage.expect(stage.queue.enqueue(add, n, n), 2 * n)
    await stage.expect(stage.queue.enqueue(nap, 200), 200)


async def _enqueue_a_thread(stage: Stage) -> None:
    await stage.expect(stage.queue.enqueue(add, 1, 2), 3)
    await stage.expect(stage.queue.enqueue(ignore_the_end), "ignored")


async def _is_parked_or_over(stage: Stage) -> bool:
    return all(job.is_finished or job.state is JobState.SCHEDULED for job in await jobs_of(stage.store))


async def _cancel_when_running(stage: Stage) -> None:
    [job_id] = stage.results
    job: Job[None] = stage.queue.job(job_id)
    while not (info := await job.info()).is_finished:
        if info.state is JobState.RUNNING and not info.cancel_requested:
            await job.cancel()
        await asyncio.sleep(0.02)


async def _watch(stage: Stage) -> None:
    """A client waits from the start, and must be told by push, whichever worker it is that ends the job."""
    [(job_id, result)] = stage.results.items()
    told = await stage.queue.job(job_id, add).result(timeout=20)
    stage.require(told == result, f"who waited was told {told!r}")


async def _lose_a_worker(stage: Stage) -> None:
    """Its first worker, on another host, has been silent for longer than a lease."""
    job = await stage.expect(stage.queue.enqueue(survive), "survived")
    await claim_one(stage.store, worker=WORKER)
    await expire_lease(stage.store, job.id)
    await end_grace(stage.store)


async def _become_a_suspect(stage: Stage) -> None:
    """Two workers have died with it: the third runs it alone, in a child process."""
    await stage.expect(stage.queue.enqueue(add, 1, 2), 3)
    await _lose_two_workers(stage)


async def _become_a_suspect_here(stage: Stage) -> None:
    """No child process can load its task."""
    await stage.expect(stage.queue.enqueue(IN_WORKER_ONLY[0]), "here")
    await _lose_two_workers(stage)


async def _lose_two_workers(stage: Stage) -> None:
    for _ in range(2):
        await claim_one(stage.store, worker=WORKER)
        await stage.store.reclaim(dead=[WORKER])


async def _is_running_or_over(stage: Stage) -> bool:
    jobs = await jobs_of(stage.store)
    return all(job.is_finished or job.state is JobState.RUNNING for job in jobs)


async def _has_ticked(stage: Stage) -> bool:
    jobs = await jobs_of(stage.store)
    return bool(jobs) and all(job.is_finished for job in jobs)


async def _each_tick_once(stage: Stage) -> None:
    """From the first tick to the last one each has its job: none is left out by the death of who was to fire it."""
    ticks = sorted(int(job.id.rpartition(":")[2]) for job in await jobs_of(stage.store))
    first_ms = stage.first_tick_ms or ticks[0]
    wanted = list(range(first_ms, ticks[-1] + 1, TICK_S * 1000))
    stage.require(ticks == wanted, f"the jobs are of the ticks {ticks}, the first was to be {first_ms}")


WAITS = frozenset({"BLPOP"})
"""In a life that is over at once a worker may not come to wait."""
WORKER_LIVES = (
    WorkerLife("plain", lambda s: s.expect(s.queue.enqueue(add, 1, 2), 3)),
    WorkerLife("retry", lambda s: s.expect(s.queue.enqueue(fail_once), "second time"), WAITS, failures=1),
    WorkerLife("dead", lambda s: s.expect(s.queue.enqueue(fail)), state=JobState.DEAD, failures=1),
    WorkerLife("scheduled", lambda s: s.expect(s.queue.enqueue(add.options(delay=0.3), 1, 2), 3), WAITS),
    WorkerLife("unique", _enqueue_unique, afterwards=_key_is_free),
    WorkerLife("large payload", lambda s: s.expect(s.queue.enqueue(measure, LARGE), len(LARGE))),
    WorkerLife("snooze", lambda s: s.expect(s.queue.enqueue(snooze_once), "awake"), WAITS),
    WorkerLife("several at once", _enqueue_several),
    WorkerLife(
        "parked for want of its task",
        lambda s: s.expect(s.queue.enqueue(add, 1, 2), 3),
        is_over=_is_parked_or_over,
        unknown=add.name,
    ),
    WorkerLife("watched", lambda s: s.expect(s.queue.enqueue(add, 1, 2), 3), meanwhile=_watch),
    WorkerLife(
        "long, with progress",
        lambda s: s.expect(s.queue.enqueue(nap, 1500), 1500),
        WAITS | frozenset({"progress", "renew"}),
    ),
    WorkerLife(
        "superseded",
        lambda s: s.expect(s.queue.enqueue(nap, 1200), 1200),
        WAITS | frozenset({"progress", "renew"}),
        superseded=True,
    ),
    WorkerLife(
        "cancelled while running",
        lambda s: s.expect(s.queue.enqueue(nap, 60_000)),
        WAITS | frozenset({"progress", "renew"}),
        state=JobState.CANCELLED,
        meanwhile=_cancel_when_running,
    ),
    WorkerLife(
        "handed back at a shutdown",
        lambda s: s.expect(s.queue.enqueue(nap, 300), 300),
        frozenset({"progress"}),
        is_over=_is_running_or_over,
        drain_s=0.0,
    ),
    WorkerLife(
        "abandoned at a shutdown",
        _enqueue_a_thread,
        frozenset({"abandon"}),
        is_over=_is_running_or_over,
        drain_s=0.0,
    ),
    WorkerLife("taken from a silent worker", _lose_a_worker, WAITS | frozenset({"reclaim"})),
    WorkerLife("a suspect, alone in a child process", _become_a_suspect, at_once=2),
    WorkerLife("a suspect that cannot be isolated", _become_a_suspect_here, frozenset({"blame"})),
    WorkerLife(
        "cron",
        nothing,
        WAITS | frozenset({"TIME", "declare", "fire"}),
        is_over=_has_ticked,
        afterwards=_each_tick_once,
        schedules=(schedule(tick, every(TICK_S), misfire="all"),),
    ),
)
IN_CHILD_PROCESS = WorkerLife("in a child process", lambda s: s.expect(s.queue.enqueue(square, 7), 49), at_once=2)


def work(request: Request) -> None:
    """Be the worker of a life, until SIGTERM."""
    life = next(each for each in (*WORKER_LIVES, IN_CHILD_PROCESS) if each.name == request["life"])

    async def run() -> None:
        hub = make_hub(request["url"], request["namespace"], *life.schedules, unknown=life.unknown)
        worker = hub.worker(drain_s=life.drain_s)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
        await worker.run()
        await hub.aclose()

    asyncio.run(run())


def make_hub(url: str, namespace: str, *schedules: Schedule, unknown: str = "") -> Hub:
    """The app that all these processes run. Its queue is called as its namespace: the journal tells lives apart."""
    config = Config.from_env(namespace=namespace)
    tasks = [each for each in TASKS if each.name != unknown]
    return Hub(url=url, tasks=tasks, schedules=schedules, queues=(namespace,), config=config)
