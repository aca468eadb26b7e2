"""The engine under another API: a runner of its own, bursts that wait for everything, a limited number of jobs."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from arq_web import Config, events, task
from arq_web.events import emit, least_level
from arq_web.job import ErrorInfo, JobState
from arq_web.queue import QueueSet
from arq_web.registry import Registry
from arq_web.schedule import Ticks
from arq_web.store.connection import Connections
from arq_web.store.record import ClaimedJob
from arq_web.store.store import FireReply, NewJob, Settlement, Store
from arq_web.store.target import RedisTarget
from arq_web.worker.attempt import AttemptLimits
from arq_web.worker.claimer import Burst
from arq_web.worker.options import WorkerOptions
from arq_web.worker.outcome import Cancelled, Failed, Outcome, Succeeded
from arq_web.worker.running import Running, StopReason
from arq_web.worker.worker import Worker
from tests.support.proxy import running_proxy
from tests.support.redis_server import RedisServer
from tests.support.store_helpers import command, enqueue_one, make_due, state_of
from tests.support.waiting import wait_until
from tests.support.working import make_hub, queue_of

started: list[str] = []


@task
async def notes() -> None:
    """Note that it has started."""
    started.append("notes")


class Echo:
    """Returns the payload; a payload of ``wait`` waits for ever, one of ``fail`` fails five times."""

    def __init__(self, *, may_be_cancelled: bool = True) -> None:
        self.ran: list[str] = []
        self.told: list[str] = []
        self.may_be_cancelled = may_be_cancelled

    def timeout_s(self, job: ClaimedJob) -> float:
        """No limit."""
        return float("inf")

    def max_tries(self, job: ClaimedJob) -> int:
        """Tasks of the registry say it elsewhere; here there is none."""
        return 5

    async def run(self, running: Running, limits: AttemptLimits) -> Outcome:
        """One attempt."""
        running.may_be_cancelled = self.may_be_cancelled
        self.ran.append(running.job.id)
        if running.job.payload == b"fail":
            return Failed(ErrorInfo("E", "no"), 0)
        if running.job.payload == b"wait":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return Cancelled()
        return Succeeded(running.job.payload, 120_000)

    def ended(self, running: Running, outcome: Outcome, settlement: Settlement) -> None:
        """Recorded."""
        self.told.append(f"{running.job.id} {settlement.outcome}")


@pytest.fixture
async def queues(redis_url: str, namespace: str) -> AsyncIterator[QueueSet]:
    """Without a registry, in the test's namespace."""
    connections = Connections(RedisTarget.from_url(redis_url))
    yield QueueSet(connections, Config(namespace=namespace))
    await connections.aclose()


def worker_of(queues: QueueSet, runner: Echo, firings: Any = (), **options: Any) -> Worker:
    """A worker of the queue ``any name/will do``, which only a store can have."""
    options = {"queues": ("any name/will do",), "concurrency": 10, "drain_s": 1.0, **options}
    return Worker(queues, Registry(), WorkerOptions(**options), runner=runner, firings=firings)


@asynccontextmanager
async def at_work(worker: Worker) -> AsyncIterator[None]:
    """Meanwhile."""
    working = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        worker.stop()
        worker.stop()
        await working


async def test_attempts_and_their_ends_are_the_runners(queues: QueueSet) -> None:
    """It runs what no registry knows, says how often, and hears when Redis has recorded the end."""
    store, runner = queues.store("any name/will do"), Echo()
    await enqueue_one(store, "good", payload=b"1")
    await enqueue_one(store, "bad", payload=b"fail")

    await asyncio.wait_for(worker_of(queues, runner, burst=Burst.ALL).run(), 10)

    assert sorted(runner.told) == ["bad bury", *["bad retry"] * 4, "good complete"]
    assert (await state_of(store, "good"), await state_of(store, "bad")) == (JobState.SUCCEEDED, JobState.DEAD)


async def test_a_burst_for_all_waits_for_what_is_due_later(queues: QueueSet) -> None:
    """An ordinary one does not."""
    store = queues.store("any name/will do")
    await enqueue_one(store, "later", payload=b"1", due="d60000")

    ordinary = Echo()
    await asyncio.wait_for(worker_of(queues, ordinary, burst=Burst.READY).run(), 5)
    assert ordinary.ran == []

    runner = Echo()
    working = asyncio.create_task(worker_of(queues, runner, burst=Burst.ALL).run())
    await asyncio.sleep(0.3)
    assert not working.done()
    await make_due(store, "later")
    await asyncio.wait_for(working, 5)
    assert runner.ran == ["later"]


async def test_a_burst_for_all_waits_for_what_runs_elsewhere(queues: QueueSet) -> None:
    """It may come back."""
    store = queues.store("any name/will do")
    await enqueue_one(store, "a", payload=b"wait")
    async with at_work(worker_of(queues, elsewhere := Echo())):
        await wait_until(lambda: elsewhere.ran, description="it runs elsewhere")
        burst = asyncio.create_task(worker_of(queues, Echo(), burst=Burst.ALL).run())
        await asyncio.sleep(0.3)
        assert not burst.done()
        await store.cancel("a")
        await asyncio.wait_for(burst, 5)


@pytest.mark.parametrize("most", [0, 2])
async def test_a_worker_may_end_after_so_many_jobs(queues: QueueSet, most: int) -> None:
    store, runner = queues.store("any name/will do"), Echo()
    for n in range(5):
        await enqueue_one(store, f"j{n}", payload=b"1")

    await asyncio.wait_for(worker_of(queues, runner, burst=Burst.ALL, most_jobs=most).run(), 5)

    assert len(runner.ran) == most


