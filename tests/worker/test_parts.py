"""A claim's attempts begin in parts: what a worker hears between two parts, those hear who have not begun."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from arq_web import Config, Hub, JobState, Queue, Task, task
from arq_web.job import JobInfo
from arq_web.worker.running import Running, StopReason
from arq_web.worker.worker import PART, Worker
from tests.support.store_helpers import members
from tests.support.waiting import wait_until
from tests.support.working import make_hub, queue_of

JOBS = 2 * PART + 20

began: list[int] = []
at_first: list[Callable[[], object]] = []
"""What the first attempt does, at once: before the second part begins."""


def note(number: int) -> None:
    """One has begun."""
    began.append(number)
    if len(began) == 1:
        for each in at_first:
            each()


@task
async def begins(number: int) -> None:
    """And ends."""
    note(number)


@task
async def begins_and_waits(number: int) -> None:
    """Never end by itself."""
    note(number)
    await asyncio.Event().wait()


@pytest.fixture(autouse=True)
def forget() -> None:
    began.clear()
    at_first.clear()


@pytest.fixture
def hub(redis_url: str, namespace: str) -> Hub:
    return make_hub(redis_url, namespace, begins, begins_and_waits, config=Config(namespace=namespace))


@pytest.fixture
async def queue(hub: Hub) -> AsyncIterator[Queue]:
    async with queue_of(hub) as queue:
        yield queue


def worker_of(hub: Hub) -> Worker:
    """It claims all of them at once."""
    return hub.worker(concurrency=JOBS, drain_s=0.0, burst=True)


async def enqueue(queue: Queue, each: Task[[int], None] = begins) -> list[str]:
    """So many; their ids, in order."""
    jobs = await queue.enqueue_many([each.call(number) for number in range(JOBS)])
    return [job.id for job in jobs]


async def infos_of(queue: Queue, ids: list[str]) -> list[JobInfo]:
    return [await queue.job(job_id).info() for job_id in ids]


async def test_all_of_a_claim_begin_once_and_in_their_order(hub: Hub, queue: Queue) -> None:
    ids = await enqueue(queue)

    await asyncio.wait_for(worker_of(hub).run(), 20)

    assert began == list(range(JOBS))
    assert {info.state for info in await infos_of(queue, ids)} == {JobState.SUCCEEDED}


async def test_a_worker_that_stops_begins_no_further_part(hub: Hub, queue: Queue) -> None:
    """They are handed back at once, at no cost, and to the head: another worker takes them in their order."""
    ids = await enqueue(queue)
    worker = worker_of(hub)
    at_first.append(worker.stop)

    await asyncio.wait_for(worker.run(), 20)

    infos = await infos_of(queue, ids)
    assert began == list(range(PART))
    assert {info.state for info in infos[:PART]} == {JobState.SUCCEEDED}
    assert {(info.state, info.failures, info.crashes) for info in infos[PART:]} == {(JobState.QUEUED, 0, 0)}
    assert await members(queue.store, "leases") == []
    await asyncio.wait_for(worker_of(hub).run(), 20)
    assert sorted(began) == list(range(JOBS))


async def test_a_second_stop_begins_no_further_part(hub: Hub, queue: Queue) -> None:
    """Now: those that have begun are interrupted, and all of them handed back."""
    ids = await enqueue(queue, begins_and_waits)
    worker = worker_of(hub)
    at_first.extend([worker.stop, worker.stop])

    await asyncio.wait_for(worker.run(), 20)

    assert began == list(range(PART))
    found = {(info.state, info.failures, info.crashes) for info in await infos_of(queue, ids)}
    assert found == {(JobState.QUEUED, 0, 0)}
    assert worker.counts.released == JOBS


async def test_a_worker_that_is_cancelled_begins_no_further_part(hub: Hub, queue: Queue) -> None:
    ids = await enqueue(queue, begins_and_waits)
    working = asyncio.ensure_future(worker_of(hub).run())
    at_first.append(working.cancel)

    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(working, 20)

    assert began == list(range(PART))
    found = {(info.state, info.failures, info.crashes) for info in await infos_of(queue, ids)}
    assert found == {(JobState.QUEUED, 0, 0)}


async def test_an_attempt_whose_lease_is_lost_before_it_began_does_not_begin(hub: Hub, queue: Queue) -> None:
    """Another worker may have it already; nothing is said of it, and its slot is free."""
    ids = await enqueue(queue)
    worker = worker_of(hub)
    at_first.append(lambda: last_of(worker).end_early(StopReason.LEASE_LOST))  # as the renewal thread has the loop do

    await asyncio.wait_for(worker.run(), 20)

    infos = await infos_of(queue, ids)
    assert began == list(range(JOBS - 1))
    assert {info.state for info in infos[:-1]} == {JobState.SUCCEEDED}
    assert infos[-1].state is JobState.RUNNING  # for all that this worker may say
    assert worker.running_count == 0


async def test_a_cancellation_before_it_began_waits_for_the_next_renewal(hub: Hub, queue: Queue) -> None:
    """Whether an attempt heeds one is known when it begins: to some of arq's jobs it means nothing."""
    ids = await enqueue(queue, begins_and_waits)
    worker = worker_of(hub)
    seen: list[StopReason | None] = []

    def cancel_the_last() -> None:
        last_of(worker).end_early(StopReason.CANCEL)
        seen.append(last_of(worker).reason)

    at_first.append(cancel_the_last)
    working = asyncio.ensure_future(worker.run())
    await wait_until(lambda: len(began) == JOBS, description="all have begun")
    assert seen == [None]
    for job_id in ids:
        assert await queue.job(job_id).cancel() == "requested"

    await asyncio.wait_for(working, 20)

    assert {info.state for info in await infos_of(queue, ids)} == {JobState.CANCELLED}


def last_of(worker: Worker) -> Running:
    """The attempt of the last part, as the renewal thread sees it."""
    last = worker._table.all()[-1]
    assert last.task is None
    return last