async def test_a_runner_may_forbid_to_cancel_what_runs(queues: QueueSet) -> None:
    """The request stays noted; the attempt goes on."""
    store, runner = queues.store("any name/will do"), Echo(may_be_cancelled=False)
    await enqueue_one(store, "a", payload=b"wait")
    async with at_work(worker_of(queues, runner)):
        await wait_until(lambda: runner.ran, description="it runs")
        assert await store.cancel("a") == "requested"
        await asyncio.sleep(1.5)  # a renewal brings the news within a second
        assert await state_of(store, "a") is JobState.RUNNING


async def test_a_task_whose_cancellation_was_asked_for_does_not_start(redis_url: str, namespace: str) -> None:
    """Before it was claimed; the native API ends such a job at once, another one lets a worker do it."""
    started.clear()
    hub = make_hub(redis_url, namespace, notes)
    async with queue_of(hub) as queue:
        job = await queue.enqueue(notes)
        assert await queue.store.cancel(job.id, by_worker=True) == "requested"
        await hub.worker(burst=True).run()
        assert await job.status() is JobState.CANCELLED

    assert started == []


class EachSecond:
    """Times without arithmetic."""

    spec = "each second"
    fingerprint = "f"

    def next_after_ms(self, tick_ms: int) -> int:
        """A second later."""
        return tick_ms + 1_000


class Recurring:
    """A recurring job that is no call of a task."""

    def __init__(self, store: Store) -> None:
        self.name, self.store, self.schedule = "recurring", store, Ticks(EachSecond(), "skip")

    def new_job(self, tick_ms: int) -> NewJob:
        """Always of one id."""
        return NewJob("taken", "ours", b"1")

    async def fire(self, tick_ms: int, next_tick_ms: int, new: NewJob) -> FireReply:
        """No middleware stands around it."""
        return await self.store.fire(self.name, self.schedule.fingerprint, tick_ms, next_tick_ms, new)

    def conflict(self, tick_ms: int, existing_task: str) -> None:
        """Skip the tick."""


async def test_a_tick_whose_id_is_taken_may_be_skipped(queues: QueueSet) -> None:
    """And the schedule goes on; a schedule of the native API says that it is a conflict, and stops."""
    store = queues.store("any name/will do")
    await enqueue_one(store, "taken", task="another", due="d60000")

    async def next_tick() -> bytes:
        raw = await command(store, "GET", store.base + b"s:recurring")
        return raw if isinstance(raw, bytes) else b""

    async with at_work(worker_of(queues, Echo(), firings=[Recurring(store)])):
        await wait_until(next_tick, description="it is declared")
        first = await next_tick()

        async def has_moved_on() -> bool:
            return await next_tick() != first

        await wait_until(has_moved_on, description="a tick was skipped")


def test_events_below_the_least_level_of_a_context_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever writes lines of his own about jobs wants only our warnings."""
    caplog.set_level(logging.DEBUG)
    context = contextvars.copy_context()
    context.run(least_level.set, logging.WARNING)

    context.run(emit, events.JOB_SUCCEEDED, job="a")
    context.run(emit, events.LEASE_LOST, job="b")
    emit(events.JOB_SUCCEEDED, job="c")

    assert [record.__dict__["fields"]["job"] for record in caplog.records] == ["b", "c"]


class Early(Echo):
    """Settles before it returns, and then looks."""

    async def run(self, running: Running, limits: AttemptLimits) -> Outcome:
        """One attempt; Redis may be away when it ends."""
        outcome = await super().run(running, limits)
        answer = await running.settle_now(outcome)
        if answer is None:
            return outcome
        info = await running.store.read(running.job.id)
        self.told.append(f"{answer and answer.name} {info and info.state}")
        return outcome


async def test_a_runner_may_have_its_outcome_recorded_before_it_returns(queues: QueueSet) -> None:
    """It is recorded once, and the slot is free."""
    store, runner = queues.store("any name/will do"), Early()
    await enqueue_one(store, "good", payload=b"1")
    worker = worker_of(queues, runner, burst=Burst.ALL)

    await asyncio.wait_for(worker.run(), 10)

    assert runner.told == ["good complete", "RECORDED succeeded"]
    assert (worker.counts.succeeded, worker.running_count) == (1, 0)


async def test_a_runner_that_waits_for_its_record_does_not_outlast_the_worker(
    redis_server: RedisServer, namespace: str
) -> None:
    """A Redis that is away at the end: the attempt is told that nobody has answered."""
    runner = Early()
    async with running_proxy(redis_server.port) as proxy:
        connections = Connections(RedisTarget.from_url(proxy.url), deadline_s=0.5)
        queues = QueueSet(connections, Config(namespace=namespace))
        store = queues.store("any name/will do")
        await enqueue_one(store, "waits", payload=b"wait")
        worker = worker_of(queues, runner)
        working = asyncio.create_task(worker.run())
        await wait_until(lambda: runner.ran, description="it runs")
        [running] = worker._table.all()
        proxy.refuse()
        running.end_early(StopReason.CANCEL)
        await wait_until(lambda: running.is_settling, description="it settles")
        worker.stop()
        worker.stop()
        await asyncio.wait_for(working, 10)
        assert running.task is not None
        await asyncio.wait((running.task,), timeout=5)
        await proxy.accept()
        await connections.aclose()

    assert running.task.done()
    assert running.answer is None
